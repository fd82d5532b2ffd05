//! `coracle serve`: runs the registry.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::logging::{self, Logging};
use super::reload::{ConfigFile, Reload};
use super::{Error, process, quietly};
use crate::AccessPolicy;
use crate::config::{Address, Config, Profile};
use crate::identity::accounts::Password;
use crate::kit::file::FileStamp;
use crate::registry::Registry;
use crate::server::RunningRegistry;

/// The environment variable with the password of the first superuser.
const PASSWORD_VARIABLE: &str = "CORACLE_ADMIN_PASSWORD";
/// The name of the first superuser.
const ADMIN: &str = "admin";

/// The largest number of threads for blocking work. More would only wait for the same disk and cores.
const BLOCKING_THREADS_MAX: usize = 64;

/// Start the registry
///
/// The first start creates the superuser `admin`. The password is that in `$CORACLE_ADMIN_PASSWORD`, or a generated one
/// that is shown once. The command prints one line to standard output when it accepts connections.
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
    /// Listen on this address [default: http.address, or 127.0.0.1]
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Listen on this port; 0 takes a free one [default: http.port, or 8080]
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Let everyone who can connect do everything, without credentials
    #[arg(long)]
    open: bool,
}

/// The configuration of a start.
struct Settings {
    config: Config,
    warnings: Vec<String>,
    file: Option<ConfigFile>,
}

impl Serve {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let Settings { config, warnings, file } = self.settings()?;
        let logging = logging::start(&config.log)?;
        for warning in warnings {
            logging.warn(&warning);
        }
        process::prepare();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(BLOCKING_THREADS_MAX).build();
        Ok(match runtime {
            Ok(runtime) => runtime.block_on(serve(config, file, logging)),
            Err(error) => logging.failed(&format!("cannot start threads: {error}")),
        })
    }

    /// Reads the configuration file, and applies the command line to it.
    fn settings(&self) -> Result<Settings, Error> {
        let (mut config, mut warnings, mut followed) = (Config::default(), Vec::new(), None);
        if let Some(file) = self.file.as_deref().or(self.config.as_deref()) {
            // Before the file is read, so that a change meanwhile is seen.
            let stamp = FileStamp::at(file);
            let loaded = Config::load(file).map_err(Error::usage)?;
            warnings = loaded.warnings.iter().map(ToString::to_string).collect();
            config = loaded.config;
            followed = Some(ConfigFile::new(file, stamp, loaded.tree));
        }
        if let Some(root) = &self.root {
            config.storage.root_directory = Some(root.clone());
        }
        if let Some(address) = self.address {
            config.http.address = Address::Ip(address);
        }
        if let Some(port) = self.port {
            config.http.port = port;
        }
        if self.open && !config.http.open {
            let loopback = match config.http.address {
                Address::Localhost => true,
                Address::Ip(ip) => ip.is_loopback(),
                Address::All => false,
            };
            if !loopback {
                return Err(Error::usage(
                    "--open on an address that other machines can reach lets all of them push and delete: to allow \
                     that, set http.open = true in the configuration",
                ));
            }
            config.http.open = true;
        }
        let root = super::data_dir(&config)?;
        let named = self.file.as_deref().or(self.config.as_deref());
        warnings.extend(other_files(&root, named));
        config.storage.root_directory = Some(root);
        Ok(Settings { config, warnings, file: followed })
    }
}

/// Warns if a new registry is about to put its files among others.
fn other_files(root: &Path, config: Option<&Path>) -> Option<String> {
    if root.join("coracle.redb").exists() || root.join("manifests.log").exists() {
        return None;
    }
    let is_other = |name: &String| name != "lost+found" && config.is_none_or(|config| root.join(name) != config);
    let names = std::fs::read_dir(root).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(is_other).collect();
    names.sort_unstable();
    let first = names.first()?;
    let number = crate::kit::text::counted(names.len() as u64, "other entry", "other entries");
    Some(format!("the new data directory {} contains {number}, such as {first:?}", root.display()))
}

async fn serve(config: Config, file: Option<ConfigFile>, logging: Logging) -> ExitCode {
    // From here on SIGTERM stops the process gracefully, and SIGHUP does not end it, even during the start.
    let signals = StopSignals::listen().and_then(|stop| Ok((stop, signal(SignalKind::hangup())?)));
    let (signals, hangup) = match signals {
        Ok(signals) => signals,
        Err(error) => return logging.failed(&format!("cannot listen to signals: {error}")),
    };
    let logging = Arc::new(logging);
    let reload = Reload::new(file, Arc::clone(&logging), hangup);
    match run(config, signals, reload, &logging).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => logging.failed(&error.to_string()),
    }
}

