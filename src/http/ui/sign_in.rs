//! Sign-in with a password, sign-out, and the password again for pages that need a recent sign-in.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header;

use super::PageCall;
use super::route::{self, parameter};
use crate::http::error::ApiError;
use crate::http::ext::logout::end_session_url;
use crate::http::{HandlerResult, host_of};
use crate::identity::access::Refusal;
use crate::identity::accounts::{Account, NotSignedIn, Password, SignedIn};
use crate::web::{ConfirmPassword, Copy, ProviderLink, SignIn, SignOut, SignedOut};

/// Signs a user in with a password, or shows the ways to sign in.
pub(super) async fn sign_in(call: &PageCall<'_>) -> HandlerResult {
    let given = if call.form.is_some() { call.field("next")? } else { call.parameter("next")? };
    let next = route::next(Some(given));
    if call.form.is_none() {
        // A user who is signed in already needs no form.
        if call.context.caller.account().is_some() {
            return call.redirect(&next, None);
        }
        return sign_in_page(call, next, StatusCode::OK, None);
    }
    let user = call.field("user")?.to_owned();
    let password = call.form.as_ref().map(|form| form.one("password")).transpose()?.flatten().unwrap_or_default();
    match verified(call, &user, password, None).await? {
        Ok(account) => {
            let (id, _) = call.context.start_session(&account).await?;
            let mut response = call.redirect(&next, None)?;
            response.headers_mut().append(header::SET_COOKIE, call.context.cookies().session(&id, true));
            Ok(response)
        }
        Err((status, why)) => sign_in_page(call, next, status, Some(why)),
    }
}

fn sign_in_page(call: &PageCall<'_>, next: String, status: StatusCode, error: Option<String>) -> HandlerResult {
    let base = call.context.base_url();
    let host = host_of(&base);
    let is_open = call.is_open();
    let view = SignIn {
        layout: call.layout("Sign in"),
        is_open,
        has_accounts: !is_open || has_accounts(call)?,
        error,
        user: call.field("user")?.to_owned(),
        providers: call
            .context
            .registry
            .providers()
            .list()
            .iter()
            .map(|one| provider_link(&one.name, &one.title, &next))
            .collect(),
        next,
        commands: vec![
            Copy::new("Command to sign in with Docker", format!("docker login {host}")),
            Copy::new("Command to sign in with Podman", format!("podman login{} {host}", call.podman_option())),
        ],
    };
    PageCall::render_as(status, &view)
}

/// Whether there are users, or another service may know some.
fn has_accounts(call: &PageCall<'_>) -> Result<bool, ApiError> {
    let (accounts, providers) = (call.context.registry.accounts(), call.context.registry.providers());
    let is_elsewhere = accounts.directory_state().is_some() || !providers.list().is_empty();
    Ok(is_elsewhere || !accounts.users("", 1)?.is_empty())
}

/// Asks for the password again, and returns to the page that needs it.
pub(super) async fn confirm_password(call: &PageCall<'_>) -> HandlerResult {
    let account = Arc::clone(call.context.account()?);
    let given = if call.form.is_some() { call.field("next")? } else { call.parameter("next")? };
    let next = route::next(Some(given));
    let (mut status, mut error) = (StatusCode::OK, None);
    if let Some(form) = &call.form {
        let password = form.one("password")?.unwrap_or_default();
        match verified(call, &account.name, password, Some(&account.name)).await? {
            Ok(_) => {
                let grant = call.context.caller.credential.session().ok_or(Refusal::Denied)?;
                let (hash, accounts, origin) =
                    (grant.hash, Arc::clone(call.context.registry.accounts()), call.context.origin());
                call.context.blocking(move || accounts.refresh_session(hash, &origin)).await?;
                return call.redirect(&next, None);
            }
            Err((refused, why)) => (status, error) = (refused, Some(why)),
        }
    }
    let elsewhere = account.federated.as_ref().filter(|_| !account.is_in_directory());
    let provider = elsewhere.map(|federated| {
        let title =
            call.context.registry.providers().get(&federated.provider).map_or("your provider", |one| &one.title);
        provider_link(&federated.provider, title, &next)
    });
    let layout = call.layout("Confirm that it is you");
    PageCall::render_as(status, &ConfirmPassword { layout, error, user: account.name.clone(), next, provider })
}

/// Ends the session.
pub(super) async fn sign_out(call: &PageCall<'_>) -> HandlerResult {
    let context = call.context;
    let user = context.caller.account();
    if call.form.is_none() {
        let user = user.map(|account| account.name.clone());
        return call.render(&SignOut { layout: call.layout("Sign out"), user });
    }
    let mut provider = None;
    if let (Some(grant), Some(account)) = (context.caller.credential.session(), user) {
        let accounts = Arc::clone(context.registry.accounts());
        let (user, this, origin) = (grant.user.clone(), grant.hash, context.origin());
        context.blocking(move || accounts.end_sessions(&user, move |hash, _| *hash == this, &origin)).await?;
        provider = provider_sign_out(call, account).await;
    }
    let mut response = match provider {
        Some(provider) => {
            let mut layout = call.layout("Signed out");
            (layout.user, layout.csrf_token) = (None, String::new());
            call.render(&SignedOut { layout, provider })?
        }
        None => call.redirect("/ui/sign-in", Some("signed-out"))?,
    };
    response.headers_mut().append(header::SET_COOKIE, context.cookies().no_session());
    response.headers_mut().append(header::SET_COOKIE, context.cookies().no_user());
    Ok(response)
}

/// The link that ends the session at the identity provider of a user, if it has one.
async fn provider_sign_out(call: &PageCall<'_>, account: &Account) -> Option<ProviderLink> {
    let path = end_session_url(call.context, account).await?;
    let name = &account.federated.as_ref()?.provider;
    let title = call.context.registry.providers().get(name)?.title.clone();
    Some(ProviderLink { title, path })
}

/// The link that starts a sign-in at a provider and returns to a page.
fn provider_link(name: &str, title: &str, next: &str) -> ProviderLink {
    let path = format!("/zot/auth/login?provider={}&callback_ui={}", parameter(name), parameter(next));
    ProviderLink { title: title.to_owned(), path }
}

/// Verifies a password. The inner error is the status and the text for the user.
async fn verified(
    call: &PageCall<'_>,
    user: &str,
    password: &str,
    performer: Option<&str>,
) -> Result<Result<Arc<Account>, (StatusCode, String)>, ApiError> {
    let accounts = Arc::clone(call.context.registry.accounts());
    let origin = call.context.info.origin(performer);
    let verified = accounts.sign_in(user, Password::new(password), call.context.info.address, || origin.clone()).await;
    match verified {
        Ok(SignedIn { account, .. }) => Ok(Ok(account)),
        Err(NotSignedIn::Wrong) => {
            let why =
                if performer.is_some() { "The password is wrong." } else { "The user name or the password is wrong." };
            Ok(Err((StatusCode::FORBIDDEN, why.to_owned())))
        }
        Err(other) => PageCall::mistake(other.into()).map(Err),
    }
}
