//! The row of the steady clock, by which the ages of rows are measured.

use serde::{Deserialize, Serialize};

use super::codec;
use super::schema::{ENDED_TAGS, SETTING_RESTING_UPLOADS, SETTING_STEADY_CLOCK, UNREFERENCED_SINCE};
use super::{Error, Rows, WriteTx};
use crate::kit::clock::SteadyTime;

/// What the steady clock of a data directory showed at some uptime of some start of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SteadyClockRow {
    pub(crate) steady: SteadyTime,
    /// Ages before this were written by the wall clock, which nothing vouches for: they count from here.
    pub(crate) floor: SteadyTime,
    /// The start of the machine, if the system tells.
    pub(crate) boot: Option<String>,
    /// The uptime, in microseconds.
    pub(crate) uptime: u64,
}

/// An unfinished upload that nobody wrote to when it was last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestingUpload {
    pub(crate) id: [u8; 16],
    /// The time of its file's last change by the wall clock, in microseconds.
    pub(crate) written: u64,
    /// Since when that is known to be the last change.
    pub(crate) since: SteadyTime,
}

impl Rows {
    /// The steady clock as it was written last.
    pub(crate) fn steady_clock(&self) -> Result<Option<SteadyClockRow>, Error> {
        let row = self.setting(SETTING_STEADY_CLOCK)?;
        row.map(|row| codec::row("settings", &row, SETTING_STEADY_CLOCK)).transpose()
    }

    /// The latest age that a row has: the steady clock had come that far.
    pub(crate) fn latest_age(&self) -> Result<SteadyTime, Error> {
        let unreferenced = self.table(UNREFERENCED_SINCE)?.last()?.map_or(0, |(key, _)| key.value().0);
        let ended = self.table(ENDED_TAGS)?.last()?.map_or(0, |(key, _)| key.value().0);
        Ok(SteadyTime::from_micros(unreferenced.max(ended)))
    }

    /// Whether anything is there whose age counts.
    pub(crate) fn has_ages(&self) -> Result<bool, Error> {
        Ok(self.table(UNREFERENCED_SINCE)?.range(..)?.next().is_some()
            || self.table(ENDED_TAGS)?.range(..)?.next().is_some())
    }

    /// The uploads that were resting when that was written last.
    pub(crate) fn resting_uploads(&self) -> Result<Vec<RestingUpload>, Error> {
        let row = self.setting(SETTING_RESTING_UPLOADS)?;
        Ok(row.and_then(|row| codec::decode(&row)).unwrap_or_default())
    }
}

impl WriteTx {
    pub(crate) fn set_steady_clock(&mut self, row: &SteadyClockRow) -> Result<(), Error> {
        self.set_setting(SETTING_STEADY_CLOCK, &codec::encode(row))
    }

    pub(crate) fn set_resting_uploads(&mut self, uploads: &Vec<RestingUpload>) -> Result<(), Error> {
        self.set_setting(SETTING_RESTING_UPLOADS, &codec::encode(uploads))
    }
}
