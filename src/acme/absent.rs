//! Certificates from an ACME authority in a build without the feature `acme`. No registry has one.

mod report;

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

pub(crate) use report::{ALPN, NoCertificate, Report};

/// A certificate and its renewal. It has no value.
#[derive(Debug)]
pub(crate) enum Acme {}

impl Acme {
    pub(crate) fn certificate_file(&self) -> PathBuf {
        match *self {}
    }

    pub(crate) fn challenge_response(&self, _: &str) -> Option<String> {
        match *self {}
    }

    pub(crate) fn domains(&self) -> &[String] {
        match *self {}
    }

    pub(crate) fn report(&self) -> Report {
        match *self {}
    }

    pub(crate) async fn renew(&self) -> bool {
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
