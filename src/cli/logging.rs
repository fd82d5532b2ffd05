//! Where the log of the program goes. The library emits events, and hands out the lines of the access log as values.

mod batch;
mod format;
mod number;
mod times;
mod waiting;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tracing::level_filters::LevelFilter;

use super::Error;
use crate::config::{Log, LogFormat, LogLevel};
use crate::kit::access_log::{AccessLog, Fields as _};
use crate::kit::append::AppendFile;
use batch::{LOG_THREAD, LineWriter};
use format::{JsonEvents, JsonLine, PlainNumbers, TextEvents, append_json, append_text};
use times::Times;

/// The permissions of a new log file, before the umask.
const MODE: u32 = 0o666;

/// The log of a running program. Dropping it writes all lines that wait, if the output takes them within a second.
#[derive(Debug)]
pub(super) struct Logging {
    writer: LineWriter,
    access_log: AccessLog,
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
    let append = match log.format {
        LogFormat::Text => append_text,
        LogFormat::Json => append_json,
    };
    let writer = match &file {
        None => LineWriter::start(io::stderr(), append),
        Some(file) => LineWriter::start(Lines { file: Arc::clone(file), is_failing: false }, append),
    };
    let writer = writer.map_err(Error::usage)?;
    let colours = log.format == LogFormat::Text && file.is_none() && io::IsTerminal::is_terminal(&io::stderr());
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
    log_panics();
    // A terminal shows them in colours, as all events.
    let access_log = if level >= LevelFilter::INFO && !colours { writer.access_log() } else { AccessLog::default() };
    Ok(Logging { writer, access_log, file, json_on_stderr })
}

/// Makes a panic an event of the log.
fn log_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The thread that writes the log can only use standard error.
        if std::thread::current().name() == Some(LOG_THREAD) {
            return before(panic);
        }
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(%panic, backtrace, "the program panicked");
    }));
}

fn open(path: &Path) -> Result<Arc<AppendFile>, Error> {
    let file = AppendFile::open(path, MODE);
    Ok(Arc::new(file.map_err(|error| Error::usage(format!("log.output: {}: {error}", path.display())))?))
}

impl Logging {
    /// Where the lines about requests go.
    pub(super) fn access_log(&self) -> AccessLog {
        self.access_log.clone()
    }

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
        let out = if self.json_on_stderr {
            let times = Times::default();
            let mut line = JsonLine::begin(Vec::new(), &times, times.now(), level);
            line.text("message", message);
            for (name, value) in fields {
                line.text(name, value);
            }
            line.end("coracle")
        } else {
            format!("{text}\n").into_bytes()
        };
        if self.file.is_none() {
            self.writer.write_now(&out);
        } else {
            // Standard error may be closed.
            let _ = io::stderr().write_all(&out);
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
    /// Takes whole lines only. If the file has the last line in part, the caller tries the whole line again.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let (whole, written) = self.file.append_whole(lines.strip_suffix(b"\n").unwrap_or(lines));
        let was_failing = std::mem::replace(&mut self.is_failing, written.is_err());
        if let Err(error) = &written
            && !was_failing
        {
            let _ = writeln!(io::stderr(), "coracle: log.output: {}: {error}", self.file.path().display());
        }
        // Lines that are whole in the file are not lost, even if there was an error.
        if whole > 0 { Ok(whole.min(lines.len())) } else { written.map(|()| 0) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn lines_in_a_moved_file_are_not_lost_if_no_new_file_can_be_created() {
        let directory = tempfile::tempdir().unwrap();
        let (place, moved) = (directory.path().join("logs"), directory.path().join("moved"));
        fs::create_dir(&place).unwrap();
        let file = Arc::new(AppendFile::open(&place.join("log"), MODE).unwrap());
        fs::rename(&place, &moved).unwrap();
        let mut lines = Lines { file, is_failing: false };
        assert_eq!(lines.write(b"first\nsecond\n").unwrap(), 13);
        assert!(lines.is_failing);
        assert_eq!(lines.write(b"third\n").unwrap(), 6);
        assert!(!lines.is_failing);
        assert_eq!(fs::read_to_string(moved.join("log")).unwrap(), "first\nsecond\nthird\n");
    }

    #[test]
    fn a_file_that_becomes_full_takes_whole_lines_only() {
        let (socket, _receiver) = UnixStream::pair().unwrap();
        let mut lines = Lines { file: Arc::new(AppendFile::test(socket)), is_failing: false };
        let line = [&[b'x'; 999][..], b"\n"].concat();
        let sent = line.repeat(16_000);
        let taken = lines.write(&sent).unwrap();
        assert!(lines.is_failing);
        assert!(taken > 0 && taken < sent.len() && taken.is_multiple_of(line.len()), "{taken} bytes");
        assert_eq!(lines.write(&sent[taken..]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
