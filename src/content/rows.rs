//! The rows: all data except the bytes of blobs, in one redb database.
//!
//! Only this module names redb. It stores and finds rows, and makes no decisions. The closure of a [`Database::write`]
//! is one change: it is durable or did not happen. A closure that fails has changed nothing.

mod age;
mod audit;
mod backend;
mod blob;
mod browse;
mod codec;
mod copy;
mod counting;
mod credential;
mod durability;
mod error;
mod event;
mod examine;
mod facts;
mod history;
#[cfg(test)]
mod inspect;
mod journal;
mod manifest;
mod mirrored;
mod order;
mod permission;
mod preference;
mod schema;
mod size;
mod store;
mod tag;
mod totals;
mod transaction;
mod unreferenced;
mod upgrade;
mod usage;
mod user;
mod verify;
mod version;
mod wal;

use std::fmt;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

pub(crate) use age::{RestingUpload, SteadyClockRow};
pub(crate) use audit::{AuditEvent, AuditRow, Author};
pub(crate) use blob::{DamageRow, FileRow};
pub(crate) use copy::{Extent, Pause, ReadOnlyDatabase, install};
pub(crate) use counting::{CleanupPosition, UncountedFacts};
pub(crate) use credential::{KeyRow, RefreshRow, SecretHash, SessionRow, SigningRow, Use};
pub(crate) use error::Error;
pub(crate) use event::{EventKind, EventOrigin, EventRow, RefusedEvent};
pub(crate) use examine::{Condition, examine, set_aside};
pub(crate) use facts::{BuildStep, Details, Facts, Kind, Platform};
pub(crate) use history::{Span, TagState};
#[cfg(test)]
pub(crate) use inspect::Dump;
pub(crate) use journal::{JournaledManifest, ReplayedJournal};
pub(crate) use manifest::{Contents, ManifestRow};
pub(crate) use mirrored::MirroredRow;
pub(crate) use order::{Order, Pulls};
pub(crate) use permission::{Grantee, GroupRow, Role, SettingsRow};
pub(crate) use preference::Preference;
#[cfg(not(feature = "tls"))]
pub(crate) use schema::SETTING_TOKEN_KEY;
pub(crate) use schema::{
    SETTING_CSRF_KEY, SETTING_FILE_OWNERS_UNKNOWN, SETTING_LAST_BACKUP, SETTING_OPTIONAL_LISTED,
    SETTING_OWNERS_UNKNOWN, SETTING_PROVIDER_KEY, SETTING_PULLS_KNOWN_SINCE, SETTING_STAMP_KEY, SETTING_UPLOAD_KEY,
};
pub(crate) use tag::{TagAttributes, TagRow};
pub(crate) use totals::{RepositoryRow, Totals};
pub(crate) use transaction::{Rows, WriteTx};
pub(crate) use unreferenced::{Unreferenced, UnreferencedRow};
pub(crate) use user::{AccountRole, FederatedUserRow, FileUserRow, NamespaceConflict, UserRow};
pub(crate) use verify::Findings;
#[cfg(test)]
pub(crate) use version::Changes;
pub(crate) use version::Version;

use crate::content::blobs::{Disk, Tree};
use crate::kit::clock::Clock;
use backend::DatabaseFile;
use copy::NewDatabase;
use durability::DurabilityPolicy;
use event::{NewEvents, Outbox};
use journal::{Journal, Records};
use store::Store;
use wal::{Operations, Wal};

/// The maximum number of changes in one transaction, so that none of them waits long.
const GROUP_MAX: usize = 256;

/// The database of one data directory.
pub(crate) struct Database {
    store: Store,
    durability: DurabilityPolicy,
    /// The changes that wait for a transaction.
    queue: Mutex<Vec<Box<dyn Pending>>>,
    /// Held by the thread that writes the next transaction, with the changes of all waiting threads.
    leader: Mutex<()>,
    journal: OnceLock<Journal>,
    /// The outbox of events, if there are sinks.
    outbox: OnceLock<Outbox>,
}

