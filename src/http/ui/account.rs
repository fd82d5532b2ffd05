//! The user's own account: overview, rights and password.

use std::sync::Arc;

use hyper::StatusCode;

use super::PageCall;
use super::route::parameter;
use crate::content::rows::AccountRole;
use crate::http::error::ApiError;
use crate::http::{HandlerResult, host_of};
use crate::identity::access::Action;
use crate::identity::accounts::{Account, Error, PASSWORD_MIN, Password, UserChange};
use crate::oci::RepositoryName;
use crate::web::{
    AccessRow, AccountAccess, AccountOverview, Badge, Copy, Explained, GrantRow, NextPage, PasswordForm, Tone, sentence,
};

/// The number of repositories on a page.
const PAGE: usize = 50;

pub(super) fn overview(call: &PageCall<'_>) -> HandlerResult {
    let (account, accounts) = (call.context.account()?, call.context.registry.accounts());
    let note = accounts.own_namespace_note(account)?;
    let base = call.context.base_url();
    let host = host_of(&base);
    let push = |namespace: &String| format!("docker push {host}/{namespace}/app:1");
    let view = AccountOverview {
        layout: call.account_layout("Your account", "/ui/account"),
        name: account.name.clone(),
        role: role_badge(account),
        source: source(call, account),
        email: account.email.clone(),
        groups: account.groups.clone(),
        created: account.created.map(|at| call.time(at)),
        namespace: account.namespace.clone(),
        namespace_note: note.map(|note| sentence(&note)),
        keys: accounts.keys(Some(&account.name))?.len(),
        sessions: accounts.sessions(&account.name)?.len(),
        clients: accounts.refresh_tokens(&account.name)?.len(),
        commands: account.namespace.iter().map(push).map(|text| Copy::new("Command to push an image", text)).collect(),
    };
    call.render(&view)
}

/// The badge of a superuser.
pub(super) fn role_badge(account: &Account) -> Option<Badge> {
    match account.role {
        AccountRole::Ordinary => None,
        AccountRole::Superuser => Some(Badge::new("superuser", Tone::Accent)),
        AccountRole::ReadOnlySuperuser => Some(Badge::new("read-only superuser", Tone::Accent)),
    }
}

/// How a user signs in.
pub(super) fn source(call: &PageCall<'_>, account: &Account) -> String {
    match &account.federated {
        Some(_) if account.is_in_directory() => "password in the LDAP directory".to_owned(),
        Some(federated) => {
            let provider = call.context.registry.providers().get(&federated.provider);
            provider.map_or_else(|| federated.provider.clone(), |provider| provider.title.clone())
        }
        None if account.is_in_file() => "password in the htpasswd file".to_owned(),
        None => "password".to_owned(),
    }
}

/// The user's rights: in the repositories that the user sees, and explained for one that the user names.
pub(super) async fn access(call: &PageCall<'_>) -> HandlerResult {
    let context = call.context;
    let (asked, after) = (call.parameter("repository")?.to_owned(), call.parameter("after")?.to_owned());
    let is_first = after.is_empty();
    let (mut status, mut error, mut explained) = (StatusCode::OK, None, None);
    if !asked.is_empty() {
        match asked.parse::<RepositoryName>() {
            Ok(name) => explained = Some(explain(call, &name)?),
            Err(invalid) => (status, error) = (StatusCode::BAD_REQUEST, Some(sentence(&invalid.to_string()))),
        }
    }
    let view = context.registry.catalog_view(context.caller);
    let page = context.blocking(move || view.page(("", &after), PAGE, false)).await?;
    let mut repositories = Vec::new();
    for name in page.names.iter().filter_map(|name| name.parse::<RepositoryName>().ok()) {
        repositories.push(AccessRow {
            url: format!("/ui/r/{name}"),
            why: format!("/ui/account/access?repository={}", parameter(name.as_str())),
            actions: badges(&context.registry.actions(context.caller, &name)?.list()),
            name: name.to_string(),
        });
    }
    let pages = NextPage {
        next: page.next.map(|next| format!("/ui/account/access?after={}", parameter(&next))),
        first: (!is_first).then(|| "/ui/account/access".to_owned()),
    };
    let layout = call.account_layout("Your rights", "/ui/account/access");
    let view = AccountAccess { layout, repository: asked, error, explained, repositories, pages };
    PageCall::render_as(status, &view)
}

/// Explains the caller's own rights by the decision that access control makes.
fn explain(call: &PageCall<'_>, name: &RepositoryName) -> Result<Explained, ApiError> {
    let explanation = call.context.registry.explain_own(call.context.account()?, name)?;
    let grant =
        |grant: crate::registry::Grant| GrantRow { rule: sentence(&grant.rule), actions: badges(&grant.grants) };
    Ok(Explained {
        repository: name.to_string(),
        actions: badges(&explanation.actions),
        grants: explanation.because.into_iter().map(grant).collect(),
    })
}

/// Actions as badges. Moving a tag goes with a push, and seeing permissions with administering.
fn badges(actions: &[Action]) -> Vec<Badge> {
    if Action::ALL.iter().all(|action| actions.contains(action)) {
        return vec![Badge::new("everything", Tone::Accent)];
    }
    let has = |action: Action| actions.contains(&action);
    let shown = actions.iter().filter_map(|action| match action {
        Action::Update if has(Action::Push) => None,
        Action::Update => Some("move tags"),
        Action::Push if !has(Action::Update) => Some("push new tags"),
        Action::Inspect if has(Action::Administer) => None,
        Action::Inspect => Some("see permissions"),
        Action::Pull | Action::Push | Action::Delete | Action::Administer => Some(action.as_str()),
    });
    shown.map(|text| Badge::new(text, Tone::Plain)).collect()
}

/// Changes the password. The session that changes it goes on.
pub(super) async fn password(call: &PageCall<'_>) -> HandlerResult {
    let account = call.context.account()?;
    let elsewhere = match &account.federated {
        Some(_) if account.is_in_directory() => {
            Some("Your password is in the LDAP directory. Change it there.".to_owned())
        }
        Some(_) => Some(format!("You sign in with {}. Change your password there.", source(call, account))),
        None if account.is_in_file() => {
            Some("Your password is in the operator's htpasswd file. The operator can change it.".to_owned())
        }
        None => None,
    };
    let (mut status, mut error) = (StatusCode::OK, None);
    if let Some(form) = call.form.as_ref().filter(|_| elsewhere.is_none()) {
        let (password, again) = (form.one("password")?.unwrap_or_default(), form.one("again")?.unwrap_or_default());
        let changed = if password == again {
            change_password(call, password).await
        } else {
            Err(super::call::mistaken("the two passwords differ"))
        };
        match changed {
            Ok(()) => return call.redirect("/ui/account", Some("password-changed")),
            Err(refused) => {
                let (refused, why) = PageCall::mistake(refused)?;
                (status, error) = (refused, Some(why));
            }
        }
    }
    let layout = call.account_layout("Password", "/ui/account/password");
    PageCall::render_as(status, &PasswordForm { layout, error, elsewhere, shortest: PASSWORD_MIN })
}

async fn change_password(call: &PageCall<'_>, password: &str) -> Result<(), ApiError> {
    let context = call.context;
    let password = Password::chosen(password).map_err(Error::from)?;
    let change = UserChange { password: Some(context.hash(password).await?), ..UserChange::default() };
    let keeping = context.caller.credential.session().map(|grant| grant.hash);
    let (accounts, name, origin) =
        (Arc::clone(context.registry.accounts()), context.user()?.to_owned(), context.origin());
    context.blocking(move || accounts.change_user(&name, change, keeping, &origin)).await
}
