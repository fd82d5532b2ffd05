//! Where the log of the program goes. The library only emits events.

mod batch;
mod format;
mod number;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tracing::level_filters::LevelFilter;

use super::Error;
use crate::config::{Log, LogFormat, LogLevel};
use crate::kit::append::AppendFile;
use batch::LineWriter;
use format::{JsonEvents, JsonLine, PlainNumbers, TextEvents, Times};

/// The permissions of a new log file, before the umask.
const MODE: u32 = 0o666;

/// The log of a running program. Dropping it writes all lines that wait.
#[derive(Debug)]
pub(super) struct Logging {
    writer: LineWriter,
    file: Option<Arc<AppendFile>>,
    /// Whether standard error must have JSON lines only, because a program reads it.
    json_on_stderr: bool,
}

/// Starts logging, until the process ends.
pub(super) fn start(log: &Log) -> Result<Logging, Error> {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let file = log.output.as_deref().map(open).transpose()?;
    let writer = match &file {
        None => LineWriter::start(io::stderr()),
        Some(file) => LineWriter::start(Lines { file: Arc::clone(file), is_failing: false }),
    };
    let writer = writer.map_err(Error::usage)?;
    let colours = file.is_none() && io::IsTerminal::is_terminal(&io::stderr());
    let json_on_stderr = file.is_none() && log.format == LogFormat::Json;
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(writer.clone())
        // Otherwise a line that cannot be written is reported on standard error, which panics if that is closed.
        .log_internal_errors(false);
    let started = match log.format {
        LogFormat::Text => {
            subscriber.with_ansi(colours).fmt_fields(PlainNumbers).event_format(TextEvents::default()).try_init()
        }
        LogFormat::Json => subscriber.with_ansi(false).event_format(JsonEvents::default()).try_init(),
    };
    started.map_err(Error::usage)?;
    if json_on_stderr {
        std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "the program panicked")));
    }
    Ok(Logging { writer, file, json_on_stderr })
}

fn open(path: &Path) -> Result<Arc<AppendFile>, Error> {
    let file = AppendFile::open(path, MODE);
    Ok(Arc::new(file.map_err(|error| Error::usage(format!("log.output: {}: {error}", path.display())))?))
}

impl Logging {
    /// Opens the log file again, after it was renamed.
    pub(super) fn reopen(&self) {
        if let Some(file) = &self.file
            && let Err(error) = file.reopen()
        {
            tracing::error!(path = %file.path().display(), %error, "cannot open the log file again");
        }
    }

    /// Prints a message to standard error at every log level: as text, or as one JSON line if the log is JSON.
    pub(super) fn say(&self, level: tracing::Level, text: &str, message: &str, fields: &[(&str, &str)]) {
        let mut out = if self.json_on_stderr {
            let mut line = JsonLine::begin(&Times::default(), level);
            line.text("message", message);
            for (name, value) in fields {
                line.text(name, value);
            }
            line.end("coracle")
        } else {
            text.to_owned()
        };
        out.push('\n');
        if self.file.is_none() {
            self.writer.write_now(out.as_bytes());
        } else {
            // Standard error may be closed.
            let _ = io::stderr().write_all(out.as_bytes());
        }
    }

    /// Prints a warning.
    pub(super) fn warn(&self, warning: &str) {
        self.say(tracing::Level::WARN, &format!("warning: {warning}"), warning, &[]);
    }

    /// Prints why the program ends, and returns its exit code.
    pub(super) fn failed(&self, error: &str) -> ExitCode {
        self.say(tracing::Level::ERROR, &format!("coracle: {error}"), error, &[]);
        ExitCode::from(1)
    }

    /// Prints why the configuration cannot be used, and returns the exit code for that.
    pub(super) fn refused(&self, error: &str) -> ExitCode {
        self.failed(error);
        ExitCode::from(2)
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.writer.end();
    }
}

/// Writes lines to a file. The first of several failures is reported on standard error.
struct Lines {
    file: Arc<AppendFile>,
    is_failing: bool,
}

impl Write for Lines {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let written = self.file.append(lines.strip_suffix(b"\n").unwrap_or(lines));
        let was_failing = std::mem::replace(&mut self.is_failing, written.is_err());
        written.map(|()| lines.len()).inspect_err(|error| {
            if !was_failing {
                let _ = writeln!(io::stderr(), "coracle: log.output: {}: {error}", self.file.path().display());
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
