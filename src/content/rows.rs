//! The rows: everything that is not the bytes of a blob, in one redb database.
//!
//! The only module that names redb. It knows how rows are stored and found, and decides nothing.
//! What must hold: one [`Database::write`] closure is one change that is durable or did not happen;
//! a closure that fails has changed nothing.

mod accounts;
mod age;
mod audit;
mod backend;
mod codec;
mod content;
mod copy;
mod deleted;
mod durability;
mod error;
mod examine;
mod federated_user;
mod file;
mod garbage;
mod history;
#[cfg(test)]
mod inspect;
mod journal;
mod link;
mod owner;
mod permission;
mod schema;
mod store;
mod token;
mod transaction;
mod unreferenced;
mod upgrade;
mod verify;
mod version;

use std::fmt;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use redb::Durability;

pub(crate) use accounts::{AccountRole, KeyRow, SecretHash, SessionRow, Use, UserRow};
pub(crate) use age::{RestingUpload, SteadyClockRow};
pub(crate) use audit::AuditRow;
pub(crate) use content::{Contents, ManifestRow};
pub(crate) use copy::{Extent, Pause, ReadOnlyDatabase, install};
pub(crate) use error::Error;
pub(crate) use examine::{Condition, examine, set_aside};
pub(crate) use federated_user::FederatedUserRow;
pub(crate) use file::{DamageRow, FileRow};
pub(crate) use garbage::UnreferencedRow;
pub(crate) use history::{Span, TagAttributes, TagState};
#[cfg(test)]
pub(crate) use inspect::Dump;
pub(crate) use journal::{JournaledManifest, ReplayedJournal};
pub(crate) use owner::{FileUserRow, NamespaceConflict};
pub(crate) use permission::{Grantee, GroupRow, Role, SettingsRow};
pub(crate) use schema::{
    SETTING_CSRF_KEY, SETTING_FILE_OWNERS_UNKNOWN, SETTING_OPTIONAL_LISTED, SETTING_OWNERS_UNKNOWN,
    SETTING_PROVIDER_KEY, SETTING_STAMP_KEY, SETTING_UPLOAD_KEY,
};
pub(crate) use token::{RefreshRow, SigningRow};
pub(crate) use transaction::{Rows, WriteTx};
pub(crate) use unreferenced::Unreferenced;
pub(crate) use verify::Findings;
#[cfg(test)]
pub(crate) use version::Changes;
pub(crate) use version::Version;

use crate::content::blobs::{Disk, Tree};
use crate::kit::clock::Clock;
use crate::kit::file::if_exists;
use backend::{Backend, DatabaseFile};
use durability::DurabilityPolicy;
use journal::{Journal, Records};
use store::Store;

/// More closures than this are not put into one transaction, so that none waits long.
const GROUP_MAX: usize = 256;

/// The database of one data directory.
pub(crate) struct Database {
    store: Store,
    durability: DurabilityPolicy,
    /// Changes that wait for a transaction.
    queue: Mutex<Vec<Box<dyn Pending>>>,
    /// Held by whoever writes the next transaction, for everybody in the queue.
    leader: Mutex<()>,
    journal: OnceLock<Journal>,
}

/// A key by which the registry recognises what it has handed out itself. Does not print.
pub(crate) struct HmacKey([u8; 32]);

impl HmacKey {
    pub(crate) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacKey")
    }
}

impl Database {
    /// Opens the database of a data directory, making it if there is none. `sync` is whether a
    /// finished [`Database::write`] survives a crash; if not, nothing does but an orderly end, unless
    /// [`Database::with_delayed_durability`] is called.
    pub(crate) fn open(tree: &Tree, disk: Arc<dyn Disk>, sync: bool) -> Result<Self, Error> {
        let path = tree.database();
        // Of two first starts at once, the second must not take away the file that the first is making. It
        // waits until the database is there, and finds it in use. Where directories have no locks, that is
        // not worth refusing to start for.
        let directory = File::open(tree.root()).map_err(Error::at(tree.root()))?;
        let _ = directory.lock();
        if !path.exists() {
            if tree.journal().exists() {
                return Err(Error::DatabaseMissing { path });
            }
            create(tree, &disk)?;
            install(tree, &*disk)?;
        }
        let open = |disk| {
            let (store, durability) = (Store::open(DatabaseFile::open(disk, &path)?)?, DurabilityPolicy::new(sync));
            let (queue, leader) = (Mutex::default(), Mutex::default());
            Ok::<_, Error>(Self { store, durability, queue, leader, journal: OnceLock::new() })
        };
        let database = open(Arc::clone(&disk))?;
        if database.read(schema::version)? == schema::VERSION {
            if !database.read(schema::has_all_tables)? {
                database.write(schema::create_tables)?;
            }
            return Ok(database);
        }
        upgrade::upgrade(&database, tree, &disk, Clock::default().now())?;
        drop(database);
        open(disk)
    }

