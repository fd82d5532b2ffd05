//! Background work: counts the totals and reads the facts that an earlier program did not write.
//!
//! Starts with every start of the registry, because an earlier program may have pushed in between. If there is nothing to
//! do, it only reads the rows of the repositories. It can be interrupted at any point, and continues there.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::NewFacts;
use crate::content::repository::{Error, Stores};
use crate::content::rows::{CleanupPosition, Rows, UncountedFacts, WriteTx};
use crate::oci::{Manifest, RepositoryName};

/// Rows of repositories, links, tags or orders in one step.
const STEP: usize = 1000;
/// Manifests in one step. Each may need its config, and an index the manifests that it lists.
const MANIFESTS: usize = 16;

/// Called between two steps with the duration of the last one. It may wait or cancel the work.
type Pause<'a> = &'a mut dyn FnMut(Duration) -> ControlFlow<()>;

/// Counts one repository, in steps of at most so many rows.
type Count = fn(&Stores, &RepositoryName, usize, Pause<'_>) -> Result<ControlFlow<()>, Error>;

impl Stores {
    /// Whether totals or facts are known to be missing. Those of an earlier program's last pushes of blobs are only found
    /// by [`Stores::count_facts`].
    pub(crate) fn has_uncounted_facts(&self) -> Result<bool, Error> {
        Ok(!self.database.read(Rows::facts_complete)?)
    }

    /// Counts missing totals and reads missing facts. Returns false if `pause` cancelled it, or the
    /// database can only be read.
    pub(crate) fn count_facts(&self, pause: impl FnMut(Duration) -> ControlFlow<()>) -> Result<bool, Error> {
        self.count_facts_in(STEP, pause)
    }

    /// As [`Stores::count_facts`], with steps of at most `step` rows.
    pub(super) fn count_facts_in(
        &self,
        step: usize,
        mut pause: impl FnMut(Duration) -> ControlFlow<()>,
    ) -> Result<bool, Error> {
        if self.database.is_read_only() {
            return Ok(false);
        }
        let _alone = self.counting.lock();
        if self.has_uncounted_facts()? {
            self.database.write(WriteTx::begin_counting)?;
        }
        loop {
            let resets = self.database.read(Rows::facts_resets)?;
            if self.each_uncounted(step, &mut pause, Self::count_totals_of)?.is_break() {
                return Ok(false);
            }
            if !self.has_uncounted_facts()? {
                return Ok(true);
            }
            self.database.write(WriteTx::end_totals)?;
            if self.each_uncounted(step, &mut pause, Self::read_facts_of)?.is_break() {
                return Ok(false);
            }
            if self.clean_up_facts(step, &mut pause)?.is_break() {
                return Ok(false);
            }
            if self.database.write(move |tx| tx.end_counting(resets))? {
                return Ok(true);
            }
        }
    }

    /// Calls `count` for every repository that is not counted.
    fn each_uncounted(&self, step: usize, pause: Pause<'_>, count: Count) -> Result<ControlFlow<()>, Error> {
        let mut next = Some(String::new());
        while let Some(after) = next {
            let began = Instant::now();
            let (names, last) = self.database.read(|tx| tx.uncounted_repositories(&after, step))?;
            for name in &names {
                if count(self, name, step, pause)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if names.is_empty() && pause(began.elapsed()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            next = last;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn count_totals_of(&self, name: &RepositoryName, step: usize, pause: Pause<'_>) -> Result<ControlFlow<()>, Error> {
        if !self.has_uncounted_facts()? {
            self.database.write(WriteTx::note_uncounted)?;
        }
        loop {
            let (began, of) = (Instant::now(), name.clone());
            let is_known = self.database.write(move |tx| tx.count_totals(&of, step))?;
            if pause(began.elapsed()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if is_known {
                return Ok(ControlFlow::Continue(()));
            }
        }
    }

    fn read_facts_of(&self, name: &RepositoryName, step: usize, pause: Pause<'_>) -> Result<ControlFlow<()>, Error> {
        loop {
            let began = Instant::now();
            let limit = step.min(MANIFESTS);
            let Some(step) = self.database.read(|tx| tx.uncounted_facts(name, limit))? else {
                return Ok(ControlFlow::Continue(()));
            };
            let read = self.read_step(name, &step);
            let of = name.clone();
            self.database.write(move |tx| {
                let read = read.into_iter().map(|(index, new)| (index, new.facts, new.details)).collect();
                tx.put_counted_facts(&of, step, read)
            })?;
            if pause(began.elapsed()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    fn read_step(&self, name: &RepositoryName, step: &UncountedFacts) -> Vec<(usize, NewFacts)> {
        let repository = name.clone();
        let mut read = Vec::new();
        for (index, uncounted) in step.manifests.iter().enumerate().filter(|(_, uncounted)| !uncounted.has_facts) {
            // A damaged manifest has no facts.
            let media_type = uncounted.row.media_type();
            let Ok(manifest) = Manifest::read(&uncounted.bytes, media_type.as_ref()) else { continue };
            let new = NewFacts::read(&manifest, &uncounted.bytes, &self.blobs, |blob| {
                let link = self.database.read(|tx| tx.link(blob, &repository));
                matches!(link, Ok::<_, crate::content::rows::Error>(Some(_)))
            });
            read.push((index, new));
        }
        read
    }

    /// Removes rows that an earlier program has left.
    fn clean_up_facts(&self, step: usize, pause: Pause<'_>) -> Result<ControlFlow<()>, Error> {
        let mut position = CleanupPosition::default();
        loop {
            let began = Instant::now();
            let (is_done, reached) = self.database.write(move |tx| {
                let is_done = tx.clean_up(&mut position, step)?;
                Ok::<_, Error>((is_done, position))
            })?;
            position = reached;
            if pause(began.elapsed()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if is_done {
                return Ok(ControlFlow::Continue(()));
            }
        }
    }
}
