//! The one reader of the clocks, so that tests can move time.
//!
//! There are two. The wall clock says what people call the time, and may be set to anything at any moment: a board
//! without a battery starts in 1970, and learns the time from the network while clients push. So ages are measured by
//! the machine's uptime, which only goes forward and as fast as time passes. [`SteadyTime`] is made from it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
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

    /// The time in the form of RFC 2822 with the offset `-0000`, as Quay writes it.
    pub(crate) fn rfc2822(self) -> String {
        let time = jiff::Timestamp::from(self).to_zoned(jiff::tz::TimeZone::UTC);
        time.strftime("%a, %d %b %Y %H:%M:%S -0000").to_string()
    }

    /// How long `self` is after `earlier`; nothing if it is not.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Microseconds of the steady clock of one data directory: it goes on while the machine is up, and nobody can set it.
/// Ages are differences of two of these. The clock began at the wall clock's time and then never follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct SteadyTime(u64);

impl SteadyTime {
    /// Before everything.
    pub(crate) const ZERO: Self = Self(0);

    /// Where the steady clock of a new data directory begins.
    pub(crate) const fn beginning(wall: Timestamp) -> Self {
        Self(wall.0)
    }

    pub(crate) const fn micros(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The time `by` later.
    pub(crate) fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }

    /// The time `by` earlier, but not before the beginning.
    pub(crate) fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long `self` is after `earlier`; nothing if it is not.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// The same moment on both clocks: one to show, one to measure ages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) wall: Timestamp,
    pub(crate) steady: SteadyTime,
}

impl Moment {
    /// A moment before the steady clock of a data directory has begun.
    pub(crate) const fn beginning(wall: Timestamp) -> Self {
        Self { wall, steady: SteadyTime::beginning(wall) }
    }
}

impl From<Moment> for SteadyTime {
    fn from(moment: Moment) -> Self {
        moment.steady
    }
}

/// In tests of rows, both clocks show the same.
#[cfg(test)]
impl From<Timestamp> for SteadyTime {
    fn from(time: Timestamp) -> Self {
        Self::beginning(time)
    }
}

#[cfg(test)]
impl From<Timestamp> for Moment {
    fn from(time: Timestamp) -> Self {
        Self::beginning(time)
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
    moved: Arc<Moved>,
}

/// What a test has done to the system's clocks.
#[derive(Default)]
struct Moved {
    /// Microseconds that were added to the wall clock.
    wall: AtomicI64,
    /// Microseconds that were added to the uptime.
    uptime: AtomicU64,
    /// How often the machine was started again.
    boots: AtomicU64,
}

impl Clock {
    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        let Timestamp(now) = SystemTime::now().into();
        Timestamp(now.saturating_add_signed(self.moved.wall.load(Ordering::Relaxed)))
    }

    /// How long the machine is up, its sleep included.
    pub(crate) fn uptime(&self) -> Duration {
        #[cfg(target_os = "linux")]
        const UPTIME: rustix::time::ClockId = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        const UPTIME: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
        let time = rustix::time::clock_gettime(UPTIME);
        let up = Duration::try_from(time).unwrap_or_default();
        up + Duration::from_micros(self.moved.uptime.load(Ordering::Relaxed))
    }

    /// What differs between two starts of the machine. Without it, uptimes of two processes cannot be compared.
    pub(crate) fn boot(&self) -> Option<String> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(match self.moved.boots.load(Ordering::Relaxed) {
            0 => id.trim().to_owned(),
            boots => format!("{} {boots}", id.trim()),
        })
    }

    /// Lets time pass.
    #[cfg(test)]
    pub(crate) fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.moved.uptime.fetch_add(by, Ordering::Relaxed);
        self.set_by(i64::try_from(by).unwrap_or(i64::MAX));
    }

    /// Sets the wall clock by so many microseconds, while no time passes.
    #[cfg(test)]
    pub(crate) fn set_by(&self, micros: i64) {
        self.moved.wall.fetch_add(micros, Ordering::Relaxed);
    }

    /// Lets the machine start again. The wall clock goes on where it was.
    #[cfg(test)]
    pub(crate) fn restart_machine(&self) {
        self.moved.boots.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
