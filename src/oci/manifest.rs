//! [`Manifest`]: the fields of a manifest that a registry uses. The bytes are stored and served unchanged.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::media_type::MEDIA_TYPE_LENGTH_MAX;
use super::pushed::{self, Faults};
use super::{BoundedList, Digest, JsonObject, MediaType, without_lone_surrogates};

/// The most descriptors in one manifest. Each costs a look-up, and the largest known images have a few hundred.
const DESCRIPTORS_MAX: usize = 10_000;

/// A manifest or index with a valid structure.
#[derive(Clone, Debug)]
pub struct Manifest {
    media_type: MediaType,
    artifact_type: Option<String>,
    config: Option<Digest>,
    annotations: BTreeMap<String, String>,
    blobs: Vec<Digest>,
    optional_blobs: Vec<Digest>,
    manifests: Vec<Child>,
    subject: Option<Digest>,
}

/// An entry of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// The digest of the manifest or blob.
    pub digest: Digest,
    /// Whether it is a manifest, according to its media type. Build caches list blobs in an index.
    pub is_manifest: bool,
}

/// The fields of all four manifest types.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u32>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<JsonObject<Descriptor>>,
    layers: Option<Descriptors>,
    manifests: Option<Descriptors>,
    subject: Option<JsonObject<Descriptor>>,
    /// Go clients write `null` for an empty value.
    annotations: Option<BTreeMap<String, Option<String>>>,
}

/// The used fields of a descriptor. The others may have any value, as in docker-registry.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: String,
}

type Descriptors = BoundedList<JsonObject<Descriptor>, DESCRIPTORS_MAX>;

impl Manifest {
    /// Reads and checks a manifest. Its type is the client's `content_type`, or its own `mediaType`, or follows from its
    /// fields.
    pub fn read(bytes: &[u8], content_type: Option<&MediaType>) -> Result<Self, InvalidManifest> {
        // The parser does not check whether skipped fields are UTF-8.
        let text = str::from_utf8(bytes).map_err(|error| InvalidManifest::Malformed(error.to_string()))?;
        let text: Cow<'_, str> = without_lone_surrogates(text);
        let unusable = |error: serde_json::Error| InvalidManifest::Malformed(error.to_string());
        let JsonObject::<Document>(document) = serde_json::from_str(&text).map_err(unusable)?;
        let media_type = document.media_type(content_type)?;
        if document.schema_version != Some(2) {
            return Err(InvalidManifest::Structure("schemaVersion must be 2"));
        }
        let layers = document.layers.as_ref().map(|layers| &layers.0[..]);
        let manifests = document.manifests.as_ref().map(|manifests| &manifests.0[..]);
        if layers.map_or(0, <[_]>::len) + manifests.map_or(0, <[_]>::len) > DESCRIPTORS_MAX {
            return Err(InvalidManifest::Structure("a manifest has at most 10000 descriptors"));
        }
        let (mut blobs, mut optional_blobs, mut config_digest) = (Vec::new(), Vec::new(), None);
        let mut children = Vec::new();
        if media_type.is_index() {
            if document.config.is_some() || layers.is_some() {
                return Err(InvalidManifest::Structure("an index has neither config nor layers"));
            }
            // Go clients write `null` for an empty list.
            for descriptor in manifests.unwrap_or_default() {
                let is_manifest = is_manifest(descriptor);
                children.push(Child { digest: digest_of(descriptor)?, is_manifest });
            }
        } else {
            if manifests.is_some() {
                return Err(InvalidManifest::Structure("an image manifest has no manifests"));
            }
            let config =
                document.config.as_ref().ok_or(InvalidManifest::Structure("an image manifest must have a config"))?;
            let config = digest_of(config)?;
            config_digest = Some(config);
            blobs.push(config);
            for descriptor in layers.unwrap_or_default() {
                let blobs = if is_kept_elsewhere(descriptor) { &mut optional_blobs } else { &mut blobs };
                blobs.push(digest_of(descriptor)?);
            }
        }
        blobs.sort_unstable();
        blobs.dedup();
        optional_blobs.sort_unstable();
        optional_blobs.dedup();
        optional_blobs.retain(|digest| blobs.binary_search(digest).is_err());
        let subject = document.subject.as_deref().map(digest_of).transpose()?;
        let artifact_type = document
            .artifact_type
            .filter(|kind| !kind.is_empty())
            .or_else(|| document.config.and_then(|config| config.0.media_type))
            .filter(|kind| !kind.is_empty());
        // It is part of a key, and of the link to the next page of referrers.
        if artifact_type.as_ref().is_some_and(|kind| kind.len() > MEDIA_TYPE_LENGTH_MAX) {
            return Err(InvalidManifest::Structure("an artifact type has at most 255 characters"));
        }
        Ok(Self {
            media_type,
            artifact_type,
            config: config_digest,
            annotations: document.annotations.unwrap_or_default().into_iter().map(text_or_empty).collect(),
            blobs,
            optional_blobs,
            manifests: children,
            subject,
        })
    }

