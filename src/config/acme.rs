//! `http.tls.acme`: a certificate from an ACME authority, such as Let's Encrypt.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{GeneralPurposeConfig, NO_PAD};

use super::check::check_authorities;
use super::keys::Row;
use super::kind::Kind::{Path as PathText, SomeOf, Text, Texts, Url};
use super::listen::{Listen, Speaks};
use super::openid::{Secret, read_file};
use super::settings::{FromSetting, Section, Setting, Settings, section};
use super::walk::Findings;
use crate::kit::network::is_loopback;

pub(super) const ACME: &str = "http.tls.acme";
const DOMAINS: &str = "http.tls.acme.domains";
const DIRECTORY: &str = "http.tls.acme.directory";
const EMAIL: &str = "http.tls.acme.email";
const CA: &str = "http.tls.acme.caCert";
const CHALLENGES: &str = "http.tls.acme.challenges";
const ACCOUNT_ID: &str = "http.tls.acme.externalAccountId";
const ACCOUNT_KEY: &str = "http.tls.acme.externalAccountKeyFile";
const CERT: &str = "http.tls.cert";
const KEY: &str = "http.tls.key";
const LISTEN: &str = "http.listen";
const EXTERNAL_URL: &str = "http.externalUrl";
/// The most names of one certificate, as Let's Encrypt has it.
const DOMAINS_MAX: usize = 100;
/// The lengths of a name and of a part of it (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Whether this build can speak to an ACME authority.
#[cfg(test)]
const IS_BUILT: bool = cfg!(feature = "acme");

section! {
    /// A certificate from an ACME authority. To configure one is to agree to the authority's terms of service.
    Acme {
        /// Names of the registry, for which an ACME authority issues the certificate. With them, the port speaks TLS.
        /// To name them is to agree to the terms of service of the authority.
        domains: Vec<String> = "http.tls.acme.domains", Texts, "required";
        /// URL of the directory of the ACME authority.
        directory: String = "http.tls.acme.directory", Url, "https://acme-v02.api.letsencrypt.org/directory";
        /// E-mail address that the authority gets with the account.
        email: Option<String> = "http.tls.acme.email", Text, "";
        /// PEM file with certificate authorities to trust at http.tls.acme.directory, in addition to those of the system.
        ca_cert: Option<PathBuf> = "http.tls.acme.caCert", PathText, "";
        /// Challenges, in the order in which they are tried. Without it, tls-alpn-01, and then http-01 if http.listen has
        /// a port for it.
        challenges: Vec<AcmeChallenge> = "http.tls.acme.challenges", SomeOf(&["tls-alpn-01", "http-01"]), "[]";
        /// Id of an account at the authority, if it issues only to those whom it knows (external account binding).
        external_account_id: Option<String> = "http.tls.acme.externalAccountId", Text, "";
        /// File with the HMAC key of http.tls.acme.externalAccountId, in base64url.
        external_account_key: Option<PathBuf> = "http.tls.acme.externalAccountKeyFile", PathText, "";
    }
}

/// A way to prove that a name leads to this registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcmeChallenge {
    /// A TLS handshake on port 443 (RFC 8737).
    TlsAlpn01,
    /// A request on port 80 (RFC 8555, 8.3).
    Http01,
}

impl AcmeChallenge {
    /// The name in the protocol.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        }
    }
}

impl FromSetting for Vec<AcmeChallenge> {
    fn from_setting(setting: &Setting) -> Option<Self> {
        let Setting::Texts(words) = setting else { return None };
        let known = [AcmeChallenge::TlsAlpn01, AcmeChallenge::Http01];
        words.iter().map(|word| known.into_iter().find(|challenge| challenge.word() == word)).collect()
    }
}

impl Acme {
    /// The challenges to try, in their order, for a registry that listens in these places.
    pub(crate) fn challenges_in_use(&self, listens: &[Listen]) -> Vec<AcmeChallenge> {
        if !self.challenges.is_empty() {
            return self.challenges.clone();
        }
        let http = listens.iter().any(is_for_http).then_some(AcmeChallenge::Http01);
        [AcmeChallenge::TlsAlpn01].into_iter().chain(http).collect()
    }

