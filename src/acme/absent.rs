//! Certificates from an ACME authority in a build without the feature `tls`. No registry has one.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::kit::clock::Timestamp;

/// A certificate and its renewal. It has no value.
#[derive(Debug)]
pub(crate) enum Acme {}

/// The state of the certificate.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) domains: Vec<String>,
    pub(crate) renewal: Option<Timestamp>,
    pub(crate) failure: Option<(Timestamp, String)>,
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

    pub(crate) async fn run(self: Arc<Self>, _: TaskTracker) {
        match *self {}
    }
}
