//! [`TimeWindow`]: a part of the day.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// A part of each day, in UTC. It may end on the next day: `22:00-06:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindow {
    from: u16,
    until: u16,
}

impl TimeWindow {
    /// The time until the window opens, from a time since 1970-01-01T00:00:00Z. Zero in the window.
    pub fn opens_in(&self, since_epoch: Duration) -> Duration {
        let minutes = |minute: u16| Duration::from_mins(minute.into());
        let of_day = Duration::new(since_epoch.as_secs() % SECONDS_PER_DAY, since_epoch.subsec_nanos());
        let (from, until) = (minutes(self.from), minutes(self.until));
        let is_open = if from <= until { (from..until).contains(&of_day) } else { of_day >= from || of_day < until };
        let next = if of_day < from { from } else { from + Duration::from_secs(SECONDS_PER_DAY) };
        if is_open { Duration::ZERO } else { next.saturating_sub(of_day) }
    }
}

impl fmt::Display for TimeWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, until) = (self.from, self.until);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, until / 60, until % 60)
    }
}

impl FromStr for TimeWindow {
    type Err = InvalidTimeWindow;

    fn from_str(text: &str) -> Result<Self, InvalidTimeWindow> {
        let (from, until) = text.split_once('-').ok_or(InvalidTimeWindow)?;
        let (from, until) = (minute(from)?, minute(until)?);
        if from == until { Err(InvalidTimeWindow) } else { Ok(Self { from, until }) }
    }
}

fn minute(text: &str) -> Result<u16, InvalidTimeWindow> {
    let digits = |text: &str| {
        let fits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| text.parse::<u16>().ok()).flatten().ok_or(InvalidTimeWindow)
    };
    let (hour, minute) = text.trim().split_once(':').ok_or(InvalidTimeWindow)?;
    let (hour, minute) = (digits(hour)?, digits(minute)?);
    if hour < 24 && minute < 60 { Ok(hour * 60 + minute) } else { Err(InvalidTimeWindow) }
}

/// A text is not a [`TimeWindow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("expected two different times of the day, such as 22:00-06:00")]
pub struct InvalidTimeWindow;

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(window: &str, hour: u64, minute: u64) -> bool {
        let window: TimeWindow = window.parse().expect("the table has windows");
        window.opens_in(Duration::from_secs(86_400 * 20_000 + hour * 3600 + minute * 60 + 59)).is_zero()
    }

    #[test]
    fn the_next_opening_is_today_or_tomorrow() {
        let wait = |window: &str, seconds: u64| {
            let window: TimeWindow = window.parse().expect("the table has windows");
            window.opens_in(Duration::from_secs(86_400 * 20_000 + seconds)).as_secs()
        };
        assert_eq!(wait("09:30-17:00", 0), 34_200);
        assert_eq!(wait("09:30-17:00", 34_199), 1);
        assert_eq!(wait("09:30-17:00", 34_200), 0);
        assert_eq!(wait("09:30-17:00", 61_200), 59_400);
        assert_eq!(wait("22:00-06:00", 21_600), 57_600);
        assert_eq!(wait("00:00-01:00", 86_399), 1);
    }

    #[test]
    fn a_window_includes_its_first_minute_and_not_its_last() {
        assert!(!contains("09:30-17:00", 9, 29));
        assert!(contains("09:30-17:00", 9, 30));
        assert!(contains("09:30-17:00", 16, 59));
        assert!(!contains("09:30-17:00", 17, 0));
    }

    #[test]
    fn a_window_may_include_midnight() {
        assert!(contains("22:00-06:00", 23, 59));
        assert!(contains("22:00-06:00", 0, 0));
        assert!(contains("22:00-06:00", 5, 59));
        assert!(!contains("22:00-06:00", 6, 0));
        assert!(!contains("22:00-06:00", 21, 59));
    }

    #[test]
    fn an_invalid_window_is_refused() {
        for text in ["", "-", "22:00", "22-06", "24:00-01:00", "01:60-02:00", "1:00-2:00", "+1:00-02:00", "05:00-05:00"]
        {
            assert!(text.parse::<TimeWindow>().is_err(), "{text}");
        }
    }
}
