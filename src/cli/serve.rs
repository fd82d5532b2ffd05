//! `coracle serve`: the registry itself.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::task::Poll;

use tokio::signal::unix::{SignalKind, signal};

use super::{failed, logging, wrong};
use crate::access::Password;
use crate::config::{Address, Config, Profile};
use crate::registry::Registry;
use crate::server::RunningRegistry;
use crate::{AccessPolicy, Error};

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
/// once it accepts connections; stops on SIGTERM and ctrl-c, when running requests have finished.
#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// The configuration, in TOML, JSON or YAML by its ending; zot's keys are understood
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
        let config = match self.config() {
            Ok(config) => config,
            Err(code) => return code,
        };
        if let Err(error) = logging::start(&config.log) {
            return wrong(&error);
        }
        if let Err(error) = raise_handle_limit() {
            tracing::debug!(%error, "the limit of file handles stays as it is");
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(BLOCKING_THREADS_MAX).build();
        match runtime {
            Ok(runtime) => match runtime.block_on(serve(config)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(&error),
            },
            Err(error) => failed(&format!("cannot start threads: {error}")),
        }
    }

    /// The configuration file, and the command line over it.
    fn config(&self) -> Result<Config, ExitCode> {
        let mut config = Config::default();
        if let Some(file) = &self.config {
            let loaded = Config::load(file).map_err(|error| wrong(&error))?;
            for warning in loaded.warnings {
                eprintln!("warning: {warning}");
            }
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
        if config.storage.root_directory.is_none() {
            let missing = || wrong(&"there is no data directory on this platform: choose one with --root");
            config.storage.root_directory = Some(dirs::data_dir().ok_or_else(missing)?.join("coracle"));
        }
        Ok(config)
    }
}

async fn serve(config: Config) -> Result<(), Error> {
    let profile = config.profile;
    let registry = Registry::builder().config(config).open()?;
    let password = make_admin(&registry)?;
    let running = registry.spawn().await?;
    // Before it is announced: whoever waits for the line may stop the registry at once.
    let stop = stop_signal();
    announce(&registry, &running, password.as_ref(), profile);
    stop.await;
    tracing::info!("stopping: running requests may finish");
    running.shutdown().await;
    Ok(())
}

/// Makes the superuser of a first start, and returns a password that nobody knows yet.
fn make_admin(registry: &Registry) -> Result<Option<Password>, Error> {
    if registry.shared.policy() == AccessPolicy::Open || registry.has_users()? {
        return Ok(None);
    }
    match std::env::var(PASSWORD_VARIABLE) {
        Ok(password) if !password.is_empty() => {
            registry.put_user(ADMIN, &password, true)?;
            Ok(None)
        }
        _ => {
            let password = Password::generate();
            registry.put_user(ADMIN, password.reveal(), true)?;
            Ok(Some(password))
        }
    }
}

/// Says where the registry is, and what to do next.
fn announce(registry: &Registry, running: &RunningRegistry, password: Option<&Password>, profile: Profile) {
    let host = running.address();
    let tls = running.url().starts_with("https://");
    let verify = if tls { "" } else { " --tls-verify=false" };
    let dest_verify = if tls { "" } else { " --dest-tls-verify=false" };
    let mut help = String::new();
    let mut line = |text: &str| {
        help.push_str(text);
        help.push('\n');
    };
    line(&format!("data directory: {}", registry.data_dir().display()));
    if let Some(password) = password {
        line(&format!("first start: made the superuser {ADMIN} with the password {}", password.reveal()));
        line("             it is not shown again");
    }
    if registry.shared.policy() == AccessPolicy::Open {
        line("open: anyone who reaches this address may push, pull and delete");
    } else {
        line(&format!("log in:  skopeo login{verify} --username {ADMIN} {host}"));
    }
    if profile == Profile::Zot {
        line("profile: zot (everybody who has signed in may do everything)");
    }
    line(&format!("push:    skopeo copy{dest_verify} docker-archive:image.tar docker://{host}/hello:1"));
    line(&format!("pull:    skopeo copy --src-tls-verify={tls} docker://{host}/hello:1 oci:hello:1"));
    // Whoever started the registry may have closed either, and is served all the same.
    let _ = std::io::stderr().write_all(help.as_bytes());
    let mut out = std::io::stdout();
    let _ = writeln!(out, "listening on {}", running.url());
    let _ = out.flush();
}

/// Listens for signals at once, and is ready when somebody wants the process to end.
fn stop_signal() -> impl Future<Output = ()> {
    // A signal that cannot be listened to ends the process in its own way.
    let mut signals = [SignalKind::terminate(), SignalKind::interrupt()].map(|kind| signal(kind).ok());
    std::future::poll_fn(move |context| {
        let came = signals.iter_mut().flatten().any(|signal| signal.poll_recv(context).is_ready());
        if came { Poll::Ready(()) } else { Poll::Pending }
    })
}

/// Connections and open blobs are file handles; the usual limit of 1024 is for programs that have
/// neither.
fn raise_handle_limit() -> rustix::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
}
