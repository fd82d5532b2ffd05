//! Operations on the upstreams of the mirror.

use serde::{Deserialize, Serialize};

use super::{Call, Failure, NeededData, Operation};
use crate::mirror::Patience;
pub(crate) use crate::mirror::SyncReport;
pub(crate) use crate::registry::{ClientSettings, MirrorClient, MirrorExplanation, RunningSync, UpstreamView};

/// Bring content of other registries up to date
///
/// A registry with pollInterval is synchronised by its rules: the tags that they name come with all their content and
/// their signatures. Of a registry without it, the tags that are stored here are updated and completed. A tag is compared
/// with one request. After an interruption, run the command again: complete images are not fetched twice. Pushed tags
/// are never replaced, and a tag that the other registry deleted stays here.
///
/// The exit code is 1 if something could not be fetched.
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct SyncMirror {
    /// A registry such as ghcr.io, a local repository, or REPOSITORY:TAG, which is fetched also if it is not stored
    /// [default: every registry with pollInterval]
    #[arg(value_name = "REGISTRY|REPOSITORY")]
    name: Option<String>,
    /// Compare only, and print the tags that would be fetched
    #[arg(long)]
    dry_run: bool,
}

/// The result of a synchronisation.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Synchronised {
    pub(crate) dry_run: bool,
    pub(crate) upstreams: Vec<SynchronisedUpstream>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SynchronisedUpstream {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) report: SyncReport,
}

const NO_MIRROR: &str = "this registry mirrors nothing: extensions.sync names the registries to mirror";

impl Operation for SyncMirror {
    type Answer = Synchronised;

    fn perform(self, call: &Call<'_>) -> Result<Synchronised, Failure> {
        let Some(mirror) = call.registry.mirror() else { return Err(Failure::Invalid(NO_MIRROR.to_owned())) };
        let targets = mirror.sync_targets(self.name.as_deref());
        if targets.is_empty() {
            return Err(Failure::Invalid(match &self.name {
                Some(name) => {
                    format!("nothing is mirrored under {name:?}: `coracle mirror status` lists the registries")
                }
                None => "no registry has a pollInterval: name the registry or repository to synchronise".to_owned(),
            }));
        }
        let mut upstreams = Vec::new();
        for (at, scope) in targets {
            let report = super::block_on(mirror.synchronise(at, &scope, Patience::Command, self.dry_run))?;
            let report = report.map_err(|error| Failure::Invalid(error.to_string()))?;
            let name = mirror.upstreams().get(at).map(|upstream| upstream.label().to_owned()).unwrap_or_default();
            upstreams.push(SynchronisedUpstream { name, report });
        }
        Ok(Synchronised { dry_run: self.dry_run, upstreams })
    }
}

/// Show the state of the mirrored registries
///
/// Counts, errors and synchronisations are those since the registry started.
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct MirrorStatus {}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UpstreamList {
    pub(crate) upstreams: Vec<UpstreamView>,
}

impl Operation for MirrorStatus {
    type Answer = UpstreamList;

    fn perform(self, call: &Call<'_>) -> Result<UpstreamList, Failure> {
        let holdings = (call.registry.count_mirrored())()?;
        Ok(UpstreamList { upstreams: call.registry.upstream_views(&holdings) })
    }
}

/// Explain where an image comes from, and whether it is stored and current
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct ExplainMirror {
    /// An image such as docker.io/library/nginx:1, by its name there or here [default tag: latest]
    #[arg(value_name = "IMAGE")]
    reference: String,
}

impl Operation for ExplainMirror {
    type Answer = MirrorExplanation;

    fn perform(self, call: &Call<'_>) -> Result<MirrorExplanation, Failure> {
        call.registry.explain_mirror(&self.reference).map_err(Failure::Invalid)
    }
}

/// Print the settings with which a client pulls through this registry
///
/// The settings go to standard output, the name of the file and notes to standard error.
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct SetUpMirror {
    /// The client
    client: MirrorClient,
    /// Host and port under which the client reaches this registry [default: http.externalUrl, or the listening address]
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    address: Option<String>,
}

/// Checks the form of an address, which becomes a part of files.
fn address(text: &str) -> Result<String, String> {
    let url = url::Url::parse(&format!("http://{text}/")).ok();
    let is_address = url.is_some_and(|url| url.path() == "/" && url.username().is_empty() && url.query().is_none());
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c));
    if is_address && is_plain {
        Ok(text.to_owned())
    } else {
        Err("expected a host and a port, such as 10.0.0.5:8080".to_owned())
    }
}

impl Operation for SetUpMirror {
    type Answer = ClientSettings;

    fn needed_data(&self) -> NeededData {
        NeededData::None
    }

    fn perform(self, call: &Call<'_>) -> Result<ClientSettings, Failure> {
        call.registry.client_settings(self.client, self.address).map_err(Failure::Invalid)
    }
}
