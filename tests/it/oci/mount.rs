//! "Mounting a blob from another repository": only what the caller may read, and otherwise an upload.

use crate::support::TestRegistry;
use crate::support::content::{assert_blob, push_blob, sha256, sha512};
use crate::support::http::{Answer, Caller};
use crate::support::registry::{ALICE, BOB, ROOT};

async fn mount(caller: &Caller, repository: &str, digest: &str, from: Option<&str>) -> Answer {
    let from = from.map(|from| format!("&from={from}")).unwrap_or_default();
    caller.post(&format!("/v2/{repository}/blobs/uploads/?mount={digest}{from}")).send().await
}

#[tokio::test]
async fn a_mounted_blob_is_201_and_can_be_pulled() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let digest = push_blob(&caller, "a/source", b"content").await;
    // Said where from, not said, and said wrongly: the registry finds it.
    for (target, from) in [("b", Some("a/source")), ("c/d", None), ("e", Some("a/other")), ("f", Some("a%2Fsource"))] {
        let mounted = mount(&caller, target, &digest, from).await.status(201).has("docker-content-digest", &digest);
        assert_eq!(mounted.location(), format!("/v2/{target}/blobs/{digest}"));
        assert_blob(&caller, target, &digest, b"content").await;
    }
    assert_eq!(t.unfinished_uploads(), 0);
}

#[tokio::test]
async fn a_blob_that_is_there_already_is_201() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let digest = push_blob(&caller, "a", b"content").await;
    mount(&caller, "a", &digest, Some("a")).await.status(201);
    mount(&caller, "a", &digest, Some("b")).await.status(201);
    mount(&caller, "a", &digest, None).await.status(201);
}

#[tokio::test]
async fn a_blob_of_sha512_is_mounted_by_it() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let digest = sha512(b"content");
    caller.post(&format!("/v2/a/blobs/uploads/?digest={digest}")).body("content").send().await.status(201);
    mount(&caller, "b", &digest, Some("a")).await.status(201);
    assert_blob(&caller, "b", &digest, b"content").await;
    mount(&caller, "b", &sha256(b"content"), Some("a")).await.status(202);
}

#[tokio::test]
async fn a_blob_that_cannot_be_mounted_is_202_with_an_upload() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    for digest in [sha256(b"content"), sha512(b"content")] {
        for from in [Some("a"), None] {
            let begun = mount(&caller, "b", &digest, from).await.status(202).has("range", "0-0");
            let put = format!("{}?digest={digest}", begun.location());
            caller.put(&put).body("content").send().await.status(201);
            caller.delete(&format!("/v2/b/blobs/{digest}")).send().await.status(202);
        }
    }
}

#[tokio::test]
async fn only_what_the_caller_may_read_is_mounted() {
    let t = TestRegistry::with_users().await;
    let [alice, bob, root] = [ALICE, BOB, ROOT].map(|user| t.user(user));
    let digest = push_blob(&alice, "alice/secret", b"alice's").await;
    for from in [Some("alice/secret"), None, Some("bob/x")] {
        let begun = mount(&bob, "bob/x", &digest, from).await.status(202);
        assert_eq!(begun.header("docker-content-digest"), None);
        bob.get(&format!("/v2/bob/x/blobs/{digest}")).send().await.error(404, "BLOB_UNKNOWN");
        bob.delete(&begun.location()).send().await.status(204);
    }
    bob.get("/v2/bob/x/tags/list").send().await.error(404, "NAME_UNKNOWN");
    // A caller may mount a blob that they can read, in the source or in another repository.
    mount(&alice, "alice/copy", &digest, Some("alice/secret")).await.status(201);
    mount(&root, "bob/from-root", &digest, Some("alice/secret")).await.status(201);
    mount(&bob, "bob/x", &digest, Some("alice/secret")).await.status(201);
}

#[tokio::test]
async fn a_mount_needs_the_right_to_push_to_the_target() {
    let t = TestRegistry::with_users().await;
    let [alice, bob] = [ALICE, BOB].map(|user| t.user(user));
    let digest = push_blob(&bob, "bob/x", b"bob's").await;
    mount(&bob, "alice/x", &digest, Some("bob/x")).await.error(403, "DENIED");
    mount(&t.anonymous(), "alice/x", &digest, Some("bob/x")).await.error(401, "UNAUTHORIZED");
    alice.get("/v2/alice/x/tags/list").send().await.error(404, "NAME_UNKNOWN");
}

#[tokio::test]
async fn a_mounted_blob_stays_when_its_source_goes() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let digest = push_blob(&caller, "a", b"content").await;
    mount(&caller, "b", &digest, Some("a")).await.status(201);
    caller.delete(&format!("/v2/a/blobs/{digest}")).send().await.status(202);
    caller.get(&format!("/v2/a/blobs/{digest}")).send().await.status(404);
    assert_blob(&caller, "b", &digest, b"content").await;
    caller.delete(&format!("/v2/b/blobs/{digest}")).send().await.status(202);
    // Now no repository has it, and it cannot be mounted.
    mount(&caller, "c", &digest, Some("b")).await.status(202);
}

#[tokio::test]
async fn a_mount_of_what_is_no_digest_is_400() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    for digest in ["", "x", "sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
        for from in ["b", "B"] {
            mount(&caller, "a", digest, Some(from)).await.error(400, "DIGEST_INVALID");
        }
    }
    assert_eq!(t.unfinished_uploads(), 0);
}

#[tokio::test]
async fn a_mount_from_what_is_no_repository_is_an_ordinary_upload() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    push_blob(&caller, "a", b"content").await;
    let digest = sha256(b"content");
    for from in ["", "B", "b//c", "..", "localhost:5000/a", "a%2F", "a&from=b"] {
        let begun = mount(&caller, "b", &digest, Some(from)).await.status(202).has("range", "0-0");
        let put = format!("{}?digest={digest}", begun.location());
        caller.put(&put).body("content").send().await.status(201);
    }
    // Without a digest there is nothing to mount, and `from` means nothing.
    caller.post("/v2/b/blobs/uploads/?from=Team/App").send().await.status(202);
}
