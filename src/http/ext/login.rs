//! `GET /zot/auth/login` and `GET /zot/auth/callback/<provider>`: sign-in through an identity provider, in a browser.
//!
//! The first sends the browser to the provider. The second verifies the response of the provider and starts a session.
//! Errors are pages, because users read them.

use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use super::confirm;
use crate::http::error::ApiError;
use crate::http::response::{empty, quiet, redirect};
use crate::http::route::Query;
use crate::http::{Body, Context, HandlerResult, cookie, page};
use crate::identity::access::read_cookie;
use crate::identity::accounts::{Account, Accounts, NotAdmitted, Origin};
use crate::identity::providers::{CallbackRequest, Error, ProgramRequest, ProviderSignIn, Target};

/// Sends the browser to an identity provider.
pub(in crate::http) async fn begin(context: &Context<'_>, query: &Query) -> HandlerResult {
    let providers = context.registry.providers();
    if providers.list().is_empty() {
        return Err(ApiError::nothing_here());
    }
    let (provider, base) = (query.one("provider")?.unwrap_or_default(), context.base_url());
    let challenge = query.one("code_challenge")?;
    // Only this method of RFC 7636 keeps the verifier secret. It is the default.
    if challenge.is_some() && query.one("code_challenge_method")?.is_some_and(|method| method != "S256") {
        return Ok(invalid_link("The parameter code_challenge_method must be S256."));
    }
    let target = match providers.targets().read(query.one("callback_ui")?, challenge, &base) {
        Ok(target) => target,
        Err(invalid) => return Ok(invalid_link(invalid.0)),
    };
    match providers.start(provider, target, &base, context.registry.now()).await {
        Ok(begun) => {
            let mut response = redirect(StatusCode::FOUND, &begun.location)?;
            response.headers_mut().append(header::SET_COOKIE, context.cookies().sign_in(&begun.cookie));
            Ok(response)
        }
        Err(error) => Ok(refused(context, provider, &error)),
    }
}

/// Serves a browser that comes back from an identity provider.
pub(in crate::http) async fn callback(context: &Context<'_>, provider: &str, query: &Query) -> HandlerResult {
    let providers = context.registry.providers();
    if providers.get(provider).is_none() {
        return Err(ApiError::nothing_here());
    }
    let returned = CallbackRequest {
        provider,
        cookie: read_cookie(context.info.headers, cookie::SIGN_IN),
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
    quiet(response.headers_mut());
    response.headers_mut().append(header::SET_COOKIE, context.cookies().no_sign_in());
    Ok(response)
}

/// Finds or creates the user and starts a session. If a program signs in, the user must confirm that first.
async fn admit(context: &Context<'_>, signed_in: ProviderSignIn, target: Target) -> HandlerResult {
    let account = match admit_user(context, signed_in).await? {
        Ok(account) => account,
        Err(not_admitted) => return not_admitted_page(&not_admitted),
    };
    let mut response = match target {
        Target::Nothing => empty(StatusCode::CREATED),
        Target::Page(url) => redirect(StatusCode::FOUND, &url)?,
        Target::Program { redirect, challenge } => {
            let stamp = context.registry.accounts().stamp(&account);
            let request = ProgramRequest { user: account.name.clone(), stamp, redirect, challenge };
            return confirm::ask(context, &account, request);
        }
    };
    let (id, _) = context.start_session(&account).await?;
    let headers = response.headers_mut();
    headers.append(header::SET_COOKIE, context.cookies().session(&id, true));
    headers.append(header::SET_COOKIE, context.cookies().user(&account.name));
    Ok(response)
}

/// Finds or creates the user of a finished sign-in.
pub(in crate::http) async fn admit_user(
    context: &Context<'_>,
    signed_in: ProviderSignIn,
) -> Result<Result<Arc<Account>, NotAdmitted>, ApiError> {
    let ProviderSignIn { user, recheck_token } = signed_in;
    let recheck_token = recheck_token.filter(|_| context.registry.rechecks_federated_users());
    let sealed = recheck_token.map(|token| context.registry.seal_recheck_token(&user.issuer, &user.subject, &token));
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.info.origin(None));
    context
        .blocking(move || match accounts.admit(user, sealed, &origin) {
            Ok(account) => Ok(Ok(account)),
            Err(NotAdmitted::Accounts(error)) => Err(error),
            Err(not_admitted) => {
                audit_failure(&accounts, &not_admitted, &origin);
                Ok(Err(not_admitted))
            }
        })
        .await
}

/// Writes a refused sign-in to the audit log. A failure is only logged: the sign-in is refused all the same.
fn audit_failure(accounts: &Accounts, not_admitted: &NotAdmitted, origin: &Origin) {
    // The sign-in of a disabled user is in the audit log already.
    if matches!(not_admitted, NotAdmitted::Disabled { .. }) {
        return;
    }
    if let Err(error) = accounts.note("login_failure", "", &[], origin) {
        tracing::error!(%error, "a failed sign-in could not be written to the audit log");
    }
}

