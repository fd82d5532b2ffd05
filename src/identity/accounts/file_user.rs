//! What is written down of the users of the htpasswd file, so that a name that comes back does not bring back what its
//! former owner had.
//!
//! The file says nothing of its past. What must hold: a user who was seen to be removed has nothing left; a new
//! password ends sessions and tokens, and leaves API keys; a password that changed while the registry was stopped ends
//! API keys as well, since the line may be another person's.

use std::collections::HashMap;

use parking_lot::{Mutex, MutexGuard};
use sha2::{Digest as _, Sha256};

use super::htpasswd::{FileUser, Lines};
use super::namespace::NamespaceClaim;
use super::{Accounts, Error, Origin};
use crate::content::rows::{FileUserRow, Rows, SETTING_FILE_OWNERS_UNKNOWN, WriteTx};
use crate::kit::file::FileStamp;
use crate::oci::is_component;

/// How far the file was followed.
#[derive(Debug, Default)]
pub(super) struct FileState(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The state that was read last.
    read: Option<FileStamp>,
    /// Whether the file could not be read, which was said already.
    is_unreadable: bool,
    /// Whether something is to be written down still.
    is_due: bool,
}

/// What has changed in the file.
#[derive(Debug, Default)]
struct Changes {
    /// Users without a row.
    new: Vec<(String, FileUserRow, NamespaceClaim)>,
    /// Another password.
    changed: Vec<(String, FileUserRow)>,
    /// Another password, and nobody knows since when.
    replaced: Vec<(String, FileUserRow)>,
    gone: Vec<String>,
    /// Whether there are no rows yet because an earlier program knew none.
    is_first: bool,
}

impl Accounts {
    /// Reads the file when the registry starts.
    pub(super) fn read_file_first(&self) -> Result<(), Error> {
        let Some(file) = &self.htpasswd else { return Ok(()) };
        let mut state = self.file_state();
        let stamp = file.stamp();
        let lines = file.read().map_err(|why| Error::HtpasswdUnreadable { why })?;
        state.read = stamp;
        self.follow_and_log(&mut state, &lines, false, true);
        Ok(())
    }

    /// Whether [`Accounts::follow_file`] has something to do. Costs one look at the file.
    pub(crate) fn is_file_due(&self) -> bool {
        let Some(file) = &self.htpasswd else { return false };
        let state = self.file_state();
        state.is_due || file.stamp() != state.read
    }

    /// Reads the file again if it has changed. If it cannot be read, the users stay as they were: a file is gone for
    /// a moment while it is being replaced. Users who are missing are kept out at once; what they had is removed when
    /// the file is still the same at the next look, since it may be half written now.
    pub(crate) fn follow_file(&self) {
        let Some(file) = &self.htpasswd else { return };
        let mut state = self.file_state();
        let stamp = file.stamp();
        let is_settled = stamp == state.read;
        if is_settled && !state.is_due {
            return;
        }
        match file.read() {
            Ok(lines) => {
                (state.read, state.is_unreadable) = (stamp, false);
                self.follow_and_log(&mut state, &lines, is_settled, false);
                if !is_settled {
                    tracing::info!(users = lines.len(), "the htpasswd file was read again");
                }
            }
            Err(error) if !state.is_unreadable => {
                state.is_unreadable = true;
                tracing::error!(error, "the htpasswd file cannot be read, its users stay as they were");
            }
            Err(_) => {}
        }
    }

    /// A registry without such a file: what an earlier program knew of one is of no use any more.
    pub(crate) fn has_no_file(&self) -> Result<(), Error> {
        if self.database.read(|tx| tx.setting(SETTING_FILE_OWNERS_UNKNOWN))?.is_none() {
            return Ok(());
        }
        self.change(|tx| Ok(tx.remove_setting(SETTING_FILE_OWNERS_UNKNOWN)?))
    }

    /// To be called when a user of the own table is gone who may have stood before one of the file.
    pub(super) fn file_is_due(&self, name: &str) {
        if self.htpasswd.as_ref().is_some_and(|file| file.has(name)) {
            self.file_state().is_due = true;
        }
    }

