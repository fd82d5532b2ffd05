//! Groups and their members.

use std::sync::Arc;

use hyper::StatusCode;

use super::call::{choices, mistaken};
use super::route::{encoded, parameter};
use super::{PageCall, users};
use crate::content::rows::{GroupRow as Row, Role};
use crate::http::HandlerResult;
use crate::http::error::ApiError;
use crate::identity::accounts::{DESCRIPTION_MAX, Error};
use crate::web::{Choice, Confirm, GroupList, GroupPage, GroupRow, MemberRow, NewGroupForm, PermittedRow};

/// The place in the menu.
const GROUPS: &str = "/ui/admin/groups";
/// The roles of a group in its namespace, and what members may do.
const ROLES: [(&str, &str, Option<Role>); 4] = [
    ("member", "member: no rights of its own", None),
    ("read", "read: pull", Some(Role::Read)),
    ("write", "write: pull, push and delete", Some(Role::Write)),
    ("admin", "admin: everything, and decide who else may", Some(Role::Admin)),
];

fn url(name: &str) -> String {
    format!("{GROUPS}/{}", encoded(name))
}

fn role_name(role: Option<Role>) -> &'static str {
    role.map_or("member", Role::as_str)
}

fn roles(chosen: &str) -> Vec<Choice> {
    choices(ROLES.map(|(word, text, _)| (word, text)), |word| word == chosen)
}

fn row(name: &str, row: Row, members: usize) -> GroupRow {
    GroupRow { name: name.to_owned(), url: url(name), description: row.description, role: role_name(row.role), members }
}

pub(super) fn list(call: &PageCall<'_>) -> HandlerResult {
    let accounts = call.context.registry.accounts();
    let members = accounts.member_counts()?;
    let groups = accounts.groups()?.into_iter();
    let groups = groups.map(|(name, group)| row(&name, group, members.get(&name).copied().unwrap_or_default()));
    let groups = groups.collect();
    let layout = call.admin_layout("Groups", GROUPS);
    call.render(&GroupList { layout, may_change: call.is_superuser(), groups })
}

/// Creates a group.
pub(super) async fn create(call: &PageCall<'_>) -> HandlerResult {
    let (mut status, mut error) = (StatusCode::OK, None);
    let (name, description) = (call.field("name")?.to_owned(), call.field("description")?.to_owned());
    if call.form.is_some() {
        match put(call, &name, true).await {
            Ok(()) => return call.redirect(&url(&name), Some("group-created")),
            Err(refused) => {
                let (refused, why) = PageCall::mistake(refused)?;
                (status, error) = (refused, Some(why));
            }
        }
    }
    let chosen = if call.form.is_some() { call.field("role")? } else { "write" };
    let layout = call.admin_layout("New group", GROUPS);
    PageCall::render_as(status, &NewGroupForm { layout, error, name, description, roles: roles(chosen) })
}

/// Sets the role and the description of a group, as the form has them. A new group must not exist.
async fn put(call: &PageCall<'_>, name: &str, is_new: bool) -> Result<(), ApiError> {
    let (role, description) = (call.field("role")?, call.field("description")?.to_owned());
    let (_, _, role) = *ROLES.iter().find(|(word, ..)| *word == role).ok_or_else(|| mistaken("choose a role"))?;
    if description.chars().count() > DESCRIPTION_MAX {
        return Err(mistaken(format!("a description has at most {DESCRIPTION_MAX} characters")));
    }
    let change = move |row: &mut Row| (row.role, row.description) = (role, description);
    let (accounts, name, origin) =
        (Arc::clone(call.context.registry.accounts()), name.to_owned(), call.context.origin());
    let put = move || {
        if is_new {
            accounts.create_group(&name, change, &origin)
        } else {
            accounts.put_group(&name, change, &origin).map(drop)
        }
    };
    call.context.blocking(put).await
}

