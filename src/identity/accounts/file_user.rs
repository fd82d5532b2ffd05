//! Stored rows for the users of the htpasswd file.
//!
//! The file has no history, so rows distinguish a user from an earlier one of the same name. A tool that writes the file may
//! leave it empty for a moment. So a user whose line is missing is refused at once, and loses everything only after
//! [`GONE_KEPT`]. A new password ends sessions and tokens but keeps API keys. A password that changed while the line was
//! missing or the registry was stopped ends API keys too, because the line may belong to another person.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use sha2::{Digest as _, Sha256};

use super::htpasswd::{FileUser, Lines};
use super::namespace::NamespaceClaim;
use super::{Accounts, Error, Origin};
use crate::content::rows::{FileUserRow, Rows, SETTING_FILE_OWNERS_UNKNOWN};
use crate::kit::clock::SteadyTime;
use crate::kit::file::FileStamp;
use crate::oci::is_component;

/// How long a user keeps everything after the line has left the file.
const GONE_KEPT: Duration = Duration::from_hours(24);

/// How far changes of the file have been processed.
#[derive(Debug, Default)]
pub(super) struct FileState(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The version that was read last.
    read: Option<FileStamp>,
    /// Whether the last read failed, which has been logged.
    is_unreadable: bool,
    /// Whether the last attempt to store changes failed, which has been logged.
    is_failing: bool,
    /// Whether changes remain to be stored.
    is_due: bool,
    /// When the first user whose line is missing loses everything.
    remove_at: Option<SteadyTime>,
}

/// A user without a row.
type NewFileUser = (String, FileUserRow, NamespaceClaim);

