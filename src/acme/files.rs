//! [`Files`]: the directory `acme` of the data directory. Every file is replaced in one step.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use zeroize::Zeroizing;

use super::schedule::State;
use crate::content::blobs::{Disk, Tree};
use crate::kit::certificate::Validity;
use crate::kit::file::{PathError, if_exists};

/// The files.
#[derive(Clone, Debug)]
pub(super) struct Files {
    tree: Tree,
    disk: Arc<dyn Disk>,
}

/// The certificate in the file.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) validity: Validity,
    /// Whether it is for all names.
    pub(super) covers: bool,
}

impl Held {
    /// Reads a certificate. `None` if TLS cannot use it.
    pub(super) fn of(certificate: CertificateDer<'static>, domains: &[String]) -> Option<Self> {
        let validity = Validity::of(&certificate)?;
        let covers = {
            let parsed = ParsedCertificate::try_from(&certificate).ok()?;
            let is_for = |name: &String| {
                ServerName::try_from(name.as_str()).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
            };
            domains.iter().all(is_for)
        };
        Some(Self { certificate, validity, covers })
    }
}

impl Files {
    pub(super) fn new(tree: &Tree, disk: Arc<dyn Disk>) -> Self {
        Self { tree: tree.clone(), disk }
    }

    pub(super) fn certificate(&self) -> PathBuf {
        self.tree.acme_certificate()
    }

    /// The certificate in the file. `None` if TLS cannot use the file.
    pub(super) fn held(&self, domains: &[String]) -> Option<Held> {
        Held::of(CertificateDer::from_pem_file(self.certificate()).ok()?, domains)
    }

    pub(super) fn write_certificate(&self, pem: &str) -> Result<(), PathError> {
        self.replace(&self.certificate(), pem.as_bytes())
    }

    /// The state. A file that is missing or damaged means that nothing is known.
    pub(super) fn state(&self) -> State {
        let path = self.tree.acme_state();
        let Some(text) = read(&path) else { return State::default() };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(file = %path.display(), %error, "the state of the certificate cannot be read and is ignored");
            State::default()
        })
    }

    pub(super) fn write_state(&self, state: &State) -> Result<(), PathError> {
        self.replace(&self.tree.acme_state(), &serde_json::to_vec_pretty(state).unwrap_or_default())
    }

    /// The account, as `order` writes it. `None` if the registry has no account.
    pub(super) fn account(&self) -> Option<Zeroizing<Vec<u8>>> {
        read(&self.tree.acme_account()).map(Zeroizing::new)
    }

    pub(super) fn write_account(&self, account: &[u8]) -> Result<(), PathError> {
        self.replace(&self.tree.acme_account(), account)
    }

    fn replace(&self, path: &Path, content: &[u8]) -> Result<(), PathError> {
        let (directory, new, disk) = (self.tree.acme(), self.tree.acme_new(), &self.disk);
        disk.create_dir(&directory).map_err(PathError::at("create", &directory))?;
        if_exists(disk.remove(&new)).map_err(PathError::at("remove", &new))?;
        let file = disk.create(&new).map_err(PathError::at("create", &new))?;
        disk.write_at(&file, &new, content, 0).map_err(PathError::at("write", &new))?;
        disk.sync(&file, &new).map_err(PathError::at("sync", &new))?;
        disk.rename(&new, path).map_err(PathError::at("create", path))?;
        disk.sync_dir(&directory).map_err(PathError::at("sync", &directory))
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    if_exists(std::fs::read(path)).unwrap_or_else(|error| {
        tracing::warn!(file = %path.display(), %error, "the file cannot be read and is ignored");
        None
    })
}
