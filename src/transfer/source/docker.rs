//! Archives of `docker save` before version 25, and of `crane pull`: a list of images instead of manifests. docker does not
//! compress the layers, and crane does.
//!
//! They have no digests of manifests. So each image gets the manifest that a push by docker would write, with compressed
//! layers. The same archive gives the same manifests again, since nothing in them depends on the time.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::{GzEncoder, MultiGzDecoder};
use serde::Deserialize;
use serde_json::{Value, json};

use super::archive::{Archive, GZIP, ZSTD};
use super::layout::Layout;
use super::scratch::ScratchFile;
use super::{Content, Scratch, SourceError};
use crate::content::blobs::FilePart;
use crate::oci::layout::ANNOTATION_REF_NAME;
use crate::oci::{Algorithm, Digest, Hasher};
use crate::transfer::Problem;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// The largest config that is read.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// A config (image-spec, config.md). Only what the layers are checked with.
#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

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

/// A layer of the archive.
#[derive(Clone)]
struct Layer {
    part: FilePart,
    digest: Digest,
    /// The digest of its uncompressed bytes, which the config of an image names.
    diff: Digest,
}

/// The images that are converted.
struct Conversion<'a> {
    archive: &'a Archive,
    scratch: &'a Scratch,
    converted: Converted,
    /// The layers by their names in the archive.
    layers: HashMap<String, Layer>,
    index: Vec<Value>,
}

/// Why an image is not converted.
enum Failure {
    /// The image is damaged. Others are converted.
    Damaged(String),
    Source(SourceError),
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

/// Makes a layout of the images in `list`, the file `manifest.json`. Compressed layers are temporary files in `scratch`. A
/// damaged image does not keep the others out.
pub(super) fn convert(archive: &Archive, list: &[u8], scratch: &Scratch) -> Result<Layout, SourceError> {
    let path = archive.path();
    let images: Vec<Image> =
        serde_json::from_slice(list).map_err(|error| SourceError::archive(path, format!("manifest.json: {error}")))?;
    let (converted, layers) = (Converted::default(), HashMap::new());
    let mut conversion = Conversion { archive, scratch, converted, layers, index: Vec::new() };
    let mut problems = Vec::new();
    for image in images {
        match conversion.add(&image) {
            Ok(()) => {}
            Err(Failure::Damaged(why)) => {
                let name = image.repo_tags.into_iter().flatten().next().unwrap_or(image.config);
                problems.push(Problem::new(name, why));
            }
            Err(Failure::Source(error)) => return Err(error),
        }
    }
    let Conversion { converted, index, .. } = conversion;
    let index = json!({ "schemaVersion": 2, "manifests": index }).to_string().into_bytes();
    Ok(Layout::new(Arc::new(converted), index, path.join("manifest.json")).with_problems(problems))
}

impl Conversion<'_> {
    /// Adds an image.
    fn add(&mut self, image: &Image) -> Result<(), Failure> {
        let (path, scratch) = (self.archive.path(), self.scratch);
        let config = self.part(&image.config)?;
        let bytes = config.read(CONFIG_BYTES_MAX).map_err(SourceError::io("read", path))?;
        let Some(Ok(content)) = bytes.map(|bytes| serde_json::from_slice::<Config>(&bytes)) else {
            return Err(Failure::Damaged(format!("{} is not the config of an image", image.config)));
        };
        let diffs = content.rootfs.diff_ids;
        if diffs.len() != image.layers.len() {
            let (named, layers) = (diffs.len(), image.layers.len());
            return Err(Failure::Damaged(format!("its config names {named} layers, and the archive has {layers}")));
        }
        let mut descriptors = Vec::new();
        for (name, diff) in image.layers.iter().zip(diffs) {
            let Layer { part, digest, diff: found } = self.layer(name)?;
            if found != diff {
                return Err(Failure::Damaged(format!("{name} has the digest {found}, and the config names {diff}")));
            }
            descriptors.push(json!({ "mediaType": LAYER, "size": part.size(), "digest": digest.to_string() }));
            self.converted.parts.insert(digest, part);
        }
        let digest = config.digest(Algorithm::Sha256).map_err(SourceError::io("read", path))?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": { "mediaType": CONFIG, "size": config.size(), "digest": digest.to_string() },
            "layers": descriptors,
        });
        self.converted.parts.insert(digest, config);
        let (digest, part) =
            keep(manifest.to_string().as_bytes(), scratch).map_err(SourceError::io("write to", scratch.path()))?;
        let descriptor = |name: Option<&String>| {
            let annotations = name.map(|name| json!({ ANNOTATION_REF_NAME: name }));
            json!({ "mediaType": MANIFEST, "size": part.size(), "digest": digest.to_string(), "annotations": annotations })
        };
        let names = image.repo_tags.as_deref().unwrap_or_default();
        if names.is_empty() {
            self.index.push(descriptor(None));
        }
        self.index.extend(names.iter().map(|name| descriptor(Some(name))));
        self.converted.parts.insert(digest, part);
        Ok(())
    }

    fn part(&self, name: &str) -> Result<FilePart, Failure> {
        self.archive.part(name).ok_or_else(|| Failure::Damaged(format!("{name} is missing in the archive")))
    }

    /// A layer, compressed.
    fn layer(&mut self, name: &str) -> Result<Layer, Failure> {
        if let Some(layer) = self.layers.get(name) {
            return Ok(layer.clone());
        }
        let (path, part) = (self.archive.path(), self.part(name)?);
        let begin = begin(&part).map_err(SourceError::io("read", path))?;
        if begin.starts_with(&ZSTD) {
            return Err(Failure::Damaged(format!(
                "{name} is compressed with zstd, for which docker has no media type: write an archive of OCI, as \
                 `skopeo copy … oci-archive:FILE` does"
            )));
        }
        let layer = if begin.starts_with(&GZIP) {
            let layer = compressed(part).map_err(SourceError::io("read", path))?;
            layer.map_err(|damage| Failure::Damaged(format!("{name} is damaged: {damage}")))?
        } else {
            compress(&part, self.scratch).map_err(SourceError::io("compress", path))?
        };
        self.layers.insert(name.to_owned(), layer.clone());
        Ok(layer)
    }
}

