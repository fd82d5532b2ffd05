//! [`Report`]: what a registry says of its certificate, also in a build without the feature `acme`.

use std::path::PathBuf;

use crate::kit::certificate::Validity;
use crate::kit::clock::Timestamp;

/// The state of the certificate.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) domains: Vec<String>,
    pub(crate) directory: String,
    /// The file of the certificate.
    pub(crate) file: PathBuf,
    /// `None` if no certificate is for these names, so that clients get a self-signed one.
    pub(crate) validity: Option<Validity>,
    /// When the certificate is due for renewal.
    pub(crate) renewal: Option<Timestamp>,
    /// The last failure, if nothing succeeded since.
    pub(crate) failure: Option<(Timestamp, String)>,
    /// When it is tried again after a failure.
    pub(crate) next_attempt: Option<Timestamp>,
    /// Attempts that failed since the start.
    pub(crate) failures: u64,
}
