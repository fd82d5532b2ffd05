//! Groups and their members. Quay calls them teams, and puts an organization around them.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::NoContent;
use super::endpoint::{Endpoint, delete, future, get, put, sync};
use super::input::{Call, NoQuery, invalid};
use super::permission::RoleName;
use super::values::{Always, Avatar, GroupName, Kind, UserName};
use crate::content::rows::{GroupRow, Role};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::identity::access::Requires;
use crate::identity::accounts::{DESCRIPTION_MAX, Error};
use crate::oci::ErrorCode;

/// The endpoints of this file.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/group/", Requires::SuperuserRead, &sync(list_groups))
        .named("listGroups", "List the groups that have a description or a role"),
    put("/api/v1/group/{group}", Requires::FreshSuperuser, &future(set_group))
        .named("updateGroup", "Create a group, or change the role of its members in <group>/…"),
    delete("/api/v1/group/{group}", Requires::Superuser, &future(remove_group))
        .named("deleteGroup", "Delete a group, with its roles and memberships"),
    get("/api/v1/group/{group}/members", Requires::SuperuserRead, &sync(list_members))
        .named("getGroupMembers", "List the members of a group"),
    put("/api/v1/group/{group}/members/{membername}", Requires::FreshSuperuser, &future(add_member))
        .named("updateGroupMember", "Add a user to a group"),
    delete("/api/v1/group/{group}/members/{membername}", Requires::Superuser, &future(remove_member))
        .named("deleteGroupMember", "Remove a user from a group"),
    get("/api/v1/group/{group}/permissions", Requires::SuperuserRead, &sync(list_group_permissions))
        .named("getGroupPermissions", "List the repositories in which a group has a role"),
];

/// The role of a group in its namespace, `<group>/…`. A member of a group with the role `member` has no rights there.
#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(inline, rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
enum NamespaceRole {
    Member,
    Read,
    Write,
    Admin,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Group {
    name: String,
    description: String,
    #[schemars(with = "NamespaceRole")]
    role: &'static str,
    avatar: Avatar,
}

impl Group {
    fn of(name: &str, row: GroupRow) -> Self {
        Self {
            name: name.to_owned(),
            description: row.description,
            role: row.role.map_or("member", Role::as_str),
            avatar: Avatar::of(name),
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct Groups {
    groups: Vec<GroupInList>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct GroupInList {
    #[serde(flatten)]
    group: Group,
    member_count: usize,
}

fn list_groups(context: &Context<'_>, _: Call) -> Result<Groups, ApiError> {
    let accounts = context.registry.accounts();
    let mut groups = Vec::new();
    for (name, row) in accounts.groups()? {
        let member_count = accounts.members(&name)?.len();
        groups.push(GroupInList { group: Group::of(&name, row), member_count });
    }
    Ok(Groups { groups })
}

/// Unknown fields are refused: a misspelt field must not leave a group its role.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetGroupBody {
    #[schemars(with = "Option<NamespaceRole>")]
    role: Option<String>,
    #[schemars(length(max = DESCRIPTION_MAX))]
    description: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ChangedGroup {
    #[serde(flatten)]
    group: Group,
    new_team: bool,
    can_view: Always<true>,
}

async fn set_group(
    context: &Context<'_>,
    call: Call<GroupName, NoQuery, SetGroupBody>,
) -> Result<ChangedGroup, ApiError> {
    let Call { path: GroupName(name), body: SetGroupBody { role, description }, .. } = call;
    let role = match role.as_deref() {
        None => None,
        Some("member") => Some(None),
        Some("read") => Some(Some(Role::Read)),
        Some("write") => Some(Some(Role::Write)),
        Some("admin") => Some(Some(Role::Admin)),
        Some(_) => return Err(invalid("a group's role is member, read, write or admin")),
    };
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    let change = move |row: &mut GroupRow| {
        row.role = role.unwrap_or(row.role);
        row.description = description.unwrap_or_else(|| std::mem::take(&mut row.description));
    };
    let changed = context.blocking(move || {
        let new_team = accounts.put_group(&name, change, &origin)?;
        let row = accounts.group(&name)?.ok_or_else(|| Error::GroupUnknown { name: name.clone() })?;
        Ok::<_, Error>(ChangedGroup { group: Group::of(&name, row), new_team, can_view: Always })
    });
    changed.await
}

async fn remove_group(context: &Context<'_>, call: Call<GroupName>) -> Result<NoContent, ApiError> {
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    context.blocking(move || accounts.remove_group(&call.path.0, &origin)).await?;
    Ok(NoContent)
}

#[derive(Debug, Serialize, JsonSchema)]
struct MemberList {
    name: String,
    members: Vec<Member>,
    can_edit: Always<true>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Member {
    name: String,
    kind: Kind,
    is_robot: Always<false>,
    avatar: Avatar,
    invited: Always<false>,
}

impl Member {
    fn of(name: &str) -> Self {
        Self { name: name.to_owned(), kind: Kind::User, is_robot: Always, avatar: Avatar::of(name), invited: Always }
    }
}

fn list_members(context: &Context<'_>, call: Call<GroupName>) -> Result<MemberList, ApiError> {
    let (accounts, GroupName(name)) = (context.registry.accounts(), call.path);
    let members = accounts.members(&name)?;
    if members.is_empty() && accounts.group(&name)?.is_none() {
        return Err(Error::GroupUnknown { name }.into());
    }
    Ok(MemberList { name, members: members.iter().map(|member| Member::of(member)).collect(), can_edit: Always })
}

async fn add_member(context: &Context<'_>, call: Call<(GroupName, UserName)>) -> Result<Member, ApiError> {
    let (GroupName(group), UserName(user)) = call.path;
    let (accounts, origin, shown) = (Arc::clone(context.registry.accounts()), context.origin(), Member::of(&user));
    context.blocking(move || accounts.set_member(&group, &user, true, &origin)).await?;
    Ok(shown)
}

async fn remove_member(context: &Context<'_>, call: Call<(GroupName, UserName)>) -> Result<NoContent, ApiError> {
    let (GroupName(group), UserName(user)) = call.path;
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    let removed = context.blocking(move || accounts.set_member(&group, &user, false, &origin)).await?;
    let no_member = || ApiError::missing(ErrorCode::Unsupported, "User does not belong to team");
    if removed { Ok(NoContent) } else { Err(no_member()) }
}

#[derive(Debug, Serialize, JsonSchema)]
struct GroupPermissions {
    permissions: Vec<GroupPermission>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct GroupPermission {
    repository: PermittedRepository,
    #[schemars(with = "RoleName")]
    role: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
struct PermittedRepository {
    name: String,
    is_public: bool,
}

fn list_group_permissions(context: &Context<'_>, call: Call<GroupName>) -> Result<GroupPermissions, ApiError> {
    let (accounts, GroupName(group)) = (context.registry.accounts(), call.path);
    let mut permissions = Vec::new();
    for (name, role) in accounts.permitted_to_group(&group)? {
        let is_public = accounts.permissions(&name)?.public;
        let repository = PermittedRepository { name: name.to_string(), is_public };
        permissions.push(GroupPermission { repository, role: role.as_str() });
    }
    if permissions.is_empty() && accounts.group(&group)?.is_none() {
        return Err(Error::GroupUnknown { name: group }.into());
    }
    Ok(GroupPermissions { permissions })
}
