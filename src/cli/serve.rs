//! `coracle serve`: the registry itself.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::logging::{self, Logging};
use super::reload::Reload;
use super::{process, wrong};
use crate::AccessPolicy;
use crate::config::{Address, Config, Profile};
use crate::identity::accounts::Password;
use crate::registry::Registry;
use crate::server::RunningRegistry;

/// The variable that gives the first superuser a password.
const PASSWORD_VARIABLE: &str = "CORACLE_ADMIN_PASSWORD";
/// The first superuser.
const ADMIN: &str = "admin";

/// More threads than this for work that blocks would only wait for the same disk and cores.
const BLOCKING_THREADS_MAX: usize = 64;

/// Start the registry
///
/// Without a configuration it listens on 127.0.0.1:8080 and keeps its data in the platform's data
/// directory. The first start makes a superuser `admin`, with the password in
/// `$CORACLE_ADMIN_PASSWORD` or a generated one that is shown once. Prints one line on standard output
/// once it accepts connections; stops on SIGTERM and ctrl-c, when running requests have finished, and
/// on another of these at once. SIGHUP opens the log files again and reads the configuration again.
#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// The configuration, in TOML, JSON or YAML by its ending; zot's keys are understood
    file: Option<PathBuf>,
    /// The same, as the other commands take it
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// Keep the data in this directory
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Listen on this address
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Listen on this port; 0 takes a free one
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Let anyone who reaches the port do everything, without credentials
    #[arg(long)]
    open: bool,
}

impl Serve {
    pub(super) fn run(self) -> ExitCode {
        let file = self.file.as_deref().or(self.config.as_deref());
        let (config, warnings) = match self.config(file) {
            Ok(config) => config,
            Err(code) => return code,
        };
        let logging = match logging::start(&config.log) {
            Ok(logging) => logging,
            Err(error) => return wrong(&error),
        };
        for warning in warnings {
            logging.warn(&warning);
        }
        process::prepare();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(BLOCKING_THREADS_MAX).build();
        match runtime {
            Ok(runtime) => runtime.block_on(serve(config, file, logging)),
            Err(error) => logging.failed(&format!("cannot start threads: {error}")),
        }
    }

    /// The configuration file and the command line over it, with warnings.
    fn config(&self, file: Option<&Path>) -> Result<(Config, Vec<String>), ExitCode> {
        let (mut config, mut warnings) = (Config::default(), Vec::new());
        if let Some(file) = file {
            let loaded = Config::load(file).map_err(|error| wrong(&error))?;
            warnings = loaded.warnings.iter().map(ToString::to_string).collect();
            config = loaded.config;
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
                return Err(wrong(
                    &"--open on an address that others can reach lets all of them push and delete: \
                      if that is meant, set http.open = true in the configuration",
                ));
            }
            config.http.open = true;
        }
        config.storage.root_directory = Some(super::data_dir(&config).map_err(|error| wrong(&error))?);
        Ok((config, warnings))
    }
}

async fn serve(config: Config, file: Option<&Path>, logging: Logging) -> ExitCode {
    // From here on a signal ends the process the gentle way, and SIGHUP does not end it, whatever has happened by then.
    let signals = StopSignals::listen().and_then(|stop| Ok((stop, signal(SignalKind::hangup())?)));
    let (signals, hangup) = match signals {
        Ok(signals) => signals,
        Err(error) => return logging.failed(&format!("cannot listen to signals: {error}")),
    };
    let logging = Arc::new(logging);
    let reload = Reload::new(file, Arc::clone(&logging), hangup);
    match run(config, signals, reload, &logging).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => logging.failed(&error),
    }
}

