//! Reads the facts of a manifest from its bytes and its config. Pure.
//!
//! Nothing here fails: fields with unexpected values count as missing. Texts are cleaned and bounded.

use serde::Deserialize;

use super::kind::{is_image_config, kind_of};
use super::lenient::{Entries, Fields, Lenient, List};
use super::text::{Room, cleaned};
use crate::content::rows::{BuildStep, Details, Facts, Kind, Platform};
use crate::kit::clock::Timestamp;
use crate::oci::{Digest, Manifest, without_lone_surrogates};

/// The bytes of all texts in the details of a manifest.
const DETAILS_BYTES: usize = 24 * 1024;
/// The longest text of the details, in bytes.
const TEXT_BYTES: usize = 2048;
/// The longest name: of a variable, a port, a platform, a user, in bytes.
const NAME_BYTES: usize = 64;
/// Platforms of an index.
const PLATFORMS: usize = 16;
/// Entries of a list or an object.
const LIST: usize = 128;
/// Steps that made an image.
const STEPS: usize = 256;
/// Descriptors whose type and platform are looked at.
const DESCRIPTORS: usize = 1024;

/// The media type of a Helm chart's config.
pub(super) const HELM_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
/// The prefix of the predefined annotations of the image specification.
const PREDEFINED: &str = "org.opencontainers.image.";
/// The predefined annotations that are kept.
const ANNOTATIONS: [&str; 10] =
    ["title", "description", "version", "revision", "licenses", "vendor", "authors", "url", "source", "documentation"];

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Document {
    pub(super) artifact_type: Lenient<String>,
    pub(super) config: Lenient<Fields<Descriptor>>,
    pub(super) layers: Lenient<List<Fields<Descriptor>, DESCRIPTORS>>,
    manifests: Lenient<List<Fields<Descriptor>, DESCRIPTORS>>,
    pub(super) annotations: Lenient<Entries<LIST>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Descriptor {
    pub(super) media_type: Lenient<String>,
    digest: Lenient<String>,
    platform: Lenient<Fields<PlatformFields>>,
    pub(super) annotations: Lenient<Entries<LIST>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PlatformFields {
    os: Lenient<String>,
    architecture: Lenient<String>,
    variant: Lenient<String>,
    #[serde(rename = "os.version")]
    os_version: Lenient<String>,
}

/// The config of an image (image-spec, config.md).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ImageConfig {
    os: Lenient<String>,
    architecture: Lenient<String>,
    variant: Lenient<String>,
    #[serde(rename = "os.version")]
    os_version: Lenient<String>,
    created: Lenient<String>,
    config: Lenient<Fields<Execution>>,
    history: Lenient<List<Fields<Step>, STEPS>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Execution {
    user: Lenient<String>,
    working_dir: Lenient<String>,
    entrypoint: Lenient<List<String, LIST>>,
    cmd: Lenient<List<String, LIST>>,
    env: Lenient<List<String, LIST>>,
    exposed_ports: Lenient<Entries<LIST>>,
    volumes: Lenient<Entries<LIST>>,
    labels: Lenient<Entries<LIST>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Step {
    created: Lenient<String>,
    created_by: Lenient<String>,
    comment: Lenient<String>,
    empty_layer: Lenient<bool>,
}

/// The fields of `Chart.yaml`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ChartConfig {
    name: Lenient<String>,
    version: Lenient<String>,
    description: Lenient<String>,
    home: Lenient<String>,
    sources: Lenient<List<String, LIST>>,
}

/// A manifest whose config was not read yet.
#[derive(Debug)]
pub(super) struct Draft {
    kind: Kind,
    artifact_type: Option<String>,
    document: Document,
}

impl Draft {
    /// Reads the bytes of a valid manifest.
    pub(super) fn read(manifest: &Manifest, bytes: &[u8]) -> Self {
        let document = object::<Document>(bytes);
        let kind = kind_of(manifest, &document);
        let artifact_type = manifest.artifact_type().filter(|kind| !is_image_config(kind));
        Self { kind, artifact_type: artifact_type.map(|kind| cleaned(kind, 255).0), document }
    }

    /// The config, if its content is known to have facts.
    pub(super) fn config(&self) -> Option<Digest> {
        let Descriptor { media_type, digest, .. } = &self.document.config.0.0;
        let is_read = self.kind != Kind::Index && (is_image_config(&media_type.0) || media_type.0 == HELM_CONFIG);
        if is_read { digest.0.parse().ok() } else { None }
    }

    /// The facts, without the size, the push and its user, and the details.
    pub(super) fn finish(self, config: Option<&[u8]>) -> (Facts, Details) {
        let Self { kind, artifact_type, document } = self;
        let mut room = Room::new(DETAILS_BYTES);
        let is_index = kind == Kind::Index;
        let listed = if is_index { document.manifests.0.total } else { document.layers.0.total };
        let mut facts = Facts {
            kind,
            artifact_type,
            platform: None,
            platforms: platforms(&document.manifests.0.values),
            created: None,
            size: 0,
            layers: u32::try_from(listed).unwrap_or(u32::MAX),
            pushed: Timestamp::from_micros(0),
            pushed_by: None,
        };
        let mut described = document.annotations.0.entries;
        let mut details = Details::default();
        match config {
            Some(config) if kind == Kind::HelmChart => described.extend(object::<ChartConfig>(config).annotations()),
            Some(config) => {
                let config = object::<ImageConfig>(config);
                let ImageConfig { os, architecture, variant, os_version, .. } = &config;
                facts.platform = platform([os, architecture, variant, os_version]);
                facts.created = Timestamp::from_rfc3339(&config.created.0);
                details = config.config.0.0.details(&mut room);
                described.extend(config.config.0.0.labels.0.entries.iter().cloned());
                details.annotations = annotations(&described, &mut room);
                details.history = history(&config.history.0, &mut room);
            }
            None => {}
        }
        if details.annotations.is_empty() {
            details.annotations = annotations(&described, &mut room);
        }
        if facts.created.is_none() {
            let created = described.iter().find(|(key, _)| key.strip_prefix(PREDEFINED) == Some("created"));
            facts.created = created.and_then(|(_, text)| Timestamp::from_rfc3339(text));
        }
        details.is_truncated = room.is_truncated;
        (facts, details)
    }
}

/// Reads an object. Malformed JSON is one without fields.
fn object<T: serde::de::DeserializeOwned + Default>(json: &[u8]) -> T {
    let Ok(text) = str::from_utf8(json) else { return T::default() };
    serde_json::from_str::<Lenient<Fields<T>>>(&without_lone_surrogates(text)).map(|read| read.0.0).unwrap_or_default()
}

/// The known platforms of the manifests of an index, each once. BuildKit lists attestations as unknown platforms.
fn platforms(children: &[Fields<Descriptor>]) -> Vec<Platform> {
    let mut platforms = Vec::new();
    for platform in children.iter().filter_map(|child| child.0.platform.0.0.platform()) {
        if !platforms.contains(&platform) && platforms.len() < PLATFORMS {
            platforms.push(platform);
        }
    }
    platforms
}

impl PlatformFields {
    fn platform(&self) -> Option<Platform> {
        platform([&self.os, &self.architecture, &self.variant, &self.os_version])
    }
}

fn platform(fields: [&Lenient<String>; 4]) -> Option<Platform> {
    let [os, architecture, variant, os_version] = fields.map(|text| cleaned(&text.0, NAME_BYTES).0);
    let is_known = |text: &str| !text.is_empty() && text != "unknown";
    (is_known(&os) || is_known(&architecture)).then_some(Platform { os, architecture, variant, os_version })
}

impl Execution {
    fn details(&self, room: &mut Room) -> Details {
        let mut list =
            |list: &List<String, LIST>| room.texts(list.values.iter().map(String::as_str), TEXT_BYTES, list.total);
        let (entrypoint, cmd) = (list(&self.entrypoint.0), list(&self.cmd.0));
        let variables = self.env.0.values.iter().map(|variable| variable.split('=').next().unwrap_or_default());
        let environment = room.texts(variables, NAME_BYTES, self.env.0.total);
        let mut keys = |object: &Entries<LIST>, max| {
            room.texts(object.entries.iter().map(|(key, _)| key.as_str()), max, object.total)
        };
        let (ports, volumes) = (keys(&self.exposed_ports.0, NAME_BYTES), keys(&self.volumes.0, TEXT_BYTES));
        let labels = self.labels.0.entries.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        Details {
            entrypoint,
            cmd,
            environment,
            user: room.text(&self.user.0, NAME_BYTES).unwrap_or_default(),
            working_dir: room.text(&self.working_dir.0, TEXT_BYTES).unwrap_or_default(),
            ports,
            volumes,
            labels: room.pairs(labels, TEXT_BYTES, self.labels.0.total),
            ..Details::default()
        }
    }
}

impl ChartConfig {
    /// The fields as annotations.
    fn annotations(self) -> impl Iterator<Item = (String, String)> {
        let source = self.sources.0.values.into_iter().next().unwrap_or_default();
        [
            ("title", self.name.0),
            ("version", self.version.0),
            ("description", self.description.0),
            ("url", self.home.0),
            ("source", source),
        ]
        .into_iter()
        .map(|(name, value)| (format!("{PREDEFINED}{name}"), value))
    }
}

/// The annotations that are kept. The first one with a name counts.
fn annotations(all: &[(String, String)], room: &mut Room) -> Vec<(String, String)> {
    let value = |name: &str| {
        let named = all.iter().find(|(key, value)| key.strip_prefix(PREDEFINED) == Some(name) && !value.is_empty());
        named.map(|(_, value)| value.as_str())
    };
    let found: Vec<_> = ANNOTATIONS.into_iter().filter_map(|name| Some((name, value(name)?))).collect();
    room.pairs(found.iter().copied(), TEXT_BYTES, found.len())
}

fn history(steps: &List<Fields<Step>, STEPS>, room: &mut Room) -> Vec<BuildStep> {
    let kept: Vec<_> = steps
        .values
        .iter()
        .map_while(|Fields(step)| {
            Some(BuildStep {
                created: Timestamp::from_rfc3339(&step.created.0),
                created_by: room.text(&step.created_by.0, TEXT_BYTES)?,
                comment: room.text(&step.comment.0, TEXT_BYTES)?,
                is_empty_layer: step.empty_layer.0,
            })
        })
        .collect();
    room.is_truncated |= kept.len() < steps.total;
    kept
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests;
