//! Rows of users: those of the database, of the htpasswd file and of identity providers; and the namespaces they own.

use std::ops::Bound::{Excluded, Unbounded};
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::schema::{
    ADDRESSES, FEDERATED_TOKENS, FEDERATED_USERS, FILE_USERS, GROUPS, IDENTITIES, NAMESPACES, NAMESPACES_OF,
    PERMISSIONS, REPOSITORIES, SETTINGS_OF, USERS,
};
use super::{Error, Grantee, Rows, WriteTx, codec};
use crate::kit::clock::{SteadyTime, Timestamp};

/// A user of the database.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserRow {
    /// The argon2id hash of the password, as a PHC string. Empty for a federated user, who has no password.
    pub(crate) password: String,
    pub(crate) role: AccountRole,
    /// A disabled user cannot sign in, and their API keys and sessions do not work.
    pub(crate) disabled: bool,
    /// The groups the user belongs to, sorted.
    pub(crate) groups: Vec<String>,
    pub(crate) email: Option<String>,
    pub(crate) created: Timestamp,
}

/// The rights of a user beyond what policies and permissions grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AccountRole {
    /// None.
    #[default]
    Ordinary,
    /// To see everything.
    ReadOnlySuperuser,
    /// To do everything.
    Superuser,
}

/// A user who was in the htpasswd file when it was last read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileUserRow {
    /// A random number. A user who is removed and added again gets another one.
    pub(crate) incarnation: u64,
    /// SHA-256 of the password's hash in the file.
    pub(crate) hash: [u8; 32],
    /// Whether the user was in the file before such rows existed. Credentials from that time have no incarnation.
    pub(crate) inherits: bool,
    /// Since when the file has no line for the user, who keeps everything for some time.
    #[serde(skip)]
    pub(crate) gone_since: Option<SteadyTime>,
}

/// A user from an identity provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FederatedUserRow {
    /// The name of the provider in the configuration at the last sign-in.
    pub(crate) provider: String,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    /// The groups that the provider has named, sorted. The user's row has those that were given here.
    pub(crate) groups: Vec<String>,
    /// When the provider last confirmed the user.
    pub(crate) checked: Timestamp,
    /// When the provider said that it does not know the user. Until the next sign-in, the user's credentials do not
    /// work.
    pub(crate) gone: Option<Timestamp>,
}

/// Why a namespace cannot be given to a new user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NamespaceConflict {
    /// Another user owns it.
    Owner(String),
    /// It has this repository.
    Repository(String),
    /// It has settings or permissions of this repository.
    Permissions(String),
    /// A group has its name.
    Group,
}

impl Rows {
    pub(crate) fn user(&self, name: &str) -> Result<Option<UserRow>, Error> {
        self.row(USERS, name, name)
    }

    /// Whether the database has any user.
    pub(crate) fn has_users(&self) -> Result<bool, Error> {
        Ok(self.table(USERS)?.first()?.is_some())
    }

    /// Visits the users after `after` in byte order, until `visit` breaks.
    pub(crate) fn each_user(
        &self,
        after: &str,
        mut visit: impl FnMut(&str, UserRow) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.table(USERS)?
            .each((Excluded(after), Unbounded), |name, row| Ok(visit(name, codec::row(USERS, row, name)?)))
    }

    /// The users in a group, by name.
    pub(crate) fn members(&self, group: &str) -> Result<Vec<(String, UserRow)>, Error> {
        let mut members = Vec::new();
        self.each_user("", |name, row| {
            if row.groups.iter().any(|known| known == group) {
                members.push((name.to_owned(), row));
            }
            ControlFlow::Continue(())
        })?;
        Ok(members)
    }

    /// The users with an e-mail address, at most two: enough to know that an address is ambiguous.
    pub(crate) fn users_at(&self, address: &str) -> Result<Vec<String>, Error> {
        let address = address.to_ascii_lowercase();
        self.table(ADDRESSES)?
            .collect((address.as_str(), "").., 2, |(listed, user), ()| Ok((listed == address).then(|| user.to_owned())))
    }

