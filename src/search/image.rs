//! Images: `ImageSummary`, `ManifestSummary`, and their parts.

use std::cell::OnceCell;
use std::rc::Rc;

use apollo_compiler::resolvers::{FieldError, ObjectValue, ResolveInfo, ResolvedValue};
use apollo_compiler::response::JsonValue;

use super::arguments::Page;
use super::record::{Record, Resolved, objects};
use super::repository::may_select;
use super::{Scene, int};
use crate::content::repository::browse::{
    Descriptor, Document, ImageOrder, Referrer, ReferrerQuery, RepositoryFilter, SignatureTool, Tagged, architecture_of,
};
use crate::content::rows::{BuildStep, Details, Facts, Kind, ManifestRow, Platform, Pulls};
use crate::kit::clock::Timestamp;
use crate::oci::{Digest, RepositoryName};

/// The prefix of labels that label-schema.org defined before the image specification had annotations.
const LABEL_SCHEMA: &str = "org.label-schema.";
/// Go's text for "no time", which zot's clients know.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A time of the schema.
pub(super) fn time(time: Option<Timestamp>) -> JsonValue {
    time.map_or_else(|| NEVER.to_owned(), |time| time.to_string()).into()
}

pub(super) fn page_info(total: usize, shown: usize) -> Record {
    Record::new("PageInfo").with("TotalCount", int(total as u64)).with("ItemCount", int(shown as u64))
}

pub(super) fn platform(platform: &Platform) -> Record {
    Record::new("Platform").with("Os", platform.os.as_str()).with("Arch", architecture_of(platform))
}

/// Whether a query may select the annotations of referrers.
pub(super) fn annotations_in(info: &ResolveInfo<'_>) -> bool {
    info.field_selections().iter().any(|field| may_select(&field.selection_set, &["Annotations"]))
}

/// A list of referrers. Each is copied when it is resolved.
pub(super) fn referrers<'a>(list: Rc<[Referrer]>) -> ResolvedValue<'a> {
    objects((0..list.len()).map(move |at| referrer(&list[at])))
}

fn referrer(referrer: &Referrer) -> Record {
    let annotation = |(key, value): &(String, String)| {
        Record::new("Annotation").with("Key", key.as_str()).with("Value", value.as_str())
    };
    Record::new("Referrer")
        .with("MediaType", referrer.media_type.as_str())
        .with("ArtifactType", referrer.artifact_type.as_str())
        .with("Size", int(referrer.size))
        .with("Digest", referrer.digest.as_str())
        .with_list("Annotations", referrer.annotations.iter().map(annotation).collect())
}

/// The registry does not scan images, so all numbers are zero, as in zot without a scanner.
fn vulnerabilities() -> Record {
    let counts = ["Count", "UnknownCount", "LowCount", "MediumCount", "HighCount", "CriticalCount"];
    counts
        .into_iter()
        .fold(Record::new("ImageVulnerabilitySummary").with("MaxSeverity", ""), |record, count| record.with(count, 0))
}

/// Signatures are not verified, so none is trusted and no author is known.
fn signature(tool: SignatureTool) -> Record {
    let tool = match tool {
        SignatureTool::Cosign => "cosign",
        SignatureTool::Notation => "notation",
    };
    Record::new("SignatureSummary").with("Tool", tool).with("IsTrusted", false).with("Author", "")
}

fn layer(descriptor: &Descriptor) -> Record {
    let digest = descriptor.digest.map(|digest| digest.to_string()).unwrap_or_default();
    Record::new("LayerSummary").with("Size", descriptor.size.to_string()).with("Digest", digest)
}

