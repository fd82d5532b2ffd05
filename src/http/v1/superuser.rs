//! What superusers do with users.

use std::sync::Arc;

use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::schema::{Schema, always, boolean, list_of, named, object, one_of, text};
use super::{Call, invalid, read, user};
use crate::content::rows::AccountRole;
use crate::http::error::ApiError;
use crate::http::request::RequestBody;
use crate::http::response::{empty, json_response};
use crate::http::{Body, Context};
use crate::identity::accounts::{Account, Error, NewUser, Password, UserChange};

/// As many users as Quay shows at once, and at the most.
pub(super) const PAGE_MAX: usize = 100;
/// A user has at most this many groups, and a group this many characters.
pub(super) const GROUPS_MAX: usize = 100;
pub(super) const GROUP_MAX: usize = 255;

#[derive(Deserialize)]
struct NewUserBody {
    username: String,
    email: Option<String>,
}

/// A misspelt field must not leave somebody enabled, or in a group.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    password: Option<String>,
    email: Option<String>,
    enabled: Option<bool>,
    groups: Option<Vec<String>>,
}

pub(super) fn list(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    let limit = match call.query.number("limit")? {
        None => PAGE_MAX,
        Some(limit @ 1..=PAGE_MAX) => limit,
        Some(_) => return Err(invalid("the parameter limit is a number from 1 to 100")),
    };
    let with_disabled = match call.query.one("disabled")? {
        None | Some("true") => true,
        Some("false") => false,
        Some(_) => return Err(invalid("the parameter disabled is true or false")),
    };
    let after = call.query.one("next_page")?.unwrap_or_default();
    let mut users = context.registry.accounts().users(after, limit + 1)?;
    let next = (users.len() > limit).then(|| {
        users.truncate(limit);
        users.last().map(|last| last.name.clone())
    });
    let shown: Vec<Value> = users.iter().filter(|user| with_disabled || !user.disabled).map(view).collect();
    let mut list = json!({ "users": shown });
    if let Some(next) = next.flatten() {
        list["next_page"] = next.into();
    }
    Ok(json_response(StatusCode::OK, &list))
}

/// The password is generated and shown once, so that nobody who makes a user has to think of one.
pub(super) async fn create(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<Body>, ApiError> {
    let NewUserBody { username, email } = read(body).await?;
    let email = email.map(user::checked_email).transpose()?;
    let password = Password::generate();
    let new = NewUser {
        name: username.clone(),
        password: context.hash(password.clone()).await?,
        role: AccountRole::Ordinary,
        groups: Vec::new(),
        email: email.clone(),
    };
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    context.blocking(move || accounts.add_user(new, &origin)).await?;
    let made = json!({ "username": username, "email": email, "password": password.reveal() });
    Ok(json_response(StatusCode::OK, &made))
}

pub(super) fn get(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    Ok(json_response(StatusCode::OK, &view(&*account(context, call.value())?)))
}

pub(super) async fn change(
    context: &Context<'_>,
    call: &Call<'_>,
    body: &mut RequestBody,
) -> Result<Response<Body>, ApiError> {
    let ChangeBody { password, email, enabled, groups } = read(body).await?;
    refuse_superuser(&*account(context, call.value())?, "update")?;
    let in_group =
        |group: &String| (1..=GROUP_MAX).contains(&group.chars().count()) && !group.chars().any(char::is_control);
    if groups.as_ref().is_some_and(|groups| groups.len() > GROUPS_MAX || !groups.iter().all(in_group)) {
        return Err(invalid("a user has at most 100 groups, of 1 to 255 characters each"));
    }
    let password = password.as_deref().map(user::checked_password).transpose()?;
    let mut change = UserChange {
        password: None,
        email: email.map(user::checked_email).transpose()?,
        disabled: enabled.map(|enabled| !enabled),
        groups,
        role: None,
    };
    if let Some(password) = password {
        change.password = Some(context.hash(password).await?);
    }
    let (accounts, name, origin) = (Arc::clone(context.registry.accounts()), call.value().to_owned(), context.origin());
    let changed = context
        .blocking(move || {
            accounts.change_user(&name, change, None, &origin)?;
            accounts.account(&name)?.ok_or(Error::UserUnknown { name })
        })
        .await?;
    Ok(json_response(StatusCode::OK, &view(&changed)))
}

pub(super) async fn delete(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    refuse_superuser(&*account(context, call.value())?, "delete")?;
    let (accounts, name, origin) = (Arc::clone(context.registry.accounts()), call.value().to_owned(), context.origin());
    context.blocking(move || accounts.remove_user(&name, &origin)).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

fn account(context: &Context<'_>, name: &str) -> Result<Arc<Account>, Error> {
    context.registry.accounts().account(name)?.ok_or_else(|| Error::UserUnknown { name: name.to_owned() })
}

/// As in Quay: superusers are the business of the command line.
fn refuse_superuser(account: &Account, what: &str) -> Result<(), ApiError> {
    if account.role == AccountRole::Superuser { Err(invalid(format!("Cannot {what} a superuser"))) } else { Ok(()) }
}

fn view(account: &Account) -> Value {
    json!({
        "kind": "user",
        "name": account.name,
        "username": account.name,
        "email": account.email,
        "verified": true,
        "avatar": user::avatar(&account.name),
        "super_user": account.role == AccountRole::Superuser,
        "global_readonly_super_user": account.role == AccountRole::ReadOnlySuperuser,
        "enabled": !account.disabled,
        "groups": account.groups,
        "source": account.source(),
    })
}

/// What [`view`] makes.
pub(super) fn schema() -> Schema {
    named(
        "User",
        object([
            ("kind", one_of(["user"])),
            ("name", text()),
            ("username", text()),
            ("email", text().or_null()),
            ("verified", always(true)),
            ("avatar", user::avatar_schema()),
            ("super_user", boolean()),
            ("global_readonly_super_user", boolean()),
            ("enabled", boolean()),
            ("groups", list_of(text())),
            ("source", text()),
        ]),
    )
}
