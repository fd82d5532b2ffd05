//! `coracle serve`: runs the registry.

use std::io::Write as _;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::check_config::load_for_start;
use super::logging::{self, Logging};
use super::reload::{ConfigFile, Reload};
use super::{Error, process, quietly, systemd};
use crate::AccessPolicy;
use crate::config::{self, Address, Config, Listen, Loaded, Profile};
use crate::identity::accounts::Password;
use crate::kit::file::FileStamp;
use crate::registry::{self, Registry, RemoteImages};
use crate::server::{Listener, RunningRegistry};

/// The environment variable with the password of the first superuser.
const PASSWORD_VARIABLE: &str = "CORACLE_ADMIN_PASSWORD";
/// The environment variable with a file that has the password.
const PASSWORD_FILE_VARIABLE: &str = "CORACLE_ADMIN_PASSWORD_FILE";
/// The file in the data directory with a generated password, if standard error goes to the journal of systemd.
const PASSWORD_FILE: &str = "first-password";
/// The name of the first superuser.
const ADMIN: &str = "admin";

/// The largest number of threads for blocking work. More would only wait for the same disk and cores.
const BLOCKING_THREADS_MAX: usize = 64;

/// The longest time to wait for threads that still work when the registry has stopped.
const THREADS_WAIT: Duration = Duration::from_secs(2);

/// Start the registry
///
/// The first start creates the superuser `admin`. The password is that in `$CORACLE_ADMIN_PASSWORD`, that in the file
/// `$CORACLE_ADMIN_PASSWORD_FILE`, or a generated one that is shown once. Under systemd, whose journal other users can
/// read, the generated password is in a file that the journal names. The command prints each
/// place where it listens to standard output when it accepts connections.
///
/// Every key of the configuration can be set in the environment, such as http.port by `$CORACLE_HTTP_PORT`. Under systemd
/// the registry accepts the sockets of a socket unit, and reports that it has started, that it stops, and that it is alive.
///
/// SIGTERM and ctrl-c stop it after running requests have finished; a second signal stops it at once. SIGHUP makes it
/// open its log files and read its configuration again.
#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// The configuration in TOML, JSON or YAML, as its extension says, with zot's keys [default: no file]
    file: Option<PathBuf>,
    /// Another way to name the configuration, as other commands take it
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// Keep the data in this directory [default: the configured one, or that of the platform]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Listen on this address, and not on those of http.listen [default: http.address, or 127.0.0.1]
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Listen on this port, and not on those of http.listen; 0 takes a free one [default: http.port, or 8080]
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Let everyone who can connect do everything, without credentials
    #[arg(long)]
    open: bool,
    /// Take over a running registry, such as `http://old:5000`: pulls fall through to it, pushes stay here, and its content
    /// is fetched in the background. `coracle import --status` shows how far it is
    #[arg(long, value_name = "URL")]
    takeover_from: Option<RemoteImages>,
}

/// The configuration of a start.
struct Settings {
    config: Config,
    warnings: Vec<String>,
    /// Warns of other files in a new data directory.
    other_files: Option<String>,
    file: Option<ConfigFile>,
}

impl Serve {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let handles = systemd::handles()?;
        let Settings { config, warnings, other_files, file } = self.settings()?;
        if let Some(images) = self.takeover_from.as_ref().filter(|images| !images.is_everything()) {
            return Err(Error::usage(format!("--takeover-from {images}: expected a registry without a repository")));
        }
        let logging = logging::start(&config.log)?;
        for warning in warnings {
            logging.warn(&warning);
        }
        process::prepare();
        if let Some(warning) = process::too_few_handles(&config.http.limits) {
            logging.warn(&warning);
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(BLOCKING_THREADS_MAX).build();
        Ok(match runtime {
            Ok(runtime) => {
                let start = Start { config, takeover: self.takeover_from, handles, other_files };
                let code = runtime.block_on(serve(start, file, logging));
                // A thread in a system call that hangs, for example on a network file system, must not keep the process.
                runtime.shutdown_timeout(THREADS_WAIT);
                code
            }
            Err(error) => logging.failed(&format!("cannot start threads: {error}")),
        })
    }

