//! A copy of all rows, as they were at one moment, in a new database file; and a database that is only looked at.
//!
//! What must hold: nothing is left out by mistake (a table that is not in [`each_table`] is an error, not a gap),
//! memory is bounded whatever the size of the database, and the new file has the name of a database only when
//! it is complete and durable.

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::{Durability, Key, ReadableDatabase as _, TableHandle as _, Value};

use super::backend::{Backend, DatabaseFile};
use super::schema::{self, Visitor, each_table};
use super::transaction::Definition;
use super::{Database, Error, Rows, WriteTx, store};
use crate::content::blobs::{Disk, Tree};
use crate::kit::file::if_exists;

/// As much is written in one transaction of the copy, which is held in memory.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Asked between two steps of something long, and told how long the last one took: it may wait, or break it off.
pub(crate) type Pause<'a> = &'a mut dyn FnMut(Duration) -> ControlFlow<()>;

/// What is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Every row.
    All,
    /// Everything but what lets somebody in without a password or a key: sessions, refresh tokens, also those of
    /// providers, and the secrets that tokens and cookies are made with. Whoever gets hold of the copy cannot use them, and what was
    /// ended since does not come back with it.
    WithoutSessions,
}

/// What [`Extent::WithoutSessions`] leaves empty.
const TABLES_OF_SESSIONS: [&str; 6] = [
    "sessions",
    "sessions of users",
    "signing keys",
    "refresh tokens",
    "refresh tokens of users",
    "tokens of providers",
];
/// And of the settings, these. The journal that two of them speak of belongs to the registry that is copied.
const SETTINGS_OF_SESSIONS: [&str; 6] = [
    schema::SETTING_UPLOAD_KEY,
    schema::SETTING_CSRF_KEY,
    schema::SETTING_STAMP_KEY,
    schema::SETTING_PROVIDER_KEY,
    schema::SETTING_JOURNAL,
    schema::SETTING_JOURNAL_NUMBER,
];

impl Extent {
    fn leaves_out(self, table: &str, key: &[u8]) -> bool {
        self == Self::WithoutSessions
            && (TABLES_OF_SESSIONS.contains(&table)
                || table == "settings" && SETTINGS_OF_SESSIONS.iter().any(|setting| setting.as_bytes() == key))
    }
}

impl Database {
    /// Writes all rows, as they are now, to the new database of another data directory; see [`install`].
    pub(crate) fn copy(&self, to: &Tree, disk: &Arc<dyn Disk>, extent: Extent, pause: Pause<'_>) -> Result<(), Error> {
        let new = self.read(|tx| NewDatabase::of(tx, to, disk, extent, pause))?;
        new.finish(&**disk)
    }
}

/// Makes the new database of a data directory the database, in place of one that may be there.
pub(crate) fn install(tree: &Tree, disk: &dyn Disk) -> Result<(), Error> {
    let path = tree.database();
    disk.rename(&tree.new_database(), &path).map_err(Error::at(&path))?;
    disk.sync_dir(tree.root()).map_err(Error::at(tree.root()))
}

/// A database that is being made under its temporary name.
pub(super) struct NewDatabase {
    database: redb::Database,
    file: Arc<DatabaseFile>,
}

impl NewDatabase {
    /// A copy of what a view shows.
    pub(super) fn of(
        from: &Rows,
        tree: &Tree,
        disk: &Arc<dyn Disk>,
        extent: Extent,
        pause: Pause<'_>,
    ) -> Result<Self, Error> {
        let new = Self::create(tree, disk)?;
        let tables = from.table_names()?;
        let mut copy = Copy { from, to: &new.database, tables, extent, batch: None, pause };
        each_table(&mut copy)?;
        copy.flush()?;
        // A copy with a table missing is none, and a later program might have made one.
        if let Some(unknown) = copy.tables.first() {
            return Err(Error::Corrupt { table: "the list of tables", key: unknown.clone() });
        }
        Ok(new)
    }

    fn create(tree: &Tree, disk: &Arc<dyn Disk>) -> Result<Self, Error> {
        let path = tree.new_database();
        if_exists(disk.remove(&path)).map_err(Error::at(&path))?;
        let file = disk.create(&path).map_err(Error::at(&path))?;
        let file = Arc::new(DatabaseFile::new(Arc::clone(disk), file, &path));
        let database = store::open(&file, Backend::new(&file))?;
        Ok(Self { database, file })
    }

    /// Changes what was copied.
    pub(super) fn change(&self, change: impl FnOnce(&mut WriteTx) -> Result<(), Error>) -> Result<(), Error> {
        let mut tx = WriteTx::new(self.database.begin_write()?);
        change(&mut tx)?;
        tx.commit()
    }

    /// Makes it durable. It has its temporary name still.
    pub(super) fn finish(self, disk: &dyn Disk) -> Result<(), Error> {
        // What was committed without being synced counts only with one that is.
        self.change(|_| Ok(()))?;
        drop(self.database);
        self.file.sync(disk)
    }
}

/// Copies tables, one after the other.
struct Copy<'a> {
    from: &'a Rows,
    to: &'a redb::Database,
    /// The tables that were not copied yet.
    tables: Vec<String>,
    extent: Extent,
    batch: Option<Batch>,
    pause: Pause<'a>,
}

/// A transaction of the copy, and how much is in it.
struct Batch {
    transaction: redb::WriteTransaction,
    bytes: usize,
    began: Instant,
}

impl Copy<'_> {
    /// Nothing is durable before the whole is synced.
    fn batch(&mut self) -> Result<&mut Batch, Error> {
        if self.batch.is_none() {
            let mut transaction = self.to.begin_write()?;
            transaction.set_durability(Durability::None)?;
            self.batch = Some(Batch { transaction, bytes: 0, began: Instant::now() });
        }
        Ok(self.batch.as_mut().expect("it was made"))
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
        let Some(place) = self.tables.iter().position(|name| name == definition.name()) else { return Ok(()) };
        self.tables.swap_remove(place);
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

/// The database of a data directory that nobody uses, to look at and not to change: it may be on a medium that
/// cannot be written to.
pub(crate) struct ReadOnlyDatabase(redb::Database);

impl ReadOnlyDatabase {
    pub(crate) fn open(path: &Path, disk: Arc<dyn Disk>) -> Result<Self, Error> {
        let file = Arc::new(DatabaseFile::open_to_look_at(disk, path)?);
        file.check()?;
        let database = store::open(&file, Backend::read_only(&file).map_err(Error::at(path))?)?;
        let snapshot = Self(database);
        snapshot.read(schema::version)?;
        Ok(snapshot)
    }

    pub(crate) fn read<T, E: From<Error>>(&self, look: impl FnOnce(&Rows) -> Result<T, E>) -> Result<T, E> {
        look(&Rows::new(self.0.begin_read().map_err(Error::from)?))
    }

    /// As [`Database::copy`].
    pub(crate) fn copy(&self, to: &Tree, disk: &Arc<dyn Disk>, extent: Extent, pause: Pause<'_>) -> Result<(), Error> {
        let new = self.read(|tx| NewDatabase::of(tx, to, disk, extent, pause))?;
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