    fn file_state(&self) -> MutexGuard<'_, State> {
        self.file.0.lock()
    }

    fn follow_and_log(&self, state: &mut State, lines: &Lines, is_settled: bool, was_stopped: bool) {
        state.is_due = match self.follow(lines, is_settled, was_stopped) {
            Ok(is_done) => !is_done,
            Err(error) => {
                tracing::error!(%error, "the users of the htpasswd file cannot be written down");
                true
            }
        };
    }

    /// Writes down what has changed, and makes these the users. Says whether nothing is left to do.
    fn follow(&self, lines: &Lines, is_settled: bool, was_stopped: bool) -> Result<bool, Error> {
        let mut rows: HashMap<String, FileUserRow> = self.database.read(Rows::file_users)?.into_iter().collect();
        let mut changes = self.changes(lines, &rows, was_stopped)?;
        let missing = std::mem::take(&mut changes.gone);
        let is_done = is_settled || missing.is_empty();
        if is_settled {
            changes.gone = missing;
        }
        let written = self.write_down(changes);
        if let Ok(written) = &written {
            rows.extend(written.iter().cloned());
        }
        let Some(file) = &self.htpasswd else { return Ok(true) };
        file.publish(
            lines
                .iter()
                .filter_map(|(name, hash)| Some((name.clone(), user(hash.as_deref()?, rows.get(name)))))
                .collect(),
        );
        written.map(|_| is_done)
    }

    fn changes(&self, lines: &Lines, rows: &HashMap<String, FileUserRow>, was_stopped: bool) -> Result<Changes, Error> {
        let is_first = self.database.read(|tx| tx.setting(SETTING_FILE_OWNERS_UNKNOWN))?.is_some();
        let mut changes = Changes { is_first, ..Changes::default() };
        for (name, hash) in lines {
            let Some(hash) = hash.as_deref().map(mark_of) else { continue };
            let incarnation = rand::random::<u64>().max(1);
            match rows.get(name) {
                None => {
                    let row = FileUserRow { incarnation, hash, inherits: is_first };
                    changes.new.push((name.clone(), row, self.namespace_claim(name)));
                }
                Some(row) if row.hash == hash => {}
                Some(_) if was_stopped => {
                    let row = FileUserRow { incarnation, hash, inherits: false };
                    changes.replaced.push((name.clone(), row));
                }
                Some(row) => changes.changed.push((name.clone(), FileUserRow { hash, ..row.clone() })),
            }
        }
        changes.gone = rows.keys().filter(|name| !lines.contains_key(*name)).cloned().collect();
        Ok(changes)
    }

    /// Gives back the rows that are there now.
    fn write_down(&self, changes: Changes) -> Result<Vec<(String, FileUserRow)>, Error> {
        let Changes { new, changed, replaced, gone, is_first } = changes;
        if !is_first && new.is_empty() && changed.is_empty() && replaced.is_empty() && gone.is_empty() {
            return Ok(Vec::new());
        }
        for (user, _) in &replaced {
            tracing::warn!(
                user,
                "the password of a user in the htpasswd file changed while the registry was stopped: the user's API \
                 keys and sessions have ended, since the line may be another person's now"
            );
        }
        for user in &gone {
            tracing::info!(user, "a user was removed from the htpasswd file, with all API keys and sessions");
        }
        let now = self.clock.now();
        self.change(move |tx| {
            let mut written = Vec::new();
            for name in gone {
                tx.remove_file_user(&name)?;
                // One of the own table of this name stood before it, and stays.
                if tx.user(&name)?.is_none() {
                    tx.remove_user_data(&name)?;
                    tx.add_audit(now, &Origin::itself().row("user_delete", &name, &[]))?;
                }
            }
            for (name, row) in changed {
                tx.put_file_user(&name, &row)?;
                written.push((name, row));
            }
            for (name, row) in replaced {
                if tx.user(&name)?.is_none() {
                    tx.remove_credentials(&name)?;
                }
                tx.put_file_user(&name, &row)?;
                written.push((name, row));
            }
            for (name, row, claim) in new {
                // Nothing is written down of one who is not seen.
                if tx.user(&name)?.is_some() {
                    continue;
                }
                begin(tx, &name, claim, is_first)?;
                tx.put_file_user(&name, &row)?;
                written.push((name, row));
            }
            if is_first {
                tx.remove_setting(SETTING_FILE_OWNERS_UNKNOWN)?;
            }
            Ok(written)
        })
    }
}

/// A user who was there under an earlier program keeps what it gave; another one begins with nothing.
fn begin(tx: &mut WriteTx, name: &str, claim: NamespaceClaim, is_first: bool) -> Result<(), Error> {
    if is_first && is_component(name) && tx.owner_of(name)?.is_none() {
        return Ok(tx.set_namespace(name, Some(name))?);
    }
    if !is_first {
        tx.remove_user_data(name)?;
    }
    claim.take(tx)
}

fn mark_of(hash: &str) -> [u8; 32] {
    Sha256::digest(hash).into()
}

fn user(hash: &str, row: Option<&FileUserRow>) -> FileUser {
    let hash_is_known = |row: &&FileUserRow| row.hash == mark_of(hash);
    let row = row.filter(hash_is_known);
    FileUser {
        hash: hash.to_owned(),
        incarnation: row.map_or(0, |row| row.incarnation),
        inherits: row.is_some_and(|row| row.inherits),
    }
}
