//! The way of clients to the registry: its URL, with the certificate and the headers of a proxy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hyper::header::{self, HeaderMap};
use hyper::{Request, Response, StatusCode};
use serde_json::Value;
use url::Url;

use super::size::size;
use super::{Check, State, clock};
use crate::admin::{PROXIES_SHOWN, Status};
use crate::cli::{Error, block_on};
use crate::config::Config;
use crate::kit::clock::Timestamp;
use crate::kit::outgoing::{self, CertificateFault, Client, Plain, Settings};
use crate::kit::text::some_of;

const NAME: &str = "URL";
/// The name of the check of forwarding headers.
pub(super) const PROXY: &str = "proxy";
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where clients reach the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) url: String,
    /// The address to connect to instead of those of the host: that of this machine.
    connect_to: Option<SocketAddr>,
    /// Whether it is only where the registry listens, because the URL of clients is not configured.
    is_guess: bool,
}

impl Place {
    /// A URL that the operator names.
    pub(super) fn named(url: &str) -> Self {
        Self { url: url.to_owned(), connect_to: None, is_guess: false }
    }

    /// The place that the configuration names, or where the running registry listens.
    pub(super) fn usual(config: Option<&Config>, status: Option<&Status>) -> Option<Self> {
        if let Some(url) = config.and_then(|config| config.http.external_url.as_ref()) {
            return Some(Self::named(url));
        }
        let status = status?;
        let server = status.server.as_ref()?;
        if let Some(url) = &server.external_url {
            return Some(Self::named(url));
        }
        let acme = status.certificate.as_ref().and_then(|certificate| certificate.acme.as_ref());
        Self::local(&server.url, acme.and_then(|acme| acme.domains.first()))
    }

    /// The place where a stopped registry would listen.
    pub(super) fn configured(config: &Config) -> Option<Self> {
        let url = config.http.local_url()?;
        Self::local(&url, config.http.acme.as_ref().and_then(|acme| acme.domains.first()))
    }

    /// An address of this machine. `domain` is the name that the certificate of an ACME authority has.
    fn local(url: &str, domain: Option<&String>) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (_, port) = rest.rsplit_once(':')?;
        let address = rest.parse::<SocketAddr>().ok().map(reachable);
        if let (Some(domain), "https", Some(address)) = (domain, scheme, address) {
            return Some(Self { url: format!("https://{domain}"), connect_to: Some(address), is_guess: true });
        }
        // A client cannot connect to the unspecified address.
        let is_unspecified = rest.starts_with("0.0.0.0:") || rest.starts_with("[::]:");
        let url = if is_unspecified { format!("{scheme}://localhost:{port}") } else { url.to_owned() };
        Some(Self { url, connect_to: None, is_guess: true })
    }
}

/// The address to connect to for one that a registry listens on.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// How this machine sees the certificate, without a file that the command names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is trusted. The same without a certificate.
    Trusted,
    Untrusted,
    /// No client can use it, or the registry waits for another one. Says why.
    Unusable(String),
}

/// The way of clients to the registry.
pub(super) struct Way {
    pub(super) checks: Vec<Check>,
    /// The difference between the clocks of this machine and of the registry.
    pub(super) clock: Option<Check>,
    pub(super) seen: Seen,
}

/// The facts about a registry that its way is checked with.
pub(super) struct Facts<'a> {
    pub(super) config: Option<&'a Config>,
    pub(super) status: Option<&'a Status>,
    /// The check of its certificate.
    pub(super) certificate: Option<&'a Check>,
    /// An authority to trust.
    pub(super) ca: Option<&'a Path>,
}

/// Why there is no answer.
enum Failure {
    NotAsked(Error),
    NoResponse(outgoing::Error),
}

impl Failure {
    const fn fault(&self) -> Option<CertificateFault> {
        match self {
            Self::NoResponse(outgoing::Error::Certificate { fault, .. }) => Some(*fault),
            _ => None,
        }
    }
}

