//! A database of an earlier schema version becomes one of this version, in a copy.
//!
//! The copy takes the place of the database when it is complete and durable, in one step. What was there before
//! keeps another name, for whoever wants to go back to the program that has written it.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::copy::NewDatabase;
use super::{Database, Error, Extent, install, schema};
use crate::content::blobs::{Disk, Tree};
use crate::kit::clock::Timestamp;

/// Makes the copy, and puts it in the place of the database. `database` is the old one still.
pub(super) fn upgrade(database: &Database, tree: &Tree, disk: &Arc<dyn Disk>, now: Timestamp) -> Result<(), Error> {
    let found = database.read(schema::version)?;
    let (path, kept) = (tree.database(), tree.earlier_database(found));
    tracing::info!(found, to = schema::VERSION, "the database is brought to a newer schema version, in a copy");
    let mut never = |_| ControlFlow::Continue(());
    let new = database.read(|tx| NewDatabase::of(tx, tree, disk, Extent::All, &mut never))?;
    new.change(|tx| schema::migrate(tx, now))?;
    new.finish(&**disk)?;
    match disk.remove(&kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&kept)(error)),
        _ => {}
    }
    // A second name, so that at no moment there is none: a start without a database would make an empty one.
    if let Err(error) = disk.link(&path, &kept) {
        tracing::warn!(%error, kept = %kept.display(), "this file system has no hard links: the database is copied");
        copy_file(&path, &kept, &**disk)?;
    }
    disk.sync_dir(tree.root()).map_err(failed(tree.root()))?;
    install(tree, &**disk)?;
    let to = schema::VERSION;
    tracing::info!(
        found,
        to,
        kept = %kept.display(),
        "the database was brought to a newer schema version. To go back to the program before, which will not know \
         of anything that has changed since, stop this one and rename the kept file to {}",
        path.display()
    );
    Ok(())
}

/// Copies the file of a database that nobody writes to.
fn copy_file(from: &Path, to: &Path, disk: &dyn Disk) -> Result<(), Error> {
    use std::os::unix::fs::FileExt as _;
    let source = std::fs::File::open(from).map_err(failed(from))?;
    let file = disk.create(to).map_err(failed(to))?;
    let (mut buffer, mut position) = (vec![0; 512 * 1024], 0);
    loop {
        let count = source.read_at(&mut buffer, position).map_err(failed(from))?;
        if count == 0 {
            return disk.sync(&file, to).map_err(failed(to));
        }
        disk.write_at(&file, to, &buffer[..count], position).map_err(failed(to))?;
        position += count as u64;
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

#[cfg(test)]
mod tests;
