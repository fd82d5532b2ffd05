//! Permissions of users and groups in repositories, repository settings and groups.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::{Account, Accounts, Actions, Error, Origin};
use crate::content::rows::{self, Grantee, GroupRow, Role, Rows, SettingsRow};
use crate::oci::RepositoryName;

/// The longest description of a repository or a group, in characters.
pub(crate) const DESCRIPTION_MAX: usize = 4096;
/// The longest name of a group, in characters.
const GROUP_NAME_MAX: usize = 255;
/// The largest number of users and groups with a permission in one repository.
const PERMISSIONS_MAX: usize = 1000;

/// The permissions in one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Permissions {
    /// Whether anonymous callers may pull.
    pub(crate) public: bool,
    /// By name, sorted.
    pub(crate) users: Vec<(String, Role)>,
    /// By name, sorted.
    pub(crate) groups: Vec<(String, Role)>,
    /// The role of the group that has the name of the namespace.
    pub(crate) namespace: Option<Role>,
}

/// The result of a change of the members of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MembersChange {
    pub(crate) is_changed: bool,
    /// Whether the change created the group: it had neither a row nor a member before.
    pub(crate) is_new: bool,
}

impl Role {
    pub(crate) const fn actions(self) -> Actions {
        match self {
            Self::Read => Actions::PULL,
            Self::Write => Actions::CONTENT,
            Self::Admin => Actions::ALL,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "admin" => Ok(Self::Admin),
            _ => Err(Error::InvalidPermission { why: "a role is read, write or admin".to_owned() }),
        }
    }
}

impl Accounts {
    /// The permissions in a repository.
    pub(crate) fn permissions(&self, repository: &RepositoryName) -> Result<Arc<Permissions>, Error> {
        let load = || {
            self.database.read(|tx| {
                let mut permissions = Permissions {
                    public: tx.settings(repository)?.is_some_and(|settings| settings.public),
                    namespace: tx.group(repository.namespace())?.and_then(|group| group.role),
                    ..Permissions::default()
                };
                for (kind, name, role) in tx.permissions(repository)? {
                    match kind {
                        Grantee::User => permissions.users.push((name, role)),
                        Grantee::Group => permissions.groups.push((name, role)),
                    }
                }
                Ok::<_, Error>(Some(Arc::new(permissions)))
            })
        };
        Ok(self.caches.permissions.get_or_load(repository.as_str(), self.generation(), load)?.unwrap_or_default())
    }

    /// Whether any repository is public.
    pub(crate) fn has_public_repositories(&self) -> Result<bool, Error> {
        let load = || self.database.read(Rows::public_repositories).map(|names| Some(!names.is_empty()));
        Ok(self.caches.has_public.get_or_load(&(), self.generation(), load)?.unwrap_or_default())
    }

    /// Lists the repositories that are public or in which the user or the user's groups have a permission.
    pub(crate) fn named_repositories(&self, account: Option<&Account>) -> Result<Vec<RepositoryName>, Error> {
        self.database.read(|tx| {
            let mut names = tx.public_repositories()?;
            if let Some(account) = account {
                names.extend(tx.permitted(Grantee::User, &account.name)?.into_iter().map(|(name, _)| name));
                for group in &account.groups {
                    names.extend(tx.permitted(Grantee::Group, group)?.into_iter().map(|(name, _)| name));
                }
            }
            Ok::<_, Error>(names)
        })
    }

    /// The visibility and description of a repository.
    pub(crate) fn repository_settings(&self, repository: &RepositoryName) -> Result<SettingsRow, Error> {
        Ok(self.database.read(|tx| tx.settings(repository))?.unwrap_or_default())
    }

