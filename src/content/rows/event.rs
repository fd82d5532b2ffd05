//! Rows of the outbox: events that are to be sent to sinks.
//!
//! The transaction of a change writes its events, so an acknowledged change has them and a refused one has none. Only an
//! image that lacks mandatory annotations is refused with an event, in a transaction of its own. Events are
//! numbered in the order of the changes. Each sink has a position: the number of the first event that it still needs. An
//! event is removed when all positions are beyond it. An event that a sink refuses becomes a row of its own, so that the
//! later ones are not held up. Nothing is written without sinks.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::ReadableTableMetadata as _;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::schema::{EVENT_POSITIONS, EVENTS, REFUSED_EVENTS};
use super::{Database, Error, Rows, WriteTx, codec};
use crate::kit::clock::{Clock, Timestamp};
use crate::oci::{Digest, RepositoryName};

/// The most refused events of a sink that are kept. Beyond it, the oldest one is dropped.
const REFUSED_MAX: usize = 1000;
/// A warning is logged for the first dropped event, and again after this many.
const WARN_EVERY: u64 = 1000;

/// The largest manifest of a refused push that its event keeps, in bytes.
const MANIFEST_BYTES_MAX: usize = 16 * 1024;

/// The manifests of refused pushes are kept while at most this many events wait, so that they use little disk.
const MANIFEST_EVENTS_MAX: u64 = 1000;

/// A kind of event. The numbers are in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EventKind {
    RepositoryCreated,
    ImageUpdated,
    ImageDeleted,
    ImageLintFailed,
}

/// The request behind an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EventOrigin {
    /// The name of the user.
    pub(crate) actor: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) method: Option<String>,
    pub(crate) agent: Option<String>,
}

/// An event. The manifest of a change is read when the event is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EventRow {
    pub(crate) id: u128,
    pub(crate) kind: EventKind,
    pub(crate) at: Timestamp,
    pub(crate) repository: String,
    /// The tag, or the digest of a manifest without one. Empty for a repository.
    pub(crate) reference: String,
    pub(crate) digest: String,
    pub(crate) media_type: String,
    pub(crate) origin: Option<EventOrigin>,
    /// The only sink that needs the event, if it is sent again.
    pub(crate) only: Option<String>,
    /// The manifest of a push that was refused, because it is not stored.
    #[serde(skip)]
    pub(crate) manifest: Option<String>,
}

/// An event that a sink refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefusedEvent {
    pub(crate) event: EventRow,
    pub(crate) refused: Timestamp,
    pub(crate) attempts: u32,
    pub(crate) why: String,
}

/// The outbox of a database with sinks.
pub(super) struct Outbox {
    clock: Clock,
    sinks: BTreeSet<String>,
    /// The most events that wait. Beyond it, the oldest ones are dropped.
    limit: u64,
    /// The number of the next event.
    next: AtomicU64,
    /// The events that were dropped since the start, because too many waited.
    dropped: AtomicU64,
    /// The refused events that were dropped since the start, because a sink refused too many.
    dropped_refused: AtomicU64,
    /// Notified when events were written.
    written: Notify,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbox({:?})", self.sinks)
    }
}

/// The events of the running change.
#[derive(Debug, Default)]
pub(super) struct NewEvents {
    events: Vec<EventRow>,
    origin: Option<EventOrigin>,
}

impl Database {
    /// Writes events for these sinks from now on. A new sink gets those from now on. Those of a sink that is missing are
    /// removed. Call it once, before any change.
    pub(crate) fn keep_events(&self, sinks: BTreeSet<String>, limit: u64, clock: Clock) -> Result<(), Error> {
        let known = sinks.clone();
        let next = self.write(move |tx| tx.open_outbox(&known))?;
        let _ = self.outbox.set(Outbox {
            clock,
            sinks,
            limit: limit.max(1),
            next: AtomicU64::new(next),
            dropped: AtomicU64::new(0),
            dropped_refused: AtomicU64::new(0),
            written: Notify::new(),
        });
        Ok(())
    }

