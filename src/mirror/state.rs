//! [`UpstreamState`]: how an upstream does, for people and metrics. Sends no request.

use std::time::{Duration, Instant};

use super::client::Client;
use super::{Mirror, Upstream, sync};
use crate::kit::metrics::Metrics;

/// How an upstream does.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpstreamState {
    /// Requests that failed since the start. A missing manifest is no failure.
    pub(crate) errors: u64,
    /// The last failure: when, and why.
    pub(crate) last_error: Option<(Instant, String)>,
    /// Why no request is sent to any of its addresses, and for how long. `None` if one of them is available.
    pub(crate) paused: Option<(Duration, String)>,
    /// The requests for manifests that it still allows.
    pub(crate) quota: Option<u64>,
    /// The requests that a run of synchronisation leaves for clients. 0 if the limit begins again so soon that it waits.
    pub(crate) quota_floor: Option<u64>,
}

impl Upstream {
    pub(crate) fn state(&self) -> UpstreamState {
        let states: Vec<_> = self.clients.iter().map(Client::state).collect();
        let allowance = self.allowance();
        let is_paused = states.iter().all(|state| state.paused.is_some());
        UpstreamState {
            errors: states.iter().map(|state| state.errors).sum(),
            last_error: states.iter().filter_map(|state| state.last_error.clone()).max_by_key(|(at, _)| *at),
            paused: states.iter().filter_map(|state| state.paused.clone()).min().filter(|_| is_paused),
            quota: allowance.map(|allowance| allowance.left),
            quota_floor: allowance.map(sync::quota_floor),
        }
    }

    /// Its addresses, for people.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.clients.iter().map(|client| client.url().to_string()).collect()
    }
}

impl Mirror {
    /// Sets the metrics that are read from the state of upstreams.
    pub(crate) fn report(&self, metrics: &Metrics) {
        for upstream in &self.upstreams {
            let state = upstream.state();
            metrics.upstream(upstream.label(), state.errors, state.paused.is_none());
            metrics.upstream_quota(upstream.label(), state.quota.zip(state.quota_floor));
        }
    }
}
