//! The last uses of keys and sessions. They are buffered and written in batches, so that no request waits for the disk.

use std::hash::{BuildHasher as _, RandomState};
use std::mem::take;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{Accounts, Error};
use crate::content::rows::{SecretHash, Use};
use crate::kit::bounded_map::BoundedMap;
use crate::kit::clock::Timestamp;

/// The largest number of buffered uses. Further keys and sessions are skipped until the next batch.
const PENDING_MAX: usize = 50_000;

/// The number of uses of the current second that are recognized without a lock.
const RECENT: usize = 256;

/// The last use of each key or session since the last batch.
type Pending = Mutex<BoundedMap<SecretHash, Use, PENDING_MAX>>;

/// Uses that are not written yet.
#[derive(Debug)]
pub(super) struct Usage {
    keys: Pending,
    sessions: Pending,
    /// Hashes of recent uses: many requests of one second from one client are one use.
    recent: [AtomicU64; RECENT],
    hasher: RandomState,
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            keys: Mutex::default(),
            sessions: Mutex::default(),
            recent: [const { AtomicU64::new(0) }; RECENT],
            hasher: RandomState::new(),
        }
    }
}

impl Usage {
    /// Whether this use is the first of its kind in this second.
    fn is_new(&self, hash: &SecretHash, at: Timestamp, address: Option<IpAddr>, agent: &str) -> bool {
        let use_hash = self.hasher.hash_one((hash, at.micros() / 1_000_000, address, agent));
        let slot = &self.recent[usize::from(hash[0]) % RECENT];
        let is_new = slot.load(Ordering::Relaxed) != use_hash;
        if is_new {
            slot.store(use_hash, Ordering::Relaxed);
        }
        is_new
    }

    /// Records a use of a key or a session, if it is the first of its kind in this second.
    fn record(&self, pending: &Pending, hash: &SecretHash, at: Timestamp, address: Option<IpAddr>, agent: &str) {
        if !self.is_new(hash, at, address, agent) {
            return;
        }
        let address = address.map(|address| address.to_string());
        let mut pending = pending.lock();
        match pending.get_mut(hash) {
            Some(known) => {
                known.at = at;
                known.address = address;
                if known.agent != agent {
                    agent.clone_into(&mut known.agent);
                }
            }
            None => {
                let _has_room = pending.try_insert(*hash, Use { at, address, agent: agent.to_owned() }, |_| true);
            }
        }
    }
}

fn latest(pending: &Pending, hash: &SecretHash) -> Option<Use> {
    pending.lock().get(hash).cloned()
}

impl Accounts {
    /// Records a use of a key.
    pub(crate) fn key_used(&self, hash: &SecretHash, address: Option<IpAddr>, agent: &str) {
        self.usage.record(&self.usage.keys, hash, self.clock.now(), address, agent);
    }

    /// Records a use of a session.
    pub(crate) fn session_used(&self, hash: &SecretHash, address: Option<IpAddr>, agent: &str) {
        self.usage.record(&self.usage.sessions, hash, self.clock.now(), address, agent);
    }

    /// The last use of a key, if it is not written yet.
    pub(super) fn latest_key_use(&self, hash: &SecretHash) -> Option<Use> {
        latest(&self.usage.keys, hash)
    }

    /// The last use of a session, if it is not written yet.
    pub(super) fn latest_session_use(&self, hash: &SecretHash) -> Option<Use> {
        latest(&self.usage.sessions, hash)
    }

    /// Writes the buffered uses. Cached sessions hold their last use, so a new generation starts if there were any.
    pub(super) fn flush_usage(&self) -> Result<(), Error> {
        let (mut keys, mut sessions) = (take(&mut *self.usage.keys.lock()), take(&mut *self.usage.sessions.lock()));
        if keys.is_empty() && sessions.is_empty() {
            return Ok(());
        }
        let of_sessions = !sessions.is_empty();
        self.database.write(move |tx| {
            for (hash, used) in keys.drain() {
                if let Some(mut row) = tx.key(&hash)? {
                    row.last_used = Some(used);
                    tx.put_key(&hash, &row)?;
                }
            }
            for (hash, used) in sessions.drain() {
                if let Some(mut row) = tx.session(&hash)? {
                    row.last_used = used;
                    tx.put_session(&hash, &row)?;
                }
            }
            Ok::<_, Error>(())
        })?;
        if of_sessions {
            self.generation.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_recorded_once_a_second_unless_something_about_it_is_new() {
        let usage = Usage::default();
        let at = |micros: u64| Timestamp::from_micros(5_000_000 + micros);
        let (here, there) = (Some(IpAddr::from([192, 0, 2, 1])), Some(IpAddr::from([192, 0, 2, 2])));
        for (hash, at, address, agent, new) in [
            ([1; 32], at(0), here, "crane", true),
            ([1; 32], at(999_999), here, "crane", false),
            ([1; 32], at(1_000_000), here, "crane", true),
            ([1; 32], at(1_000_000), there, "crane", true),
            ([1; 32], at(1_000_000), there, "skopeo", true),
            ([1; 32], at(1_000_001), there, "skopeo", false),
            ([2; 32], at(1_000_001), there, "skopeo", true),
        ] {
            assert_eq!(usage.is_new(&hash, at, address, agent), new, "{at:?} {address:?} {agent}");
        }
    }
}
