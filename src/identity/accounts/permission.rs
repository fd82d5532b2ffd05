//! Who may do what in a repository: permissions of users and groups, and what was said about it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Account, Accounts, Actions, Error, Origin};
use crate::content::rows::{Grantee, GroupRow, Role, Rows, SettingsRow};
use crate::oci::RepositoryName;

/// The longest description of a repository or a group, in characters.
pub(crate) const DESCRIPTION_MAX: usize = 4096;
/// The longest name of a group, in characters.
const GROUP_NAME_MAX: usize = 255;
/// As many users and groups can have a permission of their own in one repository.
const PERMISSIONS_MAX: usize = 1000;

/// Everything the database says about who may do what in one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Permissions {
    /// Whether everybody may pull.
    pub(crate) public: bool,
    /// By name, sorted.
    pub(crate) users: Vec<(String, Role)>,
    /// By name, sorted.
    pub(crate) groups: Vec<(String, Role)>,
    /// What the members of the group with the name of the namespace may do in it.
    pub(crate) namespace: Option<Role>,
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
    /// Who may do what in a repository.
    pub(crate) fn permissions(&self, repository: &RepositoryName) -> Result<Arc<Permissions>, Error> {
        let generation = self.generation();
        if let Some(known) = self.remembered.permissions.get(repository.as_str(), generation) {
            return Ok(known);
        }
        let permissions = self.database.read(|tx| {
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
            Ok::<_, Error>(permissions)
        })?;
        let permissions = Arc::new(permissions);
        self.remembered.permissions.put(repository.as_str().to_owned(), generation, Arc::clone(&permissions));
        Ok(permissions)
    }

    /// Whether anonymous callers may pull from any repository that the database names.
    pub(crate) fn has_public_repositories(&self) -> Result<bool, Error> {
        let generation = self.generation();
        if let Some(known) = self.remembered.has_public.get(&(), generation) {
            return Ok(known);
        }
        let has_public = self.database.read(Rows::has_public_repositories)?;
        self.remembered.has_public.put((), generation, has_public);
        Ok(has_public)
    }

    /// The repositories that the database names for a user, for their groups, or for everybody.
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

    /// What somebody has said about a repository.
    pub(crate) fn repository_settings(&self, repository: &RepositoryName) -> Result<SettingsRow, Error> {
        Ok(self.database.read(|tx| tx.settings(repository))?.unwrap_or_default())
    }

    /// Says something about a repository.
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
        let (repository, now) = (repository.clone(), self.clock.now());
        self.change(move |tx| {
            let mut row = tx.settings(&repository)?.unwrap_or_default();
            row.public = public.unwrap_or(row.public);
            row.description = description.unwrap_or(row.description);
            tx.put_settings(&repository, &row)?;
            Ok(tx.add_audit(now, &audit)?)
        })
    }

    /// Notes that a repository was made, and forgets what was known of it before.
    pub(crate) fn repository_made(&self, repository: &RepositoryName, origin: &Origin) -> Result<(), Error> {
        let audit = origin.repository_row("create_repo", repository, &[]);
        let now = self.clock.now();
        self.change(move |tx| Ok(tx.add_audit(now, &audit)?))
    }

    /// Forgets who may do what in a repository, and what was said about it.
    pub(crate) fn forget_repository(&self, repository: &RepositoryName, origin: &Origin) -> Result<(), Error> {
        let audit = origin.repository_row("delete_repo", repository, &[]);
        let (repository, now) = (repository.clone(), self.clock.now());
        self.change(move |tx| {
            tx.remove_settings(&repository)?;
            Ok(tx.add_audit(now, &audit)?)
        })
    }

    /// Gives somebody a role in a repository; takes it away without one. Says whether anything changed.
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
            // A user who is gone by now would leave it to the next one of the name.
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

    /// Who is in a group, of the own table, by name: whoever was put into it, and of whom a provider says so.
    pub(crate) fn members(&self, group: &str) -> Result<Vec<String>, Error> {
        let (given, federated) =
            self.database.read(|tx| Ok::<_, Error>((tx.members(group)?, tx.federated_users()?)))?;
        let said = federated.into_iter().filter(|(_, row)| row.groups.iter().any(|known| known == group));
        let names: BTreeSet<String> =
            given.into_iter().map(|(name, _)| name).chain(said.map(|(name, _)| name)).collect();
        Ok(names.into_iter().collect())
    }

    /// Puts somebody into a group, or takes them out; says whether anything changed.
    pub(crate) fn set_member(&self, group: &str, user: &str, is_in: bool, origin: &Origin) -> Result<bool, Error> {
        check_group_name(group)?;
        self.must_be_ours(user)?;
        let kind = if is_in { "org_add_team_member" } else { "org_remove_team_member" };
        let audit = origin.row(kind, user, &[("team", group)]);
        let (group, user, now) = (group.to_owned(), user.to_owned(), self.clock.now());
        self.change(move |tx| {
            let Some(mut row) = tx.user(&user)? else { return Err(Error::UserUnknown { name: user }) };
            match (row.groups.binary_search(&group), is_in) {
                (Ok(_), true) | (Err(_), false) => return Ok(false),
                (Ok(at), false) => drop(row.groups.remove(at)),
                (Err(at), true) => row.groups.insert(at, group),
            }
            tx.put_user(&user, &row)?;
            tx.add_audit(now, &audit)?;
            Ok(true)
        })
    }

    /// The repositories in which a group has a permission.
    pub(crate) fn permitted_to_group(&self, group: &str) -> Result<Vec<(RepositoryName, Role)>, Error> {
        Ok(self.database.read(|tx| tx.permitted(Grantee::Group, group))?)
    }

    /// What is said about a group.
    pub(crate) fn group(&self, name: &str) -> Result<Option<GroupRow>, Error> {
        Ok(self.database.read(|tx| tx.group(name))?)
    }

    /// Every group that something is said about, by name.
    pub(crate) fn groups(&self) -> Result<Vec<(String, GroupRow)>, Error> {
        Ok(self.database.read(Rows::groups)?)
    }

    /// Makes a group, or says something else about one; says whether it is new.
    pub(crate) fn put_group(
        &self,
        name: &str,
        change: impl FnOnce(&mut GroupRow) + Send + 'static,
        origin: &Origin,
    ) -> Result<bool, Error> {
        check_group_name(name)?;
        let audit = origin.row("org_create_team", name, &[]);
        let (name, now) = (name.to_owned(), self.clock.now());
        self.change(move |tx| {
            let known = tx.group(&name)?;
            let is_new = known.is_none();
            let mut row = known.unwrap_or(GroupRow { description: String::new(), role: None, created: now });
            change(&mut row);
            check_description(Some(&row.description))?;
            tx.put_group(&name, &row)?;
            tx.add_audit(now, &audit)?;
            Ok(is_new)
        })
    }

    /// Removes a group, with its permissions and from its members.
    pub(crate) fn remove_group(&self, name: &str, origin: &Origin) -> Result<(), Error> {
        let audit = origin.row("org_delete_team", name, &[]);
        let (name, now) = (name.to_owned(), self.clock.now());
        self.change(move |tx| {
            if tx.group(&name)?.is_none() {
                return Err(Error::GroupUnknown { name });
            }
            tx.remove_group(&name)?;
            for (user, mut row) in tx.members(&name)? {
                row.groups.retain(|group| *group != name);
                tx.put_user(&user, &row)?;
            }
            Ok(tx.add_audit(now, &audit)?)
        })
    }
}

fn check_description(description: Option<&str>) -> Result<(), Error> {
    if description.is_none_or(|text| text.chars().count() <= DESCRIPTION_MAX) {
        return Ok(());
    }
    Err(Error::InvalidPermission { why: format!("a description has at most {DESCRIPTION_MAX} characters") })
}

fn check_group_name(name: &str) -> Result<(), Error> {
    if (1..=GROUP_NAME_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let why = "a group's name has 1 to 255 characters, and no control characters".to_owned();
    Err(Error::InvalidPermission { why })
}