    /// Reads the configuration file, and applies the command line to it.
    fn settings(&self) -> Result<Settings, Error> {
        let named = super::named(self.file.as_deref().or(self.config.as_deref()));
        // Before the file is read, so that a change meanwhile is seen.
        let stamp = named.as_deref().and_then(FileStamp::at);
        let loaded = load_for_start(named.as_deref()).map_err(|error| refused(&error))?;
        let Loaded { mut config, warnings, tree, .. } = loaded;
        let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        let followed = named.as_deref().map(|file| ConfigFile::new(file, stamp, tree));
        if let Some(root) = &self.root {
            config.storage.root_directory = Some(root.clone());
        }
        if self.address.is_some() || self.port.is_some() {
            config.http.listen.clear();
        }
        if let Some(address) = self.address {
            config.http.address = Address::Ip(address);
        }
        if let Some(port) = self.port {
            config.http.port = port;
        }
        if self.open && !config.http.open {
            if !config.http.listens().iter().all(Listen::is_local) {
                return Err(Error::usage(
                    "--open on an address that other machines can reach lets all of them push and delete: to allow \
                     that, set http.open = true in the configuration",
                ));
            }
            config.http.open = true;
        }
        let root = super::data_dir(&config)?;
        let other_files = other_files(&root, named.as_deref());
        config.storage.root_directory = Some(root);
        Ok(Settings { config, warnings, other_files, file: followed })
    }
}

/// Why a configuration is refused: its problem, or a heading and a line for each of them.
fn refused(error: &config::Error) -> Error {
    match error.problems().len() {
        1 => Error::usage(error),
        problems => Error::usage(format!("the configuration has {problems} problems:\n{error}")),
    }
}

/// Warns if a new registry is about to put its files among others.
fn other_files(root: &Path, config: Option<&Path>) -> Option<String> {
    if root.join("coracle.redb").exists() || root.join("manifests.log").exists() {
        return None;
    }
    let config = config.and_then(|config| std::path::absolute(config).ok());
    let is_other =
        |name: &String| name != "lost+found" && config.as_ref().is_none_or(|config| root.join(name) != *config);
    let names = std::fs::read_dir(root).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(is_other).collect();
    names.sort_unstable();
    let first = names.first()?;
    let number = crate::kit::text::counted(names.len() as u64, "other entry", "other entries");
    Some(format!("the new data directory {} contains {number}, such as {first:?}", root.display()))
}

/// The parts that a registry is started with.
struct Start {
    config: Config,
    /// The registry that it takes over.
    takeover: Option<RemoteImages>,
    /// The sockets that systemd has opened.
    handles: Vec<OwnedFd>,
    /// A warning for a start that is not refused.
    other_files: Option<String>,
}

async fn serve(start: Start, file: Option<ConfigFile>, logging: Logging) -> ExitCode {
    // From here on SIGTERM stops the process gracefully, and SIGHUP does not end it, even during the start.
    let signals = StopSignals::listen().and_then(|stop| Ok((stop, signal(SignalKind::hangup())?)));
    let (signals, hangup) = match signals {
        Ok(signals) => signals,
        Err(error) => return logging.failed(&format!("cannot listen to signals: {error}")),
    };
    let logging = Arc::new(logging);
    let reload = Reload::new(file, Arc::clone(&logging), hangup);
    let Start { config, takeover, handles, other_files } = start;
    let builder = Registry::builder().config(config).takeover_from(takeover).access_log(logging.access_log());
    let registry = match quietly(|| builder.open()) {
        Ok(registry) => registry,
        Err(error @ registry::Error::InvalidSetting { .. }) => return logging.refused(&error.to_string()),
        Err(error) => return logging.failed(&error.to_string()),
    };
    if let Some(warning) = other_files {
        logging.warn(&warning);
    }
    match run(registry, handles, signals, reload, &logging).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => logging.failed(&error.to_string()),
    }
}

