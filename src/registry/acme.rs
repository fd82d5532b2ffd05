//! The certificate from an ACME authority, as the configuration has it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::{Error, Shared};
use crate::acme::{Acme, Challenge, ExternalAccount, Settings};
pub(crate) use crate::acme::{NoCertificate, Report as CertificateReport};
use crate::config::{self, AcmeChallenge, Config};
use crate::content::blobs::{SystemDisk, Tree};
use crate::kit::clock::Clock;

/// Prepares the certificate, if an authority issues it. Sends no request.
pub(super) fn open(config: &Config, tree: &Tree, clock: &Clock) -> Result<Option<Arc<Acme>>, Error> {
    let Some(acme) = &config.http.acme else { return Ok(None) };
    let settings = settings(acme, config)?;
    Ok(Some(Arc::new(Acme::open(settings, tree, Arc::new(SystemDisk), clock.clone()))))
}

/// The state of the certificate in a data directory, for a check without the registry.
pub(crate) fn certificate_report(config: &Config, root: &Path) -> Result<Option<CertificateReport>, Error> {
    Ok(open(config, &Tree::new(root), &Clock::default())?.map(|acme| acme.report()))
}

/// The configuration file has been checked, but programs can set anything.
fn settings(acme: &config::Acme, config: &Config) -> Result<Settings, Error> {
    const KEY: &str = "http.tls.acme";
    if config.http.tls.is_some() {
        return Err(Error::setting(
            "http.tls.cert",
            format!("contradicts {KEY}: give a file or an authority, not both"),
        ));
    }
    if acme.domains.is_empty() {
        return Err(Error::setting("http.tls.acme.domains", "expected a name of the registry"));
    }
    let external = acme.external_account();
    let external = external.map_err(|why| Error::setting("http.tls.acme.externalAccountKeyFile", why))?;
    let challenge = |challenge| match challenge {
        AcmeChallenge::TlsAlpn01 => Challenge::TlsAlpn01,
        AcmeChallenge::Http01 => Challenge::Http01,
    };
    Ok(Settings {
        domains: acme.domains.iter().map(|name| name.to_ascii_lowercase()).collect(),
        directory: acme.directory.clone(),
        email: acme.email.clone(),
        ca: acme.ca_cert.clone(),
        challenges: acme.challenges_in_use(&config.http.listens()).into_iter().map(challenge).collect(),
        external_account: external.map(|(id, key)| ExternalAccount {
            id,
            key: Zeroizing::new(config::decoded_key(key.reveal()).unwrap_or_default()),
        }),
    })
}

impl Shared {
    /// The certificate that an authority issues, if there is one.
    pub(crate) const fn acme(&self) -> Option<&Arc<Acme>> {
        self.acme.as_ref()
    }

    /// The file with the certificate of the registry, if it speaks TLS. One that an authority issues may not exist yet.
    pub(crate) fn certificate_file(&self) -> Option<PathBuf> {
        let files = self.config.http.tls.as_ref().map(|tls| tls.cert.clone());
        files.or_else(|| self.acme.as_ref().map(|acme| acme.certificate_file()))
    }
}
