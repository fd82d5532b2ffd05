//! The real program: started on a free port, watched through its two outputs, stopped by its own id.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::http::Caller;

/// A test that takes longer hangs. This is far longer than needed, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The line that the program prints when it accepts connections.
const LISTENING: &str = "listening on ";

/// The superuser of a first start, with the password that [`Program::with_admin`] gives it.
pub const ADMIN: (&str, &str) = ("admin", "admin's-password");

/// A program to be started.
#[must_use = "a program does nothing until it is started"]
#[derive(Debug)]
pub struct Program {
    command: Command,
}

impl Program {
    /// The program with these arguments, and nothing of this process's environment that it looks at.
    pub fn new<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        Self::of(env!("CARGO_BIN_EXE_coracle"), arguments)
    }

    /// Another program, which starts ours.
    pub fn of<S: AsRef<std::ffi::OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).env_remove("XDG_DATA_HOME");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CORACLE_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command }
    }

    /// `coracle serve` on this data directory and a free port.
    pub fn serve(root: &Path) -> Self {
        Self::new(["serve", "--port", "0", "--root"]).arg(root)
    }

    /// `coracle serve` with a configuration, which is written next to the data.
    pub fn serve_with(root: &Path, config: &str) -> Self {
        let file = root.join("coracle.toml");
        std::fs::create_dir_all(root).unwrap();
        std::fs::write(&file, config).unwrap();
        Self::serve(root).arg(file)
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives it this as its standard input.
    pub fn input(mut self, text: &str) -> Self {
        use std::io::{Seek as _, Write as _};
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        self.command.stdin(file);
        self
    }

    /// The superuser of a first start is [`ADMIN`].
    pub fn with_admin(self) -> Self {
        self.env("CORACLE_ADMIN_PASSWORD", ADMIN.1)
    }

    /// Runs it as a user who is not root, so that permissions mean something.
    pub fn unprivileged(mut self) -> Self {
        use std::os::unix::process::CommandExt as _;
        if rustix::process::geteuid().is_root() {
            self.command.uid(65534).gid(65534);
        }
        self
    }

    /// Starts it, and returns once it listens.
    #[track_caller]
    pub fn start(self) -> Running {
        let mut running = self.spawn();
        let line = running.stdout.recv_timeout(PATIENCE);
        let url = line.as_deref().ok().and_then(|line| line.strip_prefix(LISTENING));
        let Some(url) = url else {
            let _ = running.child.kill();
            panic!("the program does not listen: {line:?}\n{}", running.stderr());
        };
        url.clone_into(&mut running.url);
        running
    }

    /// Starts it, and closes its outputs once it listens, as a shell's `| head -1` does.
    pub fn start_unheard(mut self) -> Running {
        let mut child = self.command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        drop(child.stderr.take());
        let url = line.trim_end().strip_prefix(LISTENING).unwrap().to_owned();
        let log = Arc::new(Log::default());
        *log.ended.lock().unwrap() = true;
        Running { child, url, stdout: channel().1, log }
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Finished {
        self.spawn().finish()
    }

    /// Starts it without waiting for its line.
    pub fn spawn(mut self) -> Running {
        let mut child = self.command.spawn().unwrap();
        let (lines, stdout) = channel();
        let out = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let log = Arc::new(Log::default());
        let (mut err, written) = (child.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = err.read(&mut buffer) {
                written.text.lock().unwrap().extend_from_slice(&buffer[..count]);
                written.more.notify_all();
            }
            *written.ended.lock().unwrap() = true;
            written.more.notify_all();
        });
        Running { child, url: String::new(), stdout, log }
    }
}

/// Standard error so far.
#[derive(Debug, Default)]
struct Log {
    text: Mutex<Vec<u8>>,
    ended: Mutex<bool>,
    more: Condvar,
}

/// A program that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    url: String,
    stdout: Receiver<String>,
    log: Arc<Log>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Finished {
    /// None if a signal has ended it.
    pub code: Option<i32>,
    /// Standard output that was not read before.
    pub stdout: String,
    pub stderr: String,
}

impl Running {
    /// `http://<address>:<port>`, as the program says.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn address(&self) -> SocketAddr {
        self.url.split_once("://").unwrap().1.parse().unwrap()
    }

    /// Someone without credentials.
    pub fn anonymous(&self) -> Caller {
        Caller::new(self.address(), None)
    }

    /// Someone with a name and a password.
    pub fn user(&self, credentials: (&str, &str)) -> Caller {
        Caller::new(self.address(), Some(credentials))
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.log.text.lock().unwrap()).into_owned()
    }

    /// Waits until standard error has this text, and returns all of it.
    #[track_caller]
    pub fn wait_for(&self, wanted: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut text = self.log.text.lock().unwrap();
        loop {
            let so_far = String::from_utf8_lossy(&text).into_owned();
            if so_far.contains(wanted) {
                return so_far;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{wanted:?} is not said: {so_far}");
            text = self.log.more.wait_timeout(text, left).unwrap().0;
        }
    }

    /// The next line of standard output.
    #[track_caller]
    pub fn wait_for_line(&self) -> String {
        self.stdout.recv_timeout(PATIENCE).expect("another line")
    }

    /// Asks it to stop.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Ends it on the spot, as a loss of power would end it for its clients.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has.
    #[track_caller]
    pub fn stop(self) -> Finished {
        self.signal(Signal::TERM);
        self.finish()
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        let status = self.wait();
        let deadline = Instant::now() + PATIENCE;
        let mut ended = self.log.ended.lock().unwrap();
        while !*ended {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "another process holds standard error open");
            // The text has another lock than the end, so that a notice may be missed.
            ended = self.log.more.wait_timeout(ended, left.min(Duration::from_millis(20))).unwrap().0;
        }
        drop(ended);
        let stdout = self.stdout.iter().map(|line| line + "\n").collect();
        Finished { code: status.code(), stdout, stderr: self.stderr() }
    }

    #[track_caller]
    fn wait(&mut self) -> ExitStatus {
        // The standard library cannot wait for a child with a bound.
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the program does not end: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Its resident memory, in KiB.
    #[cfg(target_os = "linux")]
    pub fn resident(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Its highest resident memory, in KiB.
    #[cfg(target_os = "linux")]
    pub fn resident_most(&self) -> u64 {
        self.status("VmHWM:")
    }

    #[cfg(target_os = "linux")]
    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid().as_raw_nonzero())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    /// How many files and sockets it has open.
    #[cfg(target_os = "linux")]
    pub fn handles(&self) -> u64 {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid().as_raw_nonzero())).unwrap().count() as u64
    }

    /// The processor time it has used so far, in ticks of a hundredth of a second.
    #[cfg(target_os = "linux")]
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid().as_raw_nonzero())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = fields.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
