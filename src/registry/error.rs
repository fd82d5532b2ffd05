//! [`Error`]: why a registry cannot be opened or set up, in words for the operator.

use std::io;
use std::path::{Path, PathBuf};

use crate::content::blobs::Tree;
use crate::content::{blobs, repository, rows};
use crate::identity::accounts;
use crate::kit::file::MAKE_WRITABLE;

/// How to listen on a port that only root may use.
pub(crate) const PORT_RIGHT: &str = "ports below 1024 need a right: use the socket unit of systemd, or \
     `setcap cap_net_bind_service=+ep` on the program";

/// An error of any kind, or a text.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a registry cannot be opened, set up or served: what is wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process uses the data directory.
    #[error(
        "the data directory {} is in use by another coracle process: stop it, or choose another directory with --root",
        root.display()
    )]
    InUse {
        /// The data directory.
        root: PathBuf,
    },
    /// The data directory cannot be used.
    #[error("{}", not_usable(root, cause))]
    Storage {
        /// The data directory.
        root: PathBuf,
        /// The reason.
        #[source]
        cause: Cause,
    },
    /// A setting is invalid, or a file that it names cannot be used.
    #[error("the setting {key} cannot be used: {cause}")]
    InvalidSetting {
        /// The key of the setting.
        key: &'static str,
        /// The reason.
        #[source]
        cause: Cause,
    },
    /// A user cannot be created or changed.
    #[error("{cause}")]
    InvalidUser {
        /// The reason.
        #[source]
        cause: Cause,
    },
    /// The htpasswd file cannot be used.
    #[error("{cause}")]
    Htpasswd {
        /// The reason.
        #[source]
        cause: Cause,
    },
    /// An image layout cannot be preloaded.
    #[error("the image layout {} cannot be preloaded: {cause}", layout.display())]
    Preload {
        /// The directory of the layout.
        layout: PathBuf,
        /// The reason.
        #[source]
        cause: Cause,
    },
    /// There is no data directory.
    #[error("no data directory was named: use data_dir() or temporary()")]
    NoDataDirectory,
    /// Certificate and key cannot be used.
    #[error("{cause}")]
    Tls {
        /// The reason.
        #[source]
        cause: Cause,
    },
    /// The registry cannot listen on the address.
    #[error("cannot listen on {address}: {}", why_not_listening(address, key, source))]
    Listen {
        /// The address.
        address: String,
        /// The key that sets the address: `http.listen` or `http.port`.
        key: &'static str,
        /// The reason.
        source: io::Error,
    },
}

fn why_not_listening(address: &str, key: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse if key == "http.listen" => {
            "another program uses this address; choose another one in http.listen".to_owned()
        }
        io::ErrorKind::AddrInUse => {
            format!("another program uses this port; choose another one with --port or {key}, or 0 for a free one")
        }
        io::ErrorKind::PermissionDenied if !address.starts_with("unix:") => format!("{error}: {PORT_RIGHT}"),
        _ => error.to_string(),
    }
}

/// Why a data directory cannot be used. The cause often names a file in it, so that it is not named twice.
fn not_usable(root: &Path, cause: &Cause) -> String {
    let text = cause.to_string();
    let text = if text.contains(&*root.to_string_lossy()) {
        text
    } else {
        format!("the data directory {} cannot be used: {text}", root.display())
    };
    match io_kind(&**cause) {
        Some(io::ErrorKind::ReadOnlyFilesystem) => format!("{text}: {MAKE_WRITABLE}"),
        Some(io::ErrorKind::PermissionDenied) => {
            let me = rustix::process::geteuid().as_raw();
            format!(
                "{text}: it must belong to the user of the registry, whose ID is {me}; `coracle doctor --root {}` says \
                 more",
                root.display()
            )
        }
        _ => text,
    }
}

/// The kind of the first error of the operating system among the causes of an error.
fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind)
}

impl Error {
    /// A data directory cannot be used.
    pub(super) fn storage(cause: impl Into<Cause>, tree: &Tree) -> Self {
        Self::Storage { root: tree.root().to_owned(), cause: cause.into() }
    }

    pub(super) fn blobs(error: blobs::Error, tree: &Tree) -> Self {
        Self::storage(error, tree)
    }

    pub(super) fn database(error: rows::Error, tree: &Tree) -> Self {
        match error {
            rows::Error::InUse { .. } => Self::InUse { root: tree.root().to_owned() },
            other if other.is_corruption() => {
                Self::storage(format!("{other}: restore a backup, or run `coracle recover --dry-run`"), tree)
            }
            other => Self::storage(other, tree),
        }
    }

    pub(super) fn accounts(error: accounts::Error, tree: &Tree) -> Self {
        match error {
            accounts::Error::Database(error) => Self::database(error, tree),
            accounts::Error::HtpasswdUnreadable { why } => Self::Htpasswd { cause: why.into() },
            other => Self::InvalidUser { cause: other.into() },
        }
    }

    pub(super) fn repository(error: repository::Error, tree: &Tree) -> Self {
        match error {
            repository::Error::Database(error) => Self::database(error, tree),
            other => Self::storage(other, tree),
        }
    }

    pub(super) fn preload(error: impl Into<Cause>, layout: PathBuf) -> Self {
        Self::Preload { layout, cause: error.into() }
    }

    pub(super) fn setting(key: &'static str, cause: impl Into<Cause>) -> Self {
        Self::InvalidSetting { key, cause: cause.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::file::PathError;

    #[test]
    fn a_data_directory_is_named_once_with_what_to_do() {
        let root = PathBuf::from("/srv/registry");
        let storage = |cause: Cause| Error::Storage { root: root.clone(), cause }.to_string();
        let read_only = PathError::at("use", Path::new("/srv/registry/coracle.redb"))(io::Error::from_raw_os_error(30));
        let said = storage(rows::Error::Io(read_only).into());
        assert!(said.starts_with("cannot use /srv/registry/coracle.redb: Read-only file system"), "{said}");
        assert!(said.ends_with(MAKE_WRITABLE), "{said}");
        assert_eq!(storage("no".into()), "the data directory /srv/registry cannot be used: no");
    }

    #[test]
    fn an_address_in_use_names_its_key() {
        let listen = |address: &str, key, kind: io::ErrorKind| {
            Error::Listen { address: address.to_owned(), key, source: kind.into() }.to_string()
        };
        let in_use = listen("127.0.0.1:80", "http.listen", io::ErrorKind::AddrInUse);
        assert!(in_use.ends_with("choose another one in http.listen") && !in_use.contains("--port"), "{in_use}");
        let in_use = listen("127.0.0.1:80", "http.port", io::ErrorKind::AddrInUse);
        assert!(in_use.ends_with("choose another one with --port or http.port, or 0 for a free one"), "{in_use}");
        let denied = listen("127.0.0.1:80", "http.port", io::ErrorKind::PermissionDenied);
        assert!(denied.contains("ports below 1024 need a right"), "{denied}");
        let denied = listen("unix:/run/x", "http.listen", io::ErrorKind::PermissionDenied);
        assert!(!denied.contains("1024"), "{denied}");
    }
}
