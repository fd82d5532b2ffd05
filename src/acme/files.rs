//! [`Files`]: the directory `acme` of the data directory. Every file is replaced in one step.
//!
//! A certificate or an account that cannot be read is an error. It does not count as missing, because the registry would
//! order another certificate, or create another account and overwrite the old one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::schedule::State;
use crate::content::blobs::{Disk, Tree};
use crate::kit::certificate::{Validity, is_for};
use crate::kit::file::{PathError, if_exists};

/// The files.
#[derive(Clone, Debug)]
pub(super) struct Files {
    tree: Tree,
    disk: Arc<dyn Disk>,
    /// Held while a file is replaced. All files have the same temporary name, and a registry may have several servers.
    replacing: Arc<Mutex<()>>,
}

/// The certificate in the file.
#[derive(Clone, Debug)]
pub(super) struct StoredCertificate {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) validity: Validity,
    /// Whether it is for all names.
    pub(super) covers: bool,
}

impl StoredCertificate {
    /// Reads a certificate with its chain, and its private key. An error says why TLS cannot use them.
    pub(super) fn read(chain: &[u8], key: &[u8], domains: &[String]) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| error.to_string())?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| error.to_string())?;
        let certificate = chain.first().cloned().ok_or("it has no certificate")?;
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|error| error.to_string())?;
        let validity = Validity::of(&certificate).ok_or("it has no dates")?;
        let covers = domains.iter().all(|name| is_for(&certificate, name));
        Ok(Self { certificate, validity, covers })
    }
}

impl Files {
    pub(super) fn new(tree: &Tree, disk: Arc<dyn Disk>) -> Self {
        Self { tree: tree.clone(), disk, replacing: Arc::default() }
    }

    pub(super) fn certificate(&self) -> PathBuf {
        self.tree.acme_certificate()
    }

    /// The certificate in the file. `None` if there is no file, or if TLS cannot use it with the key in the file.
    pub(super) fn stored(&self, domains: &[String]) -> Result<Option<StoredCertificate>, PathError> {
        Ok(read(&self.certificate())?.and_then(|pem| StoredCertificate::read(&pem, &pem, domains).ok()))
    }

    pub(super) fn write_certificate(&self, pem: &str) -> Result<(), PathError> {
        self.replace(&self.certificate(), pem.as_bytes())
    }

    /// The state. A file that is missing or damaged means that nothing is known.
    pub(super) fn state(&self) -> State {
        let path = self.tree.acme_state();
        let ignored = |error: &dyn std::fmt::Display| {
            tracing::warn!(file = %path.display(), %error, "the state of the certificate cannot be read and is ignored");
            State::default()
        };
        match read(&path) {
            Ok(None) => State::default(),
            Ok(Some(text)) => serde_json::from_slice(&text).unwrap_or_else(|error| ignored(&error)),
            Err(error) => ignored(&error),
        }
    }

    pub(super) fn write_state(&self, state: &State) -> Result<(), PathError> {
        self.replace(&self.tree.acme_state(), &serde_json::to_vec_pretty(state).unwrap_or_default())
    }

    /// The account, as `order` writes it. `None` if the registry has no account.
    pub(super) fn account(&self) -> Result<Option<Zeroizing<Vec<u8>>>, PathError> {
        read(&self.tree.acme_account())
    }

    pub(super) fn write_account(&self, account: &[u8]) -> Result<(), PathError> {
        self.replace(&self.tree.acme_account(), account)
    }

    fn replace(&self, path: &Path, content: &[u8]) -> Result<(), PathError> {
        let _replacing = self.replacing.lock();
        let (directory, new, disk) = (self.tree.acme(), self.tree.acme_new(), &self.disk);
        disk.create_dir(&directory).map_err(PathError::at("create", &directory))?;
        // Also if the directory exists: a crash may have come before this sync.
        disk.sync_dir(self.tree.root()).map_err(PathError::at("sync", self.tree.root()))?;
        if_exists(disk.remove(&new)).map_err(PathError::at("remove", &new))?;
        let file = disk.create(&new).map_err(PathError::at("create", &new))?;
        disk.write_at(&file, &new, content, 0).map_err(PathError::at("write", &new))?;
        disk.sync(&file, &new).map_err(PathError::at("sync", &new))?;
        disk.rename(&new, path).map_err(PathError::at("create", path))?;
        disk.sync_dir(&directory).map_err(PathError::at("sync", &directory))
    }
}

/// Reads a file, which may hold a private key. `None` if it does not exist.
fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, PathError> {
    let text = if_exists(std::fs::read(path)).map_err(PathError::at("read", path))?;
    Ok(text.map(Zeroizing::new))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::content::blobs::{FaultyDisk, Operation};

    #[test]
    fn a_certificate_without_its_key_is_not_usable() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::new(&Tree::new(root.path()), Arc::new(FaultyDisk::default()));
        let domains = ["a.example".to_owned()];
        let [(chain, key), (_, other)] = [0; 2].map(|_| {
            let made = rcgen::generate_simple_self_signed(domains.clone()).unwrap();
            (made.cert.pem(), made.signing_key.serialize_pem())
        });
        let stored = |pem: &str| {
            files.write_certificate(pem).unwrap();
            files.stored(&domains).unwrap()
        };
        assert!(stored(&format!("{key}{chain}")).is_some_and(|stored| stored.covers));
        for pem in [chain.clone(), format!("{other}{chain}"), key, String::new()] {
            assert!(stored(&pem).is_none(), "{pem}");
        }
    }

    #[test]
    fn two_servers_can_write_at_once() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::new(&Tree::new(root.path()), Arc::new(FaultyDisk::default()));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let files = files.clone();
                scope.spawn(move || (0..100).for_each(|_| files.write_state(&State::default()).unwrap()));
            }
        });
    }

    #[test]
    fn the_directory_is_durable_before_its_files() {
        let root = tempfile::tempdir().unwrap();
        let disk = Arc::new(FaultyDisk::default());
        let files = Files::new(&Tree::new(root.path()), disk.clone());
        disk.fail_times(Operation::SyncDir, 0, 1, rustix::io::Errno::IO);
        let error = files.write_state(&State::default()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot sync {}:", root.path().display())), "{error}");
        files.write_state(&State::default()).unwrap();
    }
}
