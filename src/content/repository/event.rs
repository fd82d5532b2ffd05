//! The outbox of events: what sinks still need, and what they refused. [`crate::events`] sends them.

use std::collections::BTreeSet;

use tokio::sync::futures::Notified;

use super::{Error, Stores};
use crate::content::rows::{self, EventRow, RefusedEvent, Rows};
use crate::oci::Digest;

/// The most refused events that a list shows for each sink.
const LISTED_MAX: usize = 1000;

/// The state of a sink in the outbox.
#[derive(Clone, Debug)]
pub(crate) struct SinkBacklog {
    /// How many events wait, at most.
    pub(crate) waiting: u64,
    /// The events that it refused, with their numbers.
    pub(crate) refused: Vec<(u64, RefusedEvent)>,
}

impl Stores {
    /// Writes events for these sinks from now on. Call it once, before any change.
    pub(crate) fn keep_events(&self, sinks: BTreeSet<String>, limit: u64) -> Result<(), Error> {
        Ok(self.database.keep_events(sinks, limit, self.clock.clone())?)
    }

    /// A future that completes when events are written after this call. `None` without sinks.
    pub(crate) fn events_written(&self) -> Option<Notified<'_>> {
        self.database.events_written()
    }

    /// The number of events that were dropped since the start, because too many waited.
    pub(crate) fn dropped_events(&self) -> u64 {
        self.database.dropped_events()
    }

    /// At most `limit` events that a sink needs, from its position on.
    pub(crate) fn events_for(&self, sink: &str, limit: usize) -> Result<Vec<(u64, EventRow)>, Error> {
        Ok(self.database.read(|rows| rows.events_for(sink, rows.event_position(sink)?, limit))?)
    }

    /// The manifest of an event, if it still exists.
    pub(crate) fn manifest_of_event(&self, event: &EventRow) -> Result<Option<String>, Error> {
        let (Ok(name), Ok(digest)) = (event.repository.parse(), event.digest.parse::<Digest>()) else {
            return Ok(None);
        };
        let bytes = self.database.read(|rows| rows.manifest_bytes(&name, digest))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Notes that a sink needs no event before a position.
    pub(crate) fn set_event_position(&self, sink: String, position: u64) -> Result<(), Error> {
        Ok(self.database.write(move |tx| tx.set_event_position(&sink, position))?)
    }

    /// Notes that a sink refused an event, and goes on with the next one.
    pub(crate) fn refuse_event(&self, sink: String, number: u64, refused: RefusedEvent) -> Result<(), Error> {
        Ok(self.database.write(move |tx| {
            tx.add_refused_event(&sink, number, &refused)?;
            tx.set_event_position(&sink, number + 1)
        })?)
    }

    /// How many events wait for a sink, and how many it refused.
    pub(crate) fn sink_counts(&self, sink: &str) -> Result<(u64, usize), Error> {
        let count = |rows: &Rows| Ok::<_, rows::Error>((rows.waiting_events(sink)?, rows.refused_count(sink)?));
        Ok(self.database.read(count)?)
    }

    /// The state of a sink.
    pub(crate) fn sink_backlog(&self, sink: &str) -> Result<SinkBacklog, Error> {
        Ok(self.database.read(|rows| {
            Ok::<_, rows::Error>(SinkBacklog {
                waiting: rows.waiting_events(sink)?,
                refused: rows.refused_events(sink, LISTED_MAX)?,
            })
        })?)
    }

    /// Sends events again that a sink refused: those with these numbers, or all. Returns their count.
    pub(crate) fn redeliver_events(&self, sink: String, numbers: Option<Vec<u64>>) -> Result<u64, Error> {
        Ok(self.database.write(move |tx| {
            let refused = tx.refused_events(&sink, usize::MAX)?.into_iter().map(|(number, _)| number);
            let chosen: Vec<u64> =
                refused.filter(|number| numbers.as_ref().is_none_or(|only| only.contains(number))).collect();
            for number in &chosen {
                tx.redeliver_event(&sink, *number)?;
            }
            Ok::<_, rows::Error>(chosen.len() as u64)
        })?)
    }
}
