//! [`Credentials`]: what the headers of a request say about who asks. Pure: nothing is looked up.

use std::fmt;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::Password;

/// The longest user name, in bytes.
const USER_NAME_MAX: usize = 255;
/// The longest password, in bytes; more than that only makes work.
pub(super) const PASSWORD_MAX: usize = 1024;

/// Clients differ in whether they pad.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a request says about who asks.
#[derive(Debug)]
pub(crate) enum Credentials {
    /// Nothing.
    None,
    /// A name and a password (RFC 7617).
    Basic { user: String, password: Password },
}

impl Credentials {
    /// Reads the values of the `Authorization` headers, of which there may be one.
    pub(crate) fn read<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<Self, InvalidCredentials> {
        let Some(value) = values.next() else { return Ok(Self::None) };
        if values.next().is_some() {
            return Err(InvalidCredentials("more than one Authorization header"));
        }
        let value = str::from_utf8(value).map_err(|_| InvalidCredentials("the Authorization header is not text"))?;
        let (scheme, rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(InvalidCredentials("the registry knows the scheme Basic"));
        }
        let decoded =
            BASE64.decode(rest.trim()).map_err(|_| InvalidCredentials("the Basic credentials are not base64"))?;
        let text = String::from_utf8(decoded).map_err(|_| InvalidCredentials("the Basic credentials are not UTF-8"))?;
        let text = zeroize::Zeroizing::new(text);
        let (user, password) =
            text.split_once(':').ok_or(InvalidCredentials("the Basic credentials have the form user:password"))?;
        if user.is_empty() || user.len() > USER_NAME_MAX || user.chars().any(char::is_control) {
            return Err(InvalidCredentials("a user name has 1 to 255 characters, and no control characters"));
        }
        if password.len() > PASSWORD_MAX {
            return Err(InvalidCredentials("a password has at most 1024 characters"));
        }
        Ok(Self::Basic { user: user.to_owned(), password: Password::new(password) })
    }
}

/// The headers cannot be understood; never says what they contained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidCredentials(&'static str);

impl fmt::Display for InvalidCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidCredentials {}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Option<(String, String)>, InvalidCredentials> {
        Credentials::read(values.iter().map(|value| value.as_bytes())).map(|credentials| match credentials {
            Credentials::None => None,
            Credentials::Basic { user, password } => Some((user, password.reveal().to_owned())),
        })
    }

    #[test]
    fn what_clients_send() {
        assert_eq!(read(&[]), Ok(None));
        let alice = Some(("alice".to_owned(), "a:b c".to_owned()));
        let encoded = BASE64.encode("alice:a:b c");
        for scheme in ["Basic", "basic", "BASIC"] {
            assert_eq!(read(&[&format!("{scheme} {encoded}")]), Ok(alice.clone()));
        }
        assert_eq!(read(&[&format!("Basic  {}", encoded.trim_end_matches('='))]), Ok(alice));
        assert_eq!(read(&[&format!("Basic {}", BASE64.encode("a:"))]), Ok(Some(("a".into(), String::new()))));
    }

    #[test]
    fn what_is_refused() {
        let basic = |text: &str| format!("Basic {}", BASE64.encode(text));
        for value in [
            "",
            "Basic",
            "Basic !",
            "Bearer abc",
            "alice:secret",
            &basic("alice"),
            &basic(":secret"),
            &basic("a\nb:secret"),
            &basic(&format!("{}:x", "a".repeat(256))),
            &basic(&format!("a:{}", "x".repeat(1025))),
            &format!("Basic {}", BASE64.encode([0xff, b':', 0xfe])),
        ] {
            assert!(read(&[value]).is_err(), "{value:?} was taken");
        }
        assert!(read(&[&basic("a:b"), &basic("a:b")]).is_err());
    }

    #[test]
    fn a_password_does_not_print() {
        let value = format!("Basic {}", BASE64.encode("alice:hunter2"));
        let credentials = Credentials::read([value.as_bytes()].into_iter()).unwrap();
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}
