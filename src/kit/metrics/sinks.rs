//! [`Sinks`]: the metrics of the sinks of events.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabels {
    sink: String,
}

/// The figures of a sink of events since the start, and its backlog.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SinkFigures {
    pub(crate) delivered: u64,
    /// Attempts that failed.
    pub(crate) failures: u64,
    pub(crate) waiting: u64,
    /// Events that were set aside.
    pub(crate) refused: u64,
    /// Whether the last attempt failed.
    pub(crate) is_failing: bool,
}

/// The metrics of the sinks of events.
#[derive(Debug, Default)]
pub(super) struct Sinks {
    delivered: Family<SinkLabels, Counter<u64, AtomicU64>>,
    failures: Family<SinkLabels, Counter<u64, AtomicU64>>,
    waiting: Family<SinkLabels, Gauge>,
    refused: Family<SinkLabels, Gauge>,
    failing: Family<SinkLabels, Gauge>,
    pub(super) dropped: Counter<u64, AtomicU64>,
}

impl Sinks {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register("coracle_events_delivered", "Events that the sink took", new.delivered.clone());
        registry.register("coracle_events_failures", "Attempts to send an event that failed", new.failures.clone());
        for (name, help, family) in [
            ("coracle_events_waiting", "Events that wait for the sink", &new.waiting),
            ("coracle_events_refused", "Events that the sink refused and that were set aside", &new.refused),
            ("coracle_events_failing", "1 while the sink takes no events", &new.failing),
        ] {
            registry.register(name, help, family.clone());
        }
        let help = "Events that were dropped because too many waited (extensions.events.outboxLimit) or were refused";
        registry.register("coracle_events_dropped", help, new.dropped.clone());
        new
    }

    pub(super) fn set(&self, sink: &str, figures: &SinkFigures) {
        let labels = SinkLabels { sink: sink.to_owned() };
        let Self { delivered, failures, waiting, refused, failing, .. } = self;
        delivered.get_or_create(&labels).inner().store(figures.delivered, Ordering::Relaxed);
        failures.get_or_create(&labels).inner().store(figures.failures, Ordering::Relaxed);
        waiting.get_or_create(&labels).set(i64::try_from(figures.waiting).unwrap_or(i64::MAX));
        refused.get_or_create(&labels).set(i64::try_from(figures.refused).unwrap_or(i64::MAX));
        failing.get_or_create(&labels).set(figures.is_failing.into());
    }
}
