//! One manifest with everything about it: its facts, layers, manifests, files, tags and referrers.

use bytes::Bytes;
use serde_json::Value;

use super::holders::Holders;
use super::removal::Removals;
use super::signed::ReferrerTree;
use crate::content::repository::{Error, Repository};
use crate::content::rows::{Details, Facts, Pulls, Rows};
use crate::kit::clock::Timestamp;
use crate::oci::{Digest, Reference, Tag, without_lone_surrogates};

/// A larger manifest is shown without its parts, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 1024 * 1024;
/// The most layers and manifests of an index, and annotations, that are shown.
const PARTS_MAX: usize = 500;
const ANNOTATIONS_MAX: usize = 100;
/// The most tags that are named.
const TAGS_MAX: usize = 100;
/// The most other repositories that are named for a layer.
const HOLDERS_MAX: usize = 5;
/// The most indexes that are named.
const LISTERS_MAX: usize = 10;

/// The annotation with the name of a file.
const TITLE: &str = "org.opencontainers.image.title";

/// A blob or a manifest that a manifest names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// `None` if the text is not a digest.
    pub(crate) digest: Option<Digest>,
    pub(crate) media_type: String,
    /// As the manifest says.
    pub(crate) size: u64,
    /// The name of the file, for files of artifacts.
    pub(crate) title: Option<String>,
}

/// A layer, or a file of an artifact.
#[derive(Debug)]
pub(crate) struct LayerPart {
    pub(crate) part: Part,
    /// Whether the repository has it. Otherwise clients get it elsewhere.
    pub(crate) is_here: bool,
    /// Some visible repositories that have it too.
    pub(crate) other_repositories: Vec<String>,
    pub(crate) has_more_repositories: bool,
}

/// A manifest that an index lists.
#[derive(Debug)]
pub(crate) struct ChildPart {
    pub(crate) part: Part,
    /// `None` if the repository does not have it.
    pub(crate) facts: Option<Facts>,
    pub(crate) is_here: bool,
    /// As the index says, such as `linux/amd64`. Empty if it says nothing.
    pub(crate) platform: String,
    /// The manifest that an attestation of BuildKit is about.
    pub(crate) attests: Option<Digest>,
}

/// One manifest with everything about it.
#[derive(Debug)]
pub(crate) struct ManifestReport {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) pushed: Timestamp,
    pub(crate) facts: Option<(Facts, Details)>,
    pub(crate) pulls: Pulls,
    /// The bytes that nothing else that the caller sees needs. `None` if there are too many parts to count.
    pub(crate) only_here: Option<u64>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) has_more_tags: bool,
    /// Indexes of the repository that list it.
    pub(crate) indexes: Vec<Digest>,
    pub(crate) artifact_type: Option<String>,
    pub(crate) subject: Option<Digest>,
    pub(crate) annotations: Vec<(String, String)>,
    pub(crate) config: Option<Part>,
    pub(crate) layers: Vec<LayerPart>,
    pub(crate) children: Vec<ChildPart>,
    pub(crate) referrers: ReferrerTree,
    /// The manifest as it was pushed. Empty for a very large one.
    pub(crate) bytes: Bytes,
    /// Whether a limit has left parts out.
    pub(crate) is_part: bool,
}

impl Repository {
    /// Everything about a manifest. Other repositories are named if they are `visible`. Takes no lease and counts no pull.
    pub(crate) fn manifest_report(
        &self,
        reference: &Reference,
        visible: &dyn Fn(&str) -> bool,
    ) -> Result<ManifestReport, Error> {
        self.stores.database.read(|tx| {
            let digest = match reference {
                Reference::Digest(digest) => Some(*digest),
                Reference::Tag(tag) => tx.tag(&self.name, tag)?.map(|row| row.digest),
            };
            let unknown = || Error::ManifestUnknown { reference: reference.clone() };
            let digest = digest.ok_or_else(unknown)?;
            let row = tx.manifest(&self.name, digest)?.ok_or_else(unknown)?;
            let mut tags = tx.first_tags_of(&self.name, digest, TAGS_MAX + 1)?;
            let has_more_tags = tags.len() > TAGS_MAX;
            tags.truncate(TAGS_MAX);
            let mut report = ManifestReport {
                digest,
                media_type: row.media_type,
                pushed: row.created,
                facts: tx.facts_and_details(&self.name, digest)?,
                pulls: tx.pulls(&self.name, digest)?,
                only_here: Removals::new(tx, &self.name, visible).only_here(digest)?,
                tags,
                has_more_tags,
                indexes: self.present_listers(tx, digest)?,
                artifact_type: None,
                subject: None,
                annotations: Vec::new(),
                config: None,
                layers: Vec::new(),
                children: Vec::new(),
                referrers: self.referrer_tree(tx, digest)?,
                bytes: Bytes::new(),
                is_part: row.size > DOCUMENT_BYTES_MAX,
            };
            if row.size <= DOCUMENT_BYTES_MAX {
                report.bytes = tx.manifest_bytes(&self.name, digest)?.unwrap_or_default();
                let text = without_lone_surrogates(str::from_utf8(&report.bytes).unwrap_or_default()).into_owned();
                let document: Value = serde_json::from_str(&text).unwrap_or_default();
                self.read_document(tx, &document, visible, &mut report)?;
            }
            Ok(report)
        })
    }

    /// Whether a manifest exists and is not deleted. Takes no lease.
    pub(crate) fn has_present_manifest(&self, digest: Digest) -> Result<bool, Error> {
        Ok(self.stores.database.read(|tx| tx.manifest(&self.name, digest))?.is_some())
    }

