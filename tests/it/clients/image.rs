//! Images on a disk, and their comparison, byte by byte, with pulled content.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub(crate) const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A descriptor of a blob or a manifest.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
}

impl Descriptor {
    /// Describes some bytes.
    pub(crate) fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self { media_type: media_type.to_owned(), digest: digest(bytes), size: bytes.len() as u64 }
    }

    /// Reads a descriptor of a manifest.
    pub(crate) fn parse(value: &Value) -> Self {
        let text = |key: &str| value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}")).to_owned();
        Self { media_type: text("mediaType"), digest: text("digest"), size: value["size"].as_u64().unwrap() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.size })
    }

    /// Whether this is fetched from `manifests`, not from `blobs`.
    pub(crate) fn is_manifest(&self) -> bool {
        self.media_type.contains(".manifest.") || self.media_type == OCI_INDEX
    }

    /// The digest without its algorithm.
    pub(crate) fn hex(&self) -> &str {
        self.digest.split_once(':').unwrap().1
    }
}

/// The SHA-256 digest of some bytes, as a registry writes it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// The directory of content in a layout or a similar store.
pub(crate) const BLOBS: &str = "blobs/sha256";

/// A directory with content in it, found by digest.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    /// An OCI image layout; containerd's content store has the same `blobs`.
    Layout(PathBuf),
    /// skopeo's `dir:`: one manifest or manifest list, with its content.
    Directory(PathBuf),
}

impl Store {
    /// The bytes of a manifest or blob, if it exists.
    pub(crate) fn find(&self, descriptor: &Descriptor) -> Option<Vec<u8>> {
        let hex = descriptor.hex();
        match self {
            Self::Layout(path) => fs::read(path.join(BLOBS).join(hex)).ok(),
            Self::Directory(path) if descriptor.is_manifest() => {
                let manifest = fs::read(path.join("manifest.json")).ok()?;
                if digest(&manifest) == descriptor.digest {
                    return Some(manifest);
                }
                fs::read(path.join(format!("{hex}.manifest.json"))).ok()
            }
            Self::Directory(path) => fs::read(path.join(hex)).ok(),
        }
    }

    /// The bytes of a manifest or blob that must exist.
    pub(crate) fn get(&self, descriptor: &Descriptor) -> Vec<u8> {
        self.find(descriptor).unwrap_or_else(|| panic!("{descriptor:?} is not in {self:?}"))
    }
}

/// An image, an index or an artifact: a manifest and everything it names, in a store.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) store: Store,
    /// Its name in the store.
    pub(crate) tag: String,
    pub(crate) root: Descriptor,
}

impl Image {
    /// The image of that name in a layout.
    pub(crate) fn in_layout(layout: &Path, tag: &str) -> Self {
        let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
        let entries = index["manifests"].as_array().unwrap().iter();
        let entries = entries.filter(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == tag);
        let roots: Vec<Descriptor> = entries.map(Descriptor::parse).collect();
        let [root] = &*roots else { panic!("{} images are called {tag} in {}", roots.len(), layout.display()) };
        Self { store: Store::Layout(layout.to_owned()), tag: tag.to_owned(), root: root.clone() }
    }

    /// The image in a directory of skopeo's `dir:`.
    pub(crate) fn in_directory(directory: &Path) -> Self {
        let manifest = fs::read(directory.join("manifest.json")).unwrap();
        let json: Value = serde_json::from_slice(&manifest).unwrap();
        // An OCI manifest need not have a media type, and umoci's has none.
        let assumed = if json.get("manifests").is_some() { OCI_INDEX } else { OCI_MANIFEST };
        let root = Descriptor::of(json["mediaType"].as_str().unwrap_or(assumed), &manifest);
        Self { store: Store::Directory(directory.to_owned()), tag: "directory".to_owned(), root }
    }

