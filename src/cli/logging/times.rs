//! [`Times`]: the time at the beginning of lines.

use parking_lot::Mutex;

use super::number::push_micros;
use crate::kit::clock::{Clock, Timestamp};

/// The microseconds of a second.
const MICROS: u64 = 1_000_000;

/// The time now, and the text of times. It remembers the last second, which most lines share.
#[derive(Debug, Default)]
pub(super) struct Times {
    clock: Clock,
    last: Mutex<Second>,
}

#[derive(Debug, Default)]
struct Second {
    /// Its start, in microseconds since 1970.
    start: u64,
    /// Its text without the time zone.
    text: String,
}

impl Times {
    /// The time now.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Appends a time: RFC 3339, in UTC, with six digits of the second.
    pub(super) fn append(&self, line: &mut Vec<u8>, time: Timestamp) {
        let time = time.micros();
        let micros = u32::try_from(time % MICROS).expect("it is below a million");
        let start = time - u64::from(micros);
        let mut last = self.last.lock();
        if last.text.is_empty() || last.start != start {
            let text = Timestamp::from_micros(start).to_string();
            *last = Second { start, text: text.trim_end_matches('Z').to_owned() };
        }
        line.extend_from_slice(last.text.as_bytes());
        drop(last);
        line.push(b'.');
        push_micros(line, micros);
        line.push(b'Z');
    }
}
