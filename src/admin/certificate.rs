//! The certificate of the registry, and its renewal by an ACME authority.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::shown_time;
use super::{Call, Failure, Operation, block_on};
use crate::acme::{NoCertificate, Report};
use crate::kit::certificate::{Validity, ValidityState};
use crate::kit::clock::Timestamp;
use crate::registry::Shared;

/// The longest time to wait for a renewal.
const PATIENCE: Duration = Duration::from_mins(10);

const NO_CERTIFICATE: &str = "this registry has no certificate: it speaks no TLS";

/// Show the certificate of the registry, and when it is renewed
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct ShowCertificate {}

/// Renew the certificate now, and wait for the result
///
/// For a certificate of an ACME authority (http.tls.acme), of a running registry. Needed only if the private key is known to
/// someone else, or after what made an attempt fail is repaired: the registry renews the certificate by itself. If the
/// renewal fails, the registry tries again until it succeeds. Authorities limit how many certificates they issue in a week.
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct RenewCertificate {}

/// The certificate of a registry. Times are in RFC 3339.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CertificateState {
    /// The file of the certificate.
    pub(crate) file: String,
    /// The end of the certificate. Null without a certificate that TLS can use.
    pub(crate) until: Option<String>,
    /// Whether clients get a self-signed certificate, because the authority has issued none yet.
    pub(crate) self_signed: bool,
    /// Whether clients get a certificate of the authority that is not for all names.
    #[serde(default)]
    pub(crate) other_names: bool,
    /// Null if the operator renews it.
    pub(crate) acme: Option<AcmeState>,
}

/// The state of the renewal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AcmeState {
    pub(crate) directory: String,
    pub(crate) domains: Vec<String>,
    /// When the certificate is due for renewal.
    pub(crate) renewal: Option<String>,
    /// The last failure, if nothing succeeded since.
    pub(crate) failure: Option<String>,
    pub(crate) failed: Option<String>,
    /// When it is tried again after the failure.
    pub(crate) next_attempt: Option<String>,
}

impl Operation for ShowCertificate {
    type Answer = CertificateState;

    fn perform(self, call: &Call<'_>) -> Result<CertificateState, Failure> {
        state(call.registry).ok_or_else(|| Failure::Invalid(NO_CERTIFICATE.to_owned()))
    }
}

impl Operation for RenewCertificate {
    type Answer = CertificateState;

    fn perform(self, call: &Call<'_>) -> Result<CertificateState, Failure> {
        let none = || {
            let why = if call.registry.certificate_file().is_some() {
                "no ACME authority issues the certificate of this registry: replace its files, which are read again"
            } else {
                NO_CERTIFICATE
            };
            Failure::Invalid(why.to_owned())
        };
        let acme = call.registry.acme().ok_or_else(none)?;
        if call.registry.serving().is_none() {
            return Err(Failure::Invalid(
                "the registry is stopped: the authority could not verify its names".to_owned(),
            ));
        }
        let renewed = block_on(async { tokio::time::timeout(PATIENCE, acme.renew()).await })?;
        match renewed {
            Ok(true) => {}
            Ok(false) => {
                return Err(Failure::Invalid(
                    "the registry stops: it renews the certificate after its next start".to_owned(),
                ));
            }
            Err(_) => return Err(Failure::Invalid("the renewal has not ended: see the log".to_owned())),
        }
        let report = acme.report();
        match report.failure {
            Some((_, why)) => Err(Failure::Invalid(format!("no certificate was issued: {why}"))),
            None => Ok(of_report(&report)),
        }
    }
}

/// The certificate of a registry. `None` if it speaks no TLS.
pub(super) fn state(registry: &Shared) -> Option<CertificateState> {
    if let Some(acme) = registry.acme() {
        return Some(of_report(&acme.report()));
    }
    let file = registry.certificate_file()?;
    let until = Validity::read(&file).ok().map(|validity| validity.until.to_string());
    Some(CertificateState {
        file: file.display().to_string(),
        until,
        self_signed: false,
        other_names: false,
        acme: None,
    })
}

fn of_report(report: &Report) -> CertificateState {
    let text = |time: Timestamp| time.to_string();
    let (failed, failure) = report.failure.clone().unzip();
    CertificateState {
        file: report.file.display().to_string(),
        until: report.validity.as_ref().ok().map(|validity| text(validity.until)),
        self_signed: report.validity == Err(NoCertificate::Missing),
        other_names: report.validity == Err(NoCertificate::OtherNames),
        acme: Some(AcmeState {
            directory: report.directory.clone(),
            domains: report.domains.clone(),
            renewal: report.renewal.map(text),
            failure,
            failed: failed.map(text),
            next_attempt: report.next_attempt.map(text),
        }),
    }
}

/// Warns about a certificate that ends soon, or that cannot be renewed.
pub(super) fn warnings(registry: &Shared) -> Vec<String> {
    let now = registry.now();
    let Some(acme) = registry.acme() else {
        return registry.certificate_file().and_then(|file| of_file(now, &file)).into_iter().collect();
    };
    let report = acme.report();
    let missing = report.validity.as_ref().err().map(|why| match why {
        NoCertificate::Unreadable(why) => why.clone(),
        why => format!("{why}: {} has issued none for {}", report.directory, report.domains.join(", ")),
    });
    let failed = report.failure.as_ref().map(|(at, why)| {
        let at = shown_time(*at);
        let next = report.next_attempt.map(|next| format!("; next attempt at {}", shown_time(next)));
        let next = next.unwrap_or_default();
        format!("no certificate was issued at {at}: {why}{next}, or at once with `coracle certificate renew`")
    });
    let ends = report.validity.ok().and_then(|validity| match validity.at(now) {
        ValidityState::Valid => None,
        ValidityState::Expired => {
            Some(format!("the certificate expired at {}: see the log", shown_time(validity.until)))
        }
        ValidityState::NotYetValid => {
            Some(format!("the certificate is not valid before {}: check the clock", shown_time(validity.from)))
        }
        ValidityState::ExpiresSoon => {
            let until = shown_time(validity.until);
            Some(format!("the certificate expires at {until}, and is not renewed: see the log"))
        }
    });
    missing.into_iter().chain(failed).chain(ends).collect()
}

fn of_file(now: Timestamp, path: &Path) -> Option<String> {
    let validity = Validity::read(path).ok()?;
    let (path, until) = (path.display(), shown_time(validity.until));
    match validity.at(now) {
        ValidityState::Expired => {
            Some(format!("the certificate {path} expired at {until}: replace it, the registry reads it again"))
        }
        ValidityState::NotYetValid => {
            let from = shown_time(validity.from);
            Some(format!("the certificate {path} is not valid before {from}: check the clock"))
        }
        ValidityState::ExpiresSoon => Some(format!("the certificate {path} expires at {until}: renew it")),
        ValidityState::Valid => None,
    }
}