    /// Reads the HMAC key of the external account.
    pub(crate) fn external_account(&self) -> Result<Option<(String, Secret)>, String> {
        match (&self.external_account_id, &self.external_account_key) {
            (Some(id), Some(file)) => Ok(Some((id.clone(), read_key(file)?))),
            _ => Ok(None),
        }
    }
}

/// Reads the text of an HMAC key, which [`decoded_key`] decodes.
fn read_key(file: &Path) -> Result<Secret, String> {
    let shown = file.display();
    let text = read_file(file).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let text = text.trim();
    match decoded_key(text) {
        Some(key) if !key.is_empty() => Ok(Secret::new(text)),
        _ => Err(format!("{shown} is not an HMAC key in base64url, as the authority shows it")),
    }
}

/// The bytes of an HMAC key. Authorities show it in either alphabet, with padding or without.
pub(crate) fn decoded_key(text: &str) -> Option<Vec<u8>> {
    const ANY: GeneralPurposeConfig = NO_PAD.with_decode_allow_trailing_bits(true);
    let text = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
    GeneralPurpose::new(&base64::alphabet::URL_SAFE, ANY).decode(text).ok()
}

/// Reads the section if it is complete. Names are compared in lower case.
pub(super) fn read(settings: &Settings) -> Option<Acme> {
    (settings.given_texts(DOMAINS).next().is_some()).then(|| {
        let acme = Acme::read(settings);
        let mut seen = HashSet::new();
        let domains = acme.domains.iter().map(|name| name.to_ascii_lowercase());
        Acme { domains: domains.filter(|name| seen.insert(name.clone())).collect(), ..acme }
    })
}

/// Reports the problems of the section.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    if settings.given(ACME).is_none() {
        for (index, place) in settings.given_texts(LISTEN) {
            if matches!(place.parse(), Ok(Listen::Port { speaks: Speaks::Challenges, .. })) {
                findings.problem(&format!("{LISTEN}[{index}]"), format!("answers only challenges, and needs {ACME}"));
            }
        }
        return;
    }
    if findings.has_problem_under(ACME) {
        return;
    }
    let count = settings.given_texts(DOMAINS).count();
    if count == 0 || count > DOMAINS_MAX {
        findings.problem(DOMAINS, format!("expected 1 to {DOMAINS_MAX} names of the registry, found {count}"));
    }
    for (index, name) in settings.given_texts(DOMAINS) {
        if let Err(why) = check_name(name) {
            findings.problem(&format!("{DOMAINS}[{index}]"), why);
        }
    }
    for key in [CERT, KEY] {
        if settings.has_text(key) {
            findings.problem(key, format!("contradicts {ACME}: give a file or an authority, not both"));
        }
    }
    let Some(acme) = read(settings) else { return };
    let host = host_of(&acme.directory);
    if acme.directory.starts_with("http://") && !host.is_some_and(is_loopback) {
        findings
            .problem(DIRECTORY, "expected a URL with https://: an attacker on the network could pose as the authority");
    }
    if acme.email.as_ref().is_some_and(|email| !is_email(email)) {
        findings.problem(EMAIL, "expected an e-mail address such as \"ops@example.com\"");
    }
    check_authorities(CA, settings, findings);
    let keys = [(ACCOUNT_ID, settings.has_text(ACCOUNT_ID)), (ACCOUNT_KEY, settings.has_text(ACCOUNT_KEY))];
    if keys[0].1 != keys[1].1 {
        let missing = if keys[0].1 { ACCOUNT_KEY } else { ACCOUNT_ID };
        findings.problem(missing, "is missing: an external account has an id and a key");
    } else if let Err(why) = acme.external_account() {
        findings.problem(ACCOUNT_KEY, why);
    }
    check_places(&acme, settings, findings);
}