    /// Changes the visibility or description of a repository.
    pub(crate) fn change_repository(
        &self,
        repository: &RepositoryName,
        public: Option<bool>,
        description: Option<String>,
        origin: &Origin,
    ) -> Result<(), Error> {
        check_description(description.as_deref())?;
        let kind = if public.is_some() { "change_repo_visibility" } else { "set_repo_description" };
        let shown = if public == Some(true) { "public" } else { "private" };
        let detail: &[(&str, &str)] = if public.is_some() { &[("visibility", shown)] } else { &[] };
        let audit = origin.repository_row(kind, repository, detail);
        let repository = repository.clone();
        self.audited_change(audit, move |tx, _| {
            let mut row = tx.settings(&repository)?.unwrap_or_default();
            row.public = public.unwrap_or(row.public);
            row.description = description.unwrap_or(row.description);
            Ok(tx.put_settings(&repository, &row)?)
        })
    }

    /// Sets or removes the role of a user or group in a repository. Returns whether anything changed.
    pub(crate) fn set_permission(
        &self,
        repository: &RepositoryName,
        kind: Grantee,
        name: &str,
        role: Option<Role>,
        origin: &Origin,
    ) -> Result<bool, Error> {
        if kind == Grantee::User && role.is_some() && self.account(name)?.is_none() {
            return Err(Error::InvalidPermission { why: format!("Invalid username: {name}") });
        }
        let in_file = self.htpasswd.as_ref().is_some_and(|file| file.has(name));
        if kind == Grantee::Group {
            check_group_name(name)?;
        }
        let what = if role.is_some() { "change_repo_permission" } else { "delete_repo_permission" };
        let grantee = if kind == Grantee::User { "username" } else { "team" };
        let detail = [(grantee, name), ("role", role.map_or("none", Role::as_str))];
        let audit = origin.repository_row(what, repository, &detail);
        let (repository, name, now) = (repository.clone(), name.to_owned(), self.clock.now());
        self.change(move |tx| {
            // The user may have been removed meanwhile, and the next one of the name must not get the permission.
            if kind == Grantee::User && role.is_some() && !in_file && tx.user(&name)?.is_none() {
                return Err(Error::InvalidPermission { why: format!("Invalid username: {name}") });
            }
            let all = tx.permissions(&repository)?;
            let had = all.iter().find(|(known, of, _)| *known == kind && *of == name).map(|(_, _, role)| *role);
            if had == role {
                return Ok(false);
            }
            if had.is_none() && all.len() >= PERMISSIONS_MAX {
                let why = format!("a repository has at most {PERMISSIONS_MAX} permissions: give one to a group");
                return Err(Error::InvalidPermission { why });
            }
            match role {
                Some(role) => tx.put_permission(&repository, kind, &name, role)?,
                None => tx.remove_permission(&repository, kind, &name)?,
            }
            tx.add_audit(now, &audit)?;
            Ok(true)
        })
    }

    /// Lists the members of a group by name: users of the database who were added or whom an identity provider names.
    pub(crate) fn members(&self, group: &str) -> Result<Vec<String>, Error> {
        Ok(self.database.read(|tx| members_of(tx, group))?.into_iter().collect())
    }

    /// The numbers of members of all groups, in one walk over the users.
    pub(crate) fn member_counts(&self) -> Result<HashMap<String, usize>, Error> {
        let mut groups_of: HashMap<String, Vec<String>> = HashMap::new();
        self.database.read(|tx| {
            for (name, row) in tx.federated_users()? {
                groups_of.entry(name).or_default().extend(row.groups);
            }
            tx.each_user("", |name, row| {
                if !row.groups.is_empty() {
                    groups_of.entry(name.to_owned()).or_default().extend(row.groups);
                }
                ControlFlow::Continue(())
            })
        })?;
        let mut counts: HashMap<String, usize> = HashMap::new();
        for groups in groups_of.into_values() {
            for group in groups.into_iter().collect::<BTreeSet<_>>() {
                *counts.entry(group).or_default() += 1;
            }
        }
        Ok(counts)
    }

