//! The command line.
//!
//! Standard output has what a script wants to read, standard error what a person does. Exit codes:
//! 0 done, 1 it could not be done, 2 the command line or the configuration is wrong.

mod access;
mod administer;
mod apikey;
mod backup;
mod check_config;
mod credentials;
mod gc;
mod logging;
mod login;
mod logout;
mod process;
mod recover;
mod reload;
mod restore;
mod scrub;
mod serve;
mod tag;
mod token;
mod user;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "coracle",
    version,
    about = "An OCI registry in one binary with one data directory",
    after_help = "Start one and push to it:\n  coracle serve\n  skopeo login --tls-verify=false 127.0.0.1:8080\n  \
                  skopeo copy --dest-tls-verify=false docker-archive:image.tar docker://127.0.0.1:8080/image:1",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    User(user::User),
    #[command(name = "apikey")]
    ApiKey(apikey::ApiKey),
    Tag(tag::Tag),
    Token(token::Token),
    Access(access::Access),
    Gc(gc::Gc),
    Scrub(scrub::Scrub),
    Backup(backup::Backup),
    Restore(restore::Restore),
    Recover(recover::Recover),
    CheckConfig(check_config::CheckConfig),
    Login(login::Login),
    Logout(logout::Logout),
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(command) => command.run(),
        Command::User(command) => command.run(),
        Command::ApiKey(command) => command.run(),
        Command::Tag(command) => command.run(),
        Command::Token(command) => command.run(),
        Command::Access(command) => command.run(),
        Command::Gc(command) => command.run(),
        Command::Scrub(command) => command.run(),
        Command::Backup(command) => command.run(),
        Command::Restore(command) => command.run(),
        Command::Recover(command) => command.run(),
        Command::CheckConfig(command) => command.run(),
        Command::Login(command) => command.run(),
        Command::Logout(command) => command.run(),
    }
}

/// The data directory: the configured one, or the platform's.
fn data_dir(config: &Config) -> Result<PathBuf, String> {
    let missing = "there is no data directory on this platform: choose one with --root";
    let configured = config.storage.root_directory.clone();
    configured.or_else(|| Some(dirs::data_dir()?.join("coracle"))).ok_or_else(|| missing.to_owned())
}

/// Where a path leads that may be given from the current directory: the running registry has another one.
fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The configuration in a file, and the data directory: the one that is named, or the configured one.
fn locate(file: Option<&Path>, root: Option<&Path>) -> Result<(Config, PathBuf), String> {
    let mut config = match file {
        Some(file) => Config::load(file).map_err(|error| error.to_string())?.config,
        None => Config::default(),
    };
    if let Some(root) = root {
        config.storage.root_directory = Some(root.to_owned());
    }
    let root = data_dir(&config)?;
    Ok((config, root))
}

/// It could not be done.
fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("coracle: {error}");
    ExitCode::from(1)
}

/// What was asked for is wrong.
fn wrong(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("coracle: {error}");
    ExitCode::from(2)
}

/// Runs what asks other servers. What still waits for the person at its end is not waited for.
fn asking<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the program cannot begin: {error}"))?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(result)
}

/// A text of somebody else's, fit to be shown: it moves no cursor, and is not long.
fn printable(text: &str) -> String {
    const CHARACTERS_MAX: usize = 1000;
    let fit = |character: char| if character.is_control() { ' ' } else { character };
    text.trim().chars().take(CHARACTERS_MAX).map(fit).collect()
}

/// Reads `90d`, `12h`, `30m` or `45s`.
fn seconds(text: &str) -> Result<u64, String> {
    let form = || "a time has the form 90d, 12h, 30m or 45s".to_owned();
    let unit = text.chars().last().ok_or_else(form)?;
    let factor = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return Err(form()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| form())?;
    number.checked_mul(factor).ok_or_else(form)
}
