//! Tells the purpose of a manifest by its media types and annotations, as the common tools write them.

use super::parse::{Document, HELM_CONFIG};
use crate::content::rows::Kind;
use crate::oci::Manifest;

/// The media types of the configs of images.
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// The beginnings of the types that tell the kind of an artifact, or of all layers of an image.
const TYPES: [(&str, Kind); 14] = [
    (HELM_CONFIG, Kind::HelmChart),
    ("application/vnd.dev.cosign.artifact.sig", Kind::Signature),
    ("application/vnd.dev.cosign.simplesigning", Kind::Signature),
    ("application/vnd.cncf.notary.signature", Kind::Signature),
    ("application/vnd.dev.cosign.artifact.sbom", Kind::Sbom),
    ("application/spdx", Kind::Sbom),
    ("text/spdx", Kind::Sbom),
    ("application/vnd.cyclonedx", Kind::Sbom),
    ("application/vnd.syft", Kind::Sbom),
    ("application/sbom", Kind::Sbom),
    ("application/vnd.dev.cosign.artifact.att", Kind::Attestation),
    ("application/vnd.in-toto", Kind::Attestation),
    ("application/vnd.dsse.envelope", Kind::Attestation),
    ("application/vnd.docker.attestation", Kind::Attestation),
];

/// The artifact type of cosign since version 3, for signatures and attestations. Annotations tell which.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
const BUNDLE_CONTENT: &str = "dev.sigstore.bundle.content";
const BUNDLE_PREDICATE: &str = "dev.sigstore.bundle.predicateType";
/// The predicate of a signature that is written as an attestation.
const SIGNATURE_PREDICATE: &str = "https://sigstore.dev/cosign/sign/";

/// Whether this is the media type of an image's config.
pub(super) fn is_image_config(media_type: &str) -> bool {
    IMAGE_CONFIGS.contains(&media_type)
}

/// The purpose of a manifest.
pub(super) fn kind_of(manifest: &Manifest, document: &Document) -> Kind {
    if manifest.media_type().is_index() {
        return Kind::Index;
    }
    let artifact_type = manifest.artifact_type().unwrap_or_default();
    if artifact_type.starts_with(BUNDLE) {
        return bundle(document);
    }
    if let Some(kind) = of_type(artifact_type) {
        return kind;
    }
    if !artifact_type.is_empty() && !is_image_config(artifact_type) {
        return Kind::Artifact;
    }
    // Earlier tools wrote an image whose layers are the artifact.
    let mut layers = document.layers.0.values.iter().map(|layer| of_type(&layer.0.media_type.0));
    let first = layers.next().flatten();
    match first {
        Some(kind) if layers.all(|layer| layer == Some(kind)) => kind,
        _ => Kind::Image,
    }
}

fn of_type(media_type: &str) -> Option<Kind> {
    TYPES.into_iter().find(|(prefix, _)| media_type.starts_with(prefix)).map(|(_, kind)| kind)
}

fn bundle(document: &Document) -> Kind {
    let value = |name: &str| {
        let found = document.annotations.0.entries.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let is_attestation =
        value(BUNDLE_CONTENT) == "dsse-envelope" && !value(BUNDLE_PREDICATE).starts_with(SIGNATURE_PREDICATE);
    if is_attestation { Kind::Attestation } else { Kind::Signature }
}
