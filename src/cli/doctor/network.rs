//! The way of clients to the registry: certificate, port, and the URL with the headers of a proxy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use hyper::header::{self, HeaderMap};
use hyper::{Request, Response, StatusCode};
use serde_json::Value;
use url::Url;

use super::{Check, clock};
use crate::admin::Status;
use crate::cli::block_on;
use crate::config::{Address, Config, Listen, Tls};
use crate::kit::certificate::{Validity, ValidityState};
use crate::kit::outgoing::{Client, Plain, Settings};
use crate::registry::{CertificateReport, NoCertificate, certificate_report};
use crate::server::check_tls;

/// The name of the check of the certificate.
const CERTIFICATE: &str = "certificate";
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The certificate of the registry, if it speaks TLS itself.
pub(super) fn certificate(config: &Config, root: &Path) -> Option<Check> {
    match certificate_report(config, root) {
        Ok(Some(report)) => Some(issued_certificate(&report)),
        Ok(None) => config.http.tls.as_ref().map(certificate_of),
        Err(error) => Some(Check::problem(CERTIFICATE, error.to_string(), "run `coracle check-config`")),
    }
}

/// A certificate that an ACME authority issues.
fn issued_certificate(report: &CertificateReport) -> Check {
    let shown = report.file.display();
    if let Some((at, why)) = &report.failure {
        let found = format!("the ACME authority {} issued none at {at}: {why}", report.directory);
        let next = report.next_attempt.map(|next| format!(", or wait until {next}")).unwrap_or_default();
        let advice = format!("repair that, then run `coracle certificate renew`{next}");
        let is_usable =
            report.validity.as_ref().is_ok_and(|validity| validity.at(clock::now()) == ValidityState::Valid);
        return if is_usable {
            Check::warning(CERTIFICATE, found, advice)
        } else {
            Check::problem(CERTIFICATE, found, advice)
        };
    }
    let validity = match &report.validity {
        Ok(validity) => *validity,
        Err(NoCertificate::Unreadable(why)) => {
            return Check::problem(CERTIFICATE, why.clone(), "let the user of the registry read the file");
        }
        Err(why) => {
            let found = format!("{why}: {} has issued none yet", report.directory);
            return Check::warning(CERTIFICATE, found, "start the registry, and see its log");
        }
    };
    match validity.at(clock::now()) {
        ValidityState::Expired => {
            let advice = "start the registry, and see its log";
            Check::problem(CERTIFICATE, format!("{shown} expired at {}: clients refuse it", validity.until), advice)
        }
        ValidityState::NotYetValid => not_yet_valid(&report.file, validity),
        ValidityState::ExpiresSoon => {
            let advice = "start the registry, and see its log: it renews the certificate";
            Check::warning(CERTIFICATE, format!("{shown} expires at {}", validity.until), advice)
        }
        ValidityState::Valid => {
            let renewal = report.renewal.map(|renewal| format!(", and renewed at {renewal}")).unwrap_or_default();
            Check::ok(CERTIFICATE, format!("{shown} is valid until {}{renewal}", validity.until))
        }
    }
}

fn not_yet_valid(file: &Path, validity: Validity) -> Check {
    let advice = "check the clock of this machine, or use a certificate that is valid now";
    let found = format!("{} is not valid before {}: clients refuse it", file.display(), validity.from);
    Check::problem(CERTIFICATE, found, advice)
}

fn certificate_of(tls: &Tls) -> Check {
    const NAME: &str = CERTIFICATE;
    if let Err((key, why)) = check_tls(tls) {
        return Check::problem(NAME, format!("{key}: {why}"), "let the key name a usable file that this user may read");
    }
    let path: &Path = &tls.cert;
    let (now, shown) = (clock::now(), path.display());
    let validity = match Validity::read(path) {
        Ok(validity) => validity,
        Err(why) => return Check::problem(NAME, format!("{shown} {why}"), "let http.tls.cert name a certificate"),
    };
    let renew = "renew it; the registry reads a changed file within a second";
    match validity.at(now) {
        ValidityState::Expired => {
            Check::problem(NAME, format!("{shown} expired at {}: clients refuse it", validity.until), renew)
        }
        ValidityState::NotYetValid => not_yet_valid(path, validity),
        ValidityState::ExpiresSoon => Check::warning(NAME, format!("{shown} expires at {}", validity.until), renew),
        ValidityState::Valid => Check::ok(NAME, format!("{shown} is valid until {}", validity.until)),
    }
}

/// Whether the registry listens, or could.
pub(super) fn ports(config: &Config, status: Option<&Status>) -> Vec<Check> {
    const NAME: &str = "port";
    if let Some(server) = status.and_then(|status| status.server.as_ref()) {
        return vec![Check::ok(NAME, format!("the registry listens at {}", server.urls.join(" and ")))];
    }
    let listens = config.http.listens();
    let ports = listens.iter().filter_map(|place| match place {
        Listen::Port { address, port, .. } => Some((address, *port)),
        Listen::Unix(_) => None,
    });
    ports.map(|(address, port)| self::port(NAME, *address, port)).collect()
}

/// Whether the registry could listen at a port.
fn port(name: &'static str, address: Address, port: u16) -> Check {
    let ip = match address {
        Address::All => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Address::Localhost => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Address::Ip(ip) => ip,
    };
    let address = SocketAddr::new(ip, port);
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(error) => {
            let advice = match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "stop the other program (`ss -ltnp` names it), or choose another port with http.port"
                }
                std::io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need a right: use the socket unit of systemd, or `setcap cap_net_bind_service=+ep`"
                }
                std::io::ErrorKind::AddrNotAvailable => "choose an address of this machine with http.address",
                _ => "choose another address with http.address",
            };
            Check::problem(name, format!("cannot listen at {address}: {error}"), advice)
        }
    }
}

