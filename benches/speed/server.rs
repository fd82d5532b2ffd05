//! The registries that are measured, each on a new directory.

use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::support::process::Process as _;
use super::support::program::Program;
use super::support::{directory, mib};

/// A registry that answers.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    running: Running,
    _root: Option<tempfile::TempDir>,
}

/// The process, if we started it.
enum Running {
    Coracle(Program),
    Other(Child),
    Before,
}

/// The peer of the comparison.
pub(crate) enum Peer {
    DockerRegistry,
    Url(SocketAddr),
    None,
}

impl Peer {
    pub(crate) fn chosen() -> Self {
        match std::env::var("SPEED_PEER").as_deref() {
            Err(_) | Ok("docker-registry") => Self::DockerRegistry,
            Ok("none") => Self::None,
            Ok(url) => {
                let host = url.strip_prefix("http://").expect("a peer is named by an http URL").trim_end_matches('/');
                Self::Url(host.to_socket_addrs().unwrap().next().unwrap())
            }
        }
    }

    pub(crate) fn name(&self) -> Option<&'static str> {
        match self {
            Self::DockerRegistry => Some("docker-registry"),
            Self::Url(_) => Some("the peer"),
            Self::None => None,
        }
    }

    pub(crate) fn start(&self) -> Option<Server> {
        match self {
            Self::DockerRegistry => Some(Server::docker_registry()),
            Self::Url(address) => Some(Server { address: *address, running: Running::Before, _root: None }),
            Self::None => None,
        }
    }
}

impl Server {
    pub(crate) fn coracle() -> Self {
        let root = directory();
        let program = Program::configured("SPEED_PROGRAM", root.path(), "[log]\nlevel = 'warn'\n[http]\nopen = true\n");
        Self { address: program.address, running: Running::Coracle(program), _root: Some(root) }
    }

    /// Debian's, with nothing of this process's environment: it would read much of it as configuration.
    fn docker_registry() -> Self {
        let root = directory();
        let address = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let config = root.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog:\n  accesslog:\n    disabled: true\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n  \
             delete:\n    enabled: true\nhttp:\n  addr: {address}\n",
            root.path().display()
        );
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
        Self { address, running: Running::Other(child), _root: Some(root) }
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
