//! `/v2/_catalog`: the repositories, for those who may see them.

use serde_json::json;

use crate::support::TestRegistry;
use crate::support::content::push_blob;
use crate::support::http::Caller;
use crate::support::registry::{ALICE, BOB, ROOT};

/// In byte order: `-` and `.` before `/` before digits before letters.
const NAMES: [&str; 8] = ["a", "a-b", "a.b", "a/b", "a/b/c", "a0", "a_b", "b"];

async fn with_repositories() -> (TestRegistry, Caller) {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    for name in NAMES.iter().rev() {
        push_blob(&caller, name, b"x").await;
    }
    (t, caller)
}

/// Every repository that a client who follows the links sees, and the number of pages.
async fn follow(caller: &Caller, query: &str) -> (Vec<String>, usize) {
    let (mut seen, mut pages) = (Vec::new(), 0);
    let mut next = Some(format!("/v2/_catalog{query}"));
    while let Some(path) = next {
        let page = caller.get(&path).send().await.status(200).has("content-type", "application/json");
        seen.extend(serde_json::from_value::<Vec<String>>(page.json()["repositories"].clone()).unwrap());
        next = page.next();
        pages += 1;
    }
    (seen, pages)
}

#[tokio::test]
async fn all_repositories_come_in_byte_order() {
    let (_t, caller) = with_repositories().await;
    let answer = caller.get("/v2/_catalog").send().await.status(200);
    assert_eq!(answer.json(), json!({ "repositories": NAMES }));
    assert_eq!(answer.next(), None);
    caller.head("/v2/_catalog").send().await.status(200);
}

#[tokio::test]
async fn n_limits_the_list_and_a_link_leads_to_every_repository_once() {
    let (_t, caller) = with_repositories().await;
    for n in 1..=NAMES.len() + 1 {
        let (seen, pages) = follow(&caller, &format!("?n={n}")).await;
        assert_eq!(seen, NAMES, "n={n}");
        assert_eq!(pages, NAMES.len().div_ceil(n), "n={n}");
    }
}

#[tokio::test]
async fn a_list_of_none_is_empty_and_has_no_link() {
    let (_t, caller) = with_repositories().await;
    let answer = caller.get("/v2/_catalog?n=0").send().await.status(200);
    assert_eq!(answer.json(), json!({ "repositories": [] }));
    assert_eq!(answer.next(), None);
}

#[tokio::test]
async fn last_need_not_exist_and_is_not_in_the_list() {
    let (_t, caller) = with_repositories().await;
    for (last, first) in [("", 0), ("a", 1), ("a%2Fb", 4), ("a/b", 4), ("a/b/a", 4), ("a/z", 5), ("zz", 8), ("B", 0)] {
        let answer = caller.get(&format!("/v2/_catalog?last={last}")).send().await.status(200);
        assert_eq!(answer.json()["repositories"], json!(NAMES[first..]), "{last}");
    }
}

#[tokio::test]
async fn what_is_no_number_is_400_and_a_huge_one_is_everything() {
    let (_t, caller) = with_repositories().await;
    for query in ["n=-1", "n=x", "n=", "n=1&n=1", "last=%ff"] {
        caller.get(&format!("/v2/_catalog?{query}")).send().await.error(400, "UNSUPPORTED");
    }
    assert_eq!(follow(&caller, "?n=99999999999999999999999").await.0, NAMES);
}

#[tokio::test]
async fn an_empty_registry_has_an_empty_list() {
    let t = TestRegistry::open().await;
    assert_eq!(follow(&t.anonymous(), "").await, (Vec::new(), 1));
}

#[tokio::test]
async fn a_repository_is_listed_while_it_has_content() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    caller.post("/v2/a/blobs/uploads/").send().await.status(202);
    assert!(follow(&caller, "").await.0.is_empty(), "an upload is no content yet");
    let digest = push_blob(&caller, "a", b"x").await;
    assert_eq!(follow(&caller, "").await.0, ["a"]);
    caller.delete(&format!("/v2/a/blobs/{digest}")).send().await.status(202);
    assert!(follow(&caller, "").await.0.is_empty());
}

#[tokio::test]
async fn everybody_sees_just_what_they_may_pull() {
    let t = TestRegistry::with_users().await;
    let [alice, bob, root] = [ALICE, BOB, ROOT].map(|user| t.user(user));
    let (of_alice, of_bob) = (["alice/1", "alice/2", "alice/3"], ["bob/1", "bob/2"]);
    for name in of_alice {
        push_blob(&alice, name, b"x").await;
    }
    for name in of_bob {
        push_blob(&bob, name, b"x").await;
    }
    for query in ["", "?n=1", "?n=2"] {
        assert_eq!(follow(&alice, query).await.0, of_alice, "{query}");
        assert_eq!(follow(&bob, query).await.0, of_bob, "{query}");
        assert_eq!(follow(&root, query).await.0, [&of_alice[..], &of_bob].concat(), "{query}");
    }
    // The last page of what is visible is the last page: what is hidden behind it does not show.
    let last = alice.get("/v2/_catalog?n=3").send().await.status(200);
    assert_eq!(last.next(), None);
    t.anonymous().get("/v2/_catalog").send().await.error(401, "UNAUTHORIZED");
}
