//! Rows for measuring ages: the state of the steady clock, and the uploads that nothing is written to.

use serde::{Deserialize, Serialize};

use super::codec;
use super::schema::{ENDED_TAGS, SETTING_RESTING_UPLOADS, SETTING_STEADY_CLOCK, SETTINGS, UNREFERENCED_SINCE};
use super::{Error, Rows, WriteTx};
use crate::kit::clock::SteadyTime;

/// The time of a data directory's steady clock at some uptime of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SteadyClockRow {
    pub(crate) steady: SteadyTime,
    /// Ages before this were written by the wall clock, which may have been wrong. They count from here.
    pub(crate) floor: SteadyTime,
    /// The id of the boot, if the system has one.
    pub(crate) boot: Option<String>,
    /// The uptime, in microseconds.
    pub(crate) uptime: u64,
}

/// An unfinished upload that had not grown when maintenance last looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestingUpload {
    pub(crate) id: [u8; 16],
    /// The modification time of its file, in microseconds by the wall clock.
    pub(crate) written: u64,
    /// When maintenance first saw this modification time.
    pub(crate) since: SteadyTime,
}

impl Rows {
    /// The last saved state of the steady clock.
    pub(crate) fn steady_clock(&self) -> Result<Option<SteadyClockRow>, Error> {
        self.row(SETTINGS, SETTING_STEADY_CLOCK, SETTING_STEADY_CLOCK)
    }

    /// The latest steady time in any row. The steady clock is not behind it.
    pub(crate) fn latest_age(&self) -> Result<SteadyTime, Error> {
        let unreferenced = self.table(UNREFERENCED_SINCE)?.last()?.map_or(0, |(key, _)| key.value().0);
        let ended = self.table(ENDED_TAGS)?.last()?.map_or(0, |(key, _)| key.value().0);
        let gone = self.file_users()?.into_iter().filter_map(|(_, user)| user.gone_since);
        let resting = self.resting_uploads()?.into_iter().map(|upload| upload.since);
        let latest = SteadyTime::from_micros(unreferenced.max(ended));
        Ok(gone.chain(resting).fold(latest, SteadyTime::max))
    }

    /// Whether any row has a steady time.
    pub(crate) fn has_ages(&self) -> Result<bool, Error> {
        Ok(self.table(UNREFERENCED_SINCE)?.first()?.is_some()
            || self.table(ENDED_TAGS)?.first()?.is_some()
            || !self.resting_uploads()?.is_empty()
            || self.file_users()?.iter().any(|(_, user)| user.gone_since.is_some()))
    }

    /// The resting uploads that were last saved.
    pub(crate) fn resting_uploads(&self) -> Result<Vec<RestingUpload>, Error> {
        Ok(self.setting(SETTING_RESTING_UPLOADS)?.and_then(|row| codec::decode(&row)).unwrap_or_default())
    }
}

impl WriteTx {
    pub(crate) fn set_steady_clock(&mut self, row: &SteadyClockRow) -> Result<(), Error> {
        self.insert_row(SETTINGS, SETTING_STEADY_CLOCK, row)
    }

    pub(crate) fn set_resting_uploads(&mut self, uploads: &Vec<RestingUpload>) -> Result<(), Error> {
        self.insert_row(SETTINGS, SETTING_RESTING_UPLOADS, uploads)
    }
}
