//! Where everything lies on disk. No other code builds a path under the data directory.
//!
//! ```text
//! <root>/
//!   coracle.redb            every row
//!   coracle.redb.new        a database while it is being made
//!   coracle.redb.<version>  the database before it was brought to a newer schema version
//!   coracle.redb.damaged-<n> a database that could not be read when `coracle recover` made another
//!   manifests.log           manifests and tags once more, for the day on which the database is lost
//!   manifests.log.new       that file while it is being made
//!   manifests.log.old       such a file that does not belong to the database
//!   backup.txt              in backups alone: says that this is one
//!   blobs/<algorithm>/<hex> a blob, named by its digest: the blob half of an OCI image layout
//!   damaged/<algorithm>-<hex> what was a blob until its bytes were found to be others; for whoever wants to look
//!   uploads/<id>            the bytes of an unfinished upload
//!   admin.sock              local administration of a running registry, mode 0600
//! ```

use std::path::{Path, PathBuf};

use crate::oci::{Algorithm, Digest, UploadId};

/// The tree under one data directory.
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

    /// The database.
    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("coracle.redb")
    }

    /// The database before it has its name.
    pub(crate) fn new_database(&self) -> PathBuf {
        self.root.join("coracle.redb.new")
    }

    /// The database as a program of an earlier schema version has left it.
    pub(crate) fn earlier_database(&self, version: u32) -> PathBuf {
        self.root.join(format!("coracle.redb.{version}"))
    }

    /// What is needed to make the rows of content anew if the database is lost.
    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("manifests.log")
    }

    /// The journal before it has its name.
    pub(crate) fn new_journal(&self) -> PathBuf {
        self.root.join("manifests.log.new")
    }

    /// A journal that does not belong to the database.
    pub(crate) fn earlier_journal(&self) -> PathBuf {
        self.root.join("manifests.log.old")
    }

    /// Where a database is put that cannot be read; more than one may come to be there.
    pub(crate) fn damaged_database(&self, number: u32) -> PathBuf {
        self.root.join(format!("coracle.redb.damaged-{number}"))
    }

    /// Says that the directory is a backup, or is becoming one.
    pub(crate) fn backup_marker(&self) -> PathBuf {
        self.root.join("backup.txt")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// The directory of the blobs of one algorithm.
    pub(crate) fn blobs_of(&self, algorithm: Algorithm) -> PathBuf {
        self.blobs().join(algorithm.as_str())
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs_of(digest.algorithm()).join(digest.hex())
    }

    /// Where files are kept that were blobs until they were damaged.
    pub(crate) fn damaged(&self) -> PathBuf {
        self.root.join("damaged")
    }

    pub(crate) fn damaged_blob(&self, digest: &Digest) -> PathBuf {
        self.damaged().join(format!("{}-{}", digest.algorithm().as_str(), digest.hex()))
    }

    /// The socket of local administration.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.root.join("admin.sock")
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    pub(crate) fn upload(&self, id: UploadId) -> PathBuf {
        self.uploads().join(id.to_string())
    }
}
