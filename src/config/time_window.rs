//! [`TimeWindow`]: a part of the day.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

const MINUTES_PER_DAY: u16 = 24 * 60;

/// A part of each day, in UTC. It may end on the next day: `22:00-06:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindow {
    from: u16,
    until: u16,
}

impl TimeWindow {
    /// Whether a time since 1970-01-01T00:00:00Z is in the window.
    pub fn contains(&self, since_epoch: Duration) -> bool {
        let minute = u16::try_from(since_epoch.as_secs() / 60 % u64::from(MINUTES_PER_DAY)).unwrap_or_default();
        if self.from <= self.until {
            (self.from..self.until).contains(&minute)
        } else {
            minute >= self.from || minute < self.until
        }
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
        window.contains(Duration::from_secs(86_400 * 20_000 + hour * 3600 + minute * 60 + 59))
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
