//! How a command reaches a registry: through the socket of a running one, or by opening the data
//! directory itself.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::admin::{self, Command, Secret};
use crate::registry::Registry;

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
        if !root.join("coracle.redb").exists() {
            return Err(format!("there is no registry in {}: name its directory with --root", root.display()));
        }
        if let Ok(stream) = UnixStream::connect(root.join("admin.sock")) {
            return ask(&stream, &command);
        }
        let registry = Registry::builder().config(config).data_dir(root).open();
        let registry = registry.map_err(|error| error.to_string())?;
        let rest = |_| ControlFlow::Continue(());
        admin::execute(&registry.shared, command, &rest).map_err(|error| error.to_string())
    }
}

fn ask(mut stream: &UnixStream, command: &Command) -> Result<Value, String> {
    let failed = |error: std::io::Error| format!("the running registry does not answer: {error}");
    let wait = if command.is_long() { LONG_ANSWER_WAIT } else { ANSWER_WAIT };
    stream.set_read_timeout(Some(wait)).map_err(failed)?;
    let mut line = serde_json::to_string(command).map_err(|error| error.to_string())?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(failed)?;
    let mut answer: Value = serde_json::from_str(&answer)
        .map_err(|_| "the running registry does not answer as this version does".to_owned())?;
    match answer["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(answer["ok"].take()),
    }
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
