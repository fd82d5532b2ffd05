//! Operations on the events that wait for sinks, and on those that sinks refused.

use serde::{Deserialize, Serialize};

use super::{Call, Failure, Operation};
use crate::events::{Events, Sink, event_id, event_type};

/// List the sinks of events, and the events that each of them refused
///
/// An event that a sink answers with an error several times is set aside, so that later ones are not held up. The list has
/// at most 1000 of them for each sink.
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct ListEvents {
    /// Only this sink [default: all]
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EventList {
    pub(crate) sinks: Vec<SinkView>,
    /// The events that were dropped since the start, because too many waited or were refused.
    pub(crate) dropped: u64,
}

/// A sink, since the start of the registry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SinkView {
    pub(crate) sink: String,
    pub(crate) waiting: u64,
    pub(crate) delivered: u64,
    pub(crate) failures: u64,
    /// Why the last attempt failed. `None` if it succeeded.
    pub(crate) failing: Option<String>,
    pub(crate) refused: Vec<RefusedView>,
}

/// An event that a sink refused.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RefusedView {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) repository: String,
    pub(crate) reference: String,
    pub(crate) at: String,
    pub(crate) refused: String,
    pub(crate) attempts: u32,
    pub(crate) why: String,
}

/// The sinks of the registry.
fn events<'a>(call: &Call<'a>) -> Result<&'a Events, Failure> {
    let none = || Failure::Invalid("this registry sends no events: extensions.events has no sink".to_owned());
    call.registry.events().ok_or_else(none)
}

/// The sinks that an operation is about.
fn chosen<'a>(events: &'a Events, name: Option<&str>) -> Result<Vec<&'a Sink>, Failure> {
    let Some(name) = name else { return Ok(events.sinks().iter().map(AsRef::as_ref).collect()) };
    let known = || events.sinks().iter().map(|sink| sink.key()).collect::<Vec<_>>().join(", ");
    let sink = events.sink(name).ok_or_else(|| Failure::Invalid(format!("no sink {name:?}: there is {}", known())))?;
    Ok(vec![sink])
}

impl Operation for ListEvents {
    type Answer = EventList;

    fn perform(self, call: &Call<'_>) -> Result<EventList, Failure> {
        let stores = call.registry.stores();
        let mut sinks = Vec::new();
        for sink in chosen(events(call)?, self.sink.as_deref())? {
            let (backlog, state) = (stores.sink_backlog(sink.key())?, sink.state());
            let refused = backlog.refused.into_iter().map(|(_, refused)| RefusedView {
                id: event_id(&refused.event),
                kind: event_type(refused.event.kind).to_owned(),
                at: refused.event.at.to_string(),
                refused: refused.refused.to_string(),
                attempts: refused.attempts,
                why: refused.why,
                repository: refused.event.repository,
                reference: refused.event.reference,
            });
            sinks.push(SinkView {
                sink: sink.key().to_owned(),
                waiting: backlog.waiting,
                delivered: state.delivered,
                failures: state.failures,
                failing: state.failing,
                refused: refused.collect(),
            });
        }
        Ok(EventList { sinks, dropped: stores.dropped_events() })
    }
}

/// Send events again that a sink refused, and end the pauses after failures
///
/// The events go to the end of the queue of their sink.
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct RedeliverEvents {
    /// The ids of the events, as the list shows them [default: all that were refused]
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Only to this sink [default: all]
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Redelivered {
    pub(crate) events: u64,
}

impl Operation for RedeliverEvents {
    type Answer = Redelivered;

    fn perform(self, call: &Call<'_>) -> Result<Redelivered, Failure> {
        let (stores, mut count) = (call.registry.stores(), 0);
        for sink in chosen(events(call)?, self.sink.as_deref())? {
            let numbers = if self.ids.is_empty() {
                None
            } else {
                let refused = stores.sink_backlog(sink.key())?.refused.into_iter();
                let wanted = refused.filter(|(_, refused)| self.ids.contains(&event_id(&refused.event)));
                Some(wanted.map(|(number, _)| number).collect())
            };
            count += stores.redeliver_events(sink.key().to_owned(), numbers)?;
            sink.retry_now();
        }
        if count == 0 && !self.ids.is_empty() {
            return Err(Failure::Invalid("no sink refused an event with such an id".to_owned()));
        }
        Ok(Redelivered { events: count })
    }
}
