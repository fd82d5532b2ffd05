//! Archives of `docker save` before version 25, and of `crane pull`: a list of images instead of manifests. docker does not
//! compress the layers, and crane does.
//!
//! They have no digests of manifests. So each image gets the manifest that a push by docker would write, with compressed
//! layers. The same archive gives the same manifests again, since nothing in them depends on the time.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde_json::{Value, json};

use super::archive::Archive;
use super::layout::Layout;
use super::scratch::ScratchFile;
use super::{Content, Scratch, SourceError};
use crate::content::blobs::FilePart;
use crate::oci::layout::ANNOTATION_REF_NAME;
use crate::oci::{Algorithm, Digest, Hasher};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// The beginning of a file of gzip (RFC 1952, 2.3.1), and of one of zstd (RFC 8878, 3.1.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// An entry of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The blobs of converted images.
#[derive(Debug, Default)]
struct Converted {
    parts: HashMap<Digest, FilePart>,
}

impl Content for Converted {
    fn part(&self, digest: Digest) -> io::Result<Option<FilePart>> {
        Ok(self.parts.get(&digest).cloned())
    }
}

/// Makes a layout of the images in `list`, the file `manifest.json`. Compressed layers are temporary files in `scratch`.
pub(super) fn convert(archive: &Archive, list: &[u8], scratch: &Scratch) -> Result<Layout, SourceError> {
    let path = archive.path();
    let invalid = |why: String| SourceError::archive(path, why);
    let images: Vec<Image> =
        serde_json::from_slice(list).map_err(|error| invalid(format!("manifest.json: {error}")))?;
    let (mut converted, mut layers, mut index) = (Converted::default(), HashMap::new(), Vec::new());
    for image in images {
        let find = |name: &str| archive.part(name).ok_or_else(|| invalid(format!("{name} is missing in the archive")));
        let mut descriptors = Vec::new();
        for name in &image.layers {
            let layer = if let Some(layer) = layers.get(name) {
                Value::clone(layer)
            } else {
                let found = find(name)?;
                let (digest, part) = match begin(&found).map_err(SourceError::io("read", path))? {
                    begin if begin.starts_with(&GZIP) => {
                        (found.digest(Algorithm::Sha256).map_err(SourceError::io("read", path))?, found)
                    }
                    begin if begin.starts_with(&ZSTD) => {
                        return Err(invalid(format!(
                            "{name} is compressed with zstd, for which docker has no media type: write an archive of OCI, as \
                             `skopeo copy … oci-archive:FILE` does"
                        )));
                    }
                    _ => compress(&found, scratch).map_err(SourceError::io("compress", path))?,
                };
                let layer = json!({ "mediaType": LAYER, "size": part.size(), "digest": digest.to_string() });
                converted.parts.insert(digest, part);
                layers.insert(name.clone(), layer.clone());
                layer
            };
            descriptors.push(layer);
        }
        let config = find(&image.config)?;
        let digest = config.digest(Algorithm::Sha256).map_err(SourceError::io("read", path))?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": { "mediaType": CONFIG, "size": config.size(), "digest": digest.to_string() },
            "layers": descriptors,
        });
        converted.parts.insert(digest, config);
        let (digest, part) =
            keep(manifest.to_string().as_bytes(), scratch).map_err(SourceError::io("write to", scratch.path()))?;
        let descriptor = |name: Option<&String>| {
            let annotations = name.map(|name| json!({ ANNOTATION_REF_NAME: name }));
            json!({ "mediaType": MANIFEST, "size": part.size(), "digest": digest.to_string(), "annotations": annotations })
        };
        let names = image.repo_tags.unwrap_or_default();
        if names.is_empty() {
            index.push(descriptor(None));
        }
        index.extend(names.iter().map(|name| descriptor(Some(name))));
        converted.parts.insert(digest, part);
    }
    let index = json!({ "schemaVersion": 2, "manifests": index }).to_string().into_bytes();
    Ok(Layout::new(Arc::new(converted), index, path.join("manifest.json")))
}

/// The first bytes of a layer.
fn begin(layer: &FilePart) -> io::Result<Vec<u8>> {
    let mut parts = layer.parts();
    Ok(parts.next()?.map(|(_, bytes)| bytes.iter().take(ZSTD.len()).copied().collect()).unwrap_or_default())
}

/// Compresses a layer. The header of the result has no time and no name.
fn compress(layer: &FilePart, scratch: &Scratch) -> io::Result<(Digest, FilePart)> {
    let output = Hashing::new(scratch)?;
    let (mut encoder, mut parts) = (GzEncoder::new(output, Compression::default()), layer.parts());
    while let Some((_, bytes)) = parts.next()? {
        encoder.write_all(bytes)?;
    }
    Ok(encoder.finish()?.end(scratch))
}

/// Writes bytes to a temporary file.
fn keep(bytes: &[u8], scratch: &Scratch) -> io::Result<(Digest, FilePart)> {
    let mut output = Hashing::new(scratch)?;
    output.write_all(bytes)?;
    Ok(output.end(scratch))
}

/// A file whose bytes are hashed while they are written.
struct Hashing<'a> {
    file: ScratchFile<'a>,
    hasher: Hasher,
    size: u64,
}

impl<'a> Hashing<'a> {
    fn new(scratch: &'a Scratch) -> io::Result<Self> {
        Ok(Self { file: scratch.file()?, hasher: Hasher::new(Algorithm::Sha256), size: 0 })
    }

    fn end(self, scratch: &Scratch) -> (Digest, FilePart) {
        let file = Arc::new(self.file.into_file());
        (self.hasher.finish(), FilePart::section(&file, scratch.path(), 0, self.size))
    }
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
