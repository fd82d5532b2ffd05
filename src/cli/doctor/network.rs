//! The certificate of the registry, and its ports.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use super::{Check, clock};
use crate::admin::{CertificateState, Status, shown_time};
use crate::cli::certificate::renewal_at;
use crate::config::{Address, Config, Listen, Tls};
use crate::kit::certificate::{Validity, ValidityState};
use crate::kit::clock::Timestamp;
use crate::registry::{CertificateReport, NoCertificate, PORT_RIGHT, certificate_report};
use crate::server::check_tls;

/// The name of the check of the certificate.
pub(super) const CERTIFICATE: &str = "certificate";
/// The advice for a certificate of a file.
const RENEW: &str = "renew it; the registry reads a changed file within a second";

/// The certificate of the registry, if it speaks TLS itself: by its configuration, or as the running registry shows it.
pub(super) fn certificate(config: Option<(&Config, &Path)>, status: Option<&Status>) -> Option<Check> {
    let configured = config.and_then(|(config, root)| configured_certificate(config, root));
    configured.or_else(|| status?.certificate.as_ref().map(|state| shown_certificate(state, clock::now())))
}

fn configured_certificate(config: &Config, root: &Path) -> Option<Check> {
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
        let found = format!("the ACME authority {} issued none at {}: {why}", report.directory, shown_time(*at));
        let ended =
            report.validity.as_ref().ok().filter(|validity| validity.at(clock::now()) == ValidityState::Expired);
        let ended = ended.map(|validity| format!("{}; ", expired(&shown, *validity)));
        let found = ended.unwrap_or_default() + &found;
        let next = report.next_attempt.map(|next| format!(", or wait until {}", shown_time(next))).unwrap_or_default();
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
            Check::problem(CERTIFICATE, expired(&shown, validity), advice)
        }
        ValidityState::NotYetValid => not_yet_valid(&report.file, validity),
        ValidityState::ExpiresSoon => {
            let advice = "start the registry, and see its log: it renews the certificate";
            Check::warning(CERTIFICATE, expires(&shown, validity), advice)
        }
        ValidityState::Valid => {
            let renewal = report
                .renewal
                .map(|renewal| format!(", and {}", renewal_at(renewal, clock::now())))
                .unwrap_or_default();
            Check::ok(CERTIFICATE, valid(&shown, validity) + &renewal)
        }
    }
}

fn expired(file: &impl Display, validity: Validity) -> String {
    format!("{file} expired at {}: clients refuse it", shown_time(validity.until))
}

fn expires(file: &impl Display, validity: Validity) -> String {
    format!("{file} expires at {}", shown_time(validity.until))
}

fn valid(file: &impl Display, validity: Validity) -> String {
    format!("{file} is valid until {}", shown_time(validity.until))
}

fn not_yet_valid(file: &Path, validity: Validity) -> Check {
    let advice = "check the clock of this machine, or use a certificate that is valid now";
    let found = format!("{} is not valid before {}: clients refuse it", file.display(), shown_time(validity.from));
    Check::problem(CERTIFICATE, found, advice)
}

fn certificate_of(tls: &Tls) -> Check {
    const NAME: &str = CERTIFICATE;
    if let Err((key, why)) = check_tls(tls) {
        let advice = "let http.tls.cert and http.tls.key name a certificate and its key, which this user may read";
        return Check::problem(NAME, format!("{key}: {why}"), advice);
    }
    let path: &Path = &tls.cert;
    let (now, shown) = (clock::now(), path.display());
    let validity = match Validity::read(path) {
        Ok(validity) => validity,
        Err(why) => return Check::problem(NAME, format!("{shown} {why}"), "let http.tls.cert name a certificate"),
    };
    match validity.at(now) {
        ValidityState::Expired => Check::problem(NAME, expired(&shown, validity), RENEW),
        ValidityState::NotYetValid => not_yet_valid(path, validity),
        ValidityState::ExpiresSoon => Check::warning(NAME, expires(&shown, validity), RENEW),
        ValidityState::Valid => Check::ok(NAME, valid(&shown, validity)),
    }
}

