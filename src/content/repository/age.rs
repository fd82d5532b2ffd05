//! The steady clock of one data directory: how old something is, whatever is done to the wall clock.
//!
//! Within one start of the machine its uptime says how much time has passed, whether or not the registry was running.
//! Time in which the machine was off is not counted: nothing reliable says how long that was. So an age is never
//! overrated, and things are kept for a little longer at worst. The clock is written down from time to time and at an
//! orderly end, and a row that was written later says that it had come further.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Error, Stores};
use crate::content::rows::{Database, Rows, SteadyClockRow};
use crate::kit::clock::{Clock, Moment, SteadyTime};

/// Limits of how much of a delay may pass before the clock is written down.
const WRITTEN_MIN: Duration = Duration::from_mins(1);
const WRITTEN_MAX: Duration = Duration::from_hours(1);
/// The clock is written down this many times in the shortest delay, within these limits.
const WRITTEN_PER_DELAY: u32 = 16;

/// The steady clock.
#[derive(Debug)]
pub(super) struct Ages {
    clock: Clock,
    /// What it showed when the machine had been up for `uptime`.
    base: SteadyTime,
    uptime: Duration,
    /// Ages before this count from here.
    floor: SteadyTime,
    boot: Option<String>,
    /// What it showed when it was written down last.
    written: AtomicU64,
}

impl Ages {
    /// Goes on where the clock of a data directory was.
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

    /// What was noted before this is at least so old.
    pub(super) fn at_least(&self, age: Duration) -> SteadyTime {
        // Without a delay, what is noted this very moment is old enough.
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
    /// Writes the steady clock down if enough time has passed since that was done, and anything is there whose age
    /// counts. `at_end` is whether this is the last time for this process.
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
