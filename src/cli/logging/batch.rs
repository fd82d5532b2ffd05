//! [`LineWriter`]: a thread that writes the log, and access log lines together.
//!
//! A system call for each line costs as much as answering a small request, and formatting a line costs half as much. So
//! lines of the access log are collected, and the thread formats and writes them at most [`DELAY`] later, earlier if
//! they are many. It writes all other lines as soon as it has written those before.
//!
//! Invariants: lines keep their order. Until the program ends, a request never waits for the output. If the output takes
//! nothing, lines beyond a limit are lost. They are counted in a later line, with those that could not be written. A
//! thread that waits for its line also waits for that count. A process that is killed loses the lines that the thread
//! has not written: those of the access log of the last [`DELAY`], and up to [`WAITING_BYTES_MAX`] if the output is slow.
//! A program that ends waits at most [`FLUSH_WAIT`] for an output that takes nothing.

#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use super::times::Times;
use super::waiting::{Next, Waiting};
use crate::kit::access_log::{AccessLine, AccessLog, TARGET};
use crate::kit::clock::Timestamp;
use crate::kit::opaque_debug::opaque_debug;

/// The longest time that a line of the access log waits for others.
const DELAY: Duration = Duration::from_millis(20);
/// The bytes of the access log that are written without waiting for more. Also the size of a write.
const ENOUGH_BYTES: usize = 64 * 1024;
/// The most bytes of memory for the access log lines that wait, and the most for all lines.
const ACCESS_BYTES_MAX: usize = 512 * 1024;
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// The room that is kept for the next lines: a batch is a little more than [`ENOUGH_BYTES`].
const KEPT_BYTES_MAX: usize = 96 * 1024;
/// The longest wait for the output when lines must be written before the program continues.
const FLUSH_WAIT: Duration = Duration::from_secs(1);
/// The pause before an output that takes nothing is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// The name of the thread that writes the log.
pub(super) const LOG_THREAD: &str = "log";

/// Formats a line of the access log and appends it to a text.
pub(super) type Append = fn(&mut Vec<u8>, &Times, Timestamp, &AccessLine<&str>);

/// The output of the log. Clones share it.
#[derive(Clone)]
pub(super) struct LineWriter(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified when lines begin to wait, or must be written at once.
    begun: Condvar,
    /// Notified when lines have been written.
    written: Condvar,
    times: Times,
}

#[derive(Default)]
struct State {
    waiting: Waiting,
    is_urgent: bool,
    is_writing: bool,
    end: End,
    /// The number of lines for which there was no room, or that could not be written.
    lost: u64,
    /// The thread that writes. It never waits for the output, because no other thread writes.
    log_thread: Option<ThreadId>,
}

/// Whether the program ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    No,
    /// Each line is written before the program continues.
    Writing,
    /// The output takes nothing, so the next lines are not waited for.
    Stuck,
}

impl LineWriter {
    /// Starts the thread, which runs until the process ends.
    pub(super) fn start(output: impl Write + Send + 'static, append: Append) -> io::Result<Self> {
        let writer = Self(Arc::default());
        let shared = Arc::clone(&writer.0);
        std::thread::Builder::new().name(LOG_THREAD.to_owned()).spawn(move || shared.run(output, append, warn_lost))?;
        Ok(writer)
    }

    /// Takes lines about requests.
    pub(super) fn access_log(&self) -> AccessLog {
        let shared = Arc::clone(&self.0);
        AccessLog::to(move |line| shared.add_request(line))
    }

    /// Writes what waits. Waits for each later line.
    pub(super) fn end(&self) {
        self.0.state.lock().end = End::Writing;
        self.0.flush();
    }

    /// Writes a line, after all that wait, before it returns.
    pub(super) fn write_now(&self, line: &[u8]) {
        self.0.add(line, false);
        self.0.flush();
    }
}

/// Logs how many lines were lost.
fn warn_lost(lines: u64) {
    // Not filtered at any level.
    tracing::error!(lines, "the log lost lines: its output took them too slowly, or could not be written");
}

