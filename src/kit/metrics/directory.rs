//! [`DirectoryMetrics`]: the metrics of the LDAP directory.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// The metrics of the LDAP directory.
#[derive(Debug, Default)]
pub(super) struct DirectoryMetrics {
    requests: Family<ResultLabels, Counter<u64, AtomicU64>>,
    away: Gauge,
}

const RESULTS: [&str; 3] = ["accepted", "refused", "failed"];

impl DirectoryMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let help = "Requests to the LDAP directory: accepted, refused, or failed without a response";
        registry.register("coracle_ldap_requests", help, new.requests.clone());
        registry.register("coracle_ldap_away", "1 while the LDAP directory cannot be asked", new.away.clone());
        // The metrics exist without a directory, too, so that a dashboard finds them.
        new.set([0; 3], false);
        new
    }

    /// Sets the numbers of accepted, refused and failed requests.
    pub(super) fn set(&self, counts: [u64; 3], is_away: bool) {
        for (result, count) in RESULTS.into_iter().zip(counts) {
            self.requests.get_or_create(&ResultLabels { result }).inner().store(count, Ordering::Relaxed);
        }
        self.away.set(is_away.into());
    }
}
