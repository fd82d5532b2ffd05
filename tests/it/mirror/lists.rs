//! Lists of tags of mirrored repositories.

use serde_json::json;

use super::between::Mode;
use super::sync::until;
use super::{Setting, pull};
use crate::support::content::push_image;

/// All tags, page by page.
async fn tags(t: &Setting, size: usize) -> Vec<String> {
    let (mut found, mut path) = (Vec::new(), Some(format!("/v2/up/app/tags/list?n={size}")));
    while let Some(next) = path {
        let page = t.puller().get(&next).send().await.status(200);
        let tags: Vec<String> = serde_json::from_value(page.json()["tags"].clone()).unwrap();
        assert!(tags.len() <= size);
        found.extend(tags);
        path = page.next();
    }
    found
}

#[tokio::test]
async fn tags_of_the_upstream_are_listed_with_the_own_ones() {
    let t = Setting::new("1h").await;
    for (tag, seed) in [("a", 1), ("c", 2), ("e", 3), ("g", 4)] {
        push_image(&t.pusher(), "app", tag, seed * 10).await;
    }
    for (tag, seed) in [("b", 5), ("c", 6), ("h", 7)] {
        push_image(&t.puller(), "up/app", tag, seed * 10).await;
    }
    assert_eq!(t.compared("/v2/up/app/tags/list").await.1, [0, 1]);
    let requests = t.between.total();
    for size in [1, 2, 3, 4, 100] {
        assert_eq!(tags(&t, size).await, ["a", "b", "c", "e", "g", "h"], "{size}");
    }
    assert_eq!(t.between.total(), requests, "the list is asked for once in the interval");
    let unknown = async || t.puller().get("/v2/up/other/tags/list").send().await.status == 404;
    until("a repository that the upstream does not have", unknown).await;
}

#[tokio::test]
async fn stored_tags_are_listed_when_the_upstream_fails() {
    let t = Setting::new("0s").await;
    let image = push_image(&t.pusher(), "app", "a", 1).await;
    push_image(&t.pusher(), "app", "b", 10).await;
    pull(&t.puller(), "up/app", "a", &image).await;
    t.between.set(Mode::Status(500));
    let listed = t.puller().get("/v2/up/app/tags/list").send().await.status(200);
    assert_eq!((&listed.json()["tags"], listed.header("warning").is_some()), (&json!(["a"]), true));
    let failing = async || {
        let answer = t.puller().get("/v2/up/other/tags/list").send().await;
        assert!(answer.text().contains(&t.between.address.to_string()), "{}", answer.text());
        answer.status == 502
    };
    until("the status of the upstream", failing).await;
}