    /// How much of the file is in use.
    #[cfg(feature = "filling")]
    pub(crate) fn allocated_bytes(&self) -> Result<u64, Error> {
        let transaction = self.store.begin_write()?;
        let stats = transaction.stats()?;
        transaction.abort()?;
        Ok(stats.allocated_pages() * stats.page_size() as u64)
    }

    /// Looks something up. Never waits for a writer, except for one that opens the database anew.
    pub(crate) fn read<T, E: From<Error>>(&self, look: impl FnOnce(&Rows) -> Result<T, E>) -> Result<T, E> {
        if self.store.wants_reopening() {
            // If another thread writes, it finds out itself.
            if let Some(_leading) = self.leader.try_lock() {
                self.store.reopen();
            }
        }
        let transaction = self.store.begin_read()?;
        look(&Rows::new(transaction))
    }

    /// Makes a change, and returns when it is durable. Blocks.
    ///
    /// Whoever finds nobody writing writes for all who wait, in one transaction with one sync. So a
    /// closure runs on some thread that called this, and must not write before it is sure that it
    /// will succeed: the others' changes are in the same transaction.
    pub(crate) fn write<T, E>(&self, change: impl FnOnce(&mut WriteTx) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let outcome = Arc::new(Mutex::new(None));
        let pending = Change { closure: Some(change), result: None, outcome: Arc::clone(&outcome) };
        self.queue.lock().push(Box::new(pending));
        loop {
            let leading = self.leader.lock();
            if let Some(result) = outcome.lock().take() {
                return result;
            }
            self.write_group();
            drop(leading);
        }
    }

    /// Makes a change that is not kept, to see what would come of it. Other writers wait meanwhile.
    pub(crate) fn dry_run<T, E: From<Error>>(&self, change: impl FnOnce(&mut WriteTx) -> Result<T, E>) -> Result<T, E> {
        let _leading = self.leader.lock();
        let mut tx = WriteTx::new(self.store.begin_write()?);
        let result = change(&mut tx);
        tx.abort()?;
        result
    }

    /// What is read from now on, until something changes.
    pub(crate) fn version(&self) -> Option<Version> {
        self.store.changes().version()
    }

    /// Whether the database cannot be changed at the moment, although it can be read.
    pub(crate) fn is_read_only(&self) -> bool {
        self.store.is_read_only()
    }

    /// A key of this data directory, made the first time it is asked for.
    pub(crate) fn hmac_key(&self, setting: &'static str) -> Result<HmacKey, Error> {
        let known = match self.read(|tx| tx.setting(setting))? {
            Some(known) => known,
            None => self.write(move |tx| {
                let made: [u8; 32] = rand::random();
                tx.set_setting(setting, &made)?;
                Ok::<_, Error>(made.to_vec())
            })?,
        };
        known.try_into().map(HmacKey).map_err(|_| Error::Corrupt { table: "settings", key: setting.to_owned() })
    }

    /// Writes what is in the queue as one transaction and tells each who waits.
    fn write_group(&self) {
        let mut group = {
            let mut queue = self.queue.lock();
            let count = queue.len().min(GROUP_MAX);
            queue.drain(..count).collect::<Vec<_>>()
        };
        // Until a failure is dealt with too: what of it is found in the file may be seen at any time before that.
        let _changing = self.store.changes().begin();
        // A panic of redb's must not leave those who wait without an answer.
        let committed = catch_unwind(AssertUnwindSafe(|| self.try_write_group(&mut group)));
        let committed = committed.unwrap_or(Err(Error::Panicked)).map_err(|error| self.store.failed(error));
        for pending in group {
            pending.tell(committed.clone());
        }
    }

    fn try_write_group(&self, group: &mut [Box<dyn Pending>]) -> Result<(), Error> {
        let mut transaction = self.store.begin_write()?;
        // While somebody reads what was before, redb does not take the pages back that this one replaces: the next
        // commit does. Otherwise it makes a second commit of that, in memory, after each that is durable; a push costs
        // up to a seventh more then, and each page that a reader fetches from the file a look into 131 empty lists.
        let _before = self.store.begin_read()?;
        let is_durable = self.durability.next_is_durable();
        set_durable(&mut transaction, is_durable)?;
        let mut tx = WriteTx::new(transaction);
        tx.records = self.journal.get().map(|_| Records::new());
        for pending in &mut *group {
            let before = std::mem::replace(&mut tx.changed, false);
            let failed = !pending.run(&mut tx);
            if failed && tx.changed {
                tx.abort()?;
                return Err(Error::PartialChange);
            }
            tx.changed |= before;
        }
        if !tx.changed {
            return tx.abort();
        }
        let records = tx.take_records()?;
        tx.commit()?;
        self.durability.committed(is_durable);
        if let (Some(journal), Some((number, records))) = (self.journal.get(), records) {
            journal.append(number, &records);
        }
        Ok(())
    }
}

/// Says whether a transaction is durable when it is committed, with all that were before it.
fn set_durable(transaction: &mut redb::WriteTransaction, is_durable: bool) -> Result<(), Error> {
    transaction.set_durability(if is_durable { Durability::Immediate } else { Durability::None })?;
    // A start after a crash must not walk the whole database.
    transaction.set_quick_repair(is_durable);
    Ok(())
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}

