//! [`Trust`]: the servers that a client trusts.

use std::path::PathBuf;

/// The servers that a client trusts, and how it proves its own identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    /// PEM files of certificates to trust, in addition to those of the platform.
    pub(crate) authorities: Vec<PathBuf>,
    /// More of them, as text.
    pub(crate) pem: Option<String>,
    /// PEM files of the client's certificate and of its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// Whether any certificate is accepted. An attacker on the network can then read and change everything.
    pub(crate) accepts_any: bool,
}
