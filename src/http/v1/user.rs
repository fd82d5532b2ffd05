//! Oneself, and what others may know of one.

use std::sync::Arc;

use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::schema::{Schema, always, anything, boolean, integer, list_of, named, object, one_of, text};
use super::{Call, invalid, read};
use crate::content::rows::AccountRole;
use crate::http::error::ApiError;
use crate::http::request::RequestBody;
use crate::http::response::{empty, json_response};
use crate::http::{Body, Context};
use crate::identity::access::{Access, Action, Actions};
use crate::identity::accounts::{Account, Accounts, FederatedIdentity, Password, UserChange};

pub(super) const EMAIL_MAX: usize = 254;

/// The name of a repository that anybody could make.
const EXAMPLE: &str = "app";

/// The colours of avatars.
const COLORS: [&str; 8] = ["#969696", "#aec7e8", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#17becf"];

#[derive(Deserialize)]
struct ChangeBody {
    password: Option<String>,
    email: Option<String>,
}

pub(super) fn get(context: &Context<'_>) -> Result<Response<Body>, ApiError> {
    let account = context.account()?;
    Ok(json_response(StatusCode::OK, &own_view(context, account)?))
}

pub(super) async fn change(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<Body>, ApiError> {
    let ChangeBody { password, email } = read(body).await?;
    let (password, email) =
        (password.as_deref().map(checked_password).transpose()?, email.map(checked_email).transpose()?);
    let mut change = UserChange { email, ..UserChange::default() };
    if let Some(password) = password {
        change.password = Some(context.hash(password).await?);
    }
    let keeping = context.caller.credential.session().map(|grant| grant.hash);
    let name = context.user()?.to_owned();
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    let changed = context
        .blocking(move || {
            accounts.change_user(&name, change, keeping, &origin)?;
            accounts.account(&name)?.ok_or(crate::identity::accounts::Error::UserUnknown { name })
        })
        .await?;
    Ok(json_response(StatusCode::OK, &own_view(context, &changed)?))
}

pub(super) async fn delete(context: &Context<'_>) -> Result<Response<Body>, ApiError> {
    let account = context.account()?;
    if account.role == AccountRole::Superuser {
        return Err(invalid("a superuser cannot delete themselves: another superuser, or the command line, can"));
    }
    let (accounts, name, origin) = (Arc::clone(context.registry.accounts()), account.name.clone(), context.origin());
    context.blocking(move || accounts.remove_user(&name, &origin)).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) fn public(context: &Context<'_>, call: &Call<'_>) -> Result<Response<Body>, ApiError> {
    let name = call.value();
    let account = context.registry.accounts().account(name)?;
    let account = account.ok_or_else(|| crate::identity::accounts::Error::UserUnknown { name: name.to_owned() })?;
    Ok(json_response(StatusCode::OK, &json!({ "username": account.name, "avatar": avatar(&account.name) })))
}

/// A user as they see themselves. Fields of Quay that coracle has no use for have their constants,
/// since clients read them.
fn own_view(context: &Context<'_>, account: &Account) -> Result<Value, ApiError> {
    let accounts = context.registry.accounts();
    let mut view = json!({
        "anonymous": false,
        "username": account.name,
        "avatar": avatar(&account.name),
        "can_create_repo": can_create(context, account)?,
        "namespace": account.namespace,
        "namespace_note": accounts.namespace_note(account)?,
        "is_me": true,
        "verified": true,
        "email": account.email,
        "logins": logins(account),
        "invoice_email": false,
        "invoice_email_address": null,
        "preferred_namespace": true,
        "tag_expiration_s": context.registry.config().storage.tag_history.as_secs(),
        "prompts": [],
        "company": null,
        "family_name": null,
        "given_name": null,
        "location": null,
        "is_free_account": true,
        "has_password_set": account.federated.is_none(),
        "groups": account.groups,
        "provider": account.federated.as_ref().map(|federated| &federated.provider),
        "organizations": [],
    });
    match account.role {
        AccountRole::Ordinary => {}
        AccountRole::ReadOnlySuperuser => view["global_readonly_super_user"] = true.into(),
        AccountRole::Superuser => view["super_user"] = true.into(),
    }
    Ok(view)
}

/// Whether the caller may make a repository without naming a namespace for it.
fn can_create(context: &Context<'_>, account: &Account) -> Result<bool, ApiError> {
    let Ok(name) = format!("{}/{}", Accounts::default_namespace(account), EXAMPLE).parse() else { return Ok(false) };
    let access = Access::Repository(name, Actions::of(Action::Push));
    Ok(context.registry.decide(context.caller, &access)?.is_ok())
}

/// Where the user comes from, as Quay says it.
fn logins(account: &Account) -> Vec<Value> {
    let login = |federated: &FederatedIdentity| {
        json!({
            "service": federated.provider,
            "service_identifier": federated.issuer,
            "metadata": { "service_username": account.name },
        })
    };
    account.federated.iter().map(login).collect()
}

/// What [`own_view`] makes.
pub(super) fn own_schema() -> Schema {
    let nothing = || text().or_null();
    named(
        "OwnUser",
        object([
            ("anonymous", always(false)),
            ("username", text()),
            ("avatar", avatar_schema()),
            ("can_create_repo", boolean()),
            ("namespace", text().or_null()),
            ("namespace_note", text().or_null()),
            ("is_me", always(true)),
            ("verified", always(true)),
            ("email", text().or_null()),
            ("logins", list_of(anything())),
            ("invoice_email", always(false)),
            ("invoice_email_address", nothing()),
            ("preferred_namespace", always(true)),
            ("tag_expiration_s", integer(0, 315_360_000)),
            ("prompts", list_of(anything())),
            ("company", nothing()),
            ("family_name", nothing()),
            ("given_name", nothing()),
            ("location", nothing()),
            ("is_free_account", always(true)),
            ("has_password_set", boolean()),
            ("provider", text().or_null()),
            ("groups", list_of(text())),
            ("organizations", list_of(anything())),
            ("global_readonly_super_user", always(true).optional()),
            ("super_user", always(true).optional()),
        ]),
    )
}

/// A picture's worth of a name.
pub(super) fn avatar(name: &str) -> Value {
    let hash: [u8; 32] = Sha256::digest(name.to_lowercase()).into();
    let color = COLORS[usize::from(hash[0]) % COLORS.len()];
    json!({ "name": name, "hash": hex::encode(hash), "color": color, "kind": "user" })
}

/// What [`avatar`] makes.
pub(super) fn avatar_schema() -> Schema {
    named(
        "Avatar",
        object([
            ("name", text()),
            ("hash", text().pattern("^[0-9a-f]{64}$")),
            ("color", one_of(COLORS)),
            ("kind", one_of(["user"])),
        ]),
    )
}

/// A password that somebody chose.
pub(super) fn checked_password(text: &str) -> Result<Password, ApiError> {
    // Quay's words.
    let why = "Invalid password, password must be at least 8 characters and contain no whitespace.";
    Password::chosen(text).map_err(|_| invalid(why))
}

/// An address that could be one.
pub(super) fn checked_email(text: String) -> Result<String, ApiError> {
    let valid = text.chars().count() <= EMAIL_MAX
        && text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty())
        && !text.chars().any(|c| c.is_control() || c.is_whitespace());
    if valid { Ok(text) } else { Err(invalid("the email address is not one")) }
}
