//! `POST /zot/auth/confirm`: whoever has signed in in a browser says whether a program on the same machine is signed in
//! with it. Ours; zot has nothing of the kind.

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use url::Url;

use crate::http::error::ApiError;
use crate::http::page::{self, escaped};
use crate::http::request::RequestBody;
use crate::http::response::empty;
use crate::http::route::Query;
use crate::http::{Body, Context, cookie};
use crate::identity::access::read_cookie;
use crate::identity::accounts::Account;
use crate::identity::providers::{ProgramRequest, SignInCodes};

/// A form has a question and an answer.
const FORM_BYTES_MAX: usize = 16 * 1024;

/// Asks whoever has signed in as this user.
pub(super) fn ask(
    context: &Context<'_>,
    account: &Account,
    question: ProgramRequest,
) -> Result<Response<Body>, ApiError> {
    let providers = context.registry.providers();
    let base = context.base_url();
    let host = base.split_once("://").map_or(base.as_str(), |(_, host)| host);
    let (user, action) = (question.user.clone(), form_action(&question.redirect));
    let asked = SignInCodes::confirm_form(providers.sealer(), question, context.registry.now());
    let markup = format!(
        "<p>A program on this computer, such as <code>coracle login</code>, wants to sign in to <code>{host}</code> as \
         <code>{user}</code>. It can then do there what you can.</p>\
         <p>{owned}</p>\
         <p>Allow it only if you have just started it yourself.</p>\
         {allow}{refuse}",
        host = escaped(host),
        user = escaped(&user),
        owned = owned(context, account)?,
        allow = form(&asked.form, "allow", "Allow"),
        refuse = form(&asked.form, "refuse", "Refuse"),
    );
    let mut response = page::of_markup(StatusCode::OK, "Sign in to a program?", &markup, &action);
    // With `no-referrer`, browsers send `Origin: null` with the form, which is the origin of no page of ours.
    response.headers_mut().insert(page::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response.headers_mut().append(header::SET_COOKIE, context.cookies().question(&asked.cookie));
    Ok(response)
}

/// What the user owns, or why nothing, as markup.
fn owned(context: &Context<'_>, account: &Account) -> Result<String, ApiError> {
    Ok(match (&account.namespace, context.registry.accounts().namespace_note(account)?) {
        (Some(namespace), _) => format!("Your repositories are <code>{}/…</code>.", escaped(namespace)),
        (None, note) => escaped(&note.unwrap_or_default()),
    })
}

/// One answer.
fn form(question: &str, answer: &str, text: &str) -> String {
    format!(
        "<form method=\"post\" action=\"/zot/auth/confirm\">\
         <input type=\"hidden\" name=\"question\" value=\"{question}\">\
         <input type=\"hidden\" name=\"answer\" value=\"{answer}\"><button type=\"submit\">{text}</button></form>",
        question = escaped(question),
    )
}

/// Where the form may lead, as browsers see it: here, and on to the program. Content Security Policy has no way to
/// write an IPv6 address.
fn form_action(redirect: &str) -> String {
    let origin = Url::parse(redirect).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    if origin.contains('[') { "'self' http:".to_owned() } else { format!("'self' {origin}") }
}

/// Sends the browser on to the program, with a code or without.
pub(in crate::http) async fn answer(context: &Context<'_>, body: &mut RequestBody) -> Result<Response<Body>, ApiError> {
    let providers = context.registry.providers();
    if providers.list().is_empty() {
        return Err(ApiError::nothing_here());
    }
    let bytes = body.read(FORM_BYTES_MAX).await?;
    let form = String::from_utf8_lossy(&bytes);
    let form = Query::form(&form)?;
    let now = context.registry.now();
    let kept = read_cookie(context.headers, cookie::QUESTION);
    let question = form.one("question")?.unwrap_or_default();
    let Some(question) = SignInCodes::confirmed(providers.sealer(), question, kept, now) else {
        let why = "This browser was not asked, or too long ago.";
        return Ok(page::page(StatusCode::FORBIDDEN, "This answer does not count", &[why, "Sign in once more."]));
    };
    let redirect = question.redirect.clone();
    let parameter = if form.one("answer")? == Some("allow") {
        match providers.sign_in_codes().issue(question, now) {
            Ok(code) => ("code", code),
            Err(_too_many) => return Err(ApiError::unavailable("too many programs wait to be signed in")),
        }
    } else {
        ("error", "access_denied".to_owned())
    };
    let mut url = Url::parse(&redirect).map_err(ApiError::internal)?;
    url.query_pairs_mut().append_pair(parameter.0, &parameter.1);
    let mut response = empty(StatusCode::SEE_OTHER);
    let location = HeaderValue::from_str(url.as_str()).map_err(ApiError::internal)?;
    response.headers_mut().insert(header::LOCATION, location);
    response.headers_mut().append(header::SET_COOKIE, context.cookies().no_question());
    page::quiet(response.headers_mut());
    Ok(response)
}
