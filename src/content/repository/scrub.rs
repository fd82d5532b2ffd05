//! Scrub: checks all stored data.
//!
//! A scrub hashes blobs at a bounded rate, compares derived rows with their sources, reads the journal, and finds
//! unreferenced files. It only reads, except that it sets damaged blobs aside, and that the maintenance of a running
//! registry rewrites a damaged journal. With `repair` it also rebuilds derived rows and the journal, and removes
//! unreferenced files. Lost content cannot be repaired; the scrub names the affected tags.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::damage::{Checked, Verified};
use super::{Error, Stores, WorkProgress};
use crate::content::blobs::Entry;
use crate::content::rows::Findings;
use crate::kit::clock::Timestamp;
use crate::oci::{Algorithm, Digest, RepositoryName};

/// Rows that are read at a time.
const STEP: usize = 256;
/// Verified blobs, and their bytes, that are recorded in one transaction. A crash during a scrub loses at most these.
const NOTED_MAX: usize = 256;
const NOTED_BYTES: u64 = 256 * 1024 * 1024;
/// Findings of a kind that are listed. Beyond that only their number is.
const TOLD_MAX: usize = 1000;

/// The time to look at the rows of a blob, as the number of bytes that are hashed in that time.
const ROWS_WEIGHT: u64 = 16 * 1024;

/// The options of a scrub.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scrubbing {
    /// Whether to repair.
    pub(crate) repair: bool,
    /// The maximum of hashed bytes per second.
    pub(crate) rate: u64,
    /// Skip blobs that were hashed since this time.
    pub(crate) unless_since: Option<Timestamp>,
}

/// A damaged blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DamagedBlob {
    pub(crate) digest: Digest,
    pub(crate) what: String,
    /// The tags that need it.
    pub(crate) tags: Vec<String>,
}

/// A blob that cannot be read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UnreadableBlob {
    pub(crate) digest: Digest,
    pub(crate) what: String,
}

/// The result of a scrub.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Scrubbed {
    /// Hashed blobs, and their bytes.
    pub(crate) blobs: u64,
    pub(crate) bytes: u64,
    /// Damaged blobs, found now or earlier.
    pub(crate) damaged: Vec<DamagedBlob>,
    pub(crate) unreadable: Vec<UnreadableBlob>,
    /// Derived rows that differ from their sources, and damage of the journal.
    pub(crate) derived: Vec<String>,
    /// Missing content other than blobs.
    pub(crate) lost: Vec<String>,
    /// Unreferenced files in the blob directory. The JSON of `coracle scrub --json` has them as `strays`.
    #[serde(rename = "strays")]
    pub(crate) unreferenced: Vec<String>,
    /// Entries of the blob directory that a scrub cannot remove, with the reason.
    pub(crate) obstacles: Vec<String>,
    /// The number of entries whose name is not a digest. They do not belong to the registry.
    pub(crate) ignored: u64,
    /// Whether `derived` and `unreferenced` were repaired.
    pub(crate) repaired: bool,
    /// Whether it was cancelled.
    pub(crate) is_part: bool,
}

impl Scrubbed {
    /// Whether nothing is wrong.
    pub(crate) fn is_clean(&self) -> bool {
        let mended = self.repaired || (self.derived.is_empty() && self.unreferenced.is_empty());
        let whole = self.damaged.is_empty() && self.unreadable.is_empty() && self.lost.is_empty();
        whole && self.obstacles.is_empty() && mended
    }
}

/// Limits the bytes per second.
struct ReadRate {
    rate: u64,
    began: Instant,
    bytes: u64,
}

impl ReadRate {
    fn wait(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        let nanos = u128::from(self.bytes) * 1_000_000_000 / u128::from(self.rate.max(1));
        let due = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        std::thread::sleep(due.saturating_sub(self.began.elapsed()));
    }
}

