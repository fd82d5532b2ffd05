//! Rows of who may do what: settings of repositories, permissions of users and groups, and groups.

use serde::{Deserialize, Serialize};

use super::codec::corrupt;
use super::schema::{GROUPS, PERMISSIONS, PERMISSIONS_OF, SETTINGS_OF};
use super::{Error, Rows, WriteTx, codec};
use crate::kit::clock::Timestamp;
use crate::oci::RepositoryName;

/// What somebody may do in a repository; each includes the ones before it. Quay's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Pull.
    Read,
    /// Push, move tags and delete as well.
    Write,
    /// Say who may do what as well.
    Admin,
}

/// To whom a permission is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Grantee {
    User = 0,
    Group = 1,
}

/// What somebody has said about a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SettingsRow {
    /// Whether everybody may pull, without signing in too.
    pub(crate) public: bool,
    pub(crate) description: String,
}

/// What somebody has said about a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupRow {
    pub(crate) description: String,
    /// What its members may do in `<group>/…`.
    pub(crate) role: Option<Role>,
    pub(crate) created: Timestamp,
}

impl Rows {
    pub(crate) fn settings(&self, repository: &RepositoryName) -> Result<Option<SettingsRow>, Error> {
        let table = self.table(SETTINGS_OF)?;
        let row = table.get(repository.as_str())?;
        row.map(|row| codec::row("settings of repositories", row.value(), repository.as_str())).transpose()
    }

    /// Whether anonymous callers may pull from any of the repositories with settings.
    pub(crate) fn has_public_repositories(&self) -> Result<bool, Error> {
        for row in self.table(SETTINGS_OF)?.range(..)? {
            let (name, row) = row?;
            let settings: SettingsRow = codec::row("settings of repositories", row.value(), name.value())?;
            if settings.public {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The repositories that everybody may pull from, among those that somebody has said something about.
    pub(crate) fn public_repositories(&self) -> Result<Vec<RepositoryName>, Error> {
        let mut names = Vec::new();
        for row in self.table(SETTINGS_OF)?.range(..)? {
            let (name, row) = row?;
            let name = name.value();
            let settings: SettingsRow = codec::row("settings of repositories", row.value(), name)?;
            if settings.public {
                names.push(name.parse().map_err(|_| corrupt("settings of repositories", name))?);
            }
        }
        Ok(names)
    }

    /// Everybody with a permission in a repository, users first, by name.
    pub(crate) fn permissions(&self, repository: &RepositoryName) -> Result<Vec<(Grantee, String, Role)>, Error> {
        let table = self.table(PERMISSIONS)?;
        let mut permissions = Vec::new();
        for row in table.range((repository.as_str(), 0, "")..)? {
            let (key, role) = row?;
            let (owner, kind, name) = key.value();
            if owner != repository.as_str() {
                break;
            }
            let kind = if kind == Grantee::User as u8 { Grantee::User } else { Grantee::Group };
            let role = codec::row("permissions", role.value(), owner)?;
            permissions.push((kind, name.to_owned(), role));
        }
        Ok(permissions)
    }

    /// The repositories in which somebody has a permission, by name.
    pub(crate) fn permitted(&self, kind: Grantee, name: &str) -> Result<Vec<(RepositoryName, Role)>, Error> {
        let (index, table) = (self.table(PERMISSIONS_OF)?, self.table(PERMISSIONS)?);
        let mut permitted = Vec::new();
        for row in index.range((kind as u8, name, "")..)? {
            let (key, _) = row?;
            let (of, grantee, repository) = key.value();
            if of != kind as u8 || grantee != name {
                break;
            }
            let role = table.get((repository, of, grantee))?;
            let role = role.and_then(|role| codec::decode(role.value()));
            let role = role.ok_or_else(|| corrupt("permissions", repository))?;
            permitted.push((repository.parse().map_err(|_| corrupt("permissions", repository))?, role));
        }
        Ok(permitted)
    }

    pub(crate) fn group(&self, name: &str) -> Result<Option<GroupRow>, Error> {
        let table = self.table(GROUPS)?;
        let row = table.get(name)?;
        row.map(|row| codec::row("groups", row.value(), name)).transpose()
    }

    /// Every group that somebody has said something about, by name.
    pub(crate) fn groups(&self) -> Result<Vec<(String, GroupRow)>, Error> {
        let table = self.table(GROUPS)?;
        let mut groups = Vec::new();
        for row in table.range(..)? {
            let (name, row) = row?;
            let name = name.value();
            groups.push((name.to_owned(), codec::row("groups", row.value(), name)?));
        }
        Ok(groups)
    }
}

impl WriteTx {
    pub(crate) fn put_settings(&mut self, repository: &RepositoryName, row: &SettingsRow) -> Result<(), Error> {
        self.table_mut(SETTINGS_OF)?.insert(repository.as_str(), codec::encode(row).as_slice())?;
        Ok(())
    }

    /// Forgets who may do what in a repository, and what was said about it.
    pub(crate) fn remove_settings(&mut self, repository: &RepositoryName) -> Result<(), Error> {
        self.table_mut(SETTINGS_OF)?.remove(repository.as_str())?;
        for (kind, name, _) in self.permissions(repository)? {
            self.remove_permission(repository, kind, &name)?;
        }
        Ok(())
    }

    /// Gives somebody a role in a repository, in place of the one they had.
    pub(crate) fn put_permission(
        &mut self,
        repository: &RepositoryName,
        kind: Grantee,
        name: &str,
        role: Role,
    ) -> Result<(), Error> {
        let key = (repository.as_str(), kind as u8, name);
        self.table_mut(PERMISSIONS)?.insert(key, codec::encode(&role).as_slice())?;
        self.table_mut(PERMISSIONS_OF)?.insert((kind as u8, name, repository.as_str()), ())?;
        Ok(())
    }

    pub(crate) fn remove_permission(
        &mut self,
        repository: &RepositoryName,
        kind: Grantee,
        name: &str,
    ) -> Result<(), Error> {
        self.table_mut(PERMISSIONS)?.remove((repository.as_str(), kind as u8, name))?;
        self.table_mut(PERMISSIONS_OF)?.remove((kind as u8, name, repository.as_str()))?;
        Ok(())
    }

    /// Takes every permission from somebody.
    pub(crate) fn remove_permissions_of(&mut self, kind: Grantee, name: &str) -> Result<(), Error> {
        for (repository, _) in self.permitted(kind, name)? {
            self.remove_permission(&repository, kind, name)?;
        }
        Ok(())
    }

    pub(crate) fn put_group(&mut self, name: &str, row: &GroupRow) -> Result<(), Error> {
        self.table_mut(GROUPS)?.insert(name, codec::encode(row).as_slice())?;
        Ok(())
    }

    /// Forgets a group, with its permissions. Its members are not touched.
    pub(crate) fn remove_group(&mut self, name: &str) -> Result<(), Error> {
        self.table_mut(GROUPS)?.remove(name)?;
        self.remove_permissions_of(Grantee::Group, name)
    }
}
