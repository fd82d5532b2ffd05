//! Manifests with their layers and labels, in Quay's shape.

use std::collections::BTreeMap;
use std::io::Read as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::Success;
use super::endpoint::{Endpoint, future, get, post};
use super::input::{Call, PathValue, invalid};
use super::repository::{authored, existing};
use super::values::QuayTime;
use crate::content::repository::Repository;
use crate::http::Context;
use crate::http::api::{blob, manifest};
use crate::http::error::ApiError;
use crate::http::route;
use crate::http::time::parse_rfc3339;
use crate::identity::access::{Action, Requires};
use crate::oci::{Digest, MediaType, Reference, RepositoryName};

/// The endpoints of this file.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/repository/{repository}/manifest/{digest}", Requires::Repository(Action::Pull), &future(get_manifest))
        .named("getRepoManifest", "Get a manifest with its layers and labels"),
    get("/api/v1/repository/{repository}/deletedmanifest/", Requires::Repository(Action::Push), &future(list_deleted))
        .named("listDeletedManifests", "List the manifests that were deleted by digest and can be restored"),
    post(
        "/api/v1/repository/{repository}/manifest/{digest}/restore",
        Requires::Repository(Action::Push),
        &future(restore_manifest),
    )
    .named("restoreManifest", "Restore a manifest that was deleted by digest, with the manifests that it lists"),
];

/// The number of deleted manifests on a page.
const DELETED_PAGE: usize = 100;

/// The largest image configuration that is read. The labels and the history of a larger one are not shown.
const CONFIG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The media types of image configurations. The config of another artifact has neither labels nor a history.
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

#[derive(Debug, Serialize, JsonSchema)]
struct ShownManifest {
    #[schemars(with = "Digest")]
    digest: String,
    is_manifest_list: bool,
    /// The manifest as it was pushed.
    manifest_data: String,
    config_media_type: Option<String>,
    /// The layers of an image, or null for an index.
    layers: Option<Vec<Layer>>,
    layers_compressed_size: Option<u64>,
    /// Quay has another endpoint for the labels.
    labels: Vec<Label>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Layer {
    index: usize,
    compressed_size: u64,
    /// Whether clients get the layer from its URLs.
    is_remote: bool,
    urls: Option<Vec<String>>,
    command: Option<[String; 1]>,
    comment: Option<String>,
    author: Option<String>,
    #[schemars(with = "Digest")]
    blob_digest: String,
    created_datetime: Option<QuayTime>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Label {
    key: String,
    value: String,
    source_type: LabelSource,
    #[schemars(extend("enum" = ["text/plain", "application/json"]))]
    media_type: &'static str,
}

/// The only source of labels that coracle has: annotations of the manifest, and labels of the image configuration.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum LabelSource {
    Manifest,
}

impl PathValue for Digest {
    fn parse(text: &str) -> Result<Self, ApiError> {
        Ok(route::digest(text)?)
    }
}

/// The shown fields of a manifest.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    annotations: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: String,
    #[serde(default)]
    size: u64,
    urls: Option<Vec<String>>,
}

/// The shown fields of an image configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    config: Option<ContainerConfig>,
    history: Option<Vec<History>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerConfig {
    labels: Option<BTreeMap<String, String>>,
}

