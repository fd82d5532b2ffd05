//! `POST /zot/auth/confirm`: a user who has signed in with a browser allows a program on the same computer to sign in.
//! zot has no such route.

use hyper::StatusCode;
use hyper::header;
use url::Url;

use crate::http::error::ApiError;
use crate::http::page;
use crate::http::request::RequestBody;
use crate::http::response::redirect;
use crate::http::route::Query;
use crate::http::{Context, HandlerResult, cookie, host_of};
use crate::identity::access::read_cookie;
use crate::identity::accounts::Account;
use crate::identity::providers::{ProgramRequest, SignInCodes};
use crate::web::{ConfirmProgram, Layout};

/// The largest form. It has a question and an answer.
const FORM_BYTES_MAX: usize = 16 * 1024;

/// Asks the user whether the program may sign in.
pub(super) fn ask(context: &Context<'_>, account: &Account, question: ProgramRequest) -> HandlerResult {
    let providers = context.registry.providers();
    let base = context.base_url();
    let (user, action) = (question.user.clone(), form_action(&question.redirect));
    let asked = SignInCodes::confirm_form(providers.sealer(), question, context.registry.now());
    let (namespace, namespace_note) = match &account.namespace {
        Some(namespace) => (Some(namespace.clone()), None),
        None => (None, context.registry.accounts().own_namespace_note(account)?),
    };
    let view = ConfirmProgram {
        layout: Layout::plain("Sign in to a program?"),
        host: host_of(&base).to_owned(),
        user,
        namespace,
        namespace_note,
        question: asked.form,
    };
    let mut response = page::rendered(StatusCode::OK, &view, page::Rights::FormsTo(&action))?;
    response.headers_mut().append(header::SET_COOKIE, context.cookies().question(&asked.cookie));
    Ok(response)
}

/// The targets of the form: the registry, and the program that the registry redirects to. Content Security Policy cannot
/// express an IPv6 address.
fn form_action(redirect: &str) -> String {
    let origin = Url::parse(redirect).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    if origin.contains('[') { "'self' http:".to_owned() } else { format!("'self' {origin}") }
}

/// Sends the browser to the program, with a code or an error.
pub(in crate::http) async fn answer(context: &Context<'_>, body: &mut RequestBody) -> HandlerResult {
    let providers = context.registry.providers();
    if providers.list().is_empty() {
        return Err(ApiError::nothing_here());
    }
    let bytes = body.read(FORM_BYTES_MAX).await?;
    let form = String::from_utf8_lossy(&bytes);
    let form = Query::form(&form)?;
    let now = context.registry.now();
    let kept = read_cookie(context.info.headers, cookie::QUESTION);
    let question = form.one("question")?.unwrap_or_default();
    let Some(question) = SignInCodes::confirmed(providers.sealer(), question, kept, now) else {
        let why = "This question has expired, or was asked in another browser.";
        return Ok(page::page(StatusCode::FORBIDDEN, "This answer is invalid", &[why, "Sign in again."]));
    };
    let destination = question.redirect.clone();
    let parameter = if form.one("answer")? == Some("allow") {
        match providers.sign_in_codes().issue(question, now) {
            Ok(code) => ("code", code),
            Err(_too_many) => return Err(ApiError::unavailable("too many programs are signing in")),
        }
    } else {
        ("error", "access_denied".to_owned())
    };
    let mut url = Url::parse(&destination).map_err(ApiError::internal)?;
    url.query_pairs_mut().append_pair(parameter.0, &parameter.1);
    let mut response = redirect(StatusCode::SEE_OTHER, url.as_str())?;
    response.headers_mut().append(header::SET_COOKIE, context.cookies().no_question());
    Ok(response)
}