    fn present_listers(&self, tx: &Rows, digest: Digest) -> Result<Vec<Digest>, Error> {
        let mut present = Vec::new();
        for lister in tx.listers(&self.name, digest, LISTERS_MAX)? {
            if tx.manifest(&self.name, lister)?.is_some() {
                present.push(lister);
            }
        }
        Ok(present)
    }

    /// Adds the parts of the manifest. Fields of another form than usual are left out.
    fn read_document(
        &self,
        tx: &Rows,
        document: &Value,
        visible: &dyn Fn(&str) -> bool,
        report: &mut ManifestReport,
    ) -> Result<(), Error> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        report.artifact_type = text(&document["artifactType"]).filter(|kind| !kind.is_empty());
        report.subject = document["subject"]["digest"].as_str().and_then(|digest| digest.parse().ok());
        report.annotations = annotations(&document["annotations"]);
        report.config = document["config"].is_object().then(|| part(&document["config"]));
        let list = |name: &str| document[name].as_array().map(Vec::as_slice).unwrap_or_default();
        let (layers, children) = (list("layers"), list("manifests"));
        report.is_part |= layers.len().max(children.len()) > PARTS_MAX;
        let mut holders = Holders::new(tx, &self.name, visible);
        for layer in layers.iter().take(PARTS_MAX) {
            let part = part(layer);
            let is_here = part.digest.map(|digest| tx.link(digest, &self.name)).transpose()?.flatten().is_some();
            let (other_repositories, has_more_repositories) = match part.digest {
                Some(digest) if is_here => holders.of(digest, HOLDERS_MAX)?,
                _ => (Vec::new(), false),
            };
            report.layers.push(LayerPart { part, is_here, other_repositories, has_more_repositories });
        }
        for child in children.iter().take(PARTS_MAX) {
            let part = part(child);
            let (mut facts, mut is_here) = (None, false);
            if let Some(digest) = part.digest {
                is_here = tx.manifest(&self.name, digest)?.is_some();
                facts = if is_here { tx.facts(&self.name, digest)? } else { None };
            }
            let attested = &child["annotations"]["vnd.docker.reference.digest"];
            let attests = attested.as_str().and_then(|digest| digest.parse().ok());
            let platform = platform(&child["platform"]);
            report.children.push(ChildPart { part, facts, is_here, platform, attests });
        }
        Ok(())
    }
}

/// Reads a descriptor.
fn part(descriptor: &Value) -> Part {
    Part {
        digest: descriptor["digest"].as_str().and_then(|digest| digest.parse().ok()),
        media_type: descriptor["mediaType"].as_str().unwrap_or_default().to_owned(),
        size: descriptor["size"].as_u64().unwrap_or_default(),
        title: descriptor["annotations"][TITLE].as_str().map(str::to_owned),
    }
}

fn annotations(value: &Value) -> Vec<(String, String)> {
    let Some(map) = value.as_object() else { return Vec::new() };
    let texts = map.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    texts.take(ANNOTATIONS_MAX).collect()
}

/// A platform in the form of `docker pull --platform`.
fn platform(value: &Value) -> String {
    let mut platform = String::new();
    for part in ["os", "architecture", "variant"].map(|name| value[name].as_str().unwrap_or_default()) {
        if !platform.is_empty() && !part.is_empty() {
            platform.push('/');
        }
        platform.push_str(part);
    }
    platform
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::content::repository::scene::{Scene, image, index, rules};

    #[test]
    fn a_report_has_layers_with_visible_holders_and_the_manifests_of_an_index() {
        let scene = Scene::new(rules());
        let repository = scene.repository("a");
        let [config, layer] = [&b"{}"[..], b"layer"].map(|bytes| repository.push_blob(bytes));
        for name in ["b", "c"] {
            scene.repository(name).mount(layer, |_| true).unwrap();
        }
        let digest = repository.push_manifest(&image(&[config, layer], None, "\u{1f600}"), &["1"]).unwrap();
        let lister = repository.push_manifest(&index(&[digest], "i"), &["i"]).unwrap();
        let report = |text: &str| repository.manifest_report(&text.parse().unwrap(), &|name| name == "c");
        let one = report("1").unwrap();
        assert_eq!((one.digest, one.indexes.as_slice(), one.layers.len()), (digest, &[lister][..], 1));
        assert_eq!((one.layers[0].part.digest, one.layers[0].is_here), (Some(layer), true));
        assert_eq!(
            (one.layers[0].other_repositories.as_slice(), one.layers[0].has_more_repositories),
            (&["c".to_owned()][..], false)
        );
        assert_eq!(one.annotations, [("note".to_owned(), "\u{1f600}".to_owned())]);
        let list = report(&lister.to_string()).unwrap();
        assert_eq!(
            (list.children.len(), list.children[0].part.digest, list.children[0].is_here),
            (1, Some(digest), true)
        );
        assert!(report("absent").is_err());
    }

    #[test]
    fn descriptors_of_odd_forms_are_no_error() {
        for text in ["null", "1", "[]", r#"{"digest":1,"size":-1,"mediaType":{},"annotations":[]}"#] {
            assert_eq!(part(&serde_json::from_str(text).unwrap()), Part::default(), "{text}");
        }
        let value = serde_json::json!({ "os": "linux", "architecture": "arm", "variant": "v7" });
        assert_eq!(platform(&value), "linux/arm/v7");
    }
}