async fn run(config: Config, mut signals: StopSignals, reload: Reload, logging: &Logging) -> Result<(), String> {
    let registry = Registry::builder().config(config).open().map_err(|error| error.to_string())?;
    let first = first_start(&registry)?;
    let running = registry.spawn().await.map_err(|error| error.to_string())?;
    // Shown before it is stored, and both when nothing can fail any more but the disk: there is never a
    // superuser with a password that nobody has seen.
    announce(&registry, &running, &first, logging);
    if let FirstStart::Admin(admin) = first {
        registry.put_user(ADMIN, admin.password.reveal(), true).map_err(|error| error.to_string())?;
    }
    let mut out = std::io::stdout();
    // Whoever started the registry may have closed it, and is served all the same.
    let _ = writeln!(out, "listening on {}", running.url());
    let _ = out.flush();
    let following = tokio::spawn(reload.follow(registry.clone()));
    signals.next().await;
    following.abort();
    tracing::info!("stopping: running requests may finish, unless another signal comes");
    tokio::select! {
        () = running.shutdown() => {}
        () = signals.next() => tracing::warn!("stopping at once: running requests are cut off"),
    }
    Ok(())
}

/// The superuser of a first start.
struct FirstAdmin {
    password: Password,
    /// Nobody knows the password yet.
    generated: bool,
}

/// What is to be done about superusers.
enum FirstStart {
    /// Nothing: there are users, or nobody needs one.
    No,
    /// Nothing, although there is no user: the name of the first superuser is in the htpasswd file, with a password that
    /// must stay in force.
    NameTaken,
    /// The superuser is to be made.
    Admin(FirstAdmin),
}

/// The superuser to be made, if there is nobody who could sign in.
fn first_start(registry: &Registry) -> Result<FirstStart, String> {
    let has_users = || registry.has_users().map_err(|error| error.to_string());
    if registry.shared.policy().grants == AccessPolicy::Open || has_users()? {
        return Ok(FirstStart::No);
    }
    if registry.shared.accounts().account(ADMIN).map_err(|error| error.to_string())?.is_some() {
        return Ok(FirstStart::NameTaken);
    }
    Ok(FirstStart::Admin(match std::env::var(PASSWORD_VARIABLE) {
        Ok(password) if !password.is_empty() => {
            let password = Password::chosen(&password).map_err(|error| format!("{PASSWORD_VARIABLE}: {error}"))?;
            FirstAdmin { password, generated: false }
        }
        _ => FirstAdmin { password: Password::generate(), generated: true },
    }))
}

/// Says where the registry is, and what to do next.
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
            line(&format!("first start: made the superuser {ADMIN} with the password {}", password.reveal()));
            line("             it is not shown again");
        }
        FirstStart::Admin(_) => {
            line(&format!("first start: made the superuser {ADMIN}, with ${PASSWORD_VARIABLE} as the password"));
        }
        FirstStart::NameTaken => {
            line(&format!("no superuser: the htpasswd file has the user {ADMIN}, which keeps its password"));
            line("              `coracle user add NAME --superuser` makes a superuser with another name");
        }
        FirstStart::No => {}
    }
    if registry.shared.policy().grants == AccessPolicy::Open {
        line("open: anyone who reaches this address may push, pull and delete");
    } else {
        line(&format!("log in:  skopeo login{} --username {ADMIN} {host}", option("tls-verify")));
    }
    if config.profile == Profile::Zot {
        line("profile: zot (everybody who has signed in may do everything)");
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
            "first start: made a superuser; its password is not shown again"
        }
        FirstStart::Admin(_) => {
            fields.push(("user", ADMIN));
            "first start: made a superuser with the password of $CORACLE_ADMIN_PASSWORD"
        }
        FirstStart::NameTaken => {
            fields.push(("user", ADMIN));
            "started without a superuser: the htpasswd file has the user, which keeps its password"
        }
        FirstStart::No => "started",
    };
    logging.say(tracing::Level::INFO, help.trim_end(), message, &fields);
}

/// How clients reach the registry: whether by TLS, and at which host.
fn reachable(running: &RunningRegistry, external: Option<&str>) -> (bool, String) {
    let url = external.unwrap_or(running.url());
    let (scheme, host) = url.split_once("://").unwrap_or(("http", url));
    let address = running.address();
    // What is listened on at every address has none that could be asked for.
    let host = if external.is_none() && address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
    } else {
        host.to_owned()
    };
    (scheme == "https", host)
}

/// What asks the process to end.
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
