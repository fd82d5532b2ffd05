//! Expiry of uploads.
//!
//! An upload is a file, and its only time is its last modification by the wall clock. That time is used while the wall clock
//! runs as fast as the steady clock. After the wall clock was set, and after a start, the age of an upload counts from when
//! its last modification was first seen. This is stored, so that a restart does not reset the age.

use std::collections::HashMap;
use std::time::Duration;

use super::super::{Error, Stores};
use crate::content::rows::{Database, RestingUpload, Rows};
use crate::kit::clock::{Clock, Moment, SteadyTime, Timestamp};
use crate::oci::UploadId;

/// Clocks that differ by less run equally fast. The wall clock is corrected in small steps, and file systems use a coarse
/// clock.
const SLACK: Duration = Duration::from_secs(2);
/// Uploads whose age is stored.
const WRITTEN_MAX: usize = 4096;

/// Uploads at the last check.
#[derive(Debug)]
pub(super) struct Resting {
    known: HashMap<UploadId, Seen>,
    /// Both clocks at the last check.
    looked: (Timestamp, Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// The last modification of the file, by the wall clock.
    written: Timestamp,
    since: SteadyTime,
}

impl Resting {
    pub(super) fn open(database: &Database, clock: &Clock) -> Result<Self, Error> {
        let known = database.read(Rows::resting_uploads)?.into_iter().map(|row| {
            (UploadId::new(row.id), Seen { written: Timestamp::from_micros(row.written), since: row.since })
        });
        Ok(Self { known: known.collect(), looked: (clock.now(), clock.uptime()) })
    }

    /// Returns since when each upload has been idle, and forgets the others.
    fn look(&mut self, uploads: &[(UploadId, Timestamp)], now: Moment, uptime: Duration) -> HashMap<UploadId, Seen> {
        let (wall, before) = std::mem::replace(&mut self.looked, (now.wall, uptime));
        let is_steady = now.wall.since(wall).abs_diff(uptime.saturating_sub(before)) < SLACK;
        let seen = uploads.iter().map(|(id, written)| {
            if let Some(seen) = self.known.get(id).filter(|seen| seen.written == *written) {
                return (*id, *seen);
            }
            let is_believed = is_steady && written.after(SLACK) >= wall;
            let age = if is_believed { now.wall.since(*written) } else { Duration::ZERO };
            (*id, Seen { written: *written, since: now.steady.before(age) })
        });
        seen.collect()
    }
}

impl Stores {
    /// Removes uploads that were idle for `rules.upload_expiry`. Returns their number.
    pub(crate) fn expire_uploads(&self) -> Result<usize, Error> {
        let mut resting = self.uploads.resting.lock();
        let uploads: Vec<_> =
            self.blobs.stagings()?.into_iter().map(|(id, written)| (id, Timestamp::from(written))).collect();
        let now = self.ages.now();
        let mut seen = resting.look(&uploads, now, self.clock.uptime());
        let due = self.ages.at_least(self.rules.upload_expiry);
        let old: Vec<UploadId> = seen.iter().filter(|(_, seen)| seen.since < due).map(|(id, _)| *id).collect();
        let mut expired = 0;
        for id in old {
            let session = self.uploads.session(id);
            // A held lock means that a request is writing to the upload.
            let Ok(_progress) = session.try_lock() else { continue };
            expired += usize::from(self.blobs.discard(id)?);
            self.uploads.forget(id);
            seen.remove(&id);
        }
        if seen != resting.known {
            let rows = seen.iter().take(WRITTEN_MAX).map(|(id, seen)| RestingUpload {
                id: *id.bytes(),
                written: seen.written.micros(),
                since: seen.since,
            });
            let rows: Vec<_> = rows.collect();
            resting.known = seen;
            self.database.write(move |tx| tx.set_resting_uploads(&rows))?;
        }
        Ok(expired)
    }
}