/// The way of clients to the registry.
pub(super) struct Way {
    pub(super) checks: Vec<Check>,
    /// Whether this machine trusts the certificate, without a file that the command names.
    pub(super) is_trusted: bool,
}

/// Requests the registry as clients do, and checks that it knows the URL that they use. `ca` is an authority to trust.
pub(super) fn way(url: Option<&str>, status: Option<&Status>, ca: Option<&Path>) -> Way {
    const NAME: &str = "URL";
    let mut way = Way { checks: Vec::new(), is_trusted: true };
    let checks = &mut way.checks;
    checks.extend(forwarding(status));
    let Some(text) = url else {
        checks.push(Check::skipped(NAME, "no registry runs, and http.externalUrl is not set: name a URL with --url"));
        return way;
    };
    let Some(url) = Url::parse(text).ok().filter(Url::has_host) else {
        checks.push(Check::problem(
            NAME,
            format!("{text:?} is not a URL"),
            "name one such as https://registry.example",
        ));
        return way;
    };
    let mut answer = block_on(async { Ok(ask(text, None, None).await) });
    if matches!(&answer, Ok(Err(why)) if is_untrusted(why)) {
        way.is_trusted = false;
        if ca.is_some() {
            answer = block_on(async { Ok(ask(text, ca, None).await) });
        }
    }
    match answer {
        Err(error) => checks.push(Check::skipped(NAME, error.to_string())),
        Ok(Err(why)) => {
            let advice = if is_untrusted(&why) && ca.is_some() {
                "name the certificate of its authority with --ca"
            } else if is_untrusted(&why) {
                "name the certificate of its authority with --ca, or let this machine trust it: copy it to \
                 /usr/local/share/ca-certificates and run `update-ca-certificates`"
            } else {
                "check the name, the port and the firewall; behind a proxy, see that it runs"
            };
            checks.push(Check::problem(NAME, why, advice));
        }
        Ok(Ok(answer)) => {
            let date = answer.headers.get(header::DATE).and_then(|date| date.to_str().ok());
            let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
            if let Some(date) = date.and_then(|date| u64::try_from(date.timestamp().as_microsecond()).ok()) {
                let other = crate::kit::clock::Timestamp::from_micros(date);
                checks.extend(clock::compare(clock::now(), other, text));
            }
            checks.push(known(text, &url, &answer));
        }
    }
    way
}

/// Whether the certificate of a server is the reason of a failure.
fn is_untrusted(why: &str) -> bool {
    why.contains("is not trusted")
}

/// Fails if a certificate in a text does not make the certificate of the registry trusted.
pub(super) fn trusts(url: &str, pem: String) -> Result<(), String> {
    match block_on(async { Ok(ask(url, None, Some(pem)).await) }) {
        Ok(answer) => answer.map(drop),
        Err(error) => Err(error.to_string()),
    }
}

/// The peers whose forwarding headers the registry ignores.
fn forwarding(status: Option<&Status>) -> Option<Check> {
    const NAME: &str = "proxy";
    let server = status?.server.as_ref()?;
    let all = |peers: &[String]| peers.join(", ");
    if !server.untrusted_proxies.is_empty() {
        return Some(Check::problem(
            NAME,
            format!("the registry ignores the forwarding headers of {}", all(&server.untrusted_proxies)),
            "if it is your proxy, add its address to http.trustedProxies; otherwise a client sends false headers",
        ));
    }
    if !server.contradicting_proxies.is_empty() {
        return Some(Check::problem(
            NAME,
            format!("the forwarding headers of {} contradict each other", all(&server.contradicting_proxies)),
            "let the proxy remove the headers that it does not set: `Forwarded`, or `X-Forwarded-*`",
        ));
    }
    None
}

/// The responses of a URL.
struct Answer {
    /// To `/v2/`.
    status: StatusCode,
    headers: HeaderMap,
    /// The URL by which the registry describes its API, if it does.
    described: Option<String>,
}

async fn ask(url: &str, ca: Option<&Path>, ca_pem: Option<String>) -> Result<Answer, String> {
    let ca = ca.map(Path::to_owned);
    let client =
        Client::new(Settings { plain: Plain::Anywhere, deadline: PATIENCE, ca, ca_pem, ..Settings::default() });
    let get = |path: &str| {
        let request = Request::get(format!("{}{path}", url.trim_end_matches('/'))).body(Vec::new());
        let client = client.clone();
        async move {
            let request = request.map_err(|error| error.to_string())?;
            client.send(request).await.map_err(|error| error.to_string())
        }
    };
    let ping: Response<Vec<u8>> = get("/v2/").await?;
    let description = get("/api/v1/discovery").await.ok().filter(|response| response.status() == StatusCode::OK);
    let described = description.and_then(|response| {
        let description: Value = serde_json::from_slice(response.body()).ok()?;
        description["servers"][0]["url"].as_str().map(str::to_owned)
    });
    Ok(Answer { status: ping.status(), headers: ping.headers().clone(), described })
}

/// Whether the registry behind a URL knows that clients use this URL.
fn known(text: &str, url: &Url, answer: &Answer) -> Check {
    const NAME: &str = "URL";
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
        let found = format!("{text}/v2/ answers {status}, which no registry does");
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
        _ => Check::ok(NAME, format!("clients reach the registry at {text}")),
    }
}
