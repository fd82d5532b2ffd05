//! The certificate from an ACME authority in a build without the feature `acme`. No registry has one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Error, Shared};
use crate::acme::Acme;
pub(crate) use crate::acme::{NoCertificate, Report as CertificateReport};
use crate::config::Config;
use crate::content::blobs::Tree;
use crate::kit::clock::Clock;

pub(super) fn open(_: &Config, _: &Tree, _: &Clock) -> Result<Option<Arc<Acme>>, Error> {
    Ok(None)
}

pub(crate) fn certificate_report(_: &Config, _: &Path) -> Result<Option<CertificateReport>, Error> {
    Ok(None)
}

impl Shared {
    /// The certificate that an authority issues. There never is one.
    pub(crate) const fn acme(&self) -> Option<&Arc<Acme>> {
        self.acme.as_ref()
    }

    /// The file with the certificate of the registry, if it speaks TLS.
    pub(crate) fn certificate_file(&self) -> Option<PathBuf> {
        self.config.http.tls.as_ref().map(|tls| tls.cert.clone())
    }
}
