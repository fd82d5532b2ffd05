//! The registries that are measured, each on a new directory.

use std::fmt::Write as _;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};

use super::support::process::Process as _;
use super::support::program::Program;
use super::support::{directory, mib};

/// A registry that answers.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    running: Running,
    root: Option<tempfile::TempDir>,
}

/// The process, if we started it.
enum Running {
    Coracle(Program),
    Other(Child),
    Before,
}

/// The configuration of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    Plain,
    /// The access log is in a file.
    Logged,
    Tls(Key),
}

/// The kind of key of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// P-256, as authorities issue certificates today.
    Ecdsa,
    /// RSA of 2048 bits.
    Rsa,
}

impl Setting {
    const fn scheme(self) -> &'static str {
        if matches!(self, Self::Tls(_)) { "https" } else { "http" }
    }
}

/// The peer of the comparison.
pub(crate) enum Peer {
    DockerRegistry,
    Url { scheme: &'static str, address: SocketAddr },
    None,
}

impl Peer {
    pub(crate) fn chosen() -> Self {
        match std::env::var("SPEED_PEER").as_deref() {
            Err(_) | Ok("docker-registry") => Self::DockerRegistry,
            Ok("none") => Self::None,
            Ok(url) => {
                let (scheme, host) = url.split_once("://").expect("a peer is named by a URL");
                let scheme = if scheme == "https" { "https" } else { "http" };
                let address = host.trim_end_matches('/').to_socket_addrs().unwrap().next().unwrap();
                Self::Url { scheme, address }
            }
        }
    }

    pub(crate) fn name(&self) -> Option<&'static str> {
        match self {
            Self::DockerRegistry => Some("docker-registry"),
            Self::Url { .. } => Some("the peer"),
            Self::None => None,
        }
    }

    /// Starts it, with TLS or without. Returns nothing if it has an address of the other kind.
    pub(crate) fn start(&self, setting: Setting) -> Option<Server> {
        match self {
            Self::DockerRegistry => Some(Server::docker_registry(setting)),
            Self::Url { scheme, address } => (*scheme == setting.scheme()).then(|| Server {
                address: *address,
                scheme,
                running: Running::Before,
                root: None,
            }),
            Self::None => None,
        }
    }
}

impl Server {
    pub(crate) fn coracle(setting: Setting) -> Self {
        let root = directory();
        let log = match setting {
            Setting::Logged => format!("output = '{}'", root.path().join("access.log").display()),
            Setting::Plain | Setting::Tls(_) => "level = 'warn'".to_owned(),
        };
        let mut config = format!("[log]\n{log}\n[http]\nopen = true\n");
        if let Setting::Tls(key) = setting {
            let (certificate, key) = certificate(root.path(), key);
            write!(config, "[http.tls]\ncert = '{}'\nkey = '{}'\n", certificate.display(), key.display()).unwrap();
        }
        let program = Program::configured("SPEED_PROGRAM", root.path(), &config);
        Self {
            address: program.address,
            scheme: setting.scheme(),
            running: Running::Coracle(program),
            root: Some(root),
        }
    }

    /// The URL of a path, for a client that is told to connect to the address.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://localhost{path}", self.scheme)
    }

    /// Debian's, as Debian's /etc/docker/registry/config.yml configures it, but without users and without a log of
    /// requests. It gets nothing of this process's environment, because it would read much of it as configuration.
    fn docker_registry(setting: Setting) -> Self {
        let root = directory();
        let address = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let config = root.path().join("config.yml");
        let mut text = format!(
            "version: 0.1\nlog:\n  accesslog:\n    disabled: true\n  level: error\nstorage:\n  cache:\n    \
             blobdescriptor: inmemory\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhealth:\n  \
             storagedriver:\n    enabled: true\n    interval: 10s\n    threshold: 3\nhttp:\n  addr: {address}\n  \
             headers:\n    X-Content-Type-Options: [nosniff]\n",
            root.path().display()
        );
        if let Setting::Tls(key) = setting {
            let (certificate, key) = certificate(root.path(), key);
            let (certificate, key) = (certificate.display(), key.display());
            write!(text, "  tls:\n    certificate: {certificate}\n    key: {key}\n").unwrap();
        }
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(config).env_clear().env("PATH", "/usr/bin:/bin");
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("Debian's package docker-registry is installed, or SPEED_PEER says otherwise");
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "docker-registry does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { address, scheme: setting.scheme(), running: Running::Other(child), root: Some(root) }
    }

    /// Takes what earlier rounds wrote out of the page cache, if we started the registry, so that a push gets this memory
    /// again. A virtual machine can pay more for memory that it has not had yet than for the push itself.
    pub(crate) fn empty_page_cache(&self) {
        if let Some(root) = &self.root {
            forget(root.path());
        }
    }

    /// The processor time it has used, in seconds; of one that was running before nothing is known.
    pub(crate) fn processor(&self) -> f64 {
        match &self.running {
            Running::Coracle(program) => program.processor(),
            Running::Other(child) => child.processor(),
            Running::Before => f64::NAN,
        }
    }

    /// How much it has read from the disk, in MiB.
    pub(crate) fn disk_mib(&self) -> f64 {
        match &self.running {
            Running::Coracle(program) => mib(program.read_from_disk()),
            Running::Other(child) => mib(child.read_from_disk()),
            Running::Before => f64::NAN,
        }
    }

    /// How much it has written to the disk, in KiB.
    pub(crate) fn written_kib(&self) -> f64 {
        let kib = |bytes| bytes as f64 / 1024.0;
        match &self.running {
            Running::Coracle(program) => kib(program.written()),
            Running::Other(child) => kib(child.written()),
            Running::Before => f64::NAN,
        }
    }

    /// The most memory it has had, in MiB.
    pub(crate) fn peak_mib(&self) -> f64 {
        match &self.running {
            Running::Coracle(program) => mib(program.peak()),
            Running::Other(child) => mib(child.peak()),
            Running::Before => f64::NAN,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Running::Other(child) = &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Takes all files below a directory out of the page cache. A file that its registry removes meanwhile is skipped.
fn forget(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            forget(&entry.path());
        } else if let Ok(file) = File::open(entry.path()) {
            // Only pages that are on the disk can leave.
            file.sync_data().unwrap();
            fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        }
    }
}

/// Writes a certificate. Returns its file and that of the key.
fn certificate(root: &Path, kind: Key) -> (PathBuf, PathBuf) {
    let (certificate, key) = (root.join("cert.pem"), root.join("key.pem"));
    let kind: &[&str] = match kind {
        Key::Ecdsa => &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        Key::Rsa => &["rsa:2048"],
    };
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-days", "2", "-nodes", "-subj", "/CN=localhost", "-newkey"]).args(kind);
    command.args(["-addext", "subjectAltName=DNS:localhost", "-out"]).arg(&certificate).arg("-keyout").arg(&key);
    assert!(command.stderr(Stdio::null()).status().unwrap().success(), "openssl makes a certificate");
    (certificate, key)
}
