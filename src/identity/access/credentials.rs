//! [`Credentials`]: parses the credentials in the headers of a request. Looks nothing up.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hyper::HeaderMap;
use hyper::header::{self, HeaderName, HeaderValue};

use crate::content::rows::SecretHash;
use crate::identity::accounts::{PASSWORD_MAX, Password, PlainKey, SessionId};
use crate::kit::opaque_debug::opaque_debug;

/// The longest user name, in bytes.
const USER_NAME_MAX: usize = 255;

/// The cookie that carries a session.
pub(crate) const SESSION_COOKIE: &str = "session";
/// The header of zot's web page. Browsers do not let a form of another site set it.
const API_CLIENT: HeaderName = HeaderName::from_static("x-zot-api-client");

/// Some clients pad, others do not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The conventions of a path: which credentials it accepts and the form of its errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surface {
    /// `/v2/…` and zot's routes: Basic, Bearer, and sessions of zot's web page.
    Registry,
    /// Quay's API: Bearer and sessions.
    ApiV1,
    /// `/ui/…`: sessions only. Errors are pages.
    Pages,
}

/// The credentials of a request.
#[derive(Debug)]
pub(crate) enum Credentials {
    None,
    /// A name and a password (RFC 7617).
    Basic {
        user: String,
        password: Password,
    },
    /// An API key, with the user name if it was sent as a password.
    Key {
        user: Option<String>,
        hash: SecretHash,
    },
    Session(SessionId),
    Token(Token),
    /// A password in the form of a token: of a workload, if the registry accepts such, or else of a user if it is short
    /// enough.
    PasswordOrToken {
        user: String,
        password: Option<Password>,
        token: Token,
    },
}

/// An unverified access token. Does not print.
pub(crate) struct Token(pub(super) String);

opaque_debug!(Token);

impl Token {
    /// The text of the token.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl Credentials {
    /// Whether zot's web page sent the request.
    pub(crate) fn from_page(headers: &HeaderMap) -> bool {
        headers.contains_key(API_CLIENT)
    }

    /// Parses a user name with a password or an API key.
    pub(super) fn of_pair(user: &str, password: &str) -> Result<Self, InvalidCredentials> {
        if user.is_empty() || user.len() > USER_NAME_MAX || user.chars().any(char::is_control) {
            return Err(InvalidCredentials("a user name has 1 to 255 characters, and no control characters"));
        }
        if is_signed_token(password) {
            let (user, token) = (user.to_owned(), Token(password.to_owned()));
            let password = (password.len() <= PASSWORD_MAX).then(|| Password::new(password));
            return Ok(Self::PasswordOrToken { user, password, token });
        }
        if password.chars().count() > PASSWORD_MAX {
            return Err(InvalidCredentials::LONG_PASSWORD);
        }
        Ok(match PlainKey::hash_of(password) {
            Some(hash) => Self::Key { user: Some(user.to_owned()), hash },
            None => Self::Basic { user: user.to_owned(), password: Password::new(password) },
        })
    }

    /// The session cookie, if it is well-formed. Some surfaces do not accept it as a credential.
    pub(crate) fn cookie(headers: &HeaderMap) -> Option<SessionId> {
        read_cookie(headers, SESSION_COOKIE).and_then(SessionId::read)
    }

    /// Parses the headers. Invalid credentials are an error, so that no caller becomes anonymous by mistake.
    pub(crate) fn read(headers: &HeaderMap, surface: Surface) -> Result<Self, InvalidCredentials> {
        // A browser may send the password of a challenge by itself, and without proof that the user wants it.
        if surface == Surface::Pages {
            return Ok(Self::cookie(headers).map_or(Self::None, Self::Session));
        }
        let mut values = headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        let credentials = match (values.next(), values.next()) {
            (Some(_), Some(_)) => return Err(InvalidCredentials("more than one Authorization header")),
            (Some(value), None) => authorization(value, surface)?,
            (None, _) => Self::None,
        };
        let cookie_counts = || surface == Surface::ApiV1 || Self::from_page(headers);
        Ok(match credentials {
            Self::None if cookie_counts() => Self::cookie(headers).map_or(Self::None, Self::Session),
            credentials => credentials,
        })
    }
}

/// Whether a text has the form of a JWT: three parts in base64url, of which the first begins as a JSON object.
fn is_signed_token(text: &str) -> bool {
    let is_part = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    text.starts_with("eyJ") && text.split('.').count() == 3 && text.split('.').all(is_part)
}

/// The value of a cookie. The first of several has the most specific path (RFC 6265, 5.4).
pub(crate) fn read_cookie<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value)
}

fn authorization(value: &[u8], surface: Surface) -> Result<Credentials, InvalidCredentials> {
    let value = str::from_utf8(value).map_err(|_| InvalidCredentials("the Authorization header is not text"))?.trim();
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    let rest = rest.trim();
    if value.is_empty() {
        return Ok(Credentials::None);
    }
    if scheme.eq_ignore_ascii_case("bearer") {
        return match PlainKey::hash_of(rest) {
            Some(hash) => Ok(Credentials::Key { user: None, hash }),
            // The form of a JWT.
            None if rest.bytes().filter(|byte| *byte == b'.').count() == 2 => {
                Ok(Credentials::Token(Token(rest.to_owned())))
            }
            None => Err(InvalidCredentials::BEARER),
        };
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(InvalidCredentials("the registry supports the schemes Basic and Bearer"));
    }
    // Browsers send Basic by themselves, and Quay ignores it here.
    if surface == Surface::ApiV1 {
        return Ok(Credentials::None);
    }
    basic(rest)
}