    /// Adds a user to a group or removes one. Returns whether anything changed.
    pub(crate) fn set_member(&self, group: &str, user: &str, is_in: bool, origin: &Origin) -> Result<bool, Error> {
        Ok(self.set_members(group, &[user.to_owned()], is_in, origin)?.is_changed)
    }

    /// Adds users to a group or removes them. Changes nothing if one of them does not exist.
    pub(crate) fn set_members(
        &self,
        group: &str,
        users: &[String],
        is_in: bool,
        origin: &Origin,
    ) -> Result<MembersChange, Error> {
        check_group_name(group)?;
        let kind = if is_in { "org_add_team_member" } else { "org_remove_team_member" };
        let mut audits = Vec::with_capacity(users.len());
        for user in users.iter().collect::<BTreeSet<_>>() {
            self.must_be_ours(user)?;
            audits.push((user.clone(), origin.row(kind, user, &[("team", group)])));
        }
        let (group, now) = (group.to_owned(), self.clock.now());
        self.change(move |tx| {
            let mut changes = Vec::with_capacity(audits.len());
            for (user, audit) in audits {
                let Some(mut row) = tx.user(&user)? else { return Err(Error::UserUnknown { name: user }) };
                match (row.groups.binary_search(&group), is_in) {
                    (Ok(_), true) | (Err(_), false) => continue,
                    (Ok(at), false) => drop(row.groups.remove(at)),
                    (Err(at), true) => row.groups.insert(at, group.clone()),
                }
                changes.push((user, row, audit));
            }
            let is_changed = !changes.is_empty();
            let is_new = is_changed && is_in && !has_group(tx, &group)?;
            for (user, row, audit) in changes {
                tx.put_user(&user, &row)?;
                tx.add_audit(now, &audit)?;
            }
            Ok(MembersChange { is_changed, is_new })
        })
    }

    /// Lists the repositories in which a group has a permission.
    pub(crate) fn permitted_to_group(&self, group: &str) -> Result<Vec<(RepositoryName, Role)>, Error> {
        Ok(self.database.read(|tx| tx.permitted(Grantee::Group, group))?)
    }

    /// Finds a group by name.
    pub(crate) fn group(&self, name: &str) -> Result<Option<GroupRow>, Error> {
        Ok(self.database.read(|tx| tx.group(name))?)
    }

    /// Lists the groups by name.
    pub(crate) fn groups(&self) -> Result<Vec<(String, GroupRow)>, Error> {
        Ok(self.database.read(Rows::groups)?)
    }

    /// Creates a group. Fails if it has a row.
    pub(crate) fn create_group(
        &self,
        name: &str,
        change: impl FnOnce(&mut GroupRow) + Send + 'static,
        origin: &Origin,
    ) -> Result<(), Error> {
        self.write_group(name, change, false, origin).map(drop)
    }

    /// Creates or changes a group. Returns whether it is new: it had neither a row nor a member before.
    pub(crate) fn put_group(
        &self,
        name: &str,
        change: impl FnOnce(&mut GroupRow) + Send + 'static,
        origin: &Origin,
    ) -> Result<bool, Error> {
        self.write_group(name, change, true, origin)
    }

    fn write_group(
        &self,
        name: &str,
        change: impl FnOnce(&mut GroupRow) + Send + 'static,
        may_exist: bool,
        origin: &Origin,
    ) -> Result<bool, Error> {
        check_group_name(name)?;
        let audit = origin.row("org_create_team", name, &[]);
        let name = name.to_owned();
        self.audited_change(audit, move |tx, now| {
            let known = tx.group(&name)?;
            if known.is_some() && !may_exist {
                return Err(Error::InvalidPermission { why: "a group of this name exists already".to_owned() });
            }
            let is_new = known.is_none() && members_of(tx, &name)?.is_empty();
            let mut row = known.unwrap_or(GroupRow { description: String::new(), role: None, created: now });
            change(&mut row);
            check_description(Some(&row.description))?;
            tx.put_group(&name, &row)?;
            Ok(is_new)
        })
    }

