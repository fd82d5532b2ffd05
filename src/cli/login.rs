//! `coracle login`: creates an API key for docker and podman.
//!
//! Uses the registry's HTTP API, from any machine. Invariants: a password is neither stored nor shown; docker and podman
//! get a key that expires; after a failure or an interrupt neither a session nor a key is left at the registry.

mod address;
mod api;
mod browser;
mod device;
mod terminal;

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

pub(super) use address::RemoteRegistry;
pub(super) use api::Api;
use api::{NewKey, Provider, Ways};
use terminal::Terminal;

use super::Error;
use super::credentials::{self, CredentialFile, Entry, Environment, LoginRecords, credential_files};
use crate::admin::{lifetime, scope};
use crate::kit::outgoing::{Client, Plain, Settings};
use crate::kit::text::printable;

/// The default lifetime of a key: long enough not to disturb, and short enough that a forgotten file does not open the
/// registry forever.
const LIFETIME: Duration = Duration::from_hours(90 * 24);

/// Sign in to a registry, for docker, podman and other tools that read their files
///
/// Asks for a password, or signs in through an identity provider of the registry: in the browser of this machine if it
/// has one, or else with a code that you type on another device. Then creates an API key and stores it in the files of
/// docker and podman. The password is not stored.
///
/// `coracle logout` revokes and removes the key. The exit code is 1 if something failed, and 2 if the command line is
/// wrong.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  coracle login registry.example\n  coracle login registry.example --device --scope 'team/**:pull'\n  \
                        echo \"$PASSWORD\" | coracle login localhost:8080 --username ci --password-stdin --expires 1h"
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct Login {
    /// The registry: its name, such as registry.example or localhost:8080, or its URL [default: that of --config, or
    /// 127.0.0.1:8080]
    url: Option<String>,
    /// The configuration of a registry on this machine, which names its address
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    config: Option<PathBuf>,
    /// Sign in through this identity provider [default: the only one, or you are asked]
    #[arg(long, conflicts_with = "username")]
    provider: Option<String>,
    /// Sign in with this user name and a password
    #[arg(long, short)]
    username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Limit the key to these repositories, such as team/** or team/app:pull [default: all your rights]
    #[arg(long = "scope", value_parser = scope)]
    scopes: Vec<String>,
    /// Let the key expire after this time, such as 90d, 12h or 30m [default: 90d, or what the registry allows]
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    expires: Option<u64>,
    /// The label of the key in your list of keys [default: "coracle login on" and the name of this machine]
    #[arg(long)]
    label: Option<String>,
    /// Store the key in this file only [default: the files of docker and podman]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Sign in through the provider with a code that you type on another device
    #[arg(long, conflicts_with = "username")]
    device: bool,
    /// Print the address to open in a browser on this machine, instead of opening it
    #[arg(long, conflicts_with_all = ["username", "device"])]
    no_browser: bool,
    /// Use HTTPS, and trust the certificates in this PEM file besides those of the system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Allow http:// to another machine, which sends the password and the key in clear text
    #[arg(long)]
    insecure_http: bool,
}

/// The signals that interrupt a sign-in.
struct Interrupts([Signal; 3]);

impl Interrupts {
    fn listen() -> std::io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [one, two, three] = kinds.map(signal);
        Ok(Self([one?, two?, three?]))
    }

    /// Runs work until it ends or a signal arrives.
    async fn or<T>(&mut self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let [one, two, three] = &mut self.0;
        tokio::select! {
            result = work => return result,
            _ = one.recv() => {}
            _ = two.recv() => {}
            _ = three.recv() => {}
        }
        Err(Error::failed("interrupted: not logged in"))
    }
}

impl Login {
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let registry = self.registry()?;
        super::block_on(async { self.sign_in(registry, &mut Interrupts::listen()?).await })?;
        Ok(ExitCode::SUCCESS)
    }

    fn registry(&self) -> Result<RemoteRegistry, Error> {
        let registry = match &self.url {
            Some(url) => RemoteRegistry::named(url, self.ca.is_some())?,
            None => RemoteRegistry::configured(&super::locate(self.config.as_deref(), None)?.0)?,
        };
        let RemoteRegistry { url, host } = &registry;
        if self.ca.is_some() && url.starts_with("http://") {
            return Err(Error::usage(format!("--ca requires HTTPS, and {url} is not")));
        }
        let local = url.strip_prefix("http://").is_none_or(|rest| {
            rest.parse::<hyper::http::uri::Authority>()
                .is_ok_and(|known| crate::kit::network::is_loopback(known.host()))
        });
        if local || self.insecure_http {
            return Ok(registry);
        }
        Err(Error::usage(format!(
            "http:// sends the password and the key to {host} in clear text: use https://, or allow it with \
             --insecure-http"
        )))
    }

    async fn sign_in(self, registry: RemoteRegistry, interrupts: &mut Interrupts) -> Result<(), Error> {
        let ca = self.ca.as_deref().map(super::absolute).transpose()?;
        let plain = if self.insecure_http { Plain::Anywhere } else { Plain::Loopback };
        let client = Client::new(Settings { ca: ca.clone(), plain, ..Settings::default() });
        let authfile = self.authfile.as_deref().map(super::absolute).transpose()?;
        // Finds problems with the files before the user is asked for anything.
        let files = credential_files(&Environment::read(), authfile.as_deref())?;
        files.iter().try_for_each(|file| file.check(&registry.host))?;
        let mut logins = LoginRecords::read()?;

        let mut api = Api::new(client, registry.clone());
        let ways = interrupts.or(async { Ok(api.ways().await?) }).await?;
        let lifetime = self.expires.unwrap_or_else(|| {
            ways.key_lifetime_max.map_or(LIFETIME.as_secs(), |longest| longest.min(LIFETIME.as_secs()))
        });
        let stored = async {
            interrupts.or(self.begin(&mut api, &ways)).await?;
            let (entry, key) = self.make_key(&mut api, lifetime).await?;
            let stored = interrupts.or(store(&files, &registry.host, &entry)).await;
            if stored.is_err() {
                undo(&files, &registry.host, &entry).await;
                if let Err(error) = api.revoke_key(&key.id).await {
                    eprintln!("coracle: cannot revoke the new key {}: {error}", key.id);
                }
            }
            Ok::<_, Error>((entry, key, stored?))
        };
        let stored = stored.await;
        // Fails if no session was started, which does not matter.
        let _ = api.sign_out().await;
        let (entry, key, stored) = stored?;

        let login = credentials::LoginRecord {
            url: registry.url.clone(),
            user: entry.user.clone(),
            key: key.id.clone(),
            key_sha256: credentials::hash(&entry.secret),
            ca,
            authfile,
        };
        end_replaced(&mut api, logins.get(&registry.host), &login, stored.before).await;
        logins.put(&registry.host, login)?;
        println!("signed in to {} as {}", registry.host, entry.user);
        eprintln!("The key is in {}.", stored.names.join(" and "));
        if let Some(warning) = &key.warning {
            eprintln!("coracle: warning: {warning}");
        }
        if let Some(expiration) = &key.expiration {
            eprintln!("The key expires on {expiration}. `coracle logout {}` revokes it.", registry.host);
        }
        Ok(())
    }

    /// Starts a session in the requested way, or in the way that the registry offers.
    async fn begin(&self, api: &mut Api, ways: &Ways) -> Result<(), Error> {
        let wants_provider = self.provider.is_some() || self.device || self.no_browser;
        if self.username.is_some() || ways.providers.is_empty() && !wants_provider {
            if !ways.password {
                return Err(Error::failed(format!("{} does not accept passwords", api.host())));
            }
            return self.with_password(api).await;
        }
        let provider = self.provider(&ways.providers).await?;
        if self.device || !self.no_browser && !browser::is_there() {
            if !provider.device {
                let why = "does not support sign-in on another device: use a machine with a browser, and --no-browser";
                return Err(Error::failed(format!("{} {why}", provider.title)));
            }
            return Ok(device::sign_in(api, provider).await?);
        }
        Ok(browser::sign_in(api, provider, !self.no_browser).await?)
    }

    async fn with_password(&self, api: &mut Api) -> Result<(), Error> {
        let terminal = || {
            let why = "no terminal to ask for a name and a password: use --username and --password-stdin";
            Terminal::open().ok_or_else(|| Error::usage(why))
        };
        let user = match &self.username {
            Some(user) => user.clone(),
            None => terminal()?.ask(&format!("Name at {}: ", api.host())).await?.to_string(),
        };
        if self.password_stdin {
            let password = super::administer::password_from_stdin()?;
            return Ok(api.sign_in(&user, password.reveal()).await?);
        }
        let password = terminal()?.ask_secret("Password: ").await?;
        Ok(api.sign_in(&user, &password).await?)
    }

    /// The provider of --provider, the only one, or the one that the user chooses.
    async fn provider<'a>(&self, providers: &'a [Provider]) -> Result<&'a Provider, Error> {
        let names = || providers.iter().map(|provider| provider.name.as_str()).collect::<Vec<_>>().join(", ");
        let find = |name: &str| {
            let found = providers.iter().find(|provider| provider.name == name);
            found.ok_or_else(|| Error::usage(format!("no identity provider {name:?}: the registry has {}", names())))
        };
        match (&self.provider, providers) {
            (_, []) => Err(Error::usage("the registry has no providers: use --username")),
            (Some(name), _) => find(name),
            (None, [only]) => Ok(only),
            (None, _) => {
                let why =
                    || Error::usage(format!("several identity providers: choose one with --provider: {}", names()));
                let terminal = Terminal::open().ok_or_else(why)?;
                let chosen = terminal.ask(&format!("Sign in through which of {}? ", names())).await?;
                find(chosen.trim())
            }
        }
    }

    async fn make_key(&self, api: &mut Api, lifetime: u64) -> Result<(Entry, NewKey), Error> {
        let user = api.whoami().await?;
        let label = self.label.clone().unwrap_or_else(|| {
            let name = rustix::system::uname();
            format!("coracle login on {}", printable(&name.nodename().to_string_lossy()))
        });
        let key = api.make_key(&label, &self.scopes, lifetime).await?;
        Ok((Entry { user, secret: key.secret.clone() }, key))
    }
}

/// Where the new key is stored, and the entries that it replaced.
#[derive(Default)]
struct Stored {
    names: Vec<String>,
    before: Vec<Entry>,
}

async fn store(files: &[CredentialFile], host: &str, entry: &Entry) -> Result<Stored, Error> {
    let mut stored = Stored::default();
    for file in files {
        stored.before.extend(file.get(host).await?);
        stored.names.push(file.put(host, entry).await?);
    }
    Ok(stored)
}

/// Removes a stored key again after a failure.
async fn undo(files: &[CredentialFile], host: &str, entry: &Entry) {
    for file in files {
        let ours = file.get(host).await.is_ok_and(|kept| kept.is_some_and(|kept| *kept.secret == *entry.secret));
        if ours && let Err(error) = file.remove(host).await {
            eprintln!("coracle: {error}");
        }
    }
}

/// Revokes the key of the previous sign-in if it was stored here: no file has it any more.
async fn end_replaced(
    api: &mut Api,
    old: Option<&credentials::LoginRecord>,
    new: &credentials::LoginRecord,
    before: Vec<Entry>,
) {
    let Some(old) = old.filter(|old| old.url == new.url) else { return };
    let Some(entry) = before.into_iter().find(|entry| old.has_key(&entry.secret)) else { return };
    if let Err(error) = api.end_key(&old.key, &entry.secret).await {
        eprintln!("coracle: cannot revoke the previous key: {error}");
    }
}