fn invalid_link(why: &str) -> Response<Body> {
    page::page(StatusCode::BAD_REQUEST, "This link is invalid", &[why])
}

fn not_admitted_page(not_admitted: &NotAdmitted) -> HandlerResult {
    let (title, what, next) = why_not_admitted(not_admitted)?;
    Ok(page::page(StatusCode::FORBIDDEN, title, &[&what, next]))
}

/// Explains why a user is not admitted: a title, the reason, and the way out.
pub(in crate::http) fn why_not_admitted(
    not_admitted: &NotAdmitted,
) -> Result<(&'static str, String, &'static str), ApiError> {
    Ok(match not_admitted {
        NotAdmitted::Disabled { name } => (
            "You cannot sign in",
            format!("The user {name} is disabled in this registry."),
            "The operator of the registry can enable the user.",
        ),
        NotAdmitted::NameTaken { name } => (
            "This user name is taken",
            format!("The provider calls you {name}, and the registry has another user of this name."),
            "The operator of the registry can remove that user, or choose another claim for names with \
             claimMapping.username.",
        ),
        NotAdmitted::InvalidName { name } => (
            "This user name is invalid",
            format!(
                "The provider calls you {name}. A user name has 1 to 255 letters, digits and the characters \
                 . _ - @ + $, and begins with a letter or a digit."
            ),
            "The operator of the registry can choose another claim for names with claimMapping.username.",
        ),
        NotAdmitted::Accounts(error) => return Err(ApiError::internal(error)),
    })
}

/// Makes the page of a failed sign-in. Details for the operator go to the log.
fn refused(context: &Context<'_>, provider: &str, error: &Error) -> Response<Body> {
    const AGAIN: &str = "Go back to where you began, and sign in again.";
    /// Error codes that blame the registry and not the user (RFC 6749, 4.1.2.1 and 5.2).
    const OURS: [&str; 7] = [
        "invalid_client",
        "invalid_request",
        "invalid_scope",
        "unauthorized_client",
        "unsupported_grant_type",
        "unsupported_response_type",
        "incorrect_client_credentials", // GitHub's
    ];
    let (id, providers) = (context.info.request, context.registry.providers());
    let is_logged = providers.log_failure(id, Some(provider), error);
    let title = providers.get(provider).map_or(provider, |provider| provider.title.as_str());
    let logged = format!("The registry's log has details under the request {id}.");
    match error {
        Error::UnknownProvider => page::page(
            StatusCode::BAD_REQUEST,
            "This provider does not exist",
            &["The link names a provider that the registry does not have."],
        ),
        Error::InvalidSignIn(why) => {
            let why = format!("{}{}.", why[..1].to_uppercase(), &why[1..]);
            page::page(StatusCode::UNAUTHORIZED, "This sign-in has expired or is invalid", &[&why, AGAIN])
        }
        Error::NoDeviceFlow => page::page(
            StatusCode::BAD_REQUEST,
            "The provider does not support sign-in with another device",
            &["Sign in with the browser of this computer."],
        ),
        Error::Refused { word } if OURS.contains(&word.as_str()) => page::page(
            StatusCode::BAD_GATEWAY,
            "The provider does not accept this registry",
            &[&format!("The registration of the registry at {title} does not match its configuration."), &logged],
        ),
        Error::Refused { word } => page::page(
            StatusCode::UNAUTHORIZED,
            "The provider refused the sign-in",
            &[&format!("{title} reports: {word}."), AGAIN],
        ),
        Error::Invalid { .. } => page::page(
            StatusCode::UNAUTHORIZED,
            "The provider's response could not be verified",
            &[&format!("The registry could not verify the response of {title}."), AGAIN, &logged],
        ),
        Error::MissingClaim { claim } => page::page(
            StatusCode::UNAUTHORIZED,
            "The provider does not send your name",
            &[
                &format!("The registry needs the claim {claim} from {title}, and did not get it."),
                "The operator of the registry can request another scope, or choose another claim for names with \
                 claimMapping.username.",
            ],
        ),
        Error::UnverifiedEmail => page::page(
            StatusCode::FORBIDDEN,
            "Your e-mail address is not verified",
            &[&format!("{title} has not verified your address."), "Verify it there, and sign in again."],
        ),
        Error::Unavailable { .. } => {
            let broken = format!("Sign-in through {title} does not work now. API keys still work.");
            let mut paragraphs = vec![broken.as_str(), "Try again later."];
            paragraphs.extend(is_logged.then_some(logged.as_str()));
            page::page(StatusCode::BAD_GATEWAY, "The provider does not answer", &paragraphs)
        }
        Error::Busy { seconds } => {
            let wait = format!("Try again in {seconds} seconds.");
            let mut response = page::page(StatusCode::TOO_MANY_REQUESTS, "Too many users are signing in", &[&wait]);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
            response
        }
    }
}