    /// Removes a group with its permissions and memberships.
    pub(crate) fn remove_group(&self, name: &str, origin: &Origin) -> Result<(), Error> {
        let audit = origin.row("org_delete_team", name, &[]);
        let name = name.to_owned();
        self.audited_change(audit, move |tx, _| {
            if !has_group(tx, &name)? {
                return Err(Error::GroupUnknown { name });
            }
            tx.remove_group(&name)?;
            for (user, mut row) in tx.members(&name)? {
                row.groups.retain(|group| *group != name);
                tx.put_user(&user, &row)?;
            }
            Ok(())
        })
    }
}

/// The members of a group: users of the database who were added or whom an identity provider names.
fn members_of(tx: &Rows, group: &str) -> Result<BTreeSet<String>, rows::Error> {
    let federated = tx.federated_users()?.into_iter().filter(|(_, row)| row.groups.iter().any(|known| known == group));
    let mut names: BTreeSet<String> = federated.map(|(name, _)| name).collect();
    names.extend(tx.members(group)?.into_iter().map(|(name, _)| name));
    Ok(names)
}

/// Whether a group has a row or a member.
fn has_group(tx: &Rows, name: &str) -> Result<bool, rows::Error> {
    Ok(tx.group(name)?.is_some() || !members_of(tx, name)?.is_empty())
}

fn check_description(description: Option<&str>) -> Result<(), Error> {
    if description.is_none_or(|text| text.chars().count() <= DESCRIPTION_MAX) {
        return Ok(());
    }
    Err(Error::InvalidPermission { why: format!("a description has at most {DESCRIPTION_MAX} characters") })
}

pub(super) fn check_group_name(name: &str) -> Result<(), Error> {
    let is_long_enough = (1..=GROUP_NAME_MAX).contains(&name.chars().count());
    if is_long_enough && name.trim() == name && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let why = "a group name must have 1 to 255 characters, no control characters, and no spaces at its ends".to_owned();
    Err(Error::InvalidPermission { why })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::identity::accounts::scene;

    #[test]
    fn a_change_of_a_group_tells_whether_it_created_the_group() {
        let (_root, accounts) = scene::accounts();
        for name in ["ann", "bob"] {
            accounts.store_user(name, scene::user());
        }
        let origin = Origin::local();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let add = |users: &[&str]| accounts.set_members("dev", &names(users), true, &origin);
        assert!(matches!(add(&["ann", "dora"]), Err(Error::UserUnknown { name }) if name == "dora"));
        assert!(accounts.members("dev").unwrap().is_empty(), "all or none");
        let change = |is_changed, is_new| MembersChange { is_changed, is_new };
        assert_eq!(add(&["ann", "ann"]).unwrap(), change(true, true));
        assert_eq!(add(&["ann", "bob"]).unwrap(), change(true, false));
        assert_eq!(add(&["bob"]).unwrap(), change(false, false));
        assert_eq!(accounts.members("dev").unwrap(), ["ann", "bob"]);
        // A group without a row exists through its members.
        accounts.remove_group("dev", &origin).unwrap();
        assert!(matches!(accounts.remove_group("dev", &origin), Err(Error::GroupUnknown { .. })));
        add(&["ann"]).unwrap();
        assert!(!accounts.put_group("dev", |_| {}, &origin).unwrap());
        assert!(accounts.put_group("ops", |_| {}, &origin).unwrap());
        assert!(accounts.create_group("ops", |_| {}, &origin).is_err());
        accounts.create_group("new", |row| row.role = Some(Role::Read), &origin).unwrap();
        assert!(accounts.set_member("new", "ann", true, &origin).unwrap());
        assert!(accounts.set_member("new", "ann", false, &origin).unwrap());
        assert!(!accounts.set_member("new", "ann", false, &origin).unwrap());
    }
}
