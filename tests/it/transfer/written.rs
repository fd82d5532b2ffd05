//! Stores and layouts as other registries write them to the disk.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::content::{bytes, image, sha256};

/// The store of docker's registry.
pub struct Distribution(pub PathBuf);

impl Distribution {
    pub fn new(root: &Path) -> Self {
        Self(root.join("docker/registry/v2"))
    }

    pub fn write(path: &Path, content: &[u8]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn data(&self, digest: &str) -> PathBuf {
        let hex = &digest[7..];
        self.0.join(format!("blobs/sha256/{}/{hex}/data", &hex[..2]))
    }

    pub fn blob(&self, content: &[u8]) -> String {
        let digest = sha256(content);
        Self::write(&self.data(&digest), content);
        digest
    }

    /// Makes a blob one of the repository, without which docker's registry does not send it.
    pub fn link(&self, repository: &str, digest: &str) {
        let link = format!("repositories/{repository}/_layers/sha256/{}/link", &digest[7..]);
        Self::write(&self.0.join(link), digest.as_bytes());
    }

    /// Stores a manifest with its link.
    pub fn manifest(&self, repository: &str, manifest: &Value) -> String {
        let digest = self.blob(&bytes(manifest));
        let link = format!("repositories/{repository}/_manifests/revisions/sha256/{}/link", &digest[7..]);
        Self::write(&self.0.join(link), digest.as_bytes());
        digest
    }

    pub fn tag(&self, repository: &str, tag: &str, link: &str) {
        let path = format!("repositories/{repository}/_manifests/tags/{tag}/current/link");
        Self::write(&self.0.join(path), link.as_bytes());
    }

    /// Stores an image with a layer of this content.
    pub fn image(&self, repository: &str, tag: &str, layer: &[u8]) -> Value {
        let config = format!("{{\"name\":\"{repository}:{tag}\"}}");
        self.blob(config.as_bytes());
        self.blob(layer);
        let image = image(config.as_bytes(), &[layer]);
        let digest = self.manifest(repository, &image);
        self.tag(repository, tag, &digest);
        image
    }
}

/// An image with its tag and its blobs.
pub type Tagged<'a> = (Option<&'a str>, &'a Value, &'a [&'a [u8]]);

/// Writes an image layout as zot does.
pub fn layout(directory: &Path, images: &[Tagged<'_>]) {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(directory.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let put = |content: &[u8]| std::fs::write(blobs.join(&sha256(content)[7..]), content).unwrap();
    let mut manifests = Vec::new();
    for (tag, image, contents) in images {
        let content = bytes(image);
        contents.iter().for_each(|content| put(content));
        put(&content);
        let annotations = tag.map(|tag| json!({ "org.opencontainers.image.ref.name": tag }));
        manifests.push(json!({
            "mediaType": image["mediaType"],
            "digest": sha256(&content),
            "size": content.len(),
            "annotations": annotations,
        }));
    }
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    std::fs::write(directory.join("index.json"), index.to_string()).unwrap();
}
