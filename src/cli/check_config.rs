//! `coracle check-config`: is a configuration right, and what can stand in one.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{self, Config};
use crate::identity::accounts::htpasswd_problems;

/// Check a configuration file, and report everything that is wrong with it
///
/// Exits with 0 if the file can be served from and every line of its htpasswd file names a user, and with 2 if not.
/// Warnings, about zot's settings that have no effect here, do not count.
#[derive(Debug, clap::Args)]
pub(super) struct CheckConfig {
    /// The configuration, in TOML, JSON or YAML by its ending
    #[arg(required_unless_present = "keys")]
    file: Option<PathBuf>,
    /// List every key, with its default and what it does
    #[arg(long)]
    keys: bool,
}

impl CheckConfig {
    pub(super) fn run(&self) -> ExitCode {
        if self.keys {
            say(&config::key_table());
        }
        let Some(file) = &self.file else { return ExitCode::SUCCESS };
        match Config::load(file) {
            Ok(loaded) => {
                for warning in loaded.warnings {
                    eprintln!("warning: {warning}");
                }
                if let Some(users) = &loaded.config.http.auth.htpasswd {
                    match htpasswd_problems(users) {
                        Ok(problems) if problems.is_empty() => {}
                        Ok(problems) => {
                            for (line, why) in problems {
                                eprintln!("{}:{line}: the user is left out: {why}", users.display());
                            }
                            return ExitCode::from(2);
                        }
                        Err(error) => return super::wrong(&error),
                    }
                }
                say(&format!("{} is right\n", file.display()));
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::from(2)
            }
        }
    }
}

/// Writes to standard output. Whoever reads it may have seen enough, which is no failure.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