    /// Reads and checks a manifest that is pushed. Refuses fields that other readers of the same bytes would take for
    /// fields that are read here, because the two would see different content.
    pub fn read_pushed(bytes: &[u8], content_type: Option<&MediaType>) -> Result<Self, InvalidManifest> {
        Self::read_strictly(bytes, content_type, |faults| faults.spelling)
    }

    /// Reads and checks a manifest that a client pushes. Also refuses a descriptor without a valid size, because most
    /// clients could not pull the manifest. Mirrored and imported manifests must stay as the other registry has them.
    pub fn read_from_client(bytes: &[u8], content_type: Option<&MediaType>) -> Result<Self, InvalidManifest> {
        Self::read_strictly(bytes, content_type, |faults| faults.spelling.or(faults.size))
    }

    fn read_strictly(
        bytes: &[u8],
        content_type: Option<&MediaType>,
        fault: fn(Faults) -> Option<String>,
    ) -> Result<Self, InvalidManifest> {
        let manifest = Self::read(bytes, content_type)?;
        let text = without_lone_surrogates(str::from_utf8(bytes).unwrap_or_default());
        let faults = pushed::faults(&text).map_err(|error| InvalidManifest::Malformed(error.to_string()))?;
        fault(faults).map_or(Ok(manifest), |why| Err(InvalidManifest::Malformed(why)))
    }

    /// The same manifest, if the repository may lack any of its blobs.
    #[must_use]
    pub fn with_optional_blobs(mut self) -> Self {
        self.optional_blobs.append(&mut self.blobs);
        self.optional_blobs.sort_unstable();
        self
    }

    /// The size of a blob that an image manifest names, if it says one.
    pub fn blob_size(bytes: &[u8], digest: Digest) -> Option<u64> {
        #[derive(Deserialize)]
        struct Blob {
            digest: String,
            size: u64,
        }
        #[derive(Deserialize)]
        struct Blobs {
            config: Option<Blob>,
            layers: Option<Vec<Blob>>,
        }
        let Blobs { config, layers } = serde_json::from_slice(bytes).ok()?;
        let mut blobs = config.into_iter().chain(layers.unwrap_or_default());
        blobs.find(|blob| blob.digest.parse().ok() == Some(digest)).map(|blob| blob.size)
    }

    /// Refuses a `Content-Type` that no manifest has.
    pub fn check_type(content_type: Option<&MediaType>) -> Result<(), InvalidManifest> {
        match content_type.filter(|given| !given.is_manifest()) {
            None => Ok(()),
            Some(other) => Err(InvalidManifest::UnsupportedType(super::shown(other.as_str()))),
        }
    }

    /// The type of the manifest, one of [`MediaType::MANIFESTS`].
    pub const fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// The config of an image.
    pub const fn config(&self) -> Option<Digest> {
        self.config
    }

    /// The annotations of the manifest itself.
    pub const fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// The blobs that the manifest requires, each once, without [`Manifest::optional_blobs`].
    pub fn blobs(&self) -> &[Digest] {
        &self.blobs
    }

    /// Layers of nondistributable and foreign types, each once, without those in [`Manifest::blobs`]. A repository may
    /// lack them. Those that were pushed are referenced like other layers.
    pub fn optional_blobs(&self) -> &[Digest] {
        &self.optional_blobs
    }

    /// The entries of an index, with duplicates.
    pub fn manifests(&self) -> &[Child] {
        &self.manifests
    }

    /// The manifest that this one refers to. It may be missing.
    pub const fn subject(&self) -> Option<Digest> {
        self.subject
    }

    /// The type that referrers are filtered by: `artifactType`, or else the media type of the config (distribution-spec,
    /// "Listing Referrers").
    pub fn artifact_type(&self) -> Option<&str> {
        self.artifact_type.as_deref()
    }

    /// The descriptor of this manifest in a list of referrers, as JSON.
    #[expect(clippy::missing_panics_doc, reason = "texts and numbers are always JSON")]
    pub fn referrer_descriptor(&self, digest: Digest, size: u64) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Referrer<'a> {
            media_type: &'a str,
            digest: String,
            size: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            artifact_type: Option<&'a str>,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            annotations: &'a BTreeMap<String, String>,
        }
        let referrer = Referrer {
            media_type: self.media_type.as_str(),
            digest: digest.to_string(),
            size,
            artifact_type: self.artifact_type(),
            annotations: &self.annotations,
        };
        serde_json::to_vec(&referrer).expect("texts and numbers are always JSON")
    }
}

