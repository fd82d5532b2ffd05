//! [`AllowedOrigins`]: the web pages that may call the registry from other origins.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use url::Url;

/// The origins whose pages may call the registry (`http.allowOrigin`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// Only the registry's own.
    #[default]
    None,
    /// All origins. Their pages get no cookies.
    All,
    /// These origins, in the form that browsers send, such as `https://ui.example`.
    Some(Vec<String>),
}

impl AllowedOrigins {
    /// Whether pages of an origin may call the registry with cookies. The origin is in the form that browsers send.
    pub(crate) fn names(&self, origin: &str) -> bool {
        matches!(self, Self::Some(origins) if origins.iter().any(|allowed| allowed == origin))
    }
}

/// The error of a text that is not a list of origins.
#[derive(Debug, Error)]
#[error("{text:?} is not an origin, such as https://ui.example:8443")]
pub struct InvalidOrigin {
    text: String,
}

impl FromStr for AllowedOrigins {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        match text.trim() {
            "" => Ok(Self::None),
            "*" => Ok(Self::All),
            list => list.split(',').map(|origin| read(origin.trim())).collect::<Result<_, _>>().map(Self::Some),
        }
    }
}

fn read(text: &str) -> Result<String, InvalidOrigin> {
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    });
    match url {
        Some(url) => Ok(url.origin().ascii_serialization()),
        None => Err(InvalidOrigin { text: text.to_owned() }),
    }
}

impl fmt::Display for AllowedOrigins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::All => f.write_str("*"),
            Self::Some(origins) => f.write_str(&origins.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_in_the_form_that_browsers_send() {
        for (text, shown) in [
            ("", ""),
            (" * ", "*"),
            ("https://UI.example:443/", "https://ui.example"),
            ("http://localhost:3000, https://ui.example", "http://localhost:3000, https://ui.example"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(text.parse::<AllowedOrigins>().map(|read| read.to_string()).ok().as_deref(), Some(shown));
        }
        for text in ["ui.example", "https://a/b", "https://a?b", "https://a,*", "ftp://a", "https://u:p@a", "null", ","]
        {
            assert!(text.parse::<AllowedOrigins>().is_err(), "{text}");
        }
        let some: AllowedOrigins = "https://ui.example".parse().unwrap_or_default();
        assert!(some.names("https://ui.example") && !some.names("https://ui.example:444"));
        assert!(!AllowedOrigins::All.names("https://ui.example"));
    }
}
