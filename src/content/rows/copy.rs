//! Copies of a database, and databases that are opened only for reading.
//!
//! A copy has all rows of one transaction in a new file. Copying fails if the database has a table that is not in the
//! list, so that nothing is left out by mistake. Its memory is bounded. The new file gets the name of a database only
//! when it is complete and durable.

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{Durability, Key, ReadableDatabase as _, TableHandle as _, Value};

use super::backend::{Backend, DatabaseFile};
use super::schema::{self, Visitor, each_table};
use super::transaction::Definition;
use super::wal::Wal;
use super::{Database, Error, Rows, WriteTx, store};
use crate::content::blobs::{Disk, Tree};
use crate::kit::file::if_exists;

/// The size of a transaction of the copy. Transactions are held in memory.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Called between two steps of a long operation with the duration of the last step. It may sleep, or cancel.
pub(crate) type Pause<'a> = &'a mut dyn FnMut(Duration) -> ControlFlow<()>;

/// The rows that are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    All,
    /// All but sessions, refresh tokens, the secrets that sign tokens and cookies, and events. A thief of the copy cannot use
    /// them, and restoring it does not revive what was ended or sent since.
    WithoutSessions,
}

/// The tables that [`Extent::WithoutSessions`] leaves empty.
const SESSION_TABLES: [&str; 9] = [
    "sessions",
    "sessions of users",
    "signing keys",
    "refresh tokens",
    "refresh tokens of users",
    "tokens of providers",
    "events",
    "positions of event sinks",
    "refused events",
];
/// The settings that [`Extent::WithoutSessions`] leaves out. Three of them are of the journal, which is not copied.
const SESSION_SETTINGS: [&str; 9] = [
    schema::SETTING_UPLOAD_KEY,
    schema::SETTING_CSRF_KEY,
    schema::SETTING_STAMP_KEY,
    schema::SETTING_PROVIDER_KEY,
    schema::SETTING_TOKEN_KEY,
    schema::SETTING_JOURNAL,
    schema::SETTING_JOURNAL_NUMBER,
    schema::SETTING_FACTS_NUMBER,
    schema::SETTING_LAST_BACKUP,
];

impl Extent {
    fn leaves_out(self, table: &str, key: &[u8]) -> bool {
        let is_setting = |name: &str| table == schema::SETTINGS.name() && name.as_bytes() == key;
        // The log of the original would be applied to the copy.
        is_setting(schema::SETTING_WAL)
            || self == Self::WithoutSessions
                && (SESSION_TABLES.contains(&table) || SESSION_SETTINGS.iter().any(|name| is_setting(name)))
    }
}

impl Database {
    /// Copies the database to the temporary name in another data directory; see [`install`].
    pub(crate) fn copy(&self, to: &Tree, disk: &Arc<dyn Disk>, extent: Extent, pause: Pause<'_>) -> Result<(), Error> {
        let new = self.read(|rows| NewDatabase::copy_of(rows, to, disk, extent, pause))?;
        new.finish(&**disk)
    }
}

/// Renames the new database of a data directory from its temporary name. It replaces an existing one.
pub(crate) fn install(tree: &Tree, disk: &dyn Disk) -> Result<(), Error> {
    let path = tree.database();
    disk.rename(&tree.new_database(), &path).map_err(Error::at(&path))?;
    disk.sync_dir(tree.root()).map_err(Error::at(tree.root()))
}

/// A database under its temporary name: a crash while it is made must not leave an incomplete one under the real name.
pub(super) struct NewDatabase {
    database: redb::Database,
    file: Arc<DatabaseFile>,
}

impl NewDatabase {
    /// Makes an empty database without tables.
    pub(super) fn create(tree: &Tree, disk: &Arc<dyn Disk>) -> Result<Self, Error> {
        let path = tree.new_database();
        if_exists(disk.remove(&path)).map_err(Error::at(&path))?;
        // `Disk` creates it readable only for its owner: it has password hashes.
        let file = disk.create(&path).map_err(Error::at(&path))?;
        let file = Arc::new(DatabaseFile::create(Arc::clone(disk), file, &path)?);
        let database = store::open(&file, Backend::new(&file))?;
        Ok(Self { database, file })
    }

    pub(super) fn copy_of(
        from: &Rows,
        tree: &Tree,
        disk: &Arc<dyn Disk>,
        extent: Extent,
        pause: Pause<'_>,
    ) -> Result<Self, Error> {
        let new = Self::create(tree, disk)?;
        let mut copy = Copy { from, to: &new.database, tables: from.table_names()?, extent, batch: None, pause };
        each_table(&mut copy)?;
        copy.flush()?;
        // A later program may have added a table.
        if let Some(unknown) = copy.tables.first() {
            return Err(Error::Corrupt { table: "the list of tables", key: unknown.clone() });
        }
        Ok(new)
    }