async fn run(config: Config, mut signals: StopSignals, reload: Reload, logging: &Logging) -> Result<(), Error> {
    let registry = quietly(|| Registry::builder().config(config).open())?;
    let first = first_start(&registry)?;
    let running = registry.spawn().await?;
    // The password is shown before it is stored. After the reverse order a crash could leave a superuser whose password
    // was never shown. The other steps that can fail come first.
    announce(&registry, &running, &first, logging);
    if let FirstStart::Admin(admin) = first {
        registry.put_user(ADMIN, admin.password.reveal(), true)?;
    }
    let mut out = std::io::stdout();
    // A closed standard output does not stop the registry.
    let _ = writeln!(out, "listening on {}", running.url());
    let _ = out.flush();
    let following = tokio::spawn(reload.follow(registry.clone()));
    signals.next().await;
    following.abort();
    tracing::info!("stopping after running requests have finished; another signal stops at once");
    tokio::select! {
        () = running.shutdown() => {}
        () = signals.next() => tracing::warn!("stopping at once; running requests are aborted"),
    }
    Ok(())
}

/// The superuser of a first start.
struct FirstAdmin {
    password: Password,
    /// Whether the password must be shown.
    generated: bool,
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
    let given = std::env::var(PASSWORD_VARIABLE).ok().filter(|password| !password.is_empty());
    if registry.shared.policy().grants == AccessPolicy::Open {
        return Ok(FirstStart::No);
    }
    if registry.has_users()? {
        if given.is_some() {
            tracing::warn!(
                "ignored {PASSWORD_VARIABLE}: this registry already has users; use `coracle user passwd {ADMIN}`"
            );
        }
        return Ok(FirstStart::No);
    }
    if has_admin(registry) {
        return Ok(FirstStart::NameTaken);
    }
    Ok(FirstStart::Admin(match given {
        Some(password) => {
            let password =
                Password::chosen(&password).map_err(|error| Error::failed(format!("{PASSWORD_VARIABLE}: {error}")))?;
            FirstAdmin { password, generated: false }
        }
        None => FirstAdmin { password: Password::generate(), generated: true },
    }))
}

/// Whether the user `admin` exists.
fn has_admin(registry: &Registry) -> bool {
    registry.shared.accounts().account(ADMIN).is_ok_and(|admin| admin.is_some_and(|admin| admin.may_sign_in()))
}

/// Prints the address of the registry, and the commands to try first.
fn announce(registry: &Registry, running: &RunningRegistry, first: &FirstStart, logging: &Logging) {
    let config = registry.shared.config();
    let (tls, host) = reachable(running, config.http.external_url.as_deref());
    let option = |name: &str| if tls { String::new() } else { format!(" --{name}=false") };
    let mut help = String::new();
    let mut line = |text: &str| {
        help.push_str(text);
        help.push('\n');
    };
    line(&format!("data directory: {}", registry.data_dir().display()));
    match first {
        FirstStart::Admin(FirstAdmin { password, generated: true }) => {
            line(&format!("first start: created the superuser {ADMIN} with the password {}", password.reveal()));
            line("             the password is not shown again");
        }
        FirstStart::Admin(_) => {
            line(&format!("first start: created the superuser {ADMIN}, whose password is in ${PASSWORD_VARIABLE}"));
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
    if registry.shared.policy().grants == AccessPolicy::Open {
        line("open: everyone who can connect may push, pull and delete");
    } else {
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
        FirstStart::Admin(FirstAdmin { password, generated: true }) => {
            fields.extend([("user", ADMIN), ("password", password.reveal())]);
            "first start: created a superuser; the password is not shown again"
        }
        FirstStart::Admin(_) => {
            fields.push(("user", ADMIN));
            "first start: created a superuser with the password in $CORACLE_ADMIN_PASSWORD"
        }
        FirstStart::NameTaken => {
            fields.push(("user", ADMIN));
            "started without a superuser: the htpasswd file has a user of that name, whose password stays"
        }
        FirstStart::No => "started",
    };
    logging.say(tracing::Level::INFO, help.trim_end(), message, &fields);
}

/// How clients reach the registry: whether with TLS, and at which host.
fn reachable(running: &RunningRegistry, external: Option<&str>) -> (bool, String) {
    let url = external.unwrap_or(running.url());
    let (scheme, host) = url.split_once("://").unwrap_or(("http", url));
    let address = running.address();
    // Clients cannot connect to the unspecified address.
    let host = if external.is_none() && address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
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
