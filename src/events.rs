//! Events about changes, sent to the sinks of `extensions.events` as `CloudEvents` over HTTP, as zot sends them.
//!
//! The transaction of a change writes its events to the outbox; see [`crate::content::rows`]. One task for each sink sends
//! them in order, at least once: the position of the sink is written after the events were taken. An event that the sink
//! answers with an error is set aside after some attempts. A sink that cannot be reached is tried until it can be. Knows no
//! request and no rights.

mod message;
mod sink;

use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) use message::{id as event_id, kind as event_type};
pub(crate) use sink::{Sink, SinkSettings};

use crate::content::repository::{Error, Stores};
use crate::kit::metrics::{Metrics, SinkFigures};

/// The sinks of a registry.
#[derive(Debug)]
pub(crate) struct Events {
    sinks: Vec<Arc<Sink>>,
}

impl Events {
    /// Prepares the sinks. Sends no request.
    pub(crate) fn new(settings: Vec<SinkSettings>) -> Result<Self, String> {
        let sinks: Vec<_> = settings.into_iter().map(|sink| Sink::new(sink).map(Arc::new)).collect::<Result<_, _>>()?;
        let events = Self { sinks };
        if events.keys().len() < events.sinks.len() {
            return Err("two sinks have the same address: give them names".to_owned());
        }
        Ok(events)
    }

    /// Writes events for the sinks from now on. At most `limit` wait.
    pub(crate) fn begin(&self, limit: u64, stores: &Stores) -> Result<(), Error> {
        stores.keep_events(self.keys(), limit)
    }

    fn keys(&self) -> BTreeSet<String> {
        self.sinks.iter().map(|sink| sink.key().to_owned()).collect()
    }

    pub(crate) fn sinks(&self) -> &[Arc<Sink>] {
        &self.sinks
    }

    /// The sink with a key.
    pub(crate) fn sink(&self, key: &str) -> Option<&Sink> {
        self.sinks.iter().find(|sink| sink.key() == key).map(Arc::as_ref)
    }

    /// Sets the figures of the sinks in the metrics.
    pub(crate) fn report(&self, stores: &Stores, metrics: &Metrics) {
        for sink in &self.sinks {
            let Ok((waiting, refused)) = stores.sink_counts(sink.key()) else { continue };
            let state = sink.state();
            metrics.sink(
                sink.key(),
                &SinkFigures {
                    delivered: state.delivered,
                    failures: state.failures,
                    waiting,
                    refused: refused as u64,
                    is_failing: state.failing.is_some(),
                },
            );
        }
        metrics.dropped_events(stores.dropped_events());
    }
}
