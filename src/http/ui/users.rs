//! Users, as superusers manage them. Superusers themselves are changed on the command line only, as through API v1.

use std::sync::Arc;

use hyper::StatusCode;

use super::account::{role_badge, source};
use super::call::mistaken;
use super::route::{UserChange as Change, encoded, parameter};
use super::{PageCall, keys};
use crate::content::rows::AccountRole;
use crate::http::error::ApiError;
use crate::http::{HandlerResult, host_of};
use crate::identity::accounts::{Account, Error, NewUser, Password, UserChange};
use crate::kit::text::shell_word;
use crate::web::{Badge, Confirm, Copy, NewUserForm, NextPage, Secret, Tone, UserList, UserPage, UserRow, sentence};

/// The number of users on a page.
const PAGE: usize = 100;
/// The longest email address.
const EMAIL_MAX: usize = 254;
/// The place in the menu.
const USERS: &str = "/ui/admin/users";

/// The path of a user's page.
pub(super) fn url(name: &str) -> String {
    format!("{USERS}/{}", encoded(name))
}

pub(super) fn list(call: &PageCall<'_>) -> HandlerResult {
    let after = call.parameter("after")?;
    let mut users = call.context.registry.accounts().users(after, PAGE + 1)?;
    let has_more = users.len() > PAGE;
    users.truncate(PAGE);
    let next = users.last().filter(|_| has_more).map(|last| format!("{USERS}?after={}", parameter(&last.name)));
    call.render(&UserList {
        layout: call.admin_layout("Users", USERS),
        may_change: call.is_superuser(),
        users: users.iter().map(|account| row(call, account)).collect(),
        pages: NextPage { next, first: (!after.is_empty()).then(|| USERS.to_owned()) },
    })
}

fn row(call: &PageCall<'_>, account: &Account) -> UserRow {
    let mut badges: Vec<Badge> = role_badge(account).into_iter().collect();
    let gone = account.federated.as_ref().is_some_and(|federated| federated.gone);
    badges.push(match (account.disabled, gone) {
        (true, _) => Badge::new("disabled", Tone::Bad),
        (false, true) => Badge::new("removed by the provider", Tone::Warning),
        (false, false) => Badge::new("enabled", Tone::Good),
    });
    if account.also_in_file {
        badges.push(Badge::new("also in the htpasswd file", Tone::Warning));
    }
    UserRow {
        name: account.name.clone(),
        url: url(&account.name),
        email: account.email.clone(),
        badges,
        source: source(call, account),
        groups: account.groups.clone(),
    }
}

/// The user, who must exist.
fn known(call: &PageCall<'_>, name: &str) -> Result<Arc<Account>, ApiError> {
    let account = call.context.registry.accounts().account(name)?;
    Ok(account.ok_or_else(|| Error::UserUnknown { name: name.to_owned() })?)
}

/// Why the pages cannot change a user.
fn fixed(account: &Account) -> Option<&'static str> {
    if account.role == AccountRole::Superuser {
        return Some("Only the command line can change superusers: coracle user --help.");
    }
    account.is_in_file().then_some("This user is in the htpasswd file. Change the file to change the user.")
}

/// Shows a user, and changes the user's groups.
pub(super) async fn user(call: &PageCall<'_>, name: &str) -> HandlerResult {
    let account = known(call, name)?;
    let (mut status, mut error) = (StatusCode::OK, None);
    if call.form.is_some() {
        let groups: Vec<String> =
            call.field("groups")?.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        let change = UserChange { groups: Some(groups), ..UserChange::default() };
        match change_user(call, &account, change).await {
            Ok(()) => return call.redirect(&url(name), Some("user-changed")),
            Err(refused) => {
                let (refused, why) = PageCall::mistake(refused)?;
                (status, error) = (refused, Some(why));
            }
        }
    }
    let accounts = call.context.registry.accounts();
    let view = UserPage {
        layout: call.admin_layout(name, USERS),
        error,
        may_change: call.is_superuser(),
        fixed: fixed(&account),
        is_disabled: account.disabled,
        has_password: account.federated.is_none() && !account.is_in_file(),
        namespace: account.namespace.clone(),
        namespace_note: accounts.namespace_note(&account)?.map(|note| sentence(&note)),
        created: account.created.map(|at| call.time(at)),
        groups: account.groups.iter().fold(String::new(), |lines, group| lines + group + "\n"),
        keys: accounts.keys(Some(name))?.into_iter().map(|key| keys::row(call, key, false)).collect(),
        sessions: accounts.sessions(name)?.len(),
        user: row(call, &account),
    };
    PageCall::render_as(status, &view)
}

async fn change_user(call: &PageCall<'_>, account: &Account, change: UserChange) -> Result<(), ApiError> {
    if let Some(why) = fixed(account) {
        return Err(mistaken(why));
    }
    let (accounts, name) = (Arc::clone(call.context.registry.accounts()), account.name.clone());
    let origin = call.context.origin();
    call.context.blocking(move || accounts.change_user(&name, change, None, &origin)).await
}

