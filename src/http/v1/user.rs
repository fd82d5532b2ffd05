//! The caller's own user, and what other users may know of a user.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::NoContent;
use super::endpoint::{Endpoint, delete, future, get, put, sync};
use super::input::{Call, NoQuery, invalid};
use super::values::{Always, Avatar, EMAIL, EMAIL_MAX, Null, PASSWORD, UserName, checked_email, checked_password};
use crate::content::rows::AccountRole;
use crate::http::Context;
use crate::http::error::ApiError;
use crate::identity::access::{Access, Action, Actions, Requires};
use crate::identity::accounts::{Account, Accounts, Error, FederatedIdentity, PASSWORD_MAX, PASSWORD_MIN, UserChange};

/// The endpoints of this file.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get("/api/v1/user/", Requires::SignedIn, &sync(get_user))
        .named("getLoggedInUser", "Get the user of the credentials"),
    put("/api/v1/user/", Requires::FreshLogin, &future(change_user))
        .named("changeUserDetails", "Change the user's password or email address"),
    delete("/api/v1/user/", Requires::FreshLogin, &future(delete_user))
        .named("deleteCurrentUser", "Delete the user, with all API keys and sessions"),
    get("/api/v1/users/{username}", Requires::SignedIn, &sync(get_public_user))
        .named("getUserInformation", "Get what other users may know of a user"),
];

/// A repository name that any user could create.
const EXAMPLE: &str = "app";

/// A user as they see themselves. Fields of Quay that coracle does not have are constants, because clients read them.
#[derive(Debug, Serialize, JsonSchema)]
struct OwnUser {
    anonymous: Always<false>,
    username: String,
    avatar: Avatar,
    /// Whether the user may create a repository without naming a namespace.
    can_create_repo: bool,
    namespace: Option<String>,
    namespace_note: Option<String>,
    is_me: Always<true>,
    verified: Always<true>,
    email: Option<String>,
    logins: Vec<Login>,
    invoice_email: Always<false>,
    invoice_email_address: Null,
    preferred_namespace: Always<true>,
    /// How long the history of tags is kept, in seconds.
    #[schemars(range(min = 0, max = 315_360_000))]
    tag_expiration_s: u64,
    prompts: Vec<Value>,
    company: Null,
    family_name: Null,
    given_name: Null,
    location: Null,
    is_free_account: Always<true>,
    has_password_set: bool,
    groups: Vec<String>,
    provider: Option<String>,
    organizations: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Always<true>")]
    global_readonly_super_user: Option<Always<true>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Always<true>")]
    super_user: Option<Always<true>>,
}

/// The identity provider of a user, in Quay's shape.
#[derive(Debug, Serialize, JsonSchema)]
struct Login {
    service: String,
    service_identifier: String,
    metadata: LoginMetadata,
}

#[derive(Debug, Serialize, JsonSchema)]
struct LoginMetadata {
    service_username: String,
}

impl OwnUser {
    fn of(context: &Context<'_>, account: &Account) -> Result<Self, ApiError> {
        let login = |federated: &FederatedIdentity| Login {
            service: federated.provider.clone(),
            service_identifier: federated.issuer.clone(),
            metadata: LoginMetadata { service_username: account.name.clone() },
        };
        Ok(Self {
            anonymous: Always,
            username: account.name.clone(),
            avatar: Avatar::of(&account.name),
            can_create_repo: can_create(context, account)?,
            namespace: account.namespace.clone(),
            namespace_note: context.registry.accounts().own_namespace_note(account)?,
            is_me: Always,
            verified: Always,
            email: account.email.clone(),
            logins: account.federated.iter().map(login).collect(),
            invoice_email: Always,
            invoice_email_address: Null,
            preferred_namespace: Always,
            tag_expiration_s: context.registry.config().storage.tag_history.as_secs(),
            prompts: Vec::new(),
            company: Null,
            family_name: Null,
            given_name: Null,
            location: Null,
            is_free_account: Always,
            has_password_set: account.federated.is_none(),
            groups: account.groups.clone(),
            provider: account.federated.as_ref().map(|federated| federated.provider.clone()),
            organizations: Vec::new(),
            global_readonly_super_user: (account.role == AccountRole::ReadOnlySuperuser).then_some(Always),
            super_user: (account.role == AccountRole::Superuser).then_some(Always),
        })
    }
}

fn can_create(context: &Context<'_>, account: &Account) -> Result<bool, ApiError> {
    let Ok(name) = format!("{}/{}", Accounts::default_namespace(account), EXAMPLE).parse() else { return Ok(false) };
    let access = Access::Repository(name, Actions::of(Action::Push));
    Ok(context.registry.decide(context.caller, &access)?.is_ok())
}

fn get_user(context: &Context<'_>, _: Call) -> Result<OwnUser, ApiError> {
    OwnUser::of(context, context.account()?)
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ChangeUserBody {
    #[schemars(length(min = PASSWORD_MIN, max = PASSWORD_MAX), regex(pattern = PASSWORD))]
    password: Option<String>,
    #[schemars(length(min = 3, max = EMAIL_MAX), regex(pattern = EMAIL))]
    email: Option<String>,
}

async fn change_user(context: &Context<'_>, call: Call<(), NoQuery, ChangeUserBody>) -> Result<OwnUser, ApiError> {
    let ChangeUserBody { password, email } = call.body;
    let password = password.as_deref().map(checked_password).transpose()?;
    let mut change = UserChange { email: email.map(checked_email).transpose()?, ..UserChange::default() };
    if let Some(password) = password {
        change.password = Some(context.hash(password).await?);
    }
    let keeping = context.caller.credential.session().map(|grant| grant.hash);
    let name = context.user()?.to_owned();
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    let changed = context
        .blocking(move || {
            accounts.change_user(&name, change, keeping, &origin)?;
            accounts.account(&name)?.ok_or(Error::UserUnknown { name })
        })
        .await?;
    OwnUser::of(context, &changed)
}

async fn delete_user(context: &Context<'_>, _: Call) -> Result<NoContent, ApiError> {
    let account = context.account()?;
    if account.role == AccountRole::Superuser {
        return Err(invalid("a superuser cannot delete themselves: another superuser, or the command line, can"));
    }
    let (accounts, name) = (Arc::clone(context.registry.accounts()), account.name.clone());
    let origin = context.origin();
    context.blocking(move || accounts.remove_user(&name, &origin)).await?;
    Ok(NoContent)
}

#[derive(Debug, Serialize, JsonSchema)]
struct PublicUser {
    username: String,
    avatar: Avatar,
}

fn get_public_user(context: &Context<'_>, call: Call<UserName>) -> Result<PublicUser, ApiError> {
    let account = account(context, call.path)?;
    Ok(PublicUser { username: account.name.clone(), avatar: Avatar::of(&account.name) })
}

/// The account of a user who must exist.
pub(super) fn account(context: &Context<'_>, UserName(name): UserName) -> Result<Arc<Account>, Error> {
    context.registry.accounts().account(&name)?.ok_or(Error::UserUnknown { name })
}