    /// The name for skopeo, podman and buildah.
    pub(crate) fn source(&self) -> String {
        match &self.store {
            Store::Layout(path) => format!("oci:{}:{}", path.display(), self.tag),
            Store::Directory(path) => format!("dir:{}", path.display()),
        }
    }

    /// The bytes of its manifest.
    pub(crate) fn manifest(&self) -> Vec<u8> {
        self.store.get(&self.root)
    }

    /// Its manifest, read.
    pub(crate) fn manifest_json(&self) -> Value {
        serde_json::from_slice(&self.manifest()).unwrap()
    }

    /// Its content, each part once, in a valid order for a push: parts come before the manifests that name them.
    pub(crate) fn parts(&self) -> Vec<Descriptor> {
        let mut parts = Vec::new();
        let mut seen = BTreeSet::new();
        walk(&self.root, &|part| self.store.get(part), &mut seen, &mut parts);
        parts
    }

    /// The layers of an image, without its configuration.
    pub(crate) fn layers(&self) -> Vec<Descriptor> {
        self.manifest_json()["layers"].as_array().unwrap().iter().map(Descriptor::parse).collect()
    }

    /// The configuration of an image, as a descriptor.
    pub(crate) fn config(&self) -> Descriptor {
        Descriptor::parse(&self.manifest_json()["config"])
    }

    /// The digests of its uncompressed layers, computed from the layers.
    pub(crate) fn uncompressed(&self) -> Vec<String> {
        let inside = |layer: &Descriptor| {
            let bytes = self.store.get(layer);
            if !layer.media_type.ends_with("gzip") {
                return digest(&bytes);
            }
            let mut tar = Vec::new();
            flate2::read::MultiGzDecoder::new(&*bytes).read_to_end(&mut tar).unwrap();
            digest(&tar)
        };
        self.layers().iter().map(inside).collect()
    }
}

fn walk(
    part: &Descriptor,
    get: &impl Fn(&Descriptor) -> Vec<u8>,
    seen: &mut BTreeSet<String>,
    parts: &mut Vec<Descriptor>,
) {
    if !seen.insert(part.digest.clone()) {
        return;
    }
    if part.is_manifest() {
        for next in named(&get(part)) {
            walk(&next, get, seen, parts);
        }
    }
    parts.push(part.clone());
}

/// The required parts of a manifest or index: config, layers, manifests, but not the subject.
pub(crate) fn named(manifest: &[u8]) -> Vec<Descriptor> {
    let manifest: Value = serde_json::from_slice(manifest).unwrap();
    let lists = ["layers", "manifests"].into_iter().filter_map(|key| manifest[key].as_array()).flatten();
    lists.chain(manifest.get("config")).map(Descriptor::parse).collect()
}

/// The extent of a comparison, so that an empty one fails.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Compared {
    pub(crate) manifests: usize,
    pub(crate) blobs: usize,
    pub(crate) bytes: u64,
}

impl Compared {
    /// Fails the test if less was compared than the image has.
    pub(crate) fn at_least(&self, manifests: usize, blobs: usize, bytes: u64) {
        let enough = self.manifests >= manifests && self.blobs >= blobs && self.bytes >= bytes;
        assert!(enough, "only {self:?} was compared, and not {manifests} manifests, {blobs} blobs, {bytes} bytes");
    }
}

/// Compares every byte of an image with the result of `fetch`.
pub(crate) fn compare(image: &Image, fetch: impl Fn(&Descriptor) -> Vec<u8>) -> Compared {
    let mut compared = Compared::default();
    for part in image.parts() {
        let got = fetch(&part);
        let made = image.store.get(&part);
        // Without `assert_eq`, which would print 64 MiB of numbers.
        let same = got == made && digest(&got) == part.digest && got.len() as u64 == part.size;
        assert!(same, "{part:?}: {} bytes came back, with the digest {}", got.len(), digest(&got));
        *(if part.is_manifest() { &mut compared.manifests } else { &mut compared.blobs }) += 1;
        compared.bytes += part.size;
    }
    compared
}
