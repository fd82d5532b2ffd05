//! [`Prepared`]: the parts of a registry that follow from the configuration alone.
//!
//! A start makes them before it touches the data directory. `coracle check-config` makes them as well, so that it reports
//! what a start would refuse. All that a start checks without its data belongs here.

use super::builder::{check_quoted, checked_pattern, open_external_issuer, open_workloads};
use super::{Error, RemoteImages, directory, events, mirror, providers, retention};
use crate::config::Config;
use crate::content::repository::{ImmutableTags, Quotas, Retention};
use crate::events::Events;
use crate::identity::directory::Directory;
use crate::identity::providers::PreparedProviders;
use crate::identity::tokens::ExternalIssuer;
use crate::identity::workload::Workloads;
use crate::kit::metrics::Metrics;
use crate::kit::site::Site;
use crate::mirror::Upstream;

/// The parts of a registry that follow from the configuration alone.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) retention: Retention,
    pub(super) quotas: Quotas,
    pub(super) immutable: ImmutableTags,
    pub(super) events: Option<Events>,
    pub(super) external_issuer: Option<ExternalIssuer>,
    pub(super) workloads: Workloads,
    pub(super) providers: PreparedProviders,
    pub(super) directory: Option<Directory>,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) site: Option<Site>,
}

impl Prepared {
    /// Reads the files that the configuration names. Sends no request. Returns every problem, of which there is at least
    /// one.
    pub(super) fn new(config: &Config, takeover: Option<&RemoteImages>, metrics: &Metrics) -> Result<Self, Vec<Error>> {
        let mut errors = Vec::new();
        let (http, extensions, storage) = (&config.http, &config.extensions, &config.storage);
        keep(check_quoted("http.realm", &http.realm), &mut errors);
        for rules in http.access_control.iter().flat_map(|control| &control.repositories) {
            keep(checked_pattern("http.accessControl.repositories", &rules.pattern), &mut errors);
        }
        let ui = extensions.ui.directory.as_deref().filter(|_| extensions.ui.enable && extensions.search.enable);
        let site = ui.map(Site::read).transpose();
        let site = site.map_err(|error| Error::setting("extensions.ui.directory", error.to_string()));
        let retention = keep(retention::retention(&storage.collection), &mut errors);
        let quotas = keep(retention::quotas(storage), &mut errors);
        let immutable = keep(retention::immutable_tags(&storage.immutable_tags), &mut errors);
        let events = keep(events::prepare(&extensions.events), &mut errors);
        let external = keep(http.auth.bearer.as_ref().map(open_external_issuer).transpose(), &mut errors);
        let workloads = keep(open_workloads(config), &mut errors);
        let providers = keep(providers::prepare(config), &mut errors);
        let directory = keep(http.auth.ldap.as_ref().map(directory::open).transpose(), &mut errors);
        let upstreams = keep(mirror::upstreams(&extensions.sync, takeover, metrics), &mut errors);
        let site = keep(site, &mut errors);
        match (retention, quotas, immutable, events, external, workloads, providers, directory, upstreams, site) {
            (
                Some(retention),
                Some(quotas),
                Some(immutable),
                Some(events),
                Some(external_issuer),
                Some(workloads),
                Some(providers),
                Some(directory),
                Some(upstreams),
                Some(site),
            ) if errors.is_empty() => Ok(Self {
                retention,
                quotas,
                immutable,
                events,
                external_issuer,
                workloads,
                providers,
                directory,
                upstreams,
                site,
            }),
            _ => Err(errors),
        }
    }
}

/// The value of a result, or `None` if it is an error, which is kept.
fn keep<T>(result: Result<T, Error>, errors: &mut Vec<Error>) -> Option<T> {
    result.map_err(|error| errors.push(error)).ok()
}

/// The problems that end a start with this configuration before it touches the data directory: the keys, and why.
pub(crate) fn start_problems(config: &Config) -> Vec<(&'static str, String)> {
    let errors = Prepared::new(config, None, &Metrics::new()).err().unwrap_or_default();
    errors
        .into_iter()
        .map(|error| match error {
            Error::InvalidSetting { key, cause } => (key, cause.to_string()),
            other => ("", other.to_string()),
        })
        .collect()
}
