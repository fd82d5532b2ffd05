//! Questions at the terminal.
//!
//! Uses the terminal itself, because standard input may be a file. Invariant: a password is not shown while it is typed,
//! and the terminal shows input again after that, also after an error.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::cli::Error;

/// The longest line that is read.
const LINE_BYTES_MAX: u64 = 4096;

/// The terminal that the program was started from.
#[derive(Debug)]
pub(super) struct Terminal {
    file: File,
}

/// Keeps the terminal from showing input until it is dropped.
struct Quiet {
    file: File,
    before: Termios,
}

impl Terminal {
    /// Returns `None` if the program was not started from a terminal.
    pub(super) fn open() -> Option<Self> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
        Some(Self { file })
    }

    /// Asks a question, and returns the typed line.
    pub(super) async fn ask(&self, question: &str) -> Result<Zeroizing<String>, Error> {
        let (mut shown, file) = (self.clone_file()?, self.clone_file()?);
        write!(shown, "{question}").and_then(|()| shown.flush()).map_err(failed)?;
        // After an interrupt this thread still waits, which does not keep the program from ending.
        let line = tokio::task::spawn_blocking(move || {
            let mut line = Zeroizing::new(String::new());
            BufReader::new(file.take(LINE_BYTES_MAX)).read_line(&mut line).map(|_| line)
        });
        let mut line = line.await?.map_err(failed)?;
        if !line.ends_with('\n') {
            return Err(Error::failed("no input"));
        }
        while line.ends_with(['\n', '\r']) {
            line.pop();
        }
        Ok(line)
    }

    /// The same, without showing the input.
    pub(super) async fn ask_secret(&self, question: &str) -> Result<Zeroizing<String>, Error> {
        let quiet = Quiet::begin(self.clone_file()?)?;
        let line = self.ask(question).await;
        drop(quiet);
        // The line end was not shown either.
        let _ = writeln!(self.clone_file()?);
        line
    }

    fn clone_file(&self) -> Result<File, Error> {
        self.file.try_clone().map_err(failed)
    }
}

impl Quiet {
    fn begin(file: File) -> Result<Self, Error> {
        let before = tcgetattr(&file).map_err(failed)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&file, OptionalActions::Flush, &quiet).map_err(failed)?;
        Ok(Self { file, before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.file, OptionalActions::Now, &self.before);
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::failed(format!("the terminal: {error}"))
}
