//! Certificates from an ACME authority in a build without the feature `acme`. No registry has one.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::kit::certificate::Validity;
use crate::kit::clock::Timestamp;

/// The protocol of a challenge in a TLS handshake.
pub(crate) const ALPN: &[u8] = b"acme-tls/1";

/// A certificate and its renewal. It has no value.
#[derive(Debug)]
pub(crate) enum Acme {}

/// The state of the certificate.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) domains: Vec<String>,
    pub(crate) directory: String,
    pub(crate) file: PathBuf,
    pub(crate) validity: Option<Validity>,
    pub(crate) renewal: Option<Timestamp>,
    pub(crate) failure: Option<(Timestamp, String)>,
    pub(crate) next_attempt: Option<Timestamp>,
    pub(crate) failures: u64,
}

impl Acme {
    pub(crate) fn certificate_file(&self) -> PathBuf {
        match *self {}
    }

    pub(crate) fn challenge_response(&self, _: &str) -> Option<String> {
        match *self {}
    }

    pub(crate) fn report(&self) -> Report {
        match *self {}
    }

    pub(crate) async fn renew(&self) {
        match *self {}
    }

    #[cfg(feature = "tls")]
    pub(crate) fn stand_in(&self) -> Result<Arc<rustls::sign::CertifiedKey>, String> {
        match *self {}
    }

    #[cfg(feature = "tls")]
    pub(crate) fn challenge_certificate(&self, _: &str) -> Option<Arc<rustls::sign::CertifiedKey>> {
        match *self {}
    }

    pub(crate) async fn run(self: Arc<Self>, _: TaskTracker) {
        match *self {}
    }
}
