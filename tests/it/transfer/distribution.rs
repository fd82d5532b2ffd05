//! The configuration of docker's registry, followed by ours.

use std::path::Path;

use serde_json::json;

use super::pull;
use crate::support::content::{image, push_blob, put_manifest, sha256};
use crate::support::process::Program;

/// `coracle serve` with such a configuration.
fn serve(place: &Path, more: &str) -> Program {
    let (file, root) = (place.join("config.yml"), place.join("store"));
    let text = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\n  cache: {{blobdescriptor: inmemory}}\n\
         http:\n  addr: 127.0.0.1:0\n  headers: {{X-Content-Type-Options: [nosniff]}}\n{more}",
        root.display()
    );
    std::fs::write(&file, text).unwrap();
    Program::new(["serve"]).arg(file)
}

#[tokio::test]
async fn a_registry_without_users_is_open_for_pushes_and_not_for_deletion() {
    let place = tempfile::tempdir().unwrap();
    let running = serve(place.path(), "").start();
    running.wait_for("anonymous: everyone who can connect may push and pull\n");
    let caller = running.anonymous();
    push_blob(&caller, "team/app", b"{}").await;
    let image = image(b"{}", &[]);
    for _ in 0..2 {
        put_manifest(&caller, "team/app", "1", &image).await.status(201);
    }
    pull(&caller, "team/app", "1", &image).await;
    let deleted = caller.delete(&format!("/v2/team/app/blobs/{}", sha256(b"{}"))).send().await;
    assert!(matches!(deleted.status.as_u16(), 401 | 403), "{deleted:?}");
    let deleted = caller.delete("/v2/team/app/manifests/1").send().await;
    assert!(matches!(deleted.status.as_u16(), 401 | 403), "{deleted:?}");
    assert!(place.path().join("store/coracle/coracle.redb").exists());
    assert!(running.stop().code == Some(0));
    let deleting = serve(place.path(), "").env("REGISTRY_STORAGE_DELETE_ENABLED", "true").start();
    deleting.anonymous().delete("/v2/team/app/manifests/1").send().await.status(202);
}

#[tokio::test]
async fn users_of_its_htpasswd_file_may_push_everywhere() {
    let place = tempfile::tempdir().unwrap();
    let users = place.path().join("htpasswd");
    std::fs::write(&users, format!("ann:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
    let more = format!("auth: {{htpasswd: {{realm: here, path: {}}}}}\n", users.display());
    let running = serve(place.path(), &more).start();
    running.anonymous().get("/v2/_catalog").send().await.status(401);
    let shown = running.stderr();
    assert!(!shown.contains("not supported"), "{shown}");
    running.user(("ann", "wrong")).get("/v2/").send().await.status(401);
    let ann = running.user(("ann", "secret"));
    push_blob(&ann, "team/app", b"{}").await;
    put_manifest(&ann, "team/app", "1", &image(b"{}", &[])).await.status(201);
    ann.delete("/v2/team/app/manifests/1").send().await.status(403);
}

#[test]
fn what_is_not_followed_is_refused_with_the_reason_at_once() {
    let place = tempfile::tempdir().unwrap();
    let more = "notifications: {endpoints: [{name: a, url: 'http://a'}]}\nredis: {addr: 'localhost:6379'}\n\
                proxy: {remoteurl: 'https://registry-1.docker.io', username: u, password: s3cret}\n";
    let done = serve(place.path(), more).run();
    assert_eq!(done.code, Some(2), "{done:?}");
    for key in ["notifications.endpoints", "proxy.username", "proxy.password"] {
        assert!(done.stderr.contains(key), "{key}: {done:?}");
    }
    assert!(!done.stderr.contains("s3cret"), "{done:?}");
    let done = serve(place.path(), "").env("REGISTRY_STORAGE", "s3").run();
    assert!(done.code == Some(2) && done.stderr.contains("storage.s3"), "{done:?}");
    let file = place.path().join("config.yml");
    let checked = Program::new(["check-config"]).arg(&file).run();
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(json!(checked.stdout).to_string().contains("is valid"));
    let warned = "config.yml: everyone who can connect may push and pull without signing in\n";
    assert!(checked.stderr.contains(warned), "{checked:?}");
}
