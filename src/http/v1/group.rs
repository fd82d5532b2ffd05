//! Groups and their members: Quay's teams, without an organization around them.

use std::sync::Arc;

use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::schema::{Schema, boolean, integer, list_of, named, object, one_of, text};
use super::{Call, invalid, read, user};
use crate::content::rows::{GroupRow, Role};
use crate::http::error::ApiError;
use crate::http::request::RequestBody;
use crate::http::response::{empty, json_response};
use crate::http::{Body, Context};
use crate::identity::accounts::Error;
use crate::oci::ErrorCode;

/// Quay's word for a group whose members may do nothing by that alone.
const MEMBER: &str = "member";

/// A misspelt field must not leave a group its role.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupBody {
    role: Option<String>,
    description: Option<String>,
}

pub(super) fn list(context: &Context<'_>) -> Result<Response<Body>, ApiError> {
    let accounts = context.registry.accounts();
    let mut groups = Vec::new();
    for (name, row) in accounts.groups()? {
        let mut shown = view(&name, &row);
        shown["member_count"] = accounts.members(&name)?.len().into();
        groups.push(shown);
    }
    Ok(json_response(StatusCode::OK, &json!({ "groups": groups })))
}

pub(super) async fn set(
    context: &Context<'_>,
    call: &Call<'_>,
    body: &mut RequestBody,
) -> Result<Response<Body>, ApiError> {
    let GroupBody { role, description } = read(body).await?;
    let role = match role.as_deref() {
        None => None,
        Some(MEMBER) => Some(None),
        Some("read") => Some(Some(Role::Read)),
        Some("write") => Some(Some(Role::Write)),
        Some("admin") => Some(Some(Role::Admin)),
        Some(_) => return Err(invalid("a group's role is member, read, write or admin")),
    };
    let (accounts, name, origin) = (Arc::clone(context.registry.accounts()), call.value().to_owned(), context.origin());
    let mut shown = context
        .blocking(move || {
            let is_new = accounts.put_group(
                &name,
                move |row| {
                    row.role = role.unwrap_or(row.role);
                    row.description = description.unwrap_or_else(|| std::mem::take(&mut row.description));
                },
                &origin,
            )?;
            let row = accounts.group(&name)?.ok_or_else(|| Error::GroupUnknown { name: name.clone() })?;
            let mut shown = view(&name, &row);
            shown["new_team"] = is_new.into();
            Ok::<_, Error>(shown)
        })
        .await?;
    shown["can_view"] = true.into();
    Ok(json_response(StatusCode::OK, &shown))
}

pub(super) async fn remove(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    let (accounts, name, origin) = (Arc::clone(context.registry.accounts()), call.value().to_owned(), context.origin());
    context.blocking(move || accounts.remove_group(&name, &origin)).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) fn members(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    let name = call.value();
    let members = context.registry.accounts().members(name)?;
    if members.is_empty() && context.registry.accounts().group(name)?.is_none() {
        return Err(Error::GroupUnknown { name: name.to_owned() }.into());
    }
    let members: Vec<Value> = members.iter().map(|member| member_view(member)).collect();
    Ok(json_response(StatusCode::OK, &json!({ "name": name, "members": members, "can_edit": true })))
}

pub(super) async fn set_member(
    context: &Context<'_>,
    call: &Call<'_>,
    is_in: bool,
) -> Result<Response<Body>, ApiError> {
    let [group, member] = call.values else { return Err(ApiError::internal("the path names a group and a user")) };
    let (accounts, group, member) = (Arc::clone(context.registry.accounts()), group.clone(), member.clone());
    let (shown, origin) = (member_view(&member), context.origin());
    let changed = context.blocking(move || accounts.set_member(&group, &member, is_in, &origin)).await?;
    match (is_in, changed) {
        (true, _) => Ok(json_response(StatusCode::OK, &shown)),
        (false, true) => Ok(empty(StatusCode::NO_CONTENT)),
        (false, false) => Err(ApiError::missing(ErrorCode::Unsupported, "User does not belong to team")),
    }
}

pub(super) fn permissions(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    let accounts = context.registry.accounts();
    let mut permissions = Vec::new();
    for (repository, role) in accounts.permitted_to_group(call.value())? {
        let is_public = accounts.permissions(&repository)?.public;
        permissions.push(json!({
            "repository": { "name": repository.as_str(), "is_public": is_public },
            "role": role.as_str(),
        }));
    }
    if permissions.is_empty() && accounts.group(call.value())?.is_none() {
        return Err(Error::GroupUnknown { name: call.value().to_owned() }.into());
    }
    Ok(json_response(StatusCode::OK, &json!({ "permissions": permissions })))
}

fn view(name: &str, row: &GroupRow) -> Value {
    json!({
        "name": name,
        "description": row.description,
        "role": row.role.map_or(MEMBER, Role::as_str),
        "avatar": user::avatar(name),
    })
}

fn member_view(name: &str) -> Value {
    json!({ "name": name, "kind": "user", "is_robot": false, "avatar": user::avatar(name), "invited": false })
}

/// What a group's members may do in `<group>/…`.
pub(super) fn role_schema() -> Schema {
    one_of([MEMBER, "read", "write", "admin"])
}

/// What is shown of a group.
fn schema() -> Schema {
    object([("name", text()), ("description", text()), ("role", role_schema()), ("avatar", user::avatar_schema())])
}

/// What [`list`] shows of a group.
pub(super) fn listed_schema() -> Schema {
    schema().and("member_count", integer(0, u32::MAX as usize))
}

/// What [`set`] shows.
pub(super) fn set_schema() -> Schema {
    schema().and("new_team", boolean()).and("can_view", boolean())
}

/// What is shown of a member.
pub(super) fn member_schema() -> Schema {
    let fields = [
        ("name", text()),
        ("kind", one_of(["user"])),
        ("is_robot", boolean()),
        ("avatar", user::avatar_schema()),
        ("invited", boolean()),
    ];
    named("Member", object(fields))
}

/// What [`permissions`] shows.
pub(super) fn permissions_schema() -> Schema {
    let repository = object([("name", text()), ("is_public", boolean())]);
    object([("permissions", list_of(object([("repository", repository), ("role", super::permission::role_schema())])))])
}
