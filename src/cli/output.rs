//! The outputs of commands. Standard output can be closed, as `head` closes it, or full, and so can standard error.
//!
//! The macros `println!`, `print!`, `eprintln!` and `eprint!` of the command line write here: those of the standard library
//! panic.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write as _};

/// Prints a line.
pub(super) fn line(text: Arguments<'_>) {
    let mut output = std::io::stdout().lock();
    written(output.write_fmt(text).and_then(|()| output.write_all(b"\n")));
}

/// Prints text.
pub(super) fn text(text: Arguments<'_>) {
    let mut output = std::io::stdout().lock();
    written(output.write_fmt(text).and_then(|()| output.flush()));
}

/// Ends the process if its result cannot be written. A reader that has closed its end has read enough, and needs no message.
fn written(result: std::io::Result<()>) {
    let Err(error) = result else { return };
    if error.kind() != ErrorKind::BrokenPipe {
        note(format_args!("coracle: cannot write to standard output: {error}\n"));
    }
    std::process::exit(1);
}

/// Writes to standard error. If that fails, there is no other place to say so.
pub(super) fn note(text: Arguments<'_>) {
    let _ = std::io::stderr().lock().write_fmt(text);
}
