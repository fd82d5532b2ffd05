//! Test support: the stores of a new data directory, with a clock that tests move.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{
    Delays, Error, ImmutableTags, MandatoryAnnotations, ManifestTarget, PutManifest, Quotas, Repository, Retention,
    Rules, Stores,
};
use crate::content::blobs::{Blobs, SystemDisk, Tree};
use crate::content::rows::Database;
use crate::kit::clock::Clock;
use crate::oci::{Algorithm, Digest, Reference};

/// The stores, their clock and their directory.
pub(super) struct Scene {
    pub(super) stores: Arc<Stores>,
    pub(super) clock: Clock,
    pub(super) root: tempfile::TempDir,
}

/// Rules that keep everything for an hour.
pub(super) fn rules() -> Rules {
    let hour = Duration::from_hours(1);
    Rules {
        sparse_indexes: false,
        upload_expiry: hour,
        tag_history: hour,
        delays: Delays::all(hour),
        retention: Retention::default(),
        immutable: ImmutableTags::default(),
        quotas: Quotas::default(),
        mandatory_annotations: MandatoryAnnotations::default(),
    }
}

impl Scene {
    pub(super) fn new(rules: Rules) -> Self {
        Self::open(rules, false)
    }

    /// A scene that syncs, as a registry does.
    pub(super) fn durable(rules: Rules) -> Self {
        Self::open(rules, true)
    }

    fn open(rules: Rules, sync: bool) -> Self {
        Self::open_in(tempfile::tempdir().unwrap(), Clock::default(), rules, sync)
    }

    /// The same stores after a restart of the registry. Tests must drop their repositories first.
    pub(super) fn reopen(self) -> Self {
        let Self { stores, clock, root } = self;
        let rules = stores.rules.clone();
        drop(stores);
        Self::open_in(root, clock, rules, false)
    }

    pub(super) fn open_in(root: tempfile::TempDir, clock: Clock, rules: Rules, sync: bool) -> Self {
        let blobs = Blobs::open(root.path(), Arc::new(SystemDisk), sync).unwrap();
        let database = Arc::new(Database::open(&Tree::new(root.path()), Arc::new(SystemDisk), sync).unwrap());
        let stores = Arc::new(Stores::new(blobs, database, clock.clone(), rules).unwrap());
        Self { stores, clock, root }
    }

    pub(super) fn repository(&self, name: &str) -> Repository {
        self.stores.repository(&name.parse().unwrap())
    }

    /// Whether the file of a blob exists.
    pub(super) fn has_file(&self, digest: Digest) -> bool {
        self.stores.blobs.get(digest).unwrap().is_some()
    }
}

impl Repository {
    /// Pushes a blob.
    pub(super) fn push_blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(Algorithm::Sha256, bytes);
        let mut upload = self.open_upload(Algorithm::Sha256).unwrap();
        upload.append(&[Bytes::copy_from_slice(bytes)]).unwrap();
        upload.verify(digest).unwrap();
        upload.finish(digest).unwrap();
        digest
    }

    /// Pushes a manifest by its digest, and moves tags to it.
    pub(super) fn push_manifest(&self, bytes: &str, tags: &[&str]) -> Result<Digest, Error> {
        let digest = Digest::of(Algorithm::Sha256, bytes.as_bytes());
        let tags = tags.iter().map(|tag| tag.parse().unwrap()).collect();
        let target = ManifestTarget::Digest { digest, tags };
        let bytes = Bytes::copy_from_slice(bytes.as_bytes());
        self.put_manifest(PutManifest::new(target, bytes))?;
        Ok(digest)
    }

    pub(super) fn has_manifest(&self, digest: Digest) -> bool {
        self.stores.database.read(|tx| tx.manifest(&self.name, digest)).unwrap().is_some()
    }

    pub(super) fn has_blob(&self, digest: Digest) -> bool {
        self.stores.database.read(|tx| tx.link(digest, &self.name)).unwrap().is_some()
    }

    pub(super) fn delete(&self, reference: &str) -> Result<(), Error> {
        let tag = || Reference::Tag(reference.parse().unwrap());
        let reference = reference.parse().map_or_else(|_| tag(), Reference::Digest);
        self.delete_manifest(&reference, false)
    }
}

/// Pushes a manifest with a tag, as a client does, so that the rules for images hold.
pub(super) fn push_by_client(repository: &Repository, manifest: String, tag: &str) -> Result<Digest, Error> {
    let target = ManifestTarget::Tag(tag.parse().unwrap());
    let put = PutManifest { by_client: true, ..PutManifest::new(target, Bytes::from(manifest)) };
    repository.put_manifest(put).map(|info| info.digest)
}

/// An image manifest with a config, layers and an optional subject.
pub(super) fn image(blobs: &[Digest], subject: Option<Digest>, note: &str) -> String {
    let descriptor = |kind: &str, digest: &Digest| {
        format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":1}}"#)
    };
    let layers: Vec<_> = blobs[1..].iter().map(|layer| descriptor("layer.v1.tar", layer)).collect();
    let subject = subject.map(|subject| format!(r#","subject":{}"#, descriptor("manifest.v1+json", &subject)));
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}]{},"annotations":{{"note":"{note}"}}}}"#,
        descriptor("config.v1+json", &blobs[0]),
        layers.join(","),
        subject.unwrap_or_default(),
    )
}

/// An index of manifests.
pub(super) fn index(manifests: &[Digest], note: &str) -> String {
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let descriptors: Vec<_> = manifests
        .iter()
        .map(|manifest| format!(r#"{{"mediaType":"{kind}","digest":"{manifest}","size":1}}"#))
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}],"annotations":{{"note":"{note}"}}}}"#,
        descriptors.join(","),
    )
}
