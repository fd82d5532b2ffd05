//! How a command reaches a registry: through the socket of a running one, or by opening the data
//! directory itself.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::{Access, access};
use serde_json::Value;

use crate::admin::{self, Command, Offered, Secret, socket};
use crate::registry::{Error, Registry};

/// A registry that does not answer for this long is not going to; what looks through everything takes longer.
const ANSWER_WAIT: Duration = Duration::from_mins(1);
const LONG_ANSWER_WAIT: Duration = Duration::from_hours(24 * 7);

/// Which registry.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// The data directory of the registry
    #[arg(long, value_name = "DIR", global = true)]
    root: Option<PathBuf>,
    /// The configuration of the registry, which names its data directory
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Print what came of it as JSON
    #[arg(long, global = true)]
    json: bool,
}

impl Target {
    /// Carries a command out, and prints what came of it: for scripts, or as `print` has it for people.
    pub(super) fn run(&self, command: Result<Command, String>, print: impl Fn(&Value)) -> ExitCode {
        self.run_for(command, print, |_| ExitCode::SUCCESS)
    }

    /// The same, for a command whose outcome is to be seen in the exit code.
    pub(super) fn run_for(
        &self,
        command: Result<Command, String>,
        print: impl Fn(&Value),
        code: impl Fn(&Value) -> ExitCode,
    ) -> ExitCode {
        let value = match command.and_then(|command| self.execute(command)) {
            Ok(value) => value,
            Err(error) => return super::failed(&error),
        };
        if self.json {
            println!("{value}");
        } else {
            print(&value);
        }
        code(&value)
    }

    fn execute(&self, command: Command) -> Result<Value, String> {
        let (config, root) = super::locate(self.config.as_deref(), self.root.as_deref())?;
        let database = root.join("coracle.redb");
        match database.try_exists() {
            Ok(true) => {}
            Ok(false) => {
                return Err(format!("there is no registry in {}: name its directory with --root", root.display()));
            }
            Err(error) => return Err(not_ours(&root, &error)),
        }
        if let Some(stream) = running(&root)? {
            return ask(&stream, &command, &root);
        }
        if let Err(error) = access(&database, Access::READ_OK | Access::WRITE_OK) {
            return Err(not_ours(&root, &error.into()));
        }
        let registry = Registry::builder().config(config).data_dir(&root).open();
        let registry = registry.map_err(|error| match error {
            Error::InUse { root } => format!(
                "another coracle uses the data directory {}, and takes no commands there: its log says why; stop it, \
                 and run the command again",
                root.display()
            ),
            error => error.to_string(),
        })?;
        let rest = |_| ControlFlow::Continue(());
        admin::execute(&registry.shared, command, None, &rest).map_err(|error| error.to_string())
    }
}

/// The registry that runs on a data directory, if one does.
pub(super) fn running(root: &Path) -> Result<Option<UnixStream>, String> {
    match socket::connect(root) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(not_ours(root, &error)),
        Err(error) => Err(format!("cannot reach the registry that runs on {}: {error}", root.display())),
    }
}

/// A data directory cannot be used, most likely because it is another user's.
fn not_ours(root: &Path, error: &std::io::Error) -> String {
    let owner = std::fs::metadata(root).map(|metadata| metadata.uid());
    match owner {
        Ok(owner) if owner != rustix::process::geteuid().as_raw() => format!(
            "the data directory {} belongs to the user with the id {owner} ({error}): run the command as that user, \
             such as with `sudo -u '#{owner}'`, or as root",
            root.display()
        ),
        _ => format!("the data directory {} cannot be used: {error}", root.display()),
    }
}

fn ask(stream: &UnixStream, command: &Command, root: &Path) -> Result<Value, String> {
    let failed = |error: std::io::Error| format!("the running registry does not answer: {error}");
    let wait = if command.is_long() { LONG_ANSWER_WAIT } else { ANSWER_WAIT };
    stream.set_read_timeout(Some(wait)).map_err(failed)?;
    let mut line = serde_json::to_string(command).map_err(|error| error.to_string())?;
    line.push('\n');
    let offered = command.directory().map(|directory| Offered::open(directory, root)).transpose()?;
    let handle = offered.as_ref().map(|offered| offered.handle.as_fd());
    socket::send(stream, line.as_bytes(), handle).map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(failed)?;
    let mut answer: Value = serde_json::from_str(&answer)
        .map_err(|_| "the running registry does not answer as this version does".to_owned())?;
    if let Some(error) = answer["error"].as_str() {
        return Err(error.to_owned());
    }
    if let Some(offered) = offered {
        offered.keep();
    }
    Ok(answer["ok"].take())
}

/// A password from standard input: the first line, or everything if there is no line's end.
pub(super) fn password_from_stdin() -> Result<Secret, String> {
    let mut text = String::new();
    std::io::stdin().take(4096).read_to_string(&mut text).map_err(|error| format!("standard input: {error}"))?;
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() {
        return Err("standard input has no password".to_owned());
    }
    Ok(Secret::new(password.to_owned()))
}