    /// The number of events that were dropped since the start, because too many waited or were refused.
    pub(crate) fn dropped_events(&self) -> u64 {
        let count = |dropped: &AtomicU64| dropped.load(Ordering::Relaxed);
        self.outbox.get().map_or(0, |outbox| count(&outbox.dropped) + count(&outbox.dropped_refused))
    }

    /// Counts a refused event of a sink that was dropped.
    pub(crate) fn count_dropped_refusal(&self, sink: &str) {
        let Some(outbox) = self.outbox.get() else { return };
        let before = outbox.dropped_refused.fetch_add(1, Ordering::Relaxed);
        if before.is_multiple_of(WARN_EVERY) {
            let (limit, dropped) = (REFUSED_MAX, before + 1);
            tracing::warn!(sink, limit, dropped, "dropped the oldest refused event, because the sink refuses too many");
        }
    }

    /// A future that completes when events are written after this call. `None` without sinks.
    pub(crate) fn events_written(&self) -> Option<Notified<'_>> {
        self.outbox.get().map(|outbox| outbox.written.notified())
    }
}

impl Outbox {
    /// Wakes the tasks of all sinks.
    pub(super) fn notify(&self) {
        self.written.notify_waiters();
    }
}

impl Rows {
    /// The first number that a sink needs.
    pub(crate) fn event_position(&self, sink: &str) -> Result<u64, Error> {
        Ok(self.get(EVENT_POSITIONS, sink, |position| position)?.unwrap_or_default())
    }

