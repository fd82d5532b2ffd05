//! [`Waiting`]: lines that wait until they are written, in their order. Those about requests are not formatted yet.
//!
//! Adding one copies its texts behind those of the line before, and allocates nothing once there is room.

use std::mem::size_of;

use crate::kit::access_log::AccessLine;
use crate::kit::clock::Timestamp;

#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// The texts of the lines, one after another.
    texts: String,
    lines: Vec<Line>,
}

#[derive(Debug)]
enum Line {
    /// A whole line, of so many bytes.
    Formatted(usize),
    /// A line about a request that ended at this time, with the length of each text in bytes.
    Request(Timestamp, AccessLine<usize>),
}

/// A line to write.
#[derive(Debug)]
pub(super) enum Next<'a> {
    Formatted(&'a str),
    /// A line about a request that ended at this time.
    Request(Timestamp, AccessLine<&'a str>),
}

impl Waiting {
    pub(super) const fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The memory that the lines need.
    pub(super) const fn bytes(&self) -> usize {
        self.texts.len() + self.lines.len() * size_of::<Line>()
    }

    /// The memory that a line needs which is formatted.
    pub(super) const fn bytes_of(line: &str) -> usize {
        line.len() + size_of::<Line>()
    }

    /// The memory that a line about a request needs.
    pub(super) fn bytes_of_request(line: &AccessLine<&str>) -> usize {
        let mut bytes = size_of::<Line>();
        line.map(|text| bytes += text.len());
        bytes
    }

    /// Adds a line that is formatted.
    pub(super) fn push(&mut self, line: &str) {
        self.texts.push_str(line);
        self.lines.push(Line::Formatted(line.len()));
    }

    /// Adds a line about a request that ended at this time.
    pub(super) fn push_request(&mut self, time: Timestamp, line: &AccessLine<&str>) {
        let line = line.map(|text| {
            self.texts.push_str(text);
            text.len()
        });
        self.lines.push(Line::Request(time, line));
    }

    /// The lines in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Next<'_>> {
        let mut texts = &*self.texts;
        let mut take = move |length| {
            let (text, rest) = texts.split_at(length);
            texts = rest;
            text
        };
        self.lines.iter().map(move |line| match line {
            Line::Formatted(length) => Next::Formatted(take(*length)),
            Line::Request(time, line) => Next::Request(*time, line.map(&mut take)),
        })
    }

    /// Removes the lines, and keeps memory for so many bytes of them.
    pub(super) fn clear(&mut self, kept: usize) {
        self.texts.clear();
        self.texts.shrink_to(kept);
        self.lines.clear();
        self.lines.shrink_to(kept / size_of::<Line>());
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    type Texts = (String, String, String, Option<String>, Option<String>, Option<String>);
    type Values = (u16, u64, Duration, Option<IpAddr>, Option<SocketAddr>, bool);

    fn line((texts, values): &(Texts, Values)) -> AccessLine<&str> {
        let (id, method, path, user, agent, trace) = texts;
        let (status, bytes, duration, client, peer, aborted) = *values;
        AccessLine {
            id,
            method,
            path,
            status,
            bytes,
            duration,
            user: user.as_deref(),
            client,
            peer,
            agent: agent.as_deref(),
            aborted,
            trace: trace.as_deref(),
        }
    }

    proptest! {
        #[test]
        fn lines_come_out_as_they_went_in(lines in proptest::collection::vec(any::<Result<(Texts, Values), String>>(), 0..9)) {
            let (mut waiting, mut bytes) = (Waiting::default(), 0);
            for (number, texts) in (0..).zip(&lines) {
                bytes += match texts {
                    Ok(texts) => {
                        waiting.push_request(Timestamp::from_micros(number), &line(texts));
                        Waiting::bytes_of_request(&line(texts))
                    }
                    Err(formatted) => {
                        waiting.push(formatted);
                        Waiting::bytes_of(formatted)
                    }
                };
            }
            prop_assert_eq!(waiting.bytes(), bytes);
            let expected = (0..).zip(&lines).map(|(number, texts)| match texts {
                Ok(texts) => Next::Request(Timestamp::from_micros(number), line(texts)),
                Err(formatted) => Next::Formatted(formatted),
            });
            prop_assert_eq!(format!("{:?}", waiting.iter().collect::<Vec<_>>()), format!("{:?}", expected.collect::<Vec<_>>()));
            waiting.clear(0);
            prop_assert!(waiting.is_empty() && waiting.bytes() == 0);
        }
    }
}
