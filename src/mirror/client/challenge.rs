//! [`Challenge`]: how an upstream wants its callers to authenticate (`WWW-Authenticate`, RFC 9110, 11.6.1).

use hyper::header::{self, HeaderMap};
use url::Url;

use super::transport::host_of;

/// The most bytes of a challenge that are read.
const CHALLENGE_BYTES_MAX: usize = 4096;

/// A challenge that the client can meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer(Bearer),
}

/// A challenge for an access token (distribution, "Token Authentication").
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bearer {
    /// The URL of the token service.
    pub(super) realm: String,
    /// The name of the registry there. Empty if the challenge has none.
    pub(super) service: String,
}

impl Bearer {
    /// Host and port of the token service, if its URL is valid.
    pub(super) fn host(&self) -> Option<String> {
        self.realm.parse::<Url>().ok().map(|url| host_of(&url))
    }
}

impl Challenge {
    /// Reads the challenges of a response. `Bearer` is preferred over `Basic`.
    pub(super) fn strongest(headers: &HeaderMap) -> Option<Self> {
        let mut found = None;
        for value in headers.get_all(header::WWW_AUTHENTICATE) {
            let Some(text) = value.to_str().ok().filter(|text| text.len() <= CHALLENGE_BYTES_MAX) else { continue };
            for (scheme, parameters) in challenges(text) {
                if scheme.eq_ignore_ascii_case("basic") {
                    found.get_or_insert(Self::Basic);
                } else if scheme.eq_ignore_ascii_case("bearer") {
                    let one = |name: &str| {
                        let mut named = parameters.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
                        named.next().map(|(_, value)| value.clone())
                    };
                    if let Some(realm) = one("realm") {
                        return Some(Self::Bearer(Bearer { realm, service: one("service").unwrap_or_default() }));
                    }
                }
            }
        }
        found
    }
}

type Parameters = Vec<(String, String)>;

/// Splits a header into challenges with their parameters. A comma separates both, so a word without `=` begins a new
/// challenge.
fn challenges(text: &str) -> Vec<(String, Parameters)> {
    let mut found: Vec<(String, Parameters)> = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        match value {
            Some(value) if !word.is_empty() => {
                let (value, after) = value_of(value.trim_start_matches([' ', '\t']));
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.push((word.to_owned(), value));
                }
                rest = after;
            }
            // A sign where a word should be: skip it, so that the loop ends.
            Some(value) => rest = value,
            None => {
                found.push((word.to_owned(), Vec::new()));
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    found
}

/// Reads a token or a quoted text, and returns it with the rest.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let (mut value, mut chars) = (String::new(), quoted.char_indices());
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[index + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_str(value).expect("it is a header"));
        }
        Challenge::strongest(&headers)
    }

    fn bearer(realm: &str, service: &str) -> Challenge {
        Challenge::Bearer(Bearer { realm: realm.to_owned(), service: service.to_owned() })
    }

    #[test]
    fn challenges_of_known_registries_are_read() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a:b,c:d""#;
        assert_eq!(read(&[hub]), Some(bearer("https://auth.docker.io/token", "registry.docker.io")));
        assert_eq!(
            read(&["Basic realm=\"x\"", hub]),
            Some(bearer("https://auth.docker.io/token", "registry.docker.io"))
        );
        assert_eq!(read(&["Basic realm=\"a, b\", bearer  realm = x , service=\"y\\\"z\""]), Some(bearer("x", "y\"z")));
        assert_eq!(read(&["Bearer realm=x"]), Some(bearer("x", "")));
        assert_eq!(read(&["basic"]), Some(Challenge::Basic));
        assert_eq!(read(&["Negotiate abc==, Basic realm=x"]), Some(Challenge::Basic));
        assert_eq!(read(&["Bearer service=x"]), None, "without a realm there is no token service");
        assert_eq!(read(&["Digest realm=x", "", "="]), None);
    }

    proptest! {
        #[test]
        fn reading_ends_for_any_text(text in "[ -~]{0,80}") {
            let _ = read(&[&text]);
        }
    }
}