/// The steps that made an image, each with its layer. A config without history has one step for each layer.
fn history(steps: &[BuildStep], layers: &[Descriptor]) -> Vec<Record> {
    let described = |step: &BuildStep| {
        Record::new("HistoryDescription")
            .with("Created", time(step.created))
            .with("CreatedBy", step.created_by.as_str())
            .with("Author", "")
            .with("Comment", step.comment.as_str())
            .with("EmptyLayer", step.is_empty_layer)
    };
    let unknown = BuildStep::default();
    let mut layers = layers.iter();
    let mut history = Vec::new();
    for step in steps {
        let of_step = if step.is_empty_layer { None } else { layers.next() };
        history.push((of_step, step));
    }
    // Steps may be missing, and zot shows none of them then. Layers are worth showing.
    history.extend(layers.map(|layer| (Some(layer), &unknown)));
    let record = |(of_step, step): (Option<&Descriptor>, &BuildStep)| {
        Record::new("LayerHistory")
            .with_object("Layer", of_step.map(layer))
            .with_object("HistoryDescription", Some(described(step)))
    };
    history.into_iter().map(record).collect()
}

/// A page of images.
pub(super) struct Images<'s> {
    scene: &'s Scene<'s>,
    tagged: Vec<Tagged>,
    total: usize,
}

impl<'s> Images<'s> {
    /// Filters and orders images, and takes the page.
    pub(super) fn new(
        scene: &'s Scene<'s>,
        mut images: Vec<Tagged>,
        page: &Page,
        usual: ImageOrder,
        filter: &RepositoryFilter,
    ) -> Result<Self, FieldError> {
        let order = page.image_order(usual)?;
        let gallery = scene.gallery;
        if *filter != RepositoryFilter::default() {
            let mut kept = Vec::new();
            for image in images {
                if gallery.is_exhausted() {
                    break;
                }
                if scene.read(gallery.meets(&image, filter))? {
                    kept.push(image);
                }
            }
            images = kept;
        }
        scene.read(gallery.order_images(&mut images, order))?;
        let total = images.len();
        let tagged = images.into_iter().skip(page.offset).take(page.limit).collect();
        Ok(Self { scene, tagged, total })
    }

    pub(super) fn results<'a>(&self) -> ResolvedValue<'a>
    where
        's: 'a,
    {
        let (scene, images) = (self.scene, self.tagged.clone());
        ResolvedValue::list(images.into_iter().map(move |one| ResolvedValue::object(image(scene, one, None))))
    }

    pub(super) fn page<'a>(&self) -> ResolvedValue<'a> {
        ResolvedValue::object(page_info(self.total, self.tagged.len()))
    }
}

impl ObjectValue for Images<'_> {
    fn type_name(&self) -> &'static str {
        "PaginatedImagesResult"
    }

    fn resolve_field<'a>(&'a self, info: &'a ResolveInfo<'a>) -> Resolved<'a> {
        match info.field_name() {
            "Results" => Ok(self.results()),
            "Page" => Ok(self.page()),
            _ => Err(self.unknown_field_error(info)),
        }
    }
}

/// A manifest of a repository, with what was read of it so far.
struct Manifest<'s> {
    scene: &'s Scene<'s>,
    name: RepositoryName,
    digest: Digest,
    row: OnceCell<Option<ManifestRow>>,
    facts: OnceCell<Option<(Facts, Details)>>,
    document: OnceCell<Document>,
}

impl<'s> Manifest<'s> {
    const fn new(scene: &'s Scene<'s>, name: RepositoryName, digest: Digest) -> Self {
        Self { scene, name, digest, row: OnceCell::new(), facts: OnceCell::new(), document: OnceCell::new() }
    }

    fn row(&self) -> Result<Option<&ManifestRow>, FieldError> {
        if self.row.get().is_none() {
            let _ = self.row.set(self.scene.read(self.scene.gallery.manifest(&self.name, self.digest))?);
        }
        Ok(self.row.get().and_then(Option::as_ref))
    }

    fn facts(&self) -> Result<Option<&(Facts, Details)>, FieldError> {
        if self.facts.get().is_none() {
            let _ = self.facts.set(self.scene.read(self.scene.gallery.facts_and_details(&self.name, self.digest))?);
        }
        Ok(self.facts.get().and_then(Option::as_ref))
    }

