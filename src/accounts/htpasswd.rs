//! [`Htpasswd`]: users of a file that others write, with bcrypt hashes, as zot and Apache have it.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use std::{fmt, fs};

/// The file is looked at no more often than this. Looking, unlike being told, also notices a file
/// that was renamed into place and a symlink that was turned, as Kubernetes does it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The users of a file as it was when it was last read. Their hashes do not print.
pub(crate) struct Htpasswd {
    path: PathBuf,
    users: RwLock<HashMap<String, String>>,
    seen: Mutex<Seen>,
    /// Raised whenever the file was read again.
    generation: AtomicU64,
}

struct Seen {
    looked: Instant,
    mark: Option<Mark>,
}

/// What tells one state of a file from another: device, inode, length, and time of change.
type Mark = (u64, u64, u64, i64, i64);

impl fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Htpasswd").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Htpasswd {
    /// Reads the file, which must be readable now.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let mark = mark(path);
        let users = read(path)?;
        let seen = Seen { looked: Instant::now(), mark };
        Ok(Self {
            path: path.to_owned(),
            users: RwLock::new(users),
            seen: Mutex::new(seen),
            generation: AtomicU64::new(0),
        })
    }

    /// A number that changes with the file.
    pub(super) fn generation(&self) -> u64 {
        self.look();
        self.generation.load(Ordering::Acquire)
    }

    /// The hash of a user's password.
    pub(super) fn hash_of(&self, name: &str) -> Option<String> {
        self.users.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The highest cost of its hashes.
    pub(super) fn highest_cost(&self) -> Option<u32> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        users.values().filter_map(|hash| cost_of(hash)).max()
    }

    /// Reads the file again if it has changed. If it cannot be read, the users stay as they were:
    /// a file is gone for a moment while it is being replaced.
    fn look(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.looked.elapsed() < LOOK_INTERVAL {
            return;
        }
        seen.looked = Instant::now();
        let mark = mark(&self.path);
        if mark == seen.mark {
            return;
        }
        match read(&self.path) {
            Ok(users) => {
                tracing::info!(path = %self.path.display(), users = users.len(), "the htpasswd file was read again");
                *self.users.write().unwrap_or_else(PoisonError::into_inner) = users;
                seen.mark = mark;
                self.generation.fetch_add(1, Ordering::Release);
            }
            Err(error) => tracing::error!(error, "the htpasswd file cannot be read, its users stay as they were"),
        }
    }
}

/// The cost of a bcrypt hash: each step doubles the work.
pub(super) fn cost_of(hash: &str) -> Option<u32> {
    hash.get(4..6)?.parse().ok()
}

fn mark(path: &Path) -> Option<Mark> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.len(), metadata.ctime(), metadata.ctime_nsec()))
}

fn read(path: &Path) -> Result<HashMap<String, String>, String> {
    let text =
        fs::read_to_string(path).map_err(|error| format!("http.auth.htpasswd.path: {}: {error}", path.display()))?;
    let mut users = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once(':') {
            Some((name, hash))
                if !name.is_empty() && ["$2a$", "$2b$", "$2y$"].iter().any(|kind| hash.starts_with(kind)) =>
            {
                users.insert(name.to_owned(), hash.to_owned());
            }
            _ => tracing::error!(
                path = %path.display(),
                line = number + 1,
                "not a user with a bcrypt hash, and so left out: make one with htpasswd -B"
            ),
        }
    }
    Ok(users)
}
