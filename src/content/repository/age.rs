//! The steady clock of a data directory. It measures ages and does not depend on the wall clock.
//!
//! During one boot of the machine, its uptime says how much time has passed, also while the registry is stopped. Time in
//! which the machine is off does not count, because no reliable clock measures it. So an age is never too large, and
//! content is kept somewhat longer at worst. The clock is stored from time to time and at a graceful stop. A row with a
//! later time moves it forward.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Error, Stores};
use crate::content::rows::{Database, Rows, SteadyClockRow};
use crate::kit::clock::{Clock, Moment, SteadyTime};

/// Bounds of the interval in which the clock is stored.
const WRITTEN_MIN: Duration = Duration::from_mins(1);
const WRITTEN_MAX: Duration = Duration::from_hours(1);
/// The clock is stored this many times in the shortest delay, within these bounds.
const WRITTEN_PER_DELAY: u32 = 16;

/// The steady clock.
#[derive(Debug)]
pub(super) struct Ages {
    clock: Clock,
    /// Its time when the machine had been up for `uptime`.
    base: SteadyTime,
    uptime: Duration,
    /// Earlier times count as this one.
    floor: SteadyTime,
    boot: Option<String>,
    /// Its time when it was last stored.
    written: AtomicU64,
}

impl Ages {
    /// Continues the clock of a data directory.
    pub(super) fn open(database: &Database, clock: Clock) -> Result<Self, Error> {
        let (known, latest) = database.read(|tx| Ok::<_, Error>((tx.steady_clock()?, tx.latest_age()?)))?;
        let (uptime, boot) = (clock.uptime(), clock.boot());
        let (base, floor, is_written) = match known {
            Some(row) if row.boot.is_some() && row.boot == boot => {
                let passed = uptime.saturating_sub(Duration::from_micros(row.uptime));
                (row.steady.after(passed).max(latest), row.floor, true)
            }
            Some(row) => (row.steady.max(latest), row.floor, false),
            None => {
                let beginning = SteadyTime::beginning(clock.now()).max(latest);
                (beginning, beginning, false)
            }
        };
        let ages = Self { clock, base, uptime, floor, boot, written: AtomicU64::new(base.micros()) };
        if !is_written && !database.is_read_only() {
            ages.write(database)?;
        }
        Ok(ages)
    }

    /// The time now.
    pub(super) fn now(&self) -> Moment {
        Moment { wall: self.clock.now(), steady: self.steady() }
    }

    pub(super) fn steady(&self) -> SteadyTime {
        self.base.after(self.clock.uptime().saturating_sub(self.uptime))
    }

    /// Entries before the returned time are at least this old.
    pub(super) fn at_least(&self, age: Duration) -> SteadyTime {
        // Without a delay, an entry of this very moment is old enough.
        let before = self.steady().after(Duration::from_micros(1)).before(age);
        if before > self.floor { before } else { SteadyTime::ZERO }
    }

    fn write(&self, database: &Database) -> Result<(), Error> {
        let uptime = self.clock.uptime();
        let steady = self.base.after(uptime.saturating_sub(self.uptime));
        let uptime = u64::try_from(uptime.as_micros()).unwrap_or(u64::MAX);
        let row = SteadyClockRow { steady, floor: self.floor, boot: self.boot.clone(), uptime };
        database.write(move |tx| tx.set_steady_clock(&row))?;
        self.written.store(steady.micros(), Ordering::Relaxed);
        Ok(())
    }
}

impl Stores {
    /// The time now by the steady clock.
    pub(crate) fn steady_time(&self) -> SteadyTime {
        self.ages.steady()
    }

    /// Stores the steady clock if enough time has passed and any row has an age. `at_end` says that the process stops.
    pub(crate) fn write_steady_clock(&self, at_end: bool) -> Result<(), Error> {
        let delays = self.rules.delays;
        let shortest = delays.blob.min(delays.untagged).min(self.rules.upload_expiry);
        let often = (shortest / WRITTEN_PER_DELAY).clamp(WRITTEN_MIN, WRITTEN_MAX);
        let written = SteadyTime::from_micros(self.ages.written.load(Ordering::Relaxed));
        let is_due = self.ages.steady().since(written) >= if at_end { WRITTEN_MIN } else { often };
        if is_due && self.database.read(Rows::has_ages)? {
            self.ages.write(&self.database)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
