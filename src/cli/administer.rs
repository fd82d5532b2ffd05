//! How a command reaches a registry: through the socket of a running one, or by opening the data directory itself.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::{Access, access};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Error;
use super::progress::ProgressLine;
use crate::admin::{Call, Command, NeededData, Offered, Operation, Reply, Secret, socket};
use crate::config::Config;
use crate::kit::file::MAKE_WRITABLE;
use crate::registry::{self, Registry};

/// The longest wait for an answer, and for that of an operation that reads all stored data.
const ANSWER_WAIT: Duration = Duration::from_mins(1);
const LONG_ANSWER_WAIT: Duration = Duration::from_hours(24 * 7);

/// The running registry closed the socket.
const STOPPED: &str = "the registry stopped before it answered: see its log";

/// The heading of these options in the help, which separates them from the options of one command.
const REGISTRY: &str = "Options of every command";

/// Which registry a command works on, and how it prints the answer.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// The data directory of the registry [default: the configured one, or that of the platform]
    #[arg(long, value_name = "DIR", global = true, help_heading = REGISTRY)]
    root: Option<PathBuf>,
    /// The configuration of the registry, which names its data directory
    #[arg(long, value_name = "FILE", global = true, help_heading = REGISTRY)]
    config: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long, global = true, help_heading = REGISTRY)]
    json: bool,
}

/// Carries out an operation that shows the state of the registry, and returns its answer.
pub(super) type Ask = dyn Fn(Command) -> Option<Value>;

/// Makes the progress line of a long operation, if it has one.
pub(super) type Progress = Option<fn(&Ask) -> Option<String>>;

/// How the answer of an operation is shown to a person.
pub(super) trait Report: Serialize {
    /// The progress line that a terminal shows meanwhile.
    const PROGRESS: Progress = None;

    /// Prints the answer.
    fn print(&self);

    /// The exit code of the command.
    fn code(&self) -> ExitCode {
        ExitCode::SUCCESS
    }
}

/// Prints the answer of an operation, and returns the exit code.
pub(super) fn finish<A: Report>(json: bool, answer: &A) -> Result<ExitCode, Error> {
    if json {
        // Through a value, which sorts the keys.
        println!("{}", serde_json::to_value(answer)?);
    } else {
        answer.print();
    }
    Ok(answer.code())
}

