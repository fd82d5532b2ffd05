//! The registries that are measured, each on a new directory.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A registry that answers.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Nothing for one that was running before.
    child: Option<Child>,
    _root: Option<tempfile::TempDir>,
}

/// What coracle is compared with.
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
            Self::Url(address) => Some(Server { address: *address, child: None, _root: None }),
            Self::None => None,
        }
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

impl Server {
    pub(crate) fn coracle() -> Self {
        let root = directory();
        let program = std::env::var_os("SPEED_PROGRAM").map(PathBuf::from);
        let mut command = Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_coracle").into()));
        let config = root.path().join("bench.toml");
        std::fs::write(&config, "[log]\nlevel = 'warn'\n[http]\nopen = true\n").unwrap();
        command.arg("serve").arg(config).args(["--port", "0", "--root"]).arg(root.path());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on http://").expect("it listens").parse().unwrap();
        Self { address, child: Some(child), _root: Some(root) }
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
        Self { address, child: Some(child), _root: Some(root) }
    }

    /// The processor time it has used, in seconds.
    pub(crate) fn processor(&self) -> f64 {
        let Some(child) = &self.child else { return f64::NAN };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        // In ticks of a hundredth of a second, in user and in system mode.
        (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
    }

    /// The most memory it has had, in MiB.
    pub(crate) fn peak_mib(&self) -> f64 {
        let Some(child) = &self.child else { return f64::NAN };
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
