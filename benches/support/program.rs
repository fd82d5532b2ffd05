//! The program, running.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::process::Process;

/// The password of the first superuser.
pub(crate) const PASSWORD: &str = "measured";

/// The program with a data directory; ended when this is dropped.
pub(crate) struct Program {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Program {
    /// Starts it with arguments behind `serve`, on a port that is free. `variable` is the environment's name for
    /// another program than the one that was just built.
    pub(crate) fn start(variable: &str, root: &Path, arguments: &[&str]) -> Self {
        let given = std::env::var_os(variable).map(PathBuf::from);
        let mut command = Command::new(given.unwrap_or_else(|| env!("CARGO_BIN_EXE_coracle").into()));
        command.arg("serve").args(arguments).args(["--port", "0", "--root"]).arg(root);
        command.env("CORACLE_ADMIN_PASSWORD", PASSWORD).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ").and_then(|url| url.split_once("://"));
        let address = address.expect("it listens").1.parse().unwrap();
        Self { child, address }
    }

    /// Starts it with a configuration.
    pub(crate) fn configured(variable: &str, root: &Path, config: &str) -> Self {
        let file = root.join("bench.toml");
        std::fs::write(&file, config).unwrap();
        Self::start(variable, root, &[file.to_str().unwrap()])
    }

    /// Starts it, and says how long it took until its first answer.
    pub(crate) fn first_answer(variable: &str, root: &Path, arguments: &[&str]) -> (Self, Duration) {
        let begun = Instant::now();
        let program = Self::start(variable, root, arguments);
        let answer = program.ask("GET /v2/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let time = begun.elapsed();
        assert!(["200", "401"].contains(&&answer[9..12]), "{answer}");
        (program, time)
    }

    /// Sends a request that ends its connection, and gives what comes back.
    pub(crate) fn ask(&self, request: &str) -> String {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Ends it in order.
    pub(crate) fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it at once.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Process for Program {
    fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