/// Creates a user with a generated password, which is shown once.
pub(super) async fn create(call: &PageCall<'_>) -> HandlerResult {
    let (mut status, mut error) = (StatusCode::OK, None);
    let (name, email) = (call.field("name")?.to_owned(), call.field("email")?.to_owned());
    if call.form.is_some() {
        match create_user(call, &name, &email).await {
            Ok(password) => return secret(call, "The user is created", &name, &password),
            Err(refused) => {
                let (refused, why) = PageCall::mistake(refused)?;
                (status, error) = (refused, Some(why));
            }
        }
    }
    PageCall::render_as(status, &NewUserForm { layout: call.admin_layout("New user", USERS), error, name, email })
}

async fn create_user(call: &PageCall<'_>, name: &str, email: &str) -> Result<Password, ApiError> {
    let is_email = email.chars().count() <= EMAIL_MAX
        && email.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty())
        && !email.chars().any(|c| c.is_control() || c.is_whitespace());
    if !email.is_empty() && !is_email {
        return Err(mistaken("the email address is not one"));
    }
    let password = Password::generate();
    let new = NewUser {
        name: name.to_owned(),
        password: call.context.hash(password.clone()).await?,
        role: AccountRole::Ordinary,
        groups: Vec::new(),
        email: Some(email.to_owned()).filter(|email| !email.is_empty()),
        namespace: None,
    };
    let (accounts, origin) = (Arc::clone(call.context.registry.accounts()), call.context.origin());
    call.context.blocking(move || accounts.add_user(new, &origin)).await?;
    Ok(password)
}

/// Shows a new password.
fn secret(call: &PageCall<'_>, title: &str, user: &str, password: &Password) -> HandlerResult {
    let base = call.context.base_url();
    call.render(&Secret {
        layout: call.admin_layout(title, USERS),
        warning: None,
        what: "password",
        shown: Copy::new(format!("Password of {user}"), password.reveal()),
        commands: vec![
            Copy::new("Where the user signs in", format!("{base}/ui/sign-in")),
            Copy::new(
                "Sign in with Docker",
                format!("docker login --username {} {}", shell_word(user), host_of(&base)),
            ),
        ],
        back: url(user),
    })
}

/// Asks whether to change a user, and changes the user.
pub(super) async fn change(call: &PageCall<'_>, name: &str, change: Change) -> HandlerResult {
    let account = known(call, name)?;
    let mut error = fixed(&account).map(str::to_owned);
    let mut status = if error.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    if call.form.is_some() && error.is_none() {
        match perform(call, &account, change).await {
            Ok(answer) => return answer,
            Err(refused) => {
                let (refused, why) = PageCall::mistake(refused)?;
                (status, error) = (refused, Some(why));
            }
        }
    }
    let (title, button, word, text) = match change {
        Change::Enable => {
            ("Enable", "Enable user", "enable", "Passwords, API keys and sessions of the user work again.")
        }
        Change::Disable => (
            "Disable",
            "Disable user",
            "disable",
            "Passwords, API keys and sessions of the user are refused from now on. Repositories stay. You can enable the user again.",
        ),
        Change::ResetPassword => (
            "Reset the password of",
            "Reset password",
            "reset-password",
            "The registry generates a new password and shows it once. The sessions of the user end. API keys stay valid.",
        ),
        Change::Delete => (
            "Delete",
            "Delete user",
            "delete",
            "The user is removed with all API keys, sessions and roles. Repositories stay. This cannot be undone.",
        ),
    };
    let view = Confirm {
        layout: call.admin_layout(format!("{title} {name}?"), USERS),
        error,
        paragraphs: vec![text.to_owned()],
        typed: (change == Change::Delete).then(|| name.to_owned()),
        button,
        is_dangerous: matches!(change, Change::Delete | Change::Disable),
        action: format!("{}/-/{word}", url(name)),
        back: url(name),
    };
    PageCall::render_as(status, &view)
}

async fn perform(call: &PageCall<'_>, account: &Account, change: Change) -> Result<HandlerResult, ApiError> {
    let back = url(&account.name);
    Ok(match change {
        Change::Enable | Change::Disable => {
            let disabled = change == Change::Disable;
            change_user(call, account, UserChange { disabled: Some(disabled), ..UserChange::default() }).await?;
            call.redirect(&back, Some(if disabled { "user-disabled" } else { "user-enabled" }))
        }
        Change::ResetPassword => {
            let password = Password::generate();
            let hash = call.context.hash(password.clone()).await?;
            change_user(call, account, UserChange { password: Some(hash), ..UserChange::default() }).await?;
            secret(call, "The password is changed", &account.name, &password)
        }
        Change::Delete => {
            if call.field("typed")? != account.name {
                return Err(mistaken("the name that you typed is another one"));
            }
            let (accounts, name, origin) =
                (Arc::clone(call.context.registry.accounts()), account.name.clone(), call.context.origin());
            call.context.blocking(move || accounts.remove_user(&name, &origin)).await?;
            call.redirect(USERS, Some("user-deleted"))
        }
    })
}
