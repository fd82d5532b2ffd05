//! The rights to see and change tags: users, limited API keys, rules, and locked tags.

use serde_json::json;

use super::{NOWHERE, Script, TAG, pulled, push, scene, scene_with};
use crate::support::content::put_manifest;
use crate::support::registry::{ALICE, BOB, ROOT};

const LOCKED: &str = "the tag 1 is locked: a user who administers the repository can unlock it, with PUT /api/v1/repository/NAME/tag/1 and \
     {\"immutable\": false}";

#[tokio::test]
async fn who_may_not_hears_the_same_whether_or_not_there_is_a_tag() {
    let (t, alice) = scene().await;
    let digest = push(&t, "1", 1).await;
    let bob = Script::new(&t, BOB, json!({})).await;
    let scoped = |scope: &str| Script::new(&t, ALICE, json!({ "scopes": [scope] }));
    let (puller, pusher) = (scoped("alice/**:pull").await, scoped("alice/**:pull,push").await);
    let deleter = scoped("alice/**:pull,delete").await;
    let root = Script::new(&t, ROOT, json!({})).await;
    let anonymous = t.anonymous();
    let put = json!({ "manifest_digest": digest });
    for path in [TAG, "/api/v1/repository/alice/absent/tag"] {
        anonymous.get(&format!("{path}/")).send().await.status(401);
        bob.get(&format!("{path}/")).await.status(403);
        for tag in ["1", "absent", "-not-one"] {
            let path = format!("{path}/{tag}");
            let (restore, expire) = (format!("{path}/restore"), format!("{path}/expire"));
            for stranger in [&bob, &puller] {
                stranger.put(&path, put.clone()).await.status(403);
                stranger.delete(&path).await.status(403);
                stranger.post(&restore, put.clone()).await.status(403);
                stranger.post(&expire, json!({})).await.status(403);
            }
            pusher.delete(&path).await.status(403);
            pusher.post(&expire, json!({ "is_alive": true })).await.status(403);
            deleter.put(&path, put.clone()).await.status(403);
            deleter.post(&restore, put.clone()).await.status(403);
        }
    }
    puller.get(&format!("{TAG}/")).await.status(200);
    pusher.put(&format!("{TAG}/2"), put.clone()).await.status(201);
    // An expiry deletes the tag, so it needs the right to delete.
    let later = json!({ "expiration": 4_000_000_000_u64 });
    pusher.put(&format!("{TAG}/2"), later.clone()).await.status(403);
    alice.put(&format!("{TAG}/2"), later).await.status(201);
    pusher.put(&format!("{TAG}/2"), json!({ "expiration": null })).await.status(201);
    deleter.delete(&format!("{TAG}/2")).await.status(204);
    pusher.post(&format!("{TAG}/2/restore"), put.clone()).await.status(200);
    deleter.post(&format!("{TAG}/2/expire"), json!({})).await.status(200);
    root.delete(&format!("{TAG}/2")).await.status(204);
    assert_eq!(pulled(&t, "1").await, Some(digest));
}

#[tokio::test]
async fn a_rule_that_lets_tags_be_moved_does_not_let_them_be_made() {
    let config = "[http.accessControl.repositories.'**']\n\
                  policies = [{ users = ['bob'], actions = ['read', 'update'] }]\n";
    let (t, alice) = scene_with(config).await;
    let (first, second) = (push(&t, "1", 1).await, push(&t, "1", 2).await);
    let bob = Script::new(&t, BOB, json!({})).await;
    bob.put(&format!("{TAG}/new"), json!({ "manifest_digest": first })).await.status(403);
    bob.put(&format!("{TAG}/new"), json!({ "manifest_digest": NOWHERE })).await.status(403);
    assert_eq!(pulled(&t, "new").await, None);
    bob.put(&format!("{TAG}/1"), json!({ "manifest_digest": first })).await.status(201);
    bob.post(&format!("{TAG}/1/restore"), json!({ "manifest_digest": second })).await.status(200);
    assert_eq!(pulled(&t, "1").await, Some(second.clone()));

    // The rule does not permit restoring a removed tag or a deleted manifest either.
    alice.put(&format!("{TAG}/2"), json!({ "manifest_digest": second })).await.status(201);
    alice.delete(&format!("{TAG}/2")).await.status(204);
    bob.post(&format!("{TAG}/2/restore"), json!({ "manifest_digest": second })).await.status(403);
    assert_eq!(pulled(&t, "2").await, None);
    t.user(ALICE).delete(&format!("/v2/alice/app/manifests/{first}")).send().await.status(202);
    bob.post(&format!("{TAG}/1/restore"), json!({ "manifest_digest": first })).await.status(403);
    assert_eq!(pulled(&t, "1").await, Some(second));
    alice.post(&format!("{TAG}/1/restore"), json!({ "manifest_digest": first })).await.status(200);
}

