//! Content to push, and pushing it the short way.

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha512};

use super::http::{Answer, Caller};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// The digest of bytes, with SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// The digest of bytes, with SHA-512.
pub fn sha512(bytes: &[u8]) -> String {
    format!("sha512:{}", hex::encode(Sha512::digest(bytes)))
}

/// Bytes that look random and are the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// A descriptor of content.
pub fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": sha256(content), "size": content.len() })
}

/// An image manifest of a config and layers.
pub fn image(config: &[u8], layers: &[&[u8]]) -> Value {
    let layers: Vec<Value> = layers.iter().map(|layer| descriptor(LAYER, layer)).collect();
    json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, config), "layers": layers })
}

/// An index of manifests.
pub fn index(manifests: &[&Value]) -> Value {
    let manifests: Vec<Value> = manifests
        .iter()
        .map(|manifest| descriptor(manifest["mediaType"].as_str().unwrap(), &bytes(manifest)))
        .collect();
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests })
}

/// The bytes of a manifest.
pub fn bytes(manifest: &Value) -> Vec<u8> {
    serde_json::to_vec(manifest).unwrap()
}

/// Pushes a blob in one request.
pub async fn push_blob(caller: &Caller, repository: &str, content: &[u8]) -> String {
    let digest = sha256(content);
    let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
    caller.post(&path).body(content.to_vec()).send().await.status(201);
    digest
}

/// Pushes a manifest under a tag or digest, and hands the answer on.
pub async fn put_manifest(caller: &Caller, repository: &str, reference: &str, manifest: &Value) -> Answer {
    let media_type = manifest["mediaType"].as_str().unwrap_or(MANIFEST).to_owned();
    let path = format!("/v2/{repository}/manifests/{reference}");
    caller.put(&path).header("content-type", media_type).body(bytes(manifest)).send().await
}

/// Pushes an image of two small blobs that no other seed has, and returns its manifest.
pub async fn push_image(caller: &Caller, repository: &str, reference: &str, seed: u64) -> Value {
    let config = format!("{{\"seed\":{seed}}}").into_bytes();
    let layer = noise(1000, seed + 1);
    push_blob(caller, repository, &config).await;
    push_blob(caller, repository, &layer).await;
    let manifest = image(&config, &[&layer]);
    put_manifest(caller, repository, reference, &manifest).await.status(201);
    manifest
}

/// Begins an upload, and returns where it goes on.
pub async fn start_upload(caller: &Caller, repository: &str) -> String {
    caller.post(&format!("/v2/{repository}/blobs/uploads/")).send().await.status(202).location()
}

/// Waits until an upload has so many bytes, without writing to it.
pub async fn until_received(caller: &Caller, location: &str, bytes: usize) {
    let reached = format!("0-{}", bytes - 1);
    let asking = async { while caller.get(location).send().await.status(204).header("range") != Some(&reached) {} };
    let patience = std::time::Duration::from_secs(30);
    tokio::time::timeout(patience, asking).await.expect("the upload reaches so many bytes");
}

/// Asserts that a repository serves a blob of these bytes.
pub async fn assert_blob(caller: &Caller, repository: &str, digest: &str, content: &[u8]) {
    let answer = caller.get(&format!("/v2/{repository}/blobs/{digest}")).send().await.status(200);
    assert_eq!(answer.header("docker-content-digest"), Some(digest));
    assert!(answer.body == content, "{digest} is served with other bytes");
}