/// Defines a command whose subcommands are operations on a registry, and the list of its subcommands.
macro_rules! operations {
    ($(#[$about:meta])* $name:ident: $list:ident { $($subcommand:ident($operation:ty)),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, clap::Args)]
        pub(super) struct $name {
            #[command(flatten)]
            target: $crate::cli::administer::Target,
            #[command(subcommand)]
            command: $list,
        }

        #[derive(Debug, clap::Subcommand)]
        enum $list {
            $($subcommand($operation)),+
        }

        impl $name {
            pub(super) fn run(self) -> Result<std::process::ExitCode, $crate::cli::Error> {
                match self.command {
                    $($list::$subcommand(operation) => self.target.run(operation)),+
                }
            }
        }
    };
}
pub(super) use operations;

impl Target {
    /// Carries an operation out, prints the answer, and returns the exit code.
    pub(super) fn run<O: Operation<Answer: Report>>(&self, mut operation: O) -> Result<ExitCode, Error> {
        if let Some(password) = operation.new_password()
            && password.password_stdin
        {
            password.given = Some(password_from_stdin()?);
        }
        finish(self.json, &self.perform(operation)?)
    }

    /// Whether the answer is printed as JSON.
    pub(super) const fn is_json(&self) -> bool {
        self.json
    }

    /// The data directory, if the command names it.
    pub(super) fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Whether the command or the environment names a configuration.
    pub(super) fn has_config(&self) -> bool {
        super::named(self.config.as_deref()).is_some()
    }

    /// The configuration and the data directory.
    pub(super) fn locate(&self) -> Result<(Config, PathBuf), Error> {
        super::locate(self.config.as_deref(), self.root.as_deref())
    }

    /// Carries an operation out, through the socket of a running registry or on the data directory.
    pub(super) fn perform<O: Operation<Answer: Report>>(&self, mut operation: O) -> Result<O::Answer, Error> {
        let place = self.place(operation.needed_data())?;
        let attached = operation.attach()?;
        let registry = match place {
            Place::Empty(registry) => return Ok(operation.perform(&Call::alone(&registry.shared, attached.as_ref()))?),
            Place::Data { config, root } => match running(&root)? {
                Some(stream) => {
                    let _line = ProgressLine::start(O::Answer::PROGRESS, asking(root.clone()));
                    return parse(ask(&stream, &operation.into(), &root, attached.as_ref())?);
                }
                None => open(*config, &root, operation.needed_data())?,
            },
        };
        let shared = registry.clone();
        let perform = move |command: Command| command.perform(&Call::alone(&shared.shared, None)).ok();
        let _line = ProgressLine::start(O::Answer::PROGRESS, Box::new(perform));
        Ok(operation.perform(&Call::alone(&registry.shared, attached.as_ref()))?)
    }

    /// Finds the registry. An error says what to do if it does not exist.
    fn place(&self, needed: NeededData) -> Result<Place, Error> {
        let (config, root) = self.locate()?;
        let database = root.join("coracle.redb");
        match database.try_exists() {
            Ok(true) => {}
            Ok(false) if needed == NeededData::None => {
                return Ok(Place::Empty(super::quietly(|| Registry::builder().config(config).temporary().open())?));
            }
            Ok(false) if root.join("manifests.log").exists() => {
                return Err(Error::failed(format!(
                    "the database {} is missing: restore a backup, or run `coracle recover --root {}`",
                    database.display(),
                    root.display()
                )));
            }
            Ok(false) if needed == NeededData::MayBeNew => {}
            Ok(false) => {
                let root = root.display();
                return Err(Error::failed(format!(
                    "there is no registry in {root}: `coracle serve` makes one. If it is elsewhere, name its configuration \
                     with --config or CORACLE_CONFIG, or its data directory with --root"
                )));
            }
            Err(error) => return Err(not_usable(&root, &error)),
        }
        Ok(Place::Data { config: Box::new(config), root })
    }
}

/// The registry that a command works on.
enum Place {
    /// A temporary one, because no registry exists and the operation needs no data.
    Empty(Registry),
    /// A data directory, with a running registry or without one.
    Data { config: Box<Config>, root: PathBuf },
}

/// Opens the data directory of a stopped registry.
fn open(config: Config, root: &Path, needed: NeededData) -> Result<Registry, Error> {
    match access(root.join("coracle.redb"), Access::READ_OK | Access::WRITE_OK) {
        Err(rustix::io::Errno::NOENT) if needed == NeededData::MayBeNew => {}
        Err(error) => return Err(not_usable(root, &error.into())),
        Ok(()) => {}
    }
    let registry = super::quietly(|| Registry::builder().config(config).data_dir(root).open());
    registry.map_err(|error| match error {
        registry::Error::InUse { root } => Error::failed(format!(
            "another coracle process uses the data directory {} and does not accept commands: if it is starting, wait a \
             moment; otherwise see its log, or stop it and run the command again",
            root.display()
        )),
        error => error.into(),
    })
}

/// Asks a running registry for the progress line.
fn asking(root: PathBuf) -> Box<dyn Fn(Command) -> Option<Value> + Send> {
    Box::new(move |command| {
        let stream = running(&root).ok()??;
        parse(ask(&stream, &command, &root, None).ok()?).ok()
    })
}

/// Asks the registry that runs on a data directory, without its configuration. `None` if none runs.
pub(super) fn ask_running<O: Operation>(root: &Path, operation: O) -> Result<Option<O::Answer>, Error> {
    let Some(stream) = running(root)? else { return Ok(None) };
    parse(ask(&stream, &operation.into(), root, None)?).map(Some)
}

/// The registry that runs on a data directory, if one does.
pub(super) fn running(root: &Path) -> Result<Option<UnixStream>, Error> {
    match socket::connect(root) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(not_usable(root, &error)),
        Err(error) => Err(Error::failed(format!("cannot reach the registry that runs on {}: {error}", root.display()))),
    }
}