#[tokio::test]
async fn a_rule_that_lets_tags_be_made_does_not_let_them_be_moved() {
    let config = "[http.accessControl.repositories.'**']\n\
                  policies = [{ users = ['bob'], actions = ['read', 'create'] }]\n";
    let (t, alice) = scene_with(config).await;
    let (first, second) = (push(&t, "1", 1).await, push(&t, "2", 2).await);
    let bob = Script::new(&t, BOB, json!({})).await;
    bob.put(&format!("{TAG}/new"), json!({ "manifest_digest": first })).await.status(201);
    assert_eq!(pulled(&t, "new").await, Some(first.clone()));
    for change in [json!({ "manifest_digest": second }), json!({ "expiration": null }), json!({ "immutable": true })] {
        let refused = bob.put(&format!("{TAG}/1"), change.clone()).await.status(403).json();
        assert_eq!(refused["message"], "bob may not update the tag 1 in alice/app", "{change}");
    }
    let refused = bob.post(&format!("{TAG}/1/restore"), json!({ "manifest_digest": second })).await.status(403).json();
    assert_eq!(refused["message"], "bob may not update the tag 1 in alice/app");
    assert_eq!(pulled(&t, "1").await, Some(first.clone()));
    alice.delete(&format!("{TAG}/1")).await.status(204);
    bob.post(&format!("{TAG}/1/restore"), json!({ "manifest_digest": first })).await.status(200);
}

#[tokio::test]
async fn a_locked_tag_is_changed_only_after_an_administrator_unlocks_it() {
    let (t, script) = scene().await;
    let alice = t.user(ALICE);
    let (locked, other) = (push(&t, "1", 1).await, push(&t, "2", 2).await);
    let one = format!("{TAG}/1");
    script.put(&one, json!({ "immutable": true })).await.status(201);
    assert_eq!(script.tags("?specificTag=1").await[0]["immutable"], true);
    assert_eq!(script.tags("?specificTag=2").await[0]["immutable"], false);

    let refused = script.put(&one, json!({ "manifest_digest": other })).await.status(409).json();
    assert_eq!((&refused["error_type"], &refused["message"]), (&json!("tag_immutable"), &json!(LOCKED)));
    script.delete(&one).await.status(409);
    script.put(&one, json!({ "expiration": 4_000_000_000_u64 })).await.status(409);
    script.post(&format!("{one}/expire"), json!({ "is_alive": true })).await.status(409);
    script.delete("/api/v1/repository/alice/app").await.status(409);
    let moved = alice.get("/v2/alice/app/manifests/2").send().await.status(200).json();
    let refused = put_manifest(&alice, "alice/app", "1", &moved).await.error(409, "DENIED");
    assert_eq!(refused.json()["errors"][0]["message"], LOCKED);
    let same = alice.get("/v2/alice/app/manifests/1").send().await.status(200).json();
    put_manifest(&alice, "alice/app", "1", &same).await.status(201);
    alice.delete("/v2/alice/app/manifests/1").send().await.error(409, "DENIED");
    alice.delete(&format!("/v2/alice/app/manifests/{locked}")).send().await.error(409, "DENIED");

    // A user who may push can lock a tag, and cannot unlock it.
    let permission = "/api/v1/repository/alice/app/permissions/user/bob";
    script.put(permission, json!({ "role": "write" })).await.status(200);
    let bob = Script::new(&t, BOB, json!({ "label": "push" })).await;
    bob.put(&format!("{TAG}/2"), json!({ "immutable": true })).await.status(201);
    bob.put(&format!("{TAG}/2"), json!({ "immutable": false })).await.status(403);
    script.put(&format!("{TAG}/2"), json!({ "immutable": false })).await.status(201);
    script.put(&one, json!({ "immutable": false, "manifest_digest": other })).await.status(201);
    script.delete(&one).await.status(204);
}
