//! Operations on groups: their members, and the role of a group in the namespace of its name.

use serde::{Deserialize, Serialize};

use super::{Call, Failure, Operation};
use crate::content::rows::{GroupRow, Role};
use crate::identity::accounts::{Error, Origin};

/// The role of a group that has none.
const MEMBER: &str = "member";

/// A group and its members.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GroupView {
    pub(crate) name: String,
    /// `member` (no rights), `read`, `write` or `admin` in the namespace of the group's name.
    pub(crate) role: String,
    pub(crate) members: Vec<String>,
}

impl GroupView {
    fn new(call: &Call<'_>, name: String, row: Option<&GroupRow>) -> Result<Self, Error> {
        let members = call.accounts().members(&name)?;
        let role = row.and_then(|row| row.role).map_or(MEMBER, Role::as_str);
        Ok(Self { name, role: role.to_owned(), members })
    }

    fn read(call: &Call<'_>, name: String) -> Result<Self, Failure> {
        let row = call.accounts().group(&name)?;
        Ok(Self::new(call, name, row.as_ref())?)
    }
}

/// A group after a change that creates it if it does not exist.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChangedGroup {
    #[serde(flatten)]
    pub(crate) group: GroupView,
    /// Whether the change created the group.
    pub(crate) created: bool,
}

/// List the groups with their roles and members
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct ListGroups {}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Groups {
    pub(crate) groups: Vec<GroupView>,
}

impl Operation for ListGroups {
    type Answer = Groups;

    fn perform(self, call: &Call<'_>) -> Result<Groups, Failure> {
        let mut rows: std::collections::BTreeMap<_, _> =
            call.accounts().groups()?.into_iter().map(|(name, row)| (name, Some(row))).collect();
        for user in call.accounts().users("", super::user::USERS_MAX)? {
            for group in user.groups {
                rows.entry(group).or_insert(None);
            }
        }
        let groups = rows.into_iter().map(|(name, row)| GroupView::new(call, name, row.as_ref()));
        Ok(Groups { groups: groups.collect::<Result<_, _>>()? })
    }
}

/// Give a group a role in the namespace of its name, such as dev in dev/…
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct SetRole {
    /// The name of the group, which is created if it is new
    group: String,
    /// The rights of the members in the repositories GROUP/…: member has none, read can pull, write can push, admin can
    /// do everything
    #[arg(value_parser = [MEMBER, "read", "write", "admin"])]
    role: String,
}

impl Operation for SetRole {
    type Answer = ChangedGroup;

    fn perform(self, call: &Call<'_>) -> Result<ChangedGroup, Failure> {
        let role = [Role::Read, Role::Write, Role::Admin].into_iter().find(|role| role.as_str() == self.role);
        let created = call.accounts().put_group(&self.group, move |row| row.role = role, &Origin::local())?;
        Ok(ChangedGroup { group: GroupView::read(call, self.group)?, created })
    }
}

/// Add users to a group
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct AddMembers {
    /// The name of the group
    group: String,
    /// The names of the users
    #[arg(required = true)]
    users: Vec<String>,
}

impl Operation for AddMembers {
    type Answer = ChangedGroup;

    fn perform(self, call: &Call<'_>) -> Result<ChangedGroup, Failure> {
        let created = call.accounts().set_members(&self.group, &self.users, true, &Origin::local())?.is_new;
        Ok(ChangedGroup { group: GroupView::read(call, self.group)?, created })
    }
}

/// Remove users from a group
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct RemoveMembers {
    /// The name of the group
    group: String,
    /// The names of the users
    #[arg(required = true)]
    users: Vec<String>,
}

impl Operation for RemoveMembers {
    type Answer = GroupView;

    fn perform(self, call: &Call<'_>) -> Result<GroupView, Failure> {
        call.accounts().set_members(&self.group, &self.users, false, &Origin::local())?;
        GroupView::read(call, self.group)
    }
}

/// Remove a group: its role, its permissions and its members; the users stay
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct RemoveGroup {
    /// The name of the group
    group: String,
}

impl Operation for RemoveGroup {
    type Answer = GroupView;

    fn perform(self, call: &Call<'_>) -> Result<GroupView, Failure> {
        let view = GroupView::read(call, self.group)?;
        call.accounts().remove_group(&view.name, &Origin::local())?;
        Ok(view)
    }
}
