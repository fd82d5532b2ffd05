//! "Listing Tags".

use serde_json::json;

use crate::support::TestRegistry;
use crate::support::content::{bytes, image, push_blob, put_manifest};
use crate::support::http::{Answer, Caller};

/// In byte order: digits before capitals before `_` before small letters.
const TAGS: [&str; 10] = ["0.9", "1", "1.0", "1.10", "1.2", "A", "B-1", "_x", "a", "b.c_d"];

/// A repository `a/b` with [`TAGS`], and neighbours whose tags are not its own.
async fn with_tags() -> (TestRegistry, Caller) {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    for repository in ["a", "a/b", "a/b/c", "a/b-c"] {
        push_blob(&caller, repository, b"{}").await;
    }
    let manifest = image(b"{}", &[]);
    for tag in TAGS.iter().rev() {
        put_manifest(&caller, "a/b", tag, &manifest).await.status(201);
    }
    for repository in ["a", "a/b/c", "a/b-c"] {
        put_manifest(&caller, repository, "neighbour", &manifest).await.status(201);
    }
    (t, caller)
}

async fn list(caller: &Caller, query: &str) -> Answer {
    let answer = caller.get(&format!("/v2/a/b/tags/list{query}")).send().await.status(200);
    assert_eq!(answer.json()["name"], "a/b");
    answer.has("content-type", "application/json")
}

#[tokio::test]
async fn all_tags_come_in_byte_order() {
    let (_t, caller) = with_tags().await;
    let answer = list(&caller, "").await;
    assert_eq!(answer.json(), json!({ "name": "a/b", "tags": TAGS }));
    assert_eq!(answer.next(), None);
    caller.head("/v2/a/b/tags/list").send().await.status(200);
}

#[tokio::test]
async fn n_limits_the_list_and_a_link_leads_to_every_tag_once() {
    let (_t, caller) = with_tags().await;
    for n in 1..=TAGS.len() + 1 {
        let mut seen = Vec::new();
        let mut pages = 0;
        let mut next = Some(format!("/v2/a/b/tags/list?n={n}"));
        while let Some(path) = next {
            let page = caller.get(&path).send().await.status(200);
            let tags: Vec<String> = serde_json::from_value(page.json()["tags"].clone()).unwrap();
            next = page.next();
            assert!(tags.len() == n || next.is_none(), "n={n}: a page that is not the last is full");
            seen.extend(tags);
            pages += 1;
        }
        assert_eq!(seen, TAGS, "n={n}");
        assert_eq!(pages, TAGS.len().div_ceil(n), "n={n}");
    }
}

#[tokio::test]
async fn a_list_of_none_is_empty_and_has_no_link() {
    let (_t, caller) = with_tags().await;
    for query in ["?n=0", "?n=0&last=1", "?n=00"] {
        let answer = list(&caller, query).await;
        assert_eq!(answer.json()["tags"], json!([]), "{query}");
        assert_eq!(answer.next(), None, "{query}");
    }
}

#[tokio::test]
async fn last_need_not_exist_and_is_not_in_the_list() {
    let (_t, caller) = with_tags().await;
    for (last, first) in [
        ("", 0),
        ("0.9", 1),
        ("1.1", 3),
        ("1.10", 4),
        ("AAA", 6),
        ("%21", 0),
        ("b.c_d", 10),
        ("zzz", 10),
        ("%C3%A4", 10),
    ] {
        let answer = list(&caller, &format!("?last={last}")).await;
        assert_eq!(answer.json()["tags"], json!(TAGS[first..]), "{last}");
        let some = list(&caller, &format!("?n=2&last={last}")).await;
        assert_eq!(some.json()["tags"], json!(TAGS[first..(first + 2).min(TAGS.len())]), "{last}");
        assert_eq!(some.next().is_some(), first + 2 < TAGS.len(), "{last}");
    }
}

#[tokio::test]
async fn a_tag_that_goes_between_two_pages_loses_none_of_the_others() {
    let (_t, caller) = with_tags().await;
    let first = list(&caller, "?n=3").await;
    caller.delete("/v2/a/b/manifests/1.0").send().await.status(202);
    let rest = caller.get(&first.next().unwrap()).send().await.status(200);
    assert_eq!(rest.json()["tags"], json!(TAGS[3..6]));
}

#[tokio::test]
async fn a_huge_n_is_everything_and_what_is_no_number_is_400() {
    let (_t, caller) = with_tags().await;
    for n in ["10", "99999", "18446744073709551615", "99999999999999999999999999"] {
        let answer = list(&caller, &format!("?n={n}")).await;
        assert_eq!(answer.json()["tags"], json!(TAGS), "{n}");
        assert_eq!(answer.next(), None, "{n}");
    }
    for query in ["n=-1", "n=x", "n=", "n=1.5", "n=%2B1", "n=1&n=2", "last=a&last=b", "n=1;2", "last=%ff"] {
        caller.get(&format!("/v2/a/b/tags/list?{query}")).send().await.error(400, "UNSUPPORTED");
    }
}

#[tokio::test]
async fn a_repository_without_tags_has_an_empty_list_and_an_unknown_one_is_404() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    caller.get("/v2/a/b/tags/list").send().await.error(404, "NAME_UNKNOWN");
    push_blob(&caller, "a/b", b"{}").await;
    assert_eq!(list(&caller, "").await.json()["tags"], json!([]));
    let manifest = image(b"{}", &[]);
    put_manifest(&caller, "a/b", &crate::support::content::sha256(&bytes(&manifest)), &manifest).await.status(201);
    assert_eq!(list(&caller, "").await.json()["tags"], json!([]));
    caller.get("/v2/a/tags/list").send().await.error(404, "NAME_UNKNOWN");
}
