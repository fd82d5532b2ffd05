//! A client in Go: `net/http`, which speaks HTTP/2 over TLS, and docker's rules for credentials
//! (`registry_client.go`). The engine of Debian's docker is old, and needs root.
//!
//! It is built once, into Cargo's directory for the files of tests, and stays there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::home::{Home, attempt, finish};
use super::image::digest;
use super::target::Target;
use super::visibility::{Credentials, Participant};

/// How long the compiler may take: it compiles `net/http` the first time.
const BUILD_MINUTES_MAX: Duration = Duration::from_mins(10);

/// The program for one user.
pub(super) struct GoClient<'a> {
    home: &'a Home,
    target: &'a Target,
    credentials: Credentials<'a>,
}

impl<'a> GoClient<'a> {
    pub(super) fn new(home: &'a Home, target: &'a Target, credentials: Credentials<'a>) -> Self {
        Self { home, target, credentials }
    }

    fn attempt(&self, arguments: &[&str]) -> Result<(), String> {
        let mut command = self.home.command(program());
        command.arg(self.target.url("")).args(arguments);
        if let Some((user, password)) = self.credentials {
            command.env("REGISTRY_USER", user).env("REGISTRY_PASSWORD", password);
        }
        let output = attempt(&mut command, "")?;
        let expected = if self.target.is_https() { "HTTP/2.0" } else { "HTTP/1.1" };
        assert_eq!(output.text().trim(), expected);
        Ok(())
    }
}

impl Participant for GoClient<'_> {
    fn sign_in(&self) -> Option<Result<(), String>> {
        Some(self.attempt(&["login"]))
    }

    fn pull(&self, repository: &str, tag: &str) -> Result<(), String> {
        self.attempt(&["pull", repository, tag])
    }

    fn push(&self, repository: &str, tag: &str) -> Result<(), String> {
        self.attempt(&["push", repository, tag])
    }
}

/// The compiled program.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build)
}

fn build() -> PathBuf {
    let source = include_str!("registry_client.go");
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    fs::create_dir_all(&base).unwrap();
    let lock = File::create(base.join("go.lock")).unwrap();
    lock.lock().unwrap(); // one process builds, others wait for it
    let name = digest(source.as_bytes());
    let program = base.join(format!("registry_client-{}", &name["sha256:".len()..][..16]));
    if !program.exists() {
        let file = base.join("registry_client.go");
        fs::write(&file, source).unwrap();
        let new = base.join("registry_client.new");
        let mut go = Command::new("go");
        go.current_dir(&base).args(["build", "-o"]).args([&new, &file]).env("GOCACHE", base.join("go-cache"));
        // One file and the standard library: nothing is downloaded, and no C compiler is needed.
        go.env("GO111MODULE", "off").env("CGO_ENABLED", "0");
        let (status, output) = finish(&mut go, "", BUILD_MINUTES_MAX);
        assert!(status.success(), "go build: {}", output.stderr);
        fs::rename(new, &program).unwrap();
    }
    program
}