    /// At most `limit` events that a sink needs, with their numbers, from a position on.
    pub(crate) fn events_for(&self, sink: &str, from: u64, limit: usize) -> Result<Vec<(u64, EventRow)>, Error> {
        let mut found = Vec::new();
        self.table(EVENTS)?.each(from.., |number, row| {
            let (event, manifest) =
                codec::decode_with::<EventRow, _>(row).ok_or_else(|| Error::corrupt(EVENTS, number))?;
            let event = EventRow { manifest, ..event };
            if event.only.as_deref().is_none_or(|only| only == sink) {
                found.push((number, event));
            }
            Ok(if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(found)
    }

    /// How many events a sink needs. Numbers that were not used, and events for another sink alone, count too.
    pub(crate) fn waiting_events(&self, sink: &str) -> Result<u64, Error> {
        let (position, table) = (self.event_position(sink)?, self.table(EVENTS)?);
        let (first, last) = (table.first()?, table.last()?);
        let Some((first, last)) = first.zip(last) else { return Ok(0) };
        Ok((last.0.value() + 1).saturating_sub(first.0.value().max(position)))
    }

    /// At most `limit` events that a sink refused, with their numbers, the oldest first.
    pub(crate) fn refused_events(&self, sink: &str, limit: usize) -> Result<Vec<(u64, RefusedEvent)>, Error> {
        self.table(REFUSED_EVENTS)?.collect((sink, 0)..=(sink, u64::MAX), limit, |(_, number), row| {
            let refused = refused(row).ok_or_else(|| Error::corrupt(REFUSED_EVENTS, number))?;
            Ok(Some((number, refused)))
        })
    }

    /// How many events a sink refused.
    pub(crate) fn refused_count(&self, sink: &str) -> Result<usize, Error> {
        Ok(self.table(REFUSED_EVENTS)?.collect((sink, 0)..=(sink, u64::MAX), usize::MAX, |_, _| Ok(Some(())))?.len())
    }
}

/// Decodes an event that a sink refused.
fn refused(row: &[u8]) -> Option<RefusedEvent> {
    let (refused, manifest) = codec::decode_with::<RefusedEvent, _>(row)?;
    Some(RefusedEvent { event: EventRow { manifest, ..refused.event }, ..refused })
}

impl WriteTx {
    /// Names the request behind the running change.
    pub(crate) fn set_event_origin(&mut self, origin: Option<EventOrigin>) {
        if let Some(new) = &mut self.events {
            new.origin = origin;
        }
    }

    /// Notes that a repository was created.
    pub(super) fn note_repository(&mut self, name: &RepositoryName) {
        self.note_event(EventKind::RepositoryCreated, name, String::new(), None, String::new());
    }

    /// Notes that a tag or a manifest was stored or removed.
    pub(super) fn note_image(
        &mut self,
        kind: EventKind,
        name: &RepositoryName,
        reference: &impl ToString,
        digest: Digest,
        media_type: Option<&str>,
    ) -> Result<(), Error> {
        if self.events.is_none() {
            return Ok(());
        }
        let media_type = match media_type {
            Some(known) => known.to_owned(),
            None => self.stored_manifest(name, digest)?.map(|row| row.media_type).unwrap_or_default(),
        };
        self.note_event(kind, name, reference.to_string(), Some(digest), media_type);
        Ok(())
    }

    /// Notes that an image was refused because of its manifest.
    pub(crate) fn note_lint(
        &mut self,
        name: &RepositoryName,
        reference: &impl ToString,
        digest: Digest,
        media_type: &str,
        manifest: &[u8],
    ) -> Result<(), Error> {
        let is_kept = manifest.len() <= MANIFEST_BYTES_MAX && self.table_mut(EVENTS)?.len()? < MANIFEST_EVENTS_MAX;
        self.note_event(EventKind::ImageLintFailed, name, reference.to_string(), Some(digest), media_type.to_owned());
        if let Some(event) = self.events.as_mut().and_then(|new| new.events.last_mut()).filter(|_| is_kept) {
            event.manifest = Some(String::from_utf8_lossy(manifest).into_owned());
        }
        Ok(())
    }

    fn note_event(
        &mut self,
        kind: EventKind,
        name: &RepositoryName,
        reference: String,
        digest: Option<Digest>,
        media_type: String,
    ) {
        if let Some(new) = &mut self.events {
            new.events.push(EventRow {
                id: rand::random(),
                kind,
                at: Timestamp::from_micros(0),
                repository: name.to_string(),
                reference,
                digest: digest.map(|digest| digest.to_string()).unwrap_or_default(),
                media_type,
                origin: None,
                only: None,
                manifest: None,
            });
        }
    }

    /// Forgets the events of a change that failed.
    pub(super) fn forget_events(&mut self) {
        if let Some(new) = &mut self.events {
            *new = NewEvents::default();
        }
    }

    /// Writes the events of a change that succeeded. Returns whether there are any.
    pub(super) fn write_events(&mut self, outbox: &Outbox) -> Result<bool, Error> {
        let Some(NewEvents { mut events, origin }) = self.events.as_mut().map(std::mem::take) else { return Ok(false) };
        // A push to a tag stores its manifest too. That is one event.
        let tagged: BTreeSet<(String, String)> = events
            .iter()
            .filter(|event| event.kind == EventKind::ImageUpdated && event.reference != event.digest)
            .map(|event| (event.repository.clone(), event.digest.clone()))
            .collect();
        events.retain(|event| {
            let is_bare = event.kind == EventKind::ImageUpdated && event.reference == event.digest;
            event.only.is_some() || !is_bare || !tagged.contains(&(event.repository.clone(), event.digest.clone()))
        });
        let has_any = !events.is_empty();
        for event in events {
            let is_new = event.only.is_none();
            let event =
                if is_new { EventRow { at: outbox.clock.now(), origin: origin.clone(), ..event } } else { event };
            let row = codec::encode_with(&event, &event.manifest);
            self.insert(EVENTS, outbox.next.fetch_add(1, Ordering::Relaxed), row.as_slice())?;
        }
        if has_any {
            self.bound_events(outbox)?;
        }
        Ok(has_any)
    }

    /// Drops the oldest events if too many wait.
    fn bound_events(&mut self, outbox: &Outbox) -> Result<(), Error> {
        let count = self.table_mut(EVENTS)?.len()?.saturating_sub(outbox.limit);
        if count > 0 {
            let surplus = usize::try_from(count).unwrap_or(usize::MAX);
            let oldest = self.table(EVENTS)?.collect(.., surplus, |number, _| Ok(Some(number)))?;
            for number in oldest {
                self.remove(EVENTS, number)?;
            }
            let before = outbox.dropped.fetch_add(count, Ordering::Relaxed);
            if before == 0 || before / WARN_EVERY != (before + count) / WARN_EVERY {
                let (limit, dropped) = (outbox.limit, before + count);
                tracing::warn!(
                    limit,
                    dropped,
                    "dropped the oldest events, because a sink takes none and too many wait"
                );
            }
        }
        Ok(())
    }

    /// Prepares the rows for these sinks. Returns the number of the next event.
    fn open_outbox(&mut self, sinks: &BTreeSet<String>) -> Result<u64, Error> {
        let mut positions = self
            .table(EVENT_POSITIONS)?
            .collect(.., usize::MAX, |sink, position| Ok(Some((sink.to_owned(), position))))?;
        let last = self.table(EVENTS)?.last()?.map_or(0, |(number, _)| number.value() + 1);
        let next = positions.iter().map(|(_, position)| *position).fold(last, u64::max);
        positions.retain(|(sink, _)| !sinks.contains(sink));
        for (sink, _) in positions {
            self.remove(EVENT_POSITIONS, sink.as_str())?;
            for (number, _) in self.refused_events(&sink, usize::MAX)? {
                self.remove(REFUSED_EVENTS, (sink.as_str(), number))?;
            }
        }
        for sink in sinks {
            if !self.has(EVENT_POSITIONS, sink.as_str())? {
                self.insert(EVENT_POSITIONS, sink.as_str(), next)?;
            }
        }
        self.remove_sent_events()?;
        Ok(next)
    }

    /// Notes that a sink needs no event before a position.
    pub(crate) fn set_event_position(&mut self, sink: &str, position: u64) -> Result<(), Error> {
        if self.event_position(sink)? >= position {
            return Ok(());
        }
        self.insert(EVENT_POSITIONS, sink, position)?;
        self.remove_sent_events()
    }

    /// Notes that a sink refused an event. Returns whether the oldest refused event was dropped, to make room for it.
    pub(crate) fn add_refused_event(&mut self, sink: &str, number: u64, refused: &RefusedEvent) -> Result<bool, Error> {
        let range = (sink, 0)..=(sink, u64::MAX);
        let known = self.table(REFUSED_EVENTS)?.collect(range, REFUSED_MAX, |(_, number), _| Ok(Some(number)))?;
        let oldest = known.first().filter(|_| known.len() >= REFUSED_MAX);
        if let Some(oldest) = oldest {
            self.remove(REFUSED_EVENTS, (sink, *oldest))?;
        }
        let row = codec::encode_with(refused, &refused.event.manifest);
        self.insert(REFUSED_EVENTS, (sink, number), row.as_slice())?;
        Ok(oldest.is_some())
    }

    /// Puts an event that a sink refused at the end of the outbox, for this sink alone. Returns whether there is one.
    pub(crate) fn redeliver_event(&mut self, sink: &str, number: u64) -> Result<bool, Error> {
        let Some(row) = self.get(REFUSED_EVENTS, (sink, number), refused)? else { return Ok(false) };
        let refused = row.ok_or_else(|| Error::corrupt(REFUSED_EVENTS, number))?;
        self.remove(REFUSED_EVENTS, (sink, number))?;
        if let Some(new) = &mut self.events {
            new.events.push(EventRow { only: Some(sink.to_owned()), ..refused.event });
        }
        Ok(true)
    }

    /// Removes the events that no sink needs.
    fn remove_sent_events(&mut self) -> Result<(), Error> {
        let positions = self.table(EVENT_POSITIONS)?.collect(.., usize::MAX, |_, position| Ok(Some(position)))?;
        let needed = positions.into_iter().min().unwrap_or(u64::MAX);
        let sent = self.table(EVENTS)?.collect(..needed, usize::MAX, |number, _| Ok(Some(number)))?;
        for number in sent {
            self.remove(EVENTS, number)?;
        }
        Ok(())
    }
}
