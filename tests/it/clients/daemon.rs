//! [`Daemon`]: a program that a client talks to, such as containerd. It ends with its test.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a daemon may take to stop.
const STOP_SECONDS_MAX: Duration = Duration::from_secs(20);

/// A running daemon.
pub(crate) struct Daemon(Child);

impl Daemon {
    /// Starts a daemon, and waits until its log has these words.
    pub(crate) fn start(command: &mut Command, started: &str) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        // Created before anything can fail, so that the daemon always ends.
        let daemon = Self(child);
        let mut said = String::new();
        while !said.contains(started) {
            let length = log.read_line(&mut said).unwrap();
            assert!(length > 0, "{} ended before it had started:\n{said}", command.get_program().display());
        }
        thread::spawn(move || log.read_to_end(&mut Vec::new())); // or it would stop at a full pipe
        daemon
    }
}

impl Drop for Daemon {
    /// Stops the daemon orderly: an engine of docker stops its containerd only then.
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let until = Instant::now() + STOP_SECONDS_MAX;
        while matches!(self.0.try_wait(), Ok(None)) {
            if Instant::now() > until {
                let _ = self.0.kill();
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