async fn run(
    registry: Registry,
    handles: Vec<OwnedFd>,
    mut signals: StopSignals,
    reload: Reload,
    logging: &Logging,
) -> Result<(), Error> {
    let first = first_start(&registry)?;
    let listeners = if handles.is_empty() {
        registry.listen().await?
    } else {
        let listeners: Result<_, String> = handles.into_iter().map(Listener::from_handle).collect();
        listeners.map_err(|why| systemd::socket_error(&why))?
    };
    // The operator knows this password, and may use it with the first request that is answered.
    if let FirstStart::Admin(admin @ FirstAdmin { variable: Some(_), .. }) = &first {
        registry.put_user(ADMIN, admin.password.reveal(), true)?;
    }
    let running = registry.serve(listeners)?;
    // A generated password is shown before it is stored. After the reverse order a crash could leave a superuser whose
    // password was never shown. The other steps that can fail come first.
    let kept = match &first {
        FirstStart::Admin(admin) if admin.variable.is_none() && systemd::logs_to_journal() => {
            let file = registry.data_dir().join(PASSWORD_FILE);
            keep_password(&file, admin.password.reveal()).map_err(Error::at(&file))?;
            Some(file)
        }
        _ => None,
    };
    announce(&registry, &running, &first, kept.as_deref(), logging);
    if let FirstStart::Admin(admin @ FirstAdmin { variable: None, .. }) = first {
        registry.put_user(ADMIN, admin.password.reveal(), true)?;
    }
    let mut out = std::io::stdout();
    // A closed standard output does not stop the registry.
    for url in running.urls() {
        let _ = writeln!(out, "listening on {url}");
    }
    let _ = out.flush();
    systemd::notify(&format!("READY=1\nSTATUS=listening on {}", running.urls().join(" and ")));
    let following = tokio::spawn(reload.follow(registry.clone()));
    let watched = tokio::spawn(systemd::feed_watchdog());
    signals.next().await;
    systemd::notify("STOPPING=1");
    following.abort();
    tracing::info!("stopping after running requests have finished; another signal stops at once");
    tokio::select! {
        () = running.shutdown() => {}
        () = signals.next() => tracing::warn!("stopping at once; running requests are aborted"),
    }
    watched.abort();
    Ok(())
}

/// Writes the password of the first superuser to a file that only its owner can read.
fn keep_password(file: &Path, password: &str) -> std::io::Result<()> {
    let mut open = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    open.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    writeln!(open, "{password}")?;
    open.sync_all()
}

/// The given password of the first superuser, and the variable that gives it.
fn given_password() -> Result<Option<(&'static str, String)>, Error> {
    if let Some(file) = std::env::var_os(PASSWORD_FILE_VARIABLE).filter(|file| !file.is_empty()) {
        let text = std::fs::read_to_string(&file).map_err(Error::at(Path::new(&file)))?;
        let password = text.lines().next().unwrap_or_default().to_owned();
        return Ok(Some((PASSWORD_FILE_VARIABLE, password)));
    }
    let given = std::env::var(PASSWORD_VARIABLE).ok().filter(|password| !password.is_empty());
    Ok(given.map(|password| (PASSWORD_VARIABLE, password)))
}

/// The superuser of a first start.
struct FirstAdmin {
    password: Password,
    /// The variable that gives the password. Without one it was generated, and must be shown.
    variable: Option<&'static str>,
}

/// Whether a start creates the first superuser.
enum FirstStart {
    /// No: there are users, or the registry is open.
    No,
    /// No, although there is no superuser: the htpasswd file has a user of that name.
    NameTaken,
    /// Yes.
    Admin(FirstAdmin),
}

/// Finds out whether to create the first superuser, and with which password.
fn first_start(registry: &Registry) -> Result<FirstStart, Error> {
    let given = given_password()?;
    if registry.shared.policy().grants == AccessPolicy::Open {
        return Ok(FirstStart::No);
    }
    if registry.has_users()? {
        if let Some((variable, _)) = given {
            tracing::warn!("ignored {variable}: this registry already has users; use `coracle user passwd {ADMIN}`");
        }
        return Ok(FirstStart::No);
    }
    if has_admin(registry) {
        return Ok(FirstStart::NameTaken);
    }
    Ok(FirstStart::Admin(match given {
        Some((variable, password)) => {
            let password = Password::chosen(&password);
            let password = password.map_err(|error| Error::failed(format!("{variable}: {error}")))?;
            FirstAdmin { password, variable: Some(variable) }
        }
        None => FirstAdmin { password: Password::generate(), variable: None },
    }))
}

/// Whether the user `admin` exists.
fn has_admin(registry: &Registry) -> bool {
    registry.shared.accounts().account(ADMIN).is_ok_and(|admin| admin.is_some_and(|admin| admin.may_sign_in()))
}