/// Checks that the authority can reach the registry, as far as the configuration tells.
fn check_places(acme: &Acme, settings: &Settings, findings: &mut Findings) {
    let places: Vec<Listen> = settings.given_texts(LISTEN).filter_map(|(_, place)| place.parse().ok()).collect();
    let places = if places.is_empty() {
        let (address, port) = (settings.get("http.address"), settings.get("http.port"));
        vec![Listen::Port { address, port, speaks: Speaks::TlsOrPlain }]
    } else {
        places
    };
    let has_tls = |place: &Listen| matches!(place, Listen::Port { speaks: Speaks::TlsOrPlain, .. });
    if !places.iter().any(has_tls) {
        let why = format!("has no port with TLS, so {ACME} has no effect: add one such as \"0.0.0.0:443\"");
        findings.problem(LISTEN, why);
    } else if places.iter().all(Listen::is_local) {
        let why = "the registry listens only on this machine: the authority reaches it only if a proxy passes TLS on, or \
                   systemd opens the port";
        findings.warning(ACME, why);
    }
    if acme.challenges.contains(&AcmeChallenge::Http01) && !places.iter().any(is_for_http) {
        let why = format!("http-01 needs port 80: add a port for it to {LISTEN}, such as \"acme://0.0.0.0:80\"");
        findings.warning(CHALLENGES, why);
    }
    let external = settings.get::<Option<String>>(EXTERNAL_URL);
    if let Some(host) = external.as_deref().and_then(host_of)
        && !acme.domains.iter().any(|name| name.eq_ignore_ascii_case(host))
    {
        findings.warning(DOMAINS, format!("lacks {host}, the host of {EXTERNAL_URL}: clients refuse the certificate"));
    }
}

/// Whether a port answers HTTP-01.
const fn is_for_http(place: &Listen) -> bool {
    matches!(place, Listen::Port { speaks: Speaks::Plain | Speaks::Challenges, .. })
}

/// Checks that an ACME authority can certify a name without DNS-01.
fn check_name(name: &str) -> Result<(), String> {
    let shown = super::kind::shorten(name);
    if name.parse::<IpAddr>().is_ok() || name.starts_with('[') {
        return Err(format!("{shown} is an address: expected the name by which clients reach the registry"));
    }
    if name.starts_with("*.") {
        return Err(format!("{shown} is a wildcard, which needs the challenge dns-01: list each name instead"));
    }
    if !name.is_ascii() {
        return Err(format!("{shown} is not ASCII: write the name in its encoded form, which begins with xn--"));
    }
    if name.contains(['/', ':', '@']) {
        return Err(format!("{shown} is not a name: leave out scheme, port and path, as in registry.example"));
    }
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > NAME_BYTES_MAX || !name.split('.').all(is_label) {
        return Err(format!("{shown:?} is not the name of a host, such as registry.example"));
    }
    let is_local = |name: &str| name == "localhost" || name.ends_with(".localhost");
    if is_local(&name.to_ascii_lowercase()) {
        return Err(format!("{shown} is a name of every machine, which no authority certifies"));
    }
    Ok(())
}

fn host_of(url: &str) -> Option<&str> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split('/').next()?;
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.split(':').next(),
    }
}