impl Shared {
    /// Writes lines, and reports how many were lost, on this thread.
    fn run(&self, output: impl Write, append: Append, report_lost: impl Fn(u64)) -> ! {
        let mut output = LineOutput { to: output, is_torn: false };
        self.state.lock().log_thread = Some(std::thread::current().id());
        let (mut lines, mut text) = (Waiting::default(), Vec::new());
        loop {
            lines.clear(KEPT_BYTES_MAX);
            {
                let mut state = self.state.lock();
                self.begun.wait_while(&mut state, |state| state.waiting.is_empty());
                self.begun.wait_while_for(&mut state, |state| !state.is_urgent, DELAY);
                state.is_urgent = false;
                state.is_writing = true;
                std::mem::swap(&mut state.waiting, &mut lines);
            }
            let mut unwritten = 0;
            // After a failure, the rest of the batch would fail too, and each failure may take its time.
            let mut write = |text: &mut Vec<u8>, unwritten: &mut u64| {
                *unwritten += if *unwritten == 0 { output.write_all(text) } else { count_lines(text) };
                text.clear();
            };
            for line in lines.iter() {
                match line {
                    Next::Formatted(line) => text.extend_from_slice(line.as_bytes()),
                    Next::Request(time, line) => append(&mut text, &self.times, time, &line),
                }
                if text.len() >= ENOUGH_BYTES {
                    write(&mut text, &mut unwritten);
                }
            }
            write(&mut text, &mut unwritten);
            text.shrink_to(KEPT_BYTES_MAX);
            let lost = {
                let mut state = self.state.lock();
                state.lost += unwritten;
                // Otherwise this line could not be written either.
                if unwritten == 0 { std::mem::take(&mut state.lost) } else { 0 }
            };
            // The process may end when the threads that wait continue. So the report is added before that.
            if lost > 0 {
                report_lost(lost);
            }
            {
                let mut state = self.state.lock();
                state.is_writing = false;
                state.change_end(End::Stuck, End::Writing);
            }
            self.written.notify_all();
        }
    }

    /// Adds a line that is formatted.
    fn add(&self, line: &[u8], is_access: bool) {
        let line = String::from_utf8_lossy(line);
        self.push(Waiting::bytes_of(&line), is_access, |waiting| waiting.push(&line));
    }

    /// Adds a line about a request that has ended.
    fn add_request(&self, line: &AccessLine<&str>) {
        let time = self.times.now();
        self.push(Waiting::bytes_of_request(line), true, |waiting| waiting.push_request(time, line));
    }

    /// Adds a line of so many bytes, if there is room. A line of the log thread, the number of lost lines, always has room.
    fn push(&self, bytes: usize, is_access: bool, add: impl FnOnce(&mut Waiting)) {
        let mut state = self.state.lock();
        let most = if is_access { ACCESS_BYTES_MAX } else { WAITING_BYTES_MAX };
        if state.waiting.bytes() + bytes > most && !state.is_log_thread() {
            state.lost += 1;
            return;
        }
        let is_first = state.waiting.is_empty();
        add(&mut state.waiting);
        let was_urgent = state.is_urgent;
        state.is_urgent |= !is_access || state.end != End::No || state.waiting.bytes() >= ENOUGH_BYTES;
        if is_first || state.is_urgent && !was_urgent {
            self.begun.notify_one();
        }
        let must_wait = state.end == End::Writing && !state.is_log_thread();
        drop(state);
        if must_wait {
            self.flush();
        }
    }

    /// Waits until everything is written, for a limited time.
    fn flush(&self) {
        let deadline = Instant::now() + FLUSH_WAIT;
        let mut state = self.state.lock();
        state.is_urgent = true;
        self.begun.notify_one();
        while !state.waiting.is_empty() || state.is_writing {
            if self.written.wait_until(&mut state, deadline).timed_out() {
                state.change_end(End::Writing, End::Stuck);
                return;
            }
        }
    }
}

impl State {
    fn change_end(&mut self, from: End, to: End) {
        if self.end == from {
            self.end = to;
        }
    }

    fn is_log_thread(&self) -> bool {
        self.log_thread == Some(std::thread::current().id())
    }
}

/// An output that may be slow, closed, or set to take nothing for a while.
struct LineOutput<W> {
    to: W,
    /// Whether it ends in the middle of a line, because of a failure.
    is_torn: bool,
}

impl<W: Write> LineOutput<W> {
    /// Writes lines, after a line break if the last line is torn. Returns the number of lines that are not written whole,
    /// because standard error is closed, or the file cannot be written.
    fn write_all(&mut self, lines: &[u8]) -> u64 {
        if self.is_torn && self.write(b"\n") == 0 {
            return count_lines(lines);
        }
        let written = self.write(lines);
        self.is_torn = lines[..written].last().is_some_and(|byte| *byte != b'\n');
        count_lines(&lines[written..])
    }

    /// Writes until a failure. Returns the number of bytes written.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.to.write(rest) {
                Ok(count @ 1..) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY_PAUSE),
                Ok(0) | Err(_) => break,
            }
        }
        bytes.len() - rest.len()
    }
}

fn count_lines(lines: &[u8]) -> u64 {
    lines.split_inclusive(|byte| *byte == b'\n').count() as u64
}

opaque_debug!(LineWriter);

/// Writes the lines of one event.
#[derive(Debug)]
pub(super) struct Event<'a> {
    writer: &'a LineWriter,
    is_access: bool,
}

impl Write for Event<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.writer.0.add(line, self.is_access);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = Event<'a>;

    fn make_writer(&'a self) -> Event<'a> {
        Event { writer: self, is_access: false }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Event<'a> {
        Event { writer: self, is_access: metadata.target() == TARGET }
    }
}
