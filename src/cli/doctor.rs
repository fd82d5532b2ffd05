//! `coracle doctor`: checks the machine, the data directory, the way of clients to the registry, and their configuration.
//!
//! Changes nothing, and opens no database: it also works where the registry cannot start. Each check says what is wrong and
//! what to do.

mod client;
mod clock;
mod data;
mod network;
mod services;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::administer::{Report, Target, finish};
use super::{Error, admin, data_dir, locate};
use crate::admin::Status;
use crate::config::Config;

/// Check this machine for what keeps a registry or its clients from working
///
/// Checks the data directory (owner, permissions, free space, durable writes), the clock, the certificate, the port, the
/// LDAP directory and the sinks of events, the URL that clients use with the headers of a proxy, and the configuration of
/// docker, podman and containerd on this machine. Works on a running or a stopped registry, and changes nothing.
///
/// The exit code is 1 if a check found a problem. Warnings do not change it.
#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    target: Target,
    /// Check the way of clients that use this URL [default: http.externalUrl, or the address of the running registry]
    #[arg(long)]
    url: Option<String>,
    /// Trust this certificate (PEM) of an authority too, when the URL is requested
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Look for the configuration of clients in this root directory, such as /host in a container
    #[arg(long, value_name = "DIR", default_value = "/")]
    machine: PathBuf,
}

/// The result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Works, but not always or not for everyone.
    Warning,
    /// Does not work.
    Problem,
    /// Could not be checked, or does not apply.
    Skipped,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    /// The next step.
    advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), advice: None }
    }

    fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, state: State::Skipped, found: why.into(), advice: None }
    }

    fn warning(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, state: State::Warning, found: found.into(), advice: Some(advice.into()) }
    }

    fn problem(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, state: State::Problem, found: found.into(), advice: Some(advice.into()) }
    }
}

/// The checks of a machine.
#[derive(Debug, Serialize)]
struct Diagnosis {
    checks: Vec<Check>,
}

impl Doctor {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let mut checks = Vec::new();
        let (config, root) = match self.target.locate() {
            Ok(located) => located,
            Err(error) => {
                let advice = "run `coracle check-config`; the other checks use the defaults";
                checks.push(Check::problem("configuration", error.to_string(), advice));
                let (mut config, _) = locate(None, None)?;
                config.storage.root_directory = self.target.root().map(Path::to_owned);
                let root = data_dir(&config)?;
                (config, root)
            }
        };
        let status = self.status(&root);
        checks.push(registry(&root, &status));
        let status = status.ok().flatten();
        checks.extend(data::checks(&root, &config));
        checks.push(clock::check(&root, status.as_ref()));
        checks.extend(network::certificate(&config, &root));
        checks.extend(network::ports(&config, status.as_ref()));
        let url = self.url.clone().or_else(|| usual_url(&config, status.as_ref()));
        checks.extend(services::checks(&config));
        let way = network::way(url.as_deref(), status.as_ref(), self.ca.as_deref());
        checks.extend(way.checks);
        if let Some(url) = url.or_else(|| config.http.local_url()) {
            checks.extend(client::checks(&self.machine, &url, way.is_trusted));
        }
        finish(self.target.is_json(), &Diagnosis { checks })
    }

    /// The state of a running registry. `None` if none runs. A stopped one is not opened.
    fn status(&self, root: &Path) -> Result<Option<Status>, Error> {
        if super::administer::running(root)?.is_none() {
            return Ok(None);
        }
        self.target.perform(admin::ShowStatus {}).map(Some)
    }
}

/// The running registry, as it sees itself.
fn registry(root: &Path, status: &Result<Option<Status>, Error>) -> Check {
    const NAME: &str = "registry";
    match status {
        Ok(None) => Check::skipped(NAME, format!("no registry runs on {}", root.display())),
        Err(error) => Check::problem(NAME, error.to_string(), "see the log of the registry"),
        Ok(Some(status)) => {
            let url = status.server.as_ref().map_or("", |server| server.url.as_str());
            let others: Vec<_> = status.warnings.iter().filter(|warning| !has_own_check(warning)).collect();
            match others.split_first() {
                None => Check::ok(NAME, format!("version {} runs at {url}", status.version)),
                Some((first, more)) => {
                    let warnings = more.iter().fold((*first).clone(), |all, warning| format!("{all}; {warning}"));
                    let advice = "`coracle status` has the details";
                    if status.read_only || status.refuses_pushes.is_some() {
                        Check::problem(NAME, warnings, advice)
                    } else {
                        Check::warning(NAME, warnings, advice)
                    }
                }
            }
        }
    }
}

/// Whether another check finds what a warning of the registry says.
fn has_own_check(warning: &str) -> bool {
    let own = ["the certificate ", "the LDAP directory ", "ignored forwarding ", "ignored contradicting "];
    own.iter().any(|beginning| warning.starts_with(beginning))
}

/// The URL at which clients on this machine reach the registry.
fn usual_url(config: &Config, status: Option<&Status>) -> Option<String> {
    if let Some(url) = &config.http.external_url {
        return Some(url.clone());
    }
    let server = status?.server.as_ref()?;
    if let Some(url) = &server.external_url {
        return Some(url.clone());
    }
    // A client cannot connect to the unspecified address.
    let (scheme, rest) = server.url.split_once("://")?;
    let (_, port) = rest.rsplit_once(':')?;
    let is_unspecified = rest.starts_with("0.0.0.0:") || rest.starts_with("[::]:");
    Some(if is_unspecified { format!("{scheme}://localhost:{port}") } else { server.url.clone() })
}

impl Report for Diagnosis {
    fn print(&self) {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
        for check in &self.checks {
            println!("{} {:width$}  {}", check.state.word(), check.name, check.found);
            if let Some(advice) = &check.advice {
                println!("{:8} {:width$}  → {advice}", "", "");
            }
        }
        let count = |state| self.checks.iter().filter(|check| check.state == state).count() as u64;
        let problems = crate::kit::text::counted(count(State::Problem), "problem", "problems");
        let warnings = crate::kit::text::counted(count(State::Warning), "warning", "warnings");
        println!("\n{problems}, {warnings}");
    }

    fn code(&self) -> ExitCode {
        let has_problem = self.checks.iter().any(|check| check.state == State::Problem);
        if has_problem { ExitCode::from(1) } else { ExitCode::SUCCESS }
    }
}

impl State {
    /// The state in eight columns, coloured on a terminal unless `NO_COLOR` is set.
    fn word(self) -> String {
        let (word, colour) = match self {
            Self::Ok => ("ok", 32),
            Self::Warning => ("warning", 33),
            Self::Problem => ("problem", 31),
            Self::Skipped => ("skipped", 90),
        };
        let has_colour =
            std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        if has_colour { format!("\u{1b}[{colour}m{word:8}\u{1b}[0m") } else { format!("{word:8}") }
    }
}
