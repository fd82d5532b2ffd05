//! Files for packages, from the definition of the command line: completions of shells, and man pages.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Error};

/// Print the completions of a shell
///
/// For bash, in its start-up file: `source <(coracle completions bash)`. Packages install the completions.
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> ExitCode {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "coracle", &mut script);
        print!("{}", String::from_utf8_lossy(&script));
        ExitCode::SUCCESS
    }
}

/// Write a man page for each command
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// The directory for the pages, which must exist
    directory: PathBuf,
}

impl Man {
    pub(super) fn run(&self) -> Result<ExitCode, Error> {
        // The width of a terminal would break the lines of the pages.
        let command = Cli::command().term_width(0);
        clap_mangen::generate_to(command, &self.directory).map_err(Error::at(&self.directory))?;
        Ok(ExitCode::SUCCESS)
    }
}
