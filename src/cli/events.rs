//! `coracle events …`: the events that wait for sinks, and those that sinks refused.

use std::process::ExitCode;

use clap::Subcommand;

use super::Error;
use super::administer::{Report, Target};
use crate::admin::{EventList, ListEvents, RedeliverEvents, Redelivered};
use crate::kit::text::counted;

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
        for sink in &self.sinks {
            let state = sink.failing.as_ref().map_or_else(|| "ok".to_owned(), |why| format!("failing: {why}"));
            println!(
                "{}  {} waiting, {} delivered, {} refused  {state}",
                sink.sink,
                sink.waiting,
                sink.delivered,
                sink.refused.len()
            );
            for event in &sink.refused {
                let image = if event.reference.is_empty() { String::new() } else { format!(" {}", event.reference) };
                println!("  {}  {}  {}  {}{image}  {}", event.id, event.at, event.kind, event.repository, event.why);
            }
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