/// The certificate that a running registry shows, for a command that does not know its configuration.
fn shown_certificate(state: &CertificateState, now: Timestamp) -> Check {
    const NAME: &str = CERTIFICATE;
    let (file, acme) = (&state.file, state.acme.as_ref());
    let until = state.until.as_deref().and_then(Timestamp::from_rfc3339);
    // The file may be one of another user, or relative to the directory of the registry.
    let read = || Validity::read(Some(Path::new(file)).filter(|path| path.is_absolute())?).ok();
    let validity = until.map(|until| read().unwrap_or(Validity { from: Timestamp::from_micros(0), until }));
    let is_usable = validity.is_some_and(|validity| validity.at(now) == ValidityState::Valid);
    if let Some((why, acme)) = acme.and_then(|acme| Some((acme.failure.as_ref()?, acme)))
        && validity.is_none_or(|validity| validity.at(now) != ValidityState::Expired)
    {
        let found = format!("the ACME authority {} issued none: {why}", acme.directory);
        let advice = "repair that, then run `coracle certificate renew`";
        let check = if is_usable { Check::warning } else { Check::problem };
        return check(NAME, found, advice);
    }
    let advice = if acme.is_some() { "see the log of the registry, or run `coracle certificate renew`" } else { RENEW };
    match validity {
        None if state.self_signed => {
            Check::warning(NAME, "clients get a self-signed one, until the ACME authority issues one", advice)
        }
        None if state.other_names => Check::warning(NAME, "clients get one that is not for all names", advice),
        None => Check::problem(NAME, format!("{file} cannot be used"), advice),
        Some(validity) => match validity.at(now) {
            ValidityState::Expired => Check::problem(NAME, expired(file, validity), advice),
            ValidityState::NotYetValid => not_yet_valid(Path::new(file), validity),
            ValidityState::ExpiresSoon => Check::warning(NAME, expires(file, validity), advice),
            ValidityState::Valid => Check::ok(NAME, valid(file, validity)),
        },
    }
}

/// Whether the registry listens, or could.
pub(super) fn ports(config: Option<&Config>, status: Option<&Status>) -> Vec<Check> {
    const NAME: &str = "port";
    if let Some(server) = status.and_then(|status| status.server.as_ref()) {
        return vec![Check::ok(NAME, format!("the registry listens at {}", server.urls.join(" and ")))];
    }
    let Some(config) = config else {
        return vec![Check::skipped(NAME, "not checked: only the configuration names it")];
    };
    let listens = config.http.listens();
    let ports = listens.iter().filter_map(|place| match place {
        Listen::Port { address, port, .. } => Some((address, *port)),
        Listen::Unix(_) => None,
    });
    ports.map(|(address, port)| self::port(NAME, *address, port, config.http.listen_key())).collect()
}

/// Whether the registry could listen at a port, which `key` sets.
fn port(name: &'static str, address: Address, port: u16, key: &str) -> Check {
    let ip = match address {
        Address::All => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Address::Localhost => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Address::Ip(ip) => ip,
    };
    let address = SocketAddr::new(ip, port);
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(error) => {
            let address_key = if key == "http.port" { "http.address" } else { key };
            let advice = match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    format!("stop the other program (`ss -ltnp` names it), or choose another port with {key}")
                }
                std::io::ErrorKind::PermissionDenied => PORT_RIGHT.to_owned(),
                std::io::ErrorKind::AddrNotAvailable => {
                    format!("choose an address of this machine with {address_key}")
                }
                _ => format!("choose another address with {address_key}"),
            };
            Check::problem(name, format!("cannot listen at {address}: {error}"), advice)
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_running_registry_shows_its_certificate_without_its_configuration() {
        let now = Timestamp::from_rfc3339("2027-01-01T00:00:00Z").unwrap();
        let shown = |until: Option<&str>, self_signed| {
            let state = serde_json::json!({
                "file": "acme/certificate.pem", "until": until, "self_signed": self_signed, "acme": null,
            });
            shown_certificate(&serde_json::from_value(state).unwrap(), now)
        };
        let expired = shown(Some("2026-12-01T00:00:00Z"), false);
        assert_eq!(expired.state, State::Problem, "{expired:?}");
        assert_eq!(expired.found, "acme/certificate.pem expired at 2026-12-01 00:00 UTC: clients refuse it");
        assert_eq!(shown(Some("2027-01-05T00:00:00Z"), false).state, State::Warning);
        assert_eq!(shown(Some("2028-01-01T00:00:00Z"), false).state, State::Ok);
        assert_eq!(shown(None, true).state, State::Warning);
        assert_eq!(shown(None, false).state, State::Problem);
    }

    #[test]
    fn an_occupied_port_names_the_key_that_sets_it() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let number = taken.local_addr().unwrap().port();
        for key in ["http.listen", "http.port"] {
            let found = port("port", Address::Localhost, number, key);
            assert!(found.advice.as_ref().unwrap().ends_with(&format!("another port with {key}")), "{found:?}");
        }
    }
}
