//! Upgrading a database of an earlier schema version.
//!
//! The upgrade is made in a copy, which replaces the database in one step when it is complete and durable. The old
//! database keeps another name, for users who want to go back to the earlier program.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::copy::NewDatabase;
use super::{Database, Error, Extent, install, schema};
use crate::content::blobs::{Disk, Tree};
use crate::kit::clock::Timestamp;
use crate::kit::file::{FileParts, if_exists};

/// Replaces an old database by an upgraded copy. The caller closes `database` and opens the copy.
pub(super) fn upgrade(database: &Database, tree: &Tree, disk: &Arc<dyn Disk>, now: Timestamp) -> Result<(), Error> {
    let (found, to) = (database.read(schema::version)?, schema::VERSION);
    let (path, kept) = (tree.database(), tree.earlier_database(found));
    tracing::info!(found, to, "upgrading a copy of the database to a newer schema version");
    let mut never = |_| ControlFlow::Continue(());
    let new = database.read(|rows| NewDatabase::copy_of(rows, tree, disk, Extent::All, &mut never))?;
    new.change(|tx| schema::migrate(tx, now))?;
    new.finish(&**disk)?;
    if_exists(disk.remove(&kept)).map_err(Error::at(&kept))?;
    // A hard link instead of a rename: at no moment may the database be missing, or a start would make an empty one.
    if let Err(error) = disk.link(&path, &kept) {
        tracing::warn!(%error, kept = %kept.display(), "this file system has no hard links: copying the database");
        copy_file(&path, &kept, &**disk)?;
    }
    disk.sync_dir(tree.root()).map_err(Error::at(tree.root()))?;
    install(tree, &**disk)?;
    tracing::info!(
        found,
        to,
        kept = %kept.display(),
        "upgraded the database to a newer schema version. To go back to the earlier program, stop this one and rename \
         the kept file to {}. All later changes are lost then",
        path.display()
    );
    Ok(())
}

/// Copies a database file that is not written to.
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