/// Requests the registry as clients do, and checks that it knows the URL that they use.
pub(super) fn way(place: Option<&Place>, facts: &Facts<'_>) -> Way {
    let unseen = Seen::Unusable("no answer has come from there".to_owned());
    let mut way = Way { checks: Vec::new(), clock: None, seen: unseen };
    way.checks.extend(forwarding(facts.status));
    let Some(place) = place else {
        let why = "no registry runs, and http.externalUrl is not set: name a URL with --url";
        way.checks.push(Check::skipped(NAME, why));
        return way;
    };
    let text = &place.url;
    let Some(url) = Url::parse(text).ok().filter(Url::has_host) else {
        let found = format!("{text:?} is not a URL");
        way.checks.push(Check::problem(NAME, found, "name one such as https://registry.example"));
        return way;
    };
    let mut answer = ask(place, None, None);
    if answer.is_ok() || url.scheme() == "http" {
        way.seen = Seen::Trusted;
    }
    if let Err(failure) = &answer
        && failure.fault() == Some(CertificateFault::Untrusted)
    {
        way.seen = Seen::Untrusted;
        if facts.ca.is_some() {
            answer = ask(place, facts.ca, None);
        }
    }
    match answer {
        Err(Failure::NotAsked(error)) => way.checks.push(Check::skipped(NAME, error.to_string())),
        Err(Failure::NoResponse(error)) => {
            let (check, unusable) = no_response(place, &error, facts);
            way.checks.push(check);
            if let Some(why) = unusable {
                way.seen = Seen::Unusable(why);
            }
        }
        Ok(answer) => {
            let date = answer.headers.get(header::DATE).and_then(|date| date.to_str().ok());
            let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
            if let Some(date) = date.and_then(|date| u64::try_from(date.timestamp().as_microsecond()).ok()) {
                way.clock = clock::compare(Timestamp::from_micros(date), text);
            }
            way.checks.push(known(text, &url, &answer, hint(place, facts)));
            // There is no proxy at an address of the registry itself.
            if !place.is_guess {
                let size = block_on(async { Ok(size(&answer.client, text).await) });
                way.checks.extend(size.ok().flatten());
            }
        }
    }
    way
}

/// The check of a URL that does not answer, and why its certificate is of no use to clients.
fn no_response(place: &Place, error: &outgoing::Error, facts: &Facts<'_>) -> (Check, Option<String>) {
    let why = error.to_string();
    let outgoing::Error::Certificate { fault, .. } = error else {
        let advice = "check the name, the port and the firewall; behind a proxy, see that it runs";
        return (Check::problem(NAME, why, advice), None);
    };
    let certificate = facts.status.and_then(|status| status.certificate.as_ref());
    let check = match fault {
        CertificateFault::Untrusted if certificate.is_some_and(|certificate| certificate.self_signed) => {
            let why = "clients get a self-signed certificate".to_owned();
            return (Check::skipped(NAME, format!("not checked: {why}")), Some(why));
        }
        CertificateFault::Untrusted => {
            let advice = if facts.ca.is_some() {
                "name the certificate of its authority with --ca"
            } else {
                "name the certificate of its authority with --ca, or let this machine trust it: copy it to \
                 /usr/local/share/ca-certificates and run `update-ca-certificates`"
            };
            return (Check::problem(NAME, why, advice), None);
        }
        CertificateFault::OtherName if place.is_guess => Check::warning(NAME, why.clone(), fault_advice(*fault)),
        CertificateFault::OtherName => Check::problem(NAME, why.clone(), fault_advice(*fault)),
        // The check of the certificate says the same.
        CertificateFault::Expired(_) | CertificateFault::NotYetValid(_)
            if facts.certificate.is_some_and(|check| check.state == State::Problem) =>
        {
            Check::skipped(NAME, format!("not checked: {why}"))
        }
        CertificateFault::Expired(_) | CertificateFault::NotYetValid(_) => {
            Check::problem(NAME, why.clone(), fault_advice(*fault))
        }
    };
    (check, Some(why))
}

/// The advice for the certificate of a URL.
const fn fault_advice(fault: CertificateFault) -> &'static str {
    match fault {
        CertificateFault::Untrusted => "name the certificate of its authority",
        CertificateFault::OtherName => {
            "name the URL that clients use with --url or http.externalUrl, or get a certificate that has this name"
        }
        CertificateFault::Expired(_) => "renew the certificate on the machine that has it: the registry or the proxy",
        CertificateFault::NotYetValid(_) => "check the clock of this machine, or use a certificate that is valid now",
    }
}