    fn document(&self) -> Result<&Document, FieldError> {
        if let Some(document) = self.document.get() {
            return Ok(document);
        }
        let document = self.scene.read(self.scene.gallery.document(&self.name, self.digest))?;
        Ok(self.document.get_or_init(|| document))
    }

    fn signatures(&self) -> Result<Rc<[SignatureTool]>, FieldError> {
        self.scene.read(self.scene.gallery.signatures(&self.name, self.digest))
    }

    fn pulls(&self) -> Result<Pulls, FieldError> {
        self.scene.read(self.scene.gallery.pulls(&self.name, self.digest))
    }

    fn size(&self) -> Result<u64, FieldError> {
        Ok(self.facts()?.map_or(0, |(facts, _)| facts.size))
    }

    fn is_index(&self) -> Result<bool, FieldError> {
        Ok(self.facts()?.is_some_and(|(facts, _)| facts.kind == Kind::Index))
    }

    /// The artifact type, or else the type of the config.
    fn artifact_type(&self) -> Result<&str, FieldError> {
        let document = self.document()?;
        let config = document.config.as_ref().map_or("", |config| config.media_type.as_str());
        Ok(if document.artifact_type.is_empty() { config } else { &document.artifact_type })
    }

    /// An annotation of the manifest, or a label of its image, also by the name that it had in label-schema.org. An index
    /// without it has that of its first manifest.
    fn annotation(&self, wanted: &str, label: &str) -> Result<String, FieldError> {
        let value = |details: &Details| {
            let annotation = details.annotations.iter().find(|(name, _)| name == wanted);
            let label = || details.labels.iter().find(|(name, _)| name.strip_prefix(LABEL_SCHEMA) == Some(label));
            annotation.or_else(label).map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
        };
        if let Some(value) = self.facts()?.and_then(|(_, details)| value(details)) {
            return Ok(value);
        }
        let first =
            if self.is_index()? { self.document()?.children.first().and_then(|child| child.digest) } else { None };
        let Some(first) = first else { return Ok(String::new()) };
        let facts = self.scene.read(self.scene.gallery.facts_and_details(&self.name, first))?;
        Ok(facts.and_then(|(_, details)| value(&details)).unwrap_or_default())
    }

    /// A field that images and their manifests have in common.
    fn shared<'a>(&self, info: &ResolveInfo<'_>) -> Result<Option<ResolvedValue<'a>>, FieldError> {
        let leaf: JsonValue = match info.field_name() {
            "Digest" => self.digest.to_string().into(),
            "Size" => self.size()?.to_string().into(),
            "DownloadCount" => int(self.pulls()?.count),
            "LastUpdated" => time(self.scene.read(self.scene.gallery.created(&self.name, self.digest))?),
            "IsSigned" => (!self.signatures()?.is_empty()).into(),
            "ArtifactType" => self.artifact_type()?.into(),
            "SignatureInfo" => {
                let signatures = self.signatures()?.to_vec();
                return Ok(Some(objects(signatures.into_iter().map(signature))));
            }
            "Vulnerabilities" => return Ok(Some(ResolvedValue::object(vulnerabilities()))),
            "Referrers" => {
                let query = ReferrerQuery { with_annotations: annotations_in(info), ..ReferrerQuery::default() };
                let found = self.scene.read(self.scene.gallery.referrers(&self.name, self.digest, &query))?;
                return Ok(Some(referrers(found)));
            }
            _ => return Ok(None),
        };
        Ok(Some(ResolvedValue::Leaf(leaf)))
    }
}

impl ObjectValue for Manifest<'_> {
    fn type_name(&self) -> &'static str {
        "ManifestSummary"
    }

    fn resolve_field<'a>(&'a self, info: &'a ResolveInfo<'a>) -> Resolved<'a> {
        if let Some(value) = self.shared(info)? {
            return Ok(value);
        }
        match info.field_name() {
            "ConfigDigest" => {
                let config = self.document()?.config.as_ref().and_then(|config| config.digest);
                Ok(ResolvedValue::leaf(config.map(|digest| digest.to_string()).unwrap_or_default()))
            }
            "Platform" => {
                let known = self.facts()?.and_then(|(facts, _)| facts.platform.as_ref());
                Ok(ResolvedValue::object(platform(known.unwrap_or(&Platform::default()))))
            }
            "Layers" => {
                let layers: Vec<Record> = self.document()?.layers.iter().map(layer).collect();
                Ok(objects(layers))
            }
            "History" => {
                let steps = self.facts()?.map(|(_, details)| details.history.as_slice()).unwrap_or_default();
                let history = history(steps, &self.document()?.layers);
                Ok(objects(history))
            }
            _ => Err(self.unknown_field_error(info)),
        }
    }
}