    /// The users of the htpasswd file, by name.
    pub(crate) fn file_users(&self) -> Result<Vec<(String, FileUserRow)>, Error> {
        let decoded = |name: &str, row: &[u8]| Ok(Some((name.to_owned(), file_user(row, name)?)));
        self.table(FILE_USERS)?.collect(.., usize::MAX, decoded)
    }

    /// A user of the htpasswd file.
    pub(crate) fn file_user(&self, name: &str) -> Result<Option<FileUserRow>, Error> {
        self.get(FILE_USERS, name, |row| file_user(row, name))?.transpose()
    }

    /// The name of the user that a subject of an issuer is.
    pub(crate) fn user_of_identity(&self, issuer: &str, subject: &str) -> Result<Option<String>, Error> {
        self.get(IDENTITIES, (issuer, subject), str::to_owned)
    }

    /// Returns `None` if the user is not from a provider.
    pub(crate) fn federated_user(&self, name: &str) -> Result<Option<FederatedUserRow>, Error> {
        self.row(FEDERATED_USERS, name, name)
    }

    /// The federated users, by name.
    pub(crate) fn federated_users(&self) -> Result<Vec<(String, FederatedUserRow)>, Error> {
        self.named_rows(FEDERATED_USERS)
    }

    /// The provider's refresh token of a user, as the caller has encrypted it.
    pub(crate) fn federated_token(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.get(FEDERATED_TOKENS, name, <[u8]>::to_vec)
    }

    /// The namespace that a user owns.
    pub(crate) fn namespace_of(&self, user: &str) -> Result<Option<String>, Error> {
        self.get(NAMESPACES_OF, user, str::to_owned)
    }

    /// The user who owns a namespace.
    pub(crate) fn owner_of(&self, namespace: &str) -> Result<Option<String>, Error> {
        self.get(NAMESPACES, namespace, str::to_owned)
    }

    /// Returns why a new user cannot own a namespace, if there is a reason.
    pub(crate) fn namespace_conflict(&self, namespace: &str, user: &str) -> Result<Option<NamespaceConflict>, Error> {
        match self.owner_of(namespace)? {
            Some(owner) if owner == user => return Ok(None),
            Some(owner) => return Ok(Some(NamespaceConflict::Owner(owner))),
            None => {}
        }
        let prefix = format!("{namespace}/");
        let prefix = prefix.as_str();
        let within = |name: &str| Ok(name.starts_with(prefix).then(|| name.to_owned()));
        let repositories = self.table(REPOSITORIES)?.collect(prefix.., 1, |name, _| within(name))?;
        let settings = self.table(SETTINGS_OF)?.collect(prefix.., 1, |name, _| within(name))?;
        let permissions = self.table(PERMISSIONS)?.collect((prefix, 0, "").., 1, |(name, ..), _| within(name))?;
        if let Some(name) = repositories.into_iter().next() {
            return Ok(Some(NamespaceConflict::Repository(name)));
        }
        if let Some(name) = settings.into_iter().chain(permissions).next() {
            return Ok(Some(NamespaceConflict::Permissions(name)));
        }
        let is_group = self.has(GROUPS, namespace)? || self.has_other_member(namespace, user)?;
        Ok(is_group.then_some(NamespaceConflict::Group))
    }

    /// Whether a group has a member other than this user.
    fn has_other_member(&self, group: &str, user: &str) -> Result<bool, Error> {
        let is_other = |name: &str, groups: &[String]| name != user && groups.iter().any(|known| known == group);
        Ok(self.federated_users()?.iter().any(|(name, row)| is_other(name, &row.groups))
            || self.members(group)?.iter().any(|(name, row)| is_other(name, &row.groups)))
    }
}

impl WriteTx {
    /// Adds or changes a user.
    pub(crate) fn put_user(&mut self, name: &str, row: &UserRow) -> Result<(), Error> {
        let before = self.user(name)?;
        self.set_address(name, before.and_then(|before| before.email).as_deref(), row.email.as_deref())?;
        self.insert_row(USERS, name, row)
    }

