//! Reads the clocks of the system, or clocks that a test moves.
//!
//! The wall clock may be set at any time: a board without a battery starts in 1970, and gets the time from the network
//! while clients push. So ages are measured by the uptime of the machine, which only goes forward. [`SteadyTime`] is made
//! from it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Defines a time in microseconds, with saturating arithmetic.
macro_rules! time {
    ($(#[doc = $doc:literal])+ $name:ident) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub(crate) struct $name(u64);

        impl $name {
            pub(crate) const fn micros(self) -> u64 {
                self.0
            }

            pub(crate) const fn from_micros(micros: u64) -> Self {
                Self(micros)
            }

            /// The time `by` later.
            pub(crate) fn after(self, by: Duration) -> Self {
                Self(self.0.saturating_add(micros(by)))
            }

            /// The time `by` earlier, but not before zero.
            pub(crate) fn before(self, by: Duration) -> Self {
                Self(self.0.saturating_sub(micros(by)))
            }

            /// The duration since `earlier`; zero if `self` is not later.
            pub(crate) fn since(self, earlier: Self) -> Duration {
                Duration::from_micros(self.0.saturating_sub(earlier.0))
            }
        }
    };
}

time! {
    /// A time of the wall clock, in microseconds since 1970-01-01T00:00:00Z.
    Timestamp
}

time! {
    /// A time of the steady clock of one data directory, in microseconds. The clock runs while the machine is up, and cannot
    /// be set. It starts at the time of the wall clock, and does not follow it later.
    SteadyTime
}

fn micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()))
}

impl Timestamp {
    /// The latest time, 9999-12-30T22:00:00Z. It can be written with every offset from UTC.
    pub(crate) const LATEST: Self = Self(253_402_207_200_000_000);

    /// Reads a time in the form of RFC 3339. `None` if it is before 1970 or after [`Timestamp::LATEST`].
    pub(crate) fn from_rfc3339(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        let time = Self(u64::try_from(time.as_microsecond()).ok()?);
        (time <= Self::LATEST).then_some(time)
    }

    /// The nearest whole second.
    pub(crate) const fn rounded(self) -> Self {
        Self(self.0.saturating_add(500_000) / 1_000_000 * 1_000_000)
    }

    /// The time to the minute for people, such as `2027-02-27 19:27 UTC`.
    pub(crate) fn to_minute(self) -> String {
        super::text::minute(self.0 / 1_000_000)
    }

    /// The time in the form of RFC 2822 with the offset `-0000`, as Quay writes it.
    pub(crate) fn rfc2822(self) -> String {
        let time = jiff::Timestamp::from(self).to_zoned(jiff::tz::TimeZone::UTC);
        time.strftime("%a, %d %b %Y %H:%M:%S -0000").to_string()
    }
}

impl SteadyTime {
    /// Before everything.
    pub(crate) const ZERO: Self = Self(0);

    /// The start of the steady clock of a new data directory.
    pub(crate) const fn beginning(wall: Timestamp) -> Self {
        Self(wall.0)
    }
}

/// The same moment on both clocks: one for people, one to measure ages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) wall: Timestamp,
    pub(crate) steady: SteadyTime,
}

impl Moment {
    /// The moment at which the steady clock of a data directory starts.
    pub(crate) const fn beginning(wall: Timestamp) -> Self {
        Self { wall, steady: SteadyTime::beginning(wall) }
    }
}

impl From<Moment> for SteadyTime {
    fn from(moment: Moment) -> Self {
        moment.steady
    }
}

/// In tests of rows, both clocks have the same time.
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

/// RFC 3339, in UTC, with the necessary fraction of a second.
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
        Self(micros(since))
    }
}

/// A clock: the system's, or one that a test moves. Clones have the same time.
#[derive(Clone, Default)]
pub(crate) struct Clock {
    moved: Arc<Moved>,
}

/// The changes that a test has made to the clocks.
#[derive(Default)]
struct Moved {
    /// Microseconds added to the wall clock.
    wall: AtomicI64,
    /// Microseconds added to the uptime.
    uptime: AtomicU64,
    /// How often the machine was restarted.
    boots: AtomicU64,
}

impl Clock {
    /// The time now.
    pub(crate) fn now(&self) -> Timestamp {
        let Timestamp(now) = SystemTime::now().into();
        Timestamp(now.saturating_add_signed(self.moved.wall.load(Ordering::Relaxed)))
    }

    /// The uptime of the machine, including sleep.
    pub(crate) fn uptime(&self) -> Duration {
        #[cfg(target_os = "linux")]
        const UPTIME: rustix::time::ClockId = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        const UPTIME: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
        let time = rustix::time::clock_gettime(UPTIME);
        let up = Duration::try_from(time).unwrap_or_default();
        up + Duration::from_micros(self.moved.uptime.load(Ordering::Relaxed))
    }

    /// The id of this start of the machine. Only uptimes of the same start can be compared.
    pub(crate) fn boot(&self) -> Option<String> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(match self.moved.boots.load(Ordering::Relaxed) {
            0 => id.trim().to_owned(),
            boots => format!("{} {boots}", id.trim()),
        })
    }

    /// Moves both clocks forward.
    #[cfg(test)]
    pub(crate) fn advance(&self, by: Duration) {
        let by = micros(by);
        self.moved.uptime.fetch_add(by, Ordering::Relaxed);
        self.set_by(i64::try_from(by).unwrap_or(i64::MAX));
    }

    /// Moves only the wall clock, by microseconds.
    #[cfg(test)]
    pub(crate) fn set_by(&self, micros: i64) {
        self.moved.wall.fetch_add(micros, Ordering::Relaxed);
    }

    /// Restarts the machine. The wall clock continues.
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
