//! The registries under test: the real program on a free port, open or with a superuser.

use std::net::SocketAddr;

use crate::support::process::{ADMIN, Program, Running};

/// A running registry, which stops when this is dropped.
pub(crate) struct Target {
    /// Where it listens, as it stands in an image's name: `127.0.0.1:PORT`.
    pub(crate) host_port: String,
    /// User and password of the only one who may do anything; `None` where everybody may do everything.
    pub(crate) credentials: Option<(String, String)>,
    program: Running,
    _root: tempfile::TempDir,
}

impl Target {
    /// What an image here is called: `127.0.0.1:PORT/repository:tag`.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.host_port)
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
    let root = tempfile::tempdir().unwrap();
    let program = Program::serve(root.path()).arg("--open").start();
    target(program, root, None)
}

/// A registry where nobody may do anything but its superuser.
pub(crate) fn guarded() -> Target {
    let root = tempfile::tempdir().unwrap();
    let program = Program::serve(root.path()).with_admin().start();
    target(program, root, Some((ADMIN.0.to_owned(), ADMIN.1.to_owned())))
}

/// The same with a configuration.
pub(crate) fn guarded_as(config: &str) -> Target {
    let root = tempfile::tempdir().unwrap();
    let program = Program::serve_with(root.path(), config).with_admin().start();
    target(program, root, Some((ADMIN.0.to_owned(), ADMIN.1.to_owned())))
}

/// A registry whose superuser was made with this password.
pub(crate) fn guarded_with(password: &str) -> Target {
    let root = tempfile::tempdir().unwrap();
    let program = Program::serve(root.path()).env("CORACLE_ADMIN_PASSWORD", password).start();
    target(program, root, Some((ADMIN.0.to_owned(), password.to_owned())))
}

/// A registry as a user of zot has it: with a user of an htpasswd file, and one of the two profiles.
pub(crate) fn with_htpasswd(profile: &str, user: &str, password: &str) -> Target {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("htpasswd");
    // The lowest cost: nobody is to guess this one.
    std::fs::write(&file, format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap())).unwrap();
    let config = format!("profile = '{profile}'\n[http.auth]\napikey = true\nhtpasswd.path = '{}'\n", file.display());
    let program = Program::serve_with(root.path(), &config).with_admin().start();
    target(program, root, Some((user.to_owned(), password.to_owned())))
}

/// Both flavours, for the tests that hold on each.
pub(crate) fn targets() -> [Target; 2] {
    [open(), guarded()]
}

fn target(program: Running, root: tempfile::TempDir, credentials: Option<(String, String)>) -> Target {
    Target { host_port: program.address().to_string(), credentials, program, _root: root }
}
