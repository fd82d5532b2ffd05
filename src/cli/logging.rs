//! Where the program's log goes. The library only says things; who listens is decided here.

use std::fs::File;
use std::sync::Mutex;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::config::{Log, LogFormat, LogLevel};

/// Starts to listen, for the rest of the process.
pub(super) fn start(log: &Log) -> Result<(), String> {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let writer = match &log.output {
        None => BoxMakeWriter::new(std::io::stderr),
        Some(path) => {
            let file = File::options().append(true).create(true).open(path);
            let file = file.map_err(|error| format!("log.output: {}: {error}", path.display()))?;
            BoxMakeWriter::new(Mutex::new(file))
        }
    };
    let colours = log.output.is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(writer)
        .with_ansi(colours)
        // A line that cannot be written would be reported on standard error, with a panic if that is gone.
        .log_internal_errors(false);
    let started = match log.format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| error.to_string())
}