impl Stores {
    /// Checks everything. Between two steps, `rest` gets the duration of the last one. It may wait or cancel the scrub.
    pub(crate) fn scrub(
        &self,
        scrubbing: Scrubbing,
        progress: &WorkProgress,
        rest: impl Fn(Duration) -> ControlFlow<()>,
    ) -> Result<Scrubbed, Error> {
        let mut scrubbed = Scrubbed { repaired: scrubbing.repair, ..Scrubbed::default() };
        // A database of an earlier version may lack rows of foreign layers, which are expected below.
        if !self.database.is_read_only() && !self.list_optional_layers(&rest)? {
            scrubbed.is_part = true;
            return Ok(scrubbed);
        }
        progress.expect(self.weigh_blobs()?);
        let ended = self.scrub_rows(scrubbing, progress, &rest, &mut scrubbed)?;
        if ended.is_break()
            || self.scrub_journal(scrubbing, &rest, &mut scrubbed)?.is_break()
            || self.scrub_files(scrubbing, progress, &rest, &mut scrubbed)?.is_break()
        {
            scrubbed.is_part = true;
            return Ok(scrubbed);
        }
        self.find_unreferenced_files(scrubbing.repair, &mut scrubbed)?;
        if scrubbing.repair && self.has_uncounted_facts()? && !self.count_facts(&rest)? {
            scrubbed.is_part = true;
            return Ok(scrubbed);
        }
        let known = self.database.read(|tx| tx.damaged(TOLD_MAX))?;
        for (digest, row) in known {
            let tags = self.affected(digest)?;
            scrubbed.damaged.push(DamagedBlob { digest, what: row.what, tags });
        }
        Ok(scrubbed)
    }

    /// The bytes of all blobs, with the weight of their rows.
    fn weigh_blobs(&self) -> Result<u64, Error> {
        let (mut after, mut weight) = (None, 0);
        loop {
            let blobs = self.database.read(|tx| tx.blobs(after, STEP))?;
            let Some((end, _)) = blobs.last() else { return Ok(weight) };
            after = Some(*end);
            weight += blobs.iter().map(|(_, row)| row.size + ROWS_WEIGHT).sum::<u64>();
        }
    }

