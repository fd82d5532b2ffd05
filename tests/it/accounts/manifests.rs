//! Manifests in Quay's API v1: their layers, with the history of the image, and their labels.

use serde_json::{Value, json};

use crate::support::TestRegistry;
use crate::support::content::{bytes, index, push_blob, put_manifest, sha256};
use crate::support::registry::{ALICE, BOB};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A registry with `alice/app`, and an API key of a user as a header.
async fn start(user: (&str, &str)) -> (TestRegistry, String) {
    let t = TestRegistry::with_users().await;
    let key = t.user(user).post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    let bearer = format!("Bearer {}", key["apiKey"].as_str().unwrap());
    (t, bearer)
}

fn path(digest: &str) -> String {
    format!("/api/v1/repository/alice/app/manifest/{digest}")
}

#[tokio::test]
async fn an_image_is_shown_with_the_history_of_its_layers_and_its_labels() {
    let (t, bearer) = start(ALICE).await;
    let alice = t.user(ALICE);
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Labels": { "maintainer": "alice", "build": "{\"number\":7}", "title": "from the config" } },
        "history": [
            { "created": "2026-11-22T01:36:30Z", "created_by": "ADD rootfs.tar", "author": "alice" },
            { "created": "2026-11-22T01:36:31Z", "created_by": "ENV A=b", "empty_layer": true },
            { "created": "2026-11-22T01:36:32Z", "created_by": "RUN make", "comment": "buildkit" },
        ],
    });
    let config = bytes(&config);
    let (base, top) = (&b"the base"[..], &b"the top layer"[..]);
    for content in [&config[..], base, top] {
        push_blob(&alice, "alice/app", content).await;
    }
    let layer = |content: &[u8]| json!({ "mediaType": LAYER, "digest": sha256(content), "size": content.len() });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": CONFIG, "digest": sha256(&config), "size": config.len() },
        "layers": [layer(base), layer(top)],
        "annotations": { "title": "from the manifest" },
    });
    put_manifest(&alice, "alice/app", "1", &manifest).await.status(201);
    let digest = sha256(&bytes(&manifest));

    let shown = t.anonymous().get(&path(&digest)).header("authorization", &bearer).send().await.status(200).json();
    let data: Value = serde_json::from_str(shown["manifest_data"].as_str().unwrap()).unwrap();
    assert_eq!(data, manifest);
    let label = |key: &str, value: &str, media_type: &str| json!({ "key": key, "value": value, "source_type": "manifest", "media_type": media_type });
    let expected = json!({
        "digest": digest,
        "is_manifest_list": false,
        "manifest_data": shown["manifest_data"],
        "config_media_type": CONFIG,
        "layers_compressed_size": base.len() + top.len(),
        "layers": [
            {
                "index": 0, "compressed_size": base.len(), "is_remote": false, "urls": null,
                "command": ["ADD rootfs.tar"], "comment": null, "author": "alice",
                "blob_digest": sha256(base), "created_datetime": "Sun, 22 Nov 2026 01:36:30 -0000",
            },
            {
                "index": 1, "compressed_size": top.len(), "is_remote": false, "urls": null,
                "command": ["RUN make"], "comment": "buildkit", "author": null,
                "blob_digest": sha256(top), "created_datetime": "Sun, 22 Nov 2026 01:36:32 -0000",
            },
        ],
        "labels": [
            label("build", "{\"number\":7}", "application/json"),
            label("maintainer", "alice", "text/plain"),
            label("title", "from the manifest", "text/plain"),
        ],
    });
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn an_index_has_no_layers_and_an_artifact_no_history() {
    let (t, bearer) = start(ALICE).await;
    let alice = t.user(ALICE);
    let get = async |digest: &str, status| {
        let answer = t.anonymous().get(&path(digest)).header("authorization", &bearer).send().await;
        answer.status(status).json()
    };
    let list = index(&[]);
    put_manifest(&alice, "alice/app", "list", &list).await.status(201);
    let shown = get(&sha256(&bytes(&list)), 200).await;
    assert_eq!((&shown["is_manifest_list"], &shown["layers"]), (&json!(true), &Value::Null));
    assert_eq!((&shown["layers_compressed_size"], &shown["config_media_type"]), (&Value::Null, &Value::Null));

    let config = b"{\"config\":{\"Labels\":{\"a\":\"b\"}}}";
    push_blob(&alice, "alice/app", config).await;
    let artifact = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.example+json", "digest": sha256(config), "size": config.len() },
        "layers": [],
    });
    put_manifest(&alice, "alice/app", "artifact", &artifact).await.status(201);
    let shown = get(&sha256(&bytes(&artifact)), 200).await;
    assert_eq!((&shown["labels"], &shown["layers"]), (&json!([]), &json!([])), "its config is not one of an image");
    assert_eq!(shown["config_media_type"], "application/vnd.example+json");

    assert_eq!(get(&sha256(b"absent"), 404).await["error_type"], "not_found");
    assert_eq!(get("latest", 400).await["error_type"], "invalid_request");
}

#[tokio::test]
async fn sizes_whose_sum_is_no_number_are_shown_as_the_largest_one() {
    let (t, bearer) = start(ALICE).await;
    let alice = t.user(ALICE);
    let contents = [b"{}", b"l1", b"l2", b"l3"];
    for content in contents {
        push_blob(&alice, "alice/app", content).await;
    }
    let layer = |content: &[u8]| json!({ "mediaType": LAYER, "digest": sha256(content), "size": i64::MAX });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": CONFIG, "digest": sha256(b"{}"), "size": 2 },
        "layers": contents[1..].iter().map(|content| layer(*content)).collect::<Vec<_>>(),
    });
    put_manifest(&alice, "alice/app", "1", &manifest).await.status(201);
    let path = path(&sha256(&bytes(&manifest)));
    let shown = t.anonymous().get(&path).header("authorization", &bearer).send().await.status(200).json();
    assert_eq!(shown["layers_compressed_size"], json!(u64::MAX));
}

#[tokio::test]
async fn a_manifest_is_shown_to_those_who_may_pull_it() {
    let (t, bearer) = start(BOB).await;
    let list = index(&[]);
    put_manifest(&t.user(ALICE), "alice/app", "list", &list).await.status(201);
    let path = path(&sha256(&bytes(&list)));
    t.anonymous().get(&path).header("authorization", &bearer).send().await.status(403);
    t.anonymous().get(&path).send().await.status(401);
}
