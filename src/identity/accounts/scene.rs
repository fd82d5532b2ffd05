//! Test support: the accounts of a data directory, with a clock that tests move.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::federated_user::new_row;
use super::{Accounts, Htpasswd, Rules};
use crate::content::blobs::{SystemDisk, Tree};
use crate::content::rows::{Database, UserRow};
use crate::kit::clock::{Clock, Timestamp};

/// The accounts of a new data directory with the default rules, and the directory, which is removed when it is dropped.
pub(super) fn accounts() -> (TempDir, Accounts) {
    accounts_with(Rules::default())
}

/// The same with other rules.
pub(super) fn accounts_with(rules: Rules) -> (TempDir, Accounts) {
    let root = tempfile::tempdir().unwrap();
    let accounts = open(root.path(), rules, None);
    (root, accounts)
}

/// Opens the accounts of a directory. Its file `htpasswd` has users as well.
pub(super) fn open_with_htpasswd(root: &Path) -> Accounts {
    open(root, Rules::default(), Some(Htpasswd::new(&root.join("htpasswd"))))
}

fn open(root: &Path, rules: Rules, htpasswd: Option<Htpasswd>) -> Accounts {
    let database = Arc::new(Database::open(&Tree::new(root), Arc::new(SystemDisk), false).unwrap());
    Accounts::open(database, Clock::default(), rules, htpasswd, None).unwrap()
}

/// The row of a user who has neither a password nor groups nor an e-mail address.
pub(super) fn user() -> UserRow {
    new_row(Timestamp::from_micros(1))
}

impl Accounts {
    /// Stores the row of a user, without the checks and the audit row of a change.
    pub(super) fn store_user(&self, name: &'static str, row: UserRow) {
        self.database.write(move |tx| tx.put_user(name, &row)).unwrap();
    }
}
