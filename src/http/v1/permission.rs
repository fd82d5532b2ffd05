//! Roles of users and groups in a repository, as Quay shows them; and what somebody may do, with the
//! reasons.

use std::sync::Arc;

use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::repository::existing;
use super::schema::{Schema, boolean, list_of, named, object, one_of, text};
use super::{Call, invalid, read, user};
use crate::content::rows::{Grantee, Role};
use crate::http::error::ApiError;
use crate::http::request::RequestBody;
use crate::http::response::{empty, json_response};
use crate::http::{Body, Context};
use crate::oci::{ErrorCode, RepositoryName};

#[derive(Deserialize)]
struct RoleBody {
    role: String,
}

pub(super) fn list(context: &Context<'_>, call: &Call<'_>, kind: Grantee) -> Result<Response<Body>, ApiError> {
    let name = call.repository()?;
    existing(context, name)?;
    let entries: Map<String, Value> =
        roles(context, name, kind)?.into_iter().map(|(who, role)| (who.clone(), view(kind, &who, role))).collect();
    Ok(json_response(StatusCode::OK, &json!({ "permissions": entries })))
}

pub(super) fn get(context: &Context<'_>, call: &Call<'_>, kind: Grantee) -> Result<Response<Body>, ApiError> {
    let name = call.repository()?;
    existing(context, name)?;
    let who = call.value();
    let role = roles(context, name, kind)?.into_iter().find(|(known, _)| known == who);
    let (_, role) = role.ok_or_else(|| without(kind, StatusCode::NOT_FOUND))?;
    Ok(json_response(StatusCode::OK, &view(kind, who, role)))
}

pub(super) async fn set(
    context: &Context<'_>,
    call: &Call<'_>,
    kind: Grantee,
    body: &mut RequestBody,
) -> Result<Response<Body>, ApiError> {
    let RoleBody { role } = read(body).await?;
    let role: Role = role.parse()?;
    let (name, who) = (call.repository()?.clone(), call.value().to_owned());
    existing(context, &name)?;
    refuse_owner(context, &name, kind, &who)?;
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    let shown = view(kind, &who, role);
    context.blocking(move || accounts.set_permission(&name, kind, &who, Some(role), &origin)).await?;
    Ok(json_response(StatusCode::OK, &shown))
}

pub(super) async fn remove(context: &Context<'_>, call: &Call<'_>, kind: Grantee) -> Result<Response<Body>, ApiError> {
    let (name, who) = (call.repository()?.clone(), call.value().to_owned());
    existing(context, &name)?;
    refuse_owner(context, &name, kind, &who)?;
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    if context.blocking(move || accounts.set_permission(&name, kind, &who, None, &origin)).await? {
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    // As in Quay: not 404.
    Err(without(kind, StatusCode::BAD_REQUEST))
}

/// Every role that a user has in a repository, by whatever path.
pub(super) fn transitive(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    let name = call.repository()?;
    existing(context, name)?;
    let unknown = || ApiError::missing(ErrorCode::Unsupported, "the user has no role in the repository");
    let explanation = context.registry.roles(call.value(), name)?;
    if explanation.is_empty() {
        return Err(unknown());
    }
    let roles: Vec<Value> = explanation.into_iter().map(|role| json!({ "role": role.as_str() })).collect();
    Ok(json_response(StatusCode::OK, &json!({ "permissions": roles })))
}

/// What somebody may do in a repository, and what says so. Without a user, somebody who has not signed in.
pub(super) fn explain(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    let name = call.query.one("repository")?.ok_or_else(|| invalid("the parameter repository is missing"))?;
    let name: RepositoryName =
        name.parse().map_err(|_| invalid("the parameter repository is not a repository's name"))?;
    let explanation = context.registry.explain(call.query.one("username")?, &name)?;
    Ok(json_response(StatusCode::OK, &explanation.view()))
}

fn roles(context: &Context<'_>, name: &RepositoryName, kind: Grantee) -> Result<Vec<(String, Role)>, ApiError> {
    let permissions = context.registry.accounts().permissions(name)?;
    Ok(match kind {
        Grantee::User => permissions.users.clone(),
        Grantee::Group => permissions.groups.clone(),
    })
}

fn without(kind: Grantee, status: StatusCode) -> ApiError {
    let who = if kind == Grantee::User { "User" } else { "Team" };
    let message = format!("{who} does not have permission for repo.");
    if status == StatusCode::NOT_FOUND { ApiError::missing(ErrorCode::Unsupported, message) } else { invalid(message) }
}

fn refuse_owner(context: &Context<'_>, name: &RepositoryName, kind: Grantee, who: &str) -> Result<(), ApiError> {
    if kind != Grantee::User || name.as_str() == name.namespace() {
        return Ok(());
    }
    let account = context.registry.accounts().account(who)?;
    if account.is_some_and(|account| account.namespace.as_deref() == Some(name.namespace())) {
        return Err(invalid("Namespace owner must always be admin."));
    }
    Ok(())
}

fn view(kind: Grantee, who: &str, role: Role) -> Value {
    match kind {
        Grantee::User => json!({
            "role": role.as_str(), "name": who, "is_robot": false, "avatar": user::avatar(who),
        }),
        Grantee::Group => json!({ "role": role.as_str(), "name": who, "avatar": user::avatar(who) }),
    }
}

/// One of Quay's roles in a repository.
pub(super) fn role_schema() -> Schema {
    one_of(["read", "write", "admin"])
}

/// What is shown of a role.
pub(super) fn schema(kind: Grantee) -> Schema {
    let shown = object([("role", role_schema()), ("name", text()), ("avatar", user::avatar_schema())]);
    match kind {
        Grantee::User => named("UserRole", shown.and("is_robot", boolean())),
        Grantee::Group => named("GroupRole", shown),
    }
}

/// What [`explain`] says.
pub(super) fn explanation_schema() -> Schema {
    let action = || one_of(["pull", "push", "update", "delete", "administer", "inspect"]);
    object([
        ("user", text().or_null()),
        ("repository", text()),
        ("actions", list_of(action())),
        ("because", list_of(object([("grants", list_of(action())), ("rule", text())]))),
        ("namespace", text().or_null()),
        ("namespace_note", text().or_null()),
        ("note", text().or_null()),
    ])
}
