//! `GET /zot/auth/login` and `GET /zot/auth/callback/<provider>`: signing in through a provider, in a browser.
//!
//! The first sends the browser to the provider, the second finds out who has come back and begins a session. People
//! read what goes wrong, so it is a page.

use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use super::confirm;
use crate::http::error::ApiError;
use crate::http::response::empty;
use crate::http::route::Query;
use crate::http::{Body, Context, cookie, page};
use crate::identity::access::read_cookie;
use crate::identity::accounts::{Account, Accounts, NotAdmitted, Origin, SessionGrant, SessionId};
use crate::identity::providers::{CallbackRequest, Error, ProgramRequest, SignedIn, Target};

/// Sends the browser to a provider.
pub(in crate::http) async fn begin(context: &Context<'_>, query: &Query) -> Result<Response<Body>, ApiError> {
    let providers = context.registry.providers();
    if providers.list().is_empty() {
        return Err(ApiError::nothing_here());
    }
    let (provider, base) = (query.one("provider")?.unwrap_or_default(), context.base_url());
    let challenge = query.one("code_challenge")?;
    // Of the ways of RFC 7636 this is the one that is as good as it looks; it need not be named.
    if challenge.is_some() && query.one("code_challenge_method")?.is_some_and(|method| method != "S256") {
        let why = "The parameter code_challenge_method is S256.";
        return Ok(page::page(StatusCode::BAD_REQUEST, "This link is not right", &[why]));
    }
    let target = match providers.targets().read(query.one("callback_ui")?, challenge, &base) {
        Ok(target) => target,
        Err(invalid) => return Ok(page::page(StatusCode::BAD_REQUEST, "This link is not right", &[invalid.0])),
    };
    match providers.begin(provider, target, &base, context.registry.now()).await {
        Ok(begun) => {
            let mut response = redirect(&begun.location)?;
            response.headers_mut().append(header::SET_COOKIE, context.cookies().sign_in(&begun.cookie));
            Ok(response)
        }
        Err(error) => Ok(refused(context, provider, &error)),
    }
}

/// Whoever comes back from a provider.
pub(in crate::http) async fn callback(
    context: &Context<'_>,
    provider: &str,
    query: &Query,
) -> Result<Response<Body>, ApiError> {
    let providers = context.registry.providers();
    if providers.get(provider).is_none() {
        return Err(ApiError::nothing_here());
    }
    let returned = CallbackRequest {
        provider,
        cookie: read_cookie(context.headers, cookie::SIGN_IN),
        state: query.one("state")?,
        code: query.one("code")?,
        issuer: query.one("iss")?,
        error: query.one("error")?,
        address: context.info.address,
    };
    let outcome = providers.finish(returned, &context.base_url(), context.registry.now()).await;
    let mut response = match outcome {
        Ok((signed_in, target)) => admit(context, signed_in, target).await?,
        Err(error) => refused(context, provider, &error),
    };
    page::quiet(response.headers_mut());
    response.headers_mut().append(header::SET_COOKIE, context.cookies().no_sign_in());
    Ok(response)
}

/// Finds or makes the user, and begins a session; of a program's it is not this browser's.
async fn admit(context: &Context<'_>, signed_in: SignedIn, target: Target) -> Result<Response<Body>, ApiError> {
    let account = match admit_user(context, signed_in).await? {
        Ok(account) => account,
        Err(not_admitted) => return not_admitted_page(&not_admitted),
    };
    let mut response = match target {
        Target::Nothing => empty(StatusCode::CREATED),
        Target::Page(url) => redirect(&url)?,
        Target::Program { redirect, challenge } => {
            let stamp = context.registry.accounts().stamp(&account);
            let question = ProgramRequest { user: account.name.clone(), stamp, redirect, challenge };
            return confirm::ask(context, &account, question);
        }
    };
    let (id, _) = start_session(context, &account).await?;
    let headers = response.headers_mut();
    headers.append(header::SET_COOKIE, context.cookies().session(&id, true));
    headers.append(header::SET_COOKIE, context.cookies().user(&account.name));
    Ok(response)
}

/// The user of whoever has come from a provider.
pub(in crate::http) async fn admit_user(
    context: &Context<'_>,
    signed_in: SignedIn,
) -> Result<Result<Arc<Account>, NotAdmitted>, ApiError> {
    let SignedIn { user, recheck_token } = signed_in;
    let recheck_token = recheck_token.filter(|_| context.registry.rechecks_federated_users());
    let sealed = recheck_token.map(|token| context.registry.seal_recheck_token(&user.issuer, &user.subject, &token));
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.info.origin(None));
    context
        .blocking(move || match accounts.admit(user, sealed, &origin) {
            Ok(account) => Ok(Ok(account)),
            Err(NotAdmitted::Accounts(error)) => Err(error),
            Err(not_admitted) => {
                note(&accounts, &not_admitted, &origin);
                Ok(Err(not_admitted))
            }
        })
        .await
}

/// Starts a session of a user, in place of one that the client had.
pub(in crate::http) async fn start_session(
    context: &Context<'_>,
    account: &Arc<Account>,
) -> Result<(SessionId, SessionGrant), ApiError> {
    let (accounts, account, replaced) =
        (Arc::clone(context.registry.accounts()), Arc::clone(account), context.cookie());
    let origin = context.info.origin(Some(&account.name));
    context.blocking(move || accounts.start_session(&account, replaced.as_ref(), &origin)).await
}

