//! The command line.
//!
//! Results go to standard output, explanations to standard error. Exit codes: 0 success, 1 failure, 2 a mistake in the
//! command line or the configuration.

/// Prints a line to standard output.
macro_rules! println {
    () => { $crate::cli::output::line(format_args!("")) };
    ($($text:tt)*) => { $crate::cli::output::line(format_args!($($text)*)) };
}

/// Prints text to standard output.
macro_rules! print {
    ($($text:tt)*) => { $crate::cli::output::text(format_args!($($text)*)) };
}

/// Prints a line to standard error.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::cli::output::note(format_args!("{}\n", format_args!($($text)*))) };
}

/// Prints text to standard error.
macro_rules! eprint {
    ($($text:tt)*) => { $crate::cli::output::note(format_args!($($text)*)) };
}

mod access;
mod administer;
mod apikey;
mod certificate;
mod check_config;
mod credentials;
mod doctor;
mod error;
mod events;
mod generate;
mod logging;
mod login;
mod logout;
mod mirror;
mod output;
mod process;
mod progress;
mod reload;
mod retention;
mod serve;
mod status;
mod storage;
mod systemd;
mod tag;
mod transfer;
mod user;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::admin;
use crate::config::{Config, Environment, Loaded};
use error::Error;
use storage::Single;

/// The environment variable that names a configuration.
const CONFIG_VARIABLE: &str = "CORACLE_CONFIG";

/// The command line.
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
    Group(user::Group),
    #[command(name = "apikey")]
    ApiKey(apikey::ApiKey),
    Tag(tag::Tag),
    Retention(retention::Retention),
    Mirror(mirror::Mirror),
    Events(events::Events),
    Certificate(certificate::Certificate),
    Token(access::Token),
    Access(access::Access),
    Status(status::StatusCommand),
    Du(Single<admin::DiskUsage>),
    Doctor(doctor::Doctor),
    Gc(Single<admin::Collect>),
    Scrub(Single<admin::Scrub>),
    Backup(Single<admin::BackUp>),
    Restore(storage::Restore),
    Recover(storage::Recover),
    Import(transfer::ImportCommand),
    Export(Single<admin::Export>),
    Inventory(Single<admin::Inventory>),
    CheckConfig(check_config::CheckConfig),
    Login(login::Login),
    Logout(logout::Logout),
    Completions(generate::Completions),
    #[command(hide = true)]
    Man(generate::Man),
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(command) => command.run(),
        Command::User(command) => command.run(),
        Command::Group(command) => command.run(),
        Command::ApiKey(command) => command.run(),
        Command::Tag(command) => command.run(),
        Command::Retention(command) => command.run(),
        Command::Mirror(command) => command.run(),
        Command::Events(command) => command.run(),
        Command::Certificate(command) => command.run(),
        Command::Token(command) => command.run(),
        Command::Access(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Du(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Gc(command) => command.run(),
        Command::Scrub(command) => command.run(),
        Command::Backup(command) => command.run(),
        Command::Restore(command) => command.run(),
        Command::Recover(command) => command.run(),
        Command::Import(command) => command.run(),
        Command::Export(command) => command.run(),
        Command::Inventory(command) => command.run(),
        Command::CheckConfig(command) => Ok(command.run()),
        Command::Login(command) => command.run(),
        Command::Logout(command) => command.run(),
        Command::Completions(command) => Ok(command.run()),
        Command::Man(command) => command.run(),
    };
    done.unwrap_or_else(|error| error.print())
}

/// The configured data directory, or that of the platform, as an absolute path.
fn data_dir(config: &Config) -> Result<PathBuf, Error> {
    let configured = config.storage.root_directory.clone();
    let missing = || Error::failed("this platform has no data directory: choose one with --root");
    let root = configured.or_else(|| Some(dirs::data_dir()?.join("coracle"))).ok_or_else(missing)?;
    absolute(&root)
}

/// The absolute form of a path.
fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(Error::at(path))
}

/// Reads a configuration, and returns it with the data directory: `root`, or the configured one.
fn locate(file: Option<&Path>, root: Option<&Path>) -> Result<(Config, PathBuf), Error> {
    let mut config = load(named(file).as_deref())?.config;
    if let Some(root) = root {
        config.storage.root_directory = Some(root.to_owned());
    }
    let root = data_dir(&config)?;
    Ok((config, root))
}

/// The file that a command names, or that of the environment.
fn named(file: Option<&Path>) -> Option<PathBuf> {
    let set = || std::env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    file.map(Path::to_owned).or_else(set)
}

/// Reads a file, if there is one, and the variables of the environment.
fn load(file: Option<&Path>) -> Result<Loaded, Error> {
    let environment = Environment::read(std::env::vars_os()).map_err(Error::usage)?;
    Config::load_from(file, &environment).map_err(Error::usage)
}

/// Runs work that sends requests. Does not wait for a thread that still reads from the terminal.
fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::failed(format!("cannot start: {error}")))?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// Opens a database without the output of a panic in redb: a damaged database can make redb panic, and the error that
/// follows says what to do.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let previous = std::sync::Arc::new(std::panic::take_hook());
    let other = std::sync::Arc::clone(&previous);
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|place| place.file().contains("/redb-")) {
            other(panic);
        }
    }));
    let result = work();
    std::panic::set_hook(Box::new(move |panic| previous(panic)));
    result
}
