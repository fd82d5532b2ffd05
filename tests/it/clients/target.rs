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

/// Both, for the tests that hold on each.
pub(crate) const TRANSPORTS: [Transport; 2] = [Transport::Http, Transport::Https];

/// A running registry, which stops when this is dropped.
pub(crate) struct Target {
    /// Where it listens, as it stands in an image's name: `127.0.0.1:PORT`.
    pub(crate) host_port: String,
    /// User and password of the only one who may do anything; `None` where everybody may do everything.
    pub(crate) credentials: Option<(String, String)>,
    /// The certificate authority that clients have to trust, if the registry is reached over TLS.
    pub(crate) authority: Option<PathBuf>,
    program: Running,
    _root: tempfile::TempDir,
}

impl Target {
    /// What an image here is called: `127.0.0.1:PORT/repository:tag`.
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

    /// The same registry for somebody who signs in otherwise.
    pub(crate) fn signed_in_as(self, user: &str, password: &str) -> Self {
        Self { credentials: Some((user.to_owned(), password.to_owned())), ..self }
    }

    /// The same registry for somebody who reaches it at another address.
    pub(crate) fn seen_at(self, address: SocketAddr) -> Self {
        Self { host_port: address.to_string(), ..self }
    }

    /// The same registry for somebody who reaches it where it listens.
    pub(crate) fn seen_at_itself(self) -> Self {
        let address = self.program.address();
        self.seen_at(address)
    }

    /// The program itself: its own address and its log.
    pub(crate) fn program(&self) -> &Running {
        &self.program
    }
}

/// A registry where everybody may do everything.
pub(crate) fn open() -> Target {
    run(Transport::Http, |_| String::new(), |program| program.arg("--open"), None)
}

/// A registry where nobody may do anything but its superuser.
pub(crate) fn guarded() -> Target {
    guarded_as("")
}

/// The same with a configuration.
pub(crate) fn guarded_as(config: &str) -> Target {
    start(Transport::Http, |_| config.to_owned())
}

/// A registry whose superuser was made with this password.
pub(crate) fn guarded_with(transport: Transport, password: &str) -> Target {
    let with_password = |program: Program| program.env("CORACLE_ADMIN_PASSWORD", password);
    run(transport, |_| String::new(), with_password, Some((ADMIN.0, password)))
}

/// A registry as a user of zot has it: with a user of an htpasswd file, and one of the two profiles.
pub(crate) fn with_htpasswd(transport: Transport, profile: &str, user: &str, password: &str) -> Target {
    let config = |root: &Path| format!("profile = '{profile}'\n{}", write_htpasswd(root, user, password));
    start(transport, config).signed_in_as(user, password)
}

/// Writes an htpasswd file with one user, and returns the settings that use it.
pub(crate) fn write_htpasswd(root: &Path, user: &str, password: &str) -> String {
    let file = root.join("htpasswd");
    // The lowest cost: nobody is to guess this one.
    std::fs::write(&file, format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap())).unwrap();
    format!("http.auth.apikey = true\nhttp.auth.htpasswd.path = '{}'\n", file.display())
}

/// Both flavours, for the tests that hold on each: everybody may do everything over plain HTTP, and only the superuser
/// over TLS.
pub(crate) fn targets() -> [Target; 2] {
    [open(), start(Transport::Https, |_| String::new())]
}

/// A registry with the configuration that this makes of its directory, and with [`ADMIN`].
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
