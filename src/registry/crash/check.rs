//! Checks a data directory after a power failure or `kill -9`.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::block_on;
use super::history::{self, History, Staged};
use super::power::{Random, Survives};
use crate::content::blobs::{Disk, SystemDisk};
use crate::content::repository::{self, Opened, Stores};
use crate::content::rows::{Database, Dump};
use crate::kit::clock::Clock;
use crate::oci::{Algorithm, Digest, UploadId};

/// The state that clients know of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    pub(super) history: &'a History,
    /// The last acknowledged step.
    pub(super) answered: Option<usize>,
    /// Whether the next step had started.
    pub(super) under_way: bool,
    pub(super) survives: Survives,
}

/// Opens the stores on the directory, and checks everything.
pub(super) fn check(root: &Path, expected: Expected<'_>, random: &mut Random) -> Result<(), String> {
    let clock = Clock::default();
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    let (stores, database) =
        history::open(root, &disk, &clock).map_err(|error| format!("it cannot be opened: {error}"))?;
    check_rows(&database, expected)?;
    check_files(root, &database, expected)?;
    check_uploads(&stores, expected, random)?;
    // The registry can continue.
    if random.below(8) == 0 {
        let content = Bytes::from_static(b"after the loss of power");
        let digest = Digest::of(Algorithm::Sha256, &content);
        let repository = stores.repository(&"after".parse().expect("a name"));
        let mut upload = repository.open_upload(Algorithm::Sha256).map_err(|error| error.to_string())?;
        upload.append(&[content]).map_err(|error| error.to_string())?;
        upload.verify(digest).map_err(|error| error.to_string())?;
        upload.finish(digest).map_err(|error| error.to_string())?;
        repository.open_blob(digest).map_err(|error| error.to_string())?;
        check_rows_agree(&database)?;
    }
    Ok(())
}

/// Checks that all rows are those after the last acknowledged step, or those after the step in progress.
fn check_rows(database: &Database, expected: Expected<'_>) -> Result<(), String> {
    let Some(answered) = expected.answered else { return check_rows_agree(database) };
    let steps = &expected.history.steps;
    let found = database.dump().map_err(|error| error.to_string())?;
    let before = &steps[answered];
    // Their consistency was checked when they were recorded.
    if found == before.dump {
        return Ok(());
    }
    match steps.get(answered + 1).filter(|_| expected.under_way) {
        Some(next) if found == next.dump => Ok(()),
        Some(next) if !next.is_one => check_rows_agree(database),
        next => Err(format!(
            "rows are not those after {:?} ({}){}",
            before.what,
            differences(&found, &before.dump),
            next.map_or_else(String::new, |next| format!(
                ", nor those after {:?} ({})",
                next.what,
                differences(&found, &next.dump)
            ))
        )),
    }
}

fn differences(found: &Dump, wanted: &Dump) -> String {
    let mut list = Vec::new();
    for (table, (count, hash)) in wanted {
        match found.get(table) {
            Some((rows, _)) if rows != count => list.push(format!("{table}: {rows} rows, not {count}")),
            Some((_, other)) if other != hash => list.push(format!("{table}: other rows")),
            Some(_) => {}
            None => list.push(format!("{table}: missing")),
        }
    }
    list.join(", ")
}

