//! `coracle events …`: the events that wait for sinks, and those that sinks refused.

use std::process::ExitCode;

use clap::Subcommand;

use super::Error;
use super::administer::{Report, Target};
use crate::admin::{EventList, ListEvents, RedeliverEvents, Redelivered, shown_rfc3339};
use crate::kit::text::{counted, table};

/// Show events that could not be sent, and send them again
///
/// The registry sends events about changes to the sinks of extensions.events.
#[derive(Debug, clap::Args)]
pub(super) struct Events {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: EventsCommand,
}

#[derive(Debug, Subcommand)]
enum EventsCommand {
    List(ListEvents),
    Redeliver(RedeliverEvents),
}

impl Events {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        match self.command {
            EventsCommand::List(request) => self.target.run(request),
            EventsCommand::Redeliver(request) => self.target.run(request),
        }
    }
}

impl Report for EventList {
    fn print(&self) {
        let rows = self.sinks.iter().map(|sink| {
            let state = sink.failing.as_ref().map_or_else(|| "ok".to_owned(), |why| format!("failing: {why}"));
            let counts = [sink.waiting, sink.delivered, sink.refused.len() as u64].map(|count| count.to_string());
            let [waiting, delivered, refused] = counts;
            [sink.sink.clone(), waiting, delivered, refused, state]
        });
        print!("{}", table(["SINK", "WAITING", "DELIVERED", "REFUSED", "STATE"], rows));
        if self.sinks.iter().any(|sink| !sink.refused.is_empty()) {
            let refused = self.sinks.iter().flat_map(|sink| sink.refused.iter().map(move |event| (sink, event)));
            let rows = refused.map(|(sink, event)| {
                let reference = if event.reference.is_empty() { "-" } else { &event.reference };
                [
                    event.id.clone(),
                    sink.sink.clone(),
                    shown_rfc3339(&event.at),
                    event.kind.clone(),
                    event.repository.clone(),
                    reference.to_owned(),
                    event.why.clone(),
                ]
            });
            let header = ["REFUSED EVENT", "SINK", "TIME", "TYPE", "REPOSITORY", "REFERENCE", "REASON"];
            print!("\n{}", table(header, rows));
        }
        if self.dropped > 0 {
            println!(
                "{} dropped, because too many waited or were refused",
                counted(self.dropped, "event was", "events were")
            );
        }
    }
}

impl Report for Redelivered {
    fn print(&self) {
        println!("{} again; events that wait are tried now", counted(self.events, "event is sent", "events are sent"));
    }
}
