//! [`Faults`]: what fails under a running program, by a library between it and the C library (`shim.c`).

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::Errno;

use crate::clients::home::{find, skipped};
use crate::support::process::Program;

pub const READ: u32 = 1;
pub const WRITE: u32 = 2;
pub const SYNC: u32 = 4;
pub const RENAME: u32 = 8;
pub const OPEN: u32 = 16;
pub const CREATE: u32 = 32;
pub const REMOVE: u32 = 64;
pub const OPEN_TO_WRITE: u32 = 128;

/// As large as a `struct fault`.
const FAULT_BYTES: usize = 256;

/// A library that makes system calls of a program fail.
#[derive(Debug)]
pub struct Faults {
    library: PathBuf,
    control: PathBuf,
    file: File,
}

impl Faults {
    /// Compiles the library; none where that cannot be done, which is said.
    pub fn prepare(test: &str, directory: &Path) -> Option<Self> {
        if !cfg!(target_os = "linux") {
            skipped(test, "faults are planted on Linux alone");
            return None;
        }
        if find("gcc").is_none() {
            skipped(test, "gcc is not installed (apt-get install gcc libc6-dev)");
            return None;
        }
        let library = directory.join("shim.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/faults/shim.c");
        let mut gcc = Command::new("gcc");
        gcc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&library).args([source, "-ldl"]);
        assert!(gcc.status().unwrap().success(), "{gcc:?}");
        Some(Self::with(library, &directory.join("faults")))
    }

    /// The same library for another program.
    pub fn another(&self, control: &Path) -> Self {
        Self::with(self.library.clone(), control)
    }

    fn with(library: PathBuf, control: &Path) -> Self {
        std::fs::write(control, [0; FAULT_BYTES]).unwrap();
        let file = File::options().write(true).open(control).unwrap();
        Self { library, control: control.to_owned(), file }
    }

    /// A program whose operations will fail.
    pub fn under(&self, program: Program) -> Program {
        program.env("LD_PRELOAD", &self.library).env("FAULTS", &self.control)
    }

    /// From now on these operations fail on files with this in their path.
    pub fn plant(&self, operations: u32, error: Errno, path: &str) {
        let mut fault = [0; FAULT_BYTES];
        fault[4..8].copy_from_slice(&error.raw_os_error().to_ne_bytes());
        fault[8..8 + path.len()].copy_from_slice(path.as_bytes());
        self.file.write_all_at(&fault, 0).unwrap();
        self.file.write_all_at(&operations.to_ne_bytes(), 0).unwrap();
    }

    /// From now on nothing fails.
    pub fn lift(&self) {
        self.file.write_all_at(&0_u32.to_ne_bytes(), 0).unwrap();
    }
}