fn basic(encoded: &str) -> Result<Credentials, InvalidCredentials> {
    let decoded = BASE64.decode(encoded).map_err(|_| InvalidCredentials("the Basic credentials are not base64"))?;
    let text = String::from_utf8(decoded).map_err(|_| InvalidCredentials("the Basic credentials are not UTF-8"))?;
    let text = zeroize::Zeroizing::new(text);
    let (user, password) =
        text.split_once(':').ok_or(InvalidCredentials("the Basic credentials have the form user:password"))?;
    // Some clients send this for "no credentials".
    if user.is_empty() && password.is_empty() {
        return Ok(Credentials::None);
    }
    Credentials::of_pair(user, password)
}

/// Why headers are invalid. Does not repeat their content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidCredentials(&'static str);

impl InvalidCredentials {
    pub(super) const LONG_PASSWORD: Self = Self("a password has at most 1024 characters");
    const BEARER: Self = Self("the bearer token is neither a token nor an API key of this registry");

    /// Whether they were a bearer token.
    pub(crate) fn is_bearer(self) -> bool {
        self == Self::BEARER
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const KEY: &str = "zak_0123456789abcdef0123456789abcdef";

    /// Describes the credentials of headers.
    fn read(surface: Surface, headers: &[(&str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        match Credentials::read(&map, surface) {
            Err(_) => "invalid".into(),
            Ok(credentials) => match credentials {
                Credentials::None => "none".into(),
                Credentials::Basic { user, password } => format!("basic {user} {}", password.reveal()),
                Credentials::Key { user, .. } => format!("key {user:?}"),
                Credentials::Session(_) => "session".into(),
                Credentials::Token(token) => format!("token {}", token.0),
                Credentials::PasswordOrToken { user, password, token } => {
                    format!("{user} {} {}", password.is_some(), token.0.len())
                }
            },
        }
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", BASE64.encode(text))
    }

    #[test]
    fn the_credentials_of_clients_are_parsed() {
        use Surface::{ApiV1, Registry};
        let id = SessionId::generate();
        let cookie = format!("theme=dark; session={}", id.reveal());
        let cookie = ("cookie", cookie.as_str());
        let page = ("x-zot-api-client", "zot-ui");
        let alice = basic("alice:a:b c");
        let alice = ("authorization", alice.as_str());
        let unpadded = alice.1.trim_end_matches('=').replace("Basic", "bAsIc ");
        let key = basic(&format!("alice:{KEY}"));
        let bearer = format!("Bearer {KEY}");
        for (surface, headers, expected) in [
            (Registry, &[][..], "none"),
            (Registry, &[alice], "basic alice a:b c"),
            (Registry, &[("authorization", &unpadded)], "basic alice a:b c"),
            (Registry, &[("authorization", "Basic Og==")], "none"),
            (Registry, &[("authorization", "")], "none"),
            (Registry, &[("authorization", &key)], "key Some(\"alice\")"),
            (Registry, &[("authorization", &bearer)], "key None"),
            (Registry, &[cookie], "none"),
            (Registry, &[cookie, page], "session"),
            (Registry, &[cookie, page, alice], "basic alice a:b c"),
            (ApiV1, &[cookie], "session"),
            (ApiV1, &[alice], "none"),
            (ApiV1, &[alice, cookie], "session"),
            (ApiV1, &[("authorization", &bearer), cookie], "key None"),
            (ApiV1, &[("cookie", "session=x")], "none"),
            (Registry, &[("authorization", &basic("x:eyJh.b-_.c"))], "x true 10"),
            (Registry, &[("authorization", &basic(&format!("x:eyJh.{}.c", "b".repeat(2000))))], "x false 2007"),
            (Registry, &[("authorization", &basic("x:eyJh.b.c.d"))], "basic x eyJh.b.c.d"),
            (Registry, &[("authorization", &basic("x:eyJh.b+.c"))], "basic x eyJh.b+.c"),
            (Registry, &[("authorization", "bearer a.b.c")], "token a.b.c"),
            (ApiV1, &[("authorization", "Bearer a.b.c")], "token a.b.c"),
        ] {
            assert_eq!(read(surface, headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn invalid_credentials_are_refused() {
        for value in [
            "Basic",
            "Basic !",
            "Bearer",
            "Bearer abc",
            "Bearer a.b",
            "Bearer a.b.c.d",
            &format!("Bearer {}", KEY.to_uppercase()),
            "Digest x",
            "alice:secret",
            &basic("alice"),
            &basic(":secret"),
            &basic("a\nb:secret"),
            &basic(&format!("{}:x", "a".repeat(256))),
            &basic(&format!("a:{}", "x".repeat(1025))),
            &format!("Basic {}", BASE64.encode([0xff, b':', 0xfe])),
        ] {
            assert_eq!(read(Surface::Registry, &[("authorization", value)]), "invalid", "{value:?}");
        }
        let (alice, bob) = (basic("alice:x"), basic("bob:x"));
        assert_eq!(read(Surface::Registry, &[("authorization", &alice), ("authorization", &bob)]), "invalid");
    }

    #[test]
    fn a_secret_does_not_print() {
        let mut map = HeaderMap::new();
        map.append(header::AUTHORIZATION, basic("alice:hunter2").parse().unwrap());
        let read = Credentials::read(&map, Surface::Registry).unwrap();
        assert!(!format!("{read:?}").contains("hunter2"));
    }
}