    /// Removes a user and everything that belongs to the name.
    pub(crate) fn remove_user(&mut self, name: &str) -> Result<(), Error> {
        let row = self.user(name)?;
        self.set_address(name, row.and_then(|row| row.email).as_deref(), None)?;
        self.remove(USERS, name)?;
        self.remove_user_data(name)
    }

    /// Removes the credentials, the preferences, the permissions and the namespace of a user, so that another user can
    /// get the name.
    pub(crate) fn remove_user_data(&mut self, name: &str) -> Result<(), Error> {
        self.remove_credentials(name)?;
        self.remove_federated_user(name)?;
        self.set_namespace(name, None)?;
        self.remove_preferences_of_user(name)?;
        self.remove_permissions_of(Grantee::User, name)
    }

    /// Updates the index of addresses.
    fn set_address(&mut self, user: &str, before: Option<&str>, after: Option<&str>) -> Result<(), Error> {
        if before == after {
            return Ok(());
        }
        if let Some(before) = before {
            self.remove(ADDRESSES, (before.to_ascii_lowercase().as_str(), user))?;
        }
        if let Some(after) = after {
            self.insert(ADDRESSES, (after.to_ascii_lowercase().as_str(), user), ())?;
        }
        Ok(())
    }

    /// Adds a user to the index of addresses, which databases before version 6 lack.
    pub(crate) fn index_address(&mut self, user: &str, row: &UserRow) -> Result<(), Error> {
        self.set_address(user, None, row.email.as_deref())
    }

    /// Adds or changes a user of the htpasswd file.
    pub(crate) fn put_file_user(&mut self, name: &str, row: &FileUserRow) -> Result<(), Error> {
        self.insert(FILE_USERS, name, codec::encode_with(row, &row.gone_since).as_slice())
    }

    /// Removes the row of a user of the htpasswd file, but not the data of the user.
    pub(crate) fn remove_file_user(&mut self, name: &str) -> Result<(), Error> {
        self.remove(FILE_USERS, name)
    }

    /// Adds or changes a federated user. An identity belongs to one user.
    pub(crate) fn put_federated_user(&mut self, name: &str, row: &FederatedUserRow) -> Result<(), Error> {
        self.insert(IDENTITIES, (row.issuer.as_str(), row.subject.as_str()), name)?;
        self.insert_row(FEDERATED_USERS, name, row)
    }

    fn remove_federated_user(&mut self, name: &str) -> Result<(), Error> {
        let Some(row) = self.federated_user(name)? else { return Ok(()) };
        self.remove(IDENTITIES, (row.issuer.as_str(), row.subject.as_str()))?;
        self.remove(FEDERATED_USERS, name)?;
        self.remove_federated_token(name)
    }

    pub(crate) fn put_federated_token(&mut self, name: &str, encrypted: &[u8]) -> Result<(), Error> {
        self.insert(FEDERATED_TOKENS, name, encrypted)
    }

    pub(crate) fn remove_federated_token(&mut self, name: &str) -> Result<(), Error> {
        self.remove(FEDERATED_TOKENS, name)
    }

    /// Gives a namespace to a user, in place of the one the user owned. `None` takes it away.
    pub(crate) fn set_namespace(&mut self, user: &str, namespace: Option<&str>) -> Result<(), Error> {
        if let Some(before) = self.namespace_of(user)? {
            self.remove(NAMESPACES, before.as_str())?;
            self.remove(NAMESPACES_OF, user)?;
        }
        if let Some(namespace) = namespace {
            self.insert(NAMESPACES, namespace, user)?;
            self.insert(NAMESPACES_OF, user, namespace)?;
        }
        Ok(())
    }
}

fn file_user(bytes: &[u8], name: &str) -> Result<FileUserRow, Error> {
    let (row, gone_since) = codec::decode_with(bytes).ok_or_else(|| Error::corrupt(FILE_USERS, name))?;
    Ok(FileUserRow { gone_since, ..row })
}