/// The differences between the file and the rows.
#[derive(Debug, Default)]
struct Changes {
    new: Vec<NewFileUser>,
    /// Users with a new password.
    changed: Vec<(String, FileUserRow)>,
    /// Users with a new password that was set while the registry was stopped or the line was missing.
    replaced: Vec<(String, FileUserRow)>,
    /// Users whose line came back with the same password.
    returned: Vec<(String, FileUserRow)>,
    /// Users whose line is missing since now.
    gone: Vec<(String, FileUserRow)>,
    /// Users whose line has been missing for [`GONE_KEPT`].
    removed: Vec<String>,
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
        // The steady clock is unknown here. `follow_file` stores which users are missing.
        self.follow_and_log(&mut state, &lines, None);
        Ok(())
    }

    /// Whether [`Accounts::follow_file`] has work.
    #[cfg(test)]
    fn is_file_due(&self, now: SteadyTime) -> bool {
        self.htpasswd.as_ref().is_some_and(|file| self.file_state().is_due(file.stamp(), now))
    }

    /// Reads the file again if it has changed. If it is unreadable, the users stay, because a file is missing for a
    /// moment while it is replaced.
    pub(crate) fn follow_file(&self, now: SteadyTime) {
        let Some(file) = &self.htpasswd else { return };
        // Without the state, which others need: a network file system may hang.
        let stamp = file.stamp();
        if !self.file_state().is_due(stamp, now) {
            return;
        }
        let lines = file.read();
        let mut state = self.file_state();
        let is_other = stamp != state.read;
        match lines {
            Ok(lines) => {
                (state.read, state.is_unreadable) = (stamp, false);
                self.follow_and_log(&mut state, &lines, Some(now));
                if is_other {
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

    /// Marks the database as current when no file is configured, and all users of an earlier file as missing. They lose
    /// everything only when there is a file again that does not have them.
    pub(crate) fn has_no_file(&self, now: SteadyTime) -> Result<(), Error> {
        let (setting, mut users) =
            self.database.read(|tx| Ok::<_, Error>((tx.setting(SETTING_FILE_OWNERS_UNKNOWN)?, tx.file_users()?)))?;
        users.retain(|(_, row)| row.gone_since.is_none());
        if setting.is_none() && users.is_empty() {
            return Ok(());
        }
        self.change(move |tx| {
            for (name, row) in users {
                tx.put_file_user(&name, &FileUserRow { gone_since: Some(now), ..row })?;
            }
            Ok(tx.remove_setting(SETTING_FILE_OWNERS_UNKNOWN)?)
        })
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

    fn follow_and_log(&self, state: &mut State, lines: &Lines, now: Option<SteadyTime>) {
        match self.follow(lines, now) {
            Ok(remove_at) => {
                (state.is_due, state.is_failing, state.remove_at) = (now.is_none(), false, remove_at);
            }
            Err(error) => {
                state.is_due = true;
                // It is tried again several times a second.
                if std::mem::replace(&mut state.is_failing, true) {
                    return;
                }
                tracing::error!(%error, "cannot store the users of the htpasswd file");
            }
        }
    }

    /// Stores the differences and publishes the users. At start there is no time. Returns when the first missing user
    /// loses everything.
    fn follow(&self, lines: &Lines, now: Option<SteadyTime>) -> Result<Option<SteadyTime>, Error> {
        let mut rows: HashMap<String, FileUserRow> = self.database.read(Rows::file_users)?.into_iter().collect();
        let mut changes = self.changes(lines, &rows, now)?;
        let new = std::mem::take(&mut changes.new);
        let changes = Arc::new(changes);
        let stored = self.store(&changes, new);
        if let Ok(stored) = &stored {
            rows.extend(stored.iter().cloned());
            rows.retain(|name, _| !changes.removed.contains(name));
        }
        let missing = rows.iter().filter(|(name, _)| !lines.contains_key(*name));
        let first_gone = missing.filter_map(|(_, row)| row.gone_since).min();
        let Some(file) = &self.htpasswd else { return Ok(None) };
        file.publish(
            lines
                .iter()
                .filter_map(|(name, hash)| Some((name.clone(), user(hash.as_deref()?, rows.get(name)))))
                .collect(),
        );
        // Logged only now: a reader of the log may rely on the published users.
        stored.inspect(|_| changes.log()).map(|_| first_gone.map(|since| since.after(GONE_KEPT)))
    }

    fn changes(
        &self,
        lines: &Lines,
        rows: &HashMap<String, FileUserRow>,
        now: Option<SteadyTime>,
    ) -> Result<Changes, Error> {
        let is_first = self.database.read(|tx| tx.setting(SETTING_FILE_OWNERS_UNKNOWN))?.is_some();
        let mut changes = Changes { is_first, ..Changes::default() };
        for (name, hash) in lines {
            let Some(hash) = hash.as_deref().map(hash_of) else { continue };
            let incarnation = rand::random::<u64>().max(1);
            match rows.get(name) {
                None => {
                    let row = FileUserRow { incarnation, hash, inherits: is_first, gone_since: None };
                    changes.new.push((name.clone(), row, self.namespace_claim(name)));
                }
                Some(row) if row.hash == hash => {
                    if row.gone_since.is_some() {
                        changes.returned.push((name.clone(), FileUserRow { gone_since: None, ..row.clone() }));
                    }
                }
                Some(row) if now.is_none() || row.gone_since.is_some() => {
                    let row = FileUserRow { incarnation, hash, inherits: false, gone_since: None };
                    changes.replaced.push((name.clone(), row));
                }
                Some(row) => changes.changed.push((name.clone(), FileUserRow { hash, ..row.clone() })),
            }
        }
        let Some(now) = now else { return Ok(changes) };
        for (name, row) in rows.iter().filter(|(name, _)| !lines.contains_key(*name)) {
            match row.gone_since {
                None => changes.gone.push((name.clone(), FileUserRow { gone_since: Some(now), ..row.clone() })),
                Some(since) if now.since(since) >= GONE_KEPT => changes.removed.push(name.clone()),
                Some(_) => {}
            }
        }
        Ok(changes)
    }

    /// Stores the changes with the new users, and returns the written rows.
    fn store(&self, changes: &Arc<Changes>, new: Vec<NewFileUser>) -> Result<Vec<(String, FileUserRow)>, Error> {
        if changes.is_empty() && new.is_empty() {
            return Ok(Vec::new());
        }
        let (now, shared) = (self.clock.now(), Arc::clone(changes));
        self.change(move |tx| {
            let Changes { changed, replaced, returned, gone, removed, is_first, .. } = &*shared;
            let is_first = *is_first;
            let mut stored = Vec::new();
            for name in removed {
                tx.remove_file_user(name)?;
                // A user of the database with this name stays.
                if tx.user(name)?.is_none() {
                    tx.remove_user_data(name)?;
                    tx.add_audit(now, &Origin::itself().row("user_delete", name, &[]))?;
                }
            }
            for (name, row) in changed.iter().chain(returned).chain(gone) {
                tx.put_file_user(name, row)?;
                stored.push((name.clone(), row.clone()));
            }
            for (name, row) in replaced {
                if tx.user(name)?.is_none() {
                    tx.remove_credentials(name)?;
                }
                tx.put_file_user(name, row)?;
                stored.push((name.clone(), row.clone()));
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
            Ok::<_, Error>(stored)
        })
    }
}

impl State {
    /// Whether the file has another version, or something remains to be stored.
    fn is_due(&self, stamp: Option<FileStamp>, now: SteadyTime) -> bool {
        self.is_due || stamp != self.read || self.remove_at.is_some_and(|at| now >= at)
    }
}

impl Changes {
    fn is_empty(&self) -> bool {
        let lists = [&self.changed, &self.replaced, &self.returned, &self.gone];
        !self.is_first && self.new.is_empty() && self.removed.is_empty() && lists.into_iter().all(Vec::is_empty)
    }

    fn log(&self) {
        for (user, _) in &self.replaced {
            tracing::warn!(
                user,
                "a password in the htpasswd file changed while the registry was stopped or the line was missing: the \
                 user's API keys and sessions have ended, because the line may belong to another person"
            );
        }
        for (user, _) in &self.gone {
            tracing::warn!(
                user,
                "a user is missing from the htpasswd file and cannot sign in; API keys, roles and namespace are removed \
                 after a day unless the line comes back"
            );
        }
        for (user, _) in &self.returned {
            tracing::info!(user, "a user is in the htpasswd file again with the same password and keeps everything");
        }
        for user in &self.removed {
            tracing::info!(user, "removed a user who was missing from the htpasswd file for a day");
        }
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::identity::accounts::{NewKey, scene};
    use crate::kit::clock::Timestamp;

    fn write(file: &Path, names: &[&str]) {
        // The same hash for everyone, and the same at each call.
        let hash = "$2b$04$abcdefghijklmnopqrstuuwWkBLcHrPiUEd3FnLdtdqXpYfvWi/nC";
        let new = file.with_extension("new");
        let lines: Vec<_> = names.iter().map(|name| format!("{name}:{hash}\n")).collect();
        std::fs::write(&new, lines.concat()).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    fn has_key(accounts: &Accounts, name: &str) -> bool {
        !accounts.database.read(|tx| tx.keys_of(Some(name))).unwrap().is_empty()
    }

    #[test]
    fn a_user_who_is_missing_from_the_file_loses_everything_after_a_day() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("htpasswd");
        write(&file, &["ann", "bob"]);
        let accounts = scene::open_with_htpasswd(root.path());
        let begin = SteadyTime::beginning(Timestamp::from_micros(1));
        accounts.follow_file(begin);
        assert!(!accounts.is_file_due(begin));
        for name in ["ann", "bob"] {
            accounts.create_key(name, NewKey::default(), &Origin::local()).unwrap();
        }
        write(&file, &["bob"]);
        accounts.follow_file(begin);
        assert!(accounts.account("ann").unwrap().is_none(), "she is kept out at once");
        drop(accounts);
        // The day begins when the line was missed first, whether or not the registry is started again.
        let accounts = scene::open_with_htpasswd(root.path());
        accounts.follow_file(begin.after(GONE_KEPT / 2));
        let last = begin.after(GONE_KEPT).before(Duration::from_micros(1));
        accounts.follow_file(last);
        assert!(has_key(&accounts, "ann") && !accounts.is_file_due(last));
        let end = begin.after(GONE_KEPT);
        assert!(accounts.is_file_due(end));
        accounts.follow_file(end);
        assert!(!has_key(&accounts, "ann") && has_key(&accounts, "bob"));
        assert!(!accounts.is_file_due(end));
        let owner = |namespace: &str| accounts.database.read(|tx| tx.owner_of(namespace)).unwrap();
        assert_eq!((owner("ann"), owner("bob").as_deref()), (None, Some("bob")));
    }
}
