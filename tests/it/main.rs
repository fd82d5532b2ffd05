//! The registry from outside: real sockets, real clients, the real program.
//!
//! One binary, modules only. What each of them needs is in [`support`].

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(unreachable_pub, reason = "pub is what other modules of this binary may use")]

mod support;

#[tokio::test]
async fn smoke() {
    use support::content::{bytes, push_image, sha256};
    let t = support::TestRegistry::with_users().await;
    let alice = t.user(support::registry::ALICE);
    let manifest = push_image(&alice, "alice/a", "1", 7).await;
    let answer = alice.get("/v2/alice/a/manifests/1").send().await.status(200);
    assert_eq!(answer.body, bytes(&manifest));
    alice
        .head("/v2/alice/a/manifests/1")
        .send()
        .await
        .status(200)
        .has("docker-content-digest", &sha256(&bytes(&manifest)));
    t.anonymous().get("/v2/").send().await.error(401, "UNAUTHORIZED");
    t.user(support::registry::BOB).get("/v2/alice/a/manifests/1").send().await.error(403, "DENIED");
    alice.get("/v2/nobody").send().await.error(404, "UNSUPPORTED");
}