    fn scrub_rows(
        &self,
        scrubbing: Scrubbing,
        progress: &WorkProgress,
        rest: &impl Fn(Duration) -> ControlFlow<()>,
        scrubbed: &mut Scrubbed,
    ) -> Result<ControlFlow<()>, Error> {
        let mut last = String::new();
        loop {
            let names = self.database.read(|tx| tx.named_repositories(&last, STEP))?;
            let Some(end) = names.last().cloned() else { break };
            for text in names {
                let began = Instant::now();
                let Ok(name) = text.parse::<RepositoryName>() else {
                    scrubbed.lost.push(format!("{text}: is not a repository name"));
                    continue;
                };
                let mut findings = Findings::default();
                self.database.read(|tx| tx.verify_repository(&name, &mut findings))?;
                if scrubbing.repair && !findings.derived.is_empty() {
                    let now = self.ages.now();
                    self.database.write(move |tx| tx.rebuild_repository(&name, now))?;
                }
                scrubbed.take(findings);
                if rest(began.elapsed()).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            last = end;
        }
        let mut after = None;
        loop {
            let (began, mut findings) = (Instant::now(), Findings::default());
            let blobs = self.database.read(|tx| tx.blobs(after, STEP))?;
            let Some((end, _)) = blobs.last() else { return Ok(ControlFlow::Continue(())) };
            after = Some(*end);
            for (digest, _) in &blobs {
                let before = findings.derived.len();
                self.database.read(|tx| tx.verify_blob(*digest, &mut findings))?;
                if scrubbing.repair && findings.derived.len() > before {
                    let digest = *digest;
                    self.database.write(move |tx| tx.rebuild_blob(digest))?;
                }
            }
            scrubbed.take(findings);
            progress.reach(progress.done() + ROWS_WEIGHT * blobs.len() as u64);
            if rest(began.elapsed()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    /// Reads the journal, and rewrites a damaged one with `repair`.
    fn scrub_journal(
        &self,
        scrubbing: Scrubbing,
        rest: &impl Fn(Duration) -> ControlFlow<()>,
        scrubbed: &mut Scrubbed,
    ) -> Result<ControlFlow<()>, Error> {
        let mut pace = ReadRate { rate: scrubbing.rate, began: Instant::now(), bytes: 0 };
        let examined = self.database.examine_journal(&mut |bytes| {
            pace.wait(bytes);
            // The read rate is limited already.
            rest(Duration::ZERO)
        });
        let ControlFlow::Continue(damage) = examined else { return Ok(ControlFlow::Break(())) };
        let Some(damage) = damage else { return Ok(ControlFlow::Continue(())) };
        tell(&mut scrubbed.derived, damage);
        if scrubbing.repair {
            self.maintain_journal(rest)?;
            if rest(Duration::ZERO).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if self.database.lacks_journal() {
                tell(&mut scrubbed.lost, "manifests.log: cannot be rewritten".to_owned());
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn scrub_files(
        &self,
        scrubbing: Scrubbing,
        progress: &WorkProgress,
        rest: &impl Fn(Duration) -> ControlFlow<()>,
        scrubbed: &mut Scrubbed,
    ) -> Result<ControlFlow<()>, Error> {
        let mut verified = Vec::new();
        let ended = self.hash_files(scrubbing, progress, rest, scrubbed, &mut verified);
        let noted = self.note_verified(verified);
        ended.and_then(|ended| noted.map(|()| ended))
    }

    /// Hashes files. What is still in `verified` at the end is not recorded yet.
    fn hash_files(
        &self,
        scrubbing: Scrubbing,
        progress: &WorkProgress,
        rest: &impl Fn(Duration) -> ControlFlow<()>,
        scrubbed: &mut Scrubbed,
        verified: &mut Vec<Verified>,
    ) -> Result<ControlFlow<()>, Error> {
        let mut pace = ReadRate { rate: scrubbing.rate, began: Instant::now(), bytes: 0 };
        let mut after = None;
        loop {
            let blobs = self.database.read(|tx| tx.blobs(after, STEP))?;
            let Some((end, _)) = blobs.last() else { return Ok(ControlFlow::Continue(())) };
            after = Some(*end);
            for (digest, row) in blobs {
                let done = progress.done();
                let file = self.database.read(|tx| tx.file(digest))?;
                if file.zip(scrubbing.unless_since).is_some_and(|(file, since)| file.checked >= since) {
                    progress.reach(done + row.size);
                    continue;
                }
                let paced = |bytes| {
                    pace.wait(bytes);
                    progress.reach(progress.done() + bytes as u64);
                    // The read rate is limited already.
                    rest(Duration::ZERO)
                };
                let checked = self.check_blob_and(digest, paced, |whole| {
                    verified.push(whole);
                    Ok(())
                });
                let size: u64 = verified.iter().map(|whole| whole.size).sum();
                if verified.len() >= NOTED_MAX || size >= NOTED_BYTES {
                    self.note_verified(std::mem::take(verified))?;
                }
                progress.reach(done + row.size);
                match checked {
                    Ok(Checked::Whole | Checked::Damaged { .. }) => {
                        scrubbed.blobs += 1;
                        scrubbed.bytes += row.size;
                    }
                    Ok(Checked::Skipped) => {}
                    Err(Error::Blobs(error)) => {
                        scrubbed.unreadable.push(UnreadableBlob { digest, what: error.to_string() });
                    }
                    Err(error) => return Err(error),
                }
                if rest(Duration::ZERO).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
    }

    /// Finds unreferenced files. A push writes the row while it holds the lock of the digest, so its file is not
    /// reported.
    fn find_unreferenced_files(&self, repair: bool, scrubbed: &mut Scrubbed) -> Result<(), Error> {
        for algorithm in Algorithm::ALL {
            let mut digests = Vec::new();
            self.blobs.each_entry(algorithm, |entry| {
                match entry {
                    Entry::Blob(digest) if self.may_be_unreferenced(digest) => digests.push(digest),
                    Entry::Blob(_) => {}
                    Entry::Directory(digest) => {
                        tell(&mut scrubbed.obstacles, format!("{digest}: a directory has the name of a blob"));
                    }
                    Entry::Other => scrubbed.ignored += 1,
                }
                ControlFlow::Continue(())
            })?;
            for digest in digests {
                let _busy = self.blobs.lock(digest);
                if !self.may_be_unreferenced(digest) {
                    continue;
                }
                tell(&mut scrubbed.unreferenced, digest.to_string());
                if repair && let Err(error) = self.blobs.remove(digest) {
                    tell(&mut scrubbed.obstacles, error.to_string());
                }
            }
        }
        Ok(())
    }

    /// An entry that cannot be checked counts as none.
    fn may_be_unreferenced(&self, digest: Digest) -> bool {
        let known = self.database.read(|tx| Ok::<_, Error>(tx.blob(digest)?.is_some() || tx.is_orphan(digest)?));
        matches!(known, Ok(false))
    }
}

/// Adds a finding to a bounded list.
fn tell(list: &mut Vec<String>, finding: String) {
    if list.len() < TOLD_MAX {
        list.push(finding);
    }
}

impl Scrubbed {
    fn take(&mut self, findings: Findings) {
        let room = |list: &Vec<String>| TOLD_MAX.saturating_sub(list.len());
        let (derived, lost) = (room(&self.derived), room(&self.lost));
        self.derived.extend(findings.derived.into_iter().take(derived));
        self.lost.extend(findings.lost.into_iter().take(lost));
    }
}

#[cfg(test)]
mod tests;
