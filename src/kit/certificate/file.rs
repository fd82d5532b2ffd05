//! Reads certificates.

use std::path::Path;
use std::time::Duration;

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};

use super::{Timestamp, Validity};

/// A time after the end of every certificate, in seconds since 1970.
const AFTER_ALL: u64 = 253_402_300_799;

/// Whether clients accept a certificate for a name.
pub(crate) fn is_for(certificate: &CertificateDer<'_>, name: &str) -> bool {
    match (ParsedCertificate::try_from(certificate), ServerName::try_from(name)) {
        (Ok(certificate), Ok(name)) => verify_server_name(&certificate, &name).is_ok(),
        _ => false,
    }
}

impl Validity {
    /// Reads the first certificate of a PEM file.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let certificate = CertificateDer::from_pem_file(path).map_err(|error| format!("cannot be read: {error}"))?;
        Self::of(&certificate).ok_or_else(|| "is no certificate that TLS can use".to_owned())
    }

    /// Asks the verifier, which checks the dates before everything else, about times that are too early and too late.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = ParsedCertificate::try_from(certificate).ok()?;
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone().into_owned()).ok()?;
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        let verify = |seconds| {
            let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            match verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], time, algorithms.all) {
                Err(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
                    Some(not_before)
                }
                Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                    Some(not_after)
                }
                _ => None,
            }
        };
        let at = |time: UnixTime| Timestamp::from_micros(time.as_secs().saturating_mul(1_000_000));
        // A certificate that is valid since before 1970 has no first day that matters.
        let from = verify(0).unwrap_or(UnixTime::since_unix_epoch(Duration::ZERO));
        Some(Self { from: at(from), until: at(verify(AFTER_ALL)?) })
    }
}

/// Whether a text has certificates in PEM, and nothing unreadable.
pub(crate) fn are_certificates(pem: &str) -> bool {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    read.is_ok_and(|found| !found.is_empty())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn the_dates_of_a_certificate_are_read_also_if_it_is_expired_or_an_authority() {
        for is_authority in [false, true] {
            let mut parameters = rcgen::CertificateParams::new(vec!["registry.example".to_owned()]).unwrap();
            parameters.not_before = rcgen::date_time_ymd(2001, 2, 3);
            parameters.not_after = rcgen::date_time_ymd(2004, 5, 6);
            if is_authority {
                parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            }
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = parameters.self_signed(&key).unwrap();
            let validity = Validity::of(certificate.der()).unwrap();
            assert_eq!(validity.from.to_string(), "2001-02-03T00:00:00Z");
            assert_eq!(validity.until.to_string(), "2004-05-06T00:00:00Z");
        }
        assert!(Validity::read(Path::new("/nowhere")).is_err());
    }
}
