//! [`Report`]: the state of the certificate for commands and metrics. Part of a build without the feature `acme` as well.

use std::fmt;
use std::path::PathBuf;

use crate::kit::certificate::Validity;
use crate::kit::clock::Timestamp;

/// The protocol of TLS-ALPN-01 in a TLS handshake (RFC 8737, 6.2).
pub(crate) const ALPN: &[u8] = b"acme-tls/1";

/// The state of the certificate.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) domains: Vec<String>,
    pub(crate) directory: String,
    /// The file of the certificate.
    pub(crate) file: PathBuf,
    /// The validity of a certificate for all names.
    pub(crate) validity: Result<Validity, NoCertificate>,
    /// When the certificate is due for renewal.
    pub(crate) renewal: Option<Timestamp>,
    /// The last failure, if nothing succeeded since.
    pub(crate) failure: Option<(Timestamp, String)>,
    /// When it is tried again after a failure.
    pub(crate) next_attempt: Option<Timestamp>,
    /// Attempts that failed since the start.
    pub(crate) failures: u64,
}

/// Why there is no certificate for all names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoCertificate {
    /// There is no certificate that TLS can use.
    Missing,
    /// The certificate is for some of the names, or for others. Clients get it until another one is issued.
    OtherNames,
    /// The file cannot be read.
    Unreadable(String),
}

impl fmt::Display for NoCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("clients get a self-signed certificate"),
            Self::OtherNames => f.write_str("clients get a certificate that is not for all names"),
            Self::Unreadable(why) => f.write_str(why),
        }
    }
}
