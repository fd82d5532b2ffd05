//! `coracle certificate …`: the certificate of the registry, and its renewal.

use std::process::ExitCode;

use clap::Subcommand;

use super::Error;
use super::administer::{Report, Target};
use crate::admin::{CertificateState, RenewCertificate, ShowCertificate, shown_rfc3339, shown_time};
use crate::kit::clock::{Clock, Timestamp};

/// Show the certificate of the registry, or renew it now
///
/// An ACME authority such as Let's Encrypt issues the certificate if http.tls.acme is set, and the registry renews it.
#[derive(Debug, clap::Args)]
pub(super) struct Certificate {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: CertificateCommand,
}

#[derive(Debug, Subcommand)]
enum CertificateCommand {
    Show(ShowCertificate),
    Renew(RenewCertificate),
}

impl Certificate {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        match self.command {
            CertificateCommand::Show(request) => self.target.run(request),
            CertificateCommand::Renew(request) => self.target.run(request),
        }
    }
}

/// A certificate in one line.
pub(super) fn describe(state: &CertificateState) -> String {
    describe_at(state, Clock::default().now())
}

fn describe_at(state: &CertificateState, now: Timestamp) -> String {
    let renewal = state.acme.as_ref().and_then(|acme| Timestamp::from_rfc3339(acme.renewal.as_ref()?));
    let renewal = renewal.map_or_else(String::new, |renewal| format!(", {}", renewal_at(renewal, now)));
    let is_past = |time: &str| Timestamp::from_rfc3339(time).is_some_and(|time| time <= now);
    match &state.until {
        Some(until) if is_past(until) => format!("expired at {}{renewal}", shown_rfc3339(until)),
        Some(until) => format!("valid until {}{renewal}", shown_rfc3339(until)),
        None if state.self_signed => "self-signed, until the ACME authority issues one".to_owned(),
        None if state.other_names => "not for all names, until the ACME authority issues another one".to_owned(),
        None => format!("{} cannot be read", state.file),
    }
}

/// When a certificate is renewed.
pub(super) fn renewal_at(renewal: Timestamp, now: Timestamp) -> String {
    let at = shown_time(renewal);
    if renewal > now { format!("will be renewed at {at}") } else { format!("due for renewal since {at}") }
}

impl Report for CertificateState {
    fn print(&self) {
        let line = |name: &str, value: &str| println!("{name:<14}{value}");
        line("certificate", &describe(self));
        line("file", &self.file);
        let Some(acme) = &self.acme else { return };
        line("names", &acme.domains.join(", "));
        line("authority", &acme.directory);
        if let (Some(why), Some(at)) = (&acme.failure, &acme.failed) {
            line("last failure", &format!("{}: {why}", shown_rfc3339(at)));
        }
        if let Some(next) = &acme.next_attempt {
            line("next attempt", &shown_rfc3339(next));
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_expired_is_not_called_valid() {
        let described = |now: &str| {
            let state = serde_json::json!({
                "file": "c.pem", "until": "2027-03-01T00:00:00Z", "self_signed": false, "acme": {
                    "directory": "d", "domains": [], "renewal": "2027-02-01T00:00:00Z", "failure": null,
                    "failed": null, "next_attempt": null,
                },
            });
            describe_at(&serde_json::from_value(state).unwrap(), Timestamp::from_rfc3339(now).unwrap())
        };
        let renewal = "2027-02-01 00:00 UTC";
        assert_eq!(
            described("2027-01-01T00:00:00Z"),
            format!("valid until 2027-03-01 00:00 UTC, will be renewed at {renewal}")
        );
        assert_eq!(
            described("2027-02-02T00:00:00Z"),
            format!("valid until 2027-03-01 00:00 UTC, due for renewal since {renewal}")
        );
        assert_eq!(
            described("2027-03-02T00:00:00Z"),
            format!("expired at 2027-03-01 00:00 UTC, due for renewal since {renewal}")
        );
    }
}
