//! `coracle check-config`: whether a configuration is valid, and which keys exist.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::{self, Config, Error, Examined, Finding};
use crate::identity::accounts::htpasswd_problems;
use crate::server::check_tls;

/// Check a configuration file and report all problems
///
/// Also checks the files that the configuration names: the certificate and its key, and every line of the htpasswd file.
/// The exit code is 0 if `coracle serve` accepts the configuration, and 2 if not. Warnings about keys without an effect
/// do not change it.
#[derive(Debug, clap::Args)]
pub(super) struct CheckConfig {
    /// The configuration in TOML, JSON or YAML, as its extension says
    #[arg(required_unless_present_any = ["keys", "config"])]
    file: Option<PathBuf>,
    /// Another way to name the configuration, as other commands take it
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// List every key with its default and its meaning
    #[arg(long)]
    keys: bool,
}

impl CheckConfig {
    pub(super) fn run(&self) -> ExitCode {
        if self.keys {
            say(&config::key_table());
        }
        let Some(file) = self.file.as_ref().or(self.config.as_ref()) else { return ExitCode::SUCCESS };
        match check(file) {
            Ok(warnings) => {
                for warning in warnings {
                    eprintln!("warning: {warning}");
                }
                say(&format!("{} is valid\n", file.display()));
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::from(2)
            }
        }
    }
}

/// Checks a file and the files that it names, and returns the warnings.
fn check(file: &Path) -> Result<Vec<Finding>, Error> {
    let Examined { mut problems, warnings, htpasswd, tls } = Config::examine(file)?;
    let mut problem = |key: &str, message: String| problems.push(Finding::at_key(file, key, message));
    if let Some(users) = htpasswd {
        let key = "http.auth.htpasswd.path";
        match htpasswd_problems(&users) {
            Ok(lines) => {
                for (line, why) in lines {
                    problem(key, format!("{}:{line}: this user cannot sign in: {why}", users.display()));
                }
            }
            Err(error) => problem(key, format!("cannot read {}: {error}", users.display())),
        }
    }
    if let Some(Err((key, why))) = tls.as_ref().map(check_tls) {
        problem(key, why);
    }
    if problems.is_empty() { Ok(warnings) } else { Err(Error::new(problems)) }
}

/// Writes to standard output. A reader may close it early, as `head` does.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
