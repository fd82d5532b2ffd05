//! zot's web page and command line as clients: their queries in their own encoding.

use serde_json::{Value, json};

use crate::support::content::{MANIFEST, bytes, descriptor, push_blob, put_manifest, sha256};
use crate::support::http::{Answer, Caller};

pub const SEARCH: &str = "/v2/_zot/ext/search";

/// Sends a query as a browser does for the web page: in the URL, with only blanks and quotes encoded. Plus signs, tabs and
/// line feeds, which the page does not send, are encoded too.
pub async fn get(caller: &Caller, query: &str) -> Answer {
    let query = query.replace(' ', "%20").replace('"', "%22").replace('\n', "%0A").replace('\t', "%09");
    let query = query.replace('+', "%2B");
    caller.get(&format!("{SEARCH}?query={query}")).header("accept", "application/json").send().await
}

/// Sends a query as the command line does.
pub async fn post(caller: &Caller, query: &str) -> Answer {
    let body = json!({ "query": query }).to_string();
    caller.post(SEARCH).header("content-type", "application/json").body(body).send().await
}

/// The data of a query without errors.
pub async fn data(caller: &Caller, query: &str) -> Value {
    let answer = get(caller, query).await.status(200).has("content-type", "application/json").json();
    assert_eq!(answer.get("errors"), None, "{query}: {answer}");
    let posted = post(caller, query).await.status(200).json();
    assert_eq!(posted, answer, "{query}");
    answer["data"].clone()
}

/// The message of the first error of a query, which has no data.
pub async fn failure(caller: &Caller, query: &str) -> String {
    let answer = get(caller, query).await.status(200).json();
    assert_eq!(answer["data"], Value::Null, "{query}: {answer}");
    assert_eq!(post(caller, query).await.status(200).json(), answer, "{query}");
    answer["errors"][0]["message"].as_str().unwrap().to_owned()
}

/// An image with everything that search shows.
#[derive(Debug)]
pub struct Image {
    pub manifest: Value,
    pub digest: String,
    pub config: String,
    pub layers: Vec<String>,
    /// The manifest, the config and the layers, in bytes.
    pub size: usize,
}

/// Builds and pushes an image for an architecture.
pub async fn push(caller: &Caller, repository: &str, tag: &str, architecture: &str, layers: &[&str]) -> Image {
    let annotations = json!({
        "org.opencontainers.image.title": "App", "org.opencontainers.image.description": "An application",
        "org.opencontainers.image.licenses": "MIT", "org.opencontainers.image.source": "https://a.example/src",
        "org.opencontainers.image.documentation": "https://a.example/doc", "org.opencontainers.image.authors": "Ann",
    });
    push_config(caller, (repository, tag), &config(architecture), layers, annotations).await
}

/// The config of an image with three steps.
pub fn config(architecture: &str) -> Value {
    json!({
        "created": "2024-05-01T10:00:00Z", "os": "linux", "architecture": architecture, "variant": "v8",
        "config": {"Labels": {"org.opencontainers.image.vendor": "ACME"}},
        "rootfs": {"type": "layers", "diff_ids": []},
        "history": [
            {"created": "2024-05-01T09:00:00Z", "created_by": "ADD base"},
            {"created_by": "ENV a=b", "empty_layer": true},
            {"created_by": "RUN make", "comment": "second"},
        ],
    })
}

/// Pushes an image with a config.
pub async fn push_config(
    caller: &Caller,
    (repository, tag): (&str, &str),
    config: &Value,
    layers: &[&str],
    annotations: Value,
) -> Image {
    let config = config.to_string().into_bytes();
    let mut digests = Vec::new();
    for content in layers {
        digests.push(push_blob(caller, repository, content.as_bytes()).await);
    }
    let config_digest = push_blob(caller, repository, &config).await;
    let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers.iter().map(|content| descriptor(layer, content.as_bytes())).collect::<Vec<_>>(),
        "annotations": annotations,
    });
    put_manifest(caller, repository, tag, &manifest).await.status(201);
    let written = bytes(&manifest);
    let size = written.len() + config.len() + layers.iter().map(|layer| layer.len()).sum::<usize>();
    Image { digest: sha256(&written), manifest, config: config_digest, layers: digests, size }
}

/// Pushes a manifest that refers to another one.
pub async fn push_referrer(caller: &Caller, repository: &str, subject: &Value, artifact_type: &str) -> Value {
    push_blob(caller, repository, b"{}").await;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": artifact_type,
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [descriptor("application/vnd.oci.empty.v1+json", b"{}")],
        "subject": descriptor(MANIFEST, &bytes(subject)),
        "annotations": {"a": "b"},
    });
    put_manifest(caller, repository, &sha256(&bytes(&manifest)), &manifest).await.status(201);
    manifest
}