/// Says how to check the way through a proxy, if there seems to be one.
fn hint(place: &Place, facts: &Facts<'_>) -> &'static str {
    let trusted = facts.config.is_some_and(|config| !config.http.trusted_proxies.is_empty());
    let server = facts.status.and_then(|status| status.server.as_ref());
    let has_proxy = trusted || server.is_some_and(|server| !server.untrusted_proxies.is_empty());
    if place.is_guess && has_proxy { "; --url with the URL of a proxy checks the way through it" } else { "" }
}

/// Fails if the certificates in a text do not make the certificate of the registry trusted. Says why, and what to do if
/// another authority does not help.
pub(super) fn trusts(place: &Place, pem: String) -> Result<(), (String, Option<&'static str>)> {
    match ask(place, None, Some(pem)) {
        Ok(_) => Ok(()),
        Err(Failure::NotAsked(error)) => Err((error.to_string(), None)),
        Err(Failure::NoResponse(error)) => {
            let advice = match &error {
                outgoing::Error::Certificate { fault: CertificateFault::Untrusted, .. } => None,
                outgoing::Error::Certificate { fault, .. } => Some(fault_advice(*fault)),
                _ => None,
            };
            Err((error.to_string(), advice))
        }
    }
}

/// The peers whose forwarding headers the registry ignores.
fn forwarding(status: Option<&Status>) -> Option<Check> {
    const NAME: &str = PROXY;
    let server = status?.server.as_ref()?;
    if !server.contradicting_proxies.is_empty() {
        let peers = some_of(&server.contradicting_proxies, PROXIES_SHOWN);
        return Some(Check::problem(
            NAME,
            format!("the forwarding headers of {peers} contradict each other"),
            "let the proxy remove the headers that it does not set: `Forwarded`, or `X-Forwarded-*`",
        ));
    }
    // A warning, because every client can send such headers. A proxy that is not trusted is a problem of the URL.
    let peers = Some(&server.untrusted_proxies).filter(|peers| !peers.is_empty())?;
    Some(Check::warning(
        NAME,
        format!("the registry ignores the forwarding headers of {}", some_of(peers, PROXIES_SHOWN)),
        "if it is your proxy, add its address to http.trustedProxies; otherwise a client sends false headers",
    ))
}

/// The responses of a URL.
struct Answer {
    /// To `/v2/`.
    status: StatusCode,
    headers: HeaderMap,
    /// The URL by which the registry describes its API, if it does.
    described: Option<String>,
    /// The client that got them.
    client: Client,
}

/// Requests a URL. Trusts the certificates in the file `ca` and in the text `ca_pem`, too.
fn ask(place: &Place, ca: Option<&Path>, ca_pem: Option<String>) -> Result<Answer, Failure> {
    let asked = block_on(async { Ok(request(place, ca, ca_pem).await) });
    match asked {
        Ok(answer) => answer.map_err(Failure::NoResponse),
        Err(error) => Err(Failure::NotAsked(error)),
    }
}

async fn request(place: &Place, ca: Option<&Path>, ca_pem: Option<String>) -> Result<Answer, outgoing::Error> {
    let client = Client::new(Settings {
        plain: Plain::Anywhere,
        deadline: PATIENCE,
        ca: ca.map(Path::to_owned),
        ca_pem,
        connect_to: place.connect_to,
        ..Settings::default()
    });
    let get = |path: &str| {
        let request = Request::get(format!("{}{path}", place.url.trim_end_matches('/'))).body(Vec::new());
        let client = client.clone();
        async move { client.send(request.map_err(|_| outgoing::Error::Url("is invalid"))?).await }
    };
    let ping: Response<Vec<u8>> = get("/v2/").await?;
    let description = get("/api/v1/discovery").await.ok().filter(|response| response.status() == StatusCode::OK);
    let described = description.and_then(|response| {
        let description: Value = serde_json::from_slice(response.body()).ok()?;
        description["servers"][0]["url"].as_str().map(str::to_owned)
    });
    Ok(Answer { status: ping.status(), headers: ping.headers().clone(), described, client })
}

/// Whether the registry behind a URL knows that clients use this URL.
fn known(text: &str, url: &Url, answer: &Answer, hint: &str) -> Check {
    let status = answer.status;
    if status.is_server_error() {
        let found = format!("{text}/v2/ answers {status}");
        return Check::problem(
            NAME,
            found,
            "the proxy does not reach the registry: check its address there, and the log",
        );
    }
    let is_registry = matches!(status, StatusCode::OK | StatusCode::UNAUTHORIZED)
        && (answer.described.is_some() || answer.headers.contains_key("docker-distribution-api-version"));
    if !is_registry {
        let found = format!("{text}/v2/ answers {status}, but not as a registry does");
        return Check::problem(NAME, found, "let the proxy pass the paths /v2/ and /api/ on, unchanged");
    }
    let realm = answer.headers.get_all(header::WWW_AUTHENTICATE).iter().find_map(|challenge| {
        let challenge = challenge.to_str().ok()?;
        challenge.strip_prefix("Bearer ")?.split("realm=\"").nth(1)?.split('"').next().map(str::to_owned)
    });
    let thought = answer.described.clone().or(realm);
    let own = thought.as_deref().and_then(|thought| Url::parse(thought).ok());
    let is_same = |own: &Url| {
        own.scheme() == url.scheme()
            && own.host_str() == url.host_str()
            && own.port_or_known_default() == url.port_or_known_default()
    };
    match own {
        Some(own) if !is_same(&own) => {
            let host = url.host_str().unwrap_or_default();
            let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
            Check::problem(
                NAME,
                format!(
                    "clients use {text}, and the registry tells them to continue at {}: logins and pushes fail",
                    own.origin().ascii_serialization()
                ),
                format!(
                    "let the proxy send `X-Forwarded-Proto: {}` and `X-Forwarded-Host: {host}`, and add its address to \
                     http.trustedProxies; or set http.externalUrl = \"{text}\"",
                    url.scheme()
                ),
            )
        }
        _ => Check::ok(NAME, format!("clients reach the registry at {text}{hint}")),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_an_acme_authority_is_checked_by_its_name() {
        let domain = "registry.example".to_owned();
        let local = |url: &str, domain: Option<&String>| Place::local(url, domain).unwrap();
        for (url, address) in [
            ("https://127.0.0.1:8443", "127.0.0.1:8443"),
            ("https://0.0.0.0:443", "127.0.0.1:443"),
            ("https://[::]:443", "[::1]:443"),
        ] {
            let place = local(url, Some(&domain));
            assert_eq!(place.url, "https://registry.example");
            assert_eq!(place.connect_to, Some(address.parse().unwrap()));
        }
        let plain = local("http://0.0.0.0:8080", Some(&domain));
        assert_eq!((plain.url.as_str(), plain.connect_to), ("http://localhost:8080", None));
        assert_eq!(local("https://127.0.0.1:8443", None).url, "https://127.0.0.1:8443");
        assert_eq!(Place::local("unix:/run/coracle.sock", None), None);
    }

    #[test]
    fn each_fault_of_a_certificate_gets_its_own_advice() {
        let problem = Check::problem("certificate", "", "");
        let respond = |fault, is_guess, certificate| {
            let host = "localhost".to_owned();
            let error = outgoing::Error::Certificate { host, fault, cause: "registry.example".to_owned() };
            let place = Place { is_guess, ..Place::named("https://localhost") };
            no_response(&place, &error, &Facts { config: None, status: None, certificate, ca: None })
        };
        let (check, unusable) = respond(CertificateFault::Expired(0), true, None);
        assert_eq!((check.state, unusable.as_ref()), (State::Problem, Some(&check.found)));
        assert!(check.advice.unwrap().starts_with("renew the certificate"));
        let (check, unusable) = respond(CertificateFault::Expired(0), true, Some(&problem));
        assert_eq!((check.state, unusable.is_some()), (State::Skipped, true), "another check says the same");
        let (check, _) = respond(CertificateFault::NotYetValid(0), false, None);
        assert!(check.advice.unwrap().contains("clock"));
        let (check, _) = respond(CertificateFault::OtherName, true, None);
        assert_eq!(check.state, State::Warning, "only a guess of the URL");
        let (check, unusable) = respond(CertificateFault::OtherName, false, None);
        assert_eq!(check.found, "the certificate of localhost is not for this name, but for registry.example");
        assert!(check.state == State::Problem && check.advice.unwrap().contains("--url") && unusable.is_some());
        let (check, unusable) = respond(CertificateFault::Untrusted, false, None);
        assert!(check.advice.unwrap().contains("--ca") && unusable.is_none());
    }
}