fn check_rows_agree(database: &Database) -> Result<(), String> {
    let wrong = database.inconsistencies().map_err(|error| error.to_string())?;
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// Checks that every blob with a row has its file, and that every file has the digest in its name and is referenced.
fn check_files(root: &Path, database: &Database, expected: Expected<'_>) -> Result<(), String> {
    let mut known = database.orphan_rows().map_err(|error| error.to_string())?;
    for (digest, size) in database.blob_rows().map_err(|error| error.to_string())? {
        let path = root.join("blobs").join(digest.algorithm().as_str()).join(digest.hex());
        let length =
            std::fs::metadata(&path).map_err(|error| format!("{digest} has a row and no file: {error}"))?.len();
        if length != size {
            return Err(format!("{digest} has {size} bytes by its row, and {length}"));
        }
        known.push(digest);
    }
    for algorithm in Algorithm::ALL {
        let directory = root.join("blobs").join(algorithm.as_str());
        for entry in std::fs::read_dir(&directory).map_err(|error| error.to_string())? {
            let path = entry.map_err(|error| error.to_string())?.path();
            let content = std::fs::read(&path).map_err(|error| error.to_string())?;
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let digest = Digest::of(algorithm, &content);
            if digest.hex() != name {
                return Err(format!("the file of {name} is torn: {} bytes", content.len()));
            }
            let next = expected.answered.and_then(|answered| expected.history.steps.get(answered + 1));
            let is_coming = next.is_some_and(|next| expected.under_way && next.what.contains(&name));
            if !known.contains(&digest) && !is_coming {
                return Err(format!("{digest} has neither a row nor a note that it is to go"));
            }
        }
    }
    for entry in std::fs::read_dir(root).map_err(|error| error.to_string())? {
        let name = entry.map_err(|error| error.to_string())?.file_name();
        if !["blobs", "uploads", "coracle.redb", "coracle.wal"].iter().any(|known| name == *known) {
            return Err(format!("{} is left behind", name.display()));
        }
    }
    Ok(())
}

/// Checks that an upload can be continued, or is gone. After a kill, it has all acknowledged bytes. After a power failure,
/// its bytes may differ, which is noticed at its end.
fn check_uploads(stores: &Arc<Stores>, expected: Expected<'_>, random: &mut Random) -> Result<(), String> {
    let Some(answered) = expected.answered else { return Ok(()) };
    let steps = &expected.history.steps;
    let next = steps.get(answered + 1).filter(|_| expected.under_way);
    for (id, staged) in &steps[answered].uploads {
        let repository = stores.repository(&staged.name);
        let length = match repository.upload_offset(*id) {
            Ok(length) => length,
            Err(repository::Error::UploadUnknown { .. }) => {
                let may_be_gone = next.is_some_and(|next| !next.uploads.contains_key(id));
                if expected.survives == Survives::Everything && !may_be_gone {
                    return Err(format!("the upload {id} is gone"));
                }
                continue;
            }
            Err(error) => return Err(error.to_string()),
        };
        if expected.survives == Survives::Everything && length < staged.bytes.len() as u64 {
            return Err(format!("the upload {id} has {length} bytes, and {} were answered for", staged.bytes.len()));
        }
        if random.below(4) == 0 || expected.survives == Survives::Everything {
            finish(stores, *id, staged, length, expected.survives == Survives::Everything)?;
        }
    }
    Ok(())
}

fn finish(stores: &Arc<Stores>, id: UploadId, staged: &Staged, length: u64, must: bool) -> Result<(), String> {
    let repository = stores.repository(&staged.name);
    let digest = Digest::of(Algorithm::Sha256, &staged.content);
    let from = usize::try_from(length).unwrap_or(usize::MAX).min(staged.content.len());
    let mut upload = block_on(repository.upload(id)).map_err(|error| error.to_string())?;
    upload.append(&[staged.content.slice(from..)]).map_err(|error| error.to_string())?;
    match upload.verify(digest) {
        Ok(()) => upload.finish(digest).map_err(|error| error.to_string())?,
        Err(repository::Error::DigestMismatch { .. }) if !must => return Ok(()),
        Err(error) => return Err(format!("the upload {id} cannot be finished: {error}")),
    }
    // If the blob existed before, its file has changed, and is hashed again.
    stores.check_blob(digest, |_| ControlFlow::Continue(())).map_err(|error| error.to_string())?;
    match repository.open_blob(digest) {
        Ok(Opened::Whole(blob)) if blob.size == staged.content.len() as u64 => Ok(()),
        other => Err(format!("{digest} was finished, and is {other:?}")),
    }
}
