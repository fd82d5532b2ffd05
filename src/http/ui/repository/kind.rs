//! Names of kinds of manifests.

use crate::content::rows::{Facts, Kind};
use crate::web::PullKind;

/// The beginning of the media types of Helm.
const CHART: &str = "application/vnd.cncf.helm";

/// Artifact types that are known by a name: the beginning or the whole type, and the name.
const NAMES: [(&str, &str); 12] = [
    ("application/vnd.dev.cosign.artifact.sig", "Signature (cosign)"),
    ("application/vnd.dev.cosign.simplesigning", "Signature (cosign)"),
    ("application/vnd.dev.sigstore.bundle", "Sigstore bundle"),
    ("application/vnd.cncf.notary.signature", "Signature (notation)"),
    ("application/spdx+json", "SBOM (SPDX)"),
    ("text/spdx", "SBOM (SPDX)"),
    ("application/vnd.cyclonedx", "SBOM (CycloneDX)"),
    ("application/vnd.syft+json", "SBOM (Syft)"),
    ("application/vnd.in-toto", "Attestation (in-toto)"),
    ("application/vnd.dsse.envelope", "Attestation (in-toto)"),
    (CHART, "Helm chart"),
    ("application/vnd.wasm", "WebAssembly module"),
];

/// The name of a kind of manifest. The facts may be unknown.
pub(in crate::http::ui) fn kind_name(facts: Option<&Facts>, artifact_type: &str) -> &'static str {
    let artifact_type = facts.and_then(|facts| facts.artifact_type.as_deref()).unwrap_or(artifact_type);
    if let Some((_, name)) = NAMES.iter().find(|(beginning, _)| artifact_type.starts_with(beginning)) {
        return name;
    }
    match facts.map(|facts| facts.kind) {
        Some(Kind::Index) if facts.is_some_and(|facts| facts.platforms.len() > 1) => "Multi-platform image",
        Some(Kind::Image) => "Image",
        Some(Kind::Index) => "Index",
        Some(Kind::HelmChart) => "Helm chart",
        Some(Kind::Signature) => "Signature",
        Some(Kind::Sbom) => "SBOM",
        Some(Kind::Attestation) => "Attestation",
        Some(Kind::Artifact) => "Artifact",
        None => "Manifest",
    }
}

/// How clients fetch a manifest. The facts may be unknown.
pub(super) fn pull_kind(facts: Option<&Facts>, artifact_type: &str) -> PullKind {
    match facts.map(|facts| facts.kind) {
        Some(Kind::HelmChart) => PullKind::Chart,
        None if artifact_type.starts_with(CHART) => PullKind::Chart,
        None | Some(Kind::Image | Kind::Index) => PullKind::Image,
        Some(_) => PullKind::Files,
    }
}
