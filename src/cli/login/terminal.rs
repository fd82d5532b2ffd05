//! The person at the terminal: what they are asked, and what they type.
//!
//! The terminal itself, and not standard input, which may be a file. Invariant: a password is not shown while
//! it is typed, and the terminal shows again what is typed after that, however the asking ends.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// What is typed is not longer.
const LINE_BYTES_MAX: u64 = 4096;

/// The terminal that the program was started from.
#[derive(Debug)]
pub(super) struct Terminal {
    file: File,
}

/// A terminal that does not show what is typed, until this is dropped.
struct Quiet {
    file: File,
    before: Termios,
}

impl Terminal {
    /// None, if the program was not started from one.
    pub(super) fn open() -> Option<Self> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
        Some(Self { file })
    }

    /// Asks, and returns the line that is typed.
    pub(super) async fn ask(&self, question: &str) -> Result<Zeroizing<String>, String> {
        let (mut shown, file) = (self.another()?, self.another()?);
        write!(shown, "{question}").and_then(|()| shown.flush()).map_err(failed)?;
        // Somebody who goes away in the middle leaves a thread that waits; the program ends all the same.
        let line = tokio::task::spawn_blocking(move || {
            let mut line = Zeroizing::new(String::new());
            BufReader::new(file.take(LINE_BYTES_MAX)).read_line(&mut line).map(|_| line)
        });
        let mut line = line.await.map_err(|error| error.to_string())?.map_err(failed)?;
        if !line.ends_with('\n') {
            return Err("nothing was typed".to_owned());
        }
        while line.ends_with(['\n', '\r']) {
            line.pop();
        }
        Ok(line)
    }

    /// The same, for what nobody is to see.
    pub(super) async fn ask_secret(&self, question: &str) -> Result<Zeroizing<String>, String> {
        let quiet = Quiet::begin(self.another()?)?;
        let line = self.ask(question).await;
        drop(quiet);
        // The line's end was not shown either.
        let _ = writeln!(self.another()?);
        line
    }

    fn another(&self) -> Result<File, String> {
        self.file.try_clone().map_err(failed)
    }
}

impl Quiet {
    fn begin(file: File) -> Result<Self, String> {
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

fn failed(error: impl std::fmt::Display) -> String {
    format!("the terminal: {error}")
}
