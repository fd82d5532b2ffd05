//! Rows of who owns which namespace, which users have which e-mail address, and which users an htpasswd file had.

use std::ops::Bound::{Included, Unbounded};

use serde::{Deserialize, Serialize};

use super::schema::{
    ADDRESSES, FEDERATED_USERS, FILE_USERS, GROUPS, NAMESPACES, NAMESPACES_OF, PERMISSIONS, REPOSITORIES, SETTINGS_OF,
};
use super::{Error, FederatedUserRow, Rows, UserRow, WriteTx, codec};

/// A user that was in the htpasswd file when it was last read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileUserRow {
    /// A random number. A user who was removed and added again gets another one.
    pub(crate) incarnation: u64,
    /// SHA-256 of the password's hash in the file.
    pub(crate) hash: [u8; 32],
    /// Whether the user was in the file before there were such rows: older credentials say nothing of incarnations.
    pub(crate) inherits: bool,
}

/// What a namespace holds that is not a newcomer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NamespaceConflict {
    /// It has an owner.
    Owner(String),
    /// A repository in it.
    Repository(String),
    /// Settings or permissions of a repository in it.
    Permissions(String),
    /// A group of this name.
    Group,
}

impl Rows {
    /// The namespace that a user owns.
    pub(crate) fn namespace_of(&self, user: &str) -> Result<Option<String>, Error> {
        Ok(self.table(NAMESPACES_OF)?.get(user)?.map(|namespace| namespace.value().to_owned()))
    }

    /// The user who owns a namespace.
    pub(crate) fn owner_of(&self, namespace: &str) -> Result<Option<String>, Error> {
        Ok(self.table(NAMESPACES)?.get(namespace)?.map(|owner| owner.value().to_owned()))
    }

    /// What keeps a newcomer of this name from owning a namespace.
    pub(crate) fn namespace_conflict(
        &self,
        namespace: &str,
        newcomer: &str,
    ) -> Result<Option<NamespaceConflict>, Error> {
        match self.owner_of(namespace)? {
            Some(owner) if owner == newcomer => return Ok(None),
            Some(owner) => return Ok(Some(NamespaceConflict::Owner(owner))),
            None => {}
        }
        let prefix = format!("{namespace}/");
        let within = |name: &str| name.starts_with(&prefix).then(|| name.to_owned());
        if let Some(row) = self.table(REPOSITORIES)?.range(prefix.as_str()..)?.next()
            && let Some(name) = within(row?.0.value())
        {
            return Ok(Some(NamespaceConflict::Repository(name)));
        }
        if let Some(row) = self.table(SETTINGS_OF)?.range(prefix.as_str()..)?.next()
            && let Some(name) = within(row?.0.value())
        {
            return Ok(Some(NamespaceConflict::Permissions(name)));
        }
        if let Some(row) = self.table(PERMISSIONS)?.range((prefix.as_str(), 0, "")..)?.next()
            && let Some(name) = within(row?.0.value().0)
        {
            return Ok(Some(NamespaceConflict::Permissions(name)));
        }
        let is_group = self.table(GROUPS)?.get(namespace)?.is_some() || self.has_member(namespace, newcomer)?;
        Ok(is_group.then_some(NamespaceConflict::Group))
    }

    /// Whether a group has a member besides this user.
    pub(crate) fn has_member(&self, group: &str, besides: &str) -> Result<bool, Error> {
        for row in self.table(FEDERATED_USERS)?.range(..)? {
            let (name, row) = row?;
            let federated: FederatedUserRow = codec::row("users of providers", row.value(), name.value())?;
            if name.value() != besides && federated.groups.iter().any(|known| known == group) {
                return Ok(true);
            }
        }
        Ok(self.members(group)?.iter().any(|(name, _)| name != besides))
    }

    /// The users with an e-mail address, at most two: more say nothing more.
    pub(crate) fn users_at(&self, address: &str) -> Result<Vec<String>, Error> {
        let address = address.to_ascii_lowercase();
        let mut users = Vec::new();
        for row in self.table(ADDRESSES)?.range((Included((address.as_str(), "")), Unbounded))?.take(2) {
            let (key, _) = row?;
            if key.value().0 == address {
                users.push(key.value().1.to_owned());
            }
        }
        Ok(users)
    }

    /// Every user of the htpasswd file, by name.
    pub(crate) fn file_users(&self) -> Result<Vec<(String, FileUserRow)>, Error> {
        let table = self.table(FILE_USERS)?;
        let mut users = Vec::new();
        for row in table.range(..)? {
            let (name, row) = row?;
            let name = name.value().to_owned();
            let row = codec::row("users of the htpasswd file", row.value(), &name)?;
            users.push((name, row));
        }
        Ok(users)
    }
}

impl WriteTx {
    /// Makes a namespace a user's, in place of the one the user had; without one takes that away.
    pub(crate) fn set_namespace(&mut self, user: &str, namespace: Option<&str>) -> Result<(), Error> {
        if let Some(before) = self.namespace_of(user)? {
            self.table_mut(NAMESPACES)?.remove(before.as_str())?;
            self.table_mut(NAMESPACES_OF)?.remove(user)?;
        }
        if let Some(namespace) = namespace {
            self.table_mut(NAMESPACES)?.insert(namespace, user)?;
            self.table_mut(NAMESPACES_OF)?.insert(user, namespace)?;
        }
        Ok(())
    }

    /// Keeps the index of addresses true when a user's address changes.
    pub(super) fn set_address(&mut self, user: &str, before: Option<&str>, after: Option<&str>) -> Result<(), Error> {
        if before == after {
            return Ok(());
        }
        if let Some(before) = before {
            self.table_mut(ADDRESSES)?.remove((before.to_ascii_lowercase().as_str(), user))?;
        }
        if let Some(after) = after {
            self.table_mut(ADDRESSES)?.insert((after.to_ascii_lowercase().as_str(), user), ())?;
        }
        Ok(())
    }

    /// Adds a user of a database without an index of addresses to that.
    pub(crate) fn index_address(&mut self, user: &str, row: &UserRow) -> Result<(), Error> {
        self.set_address(user, None, row.email.as_deref())
    }

    /// Notes a user of the htpasswd file, or another password of one.
    pub(crate) fn put_file_user(&mut self, name: &str, row: &FileUserRow) -> Result<(), Error> {
        self.table_mut(FILE_USERS)?.insert(name, codec::encode(row).as_slice())?;
        Ok(())
    }

    /// Forgets a user of the htpasswd file, and nothing of what was given to the user.
    pub(crate) fn remove_file_user(&mut self, name: &str) -> Result<(), Error> {
        self.table_mut(FILE_USERS)?.remove(name)?;
        Ok(())
    }
}
