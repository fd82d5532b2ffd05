//! `coracle certificate …`: the certificate of the registry, and its renewal.

use std::process::ExitCode;

use clap::Subcommand;

use super::Error;
use super::administer::{Report, Target};
use crate::admin::{CertificateState, RenewCertificate, ShowCertificate};

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
    let renewal = state.acme.as_ref().and_then(|acme| acme.renewal.as_ref());
    let renewal = renewal.map_or_else(String::new, |renewal| format!(", renewed at {renewal}"));
    match &state.until {
        Some(until) => format!("valid until {until}{renewal}"),
        None if state.self_signed => "self-signed, until the ACME authority issues one".to_owned(),
        None if state.other_names => "not for all names, until the ACME authority issues another one".to_owned(),
        None => format!("{} cannot be read", state.file),
    }
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
            line("last failure", &format!("{at}: {why}"));
        }
        if let Some(next) = &acme.next_attempt {
            line("next attempt", next);
        }
    }
}
