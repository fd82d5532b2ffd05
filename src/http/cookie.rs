//! Cookies that the registry sets.

use hyper::header::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::response::value;
use crate::access::SESSION_COOKIE;
use crate::accounts::SessionId;
use crate::registry::Shared;

/// What a cookie's value cannot have (RFC 6265, 4.1.1), and the sign of encoding itself. Names of an htpasswd file
/// have whatever its writer likes.
const NOT_IN_VALUE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b',').add(b';').add(b'\\').add(b'%');

/// The cookie of a session, or of a visitor who may begin one; the latter goes with the browser.
pub(super) fn session(registry: &Shared, id: &SessionId, signed_in: bool) -> HeaderValue {
    let age = if signed_in { format!("; Max-Age={}", registry.session_lifetime().as_secs()) } else { String::new() };
    value(format!("{SESSION_COOKIE}={}; Path=/{age}; HttpOnly; SameSite=Lax{}", id.reveal(), secure(registry)))
}

/// Takes the session's cookie away.
pub(super) fn no_session(registry: &Shared) -> HeaderValue {
    value(format!("{SESSION_COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax{}", secure(registry)))
}

/// The cookie by which zot's web page knows, in script, who is signed in.
pub(super) fn user(registry: &Shared, name: &str) -> HeaderValue {
    let age = registry.session_lifetime().as_secs();
    let name = utf8_percent_encode(name, NOT_IN_VALUE);
    value(format!("user={name}; Path=/; Max-Age={age}; SameSite=Lax{}", secure(registry)))
}

/// Takes that cookie away.
pub(super) fn no_user(registry: &Shared) -> HeaderValue {
    value(format!("user=; Path=/; Max-Age=0; SameSite=Lax{}", secure(registry)))
}

fn secure(registry: &Shared) -> &'static str {
    if registry.is_https() { "; Secure" } else { "" }
}
