//! [`Target`]: where a browser goes after a sign-in.
//!
//! The link that starts a sign-in names its target (zot's `callback_ui`), and an attacker may have written the link. So
//! a browser is sent only to the registry's origin, to an origin of the configuration, or, with a PKCE challenge, to a
//! program on its own machine (RFC 8252, 7.3). The redirect uses the parsed URL, not the received text. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use url::{Host, Origin, Url};

/// The longest URL, in bytes.
const URL_BYTES_MAX: usize = 2048;
/// SHA-256 in base64url without padding (RFC 7636, 4.2).
const CHALLENGE_CHARS: usize = 43;
/// The page that replaces an invalid one.
const START: &str = "/";

/// Where a browser goes after a sign-in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Target {
    /// Nowhere. The response has no redirect.
    Nothing,
    /// A path of the registry, or a URL of an allowed origin.
    Page(String),
    /// A program at a loopback address of the browser's machine. It exchanges a code with the verifier of the challenge.
    Program { redirect: String, challenge: String },
}

/// Why a program's redirect URL or challenge is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidProgram(pub(crate) &'static str);

/// The allowed origins in addition to the registry's own.
#[derive(Debug, Default)]
pub(crate) struct Targets(Vec<Origin>);

impl Targets {
    /// Ignores invalid origins, which the configuration check reports.
    pub(crate) fn new<'a>(origins: impl IntoIterator<Item = &'a str>) -> Self {
        Self(origins.into_iter().filter_map(|text| web_origin(&Url::parse(text).ok()?)).collect())
    }

    /// Reads `callback_ui` and `code_challenge`. `own` is the registry's URL. The start page replaces an invalid page, as
    /// in zot.
    pub(crate) fn read(
        &self,
        callback_ui: Option<&str>,
        challenge: Option<&str>,
        own: &str,
    ) -> Result<Target, InvalidProgram> {
        let text = callback_ui.unwrap_or_default();
        if let Some(challenge) = challenge {
            return program(text, challenge);
        }
        if text.is_empty() {
            return Ok(Target::Nothing);
        }
        Ok(Target::Page(self.page(text, own).unwrap_or_else(|| START.to_owned())))
    }

    fn page(&self, text: &str, own: &str) -> Option<String> {
        // Browsers remove these characters or read them as a slash, other parsers may not.
        let odd = |c: char| c.is_control() || c == '\\' || c.is_whitespace();
        if text.len() > URL_BYTES_MAX || text.contains(odd) {
            return None;
        }
        let own = Url::parse(own).ok()?;
        if text.starts_with('/') {
            let url = Url::options().base_url(Some(&own)).parse(text).ok()?;
            // "/..//host" means "//host", which is another host.
            let fits = url.origin() == own.origin() && !text.starts_with("//") && !url.path().starts_with("//");
            return fits.then(|| url[url::Position::BeforePath..].to_owned());
        }
        let url = Url::parse(text).ok()?;
        // "https:host" means "https://host", but is refused.
        let spelt = ["http://", "https://"]
            .iter()
            .any(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
        let origin = web_origin(&url)?;
        (spelt && (origin == own.origin() || self.0.contains(&origin))).then(|| url.into())
    }
}

/// The origin of a URL that a browser opens as a page.
fn web_origin(url: &Url) -> Option<Origin> {
    let plain = url.username().is_empty() && url.password().is_none();
    (plain && ["http", "https"].contains(&url.scheme()) && url.has_host()).then(|| url.origin())
}

