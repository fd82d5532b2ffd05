//! [`Transfers`]: the imports and exports that run, and how far each is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Exported, Imported};

/// The imports and exports that run in a registry.
#[derive(Debug, Default)]
pub(crate) struct Transfers(Mutex<Vec<Arc<Ongoing>>>);

/// One import or export. The transfer writes it, and other threads read it.
#[derive(Debug)]
pub(crate) struct Ongoing {
    began: Instant,
    state: Mutex<TransferState>,
    /// Bytes that were read so far, which grows also during a large blob.
    read: AtomicU64,
}

/// How far a transfer is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TransferState {
    /// The file or the registry.
    pub(crate) source: String,
    pub(crate) seconds: u64,
    pub(crate) tags: u64,
    pub(crate) manifests: u64,
    /// Bytes of blobs that are new here.
    pub(crate) bytes: u64,
    /// Bytes that were read.
    pub(crate) read_bytes: u64,
    pub(crate) skipped: u64,
    /// The last image.
    pub(crate) current: String,
}

impl Ongoing {
    /// A transfer that no other thread watches.
    pub(crate) fn new(source: &str) -> Self {
        let state = TransferState { source: source.to_owned(), ..TransferState::default() };
        Self { began: Instant::now(), state: Mutex::new(state), read: AtomicU64::new(0) }
    }

    /// Notes that an import has come to an image.
    pub(super) fn note(&self, imported: &Imported, image: &impl ToString) {
        let mut state = self.state.lock();
        state.tags = imported.tags + imported.known_tags;
        state.manifests = imported.manifests + imported.known_manifests;
        state.bytes = imported.bytes;
        state.skipped = imported.skipped;
        state.current = image.to_string();
    }

    /// Notes that an export has come so far.
    pub(super) fn note_export(&self, exported: &Exported) {
        let mut state = self.state.lock();
        state.tags = exported.tags;
        state.manifests = exported.manifests;
        state.bytes = exported.bytes;
    }

    /// Changes the state.
    pub(crate) fn update(&self, change: impl FnOnce(&mut TransferState)) {
        change(&mut self.state.lock());
    }

    pub(super) fn note_read(&self, count: u64) {
        self.read.fetch_add(count, Ordering::Relaxed);
    }

    fn state(&self) -> TransferState {
        let state = self.state.lock().clone();
        let read_bytes = self.read.load(Ordering::Relaxed).max(state.read_bytes);
        TransferState { seconds: self.began.elapsed().as_secs(), read_bytes, ..state }
    }
}

impl Transfers {
    /// Adds a transfer, until the guard is dropped.
    pub(crate) fn start(&self, source: &str) -> Started<'_> {
        let ongoing = Arc::new(Ongoing::new(source));
        self.0.lock().push(Arc::clone(&ongoing));
        Started { transfers: self, ongoing }
    }

    /// The transfers that run, in the order in which they were started.
    pub(crate) fn running(&self) -> Vec<TransferState> {
        self.0.lock().iter().map(|ongoing| ongoing.state()).collect()
    }
}

/// A transfer that runs.
#[derive(Debug)]
pub(crate) struct Started<'a> {
    transfers: &'a Transfers,
    ongoing: Arc<Ongoing>,
}

impl std::ops::Deref for Started<'_> {
    type Target = Ongoing;

    fn deref(&self) -> &Ongoing {
        &self.ongoing
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        self.transfers.0.lock().retain(|ongoing| !Arc::ptr_eq(ongoing, &self.ongoing));
    }
}
