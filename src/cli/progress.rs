//! [`ProgressLine`]: one line on the terminal that shows how far a long command is.

use std::io::{IsTerminal as _, Write as _};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::administer::Progress;
use crate::admin::Command;

/// How often the line changes.
const INTERVAL: Duration = Duration::from_millis(500);
/// The longest line. A terminal that is narrower wraps it.
const CHARACTERS_MAX: usize = 79;
/// Returns to the beginning of the line and clears it.
const CLEAR: &str = "\r\x1b[K";

/// A line on standard error, if that is a terminal. It disappears when this is dropped.
#[derive(Debug)]
pub(super) struct ProgressLine {
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl ProgressLine {
    /// `ask` carries out an operation that shows the state of the registry.
    pub(super) fn start(progress: Progress, ask: Box<dyn Fn(Command) -> Option<Value> + Send>) -> Self {
        let Some(line) = progress.filter(|_| std::io::stderr().is_terminal()) else { return Self { thread: None } };
        let (ended, waiting) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            while waiting.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if let Some(text) = line(&*ask) {
                    let text: String = text.chars().filter(|c| !c.is_control()).take(CHARACTERS_MAX).collect();
                    eprint!("{CLEAR}{text}");
                    let _ = std::io::stderr().flush();
                }
            }
            eprint!("{CLEAR}");
        });
        Self { thread: Some((ended, thread)) }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if let Some((ended, thread)) = self.thread.take() {
            drop(ended);
            let _ = thread.join();
        }
    }
}
