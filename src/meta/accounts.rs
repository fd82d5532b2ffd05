//! Rows of users.

use redb::ReadableTable as _;
use serde::{Deserialize, Serialize};

use super::schema::{Source, USERS};
use super::{Error, WriteTx, codec};
use crate::clock::Timestamp;

/// A user.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserRow {
    /// The password's argon2id hash, as a PHC string.
    pub(crate) password: String,
    /// Whether everything is allowed to the user.
    pub(crate) superuser: bool,
    /// When the user was made.
    pub(crate) created: Timestamp,
}

/// Looking up users.
pub(crate) trait AccountRead: Source {
    fn user(&self, name: &str) -> Result<Option<UserRow>, Error> {
        let table = self.table(USERS)?;
        let row = table.get(name)?;
        row.map(|row| codec::decode(row.value()).ok_or_else(|| Error::Corrupt { table: "users", key: name.to_owned() }))
            .transpose()
    }

    /// Whether there is any user at all.
    fn has_users(&self) -> Result<bool, Error> {
        Ok(self.table(USERS)?.first()?.is_some())
    }
}

impl<S: Source> AccountRead for S {}

impl WriteTx {
    /// Makes a user, or changes one.
    pub(crate) fn put_user(&mut self, name: &str, row: &UserRow) -> Result<(), Error> {
        self.table_mut(USERS)?.insert(name, codec::encode(row).as_slice())?;
        Ok(())
    }
}