/// Prints the address of the registry, and the commands to try first.
/// `kept` is the file with the generated password, if it is not shown.
fn announce(
    registry: &Registry,
    running: &RunningRegistry,
    first: &FirstStart,
    kept: Option<&Path>,
    logging: &Logging,
) {
    let config = registry.shared.config();
    let (tls, host) = reachable(running, config.http.external_url.as_deref());
    let option = |name: &str| if tls { String::new() } else { format!(" --{name}=false") };
    let mut help = String::new();
    let mut line = |text: &str| {
        help.push_str(text);
        help.push('\n');
    };
    line(&format!("data directory: {}", registry.data_dir().display()));
    let kept = kept.map(|file| file.display().to_string());
    match first {
        FirstStart::Admin(FirstAdmin { variable: None, .. }) if let Some(file) = &kept => {
            line(&format!("first start: created the superuser {ADMIN}, whose password is in {file}"));
            line("             only the owner of the file can read it: delete it after you have read it");
        }
        FirstStart::Admin(FirstAdmin { password, variable: None }) => {
            line(&format!("first start: created the superuser {ADMIN} with the password {}", password.reveal()));
            line("             the password is not shown again");
        }
        FirstStart::Admin(FirstAdmin { variable: Some(variable), .. }) => {
            line(&format!("first start: created the superuser {ADMIN}, whose password is in ${variable}"));
        }
        FirstStart::NameTaken => {
            line(&format!("no superuser: the htpasswd file has the user {ADMIN}, whose password stays"));
            line("              create one with another name: `coracle user add NAME --superuser`");
        }
        FirstStart::No => {}
    }
    if config.http.ui {
        let scheme = if tls { "https" } else { "http" };
        line(&format!("pages:   {scheme}://{host}/ui/"));
    }
    let anonymous = config.http.anonymous_pushes();
    if let Some(may) = &anonymous {
        line(&format!("{}: {may}", if config.http.open { "open" } else { "anonymous" }));
    }
    if registry.shared.policy().grants != AccessPolicy::Open {
        let is_first = matches!(first, FirstStart::Admin(_));
        let name = if is_first || has_admin(registry) { ADMIN } else { "NAME" };
        line(&format!("log in:  skopeo login{} --username {name} {host}", option("tls-verify")));
    }
    if config.profile == Profile::Zot {
        line("profile: zot (every signed-in user may do everything)");
    }
    line(&format!(
        "push:    skopeo copy{} docker-archive:image.tar docker://{host}/hello:1",
        option("dest-tls-verify")
    ));
    line(&format!("pull:    skopeo copy{} docker://{host}/hello:1 oci:hello:1", option("src-tls-verify")));
    let directory = registry.data_dir().display().to_string();
    let mut fields = vec![("data_directory", directory.as_str()), ("host", host.as_str())];
    let message = match first {
        FirstStart::Admin(FirstAdmin { variable: None, .. }) if let Some(file) = &kept => {
            fields.extend([("user", ADMIN), ("password_file", file.as_str())]);
            "first start: created a superuser; the file has the password: delete it after you have read it"
        }
        FirstStart::Admin(FirstAdmin { password, variable: None }) => {
            fields.extend([("user", ADMIN), ("password", password.reveal())]);
            "first start: created a superuser; the password is not shown again"
        }
        FirstStart::Admin(FirstAdmin { variable: Some(variable), .. }) => {
            fields.extend([("user", ADMIN), ("variable", variable)]);
            "first start: created a superuser with the password in an environment variable"
        }
        FirstStart::NameTaken => {
            fields.push(("user", ADMIN));
            "started without a superuser: the htpasswd file has a user of that name, whose password stays"
        }
        FirstStart::No => "started",
    };
    if let Some(may) = &anonymous {
        fields.push(("anonymous", may.as_str()));
    }
    logging.say(tracing::Level::INFO, help.trim_end(), message, &fields);
}

/// How clients reach the registry: whether with TLS, and at which host.
fn reachable(running: &RunningRegistry, external: Option<&str>) -> (bool, String) {
    let url = external.unwrap_or(running.url());
    let (scheme, host) = url.split_once("://").unwrap_or(("http", url));
    let address = running.address();
    // Clients cannot connect to the unspecified address.
    let host = if external.is_none() && address.ip().is_unspecified() {
        // Port 0: only a unix socket.
        if address.port() == 0 { "localhost".to_owned() } else { format!("localhost:{}", address.port()) }
    } else {
        host.to_owned()
    };
    (scheme == "https", host)
}

/// The signals that stop the process.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
