//! Content of the upstream and content that clients pushed, in one repository.

use serde_json::Value;

use super::between::Mode;
use super::{Setting, pull};
use crate::support::content::{bytes, noise, push_blob, push_image, put_manifest, sha256};

/// Waits until a tag of the mirror has an image.
async fn until_moved(t: &Setting, tag: &str, image: &Value) {
    let (answer, _) = t.compared(&format!("/v2/up/app/manifests/{tag}")).await;
    assert_eq!(answer.body, bytes(image), "{tag}");
}

#[tokio::test]
async fn a_pushed_tag_does_not_freeze_other_tags_of_its_manifest() {
    let t = Setting::new("0s").await;
    let first = push_image(&t.pusher(), "app", "latest", 10).await;
    put_manifest(&t.pusher(), "app", "stable", &first).await.status(201);
    for tag in ["latest", "stable"] {
        pull(&t.puller(), "up/app", tag, &first).await;
    }
    put_manifest(&t.puller(), "up/app", "own", &first).await.status(201);
    put_manifest(&t.puller(), "up/app", "stable", &first).await.status(201);
    let second = push_image(&t.pusher(), "app", "latest", 20).await;
    put_manifest(&t.pusher(), "app", "stable", &second).await.status(201);
    until_moved(&t, "latest", &second).await;
    let requests = t.between.total();
    for tag in ["own", "stable"] {
        pull(&t.puller(), "up/app", tag, &first).await;
    }
    assert_eq!(t.between.total(), requests, "a pushed tag is not compared");
    t.puller().delete("/v2/up/app/manifests/stable").send().await.status(202);
    until_moved(&t, "stable", &second).await;
    // The other way round: a tag of the upstream moves to a manifest that was pushed before, and on.
    let third = push_image(&t.puller(), "up/app", "mine", 30).await;
    push_image(&t.pusher(), "app", "latest", 30).await;
    until_moved(&t, "latest", &third).await;
    let fourth = push_image(&t.pusher(), "app", "latest", 40).await;
    until_moved(&t, "latest", &fourth).await;
    pull(&t.puller(), "up/app", "mine", &third).await;
}

#[tokio::test]
async fn a_push_may_leave_out_blobs_that_the_upstream_has() {
    let t = Setting::new("1h").await;
    let mut image = push_image(&t.pusher(), "app", "1", 10).await;
    image["annotations"] = serde_json::json!({ "pushed": "here" });
    for descriptor in [&image["config"], &image["layers"][0]] {
        let path = format!("/v2/up/app/blobs/{}", descriptor["digest"].as_str().unwrap());
        t.puller().head(&path).send().await.status(200);
    }
    put_manifest(&t.puller(), "up/app", "own", &image).await.status(201);
    t.between.set(Mode::Status(500));
    pull(&t.puller(), "up/app", "own", &image).await;
    t.between.set(Mode::Forward);
    image["layers"][0]["digest"] = sha256(b"nowhere").into();
    put_manifest(&t.puller(), "up/app", "own", &image).await.error(400, "MANIFEST_BLOB_UNKNOWN");
}

#[tokio::test]
async fn a_push_that_needs_a_blob_of_an_upstream_that_fails_can_be_repeated() {
    let t = Setting::new("1h").await;
    let mut image = push_image(&t.pusher(), "app", "1", 10).await;
    image["annotations"] = serde_json::json!({ "pushed": "here" });
    t.between.set(Mode::Status(500));
    let answer = put_manifest(&t.puller(), "up/app", "own", &image).await.status(502);
    let why = format!("{} failed with status 500", t.between.address);
    assert!(answer.text().contains(&why), "{}", answer.text());
    t.between.set(Mode::Forward);
    super::sync::until("the end of the pause", async || {
        put_manifest(&t.puller(), "up/app", "own", &image).await.status.as_u16() == 201
    })
    .await;
    t.between.set(Mode::Status(404));
    image["layers"][0]["digest"] = sha256(b"nowhere").into();
    put_manifest(&t.puller(), "up/app", "own", &image).await.error(400, "MANIFEST_BLOB_UNKNOWN");
}

#[tokio::test]
async fn a_blob_of_another_repository_is_linked_only_if_it_came_from_the_same_upstream() {
    let t = Setting::new("1h").await;
    let blob = noise(1000, 7);
    for repository in ["app", "other"] {
        push_blob(&t.pusher(), repository, &blob).await;
    }
    // The word of the upstream is not enough for a blob that a client pushed.
    let digest = push_blob(&t.puller(), "own/secret", &blob).await;
    let fetched = || t.between.count("GET", "/blobs/");
    for (repository, requests) in [("app", 1), ("other", 1)] {
        let path = format!("/v2/up/{repository}/blobs/{digest}");
        assert_eq!(t.puller().get(&path).send().await.status(200).body, blob);
        assert_eq!(fetched(), requests, "{repository}");
    }
}
