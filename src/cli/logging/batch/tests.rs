//! Tests of the order, the limits and the losses of lines.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::cli::logging::format::append_text;

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

fn append_id(text: &mut Vec<u8>, _: &Times, _: Timestamp, line: &AccessLine<&str>) {
    text.extend_from_slice(format!("{}\n", line.id).as_bytes());
}

#[test]
fn lines_about_requests_are_formatted_in_their_place() {
    let output = Output::default();
    let writer = LineWriter::start(output.clone(), append_id).expect("a thread");
    let log = writer.access_log();
    let mut expected = String::new();
    for number in 0..1000 {
        let line = number.to_string();
        if number % 50 == 7 {
            writer.0.add(format!("{line}\n").as_bytes(), false);
        } else {
            log.write(&AccessLine::test(&line));
        }
        expected.push_str(&line);
        expected.push('\n');
    }
    writer.end();
    assert_eq!(String::from_utf8_lossy(&output.written.lock().0), expected);
}

#[test]
fn requests_have_less_room_than_other_lines() {
    let writer = LineWriter(Arc::default());
    let log = writer.access_log();
    let (id, mut written) = ("x".repeat(1000), 0);
    while writer.0.state.lock().lost == 0 {
        log.write(&AccessLine::test(&id));
        written += 1;
    }
    assert!((written - 1) * id.len() <= ACCESS_BYTES_MAX, "{written} lines");
    writer.0.add(b"important\n", false);
    assert_eq!(writer.0.state.lock().lost, 1);
}

/// Fails once, in the middle of a line.
struct Torn(Output, bool);

impl Write for Torn {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match std::mem::replace(&mut self.1, true) {
            false => self.0.write(&bytes[..5]),
            true if self.0.written.lock().1 == 1 => {
                self.0.written.lock().1 += 1;
                Err(ErrorKind::StorageFull.into())
            }
            true => self.0.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn nothing_follows_on_a_torn_line() {
    let output = Output::default();
    let writer = LineWriter(Arc::default());
    let line = "y".repeat(9999) + "\n";
    for _ in 0..20 {
        writer.0.add(line.as_bytes(), true);
    }
    let (shared, torn) = (Arc::clone(&writer.0), Torn(output.clone(), false));
    std::thread::spawn(move || shared.run(torn, append_id, |_| ()));
    writer.0.flush();
    assert_eq!((output.written.lock().0.as_slice(), writer.0.state.lock().lost), (&b"yyyyy"[..], 20));
    writer.write_now(b"next\n");
    assert_eq!(output.written.lock().0, b"yyyyy\nnext\n");
}

#[test]
fn at_the_end_only_one_line_waits_for_an_output_that_is_stuck() {
    let output = Output::default();
    output.is_blocked.store(true, Ordering::Relaxed);
    let writer = LineWriter::start(output.clone(), append_text).expect("a thread");
    writer.0.add(b"first\n", false);
    writer.end();
    assert_eq!(writer.0.state.lock().end, End::Stuck);
    let begun = Instant::now();
    for _ in 0..100 {
        writer.0.add(b"late\n", true);
    }
    assert!(begun.elapsed() < 50 * FLUSH_WAIT, "each line has waited");
    output.is_blocked.store(false, Ordering::Relaxed);
    output.until(|written| written.ends_with(&b"late\n".repeat(100)));
    // The output is not stuck any more.
    writer.0.add(b"last\n", true);
    assert!(output.written.lock().0.ends_with(b"last\n"));
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
        let mut bytes = vec![0; room];
        let mut output = LineOutput { to: bytes.as_mut_slice(), is_torn: false };
        assert_eq!(output.write_all(b"first\nsecond\nthird\n"), lost, "{room} bytes");
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
