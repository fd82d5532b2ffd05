//! [`LineWriter`]: a thread that writes the log, and access log lines together.
//!
//! A system call for each line costs as much as answering a small request, and formatting it half as much. So lines of the
//! access log are collected, and formatted and written at most [`DELAY`] later, earlier if they are many. All other lines
//! are written at once.
//!
//! Invariants: lines keep their order. A request never waits for the output: if the output takes nothing, lines beyond
//! a limit are lost, as those are that cannot be written, and counted in a later line. A thread that waits for its line
//! also waits for that count. A process that is killed loses the access log lines of the last [`DELAY`].

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
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::opaque_debug::opaque_debug;

/// The longest time that a line of the access log waits for others.
const DELAY: Duration = Duration::from_millis(20);
/// The bytes of the access log that are written without waiting for more, and those that are formatted before a write.
const ENOUGH_BYTES: usize = 64 * 1024;
/// The most bytes of the access log that wait, and the most bytes of all lines.
const ACCESS_BYTES_MAX: usize = 512 * 1024;
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// The room that is kept for the next lines.
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// The longest wait for the output when lines must be written before the program continues.
const FLUSH_WAIT: Duration = Duration::from_secs(1);
/// The pause before an output that takes nothing is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(5);
/// Appends the line about a request that ended at a time.
pub(super) type Append = fn(&mut Vec<u8>, &Times, Timestamp, &AccessLine<'_>);

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
    clock: Clock,
}

#[derive(Default)]
struct State {
    waiting: Waiting,
    is_urgent: bool,
    is_writing: bool,
    /// Whether the program ends, so that each line is written before the program continues.
    is_ending: bool,
    /// The number of lines for which there was no room, or that could not be written.
    lost: u64,
    /// The thread that writes. It never waits for the output, because no other thread writes.
    log_thread: Option<ThreadId>,
}

impl LineWriter {
    /// Starts the thread, which runs until the process ends.
    pub(super) fn start(output: impl Write + Send + 'static, append: Append) -> io::Result<Self> {
        let writer = Self(Arc::default());
        let shared = Arc::clone(&writer.0);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || shared.run(output, append, warn_lost))?;
        Ok(writer)
    }

    /// Takes lines about requests.
    pub(super) fn access_log(&self) -> AccessLog {
        let shared = Arc::clone(&self.0);
        AccessLog::to(move |line| shared.add_request(line))
    }

    /// Writes what waits. Waits for each later line.
    pub(super) fn end(&self) {
        self.0.state.lock().is_ending = true;
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
    tracing::warn!(lines, "the log lost lines, because its output did not take them");
}

impl Shared {
    /// Writes lines, and reports how many were lost, on this thread.
    fn run(&self, mut output: impl Write, append: Append, report_lost: impl Fn(u64)) -> ! {
        self.state.lock().log_thread = Some(std::thread::current().id());
        let (mut lines, mut text, times) = (Waiting::default(), Vec::new(), Times::default());
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
            for line in lines.iter() {
                match line {
                    Next::Formatted(line) => text.extend_from_slice(line.as_bytes()),
                    Next::Request(time, line) => append(&mut text, &times, time, &line),
                }
                if text.len() >= ENOUGH_BYTES {
                    unwritten += write_all(&mut output, &text);
                    text.clear();
                }
            }
            unwritten += write_all(&mut output, &text);
            text.clear();
            text.shrink_to(2 * KEPT_BYTES_MAX);
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
            self.state.lock().is_writing = false;
            self.written.notify_all();
        }
    }

    /// Adds a line that is formatted.
    fn add(&self, line: &[u8], is_access: bool) {
        let line = String::from_utf8_lossy(line);
        self.push(Waiting::bytes_of(&line), is_access, |waiting| waiting.push(&line));
    }

    /// Adds a line about a request that has ended.
    fn add_request(&self, line: &AccessLine<'_>) {
        let time = self.clock.now();
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
        state.is_urgent |= !is_access || state.is_ending || state.waiting.bytes() >= ENOUGH_BYTES;
        if is_first || state.is_urgent && !was_urgent {
            self.begun.notify_one();
        }
        let must_wait = state.is_ending && !state.is_log_thread();
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
                return;
            }
        }
    }
}

impl State {
    fn is_log_thread(&self) -> bool {
        self.log_thread == Some(std::thread::current().id())
    }
}

