//! Rows of facts: the purpose, platform and size of a manifest. They are read once from its bytes and its config, so that
//! lists need not parse either.
//!
//! Every stored manifest has a row, also one that was deleted by digest and can be restored. A database of an earlier
//! program lacks rows until the background work is done ([`super::counted`]). [`crate::content::repository`] reads the
//! facts from the bytes; this module knows neither manifests nor configs. Facts are texts of clients: pages must
//! escape them.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::schema::{FACTS, MANIFESTS};
use super::{Error, Rows, WriteTx};
use crate::kit::clock::Timestamp;
use crate::oci::{Algorithm, Digest, RepositoryName};

/// The purpose of a manifest. The order is in rows: add new kinds at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// A container image for one platform.
    Image,
    /// A list of manifests, mostly the same image for several platforms.
    Index,
    HelmChart,
    /// A signature of cosign or notation.
    Signature,
    /// A software bill of materials.
    Sbom,
    /// An in-toto attestation, such as the provenance that BuildKit adds to an index.
    Attestation,
    /// Anything else. The artifact type says more.
    Artifact,
}

/// The platform of an image. Texts are empty if unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Platform {
    pub(crate) os: String,
    pub(crate) architecture: String,
    pub(crate) variant: String,
    pub(crate) os_version: String,
}

/// The facts that lists show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) kind: Kind,
    /// The artifact type, or else the media type of the config. `None` for a plain image or index.
    pub(crate) artifact_type: Option<String>,
    /// The platform of an image, from its config.
    pub(crate) platform: Option<Platform>,
    /// The known platforms of the manifests of an index, each once. The first ones if there are many.
    pub(crate) platforms: Vec<Platform>,
    /// When it was built, as its author says.
    pub(crate) created: Option<Timestamp>,
    /// In bytes: the manifest and the blobs of the repository that it names, each once. For an index also those of the
    /// manifests that it lists and the repository has.
    pub(crate) size: u64,
    /// The number of layers, for an index the number of manifests that it lists.
    pub(crate) layers: u32,
    /// When it was first pushed, the same as in its [`ManifestRow`](super::ManifestRow).
    pub(crate) pushed: Timestamp,
    /// The user who pushed it. `None` if anonymous or unknown.
    pub(crate) pushed_by: Option<String>,
}

/// The facts that only the page of one manifest shows. Every text and list has a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Details {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    /// The names of the environment variables. Their values may be secret, and are not stored.
    pub(crate) environment: Vec<String>,
    pub(crate) user: String,
    pub(crate) working_dir: String,
    /// Such as `8080/tcp`.
    pub(crate) ports: Vec<String>,
    pub(crate) volumes: Vec<String>,
    pub(crate) labels: Vec<(String, String)>,
    /// The predefined annotations that describe the content, without `org.opencontainers.image.`, such as `title`. The
    /// labels of an image, or the config of a chart, stand in for missing ones.
    pub(crate) annotations: Vec<(String, String)>,
    /// The steps that made an image, the first one first.
    pub(crate) history: Vec<BuildStep>,
    /// Whether anything was too long and is shortened or left out.
    pub(crate) is_truncated: bool,
}

/// A step that made an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BuildStep {
    pub(crate) created: Option<Timestamp>,
    pub(crate) created_by: String,
    pub(crate) comment: String,
    /// Whether it made no layer.
    pub(crate) is_empty_layer: bool,
}

impl Rows {
    /// The facts of a manifest. `None` if it does not exist, or an earlier program has stored it and the background work
    /// has not reached it.
    pub(crate) fn facts(&self, repository: &RepositoryName, digest: Digest) -> Result<Option<Facts>, Error> {
        // The details follow in the same row, and are not decoded.
        self.row(FACTS, (digest.key(), repository.as_str()), digest)
    }

    /// As [`Rows::facts`], with the details.
    pub(crate) fn facts_and_details(
        &self,
        repository: &RepositoryName,
        digest: Digest,
    ) -> Result<Option<(Facts, Details)>, Error> {
        self.row(FACTS, (digest.key(), repository.as_str()), digest)
    }

    /// Visits the manifests whose digest begins with these lower-case hexadecimal digits, in all repositories, until
    /// `visit` breaks. Deleted ones are left out.
    pub(crate) fn each_manifest_with_digest(
        &self,
        algorithm: Algorithm,
        digits: &str,
        mut visit: impl FnMut(Digest, &str) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let manifests = self.table(MANIFESTS)?;
        self.each_with_digest(FACTS, algorithm, digits, |digest, repository| {
            let exists = manifests.get((repository, digest.key()))?.is_some();
            Ok(if exists { visit(digest, repository) } else { ControlFlow::Continue(()) })
        })
    }
}

impl WriteTx {
    /// Writes the facts of a manifest, in place of earlier ones.
    pub(crate) fn put_facts(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        facts: &Facts,
        details: &Details,
    ) -> Result<(), Error> {
        self.insert_row(FACTS, (digest.key(), repository.as_str()), &(facts, details))
    }

    /// Removes the facts of a manifest that is removed.
    pub(super) fn remove_facts(&mut self, repository: &RepositoryName, digest: Digest) -> Result<(), Error> {
        self.remove(FACTS, (digest.key(), repository.as_str()))
    }
}