/// Says why a data directory cannot be used: most often because it, or a directory above it, belongs to another user.
fn not_usable(root: &Path, error: &std::io::Error) -> Error {
    let denied = || error.kind() == ErrorKind::PermissionDenied;
    let nearest = std::path::absolute(root).ok().and_then(|root| {
        root.ancestors().find_map(|path| std::fs::metadata(path).ok().map(|found| (path.to_owned(), found.uid())))
    });
    Error::failed(match nearest {
        Some((path, owner)) if denied() && owner != rustix::process::geteuid().as_raw() => {
            let what = if path.ends_with(root) { "it".to_owned() } else { format!("{} above it", path.display()) };
            format!(
                "cannot use the data directory {}: {error}: {what} belongs to the user with the ID {owner}; run the \
                 command as that user, such as with `sudo -u '#{owner}'`, or as root",
                root.display()
            )
        }
        _ if error.kind() == ErrorKind::ReadOnlyFilesystem => {
            format!("cannot use the data directory {}: {error}: {MAKE_WRITABLE}", root.display())
        }
        _ => format!("cannot use the data directory {}: {error}", root.display()),
    })
}

/// The answer of a running registry.
struct Answered {
    text: String,
    /// The directory that the operation writes into. It is kept if the operation succeeded.
    offered: Option<Offered>,
}

/// Sends an operation to a running registry.
fn ask(stream: &UnixStream, command: &Command, root: &Path, attached: Option<&File>) -> Result<Answered, Error> {
    let failed = |error: std::io::Error| Error::failed(format!("the running registry does not answer: {error}"));
    let wait = if command.is_long() { LONG_ANSWER_WAIT } else { ANSWER_WAIT };
    stream.set_read_timeout(Some(wait)).map_err(failed)?;
    let mut line = serde_json::to_string(command)?;
    line.push('\n');
    let offered =
        command.directory().map(|directory| Offered::open(directory, root)).transpose().map_err(Error::failed)?;
    let directory = offered.as_ref().map(|offered| offered.handle.as_fd());
    let handles: Vec<_> = directory.into_iter().chain(attached.map(|file| file.as_fd())).collect();
    socket::send(stream, line.as_bytes(), &handles).map_err(failed)?;
    let mut text = String::new();
    match BufReader::new(stream).read_line(&mut text) {
        // The registry stopped.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return Err(Error::failed(STOPPED)),
        read => read.map_err(failed)?,
    };
    Ok(Answered { text, offered })
}

/// Reads an answer.
fn parse<A: DeserializeOwned>(answered: Answered) -> Result<A, Error> {
    match serde_json::from_str(&answered.text) {
        Ok(Reply::Ok(answer)) => {
            if let Some(offered) = answered.offered {
                offered.keep();
            }
            Ok(answer)
        }
        Ok(Reply::Error(error)) => Err(Error::failed(error)),
        // An answer ends with a line end.
        Err(_) if !answered.text.ends_with('\n') => Err(Error::failed(STOPPED)),
        Err(_) => {
            Err(Error::failed("the running registry is another version of coracle: use the command of that version"))
        }
    }
}

/// Reads a password from standard input: the first line, or everything if there is no line end.
pub(super) fn password_from_stdin() -> Result<Secret, Error> {
    let mut text = String::new();
    std::io::stdin()
        .take(4096)
        .read_to_string(&mut text)
        .map_err(|error| Error::failed(format!("standard input: {error}")))?;
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() {
        return Err(Error::failed("standard input is empty: expected a password"));
    }
    Ok(Secret::new(password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_cut_off_comes_from_a_registry_that_stopped() {
        let parsed = |text: &str| parse::<Value>(Answered { text: text.to_owned(), offered: None });
        for text in ["", "{\"Ok\""] {
            assert_eq!(parsed(text), Err(Error::failed(STOPPED)));
        }
        assert!(parsed("hello\n").is_err_and(|error| error.to_string().contains("another version")));
    }
}
