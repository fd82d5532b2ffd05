//! Stored rows for the users of the htpasswd file.
//!
//! The file has no history, so rows distinguish a user from an earlier one of the same name. A user who was removed from
//! the file loses everything. A new password ends sessions and tokens but keeps API keys. A password that changed while
//! the registry was stopped ends API keys too, because the line may belong to another person.

use std::collections::HashMap;

use parking_lot::{Mutex, MutexGuard};
use sha2::{Digest as _, Sha256};

use super::htpasswd::{FileUser, Lines};
use super::namespace::NamespaceClaim;
use super::{Accounts, Error, Origin};
use crate::content::rows::{FileUserRow, Rows, SETTING_FILE_OWNERS_UNKNOWN};
use crate::kit::file::FileStamp;
use crate::oci::is_component;

/// How far changes of the file have been processed.
#[derive(Debug, Default)]
pub(super) struct FileState(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The version that was read last.
    read: Option<FileStamp>,
    /// Whether the last read failed, which has been logged.
    is_unreadable: bool,
    /// Whether changes remain to be stored.
    is_due: bool,
}

/// The differences between the file and the rows.
#[derive(Debug, Default)]
struct Changes {
    /// Users without a row.
    new: Vec<(String, FileUserRow, NamespaceClaim)>,
    /// Users with a new password.
    changed: Vec<(String, FileUserRow)>,
    /// Users with a new password that was set while the registry was stopped.
    replaced: Vec<(String, FileUserRow)>,
    gone: Vec<String>,
    /// Whether the database is from a version that stored no rows for the file.
    is_first: bool,
}

impl Accounts {
    /// Reads the file at start.
    pub(super) fn read_file_first(&self) -> Result<(), Error> {
        let Some(file) = &self.htpasswd else { return Ok(()) };
        let mut state = self.file_state();
        let stamp = file.stamp();
        let lines = file.read().map_err(|why| Error::HtpasswdUnreadable { why })?;
        state.read = stamp;
        self.follow_and_log(&mut state, &lines, false, true);
        Ok(())
    }

    /// Whether [`Accounts::follow_file`] has work. Looks at the file's metadata only.
    pub(crate) fn is_file_due(&self) -> bool {
        let Some(file) = &self.htpasswd else { return false };
        let state = self.file_state();
        state.is_due || file.stamp() != state.read
    }

    /// Reads the file again if it has changed. If it is unreadable, the users stay, because a file is missing for a
    /// moment while it is replaced. Missing users are refused at once. Their rows are removed only if the file is
    /// unchanged at the next look, because it may be half written now.
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
                tracing::error!(error, "cannot read the htpasswd file; its users stay as they were");
            }
            Err(_) => {}
        }
    }

    /// Marks the database as current when no file is configured.
    pub(crate) fn has_no_file(&self) -> Result<(), Error> {
        if self.database.read(|tx| tx.setting(SETTING_FILE_OWNERS_UNKNOWN))?.is_none() {
            return Ok(());
        }
        self.change(|tx| Ok(tx.remove_setting(SETTING_FILE_OWNERS_UNKNOWN)?))
    }

    /// Schedules a look at the file after a user of the database was removed who may have hidden one of the file.
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
                tracing::error!(%error, "cannot store the users of the htpasswd file");
                true
            }
        };
    }

    /// Stores the differences and publishes the users. Returns whether nothing is left to do.
    fn follow(&self, lines: &Lines, is_settled: bool, was_stopped: bool) -> Result<bool, Error> {
        let mut rows: HashMap<String, FileUserRow> = self.database.read(Rows::file_users)?.into_iter().collect();
        let mut changes = self.changes(lines, &rows, was_stopped)?;
        let missing = std::mem::take(&mut changes.gone);
        let is_done = is_settled || missing.is_empty();
        if is_settled {
            changes.gone = missing;
        }
        let stored = self.store(changes);
        if let Ok(stored) = &stored {
            rows.extend(stored.iter().cloned());
        }
        let Some(file) = &self.htpasswd else { return Ok(true) };
        file.publish(
            lines
                .iter()
                .filter_map(|(name, hash)| Some((name.clone(), user(hash.as_deref()?, rows.get(name)))))
                .collect(),
        );
        stored.map(|_| is_done)
    }

    fn changes(&self, lines: &Lines, rows: &HashMap<String, FileUserRow>, was_stopped: bool) -> Result<Changes, Error> {
        let is_first = self.database.read(|tx| tx.setting(SETTING_FILE_OWNERS_UNKNOWN))?.is_some();
        let mut changes = Changes { is_first, ..Changes::default() };
        for (name, hash) in lines {
            let Some(hash) = hash.as_deref().map(hash_of) else { continue };
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

    /// Stores the changes and returns the new rows.
    fn store(&self, changes: Changes) -> Result<Vec<(String, FileUserRow)>, Error> {
        let Changes { new, changed, replaced, gone, is_first } = changes;
        if !is_first && new.is_empty() && changed.is_empty() && replaced.is_empty() && gone.is_empty() {
            return Ok(Vec::new());
        }
        for (user, _) in &replaced {
            tracing::warn!(
                user,
                "a password in the htpasswd file changed while the registry was stopped: the user's API keys and \
                 sessions have ended, because the line may belong to another person"
            );
        }
        for user in &gone {
            tracing::info!(user, "removed a user of the htpasswd file with all API keys and sessions");
        }
        let now = self.clock.now();
        self.change(move |tx| {
            let mut stored = Vec::new();
            for name in gone {
                tx.remove_file_user(&name)?;
                // A user of the database with this name stays.
                if tx.user(&name)?.is_none() {
                    tx.remove_user_data(&name)?;
                    tx.add_audit(now, &Origin::itself().row("user_delete", &name, &[]))?;
                }
            }
            for (name, row) in changed {
                tx.put_file_user(&name, &row)?;
                stored.push((name, row));
            }
            for (name, row) in replaced {
                if tx.user(&name)?.is_none() {
                    tx.remove_credentials(&name)?;
                }
                tx.put_file_user(&name, &row)?;
                stored.push((name, row));
            }
            for (name, row, claim) in new {
                // A user of the database hides this one.
                if tx.user(&name)?.is_some() {
                    continue;
                }
                if is_first && is_component(&name) && tx.owner_of(&name)?.is_none() {
                    tx.set_namespace(&name, Some(&name))?;
                } else if is_first {
                    claim.take(tx)?;
                } else {
                    claim.start_fresh(tx)?;
                }
                tx.put_file_user(&name, &row)?;
                stored.push((name, row));
            }
            if is_first {
                tx.remove_setting(SETTING_FILE_OWNERS_UNKNOWN)?;
            }
            Ok(stored)
        })
    }
}

fn hash_of(hash: &str) -> [u8; 32] {
    Sha256::digest(hash).into()
}

fn user(hash: &str, row: Option<&FileUserRow>) -> FileUser {
    let hash_is_known = |row: &&FileUserRow| row.hash == hash_of(hash);
    let row = row.filter(hash_is_known);
    FileUser {
        hash: hash.to_owned(),
        incarnation: row.map_or(0, |row| row.incarnation),
        inherits: row.is_some_and(|row| row.inherits),
    }
}
