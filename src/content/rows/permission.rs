//! Rows of access control: settings of repositories, permissions of users and groups, and groups.

use serde::{Deserialize, Serialize};

use super::schema::{GROUPS, PERMISSIONS, PERMISSIONS_OF, SETTINGS_OF};
use super::{Error, Rows, WriteTx, codec};
use crate::kit::clock::Timestamp;
use crate::oci::RepositoryName;

/// The rights of a user or a group in a repository, in Quay's words. Each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Role {
    /// To pull.
    Read,
    /// To push, move tags and delete.
    Write,
    /// To change permissions and settings.
    Admin,
}

/// The kind of holder of a permission. The numbers are in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Grantee {
    User = 0,
    Group = 1,
}

/// The settings of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SettingsRow {
    /// Whether anonymous callers may pull.
    pub(crate) public: bool,
    pub(crate) description: String,
}

/// The settings of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupRow {
    pub(crate) description: String,
    /// The rights of its members in `<group>/…`.
    pub(crate) role: Option<Role>,
    pub(crate) created: Timestamp,
}

impl Rows {
    pub(crate) fn settings(&self, repository: &RepositoryName) -> Result<Option<SettingsRow>, Error> {
        self.row(SETTINGS_OF, repository.as_str(), repository)
    }

    /// The repositories that are public by their settings.
    pub(crate) fn public_repositories(&self) -> Result<Vec<RepositoryName>, Error> {
        let all = self.named_rows::<SettingsRow>(SETTINGS_OF)?.into_iter();
        all.filter(|(_, settings)| settings.public).map(|(name, _)| codec::parse(SETTINGS_OF, &name)).collect()
    }

    /// The permissions in a repository: users first, by name.
    pub(crate) fn permissions(&self, repository: &RepositoryName) -> Result<Vec<(Grantee, String, Role)>, Error> {
        let from = (repository.as_str(), 0, "");
        self.table(PERMISSIONS)?.collect(from.., usize::MAX, |(owner, kind, name), role| {
            if owner != repository.as_str() {
                return Ok(None);
            }
            let kind = if kind == Grantee::User as u8 { Grantee::User } else { Grantee::Group };
            Ok(Some((kind, name.to_owned(), codec::row(PERMISSIONS, role, owner)?)))
        })
    }

    /// The repositories in which a user or a group has a permission, by name.
    pub(crate) fn permitted(&self, kind: Grantee, name: &str) -> Result<Vec<(RepositoryName, Role)>, Error> {
        self.table(PERMISSIONS_OF)?.collect((kind as u8, name, "").., usize::MAX, |(of, grantee, repository), ()| {
            if (of, grantee) != (kind as u8, name) {
                return Ok(None);
            }
            let role = self.row(PERMISSIONS, (repository, of, grantee), repository)?;
            let role = role.ok_or_else(|| Error::corrupt(PERMISSIONS, repository))?;
            Ok(Some((codec::parse(PERMISSIONS_OF, repository)?, role)))
        })
    }

    pub(crate) fn group(&self, name: &str) -> Result<Option<GroupRow>, Error> {
        self.row(GROUPS, name, name)
    }

    /// The groups that have settings, by name.
    pub(crate) fn groups(&self) -> Result<Vec<(String, GroupRow)>, Error> {
        self.named_rows(GROUPS)
    }
}

impl WriteTx {
    pub(crate) fn put_settings(&mut self, repository: &RepositoryName, row: &SettingsRow) -> Result<(), Error> {
        self.insert_row(SETTINGS_OF, repository.as_str(), row)
    }

    /// Removes the settings and permissions of a repository.
    pub(crate) fn remove_settings(&mut self, repository: &RepositoryName) -> Result<(), Error> {
        self.remove(SETTINGS_OF, repository.as_str())?;
        for (kind, name, _) in self.permissions(repository)? {
            self.remove_permission(repository, kind, &name)?;
        }
        Ok(())
    }

    /// Gives a user or a group a role in a repository, in place of an earlier one.
    pub(crate) fn put_permission(
        &mut self,
        repository: &RepositoryName,
        kind: Grantee,
        name: &str,
        role: Role,
    ) -> Result<(), Error> {
        self.insert_row(PERMISSIONS, (repository.as_str(), kind as u8, name), &role)?;
        self.insert(PERMISSIONS_OF, (kind as u8, name, repository.as_str()), ())
    }

    pub(crate) fn remove_permission(
        &mut self,
        repository: &RepositoryName,
        kind: Grantee,
        name: &str,
    ) -> Result<(), Error> {
        self.remove(PERMISSIONS, (repository.as_str(), kind as u8, name))?;
        self.remove(PERMISSIONS_OF, (kind as u8, name, repository.as_str()))
    }

    /// Removes all permissions of a user or a group.
    pub(crate) fn remove_permissions_of(&mut self, kind: Grantee, name: &str) -> Result<(), Error> {
        for (repository, _) in self.permitted(kind, name)? {
            self.remove_permission(&repository, kind, name)?;
        }
        Ok(())
    }

    pub(crate) fn put_group(&mut self, name: &str, row: &GroupRow) -> Result<(), Error> {
        self.insert_row(GROUPS, name, row)
    }

    /// Removes the settings and permissions of a group. Its members stay.
    pub(crate) fn remove_group(&mut self, name: &str) -> Result<(), Error> {
        self.remove(GROUPS, name)?;
        self.remove_permissions_of(Grantee::Group, name)
    }
}
