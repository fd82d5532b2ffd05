//! Users, as superusers manage them.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::NoContent;
use super::endpoint::{Endpoint, delete, future, get, post, put, sync};
use super::input::{Call, NoQuery, invalid};
use super::user::account;
use super::values::{
    Always, Avatar, EMAIL, EMAIL_MAX, Kind, LINE, PASSWORD, Switch, USER_NAME, UserName, WholeNumber, checked_email,
    checked_password,
};
use crate::content::rows::AccountRole;
use crate::http::Context;
use crate::http::error::ApiError;
use crate::identity::access::Requires;
use crate::identity::accounts::{Account, Error, NewUser, PASSWORD_MAX, PASSWORD_MIN, Password, UserChange};

/// The endpoints of this file.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/superuser/users/", Requires::SuperuserRead, &sync(list_users)).named("listAllUsers", "List all users"),
    post("/api/v1/superuser/users/", Requires::FreshSuperuser, &future(create_user))
        .named("createInstallUser", "Create a user with a generated password"),
    get("/api/v1/superuser/users/{username}", Requires::SuperuserRead, &sync(get_any_user))
        .named("getInstallUser", "Get a user"),
    put("/api/v1/superuser/users/{username}", Requires::FreshSuperuser, &future(change_any_user))
        .named("changeInstallUser", "Change a user's password, email address or groups, or disable or enable the user"),
    delete("/api/v1/superuser/users/{username}", Requires::Superuser, &future(delete_any_user))
        .named("deleteInstallUser", "Delete a user, with all API keys and sessions"),
];

/// The number of users on a page: Quay's default and maximum.
const PAGE_MAX: usize = 100;
/// The maximum number of a user's groups, and of characters in the name of a group.
const GROUPS_MAX: usize = 100;
const GROUP_MAX: usize = 255;

/// A user as superusers see them.
#[derive(Debug, Serialize, JsonSchema)]
#[expect(clippy::struct_field_names, reason = "the fields have the names that Quay gives them")]
struct User {
    kind: Kind,
    name: String,
    username: String,
    email: Option<String>,
    verified: Always<true>,
    avatar: Avatar,
    super_user: bool,
    global_readonly_super_user: bool,
    enabled: bool,
    groups: Vec<String>,
    source: String,
}

