//! A database of an earlier schema version becomes one of this version, in a copy.
//!
//! The copy takes the place of the database when it is complete and durable, in one step. What was there before
//! keeps another name, for whoever wants to go back to the program that has written it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::copy::NewDatabase;
use super::{Database, Error, Extent, install, schema};
use crate::content::blobs::{Disk, Tree};
use crate::kit::clock::Timestamp;
use crate::kit::file::{FileParts, if_exists};

/// Makes the copy, and puts it in the place of the database. `database` is the old one still.
pub(super) fn upgrade(database: &Database, tree: &Tree, disk: &Arc<dyn Disk>, now: Timestamp) -> Result<(), Error> {
    let found = database.read(schema::version)?;
    let (path, kept) = (tree.database(), tree.earlier_database(found));
    tracing::info!(found, to = schema::VERSION, "the database is brought to a newer schema version, in a copy");
    let mut never = |_| ControlFlow::Continue(());
    let new = database.read(|tx| NewDatabase::of(tx, tree, disk, Extent::All, &mut never))?;
    new.change(|tx| schema::migrate(tx, now))?;
    new.finish(&**disk)?;
    if_exists(disk.remove(&kept)).map_err(Error::at(&kept))?;
    // A second name, so that at no moment there is none: a start without a database would make an empty one.
    if let Err(error) = disk.link(&path, &kept) {
        tracing::warn!(%error, kept = %kept.display(), "this file system has no hard links: the database is copied");
        copy_file(&path, &kept, &**disk)?;
    }
    disk.sync_dir(tree.root()).map_err(Error::at(tree.root()))?;
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
    let source = std::fs::File::open(from).map_err(Error::at(from))?;
    let file = disk.create(to).map_err(Error::at(to))?;
    let mut parts = FileParts::all(&source);
    while let Some((offset, part)) = parts.next().map_err(Error::at(from))? {
        disk.write_at(&file, to, part, offset).map_err(Error::at(to))?;
    }
    disk.sync(&file, to).map_err(Error::at(to))
}

#[cfg(test)]
mod tests;
