//! `coracle doctor`: checks the machine, the data directory, the way of clients to the registry, and their configuration.
//!
//! Changes nothing, and opens no database: it also works where the registry cannot start. Each check says what is wrong and
//! what to do.

mod client;
mod clock;
mod data;
mod network;
mod permissions;
mod services;
mod size;
mod way;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::administer::{Report, Target, ask_running, finish};
use super::{Error, absolute, admin};
use crate::admin::Status;
use way::{Facts, Place};

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
            Ok((config, root)) => (Some(config), Some(root)),
            Err(error) => {
                let advice = "run `coracle check-config`; the checks that need the configuration are left out";
                checks.push(Check::problem("configuration", error.to_string(), advice));
                (None, self.target.root().map(absolute).transpose()?)
            }
        };
        // A stopped registry is not opened.
        let status = root.as_ref().map_or(Ok(None), |root| ask_running(root, admin::ShowStatus {}));
        let place_of_registry = checks.len();
        let running = status.as_ref().ok().and_then(Option::as_ref);
        match &root {
            Some(root) => checks.extend(data::checks(root, config.as_ref())),
            None => checks.push(Check::skipped(data::DIRECTORY, "the configuration names it: name it with --root")),
        }
        let certificate = network::certificate(config.as_ref().zip(root.as_deref()), running);
        let place = self.url.as_deref().map(Place::named).or_else(|| Place::usual(config.as_ref(), running));
        let ca = self.ca.as_deref();
        let facts = Facts { config: config.as_ref(), status: running, certificate: certificate.as_ref(), ca };
        let way = way::way(place.as_ref(), &facts);
        let clock = clock::check(root.as_deref(), running);
        // One wrong clock is one problem.
        checks.push(if clock.state == State::Ok { way.clock.unwrap_or(clock) } else { clock });
        checks.extend(certificate);
        checks.extend(network::ports(config.as_ref(), running));
        checks.extend(config.as_ref().map(services::checks).unwrap_or_default());
        checks.extend(way.checks);
        if let Some(place) = place.or_else(|| Place::configured(config.as_ref()?)) {
            checks.extend(client::checks(&self.machine, &place, &way.seen));
        }
        if let Some(root) = &root {
            checks.insert(place_of_registry, registry(root, &status, &checks));
        }
        finish(self.target.is_json(), &Diagnosis { checks })
    }
}

/// The running registry, as it sees itself. Leaves out what other checks found.
fn registry(root: &Path, status: &Result<Option<Status>, Error>, others: &[Check]) -> Check {
    const NAME: &str = "registry";
    match status {
        Ok(None) => Check::skipped(NAME, format!("no registry runs on {}", root.display())),
        Err(_) if has_problem(others, data::DIRECTORY) || has_problem(others, permissions::NAME) => {
            Check::skipped(NAME, "not asked: this user may not use the data directory")
        }
        Err(error) => Check::problem(NAME, error.to_string(), "see the log of the registry"),
        Ok(Some(status)) => {
            let url = status.server.as_ref().map_or("", |server| server.url.as_str());
            let warnings: Vec<_> =
                status.warnings.iter().filter(|warning| !is_found(warning, others)).map(String::as_str).collect();
            if warnings.is_empty() {
                return Check::ok(NAME, format!("version {} runs at {url}", status.version));
            }
            let is_problem = warnings.iter().any(|warning| PROBLEMS.iter().any(|text| warning.starts_with(text)));
            let check = if is_problem { Check::problem } else { Check::warning };
            check(NAME, warnings.join("; "), "`coracle status` has the details")
        }
    }
}

/// The beginnings of those warnings of the registry that are problems: pushes fail.
const PROBLEMS: [&str; 2] = ["the database cannot be written", "pushes are refused"];

/// The beginnings of warnings of the registry, and the check that finds the same.
const SAME: [(&str, &str); 12] = [
    ("the certificate ", network::CERTIFICATE),
    ("clients get a ", network::CERTIFICATE),
    ("no certificate was issued", network::CERTIFICATE),
    ("the LDAP directory ", services::LDAP),
    ("the sink ", services::SINK),
    ("ignored forwarding ", way::PROXY),
    ("ignored contradicting ", way::PROXY),
    ("the database cannot be written", data::WRITES),
    ("pushes are refused", data::SPACE),
    ("only ", data::SPACE),
    ("the disk is full", data::SPACE),
    ("the clock ", clock::NAME),
];

/// Whether another check found what a warning of the registry says.
fn is_found(warning: &str, others: &[Check]) -> bool {
    SAME.iter().any(|(beginning, name)| {
        let finds = |check: &Check| check.name == *name && matches!(check.state, State::Warning | State::Problem);
        warning.starts_with(beginning) && others.iter().any(finds)
    })
}

fn has_problem(checks: &[Check], name: &str) -> bool {
    checks.iter().any(|check| check.name == name && check.state == State::Problem)
}

impl Report for Diagnosis {
    fn print(&self) {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
        for check in &self.checks {
            println!("{} {:width$}  {}", check.state.word(), check.name, check.found);
            if let Some(advice) = &check.advice {
                for (number, line) in advice.lines().enumerate() {
                    println!("{:8} {:width$}  {} {line}", "", "", if number == 0 { "→" } else { " " });
                }
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn status(warnings: &[&str]) -> Status {
        serde_json::from_value(serde_json::json!({
            "version": "1", "data_directory": "/srv", "now": "", "server": null, "repositories": 0, "blobs": 0,
            "stored_bytes": 0, "free_bytes": null, "min_free_bytes": null, "refuses_pushes": null, "read_only": false,
            "uploads": 0, "upload_bytes": 0, "unreferenced_bytes": 0, "maintenance": [], "last_backup": null,
            "warnings": warnings,
        }))
        .unwrap()
    }

    #[test]
    fn a_warning_of_the_registry_is_left_out_if_another_check_finds_the_same() {
        let root = Path::new("/srv");
        let space = "pushes are refused: 1 B are free";
        let registry = |warnings: &[&str], others: &[Check]| registry(root, &Ok(Some(status(warnings))), others);
        let full = Check::problem(data::SPACE, "", "");
        for warning in [space, "the disk is full, 0 B are free", "only 70 MiB are free"] {
            assert_eq!(registry(&[warning], std::slice::from_ref(&full)).state, State::Ok);
        }
        assert_eq!(registry(&[space], &[Check::ok(data::SPACE, "")]).state, State::Problem);
        let found = registry(&[space, "1 blob is damaged"], &[full]);
        assert_eq!((found.state, found.found.as_str()), (State::Warning, "1 blob is damaged"));
        let clear = "the database cannot be written: free space";
        assert_eq!(registry(&[clear], &[]).state, State::Problem);
        assert_eq!(registry(&[clear], &[Check::problem(data::WRITES, "", "")]).state, State::Ok);
    }

    #[test]
    fn a_registry_that_this_user_may_not_ask_is_no_second_problem() {
        let ask = |others: &[Check]| registry(Path::new("/srv"), &Err(Error::failed("denied")), others);
        assert_eq!(ask(&[Check::problem(permissions::NAME, "", "")]).state, State::Skipped);
        assert_eq!(ask(&[]).state, State::Problem);
    }
}