fn program(text: &str, challenge: &str) -> Result<Target, InvalidProgram> {
    let invalid = InvalidProgram("a program is reached at http://127.0.0.1:<port>/ or http://[::1]:<port>/");
    let is_hash = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if challenge.len() != CHALLENGE_CHARS || !challenge.bytes().all(is_hash) {
        return Err(InvalidProgram("the parameter code_challenge is a SHA-256 in base64url (RFC 7636, S256)"));
    }
    // Only the usual spellings of the addresses are allowed.
    let port = ["http://127.0.0.1:", "http://[::1]:"].iter().find_map(|start| text.strip_prefix(start));
    let has_port = port.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let odd = |c: char| !c.is_ascii_graphic() || c == '\\' || c == '"';
    if text.len() > URL_BYTES_MAX || text.contains(odd) || !has_port {
        return Err(invalid);
    }
    let url = Url::parse(text).map_err(|_| invalid)?;
    let is_loopback = match url.host() {
        Some(Host::Ipv4(address)) => address == Ipv4Addr::LOCALHOST,
        Some(Host::Ipv6(address)) => address == Ipv6Addr::LOCALHOST,
        Some(Host::Domain(_)) | None => false,
    };
    if !is_loopback || web_origin(&url).is_none() || url.fragment().is_some() || url.port_or_known_default() == Some(0)
    {
        return Err(invalid);
    }
    Ok(Target::Program { redirect: url.into(), challenge: challenge.to_owned() })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const OWN: &str = "https://registry.example/sub";

    fn page(text: &str) -> String {
        let targets = Targets::new(["https://ui.example:443", "http://ui.example:8080/", "https://Ünicode.example"]);
        match targets.read(Some(text), None, OWN) {
            Ok(Target::Page(page)) => page,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn allowed_pages_are_kept() {
        for (text, expected) in [
            ("/", "/"),
            ("/home", "/home"),
            ("/home?a=b&c=%2Fd#e", "/home?a=b&c=%2Fd#e"),
            ("/image/ä", "/image/%C3%A4"),
            ("/a/../b", "/b"),
            ("/a//b", "/a//b"),
            ("/?next=//evil.example", "/?next=//evil.example"),
            ("https://registry.example", "https://registry.example/"),
            ("https://registry.example:443/home", "https://registry.example/home"),
            ("HTTPS://Registry.Example/home", "https://registry.example/home"),
            ("https://ui.example/home", "https://ui.example/home"),
            ("http://ui.example:8080/home?x", "http://ui.example:8080/home?x"),
            ("https://xn--nicode-2ya.example/", "https://xn--nicode-2ya.example/"),
            ("https://ünicode.example/", "https://xn--nicode-2ya.example/"),
            ("https://%72egistry.example/home", "https://registry.example/home"),
        ] {
            assert_eq!(page(text), expected, "{text}");
        }
        let targets = Targets::default();
        assert_eq!(targets.read(None, None, OWN), Ok(Target::Nothing));
        assert_eq!(targets.read(Some(""), None, OWN), Ok(Target::Nothing));
    }

    #[test]
    fn no_spelling_leads_elsewhere() {
        for text in [
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/..//evil.example",
            "/.//evil.example",
            "/a/..//evil.example",
            "/%2e%2e//evil.example",
            "/%2e//evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "\t//evil.example",
            " //evil.example",
            "/ /evil.example",
            "/home\r\nSet-Cookie: a=b",
            "/home\u{0}",
            "/home\u{2028}",
            "/\u{3000}/evil.example",
            "evil.example",
            "home",
            "?a",
            "#a",
            "https:evil.example",
            "https:/evil.example",
            "https:/registry.example",
            "https:///evil.example",
            "https://evil.example",
            "https://registry.example.evil.example",
            "https://registry.example@evil.example",
            "https://evil.example@registry.example",
            "https://registry.example:pw@registry.example",
            "https://registry.example:8443/",
            "https://registry.example:80/",
            "http://registry.example/",
            "http://ui.example/",
            "http://ui.example:8081/",
            "https://sub.ui.example/",
            "https://ui.example./",
            "https://ui.example%2eevil.example/",
            "https://ui。example.evil/",
            "https://evil.example\\@ui.example",
            "https://evil.example/https://ui.example",
            "https://evil.example#https://ui.example",
            "https://evil.example?https://ui.example",
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "java\nscript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "ftp://ui.example/",
            "blob:https://ui.example/x",
            "filesystem:https://ui.example/x",
            "view-source:https://ui.example/",
            "about:blank",
            "http://127.0.0.1:5000/",
            "http://[::1]:5000/",
            "https://[",
            "https://",
            "https://registry.example:99999/",
        ] {
            assert_eq!(page(text), "/", "{text:?}");
        }
        assert_eq!(page(&format!("/{}", "a".repeat(URL_BYTES_MAX))), "/");
    }

    #[test]
    fn the_parsed_url_has_the_same_origin_when_parsed_again() {
        let own = Url::parse(OWN).unwrap();
        for text in ["/a?b#c", "/%2f%2fevil.example", "/%5cevil.example", "/;@evil.example", "/:80", "/.evil", "/@a/b"]
        {
            let sent = page(text);
            assert_eq!(
                Url::options().base_url(Some(&own)).parse(&sent).unwrap().origin(),
                own.origin(),
                "{text}: {sent}"
            );
            assert!(sent.is_ascii() && !sent.starts_with("//"), "{text}: {sent}");
        }
    }

    #[test]
    fn a_program_needs_a_loopback_address_and_a_challenge() {
        let targets = Targets::new(["https://ui.example"]);
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        let read = |text: &str, challenge: &str| targets.read(Some(text), Some(challenge), OWN);
        for text in
            ["http://127.0.0.1:5000/", "http://[::1]:65535/done?x=1", "http://127.0.0.1:80/", "http://127.0.0.1:1"]
        {
            assert!(matches!(read(text, challenge), Ok(Target::Program { .. })), "{text}");
        }
        for text in [
            "",
            "/",
            "http://127.0.0.1/",
            "http://127.0.0.1:/",
            "http://127.0.0.1:0/",
            "http://127.0.0.1:70000/",
            "https://127.0.0.1:5000/",
            "http://localhost:5000/",
            "http://127.0.0.2:5000/",
            "http://127.1:5000/",
            "http://2130706433:5000/",
            "http://0x7f.0.0.1:5000/",
            "http://[::ffff:127.0.0.1]:5000/",
            "http://[0:0:0:0:0:0:0:1]:5000/",
            "http://127.0.0.1:5000@evil.example/",
            "http://127.0.0.1:5000\\@evil.example/",
            "http://127.0.0.1:5000/#a",
            "http://127.0.0.1:5000/\r\nX: y",
            "http://127.0.0.1:5000/ä",
            "http://127.0.0.1.evil.example:5000/",
            "http://evil.example:5000/",
            "https://ui.example/",
        ] {
            assert!(read(text, challenge).is_err(), "{text:?}");
        }
        for challenge in ["", "abc", &challenge[1..], &format!("{challenge}A"), &challenge.replace('-', "+")] {
            assert!(read("http://127.0.0.1:5000/", challenge).is_err(), "{challenge:?}");
        }
    }
}
