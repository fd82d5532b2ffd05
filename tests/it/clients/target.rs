//! The registries under test: the real program on a free port, open or with a superuser.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::authority;
use crate::support::process::{ADMIN, Program, Running};

/// How clients reach a registry. Over TLS they choose between HTTP/1.1 and HTTP/2, and most take the latter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Http,
    Https,
}

/// Both ways, for tests that apply to each.
pub(crate) const TRANSPORTS: [Transport; 2] = [Transport::Http, Transport::Https];

/// A running registry, which stops when this is dropped.
pub(crate) struct Target {
    /// Its address as in the name of an image: `127.0.0.1:PORT`.
    pub(crate) host_port: String,
    /// User and password of the superuser; `None` for an open registry.
    pub(crate) credentials: Option<(String, String)>,
    /// The certificate authority that clients have to trust, if the registry is reached over TLS.
    pub(crate) authority: Option<PathBuf>,
    program: Running,
    _root: tempfile::TempDir,
}

impl Target {
    /// The name of an image: `127.0.0.1:PORT/repository:tag`.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.host_port)
    }

    /// Whether the registry is reached over TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.authority.is_some()
    }

    /// The URL of a path that begins with a slash.
    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.is_https() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.host_port)
    }

    /// The same registry with other credentials.
    pub(crate) fn signed_in_as(self, user: &str, password: &str) -> Self {
        Self { credentials: Some((user.to_owned(), password.to_owned())), ..self }
    }

    /// The same registry at another address.
    pub(crate) fn seen_at(self, address: SocketAddr) -> Self {
        Self { host_port: address.to_string(), ..self }
    }

    /// The same registry at its own address.
    pub(crate) fn seen_at_itself(self) -> Self {
        let address = self.program.address();
        self.seen_at(address)
    }

    /// The program itself: its own address and its log.
    pub(crate) fn program(&self) -> &Running {
        &self.program
    }
}

/// An open registry.
pub(crate) fn open() -> Target {
    run(Transport::Http, |_| String::new(), |program| program.arg("--open"), None)
}

/// The same with a configuration.
pub(crate) fn open_with(config: &str) -> Target {
    run(Transport::Http, |_| config.to_owned(), |program| program.arg("--open"), None)
}

/// A registry with a superuser.
pub(crate) fn guarded() -> Target {
    guarded_as("")
}

/// The same with a configuration.
pub(crate) fn guarded_as(config: &str) -> Target {
    start(Transport::Http, |_| config.to_owned())
}

/// A registry whose superuser has this password.
pub(crate) fn guarded_with(transport: Transport, password: &str) -> Target {
    let with_password = |program: Program| program.env("CORACLE_ADMIN_PASSWORD", password);
    run(transport, |_| String::new(), with_password, Some((ADMIN.0, password)))
}

/// A registry with a user of an htpasswd file, and one of the two profiles.
pub(crate) fn with_htpasswd(transport: Transport, profile: &str, user: &str, password: &str) -> Target {
    let config = |root: &Path| format!("profile = '{profile}'\n{}", write_htpasswd(root, user, password));
    start(transport, config).signed_in_as(user, password)
}

/// Writes an htpasswd file with one user, and returns the settings that use it.
pub(crate) fn write_htpasswd(root: &Path, user: &str, password: &str) -> String {
    let file = root.join("htpasswd");
    // The lowest cost, because this password need not resist guessing.
    std::fs::write(&file, format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap())).unwrap();
    format!("http.auth.apikey = true\nhttp.auth.htpasswd.path = '{}'\n", file.display())
}

/// Two registries, for tests that apply to both: an open one over plain HTTP, and one with a superuser over TLS.
pub(crate) fn targets() -> [Target; 2] {
    [open(), start(Transport::Https, |_| String::new())]
}

/// A registry with [`ADMIN`] and a configuration that depends on its directory.
pub(crate) fn start(transport: Transport, config: impl FnOnce(&Path) -> String) -> Target {
    run(transport, config, Program::with_admin, Some(ADMIN))
}

fn run(
    transport: Transport,
    config: impl FnOnce(&Path) -> String,
    change: impl FnOnce(Program) -> Program,
    credentials: Option<(&str, &str)>,
) -> Target {
    let root = tempfile::tempdir().unwrap();
    let authority = (transport == Transport::Https).then(|| authority::certify(root.path()));
    let mut settings = String::new();
    if authority.is_some() {
        let root = root.path().display();
        settings = format!("http.tls.cert = '{root}/cert.pem'\nhttp.tls.key = '{root}/key.pem'\n");
    }
    settings.push_str(&config(root.path()));
    let program = change(Program::serve_with(root.path(), &settings)).start();
    let credentials = credentials.map(|(user, password)| (user.to_owned(), password.to_owned()));
    Target { host_port: program.address().to_string(), credentials, authority, program, _root: root }
}
