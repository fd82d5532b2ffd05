//! "Content Management": deleting tags, manifests and blobs, and what is still needed.

use serde_json::json;

use crate::support::TestRegistry;
use crate::support::content::{
    LAYER, assert_blob, bytes, descriptor, image, index, push_blob, push_image, put_manifest, sha256,
};
use crate::support::http::Caller;

async fn tags(caller: &Caller) -> serde_json::Value {
    caller.get("/v2/a/tags/list").send().await.status(200).json()["tags"].clone()
}

#[tokio::test]
async fn a_deleted_tag_is_gone_alone() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let manifest = push_image(&caller, "a", "one", 1).await;
    let digest = sha256(&bytes(&manifest));
    put_manifest(&caller, "a", "two", &manifest).await.status(201);
    let deleted = caller.delete("/v2/a/manifests/one").send().await.status(202);
    assert!(deleted.body.is_empty());
    caller.get("/v2/a/manifests/one").send().await.error(404, "MANIFEST_UNKNOWN");
    caller.get("/v2/a/manifests/two").send().await.status(200);
    assert_eq!(tags(&caller).await, json!(["two"]));
    // Also without any tag left, the manifest stays.
    caller.delete("/v2/a/manifests/two").send().await.status(202);
    caller.get(&format!("/v2/a/manifests/{digest}")).send().await.status(200);
    assert_eq!(tags(&caller).await, json!([]));
    caller.delete("/v2/a/manifests/two").send().await.error(404, "MANIFEST_UNKNOWN");
}

#[tokio::test]
async fn a_deleted_manifest_is_gone_with_all_its_tags_and_no_others() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let gone = push_image(&caller, "a", "1", 1).await;
    put_manifest(&caller, "a", "10", &gone).await.status(201);
    push_image(&caller, "a", "2", 2).await;
    // A tag that once was this manifest's.
    put_manifest(&caller, "a", "3", &gone).await.status(201);
    push_image(&caller, "a", "3", 3).await;
    let path = format!("/v2/a/manifests/{}", sha256(&bytes(&gone)));
    caller.delete(&path).send().await.status(202);
    for path in [path.as_str(), "/v2/a/manifests/1", "/v2/a/manifests/10"] {
        caller.get(path).send().await.error(404, "MANIFEST_UNKNOWN");
        caller.delete(path).send().await.error(404, "MANIFEST_UNKNOWN");
    }
    assert_eq!(tags(&caller).await, json!(["2", "3"]));
    caller.get("/v2/a/manifests/3").send().await.status(200);
    // Its blobs are there still, and it can be pushed again.
    put_manifest(&caller, "a", "1", &gone).await.status(201);
    assert_eq!(caller.get(&path).send().await.status(200).body, bytes(&gone));
}

#[tokio::test]
async fn a_manifest_that_an_index_lists_is_405_until_the_index_is_gone() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let child = push_image(&caller, "a", "child", 1).await;
    let inner = index(&[&child]);
    let outer = index(&[&inner]);
    put_manifest(&caller, "a", "inner", &inner).await.status(201);
    put_manifest(&caller, "a", "outer", &outer).await.status(201);
    let path = |manifest| format!("/v2/a/manifests/{}", sha256(&bytes(manifest)));
    caller.delete(&path(&child)).send().await.error(405, "DENIED");
    caller.delete(&path(&inner)).send().await.error(405, "DENIED");
    // A tag of it may go.
    caller.delete("/v2/a/manifests/child").send().await.status(202);
    for manifest in [&outer, &inner, &child] {
        caller.delete(&path(manifest)).send().await.status(202);
        caller.get(&path(manifest)).send().await.status(404);
    }
}

