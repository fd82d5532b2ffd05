//! [`Tree`]: the paths under the data directory. No other code builds them.
//!
//! ```text
//! <root>/
//!   coracle.redb            every row
//!   coracle.wal             the write-ahead log: what the database gets at its next checkpoint
//!   coracle.redb.new        a database while it is being made
//!   coracle.redb.<version>  the database before the upgrade from this schema version
//!   coracle.redb.damaged-<n> a damaged database that `coracle recover` has replaced
//!   manifests.log           the journal: manifests and tags, to rebuild a lost database
//!   manifests.log.new       a journal while it is being made
//!   manifests.log.old       a journal of another database, or with changes that the database lacks
//!   backup.txt              marks the directory as a backup
//!   blobs/<algorithm>/<hex> a blob, named by its digest: the blob half of an OCI image layout
//!   damaged/<algorithm>-<hex> the file of a blob that was found damaged, for inspection
//!   uploads/<id>            the bytes of an unfinished upload
//!   uploads/<id>.part       a blob while it is taken over from another program
//!   acme/                   only for the owner: the account at an ACME authority, its certificate, and when it is renewed
//!   admin.sock              the admin socket of a running registry, mode 0600
//! ```

use std::path::{Path, PathBuf};

use crate::oci::{Algorithm, Digest, UploadId};

/// The ending of the name of a blob while it is taken over.
const ARRIVING: &str = "part";

/// The paths under one data directory.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    root: PathBuf,
}

impl Tree {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("coracle.redb")
    }

    /// The write-ahead log of the database.
    pub(crate) fn wal(&self) -> PathBuf {
        self.root.join("coracle.wal")
    }

    /// The temporary name of a new database.
    pub(crate) fn new_database(&self) -> PathBuf {
        self.root.join("coracle.redb.new")
    }

    /// The database before the upgrade from a schema version.
    pub(crate) fn earlier_database(&self, version: u32) -> PathBuf {
        self.root.join(format!("coracle.redb.{version}"))
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("manifests.log")
    }

    /// The temporary name of a new journal.
    pub(crate) fn new_journal(&self) -> PathBuf {
        self.root.join("manifests.log.new")
    }

    /// A journal of another database, or with changes that the database lacks. Others have a number after this name.
    pub(crate) fn earlier_journal(&self) -> PathBuf {
        self.root.join("manifests.log.old")
    }

    /// The name of a damaged database. There may be several.
    pub(crate) fn damaged_database(&self, number: u32) -> PathBuf {
        self.root.join(format!("coracle.redb.damaged-{number}"))
    }

    /// The directory of the certificate from an ACME authority.
    pub(crate) fn acme(&self) -> PathBuf {
        self.root.join("acme")
    }

    /// The account at the authority, with its private key.
    pub(crate) fn acme_account(&self) -> PathBuf {
        self.acme().join("account.json")
    }

    /// The private key, and the certificate chain.
    pub(crate) fn acme_certificate(&self) -> PathBuf {
        self.acme().join("certificate.pem")
    }

    /// When something is due, and the last failure.
    pub(crate) fn acme_state(&self) -> PathBuf {
        self.acme().join("state.json")
    }

    /// The temporary name of each of them.
    pub(crate) fn acme_new(&self) -> PathBuf {
        self.acme().join("new")
    }

    /// The file that marks the directory as a backup, complete or not.
    pub(crate) fn backup_marker(&self) -> PathBuf {
        self.root.join("backup.txt")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// The blob directory of an algorithm.
    pub(crate) fn blobs_of(&self, algorithm: Algorithm) -> PathBuf {
        self.blobs().join(algorithm.as_str())
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs_of(digest.algorithm()).join(digest.hex())
    }

    /// The directory for the files of damaged blobs.
    pub(crate) fn damaged(&self) -> PathBuf {
        self.root.join("damaged")
    }

    pub(crate) fn damaged_blob(&self, digest: &Digest) -> PathBuf {
        self.damaged().join(format!("{}-{}", digest.algorithm().as_str(), digest.hex()))
    }

    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.root.join("admin.sock")
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    pub(crate) fn upload(&self, id: UploadId) -> PathBuf {
        self.uploads().join(id.to_string())
    }

    /// The temporary name of a blob that is taken over from another program.
    pub(crate) fn arriving(&self, id: UploadId) -> PathBuf {
        self.uploads().join(format!("{id}.{ARRIVING}"))
    }

    /// Whether an entry of [`Tree::uploads`] is named by [`Tree::arriving`].
    pub(crate) fn is_arriving(name: &str) -> bool {
        name.strip_suffix(ARRIVING).and_then(|name| name.strip_suffix('.')?.parse::<UploadId>().ok()).is_some()
    }
}
