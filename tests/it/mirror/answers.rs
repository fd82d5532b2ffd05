//! Responses of an upstream that are no failure of it: they are wrong, forbid further requests, or say that it has something
//! no longer.

use serde_json::{Value, json};

use super::between::{Canned, Mode};
use super::{Setting, is_stale, pull};
use crate::support::content::{self, INDEX, MANIFEST, noise, push_blob, push_image, put_manifest, sha256};
use crate::support::http::Caller;

const TAG: &str = "/v2/up/app/manifests/1";

fn canned(at: &str, status: u16, kind: &'static str, text: &str) -> Canned {
    Canned { at: at.to_owned(), status, kind, text: text.to_owned() }
}

/// Pushes a manifest that refers to an image. Returns it.
async fn push_referrer(caller: &Caller, image: &Value) -> Value {
    push_blob(caller, "app", b"{}").await;
    let mut referrer = content::image(b"{}", &[]);
    referrer["artifactType"] = "application/vnd.example.sbom".into();
    referrer["subject"] = content::descriptor(MANIFEST, &content::bytes(image));
    put_manifest(caller, "app", &sha256(&content::bytes(&referrer)), &referrer).await.status(201);
    referrer
}

#[tokio::test]
async fn a_refused_request_does_not_end_comparisons() {
    let t = Setting::new("0s").await;
    let first = push_image(&t.pusher(), "app", "1", 1).await;
    pull(&t.puller(), "up/app", "1", &first).await;
    t.between.set(Mode::Limit(1));
    assert!(is_stale(&t.puller().get(TAG).send().await.status(200)));
    t.between.set(Mode::Forward);
    let second = push_image(&t.pusher(), "app", "1", 2).await;
    assert_eq!(t.compared(TAG).await.0.body, content::bytes(&second));
}

#[tokio::test]
async fn the_last_requests_are_left_for_what_is_missing() {
    let t = Setting::new("0s").await;
    let first = push_image(&t.pusher(), "app", "1", 1).await;
    push_image(&t.pusher(), "app", "2", 20).await;
    t.between.set(Mode::Quota(5));
    pull(&t.puller(), "up/app", "1", &first).await;
    let second = push_image(&t.pusher(), "app", "1", 30).await;
    let requests = t.between.total();
    let kept = t.puller().get(TAG).send().await.status(200);
    assert_eq!((is_stale(&kept), &kept.body[..]), (true, &content::bytes(&first)[..]));
    assert_eq!(t.between.total(), requests);
    // A response without a quota ends it.
    t.between.set(Mode::Forward);
    t.puller().get("/v2/up/app/manifests/2").send().await.status(200);
    assert_eq!(t.compared(TAG).await.0.body, content::bytes(&second));
}

#[tokio::test]
async fn what_is_no_manifest_leaves_the_stored_one() {
    for (kind, text) in [("text/html", "<html>"), (MANIFEST, "{}"), ("application/json", "{\"schemaVersion\": 1}")] {
        let t = Setting::new("0s").await;
        let image = push_image(&t.pusher(), "app", "1", 1).await;
        pull(&t.puller(), "up/app", "1", &image).await;
        t.between.set(Mode::Answers(vec![canned("/v2/", 200, kind, text)]));
        let kept = t.puller().get(TAG).send().await.status(200);
        assert_eq!((is_stale(&kept), &kept.body[..]), (true, &content::bytes(&image)[..]), "{text}");
        let missing = t.puller().get("/v2/up/app/manifests/2").send().await.status(502);
        assert!(missing.text().contains("it is not a manifest"), "{}", missing.text());
    }
}

#[tokio::test]
async fn one_referrer_that_is_no_manifest_leaves_the_others() {
    let t = Setting::new("1h").await;
    let image = push_image(&t.pusher(), "app", "1", 1).await;
    let good = sha256(&content::bytes(&push_referrer(&t.pusher(), &image).await));
    pull(&t.puller(), "up/app", "1", &image).await;
    let text = "{\"schemaVersion\": 1}";
    let bad = sha256(text.as_bytes());
    let entry = |digest: &str| json!({ "mediaType": MANIFEST, "digest": digest, "size": 1 });
    let list = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(&bad), entry(&good)] });
    let answers = vec![canned("/referrers/", 200, INDEX, &list.to_string()), canned(&bad, 200, MANIFEST, text)];
    t.between.set(Mode::Answers(answers));
    let path = format!("/v2/up/app/referrers/{}", sha256(&content::bytes(&image)));
    let listed = async || {
        let listed = t.puller().get(&path).send().await.status(200);
        assert!(is_stale(&listed), "{}", listed.text());
        listed.json()["manifests"].as_array().unwrap().iter().any(|entry| entry["digest"] == good.as_str())
    };
    super::sync::until("the good referrer", listed).await;
}

#[tokio::test]
async fn referrers_under_a_tag_are_found() {
    for status in [404, 400, 405, 501] {
        find_referrers_under_a_tag(status).await;
    }
}

/// Finds a referrer at an upstream that answers the list of referrers with a status.
async fn find_referrers_under_a_tag(status: u16) {
    let t = Setting::new("1h").await;
    let image = push_image(&t.pusher(), "app", "1", 1).await;
    let referrer = push_referrer(&t.pusher(), &image).await;
    let subject = sha256(&content::bytes(&image));
    let index = content::index(&[&referrer]);
    put_manifest(&t.pusher(), "app", &subject.replace(':', "-"), &index).await.status(201);
    pull(&t.puller(), "up/app", "1", &image).await;
    t.between.set(Mode::Answers(vec![canned("/referrers/", status, "text/plain", "")]));
    let (listed, _) = t.compared(&format!("/v2/up/app/referrers/{subject}")).await;
    assert_eq!(listed.json()["manifests"][0]["digest"], sha256(&content::bytes(&referrer)).as_str());
}

#[tokio::test]
async fn a_comparison_that_the_upstream_refuses_is_not_repeated_at_once() {
    const PULLS: usize = 20;
    for status in [401, 403, 404] {
        let t = Setting::new("0s").await;
        let image = push_image(&t.pusher(), "app", "1", 1).await;
        pull(&t.puller(), "up/app", "1", &image).await;
        t.between.set(Mode::Status(status));
        let requests = t.between.total();
        for _ in 0..PULLS {
            assert!(is_stale(&t.puller().get(TAG).send().await.status(200)), "{status}");
        }
        let requests = t.between.total() - requests;
        assert!(requests > 0 && requests < PULLS / 2, "{status}: {requests}");
        // It ends.
        t.between.set(Mode::Forward);
        assert_eq!(t.compared(TAG).await.0.body, content::bytes(&image));
    }
}

#[tokio::test]
async fn a_blob_that_continues_with_another_size_is_incomplete() {
    let t = Setting::new("1h").await;
    let layer = noise(500_000, 9);
    let path = format!("/v2/up/app/blobs/{}", push_blob(&t.pusher(), "app", &layer).await);
    t.between.set(Mode::Shrunk(100_000));
    assert!(t.puller().get(&path).try_send().await.is_err(), "the client sees that the blob is incomplete");
    assert!(t.between.seen().iter().any(|seen| seen.range.is_some()));
    t.between.set(Mode::Forward);
    assert_eq!(t.puller().get(&path).send().await.status(200).body, layer);
}