/// A secret key for an HMAC. Its `Debug` output does not contain the key.
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
    /// Opens the database of a data directory. Makes it if it does not exist. `sync` is whether every
    /// [`Database::write`] is durable when it returns. If not, changes become durable at an orderly stop, or earlier
    /// with [`Database::with_delayed_durability`].
    pub(crate) fn open(tree: &Tree, disk: Arc<dyn Disk>, sync: bool) -> Result<Self, Error> {
        let path = tree.database();
        // If two processes start in an empty directory, the second one must not replace the file that the first one is
        // making. It waits here, and then finds the database in use. A file system without locks gives no such
        // protection.
        let directory = File::open(tree.root()).map_err(Error::at(tree.root()))?;
        let _ = directory.lock();
        if !path.exists() {
            if tree.journal().exists() {
                return Err(Error::DatabaseMissing { path });
            }
            NewDatabase::create(tree, &disk)?.change(schema::create)?;
            install(tree, &*disk)?;
        }
        let open = |disk: Arc<dyn Disk>| {
            let wal = Wal::new(tree.wal(), Arc::clone(&disk));
            Ok::<_, Error>(Self::new(Store::open(DatabaseFile::open(disk, &path)?, Some(wal))?, sync))
        };
        let database = open(Arc::clone(&disk))?;
        if database.read(schema::version)? == schema::VERSION {
            if !database.read(schema::has_all_tables)? {
                database.write(schema::create_tables)?;
                // New tables are not in the write-ahead log.
                database.flush()?;
            }
            return Ok(database);
        }
        upgrade::upgrade(&database, tree, &disk, Clock::default().now())?;
        drop(database);
        open(disk)
    }

    fn new(store: Store, sync: bool) -> Self {
        Self {
            store,
            durability: DurabilityPolicy::new(sync),
            queue: Mutex::default(),
            leader: Mutex::default(),
            journal: OnceLock::new(),
            outbox: OnceLock::new(),
        }
    }

    /// The number of bytes of the file that are in use.
    #[cfg(feature = "filling")]
    pub(crate) fn allocated_bytes(&self) -> Result<u64, Error> {
        let transaction = self.store.begin_write()?;
        let stats = transaction.stats()?;
        transaction.abort()?;
        Ok(stats.allocated_pages() * stats.page_size() as u64)
    }

    /// Reads rows. Waits for a writer only while it reopens the database after a failure.
    pub(crate) fn read<T, E: From<Error>>(&self, read: impl FnOnce(&Rows) -> Result<T, E>) -> Result<T, E> {
        read(&self.begin_read()?)
    }

    fn begin_read(&self) -> Result<Rows, Error> {
        // A thread that is writing notices the failure itself.
        if self.store.needs_reopening()
            && let Some(_leader) = self.leader.try_lock()
        {
            self.store.reopen();
        }
        Ok(Rows::new(self.store.begin_read()?))
    }

    /// Makes a change, and returns when it is durable. Blocks.
    ///
    /// One waiting thread becomes the leader. It runs the closures of all waiting threads in one transaction, with one
    /// sync. A closure must not write before it is certain to succeed, because the transaction has other changes too.
    pub(crate) fn write<T, E>(&self, change: impl FnOnce(&mut WriteTx) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let outcome = Arc::new(Mutex::new(None));
        let pending = Change { closure: Some(Box::new(change)), result: None, outcome: Arc::clone(&outcome) };
        self.write_pending(Box::new(pending), &|| outcome.lock().is_some());
        outcome.lock().take().expect("a delivered change has an outcome")
    }

    /// Puts a change into the queue, and returns when it is delivered.
    fn write_pending(&self, pending: Box<dyn Pending>, is_delivered: &dyn Fn() -> bool) {
        self.queue.lock().push(pending);
        loop {
            let leader = self.leader.lock();
            if is_delivered() {
                return;
            }
            self.write_group();
            drop(leader);
        }
    }

    /// Makes a change and undoes it, to see its result. Other writers wait meanwhile.
    pub(crate) fn dry_run<T, E: From<Error>>(&self, change: impl FnOnce(&mut WriteTx) -> Result<T, E>) -> Result<T, E> {
        let _leader = self.leader.lock();
        let mut tx = WriteTx::new(self.store.begin_write()?);
        let result = change(&mut tx);
        tx.abort()?;
        result
    }

    /// The version of everything that is read from now on. `None` while a change is running.
    pub(crate) fn version(&self) -> Option<Version> {
        self.store.changes().version()
    }

    /// Whether the database can be read but not written at the moment.
    pub(crate) fn is_read_only(&self) -> bool {
        self.store.is_read_only()
    }

    /// Returns a secret key of this data directory. Generates it at the first call.
    pub(crate) fn hmac_key(&self, setting: &'static str) -> Result<HmacKey, Error> {
        let known = match self.read(|rows| rows.setting(setting))? {
            Some(known) => known,
            None => self.write(move |tx| {
                let key: [u8; 32] = rand::random();
                tx.set_setting(setting, &key)?;
                Ok::<_, Error>(key.to_vec())
            })?,
        };
        known.try_into().map(HmacKey).map_err(|_| Error::corrupt(schema::SETTINGS, setting))
    }

    /// Writes the waiting changes in one transaction, and delivers the result to each thread.
    fn write_group(&self) {
        let mut group = {
            let mut queue = self.queue.lock();
            let count = queue.len().min(GROUP_MAX);
            queue.drain(..count).collect::<Vec<_>>()
        };
        // Hold this until the failure is handled. Until then readers may see parts of the failed commit.
        let _changing = self.store.changes().begin();
        // redb may panic, and the waiting threads must get a result.
        let committed = catch_unwind(AssertUnwindSafe(|| self.try_write_group(&mut group)));
        let committed = committed.unwrap_or(Err(Error::Panicked)).map_err(|error| self.store.failed(error));
        for pending in group {
            pending.deliver(committed.clone());
        }
    }

    fn try_write_group(&self, group: &mut [Box<dyn Pending>]) -> Result<(), Error> {
        let transaction = self.store.begin_write()?;
        // Holding the read transaction keeps redb from making a second commit, in memory, after each durable one, to
        // free the replaced pages. The next commit frees them. Otherwise a push costs up to a seventh more, and each
        // page that a reader fetches from the file costs a look into 131 empty lists.
        let _before = self.store.begin_read()?;
        let mut tx = WriteTx::new(transaction);
        tx.records = self.journal.get().map(|_| Records::new());
        tx.operations = self.log().map(|_| Operations::default());
        tx.events = self.outbox.get().map(|_| NewEvents::default());
        let mut has_events = false;
        for pending in &mut *group {
            let before = std::mem::replace(&mut tx.changed, false);
            let failed = !pending.run(&mut tx);
            if failed && tx.changed {
                tx.abort()?;
                return Err(Error::PartialChange);
            }
            match self.outbox.get() {
                Some(outbox) if !failed => has_events |= tx.write_events(outbox)?,
                _ => tx.forget_events(),
            }
            tx.changed |= before;
        }
        if !tx.changed {
            return tx.abort();
        }
        let records = tx.take_records()?;
        self.commit(tx)?;
        if let (Some(journal), Some((number, records))) = (self.journal.get(), records) {
            journal.append(number, &records);
        }
        if let Some(outbox) = self.outbox.get().filter(|_| has_events) {
            outbox.notify();
        }
        Ok(())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The next start would do it. What fails here has no consequence.
        if self.log().is_some_and(Wal::is_pending) {
            let _ = self.flush();
        }
        if let Some(wal) = self.log() {
            wal.clear();
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}

/// A change in the queue, with a result of any type.
trait Pending: Send {
    /// Makes the change. Returns false if it failed.
    fn run(&mut self, tx: &mut WriteTx) -> bool;
    /// Delivers the result to the waiting thread, after the transaction.
    fn deliver(self: Box<Self>, committed: Result<(), Arc<Error>>);
}

struct Change<T, E> {
    closure: Option<Closure<T, E>>,
    result: Option<Result<T, E>>,
    outcome: Arc<Mutex<Option<Result<T, E>>>>,
}

type Closure<T, E> = Box<dyn FnOnce(&mut WriteTx) -> Result<T, E> + Send>;

impl<T, E> Pending for Change<T, E>
where
    T: Send,
    E: From<Error> + Send,
{
    fn run(&mut self, tx: &mut WriteTx) -> bool {
        let change = self.closure.take().expect("a change is run once");
        // A panic must affect neither the leader nor the other changes.
        let result = catch_unwind(AssertUnwindSafe(|| change(tx))).unwrap_or_else(|_| Err(Error::Panicked.into()));
        let succeeded = result.is_ok();
        self.result = Some(result);
        succeeded
    }

    fn deliver(self: Box<Self>, committed: Result<(), Arc<Error>>) {
        let result = match committed {
            Ok(()) => self.result.expect("a committed group has run all its changes"),
            // Even a refusal is uncertain: it may depend on another change of the group.
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
    fn a_second_opener_is_told_that_the_database_is_in_use() {
        let root = tempfile::tempdir().unwrap();
        let _first = database(root.path());
        let second = Database::open(&Tree::new(root.path()), Arc::new(SystemDisk), true);
        assert!(matches!(second, Err(Error::InUse { .. })));
    }

    #[test]
    fn an_interrupted_creation_starts_over() {
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