#[tokio::test]
async fn a_blob_that_a_manifest_needs_is_405_until_the_last_one_is_gone() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let config = push_blob(&caller, "a", b"{}").await;
    let layer = push_blob(&caller, "a", b"layer").await;
    let [one, two] = [image(b"{}", &[b"layer", b"layer"]), image(b"{}", &[])];
    put_manifest(&caller, "a", "1", &one).await.status(201);
    // Pushed again, and by another name: the need is counted once.
    put_manifest(&caller, "a", "again", &one).await.status(201);
    put_manifest(&caller, "a", "2", &two).await.status(201);
    let delete = async |digest: &str| caller.delete(&format!("/v2/a/blobs/{digest}")).send().await;
    delete(&config).await.error(405, "DENIED");
    delete(&layer).await.error(405, "DENIED");
    caller.delete(&format!("/v2/a/manifests/{}", sha256(&bytes(&one)))).send().await.status(202);
    delete(&layer).await.status(202);
    delete(&config).await.error(405, "DENIED");
    caller.delete(&format!("/v2/a/manifests/{}", sha256(&bytes(&two)))).send().await.status(202);
    delete(&config).await.status(202);
    caller.get("/v2/_catalog").send().await.status(200);
    caller.get("/v2/a/tags/list").send().await.error(404, "NAME_UNKNOWN");
}

#[tokio::test]
async fn a_blob_that_an_index_lists_is_405() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let layer = push_blob(&caller, "a", b"layer").await;
    let mut cache = index(&[]);
    cache["manifests"] = json!([descriptor(LAYER, b"layer")]);
    put_manifest(&caller, "a", "cache", &cache).await.status(201);
    caller.delete(&format!("/v2/a/blobs/{layer}")).send().await.error(405, "DENIED");
    caller.delete(&format!("/v2/a/manifests/{}", sha256(&bytes(&cache)))).send().await.status(202);
    caller.delete(&format!("/v2/a/blobs/{layer}")).send().await.status(202);
}

#[tokio::test]
async fn a_deleted_blob_is_gone_from_its_repository_alone() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let digest = push_blob(&caller, "a", b"content").await;
    push_blob(&caller, "b", b"content").await;
    let path = format!("/v2/a/blobs/{}", digest.replace(':', "%3A"));
    assert!(caller.delete(&path).send().await.status(202).body.is_empty());
    caller.get(&path).send().await.error(404, "BLOB_UNKNOWN");
    caller.delete(&path).send().await.error(404, "BLOB_UNKNOWN");
    assert_blob(&caller, "b", &digest, b"content").await;
    caller.delete(&format!("/v2/b/blobs/{digest}")).send().await.status(202);
    let file = t.registry.data_dir().join("blobs").join(digest.replace(':', "/"));
    assert!(!file.exists(), "the blob has no link, but its file exists");
    push_blob(&caller, "a", b"content").await;
    assert_blob(&caller, "a", &digest, b"content").await;
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    push_image(&caller, "a", "1", 1).await;
    let unknown = sha256(b"unknown");
    for (path, code) in [
        ("/v2/a/manifests/2".to_owned(), "MANIFEST_UNKNOWN"),
        (format!("/v2/a/manifests/{unknown}"), "MANIFEST_UNKNOWN"),
        ("/v2/a/manifests/-x".to_owned(), "MANIFEST_UNKNOWN"),
        ("/v2/b/manifests/1".to_owned(), "NAME_UNKNOWN"),
        (format!("/v2/b/manifests/{unknown}"), "NAME_UNKNOWN"),
        (format!("/v2/a/blobs/{unknown}"), "BLOB_UNKNOWN"),
        (format!("/v2/b/blobs/{unknown}"), "BLOB_UNKNOWN"),
    ] {
        caller.delete(&path).send().await.error(404, code);
    }
    assert_eq!(tags(&caller).await, json!(["1"]));
}

#[tokio::test]
async fn a_blob_that_is_being_read_is_read_to_its_end_though_it_was_deleted() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let content = crate::support::content::noise(20_000_000, 1);
    let digest = push_blob(&caller, "a", &content).await;
    let mut socket = tokio::net::TcpStream::connect(caller.address()).await.unwrap();
    let request = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut socket, request.as_bytes()).await.unwrap();
    let mut received = vec![0; 1000];
    tokio::io::AsyncReadExt::read_exact(&mut socket, &mut received).await.unwrap();
    caller.delete(&format!("/v2/a/blobs/{digest}")).send().await.status(202);
    tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut received).await.unwrap();
    assert!(received.ends_with(&content));
}