/// Writes lines to an output that may be slow, closed, or set to take nothing for a while. Returns the number of lines
/// that are not written whole, because standard error is closed, or the file cannot be written.
fn write_all(output: &mut impl Write, mut lines: &[u8]) -> u64 {
    while !lines.is_empty() {
        match output.write(lines) {
            Ok(count @ 1..) => lines = &lines[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY_PAUSE),
            Ok(0) | Err(_) => break,
        }
    }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::format::append_text;
    use super::*;

    /// Collects what is written, and counts the writes.
    #[derive(Clone, Default)]
    struct Output {
        written: Arc<Mutex<(Vec<u8>, usize)>>,
        is_blocked: Arc<AtomicBool>,
        is_full: Arc<AtomicBool>,
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.is_blocked.load(Ordering::Relaxed) {
                return Err(ErrorKind::WouldBlock.into());
            }
            if self.is_full.load(Ordering::Relaxed) {
                return Err(ErrorKind::StorageFull.into());
            }
            let mut written = self.written.lock();
            // A pipe takes a part.
            let count = bytes.len().min(10_000);
            written.0.extend_from_slice(&bytes[..count]);
            written.1 += 1;
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Output {
        fn until(&self, is_done: impl Fn(&[u8]) -> bool) {
            let deadline = Instant::now() + Duration::from_secs(30);
            while !is_done(&self.written.lock().0) {
                assert!(Instant::now() < deadline, "the lines are not written");
                std::thread::sleep(DELAY / 4);
            }
        }
    }

    #[test]
    fn lines_keep_their_order_and_are_written_together_and_at_the_end() {
        let output = Output::default();
        let writer = LineWriter::start(output.clone(), append_text).expect("a thread");
        let mut expected = Vec::new();
        for number in 0..1000 {
            let line = format!("{number}\n");
            match number % 100 {
                99 => writer.write_now(line.as_bytes()),
                _ => writer.0.add(line.as_bytes(), true),
            }
            expected.extend_from_slice(line.as_bytes());
        }
        writer.0.add(b"last\n", true);
        writer.end();
        writer.0.add(b"late\n", true);
        expected.extend_from_slice(b"last\nlate\n");
        let written = output.written.lock();
        assert_eq!(String::from_utf8_lossy(&written.0), String::from_utf8_lossy(&expected));
        assert!(written.1 < 500, "{} writes", written.1);
    }

    #[test]
    fn a_line_is_written_though_nothing_follows() {
        let output = Output::default();
        let writer = LineWriter::start(output.clone(), append_text).expect("a thread");
        writer.0.add(b"first\n", true);
        output.until(|written| written == b"first\n");
        writer.0.add(b"second\n", false);
        output.until(|written| written == b"first\nsecond\n");
    }

    #[test]
    fn a_flood_of_long_lines_is_written_before_there_is_no_room() {
        let output = Output::default();
        let writer = LineWriter::start(output.clone(), append_text).expect("a thread");
        let line = [&[b'x'; 9999][..], b"\n"].concat();
        // Four times what may wait, at the speed of one client, which waits for each answer.
        for sent in 1..=4 * ACCESS_BYTES_MAX / line.len() {
            writer.0.add(&line, true);
            if sent % 16 == 0 {
                output.until(|written| written.len() + ENOUGH_BYTES > sent * line.len());
            }
        }
        assert_eq!(writer.0.state.lock().lost, 0);
    }

    #[test]
    fn lines_that_a_full_disk_does_not_take_are_counted() {
        let output = Output::default();
        let writer = LineWriter::start(output.clone(), append_text).expect("a thread");
        output.is_full.store(true, Ordering::Relaxed);
        writer.write_now(b"first\nsecond\n");
        writer.write_now(b"third\n");
        assert_eq!(writer.0.state.lock().lost, 3);
        output.is_full.store(false, Ordering::Relaxed);
        writer.write_now(b"fourth\n");
        output.until(|written| written == b"fourth\n");
        writer.0.flush();
        assert_eq!(writer.0.state.lock().lost, 0);
    }

    #[test]
    fn a_line_that_is_written_whole_is_not_counted_as_lost() {
        for (room, lost) in [(0, 3), (3, 3), (6, 2), (12, 2), (13, 1), (19, 0)] {
            let mut output = vec![0; room];
            assert_eq!(write_all(&mut output.as_mut_slice(), b"first\nsecond\nthird\n"), lost, "{room} bytes");
        }
    }

    #[test]
    fn the_number_of_lost_lines_is_written_before_the_program_ends() {
        let output = Output::default();
        let writer = LineWriter(Arc::default());
        let (log, log_output) = (writer.clone(), output.clone());
        let report = move |lost: u64| {
            // If the main thread does not wait for this report, it continues now.
            std::thread::sleep(DELAY);
            log.make_writer().write_all(format!("lost {lost}\n").as_bytes()).expect("it takes all lines");
        };
        let shared = Arc::clone(&writer.0);
        std::thread::spawn(move || shared.run(log_output, append_text, report));
        output.is_full.store(true, Ordering::Relaxed);
        writer.write_now(b"first\n");
        assert_eq!(writer.0.state.lock().lost, 1);
        writer.end();
        output.is_full.store(false, Ordering::Relaxed);
        // If the log thread waits for its own report, this wait ends earlier, without the report.
        writer.0.add(b"second\n", false);
        assert_eq!(String::from_utf8_lossy(&output.written.lock().0), "second\nlost 1\n");
    }

    #[test]
    fn the_number_of_lost_lines_has_room_when_no_other_line_has() {
        let shared = Shared::default();
        let most = WAITING_BYTES_MAX - Waiting::bytes_of("");
        shared.add(&vec![b'x'; most], false);
        shared.add(b"no room\n", false);
        assert_eq!(shared.state.lock().lost, 1);
        shared.state.lock().log_thread = Some(std::thread::current().id());
        shared.add(b"lost 1\n", false);
        let state = shared.state.lock();
        assert!(state.lost == 1 && matches!(state.waiting.iter().last(), Some(Next::Formatted("lost 1\n"))));
    }

    #[test]
    fn an_output_that_takes_nothing_stops_nobody_and_gets_whole_lines_later() {
        let output = Output::default();
        output.is_blocked.store(true, Ordering::Relaxed);
        let writer = LineWriter::start(output.clone(), append_text).expect("a thread");
        let line = [&[b'x'; 999][..], b"\n"].concat();
        for _ in 0..3 * WAITING_BYTES_MAX / line.len() {
            writer.0.add(&line, true);
            assert!(writer.0.state.lock().waiting.bytes() <= ACCESS_BYTES_MAX);
        }
        let lost = writer.0.state.lock().lost;
        assert!(lost > 0);
        // It waits for a limited time.
        writer.write_now(b"important\n");
        output.is_blocked.store(false, Ordering::Relaxed);
        output.until(|written| written.ends_with(b"important\n"));
        let written = output.written.lock();
        assert!(written.0.split_inclusive(|byte| *byte == b'\n').all(|part| part == line || part == b"important\n"));
    }
}
