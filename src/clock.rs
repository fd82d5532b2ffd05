//! The one reader of the wall clock, so that tests can move time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Timestamp(u64);

impl Timestamp {
    /// The latest time that is kept: 9999-12-30T22:00:00Z, which every offset from UTC can write.
    pub(crate) const LATEST: Self = Self(253_402_207_200_000_000);

    /// Microseconds since the epoch.
    pub(crate) const fn micros(self) -> u64 {
        self.0
    }

    /// The time `micros` microseconds after the epoch.
    pub(crate) const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The time `by` later.
    pub(crate) fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }

    /// The time `by` earlier, but not before the epoch.
    pub(crate) fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long `self` is after `earlier`; nothing if it is not.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// RFC 3339, in UTC, with as many digits behind the second as are known.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        jiff::Timestamp::from(*self).fmt(f)
    }
}

impl From<Timestamp> for jiff::Timestamp {
    fn from(time: Timestamp) -> Self {
        let micros = i64::try_from(time.0).unwrap_or(i64::MAX);
        Self::from_microsecond(micros).unwrap_or(Self::MAX)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

/// Tells the time: the system's, or one that a test moves. Clones tell the same time.
#[derive(Clone, Default)]
pub(crate) struct Clock {
    /// Microseconds that a test has added to the system's time.
    ahead: Arc<AtomicU64>,
}

impl Clock {
    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        let Timestamp(now) = SystemTime::now().into();
        Timestamp(now.saturating_add(self.ahead.load(Ordering::Relaxed)))
    }

    /// Lets time jump forward.
    #[cfg(test)]
    pub(crate) fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.ahead.fetch_add(by, Ordering::Relaxed);
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
