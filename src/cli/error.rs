//! [`Error`]: why a command failed, in words for the person who typed it.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

/// The message and the exit code of a failed command. Any other error becomes a failure with its message.
///
/// It is not an enum: no caller distinguishes these errors. Errors that a caller does distinguish, such as the refusal of
/// a request, have enums of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Error {
    message: String,
    code: u8,
}

impl Error {
    /// The command failed: exit code 1.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// The command line or the configuration is wrong: exit code 2.
    pub(super) fn usage(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), code: 2 }
    }

    /// A failure at a path: `.map_err(Error::at(&path))`.
    pub(super) fn at<E: fmt::Display>(path: &Path) -> impl FnOnce(E) -> Self {
        move |error| Self::failed(format!("{}: {error}", path.display()))
    }

    /// Prints the message, and returns the exit code.
    pub(super) fn print(&self) -> ExitCode {
        eprintln!("coracle: {self}");
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        Self::failed(error.to_string())
    }
}
