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

impl DirectoryMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let help = "Questions to the LDAP directory: accepted, refused, or failed without an answer";
        registry.register("coracle_ldap_requests", help, new.requests.clone());
        registry.register("coracle_ldap_away", "1 while the LDAP directory cannot be asked", new.away.clone());
        new
    }

    pub(super) fn set(&self, results: [(&'static str, u64); 3], is_away: bool) {
        for (result, count) in results {
            self.requests.get_or_create(&ResultLabels { result }).inner().store(count, Ordering::Relaxed);
        }
        self.away.set(is_away.into());
    }
}
