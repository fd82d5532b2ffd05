//! `coracle check-config`: whether a configuration is valid, and which keys exist.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use crate::config::{self, Config, Environment, Error, Examined, Finding, Loaded, Log, Source, Tls};
use crate::identity::accounts::htpasswd_problems;
use crate::kit::append::AppendFile;
use crate::kit::text::table;
use crate::registry::start_problems;
use crate::server::{check_tls, serving_problems};

const HTPASSWD: &str = "http.auth.htpasswd.path";

/// Check a configuration file and report all problems
///
/// Checks the file and the environment variables that set keys. Without a file, it is that of `$CORACLE_CONFIG`, or the
/// variables alone are checked. Also checks the files that the configuration names: the certificate and its key, every
/// line of the htpasswd file, and all that a start reads before it opens its data directory and its ports. The exit code is
/// 0 if `coracle serve` accepts the configuration and every user of the htpasswd file can sign in, and 2 if not. Warnings
/// do not change it.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(super) struct CheckConfig {
    /// The configuration in TOML, JSON or YAML, as its extension says [default: `$CORACLE_CONFIG`]
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
    /// List the value of every key except access rules, and where it comes from: the default, the file or an environment
    /// variable
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
            print!("{}", if self.markdown { config::key_document() } else { config::key_table() });
        }
        let named = super::named(self.file.as_deref().or(self.config.as_deref()));
        if self.keys && named.is_none() && !self.effective {
            return ExitCode::SUCCESS;
        }
        let Checked { problems, warnings } =
            check(named.as_deref()).unwrap_or_else(|error| Checked { problems: Some(error), warnings: Vec::new() });
        for warning in warnings {
            eprintln!("warning: {warning}");
        }
        if let Some(problems) = problems {
            eprintln!("{problems}");
            return ExitCode::from(2);
        }
        match (&named, self.effective) {
            (_, true) => match effective(named.as_deref(), self.json) {
                Ok(text) => print!("{text}"),
                Err(error) => return error.print(),
            },
            (Some(file), false) => println!("{} is valid", file.display()),
            (None, false) => println!("no file is named, and the environment is valid"),
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

/// The findings about a configuration.
struct Checked {
    problems: Option<Error>,
    warnings: Vec<Finding>,
}

/// Checks a configuration and the files that it names.
fn check(named: Option<&Path>) -> Result<Checked, Error> {
    let environment = Environment::read(std::env::vars_os())?;
    let Examined { mut problems, mut warnings, htpasswd, tls } = Config::examine(named, &environment)?;
    let origin = Origin { file: named, environment: &environment };
    let files = origin.check_files(htpasswd.as_deref(), tls.as_ref());
    problems.extend(files.unusable.into_iter().chain(files.invalid_lines));
    warnings.extend(files.warnings);
    // The rest needs a whole configuration.
    if let Ok(Loaded { config, .. }) = Config::load_from(named, &environment) {
        if problems.is_empty() {
            let (start, serving) = (start_problems(&config), serving_problems(&config.http));
            for (key, why) in start.into_iter().chain(serving).chain(log_problems(&config.log)) {
                problems.push(origin.finding(key, why));
            }
        }
        if let Some(may) = config.http.anonymous_pushes() {
            // The rules may follow from other keys, such as those of docker's registry.
            let key = if config.http.open { "http.open" } else { "" };
            warnings.push(origin.finding(key, format!("{may} without signing in")));
        }
    }
    warnings.sort();
    Ok(Checked { problems: (!problems.is_empty()).then(|| Error::new(problems)), warnings })
}

/// Why lines cannot be written to the files that the configuration names.
fn log_problems(log: &Log) -> Vec<(&'static str, String)> {
    let files = [("log.output", &log.output), ("log.audit", &log.audit)];
    let problem = |(key, path): (_, &Option<PathBuf>)| {
        let path = path.as_deref()?;
        AppendFile::check(path).err().map(|error| (key, format!("{}: {error}", path.display())))
    };
    files.into_iter().filter_map(problem).collect()
}

/// Reads the configuration of a start. If it cannot be used, or a file that it names, all problems are reported together.
pub(super) fn load_for_start(named: Option<&Path>) -> Result<Loaded, Error> {
    let environment = Environment::read(std::env::vars_os())?;
    let origin = Origin { file: named, environment: &environment };
    let Ok(loaded) = Config::load_from(named, &environment) else {
        let Examined { mut problems, htpasswd, tls, .. } = Config::examine(named, &environment)?;
        problems.extend(origin.check_files(htpasswd.as_deref(), tls.as_ref()).unusable);
        return Err(Error::new(problems));
    };
    let http = &loaded.config.http;
    let problems = origin.check_files(http.auth.htpasswd.as_deref(), http.tls.as_ref()).unusable;
    if problems.is_empty() { Ok(loaded) } else { Err(Error::new(problems)) }
}

/// The findings about the files that a configuration names.
#[derive(Default)]
struct FileFindings {
    /// Files without which a start fails.
    unusable: Vec<Finding>,
    /// Lines of the htpasswd file whose users cannot sign in.
    invalid_lines: Vec<Finding>,
    warnings: Vec<Finding>,
}

/// Where a configuration comes from.
struct Origin<'a> {
    file: Option<&'a Path>,
    environment: &'a Environment,
}

impl Origin<'_> {
    /// A finding at a key, which the file or a variable sets.
    fn finding(&self, key: &str, message: String) -> Finding {
        let variable = self.environment.setting(key).map(Path::new);
        Finding::at_key(variable.or(self.file).unwrap_or(Path::new("configuration")), key, message)
    }

    /// Checks the htpasswd file, the certificate and its key. Reads each of them once.
    fn check_files(&self, htpasswd: Option<&Path>, tls: Option<&Tls>) -> FileFindings {
        let mut found = FileFindings::default();
        if let Some(users) = htpasswd {
            let shown = users.display();
            match htpasswd_problems(users) {
                Ok(lines) => {
                    let why = |(line, why): (usize, &str)| format!("{shown}:{line}: this user cannot sign in: {why}");
                    found.invalid_lines = lines.into_iter().map(|line| self.finding(HTPASSWD, why(line))).collect();
                }
                Err(error) => found.unusable.push(self.finding(HTPASSWD, format!("cannot read {shown}: {error}"))),
            }
        }
        match tls.map(check_tls) {
            Some(Ok(warnings)) => {
                found.warnings = warnings.into_iter().map(|(key, why)| self.finding(key, why)).collect();
            }
            Some(Err((key, why))) => found.unusable.push(self.finding(key, why)),
            None => {}
        }
        found
    }
}
