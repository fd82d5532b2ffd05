//! The history of tags: restoring, removing the past, and the times at which tags and their past end.

use std::time::Duration;

use serde_json::{Value, json};

use super::{NOWHERE, TAG, entry, pulled, push, scene, scene_with};
use crate::support::TestRegistry;
use crate::support::registry::ALICE;

/// A test that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_tag_that_was_deleted_or_moved_is_restored() {
    let (t, alice) = scene().await;
    let (first, second) = (push(&t, "1", 1).await, push(&t, "1", 2).await);
    let other = push(&t, "2", 3).await;
    let (path, restore) = (format!("{TAG}/1"), format!("{TAG}/1/restore"));

    alice.delete(&path).await.status(204);
    alice.delete(&path).await.status(404);
    assert_eq!(pulled(&t, "1").await, None);
    let restored = alice.post(&restore, json!({ "manifest_digest": second })).await.status(200);
    assert_eq!(restored.json(), json!({}));
    assert_eq!(pulled(&t, "1").await.as_ref(), Some(&second));
    assert_eq!(alice.tags("?specificTag=1").await[0]["reversion"], true);

    // A deletion by /v2/ goes into the history as well, and so does what was restored.
    t.user(ALICE).delete("/v2/alice/app/manifests/1").send().await.status(202);
    alice.post(&restore, json!({ "manifest_digest": first })).await.status(200);
    alice.post(&restore, json!({ "manifest_digest": first })).await.status(200);
    assert_eq!(pulled(&t, "1").await.as_ref(), Some(&first));
    let history = alice.tags("?specificTag=1").await;
    let brief: Vec<_> = history.iter().map(|tag| (&tag["manifest_digest"], &tag["reversion"])).collect();
    let (first, second) = (json!(first), json!(second));
    let (yes, no) = (json!(true), json!(false));
    assert_eq!(brief, [(&first, &yes), (&second, &yes), (&second, &no), (&first, &no)]);

    // An existing manifest can only be restored as a previous target of the tag.
    alice.post(&restore, json!({ "manifest_digest": other })).await.status(404);
    alice.post(&restore, json!({ "manifest_digest": NOWHERE })).await.status(404);
    alice.post(&format!("{TAG}/never/restore"), json!({ "manifest_digest": first })).await.status(404);
    let missing = alice.post(&restore, json!({})).await.status(400).json();
    assert_eq!(missing["detail"], "Missing manifest_digest");
    alice.post(&restore, json!({ "manifest_digest": "sha256:abc" })).await.status(400);
    let gone = format!("/v2/alice/app/manifests/{}", second.as_str().unwrap());
    t.user(ALICE).delete(&gone).send().await.status(202);
    t.user(ALICE).get(&gone).send().await.status(404);
    // A deleted manifest can be restored with any tag.
    for tag in ["1", "never"] {
        let restore = format!("{TAG}/{tag}/restore");
        alice.post(&restore, json!({ "manifest_digest": second })).await.status(200);
        assert_eq!(pulled(&t, tag).await.map(Value::from).as_ref(), Some(&second));
        t.user(ALICE).delete(&gone).send().await.status(202);
    }
}

#[tokio::test]
async fn what_is_taken_out_of_the_window_does_not_come_back() {
    let (t, alice) = scene().await;
    let mut digests = Vec::new();
    for seed in [1, 2, 3, 4] {
        digests.push(push(&t, "1", seed * 10).await);
    }
    let [one, two, three, four] = &digests[..] else { panic!("four were pushed") };
    let other = push(&t, "other", 50).await;
    let (restore, expire) = (format!("{TAG}/1/restore"), format!("{TAG}/1/expire"));

    let body = json!({ "manifest_digest": two, "include_submanifests": true });
    assert_eq!(alice.post(&expire, body.clone()).await.status(200).json(), "");
    alice.post(&expire, body).await.status(404);
    alice.post(&restore, json!({ "manifest_digest": two })).await.status(404);
    alice.post(&expire, json!({ "manifest_digest": four })).await.status(404);
    let left = [entry("1", four, false), entry("1", three, true), entry("1", one, true)];
    assert_eq!(alice.brief("?specificTag=1").await, left);

    // `is_alive` removes the tag itself without history, but not if it points elsewhere.
    alice.post(&expire, json!({ "manifest_digest": one, "is_alive": true })).await.status(404);
    alice.post(&expire, json!({ "manifest_digest": four, "is_alive": true })).await.status(200);
    alice.post(&expire, json!({ "is_alive": true })).await.status(404);
    assert_eq!(pulled(&t, "1").await, None);
    assert_eq!(alice.brief("?specificTag=1").await, left[1..]);

    alice.post(&expire, json!({})).await.status(200);
    assert_eq!(alice.brief("").await, [entry("other", &other, false)]);
    alice.post(&expire, json!({})).await.status(404);
    alice.post(&expire, json!({ "is_alive": "yes" })).await.status(400);
}