impl Document {
    fn media_type(&self, content_type: Option<&MediaType>) -> Result<MediaType, InvalidManifest> {
        let own = self.media_type.as_deref().filter(|own| !own.is_empty());
        let named = match (content_type, own) {
            (Some(header), Some(own)) if header.as_str() != own => {
                return Err(InvalidManifest::TypesDiffer { header: header.to_string(), own: super::shown(own) });
            }
            (Some(header), _) => header.as_str(),
            (None, Some(own)) => own,
            (None, None) if self.manifests.is_some() => MediaType::OCI_INDEX,
            (None, None) => MediaType::OCI_MANIFEST,
        };
        named
            .parse()
            .ok()
            .filter(MediaType::is_manifest)
            .ok_or_else(|| InvalidManifest::UnsupportedType(super::shown(named)))
    }
}

/// Whether clients get a layer from another place (image-spec, "Non-Distributable Layers").
fn is_kept_elsewhere(descriptor: &Descriptor) -> bool {
    let kind = descriptor.media_type();
    kind.contains(".nondistributable.") || kind.contains(".foreign.")
}

fn is_manifest(descriptor: &Descriptor) -> bool {
    MediaType::MANIFESTS.contains(&descriptor.media_type())
}

fn digest_of(descriptor: &Descriptor) -> Result<Digest, InvalidManifest> {
    descriptor.digest.parse().map_err(|error: super::InvalidDigest| InvalidManifest::Malformed(error.to_string()))
}

/// Replaces the value `null` of an annotation by an empty text.
fn text_or_empty((key, value): (String, Option<String>)) -> (String, String) {
    (key, value.unwrap_or_default())
}

impl Descriptor {
    /// The media type, or an empty text if the descriptor has none.
    fn media_type(&self) -> &str {
        self.media_type.as_deref().unwrap_or_default()
    }
}