impl From<&Account> for User {
    fn from(account: &Account) -> Self {
        Self {
            kind: Kind::User,
            name: account.name.clone(),
            username: account.name.clone(),
            email: account.email.clone(),
            verified: Always,
            avatar: Avatar::of(&account.name),
            super_user: account.role == AccountRole::Superuser,
            global_readonly_super_user: account.role == AccountRole::ReadOnlySuperuser,
            enabled: !account.disabled,
            groups: account.groups.clone(),
            source: account.source().to_owned(),
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ListUsersQuery {
    #[schemars(with = "Option<usize>", range(min = 1, max = PAGE_MAX))]
    limit: Option<WholeNumber>,
    /// Whether to list disabled users too. The default is true.
    disabled: Option<Switch>,
    next_page: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Users {
    users: Vec<User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    next_page: Option<String>,
}

fn list_users(context: &Context<'_>, call: Call<(), ListUsersQuery>) -> Result<Users, ApiError> {
    let limit = match call.query.limit {
        None => PAGE_MAX,
        Some(WholeNumber(limit @ 1..=PAGE_MAX)) => limit,
        Some(_) => return Err(invalid("the parameter limit is a number from 1 to 100")),
    };
    let with_disabled = call.query.disabled != Some(Switch(false));
    let after = call.query.next_page.unwrap_or_default();
    let mut users = context.registry.accounts().users(&after, limit + 1)?;
    let has_more = users.len() > limit;
    users.truncate(limit);
    let next_page = users.last().filter(|_| has_more).map(|last| last.name.clone());
    let shown = users.iter().filter(|user| with_disabled || !user.disabled);
    Ok(Users { users: shown.map(User::from).collect(), next_page })
}

#[derive(Debug, Deserialize, JsonSchema)]
struct CreateUserBody {
    #[schemars(regex(pattern = USER_NAME))]
    username: String,
    #[schemars(length(min = 3, max = EMAIL_MAX), regex(pattern = EMAIL))]
    email: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct CreatedUser {
    #[schemars(regex(pattern = USER_NAME))]
    username: String,
    #[schemars(length(min = 3, max = EMAIL_MAX), regex(pattern = EMAIL))]
    email: Option<String>,
    password: String,
}

/// Generates the password and shows it once.
async fn create_user(context: &Context<'_>, call: Call<(), NoQuery, CreateUserBody>) -> Result<CreatedUser, ApiError> {
    let CreateUserBody { username, email } = call.body;
    let email = email.map(checked_email).transpose()?;
    let password = Password::generate();
    let new = NewUser {
        name: username.clone(),
        password: context.hash(password.clone()).await?,
        role: AccountRole::Ordinary,
        groups: Vec::new(),
        email: email.clone(),
        namespace: None,
    };
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    context.blocking(move || accounts.add_user(new, &origin)).await?;
    Ok(CreatedUser { username, email, password: password.reveal().to_owned() })
}

fn get_any_user(context: &Context<'_>, call: Call<UserName>) -> Result<User, ApiError> {
    Ok(User::from(&*account(context, call.path)?))
}

/// Unknown fields are refused: a misspelt field must not leave a user enabled, or in a group.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangeAnyUserBody {
    #[schemars(length(min = PASSWORD_MIN, max = PASSWORD_MAX), regex(pattern = PASSWORD))]
    password: Option<String>,
    #[schemars(length(min = 3, max = EMAIL_MAX), regex(pattern = EMAIL))]
    email: Option<String>,
    enabled: Option<bool>,
    #[schemars(length(max = GROUPS_MAX), inner(length(min = 1, max = GROUP_MAX), regex(pattern = LINE)))]
    groups: Option<Vec<String>>,
}

async fn change_any_user(
    context: &Context<'_>,
    call: Call<UserName, NoQuery, ChangeAnyUserBody>,
) -> Result<User, ApiError> {
    let ChangeAnyUserBody { password, email, enabled, groups } = call.body;
    let account = account(context, call.path)?;
    refuse_superuser(&account, "update")?;
    let is_group =
        |group: &String| (1..=GROUP_MAX).contains(&group.chars().count()) && !group.chars().any(char::is_control);
    if groups.as_ref().is_some_and(|groups| groups.len() > GROUPS_MAX || !groups.iter().all(is_group)) {
        return Err(invalid("a user has at most 100 groups, of 1 to 255 characters each"));
    }
    let password = password.as_deref().map(checked_password).transpose()?;
    let mut change = UserChange {
        password: None,
        email: email.map(checked_email).transpose()?,
        disabled: enabled.map(|enabled| !enabled),
        groups,
        role: None,
    };
    if let Some(password) = password {
        change.password = Some(context.hash(password).await?);
    }
    let (accounts, name) = (Arc::clone(context.registry.accounts()), account.name.clone());
    let origin = context.origin();
    let changed = context
        .blocking(move || {
            accounts.change_user(&name, change, None, &origin)?;
            accounts.account(&name)?.ok_or(Error::UserUnknown { name })
        })
        .await?;
    Ok(User::from(&*changed))
}

async fn delete_any_user(context: &Context<'_>, call: Call<UserName>) -> Result<NoContent, ApiError> {
    let account = account(context, call.path)?;
    refuse_superuser(&account, "delete")?;
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    context.blocking(move || accounts.remove_user(&account.name, &origin)).await?;
    Ok(NoContent)
}

/// Refuses to change a superuser, as Quay does: only the command line may.
fn refuse_superuser(account: &Account, what: &str) -> Result<(), ApiError> {
    if account.role == AccountRole::Superuser { Err(invalid(format!("Cannot {what} a superuser"))) } else { Ok(()) }
}