/// A step of a build.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct History {
    created: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    author: Option<String>,
    /// Whether the step made no layer.
    empty_layer: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ListDeletedQuery {
    #[schemars(with = "Option<Digest>")]
    next_page: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct DeletedManifests {
    #[schemars(length(max = DELETED_PAGE))]
    manifests: Vec<DeletedManifest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Digest")]
    next_page: Option<String>,
}

/// A manifest that was deleted by digest and can be restored.
#[derive(Debug, Serialize, JsonSchema)]
struct DeletedManifest {
    #[schemars(with = "Digest")]
    digest: String,
    media_type: String,
    /// The size of the manifest itself, in bytes.
    size: u64,
    deleted: Option<QuayTime>,
    /// Until when it can be restored.
    restorable_until: Option<QuayTime>,
}

async fn list_deleted(
    context: &Context<'_>,
    call: Call<RepositoryName, ListDeletedQuery>,
) -> Result<DeletedManifests, ApiError> {
    let repository = existing(context, &call.path)?;
    let after = call.query.next_page.map(|after| after.parse::<Digest>()).transpose();
    let after = after.map_err(|_| invalid("the parameter next_page is not one that a list gave"))?;
    let (found, next) = context.blocking(move || repository.deleted(after, DELETED_PAGE)).await?;
    let manifests = found.into_iter().map(|manifest| DeletedManifest {
        digest: manifest.digest.to_string(),
        media_type: manifest.media_type,
        size: manifest.size,
        deleted: manifest.deleted.map(QuayTime),
        restorable_until: manifest.until.map(QuayTime),
    });
    Ok(DeletedManifests { manifests: manifests.collect(), next_page: next.map(|next| next.to_string()) })
}

/// Does nothing if the manifest exists.
async fn restore_manifest(context: &Context<'_>, call: Call<(RepositoryName, Digest)>) -> Result<Success, ApiError> {
    let (name, digest) = call.path;
    let repository = authored(context, &name);
    context.blocking(move || repository.restore_manifest(digest)).await?;
    Ok(Success::DONE)
}

async fn get_manifest(context: &Context<'_>, call: Call<(RepositoryName, Digest)>) -> Result<ShownManifest, ApiError> {
    let (name, digest) = call.path;
    let repository = existing(context, &name)?;
    let (info, bytes) = manifest::read(context, repository.clone(), &Reference::Digest(digest)).await?;
    let is_index = info.media_type.parse().is_ok_and(|media_type: MediaType| media_type.is_index());
    let document: Document = serde_json::from_slice(&bytes).unwrap_or_default();
    let config = match &document.config {
        Some(config) => read_config(context, &repository, config).await?,
        None => Config::default(),
    };

    let mut labels = config.config.and_then(|config| config.labels).unwrap_or_default();
    let annotations = document.annotations.unwrap_or_default();
    labels.extend(annotations.into_iter().filter_map(|(key, value)| Some((key, value?))));
    let layers = document.layers.unwrap_or_default();
    let compressed_size = layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
    let mut steps = config.history.unwrap_or_default().into_iter().filter(|step| !step.empty_layer);
    let layers = layers.into_iter().enumerate();
    let layers = layers.map(|(index, layer)| Layer::new(index, layer, steps.next().unwrap_or_default()));
    Ok(ShownManifest {
        digest: digest.to_string(),
        is_manifest_list: is_index,
        manifest_data: String::from_utf8_lossy(&bytes).into_owned(),
        config_media_type: document.config.and_then(|config| config.media_type),
        layers: (!is_index).then(|| layers.collect()),
        layers_compressed_size: (!is_index).then_some(compressed_size),
        labels: labels.into_iter().map(|(key, value)| Label::new(key, value)).collect(),
    })
}

/// Reads an image configuration. Returns an empty one for another kind of config, or if it is too large.
async fn read_config(
    context: &Context<'_>,
    repository: &Repository,
    Descriptor { media_type, digest, .. }: &Descriptor,
) -> Result<Config, ApiError> {
    let is_image = media_type.as_deref().is_some_and(|media_type| IMAGE_CONFIGS.contains(&media_type));
    let Some(digest) = digest.parse().ok().filter(|_| is_image) else { return Ok(Config::default()) };
    let blob = blob::open(context, repository, digest).await?;
    if blob.size > CONFIG_BYTES_MAX {
        return Ok(Config::default());
    }
    let mut bytes = Vec::new();
    let read = context.blocking(move || {
        let read = (&blob.file).take(CONFIG_BYTES_MAX).read_to_end(&mut bytes);
        read.map(|_| bytes).map_err(ApiError::internal)
    });
    Ok(serde_json::from_slice(&read.await?).unwrap_or_default())
}

impl Layer {
    fn new(index: usize, layer: Descriptor, step: History) -> Self {
        Self {
            index,
            compressed_size: layer.size,
            is_remote: layer.urls.as_ref().is_some_and(|urls| !urls.is_empty()),
            urls: layer.urls,
            command: step.created_by.map(|command| [command]),
            comment: step.comment,
            author: step.author,
            blob_digest: layer.digest,
            created_datetime: step.created.and_then(|created| parse_rfc3339(&created)).map(QuayTime),
        }
    }
}

impl Label {
    fn new(key: String, value: String) -> Self {
        let is_json = value.starts_with(['{', '[']) && serde_json::from_str::<Value>(&value).is_ok();
        let media_type = if is_json { "application/json" } else { "text/plain" };
        Self { key, value, source_type: LabelSource::Manifest, media_type }
    }
}