    /// Changes rows of the new database.
    pub(super) fn change(&self, change: impl FnOnce(&mut WriteTx) -> Result<(), Error>) -> Result<(), Error> {
        let mut tx = WriteTx::new(self.database.begin_write()?);
        change(&mut tx)?;
        tx.commit(true)
    }

    /// Makes the new database durable, still under its temporary name.
    pub(super) fn finish(self, disk: &dyn Disk) -> Result<(), Error> {
        // The transactions of the copy are not durable. Only a durable one makes them so.
        self.change(|_| Ok(()))?;
        drop(self.database);
        self.file.sync(disk)
    }
}

/// Copies one table after the other.
struct Copy<'a> {
    from: &'a Rows,
    to: &'a redb::Database,
    /// The tables that were not copied yet.
    tables: Vec<String>,
    extent: Extent,
    batch: Option<Batch>,
    pause: Pause<'a>,
}

/// A transaction of the copy, and its size.
struct Batch {
    transaction: redb::WriteTransaction,
    bytes: usize,
    began: Instant,
}

impl Copy<'_> {
    fn batch(&mut self) -> Result<&mut Batch, Error> {
        if self.batch.is_none() {
            let mut transaction = self.to.begin_write()?;
            transaction.set_durability(Durability::None)?;
            self.batch = Some(Batch { transaction, bytes: 0, began: Instant::now() });
        }
        Ok(self.batch.as_mut().expect("it was set above"))
    }

    fn flush(&mut self) -> Result<(), Error> {
        let Some(batch) = self.batch.take() else { return Ok(()) };
        batch.transaction.commit()?;
        if (self.pause)(batch.began.elapsed()).is_break() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

impl Visitor for Copy<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(&mut self, definition: Definition<K, V>) -> Result<(), Error> {
        // A database of an earlier version has fewer tables.
        let Some(index) = self.tables.iter().position(|name| name == definition.name()) else { return Ok(()) };
        self.tables.swap_remove(index);
        let table = self.from.table(definition)?;
        let mut rows = table.range(..)?;
        let extent = self.extent;
        loop {
            let Batch { transaction, bytes, .. } = self.batch()?;
            let mut to = transaction.open_table(*definition)?;
            let mut ended = true;
            for row in rows.by_ref() {
                let (key, value) = row?;
                let key_bytes = K::as_bytes(&key.value()).as_ref().to_vec();
                if extent.leaves_out(definition.name(), &key_bytes) {
                    continue;
                }
                to.insert(key.value(), value.value())?;
                *bytes += key_bytes.len() + V::as_bytes(&value.value()).as_ref().len();
                if *bytes >= BATCH_BYTES {
                    ended = false;
                    break;
                }
            }
            drop(to);
            if ended {
                return Ok(());
            }
            self.flush()?;
        }
    }
}

/// The database of a stopped registry, which is not changed. It may be on a read-only medium.
pub(crate) struct ReadOnlyDatabase(redb::Database);

impl ReadOnlyDatabase {
    /// Opens the database of a data directory at `path`, which is its name or the temporary one.
    pub(crate) fn open(tree: &Tree, path: &Path, disk: Arc<dyn Disk>) -> Result<Self, Error> {
        let file = Arc::new(DatabaseFile::open_read_only(Arc::clone(&disk), path)?);
        file.check()?;
        let database = store::open(&file, Backend::read_only(&file).map_err(Error::at(path))?)?;
        Wal::new(tree.wal(), disk).replay(&database, false)?;
        let database = Self(database);
        database.read(schema::version)?;
        Ok(database)
    }

    pub(crate) fn read<T, E: From<Error>>(&self, read: impl FnOnce(&Rows) -> Result<T, E>) -> Result<T, E> {
        read(&Rows::new(self.0.begin_read().map_err(Error::from)?))
    }

    /// Like [`Database::copy`].
    pub(crate) fn copy(&self, to: &Tree, disk: &Arc<dyn Disk>, extent: Extent, pause: Pause<'_>) -> Result<(), Error> {
        let new = self.read(|rows| NewDatabase::copy_of(rows, to, disk, extent, pause))?;
        new.finish(&**disk)
    }
}

impl fmt::Debug for ReadOnlyDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadOnlyDatabase")
    }
}

#[cfg(test)]
mod tests;