/// Makes the database under a temporary name: a crash in the middle of a first creation leaves a
/// file that redb cannot open, and must not leave it under the real name.
fn create(tree: &Tree, disk: &Arc<dyn Disk>) -> Result<(), Error> {
    let new = tree.new_database();
    if_exists(disk.remove(&new)).map_err(Error::at(&new))?;
    // By the disk, so that nobody else may read it: there are password hashes in it.
    let file = disk.create(&new).map_err(Error::at(&new))?;
    let file = Arc::new(DatabaseFile::new(Arc::clone(disk), file, &new));
    let database = store::open(&file, Backend::new(&file))?;
    let mut tx = WriteTx::new(database.begin_write()?);
    schema::create(&mut tx)?;
    tx.commit()?;
    drop(database);
    Ok(())
}

/// A change waiting in the queue, whatever its result is.
trait Pending: Send {
    /// Makes the change; false if it failed.
    fn run(&mut self, tx: &mut WriteTx) -> bool;
    /// Hands the result over to who waits, now that it is known whether it is durable.
    fn tell(self: Box<Self>, committed: Result<(), Arc<Error>>);
}

struct Change<F, T, E> {
    closure: Option<F>,
    result: Option<Result<T, E>>,
    outcome: Arc<Mutex<Option<Result<T, E>>>>,
}

impl<F, T, E> Pending for Change<F, T, E>
where
    F: FnOnce(&mut WriteTx) -> Result<T, E> + Send,
    T: Send,
    E: From<Error> + Send,
{
    fn run(&mut self, tx: &mut WriteTx) -> bool {
        let change = self.closure.take().expect("a change is run once");
        // A panic must not take the thread that happens to lead, nor the others' changes, along.
        let result = catch_unwind(AssertUnwindSafe(|| change(tx))).unwrap_or_else(|_| Err(Error::Panicked.into()));
        let succeeded = result.is_ok();
        self.result = Some(result);
        succeeded
    }

    fn tell(self: Box<Self>, committed: Result<(), Arc<Error>>) {
        let result = match committed {
            Ok(()) => self.result.expect("a committed group has run all its changes"),
            // Not even a refusal is certain: it may rest on a change of the same group.
            Err(error) => Err(Error::Group(error).into()),
        };
        *self.outcome.lock() = Some(result);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::content::blobs::SystemDisk;

    fn database(root: &Path) -> Database {
        Database::open(&Tree::new(root), Arc::new(SystemDisk), true).unwrap()
    }

    #[test]
    fn many_writers_share_transactions_and_none_is_lost() {
        let root = tempfile::tempdir().unwrap();
        let database = database(root.path());
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let database = &database;
                scope.spawn(move || {
                    for n in 0..20 {
                        let key = format!("test {writer} {n}");
                        database.write(move |tx| tx.set_setting(&key, b"x")).unwrap();
                    }
                });
            }
        });
        for writer in 0..8 {
            for n in 0..20 {
                let key = format!("test {writer} {n}");
                assert!(database.read(|tx| tx.setting(&key)).unwrap().is_some(), "{key} was lost");
            }
        }
    }

    #[test]
    fn a_panic_or_a_failure_after_a_change_undoes_it() {
        let root = tempfile::tempdir().unwrap();
        let database = database(root.path());
        let failed: Result<(), Error> = database.write(|tx| {
            tx.set_setting("half", b"x")?;
            Err(Error::Panicked)
        });
        assert!(failed.is_err());
        let panicked: Result<(), Error> = database.write(|tx| {
            tx.set_setting("half", b"x")?;
            panic!("on purpose");
        });
        assert!(panicked.is_err());
        assert_eq!(database.read(|tx| tx.setting("half")).unwrap(), None);
        database.write(|tx| tx.set_setting("after", b"x")).unwrap();
        assert!(database.read(|tx| tx.setting("after")).unwrap().is_some());
    }

    #[test]
    fn a_second_opener_is_told_who_is_in_the_way() {
        let root = tempfile::tempdir().unwrap();
        let _first = database(root.path());
        let second = Database::open(&Tree::new(root.path()), Arc::new(SystemDisk), true);
        assert!(matches!(second, Err(Error::InUse { .. })));
    }

    #[test]
    fn a_creation_that_was_cut_off_is_begun_anew() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("coracle.redb.new"), [0; 4096]).unwrap();
        drop(database(root.path()));
        assert!(!root.path().join("coracle.redb.new").exists());
        drop(database(root.path()));
    }

    #[test]
    fn a_newer_schema_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let newer = schema::VERSION + 1;
        database(root.path()).write(move |tx| tx.set_setting(schema::SETTING_VERSION, &newer.to_be_bytes())).unwrap();
        let refused = Database::open(&Tree::new(root.path()), Arc::new(SystemDisk), true).map(drop).unwrap_err();
        assert!(matches!(refused, Error::Schema { found, .. } if found == newer), "{refused}");
    }
}