/// An image: a manifest with its tag.
struct Image<'s> {
    manifest: Manifest<'s>,
    tag: String,
    moved: Option<Timestamp>,
    only: Option<Vec<Digest>>,
    is_deletable: Option<bool>,
}

pub(super) fn image<'s>(scene: &'s Scene<'s>, tagged: Tagged, is_deletable: Option<bool>) -> impl ObjectValue + 's {
    let Tagged { repository, tag, digest, moved, only } = tagged;
    Image { manifest: Manifest::new(scene, repository, digest), tag, moved, only, is_deletable }
}

impl Image<'_> {
    /// The manifests of an index that the repository has, and that the search is about, or the manifest itself.
    fn manifests(&self) -> Result<Vec<Digest>, FieldError> {
        if !self.manifest.is_index()? {
            return Ok(vec![self.manifest.digest]);
        }
        let mut present = Vec::new();
        let is_meant = |child: &Digest| self.only.as_ref().is_none_or(|only| only.contains(child));
        let children = self.manifest.document()?.children.iter().filter_map(|child| child.digest);
        for child in children.filter(is_meant) {
            let gallery = self.manifest.scene.gallery;
            if self.manifest.scene.read(gallery.manifest(&self.manifest.name, child))?.is_some() {
                present.push(child);
            }
        }
        Ok(present)
    }
}

impl ObjectValue for Image<'_> {
    fn type_name(&self) -> &'static str {
        "ImageSummary"
    }

    fn resolve_field<'a>(&'a self, info: &'a ResolveInfo<'a>) -> Resolved<'a> {
        let Self { manifest, .. } = self;
        if let Some(value) = manifest.shared(info)? {
            return Ok(value);
        }
        let leaf: JsonValue = match info.field_name() {
            "RepoName" => manifest.name.as_str().into(),
            "Tag" => self.tag.as_str().into(),
            "MediaType" => manifest.row()?.map_or("", |row| row.media_type.as_str()).into(),
            "Manifests" => {
                let (scene, name) = (manifest.scene, &manifest.name);
                let digests = self.manifests()?.into_iter();
                let one = move |digest| ResolvedValue::object(Manifest::new(scene, name.clone(), digest));
                return Ok(ResolvedValue::list(digests.map(one)));
            }
            "LastPullTimestamp" => time(manifest.pulls()?.last),
            "PushTimestamp" => time(manifest.row()?.map(|row| row.created)),
            "PushedBy" => {
                let user = manifest.facts()?.and_then(|(facts, _)| facts.pushed_by.as_deref());
                user.unwrap_or_default().into()
            }
            "TaggedTimestamp" => time(self.moved),
            "Description" => manifest.annotation("description", "description")?.into(),
            "Licenses" => manifest.annotation("licenses", "license")?.into(),
            "Title" => manifest.annotation("title", "name")?.into(),
            "Source" => manifest.annotation("source", "vcs-url")?.into(),
            "Documentation" => manifest.annotation("documentation", "usage")?.into(),
            "Vendor" => manifest.annotation("vendor", "vendor")?.into(),
            "Authors" => manifest.annotation("authors", "")?.into(),
            "Labels" => manifest.annotation("", "labels")?.into(),
            "IsDeletable" => self.is_deletable.map_or(JsonValue::Null, JsonValue::from),
            _ => return Err(self.unknown_field_error(info)),
        };
        Ok(ResolvedValue::Leaf(leaf))
    }
}
