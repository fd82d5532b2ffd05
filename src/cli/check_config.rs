//! `coracle check-config`: whether a configuration is valid, and which keys exist.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use crate::config::{self, Config, Environment, Error, Examined, Finding, Loaded, Source};
use crate::identity::accounts::htpasswd_problems;
use crate::kit::text::table;
use crate::registry::start_problems;
use crate::server::{check_tls, serving_problems};

/// Check a configuration file and report all problems
///
/// Also checks the files that the configuration names: the certificate and its key, every line of the htpasswd file, and
/// all that a start reads before it opens its data directory and its ports. The exit code is 0 if `coracle serve` accepts
/// the configuration, and 2 if not. Warnings about keys without an effect do not change it.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(super) struct CheckConfig {
    /// The configuration in TOML, JSON or YAML, as its extension says
    #[arg(required_unless_present_any = ["keys", "config", "effective"])]
    file: Option<PathBuf>,
    /// Another way to name the configuration, as other commands take it
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// List every key with its default and its meaning
    #[arg(long)]
    keys: bool,
    /// Print the list of --keys in Markdown, as docs/keys.md has it
    #[arg(long, requires = "keys")]
    markdown: bool,
    /// List the value of every key, and where it comes from: the default, the file or an environment variable
    #[arg(long)]
    effective: bool,
    /// Print the list of --effective as JSON
    #[arg(long, requires = "effective")]
    json: bool,
}

/// A key with its value. Secrets and access rules are left out.
#[derive(Debug, Serialize)]
struct Effective {
    key: &'static str,
    value: String,
    /// `default`, the file, or the environment variable.
    source: String,
}

impl CheckConfig {
    pub(super) fn run(&self) -> ExitCode {
        if self.keys {
            say(&if self.markdown { config::key_document() } else { config::key_table() });
        }
        let named = super::named(self.file.as_deref().or(self.config.as_deref()));
        if named.is_none() && !self.effective {
            return ExitCode::SUCCESS;
        }
        match check(named.as_deref()) {
            Ok(warnings) => {
                for warning in warnings {
                    eprintln!("warning: {warning}");
                }
            }
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(2);
            }
        }
        match (&named, self.effective) {
            (_, true) => match effective(named.as_deref(), self.json) {
                Ok(text) => say(&text),
                Err(error) => return error.print(),
            },
            (Some(file), false) => say(&format!("{} is valid\n", file.display())),
            (None, false) => {}
        }
        ExitCode::SUCCESS
    }
}

/// The values in force, as a table or as JSON.
fn effective(file: Option<&Path>, json: bool) -> Result<String, super::Error> {
    let loaded = super::load(file)?;
    let values = loaded.config.in_force().into_iter().map(|value| {
        let source = match loaded.source(value.key) {
            Source::Default => "default".to_owned(),
            Source::File => file.map_or_else(String::new, |file| file.display().to_string()),
            Source::Variable(name) => format!("${name}"),
        };
        Effective { key: value.key, value: value.text, source }
    });
    if json {
        return Ok(format!("{}\n", serde_json::to_string(&values.collect::<Vec<_>>())?));
    }
    let shown = |value: String| if value.is_empty() { "-".to_owned() } else { value };
    Ok(table(["KEY", "VALUE", "SOURCE"], values.map(|value| [value.key.to_owned(), shown(value.value), value.source])))
}

/// Checks a configuration and the files that it names, and returns the warnings.
fn check(named: Option<&Path>) -> Result<Vec<Finding>, Error> {
    let environment = Environment::read(std::env::vars_os())?;
    let Examined { mut problems, warnings, htpasswd, tls } = Config::examine(named, &environment)?;
    let file = named.unwrap_or(Path::new("configuration"));
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
    // The rest of what a start checks needs a whole configuration.
    if problems.is_empty() {
        let Loaded { config, .. } = Config::load_from(named, &environment)?;
        for (key, why) in start_problems(&config).into_iter().chain(serving_problems(&config.http)) {
            problems.push(Finding::at_key(file, key, why));
        }
    }
    if problems.is_empty() { Ok(warnings) } else { Err(Error::new(problems)) }
}

/// Writes to standard output. A reader may close it early, as `head` does.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