#[tokio::test]
async fn a_repository_that_was_removed_takes_its_history_along() {
    let (t, alice) = scene().await;
    let first = push(&t, "1", 1).await;
    push(&t, "1", 2).await;
    alice.delete("/api/v1/repository/alice/app").await.status(204);
    alice.get(&format!("{TAG}/")).await.status(404);
    let again = push(&t, "2", 1).await;
    assert_eq!(again, first, "the same manifest is there once more");
    assert_eq!(alice.brief("").await, [entry("2", &again, false)]);
    alice.post(&format!("{TAG}/1/restore"), json!({ "manifest_digest": first })).await.status(404);
}

/// The time of the registry's clock, in seconds, from the `Date` header of a response.
async fn server_time(t: &TestRegistry) -> u64 {
    let answer = t.anonymous().get("/livez").send().await;
    let date = answer.header("date").expect("answers have a date");
    let parsed = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).unwrap();
    u64::try_from(parsed.as_second()).unwrap()
}

#[tokio::test]
async fn a_tag_goes_at_its_time_and_can_be_restored() {
    let (t, alice) = scene().await;
    let digest = push(&t, "1", 1).await;
    let (moved, kept) = (push(&t, "moved", 2).await, push(&t, "kept", 3).await);
    let soon = server_time(&t).await + 3;
    for tag in ["1", "moved", "kept"] {
        let answer = alice.put(&format!("{TAG}/{tag}"), json!({ "expiration": soon })).await.status(201);
        assert_eq!(answer.json(), "Updated");
    }
    let tag = &alice.tags("?specificTag=1&onlyActiveTags=true").await[0];
    assert_eq!(tag["end_ts"], soon, "a tag that expires later is active until then");
    assert!(tag["expiration"].as_str().unwrap().ends_with(" -0000"));
    // Moving a tag, and taking the time back, keep it.
    alice.put(&format!("{TAG}/moved"), json!({ "manifest_digest": digest })).await.status(201);
    alice.put(&format!("{TAG}/kept"), json!({ "expiration": null })).await.status(201);
    // A new tag can have its time from the beginning, with a fraction as Python writes it.
    let both =
        json!({ "manifest_digest": moved, "expiration": format!("{soon}.25").parse::<serde_json::Number>().unwrap() });
    alice.put(&format!("{TAG}/both"), both).await.status(201);

    let gone = async {
        while pulled(&t, "1").await.is_some() || pulled(&t, "both").await.is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the tags go");
    assert!(server_time(&t).await >= soon, "no tag goes too early");
    let active = alice.brief("?onlyActiveTags=true").await;
    assert_eq!(active, [entry("moved", &digest, false), entry("kept", &kept, false)]);
    alice.post(&format!("{TAG}/1/restore"), json!({ "manifest_digest": digest })).await.status(200);
    assert_eq!(pulled(&t, "1").await, Some(digest));
}

#[tokio::test]
async fn the_window_is_what_is_configured() {
    let (t, alice) = scene_with("storage.tagHistory = '1s'").await;
    assert_eq!(alice.get("/api/v1/user/").await.status(200).json()["tag_expiration_s"], 1);
    let (first, second) = (push(&t, "1", 1).await, push(&t, "1", 2).await);
    let forgotten = async {
        while alice.brief("").await != [entry("1", &second, false)] {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, forgotten).await.expect("the past is forgotten");
    alice.post(&format!("{TAG}/1/restore"), json!({ "manifest_digest": first })).await.status(404);

    let (t, alice) = scene_with("storage.tagHistory = '0'").await;
    push(&t, "1", 1).await;
    alice.delete(&format!("{TAG}/1")).await.status(204);
    assert_eq!(alice.brief("").await, []);
}