/// Shows a group, changes it, and adds a member.
pub(super) async fn group(call: &PageCall<'_>, name: &str) -> HandlerResult {
    let accounts = call.context.registry.accounts();
    let (mut status, mut error) = (StatusCode::OK, None);
    let (known, members) = (accounts.group(name)?, accounts.members(name)?);
    if known.is_none() && members.is_empty() {
        return Err(Error::GroupUnknown { name: name.to_owned() }.into());
    }
    if call.form.is_some() {
        let (changed, notice) = match call.field("change")? {
            "member" => (add_member(call, name).await, "member-added"),
            _ => (put(call, name, false).await, "group-changed"),
        };
        match changed {
            Ok(()) => return call.redirect(&url(name), Some(notice)),
            Err(refused) => {
                let (refused, why) = PageCall::mistake(refused)?;
                (status, error) = (refused, Some(why));
            }
        }
    }
    let repositories = accounts.permitted_to_group(name)?.into_iter().map(|(repository, role)| PermittedRow {
        url: format!("/ui/r/{repository}"),
        name: repository.to_string(),
        role: role.as_str(),
    });
    let no_settings = || Row { description: String::new(), role: None, created: call.now() };
    let known = known.unwrap_or_else(no_settings);
    let roles = roles(role_name(known.role));
    let member = |user: &String| MemberRow {
        name: user.clone(),
        url: users::url(user),
        remove: format!("{}/-/remove-member?user={}", url(name), parameter(user)),
    };
    let view = GroupPage {
        layout: call.admin_layout(name, GROUPS),
        error,
        may_change: call.is_superuser(),
        group: row(name, known, members.len()),
        roles,
        members: members.iter().map(member).collect(),
        repositories: repositories.collect(),
    };
    PageCall::render_as(status, &view)
}

async fn add_member(call: &PageCall<'_>, group: &str) -> Result<(), ApiError> {
    let (group, user) = (group.to_owned(), call.field("member")?.to_owned());
    let (accounts, origin) = (Arc::clone(call.context.registry.accounts()), call.context.origin());
    call.context.blocking(move || accounts.set_member(&group, &user, true, &origin)).await?;
    Ok(())
}

/// Asks whether to remove a member, and removes it.
pub(super) async fn remove_member(call: &PageCall<'_>, group: &str) -> HandlerResult {
    let user = call.parameter("user")?.to_owned();
    let accounts = call.context.registry.accounts();
    if !accounts.members(group)?.contains(&user) {
        return Err(ApiError::nothing_here());
    }
    let action = format!("{}/-/remove-member?user={}", url(group), parameter(&user));
    if call.form.is_some() {
        let (accounts, name, origin) = (Arc::clone(accounts), group.to_owned(), call.context.origin());
        call.context.blocking(move || accounts.set_member(&name, &user, false, &origin)).await?;
        return call.redirect(&url(group), Some("member-removed"));
    }
    call.render(&Confirm {
        layout: call.admin_layout(format!("Remove {user} from {group}?"), GROUPS),
        error: None,
        paragraphs: vec![format!("{user} loses the rights that the group {group} gives.")],
        typed: None,
        button: "Remove member",
        is_dangerous: true,
        action,
        back: url(group),
    })
}

/// Asks whether to delete a group, and deletes it.
pub(super) async fn delete(call: &PageCall<'_>, name: &str) -> HandlerResult {
    let accounts = call.context.registry.accounts();
    let members = accounts.members(name)?.len();
    if members == 0 && accounts.group(name)?.is_none() {
        return Err(Error::GroupUnknown { name: name.to_owned() }.into());
    }
    if call.form.is_some() {
        let (accounts, name, origin) = (Arc::clone(accounts), name.to_owned(), call.context.origin());
        call.context.blocking(move || accounts.remove_group(&name, &origin)).await?;
        return call.redirect(GROUPS, Some("group-deleted"));
    }
    let members = crate::kit::text::counted(members as u64, "member loses", "members lose");
    call.render(&Confirm {
        layout: call.admin_layout(format!("Delete the group {name}?"), GROUPS),
        error: None,
        paragraphs: vec![
            format!("{members} the rights that the group gives. The users and the repositories stay."),
            "This cannot be undone.".to_owned(),
        ],
        typed: None,
        button: "Delete group",
        is_dangerous: true,
        action: format!("{}/-/delete", url(name)),
        back: url(name),
    })
}