/// The first bytes of a layer.
fn begin(layer: &FilePart) -> io::Result<Vec<u8>> {
    let mut parts = layer.parts();
    Ok(parts.next()?.map(|(_, bytes)| bytes.iter().take(ZSTD.len()).copied().collect()).unwrap_or_default())
}

/// A layer that is compressed in the archive. The inner error is damage of its compression.
fn compressed(part: FilePart) -> io::Result<io::Result<Layer>> {
    let [mut hasher, diff] = [(); 2].map(|()| Hasher::new(Algorithm::Sha256));
    let (mut decoder, mut parts) = (MultiGzDecoder::new(Sum(diff)), part.parts());
    while let Some((_, bytes)) = parts.next()? {
        hasher.update(bytes);
        if let Err(damage) = decoder.write_all(bytes) {
            return Ok(Err(damage));
        }
    }
    let (digest, end) = (hasher.finish(), decoder.finish());
    Ok(end.map(|Sum(diff)| Layer { part, digest, diff: diff.finish() }))
}

/// Compresses a layer. The header of the result has no time and no name.
fn compress(layer: &FilePart, scratch: &Scratch) -> io::Result<Layer> {
    let (output, mut hasher) = (Hashing::new(scratch)?, Hasher::new(Algorithm::Sha256));
    let (mut encoder, mut parts) = (GzEncoder::new(output, Compression::default()), layer.parts());
    while let Some((_, bytes)) = parts.next()? {
        hasher.update(bytes);
        encoder.write_all(bytes)?;
    }
    let (digest, part) = encoder.finish()?.end(scratch);
    Ok(Layer { part, digest, diff: hasher.finish() })
}

/// The digest of what is written to it.
struct Sum(Hasher);

impl Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
