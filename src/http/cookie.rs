//! [`Cookies`]: the cookies that the registry sets.

use hyper::header::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::forwarded::ClientInfo;
use super::response::value;
use crate::identity::access::SESSION_COOKIE;
use crate::identity::accounts::SessionId;
use crate::identity::providers::{CONFIRM_LIFETIME, STATE_LIFETIME};
use crate::registry::Shared;

/// The characters that a cookie's value must not have (RFC 6265, 4.1.1), and `%`. A user name of an htpasswd file may
/// have any of them.
const NOT_IN_VALUE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b',').add(b';').add(b'\\').add(b'%');

/// The cookie of a pending sign-in at a provider. zot uses the same name.
pub(super) const SIGN_IN: &str = "statecookie";
/// The cookie of a question that the user answers on the registry's own page.
pub(super) const QUESTION: &str = "question";

/// `Lax`, because a provider sends the browser back from its own site.
const LAX: &str = "HttpOnly; SameSite=Lax";
/// `Strict`, because only the registry's own page may answer.
const STRICT: &str = "HttpOnly; SameSite=Strict";
/// Scripts of zot's web page read this cookie.
const READABLE: &str = "SameSite=Lax";
/// The only path that needs the answer to a question.
const QUESTION_PATH: &str = "/zot/auth/confirm";

/// Makes cookies for the client of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cookies<'a> {
    pub(super) registry: &'a Shared,
    pub(super) client: ClientInfo<'a>,
}

impl Cookies<'_> {
    /// Sets the cookie of a pending sign-in.
    pub(super) fn sign_in(self, sealed: &str) -> HeaderValue {
        self.cookie(SIGN_IN, sealed, "/", LAX, Some(STATE_LIFETIME.as_secs()))
    }

    /// Removes the cookie of a pending sign-in.
    pub(super) fn no_sign_in(self) -> HeaderValue {
        self.cookie(SIGN_IN, "", "/", LAX, Some(0))
    }

    /// Sets the cookie of a question.
    pub(super) fn question(self, sealed: &str) -> HeaderValue {
        self.cookie(QUESTION, sealed, QUESTION_PATH, STRICT, Some(CONFIRM_LIFETIME.as_secs()))
    }

    /// Removes the cookie of a question.
    pub(super) fn no_question(self) -> HeaderValue {
        self.cookie(QUESTION, "", QUESTION_PATH, STRICT, Some(0))
    }

    /// Sets the session cookie. Before a user has signed in, the cookie ends with the browser's own session.
    pub(super) fn session(self, id: &SessionId, signed_in: bool) -> HeaderValue {
        let age = signed_in.then(|| self.registry.session_lifetime().as_secs());
        self.cookie(SESSION_COOKIE, id.reveal(), "/", LAX, age)
    }

    /// Removes the session cookie.
    pub(super) fn no_session(self) -> HeaderValue {
        self.cookie(SESSION_COOKIE, "", "/", LAX, Some(0))
    }

    /// Sets the cookie that tells scripts of zot's web page the name of the user.
    pub(super) fn user(self, name: &str) -> HeaderValue {
        let name = utf8_percent_encode(name, NOT_IN_VALUE).to_string();
        self.cookie("user", &name, "/", READABLE, Some(self.registry.session_lifetime().as_secs()))
    }

    /// Removes the cookie with the name of the user.
    pub(super) fn no_user(self) -> HeaderValue {
        self.cookie("user", "", "/", READABLE, Some(0))
    }

    /// `max_age` is in seconds.
    fn cookie(self, name: &str, text: &str, path: &str, attributes: &str, max_age: Option<u64>) -> HeaderValue {
        let age = max_age.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
        let secure = if self.client.is_secure(self.registry) { "; Secure" } else { "" };
        value(format!("{name}={text}; Path={path}{age}; {attributes}{secure}"))
    }
}
