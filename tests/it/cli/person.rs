//! A user at their own machine, with the files of docker and podman.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::http::Caller;
use crate::support::process::{Finished, Program};

/// A user with a temporary home directory.
#[derive(Debug)]
pub struct Person {
    home: tempfile::TempDir,
}

impl Person {
    pub fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        for directory in ["run", "bin"] {
            std::fs::create_dir(home.path().join(directory)).unwrap();
        }
        Self { home }
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    /// The file that docker reads.
    pub fn docker(&self) -> PathBuf {
        self.path(".docker/config.json")
    }

    /// The file that podman and skopeo read.
    pub fn podman(&self) -> PathBuf {
        self.path("run/containers/auth.json")
    }

    /// Writes a file, and creates its directory.
    #[expect(clippy::unused_self, reason = "reads better as a method")]
    pub fn write(&self, path: &Path, content: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Installs a program in the user's PATH.
    pub fn install(&self, name: &str, script: &str) {
        let file = self.path("bin").join(name);
        self.write(&file, script);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The environment variables that the command line reads.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |path: &str| self.path(path).display().to_string();
        let programs = std::env::var("PATH").unwrap();
        let nothing = ["DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "BROWSER", "DISPLAY", "WAYLAND_DISPLAY"];
        let mut environment = vec![
            ("HOME", path("")),
            ("XDG_RUNTIME_DIR", path("run")),
            ("XDG_CONFIG_HOME", path("config")),
            ("PATH", format!("{}:{programs}", path("bin"))),
        ];
        environment.extend(nothing.map(|name| (name, String::new())));
        environment
    }

    /// The command line, with these arguments.
    pub fn coracle(&self, arguments: &[&str]) -> Program {
        self.environment().into_iter().fold(Program::new(arguments), |program, (name, value)| program.env(name, value))
    }

    /// Runs it to its end.
    pub async fn run(&self, arguments: &[&str], input: &str) -> Finished {
        let program = self.coracle(arguments).input(input);
        tokio::task::spawn_blocking(move || program.run()).await.unwrap()
    }

    /// The entry of a registry in a file: user name and key.
    #[expect(clippy::unused_self, reason = "reads better as a method")]
    pub fn entry(&self, file: &Path, host: &str) -> Option<(String, String)> {
        let document: Value = serde_json::from_slice(&std::fs::read(file).ok()?).unwrap();
        let pair = STANDARD.decode(document["auths"][host]["auth"].as_str()?).unwrap();
        let pair = String::from_utf8(pair).unwrap();
        let (user, key) = pair.split_once(':').unwrap();
        Some((user.to_owned(), key.to_owned()))
    }
}

/// Returns the API keys of a user.
pub async fn keys(of: &Caller) -> Vec<Value> {
    of.get("/zot/auth/apikey").send().await.status(200).json()["apiKeys"].as_array().unwrap().clone()
}
