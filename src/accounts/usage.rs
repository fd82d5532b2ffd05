//! When keys and sessions were last used: kept in memory, and written in batches, so that no
//! request waits for a disk.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{Accounts, Error};
use crate::clock::Timestamp;
use crate::meta::{AccountRead as _, SecretHash, Use};

/// More uses than this are not kept until the next batch; the newest ones then go unnoticed.
const PENDING_MAX: usize = 50_000;

/// Uses that are not written yet.
#[derive(Debug, Default)]
pub(super) struct Usage {
    keys: Mutex<HashMap<SecretHash, Use>>,
    sessions: Mutex<HashMap<SecretHash, Use>>,
}

fn record(
    pending: &Mutex<HashMap<SecretHash, Use>>,
    hash: &SecretHash,
    at: Timestamp,
    address: Option<&str>,
    agent: &str,
) {
    let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
    let full = pending.len() >= PENDING_MAX;
    match pending.get_mut(hash) {
        Some(known) => {
            known.at = at;
            if known.address.as_deref() != address {
                known.address = address.map(str::to_owned);
            }
            if known.agent != agent {
                agent.clone_into(&mut known.agent);
            }
        }
        None if full => {}
        None => {
            let used = Use { at, address: address.map(str::to_owned), agent: agent.to_owned() };
            pending.insert(*hash, used);
        }
    }
}

fn latest(pending: &Mutex<HashMap<SecretHash, Use>>, hash: &SecretHash) -> Option<Use> {
    pending.lock().unwrap_or_else(PoisonError::into_inner).get(hash).cloned()
}

fn take(pending: &Mutex<HashMap<SecretHash, Use>>) -> HashMap<SecretHash, Use> {
    std::mem::take(&mut pending.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Accounts {
    /// A key was used.
    pub(crate) fn key_used(&self, hash: &SecretHash, address: Option<&str>, agent: &str) {
        record(&self.usage.keys, hash, self.clock.now(), address, agent);
    }

    /// A session was used.
    pub(crate) fn session_used(&self, hash: &SecretHash, address: Option<&str>, agent: &str) {
        record(&self.usage.sessions, hash, self.clock.now(), address, agent);
    }

    /// The last use of a key, if it is not written yet.
    pub(super) fn latest_key_use(&self, hash: &SecretHash) -> Option<Use> {
        latest(&self.usage.keys, hash)
    }

    /// The last use of a session, if it is not written yet.
    pub(super) fn latest_session_use(&self, hash: &SecretHash) -> Option<Use> {
        latest(&self.usage.sessions, hash)
    }

    /// Writes the uses down. Changes nothing that a look-up is remembered for.
    pub(super) fn flush_usage(&self) -> Result<(), Error> {
        let (keys, sessions) = (take(&self.usage.keys), take(&self.usage.sessions));
        if keys.is_empty() && sessions.is_empty() {
            return Ok(());
        }
        self.meta.write(move |tx| {
            for (hash, used) in keys {
                if let Some(mut row) = tx.key(&hash)? {
                    row.last_used = Some(used);
                    tx.put_key(&hash, &row)?;
                }
            }
            for (hash, used) in sessions {
                if let Some(mut row) = tx.session(&hash)? {
                    row.last_used = used;
                    tx.put_session(&hash, &row)?;
                }
            }
            Ok(())
        })
    }
}
