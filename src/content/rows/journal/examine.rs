//! Examining the file of a journal: at the start, and during a scrub.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;

use super::format::{self, HEADER_BYTES, Reader, Record};
use super::{BATCH_BYTES, Journal, JournalFile};
use crate::content::blobs::{Disk, Tree};
use crate::content::rows::Database;
use crate::kit::file::{FileId, if_exists};
use crate::oci::Digest;

/// The maximum number of tags and manifests that a log line names.
const NAMED_MAX: usize = 20;
/// The maximum number of files that are kept under other names. The next one replaces the first one.
const KEPT_MAX: u32 = 9;

/// Opens the journal of a database. Returns `None` if it has to be rewritten: it is missing, incomplete, or was kept under
/// another name. `number` is that of the last transaction in the database.
pub(super) fn open(tree: &Tree, disk: &dyn Disk, id: Option<&[u8]>, number: u64) -> io::Result<Option<JournalFile>> {
    let path = tree.journal();
    let Some(file) = if_exists(File::options().read(true).write(true).open(&path))? else { return Ok(None) };
    let length = file.metadata()?.len();
    let Some((_, initial_length)) = format::read_header(&file).filter(|(found, _)| id == Some(found)) else {
        // It may be the only rest of the other database.
        let aside = set_aside(tree, disk)?;
        tracing::info!(path = %aside.display(), "keeping the manifests.log of an earlier database under another name");
        return Ok(None);
    };
    match format::last_number(&file, length) {
        Some(last) if last == number => {
            Ok(Some(JournalFile { file, path, length, initial_length, first: None, last: Some(last) }))
        }
        // A rewrite would remove the only copy of the later changes.
        Some(last) if last > number => {
            let changed = changed_after(file, number)?.into_iter().collect::<Vec<_>>().join(", ");
            let aside = set_aside(tree, disk)?;
            tracing::warn!(
                path = %aside.display(),
                missing = last - number,
                changed = %changed,
                "the database lacks the last changes of manifests.log, which is kept under another name: push the \
                 changed tags and manifests again"
            );
            Ok(None)
        }
        _ => {
            tracing::info!("the journal of manifests lacks a change, and will be rewritten");
            Ok(None)
        }
    }
}

/// Gives the journal a free name, because it may be the only copy of some changes. Returns that name.
pub(super) fn set_aside(tree: &Tree, disk: &dyn Disk) -> io::Result<PathBuf> {
    let first = tree.earlier_journal();
    let others = (1..KEPT_MAX).map(|number| first.with_added_extension(number.to_string()));
    let free = std::iter::once(first.clone()).chain(others).find(|aside| !aside.exists());
    let aside = free.unwrap_or(first);
    disk.rename(&tree.journal(), &aside)?;
    Ok(aside)
}

/// Names the first tags and manifests that changed after a transaction.
pub(super) fn changed_after(file: File, number: u64) -> io::Result<BTreeSet<String>> {
    let mut reader = Reader::new(file, HEADER_BYTES)?;
    let mut changed = BTreeSet::new();
    while changed.len() < NAMED_MAX
        && let Some(frame) = reader.next_intact()?
    {
        if frame.number > number {
            changed.extend(name(&frame.record));
        }
    }
    Ok(changed)
}

/// The name of the tag or the manifest of a record.
fn name(record: &Record) -> Option<String> {
    match record {
        Record::Manifest { repository, digest, .. } | Record::ManifestGone { repository, digest } => {
            Digest::from_key(digest).map(|digest| format!("{repository}@{digest}"))
        }
        Record::Tag { repository, tag, .. } | Record::TagGone { repository, tag } => {
            Some(format!("{repository}:{tag}"))
        }
        Record::End => None,
    }
}

/// Identifies an open file. `None` if it cannot be examined.
fn identity(file: &File) -> Option<FileId> {
    file.metadata().ok().map(|metadata| FileId::from(&metadata))
}

/// Reads the first `length` bytes of a journal, and calls `step` with the number of bytes of each part. Returns the
/// position of the first damage, or breaks if `step` does.
fn first_damage(
    file: File,
    length: u64,
    step: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> io::Result<ControlFlow<(), Option<u64>>> {
    if format::read_header(&file).is_none() {
        return Ok(ControlFlow::Continue(Some(0)));
    }
    let mut reader = Reader::up_to(file, HEADER_BYTES, length)?;
    let mut reported = HEADER_BYTES;
    while reader.next()?.is_some() {
        let part = usize::try_from(reader.offset() - reported).unwrap_or(usize::MAX);
        if part >= BATCH_BYTES {
            reported = reader.offset();
            if step(part).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue((!reader.is_at_end()).then(|| reader.offset())))
}

impl Journal {
    /// Reads the whole journal. Describes its damage, and marks a damaged journal for a rewrite.
    fn examine(&self, step: &mut dyn FnMut(usize) -> ControlFlow<()>) -> ControlFlow<(), Option<String>> {
        let (opened, length, expected) = {
            let state = self.state.lock();
            // A journal that lacks a change is rewritten in any case.
            let Some(current) = &state.current else { return ControlFlow::Continue(None) };
            // Another handle, because handles that are copied share their position.
            (File::open(&current.path), current.length, identity(&current.file))
        };
        let what = match opened {
            Ok(file) if identity(&file) != expected => "another file has taken its place".to_owned(),
            opened => match opened.and_then(|file| first_damage(file, length, step)) {
                Ok(ControlFlow::Break(())) => return ControlFlow::Break(()),
                Ok(ControlFlow::Continue(None)) => return ControlFlow::Continue(None),
                Ok(ControlFlow::Continue(Some(position))) => format!("damaged at byte {position}"),
                Err(error) => format!("cannot be read: {error}"),
            },
        };
        let path = self.tree.journal();
        tracing::warn!(path = %path.display(), %what, "the journal of manifests is damaged, and will be rewritten");
        let mut state = self.state.lock();
        // A rewrite may have replaced it meanwhile.
        if state.current.as_ref().is_some_and(|current| identity(&current.file) == expected) {
            state.current = None;
        }
        ControlFlow::Continue(Some(format!("manifests.log: {what}")))
    }
}

impl Database {
    /// Reads the whole journal, and describes its damage, if there is any. [`Database::maintain_journal`] then rewrites
    /// it. `step` gets the number of bytes of each part that was read. It may wait or cancel the work.
    pub(crate) fn examine_journal(
        &self,
        step: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> ControlFlow<(), Option<String>> {
        self.journal.get().map_or(ControlFlow::Continue(None), |journal| journal.examine(step))
    }

    /// Whether the journal has to be rewritten, because it is missing, damaged or incomplete.
    pub(crate) fn lacks_journal(&self) -> bool {
        self.journal.get().is_some_and(|journal| journal.state.lock().current.is_none())
    }
}