fn is_email(text: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_graphic() && !",?:<>\"".contains(c));
    text.split_once('@').is_some_and(|(user, host)| is_part(user) && is_part(host) && !host.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_an_authority_can_certify_are_accepted() {
        for name in ["registry.example", "Registry.Example", "registry", "xn--nxasmq6b.example", "a.b-c.d3.example"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        let long = format!("{}.example", "a".repeat(64));
        for (name, why) in [
            ("192.0.2.1", "is an address"),
            ("::1", "is an address"),
            ("[::1]", "is an address"),
            ("*.example", "is a wildcard"),
            ("bücher.example", "is not ASCII"),
            ("https://registry.example", "leave out scheme"),
            ("registry.example:443", "leave out scheme"),
            ("", "is not the name of a host"),
            ("registry.example.", "is not the name of a host"),
            ("a_b.example", "is not the name of a host"),
            ("-a.example", "is not the name of a host"),
            (&long, "is not the name of a host"),
            ("localhost", "no authority certifies"),
            ("Registry.LOCALHOST", "no authority certifies"),
        ] {
            let error = check_name(name).expect_err(name);
            assert!(error.contains(why), "{name}: {error}");
        }
    }

    /// The problems and warnings of `[http]` with this text.
    fn findings(text: &str) -> String {
        let lines = |findings: &[super::super::Finding]| {
            findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        match super::super::Config::from_toml_str(&format!("[http]\n{text}")) {
            Ok(loaded) => lines(&loaded.warnings),
            Err(error) => lines(error.problems()),
        }
    }

    #[test]
    #[cfg(feature = "acme")]
    fn settings_that_cannot_work_are_refused_or_warned_about() {
        const GOOD: &str = "listen = [':443', 'acme://:80']\ntls.acme.domains = ['registry.example']\n";
        assert_eq!(findings(GOOD), "");
        for (more, why) in [
            ("listen = ['http://:80']", "http.listen: has no port with TLS"),
            ("listen = ['unix:/run/a.sock']", "http.listen: has no port with TLS"),
            ("listen = ['127.0.0.1:443']", "listens only on this machine"),
            ("", "listens only on this machine"),
            ("listen = [':443']\ntls.acme.challenges = ['http-01']", "http-01 needs port 80"),
            ("tls.acme.challenges = ['dns-01']", "http.tls.acme.challenges"),
            ("tls.acme.directory = 'http://acme.example/dir'", "expected a URL with https://"),
            ("tls.acme.email = 'ops'", "expected an e-mail address"),
            ("tls.acme.caCert = '/nowhere/ca.pem'", "cannot read \"/nowhere/ca.pem\""),
            ("tls.acme.externalAccountId = 'a'", "externalAccountKeyFile: is missing"),
            ("tls.acme.externalAccountKeyFile = 'Cargo.toml'", "externalAccountId: is missing"),
            (
                "tls.acme.externalAccountId = 'a'\ntls.acme.externalAccountKeyFile = 'Cargo.toml'",
                "Cargo.toml is not an HMAC key",
            ),
            ("tls.cert = 'Cargo.toml'\ntls.key = 'Cargo.toml'", "http.tls.cert: contradicts http.tls.acme"),
            ("externalUrl = 'https://other.example'", "lacks other.example, the host of http.externalUrl"),
        ] {
            let all = findings(&format!("tls.acme.domains = ['registry.example']\n{more}"));
            assert!(all.contains(why), "{more}: {all}");
        }
        assert!(findings("tls.acme.domains = []").contains("expected 1 to 100 names"));
        assert!(findings("tls.acme.email = 'a@b.example'").contains("http.tls.acme.domains: is missing"));
        assert!(findings("tls.acme.domains = ['a.example', '*.b.example']").contains("http.tls.acme.domains[1]"));
        assert!(findings("listen = ['acme://:80']").contains("answers only challenges, and needs http.tls.acme"));
        // The authorities of clients need a certificate, which may come from an ACME authority.
        let clients = findings("tls.acme.domains = ['a.example']\ntls.cacert = '/nowhere'");
        assert!(clients.contains("http.tls.cacert: cannot read") && !clients.contains("needs"), "{clients}");
    }

    #[test]
    fn challenges_depend_on_the_ports() {
        let load = |text: &str| super::super::Config::from_toml_str(&format!("[http]\n{text}")).expect(text).config;
        for (listen, words) in [
            ("[':443']", "tls-alpn-01"),
            ("[':443', 'http://:80']", "tls-alpn-01 http-01"),
            ("[':443', 'acme://:80']", "tls-alpn-01 http-01"),
        ] {
            let text = format!("listen = {listen}\ntls.acme.domains = ['B.example', 'a.example', 'b.example']");
            if !IS_BUILT {
                continue;
            }
            let config = load(&text);
            let acme = config.http.acme.as_ref().expect("the section");
            assert_eq!(acme.domains, ["b.example", "a.example"]);
            let used = acme.challenges_in_use(&config.http.listens());
            assert_eq!(used.iter().map(|challenge| challenge.word()).collect::<Vec<_>>().join(" "), words);
        }
    }

    #[test]
    fn keys_of_external_accounts_are_read_in_both_alphabets() {
        for text in ["-_8", "+/8", "+/8=", "-_8="] {
            assert_eq!(decoded_key(text).as_deref(), Some(&[0xfb, 0xff][..]), "{text}");
        }
        assert_eq!(decoded_key("a key"), None);
    }

    #[test]
    fn addresses_of_mail_have_two_parts() {
        assert!(is_email("ops@example.com"));
        for text in ["ops", "@example.com", "ops@", "mailto:ops@example.com", "a@b@c", "a b@example.com"] {
            assert!(!is_email(text), "{text}");
        }
    }
}
