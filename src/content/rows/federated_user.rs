//! Rows of users who come from providers: whom a provider means by a subject, and what it says of them.
//!
//! A subject is found by its issuer and never by a name. What a provider can be asked again with is sealed by whoever
//! puts it here, and in a table of its own, which backups leave out.

use serde::{Deserialize, Serialize};

use super::schema::{FEDERATED_TOKENS, FEDERATED_USERS, IDENTITIES};
use super::transaction::Table;
use super::{Error, Rows, WriteTx, codec};
use crate::kit::clock::Timestamp;

/// A user on a provider's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FederatedUserRow {
    /// The provider's name in the configuration, when they last signed in.
    pub(crate) provider: String,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    /// The groups that the provider has said, sorted. Those given here stand in the user's row.
    pub(crate) groups: Vec<String>,
    /// When the provider has last said that it knows them.
    pub(crate) checked: Timestamp,
    /// Since when it has said that it does not: they are kept out until they sign in again.
    pub(crate) gone: Option<Timestamp>,
}

/// What a provider says of a user; nothing, if they come from none.
fn row(table: &Table<'_, &'static str, &'static [u8]>, name: &str) -> Result<Option<FederatedUserRow>, Error> {
    table.get(name)?.map(|row| codec::row("users of providers", row.value(), name)).transpose()
}

impl Rows {
    /// The user whom an issuer means by a subject.
    pub(crate) fn user_of_identity(&self, issuer: &str, subject: &str) -> Result<Option<String>, Error> {
        Ok(self.table(IDENTITIES)?.get((issuer, subject))?.map(|name| name.value().to_owned()))
    }

    /// What a provider says of a user; nothing, if they come from none.
    pub(crate) fn federated_user(&self, name: &str) -> Result<Option<FederatedUserRow>, Error> {
        row(&self.table(FEDERATED_USERS)?, name)
    }

    /// The same of several users, in their order.
    pub(crate) fn federated_users_of<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<Option<FederatedUserRow>>, Error> {
        let table = self.table(FEDERATED_USERS)?;
        names.map(|name| row(&table, name)).collect()
    }

    /// All of them, by name.
    pub(crate) fn federated_users(&self) -> Result<Vec<(String, FederatedUserRow)>, Error> {
        let table = self.table(FEDERATED_USERS)?;
        let mut users = Vec::new();
        for row in table.range(..)? {
            let (name, row) = row?;
            let name = name.value().to_owned();
            let row = codec::row("users of providers", row.value(), &name)?;
            users.push((name, row));
        }
        Ok(users)
    }

    /// What the provider can be asked again with, as it was sealed.
    pub(crate) fn federated_token(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.table(FEDERATED_TOKENS)?.get(name)?.map(|sealed| sealed.value().to_vec()))
    }
}

impl WriteTx {
    /// Says that a user comes from a provider, or changes what that says of them. An identity is one user's.
    pub(crate) fn put_federated_user(&mut self, name: &str, row: &FederatedUserRow) -> Result<(), Error> {
        self.table_mut(IDENTITIES)?.insert((row.issuer.as_str(), row.subject.as_str()), name)?;
        self.table_mut(FEDERATED_USERS)?.insert(name, codec::encode(row).as_slice())?;
        Ok(())
    }

    pub(crate) fn put_federated_token(&mut self, name: &str, sealed: &[u8]) -> Result<(), Error> {
        self.table_mut(FEDERATED_TOKENS)?.insert(name, sealed)?;
        Ok(())
    }

    pub(crate) fn remove_federated_token(&mut self, name: &str) -> Result<(), Error> {
        self.table_mut(FEDERATED_TOKENS)?.remove(name)?;
        Ok(())
    }

    /// Forgets where a user comes from: whoever has the identity is somebody new then.
    pub(super) fn remove_federated_user(&mut self, name: &str) -> Result<(), Error> {
        let Some(row) = self.federated_user(name)? else { return Ok(()) };
        self.table_mut(IDENTITIES)?.remove((row.issuer.as_str(), row.subject.as_str()))?;
        self.table_mut(FEDERATED_USERS)?.remove(name)?;
        self.remove_federated_token(name)
    }
}
