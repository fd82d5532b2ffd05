//! Cookies that the registry sets.

use hyper::header::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::forwarded::Reached;
use super::response::value;
use crate::identity::access::SESSION_COOKIE;
use crate::identity::accounts::SessionId;
use crate::identity::providers::{CONFIRM_LIFETIME, STATE_LIFETIME};
use crate::registry::Shared;

/// What a cookie's value cannot have (RFC 6265, 4.1.1), and the sign of encoding itself. Names of an htpasswd file
/// have whatever its writer likes.
const NOT_IN_VALUE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b',').add(b';').add(b'\\').add(b'%');

/// Whose cookie it is, and how the client has reached it.
pub(super) type Way<'a> = (&'a Shared, Reached<'a>);

/// The cookie of a sign-in under way at a provider, as zot calls it.
pub(super) const SIGN_IN: &str = "statecookie";

/// Keeps a sign-in under way. Lax, since the provider sends the browser back from its own site; for every path, since
/// there are two that one comes back to.
pub(super) fn sign_in(way: Way<'_>, kept: &str) -> HeaderValue {
    let age = STATE_LIFETIME.as_secs();
    value(format!("{SIGN_IN}={kept}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{}", secure(way)))
}

/// Takes that cookie away.
pub(super) fn no_sign_in(way: Way<'_>) -> HeaderValue {
    value(format!("{SIGN_IN}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax{}", secure(way)))
}

/// The cookie of a question that the person is to answer on the registry's own page.
pub(super) const QUESTION: &str = "question";

/// Keeps a question. Strict: nobody answers it but from that page.
pub(super) fn question(way: Way<'_>, kept: &str) -> HeaderValue {
    let age = CONFIRM_LIFETIME.as_secs();
    value(format!("{QUESTION}={kept}; Path=/zot/auth/confirm; Max-Age={age}; HttpOnly; SameSite=Strict{}", secure(way)))
}

/// Takes that cookie away.
pub(super) fn no_question(way: Way<'_>) -> HeaderValue {
    value(format!("{QUESTION}=; Path=/zot/auth/confirm; Max-Age=0; HttpOnly; SameSite=Strict{}", secure(way)))
}

/// The cookie of a session, or of a visitor who may begin one; the latter goes with the browser.
pub(super) fn session(way: Way<'_>, id: &SessionId, signed_in: bool) -> HeaderValue {
    let age = if signed_in { format!("; Max-Age={}", way.0.session_lifetime().as_secs()) } else { String::new() };
    value(format!("{SESSION_COOKIE}={}; Path=/{age}; HttpOnly; SameSite=Lax{}", id.reveal(), secure(way)))
}

/// Takes the session's cookie away.
pub(super) fn no_session(way: Way<'_>) -> HeaderValue {
    value(format!("{SESSION_COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax{}", secure(way)))
}

/// The cookie by which zot's web page knows, in script, who is signed in.
pub(super) fn user(way: Way<'_>, name: &str) -> HeaderValue {
    let age = way.0.session_lifetime().as_secs();
    let name = utf8_percent_encode(name, NOT_IN_VALUE);
    value(format!("user={name}; Path=/; Max-Age={age}; SameSite=Lax{}", secure(way)))
}

/// Takes that cookie away.
pub(super) fn no_user(way: Way<'_>) -> HeaderValue {
    value(format!("user=; Path=/; Max-Age=0; SameSite=Lax{}", secure(way)))
}

fn secure((registry, reached): Way<'_>) -> &'static str {
    if reached.is_secure(registry) { "; Secure" } else { "" }
}
