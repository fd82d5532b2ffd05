//! [`LogLimit`]: limits how often the log has the same line, because a client or a lasting fault may repeat its cause
//! without end.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Permits a line at once, and then one in each interval.
#[derive(Debug)]
pub(crate) struct LogLimit {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When a line was permitted last.
    last: Option<Instant>,
    /// The events since then.
    count: u64,
}

/// Permits a line a minute.
impl Default for LogLimit {
    fn default() -> Self {
        Self::new(Duration::from_mins(1))
    }
}

impl LogLimit {
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, state: Mutex::default() }
    }

    /// Counts an event. If the log may have a line, returns the number of events since the last line, with this one.
    pub(crate) fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        state.count += 1;
        if state.last.is_some_and(|last| now - last < self.interval) {
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_is_logged_and_then_one_line_counts_all_of_an_interval() {
        let (limit, now) = (LogLimit::default(), Instant::now());
        assert_eq!(limit.pass_at(now), Some(1));
        for second in 1..60 {
            assert_eq!(limit.pass_at(now + Duration::from_secs(second)), None);
        }
        assert_eq!(limit.pass_at(now + Duration::from_mins(1)), Some(60));
        assert_eq!(limit.pass_at(now + Duration::from_secs(90)), None);
        assert_eq!(limit.pass_at(now + Duration::from_hours(1)), Some(2));
        assert_eq!(limit.pass_at(now + Duration::from_hours(2)), Some(1));
    }
}