/// Bytes are not a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidManifest {
    /// Not JSON, or a field has the wrong form.
    #[error("malformed manifest: {0}")]
    Malformed(String),
    /// The fields do not fit the type.
    #[error("malformed manifest: {0}")]
    Structure(&'static str),
    /// The types of the client and of the manifest differ.
    #[error("the content type is {header}, and the mediaType of the manifest is {own:?}")]
    TypesDiffer {
        /// The `Content-Type` header.
        header: String,
        /// The field `mediaType`.
        own: String,
    },
    /// The registry does not store this type as a manifest.
    #[error("unsupported manifest media type {0:?}, expected one of {types}", types = MediaType::MANIFESTS.join(", "))]
    UnsupportedType(String),
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    const C: &str = "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

    fn descriptor(kind: &str, digest: &str) -> String {
        format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":1}}"#)
    }

    fn read(json: &str, content_type: Option<&str>) -> Result<Manifest, InvalidManifest> {
        let content_type = content_type.map(|text| text.parse().unwrap());
        Manifest::read(json.as_bytes(), content_type.as_ref())
    }

    #[test]
    fn an_image_lists_each_blob_once_and_none_that_is_kept_elsewhere() {
        let config = descriptor("application/vnd.oci.image.config.v1+json", A);
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar", B);
        // The configuration has the digest of one of them, and so that one must be here.
        let foreign =
            [A, C].map(|digest| descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", digest));
        let foreign = foreign.join(",");
        let json = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer},{layer},{foreign},{foreign}]}}"#);
        let manifest = read(&json, None).unwrap();
        assert_eq!(manifest.media_type().as_str(), MediaType::OCI_MANIFEST);
        assert_eq!(manifest.blobs(), [A.parse().unwrap(), B.parse().unwrap()]);
        assert_eq!(manifest.optional_blobs(), [C.parse().unwrap()]);
        assert_eq!(manifest.artifact_type(), Some("application/vnd.oci.image.config.v1+json"));
    }

    #[test]
    fn an_index_without_artifact_type_has_none() {
        let manifest = read(r#"{"schemaVersion":2,"manifests":[]}"#, None).unwrap();
        assert_eq!(manifest.media_type().as_str(), MediaType::OCI_INDEX);
        assert_eq!(manifest.artifact_type(), None);
    }

    #[test]
    fn go_writes_null_for_an_empty_list() {
        let config = descriptor("application/vnd.oci.empty.v1+json", A);
        let json = format!(r#"{{"schemaVersion":2,"config":{config},"layers":null,"annotations":null}}"#);
        assert_eq!(read(&json, None).unwrap().blobs().len(), 1);
    }

    #[test]
    fn unused_fields_may_have_any_form() {
        let config = descriptor("application/vnd.oci.image.config.v1+json", A);
        for (json, content_type) in [
            (format!(r#"{{"schemaVersion":2,"config":{config},"annotations":{{"a":null}}}}"#), None),
            (format!(r#"{{"schemaVersion":2,"config":{config},"annotations":{{"a":"\ud83d"}}}}"#), None),
            (
                format!(r#"{{"schemaVersion":2,"config":{config},"annotations":{{"\udc00":"\ud83d\ud83d\ude00"}}}}"#),
                None,
            ),
            (format!(r#"{{"schemaVersion":2,"config":{config},"\ud83d":1}}"#), None),
            (format!(r#"{{"schemaVersion":2,"config":{{"digest":"{A}"}}}}"#), None),
            (format!(r#"{{"schemaVersion":2,"config":{{"digest":"{A}","size":null,"platform":{{"os":1}}}}}}"#), None),
            (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{{"digest":"{B}","size":-1}}]}}"#), None),
            (
                format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{{"digest":"{B}","urls":5,"data":[]}}]}}"#),
                None,
            ),
            (r#"{"schemaVersion":2,"manifests":null}"#.into(), Some(MediaType::OCI_INDEX)),
            (format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{A}","platform":{{}}}}]}}"#), None),
        ] {
            assert!(read(&json, content_type).is_ok(), "{json} was refused: {:?}", read(&json, content_type));
        }
    }

    #[test]
    fn an_annotation_that_is_null_or_half_a_character_reaches_the_list_of_referrers() {
        let config = descriptor("a/b", A);
        let json = format!(
            r#"{{"schemaVersion":2,"config":{config},"annotations":{{"a":null,"b":"x\ud83dy"}},"subject":{config}}}"#
        );
        let listed = read(&json, None).unwrap().referrer_descriptor(B.parse().unwrap(), 1);
        let listed: serde_json::Value = serde_json::from_slice(&listed).unwrap();
        assert_eq!(listed["annotations"], serde_json::json!({ "a": "", "b": "x\u{fffd}y" }));
    }

    #[test]
    fn an_invalid_manifest_is_refused() {
        let config = descriptor("application/vnd.oci.image.config.v1+json", A);
        let short = descriptor("a/b", "sha256:aa");
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let many = vec![config.clone(); DESCRIPTORS_MAX + 1].join(",");
        let oci = Some(MediaType::OCI_MANIFEST);
        for (json, content_type) in [
            (String::new(), None),
            ("null".into(), None),
            ("[]".into(), None),
            ("{}".into(), None),
            ("{".into(), None),
            (deep, None),
            (r#"{"schemaVersion":2}"#.into(), None),
            (format!(r#"{{"schemaVersion":1,"config":{config},"layers":[]}}"#), None),
            (format!(r#"{{"config":{config},"layers":[]}}"#), None),
            (format!(r#"{{"schemaVersion":2,"config":{short},"layers":[]}}"#), None),
            (r#"{"schemaVersion":2,"config":{},"layers":[]}"#.into(), None),
            (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[null]}}"#), None),
            (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{{"digest":null}}]}}"#), None),
            (format!(r#"{{"schemaVersion":2,"config":{config},"annotations":{{"a":"\ud8"}}}}"#), None),
            (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{short}]}}"#), None),
            (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{many}]}}"#), None),
            (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"subject":{short}}}"#), None),
            (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#), oci),
            (format!(r#"{{"schemaVersion":2,"config":{config},"manifests":[]}}"#), Some(MediaType::OCI_INDEX)),
            (r#"{"schemaVersion":2,"manifests":[]}"#.into(), oci),
            (format!(r#"{{"schemaVersion":2,"mediaType":"a/b","config":{config},"layers":[]}}"#), None),
            (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#), Some("application/json")),
            (
                format!(
                    r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[]}}"#,
                    MediaType::DOCKER_MANIFEST
                ),
                oci,
            ),
            (format!(r#"{{"schemaVersion":2,"config":{config},"config":{config},"layers":[]}}"#), None),
            (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"annotations":{{"a":1}}}}"#), None),
            (format!("[2,null,null,{config},[],null,null,null]"), None),
            (format!(r#"{{"schemaVersion":2,"config":["a/b","{A}",1,null,null,null,null,null]}}"#), None),
            (
                format!(
                    r#"{{"schemaVersion":2,"config":{config},"layers":[["a/b","{A}",1,null,null,null,null,null]]}}"#
                ),
                None,
            ),
            (format!(r#"{{"schemaVersion":2,"config":{config},"artifactType":"{}"}}"#, "a".repeat(256)), None),
            (format!(r#"{{"schemaVersion":2,"config":{}}}"#, descriptor(&"a".repeat(256), A)), None),
        ] {
            assert!(read(&json, content_type).is_err(), "{json:.200} was taken");
        }
    }
}