/// Writes down that somebody whom a provider knows was not let in. That it cannot be must not let anybody in.
fn note(accounts: &Accounts, not_admitted: &NotAdmitted, origin: &Origin) {
    // Of somebody disabled that was done already.
    if matches!(not_admitted, NotAdmitted::Disabled { .. }) {
        return;
    }
    if let Err(error) = accounts.note("login_failure", "", origin) {
        tracing::error!(%error, "a failed sign-in could not be written down");
    }
}

fn not_admitted_page(not_admitted: &NotAdmitted) -> Result<Response<Body>, ApiError> {
    let (title, what, next) = why_not_admitted(not_admitted)?;
    Ok(page::page(StatusCode::FORBIDDEN, title, &[&what, next]))
}

/// Why somebody is not let in, and what can be done about it.
pub(in crate::http) fn why_not_admitted(
    not_admitted: &NotAdmitted,
) -> Result<(&'static str, String, &'static str), ApiError> {
    Ok(match not_admitted {
        NotAdmitted::Disabled { name } => (
            "You cannot sign in here",
            format!("The user {name} is disabled in this registry."),
            "Whoever runs the registry can enable it again.",
        ),
        NotAdmitted::NameTaken { name } => (
            "This name belongs to somebody else",
            format!("The provider calls you {name}, and the registry has a user of this name who is not you."),
            "Whoever runs the registry can remove that user, or say by claimMapping.username which other claim names \
             people.",
        ),
        NotAdmitted::InvalidName { name } => (
            "This name cannot be a user's",
            format!(
                "The provider calls you {name}. A user's name here has 1 to 255 letters, digits and the characters \
                 . _ - @ +, and begins with a letter or a digit."
            ),
            "Whoever runs the registry can say by claimMapping.username which other claim names people.",
        ),
        NotAdmitted::Accounts(error) => return Err(ApiError::internal(error)),
    })
}

/// What somebody reads who could not sign in. What is the operator's to know goes to the log.
fn refused(context: &Context<'_>, provider: &str, error: &Error) -> Response<Body> {
    const AGAIN: &str = "Go back to where you began, and sign in once more.";
    /// The provider says them of the registry, and not of whoever signs in (RFC 6749, 4.1.2.1 and 5.2).
    const OURS: [&str; 7] = [
        "invalid_client",
        "invalid_request",
        "invalid_scope",
        "unauthorized_client",
        "unsupported_grant_type",
        "unsupported_response_type",
        "incorrect_client_credentials", // GitHub's
    ];
    let id = context.info.request;
    tracing::warn!(id, provider, %error, "somebody could not sign in through a provider");
    let title = context.registry.providers().get(provider).map_or(provider, |provider| provider.title.as_str());
    let logged = format!("The registry's log says more, under the request {id}.");
    match error {
        Error::Unknown => page::page(
            StatusCode::BAD_REQUEST,
            "There is no such provider",
            &["This link names a provider that the registry does not have."],
        ),
        Error::NotBegun(why) => {
            let why = format!("{}{}.", why[..1].to_uppercase(), &why[1..]);
            page::page(StatusCode::UNAUTHORIZED, "This sign-in does not count", &[&why, AGAIN])
        }
        Error::NoDevice => page::page(
            StatusCode::BAD_REQUEST,
            "The provider has nothing for another device",
            &["Sign in with the browser of the machine that you are at."],
        ),
        Error::Refused { word } if OURS.contains(&word.as_str()) => page::page(
            StatusCode::BAD_GATEWAY,
            "The provider does not accept this registry",
            &[
                &format!("How the registry is registered at {title}, and how it is configured here, do not fit."),
                &logged,
            ],
        ),
        Error::Refused { word } => page::page(
            StatusCode::UNAUTHORIZED,
            "The provider did not let you in",
            &[&format!("{title} says: {word}."), AGAIN],
        ),
        Error::Invalid { .. } => page::page(
            StatusCode::UNAUTHORIZED,
            "The provider's answer does not hold",
            &[&format!("The registry does not believe what came back from {title}."), AGAIN, &logged],
        ),
        Error::Nameless { claim } => page::page(
            StatusCode::UNAUTHORIZED,
            "The provider does not say who you are",
            &[
                &format!("The registry needs the claim {claim} from {title}, and did not get it."),
                "Whoever runs the registry can ask for another scope, or say by claimMapping.username which claim \
                 names people.",
            ],
        ),
        Error::Unverified => page::page(
            StatusCode::FORBIDDEN,
            "Your e-mail address is not verified",
            &[
                &format!("{title} does not know whether the address is yours."),
                "Verify it there, and sign in once more.",
            ],
        ),
        Error::Away { .. } => page::page(
            StatusCode::BAD_GATEWAY,
            "The provider does not answer",
            &[
                &format!("Nobody can sign in through {title} at the moment. API keys work as before."),
                "Try again later.",
                &logged,
            ],
        ),
        Error::Busy { seconds } => {
            let wait = format!("Try again in {seconds} seconds.");
            let mut response =
                page::page(StatusCode::TOO_MANY_REQUESTS, "Too many are signing in at the moment", &[&wait]);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
            response
        }
    }
}

/// Sends a browser on, as zot does.
fn redirect(url: &str) -> Result<Response<Body>, ApiError> {
    let mut response = empty(StatusCode::FOUND);
    let location = HeaderValue::from_str(url).map_err(|_| ApiError::internal("a URL to go to is none"))?;
    response.headers_mut().insert(header::LOCATION, location);
    page::quiet(response.headers_mut());
    Ok(response)
}
