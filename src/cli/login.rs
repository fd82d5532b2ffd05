//! `coracle login`: makes an API key for docker and podman, for whoever signs in to do it.
//!
//! Over the registry's own API, from wherever the person is. Invariant: a password is neither kept nor shown;
//! what docker and podman get is a key, which ends by itself; whatever fails, and whenever the person goes away,
//! neither a session nor a key is left behind that nobody knows of.

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

pub(super) use address::Registry;
pub(super) use api::{Api, Failure};
use api::{NewKey, Provider, Ways};
use terminal::Terminal;

use super::credentials::{self, Entry, Environment, Logins, Place, places};
use crate::kit::outgoing::{Client, Plain, Settings};

/// How long a key is good for, unless it is said otherwise: long enough not to be in the way, and short enough that
/// a file on a machine that was given away does not open the registry for ever.
const LIFETIME: Duration = Duration::from_hours(90 * 24);

/// Sign in to a registry, for docker, podman and whatever else reads what they keep
///
/// Asks for a password, or signs in through the provider that the registry names: in the browser of this machine if
/// there is one, or with a code that is typed on another device. Then makes an API key, and stores that where docker
/// and podman look for it; the password is not kept. The key is good for 90 days, unless --expires says otherwise.
///
/// `coracle logout` revokes the key and removes it again. Ends with 1 if it could not be done, and with 2 if the command
/// line is wrong.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  coracle login registry.example\n  coracle login registry.example --device --scope 'team/**:pull'\n  \
                        echo \"$PASSWORD\" | coracle login localhost:8080 --username ci --password-stdin --expires 1h"
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct Login {
    /// The registry: its name, such as registry.example or localhost:8080, or its URL; without, the one of --config,
    /// or 127.0.0.1:8080
    url: Option<String>,
    /// The configuration of the registry on this machine that is meant
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    config: Option<PathBuf>,
    /// Sign in through this provider, where the registry has several
    #[arg(long, conflicts_with = "username")]
    provider: Option<String>,
    /// Sign in with this name and a password
    #[arg(long, short)]
    username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// What the key is limited to, such as team/** or team/app:pull; without any, all that one may do oneself
    #[arg(long = "scope", value_parser = super::apikey::scope)]
    scopes: Vec<String>,
    /// How long the key is good for, such as 90d, 12h or 30m
    #[arg(long, value_parser = super::apikey::lifetime)]
    expires: Option<u64>,
    /// What the key is called in the list of one's keys; without, "coracle login on" and the name of this machine
    #[arg(long)]
    label: Option<String>,
    /// Store the key in this file alone
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Sign in through the provider with a code that is typed on another device
    #[arg(long, conflicts_with = "username")]
    device: bool,
    /// Only show the address that is to be opened in a browser on this machine
    #[arg(long, conflicts_with_all = ["username", "device"])]
    no_browser: bool,
    /// Certificates (PEM) to trust besides those that the system trusts
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Allow http:// to another machine: whoever is on the way reads the password and the key
    #[arg(long)]
    insecure_http: bool,
}

/// Why nobody has signed in.
enum Stopped {
    /// It could not be done.
    Failed(String),
    /// What was asked for is wrong.
    Wrong(String),
    /// The person has gone away.
    Interrupted,
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.to_string())
    }
}

impl From<String> for Stopped {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// What ends a program that nobody wants any more.
struct Leaving([Signal; 3]);

impl Leaving {
    fn listen() -> std::io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [one, two, three] = kinds.map(signal);
        Ok(Self([one?, two?, three?]))
    }

    /// Does something, unless the person goes away meanwhile.
    async fn or<T, E>(&mut self, work: impl Future<Output = Result<T, E>>) -> Result<T, Stopped>
    where
        Stopped: From<E>,
    {
        let [one, two, three] = &mut self.0;
        tokio::select! {
            result = work => Ok(result?),
            _ = one.recv() => Err(Stopped::Interrupted),
            _ = two.recv() => Err(Stopped::Interrupted),
            _ = three.recv() => Err(Stopped::Interrupted),
        }
    }
}

impl Login {
    pub(super) fn run(self) -> ExitCode {
        let registry = match self.registry() {
            Ok(registry) => registry,
            Err(error) => return super::wrong(&error),
        };
        let result = super::asking(async {
            let mut leaving = Leaving::listen().map_err(|error| Stopped::Failed(error.to_string()))?;
            self.sign_in(registry, &mut leaving).await
        });
        match result {
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(Stopped::Wrong(error))) => super::wrong(&error),
            Ok(Err(Stopped::Failed(error))) | Err(error) => super::failed(&error),
            Ok(Err(Stopped::Interrupted)) => super::failed(&"interrupted: nobody has signed in"),
        }
    }

    fn registry(&self) -> Result<Registry, String> {
        let registry = match &self.url {
            Some(url) => Registry::named(url)?,
            None => Registry::configured(&super::locate(self.config.as_deref(), None)?.0)?,
        };
        let Registry { url, host } = &registry;
        let local = url.strip_prefix("http://").is_none_or(|rest| {
            rest.parse::<hyper::http::uri::Authority>()
                .is_ok_and(|known| crate::kit::outgoing::is_loopback(known.host()))
        });
        if local || self.insecure_http {
            return Ok(registry);
        }
        Err(format!(
            "over http:// whoever is on the way to {host} reads the password and the key; use https://, or --insecure-http where that is no harm"
        ))
    }

    async fn sign_in(self, registry: Registry, leaving: &mut Leaving) -> Result<(), Stopped> {
        let ca = self.ca.as_deref().map(super::absolute).transpose()?;
        let plain = if self.insecure_http { Plain::Anywhere } else { Plain::Loopback };
        let client = Client::new(Settings { ca: ca.clone(), plain, ..Settings::default() });
        let authfile = self.authfile.as_deref().map(super::absolute).transpose()?;
        // Before anybody is asked for anything: what can be found out to fail fails here.
        let places = places(&Environment::read(), authfile.as_deref())?;
        places.iter().try_for_each(|place| place.check(&registry.host))?;
        let mut logins = Logins::read()?;

        let mut api = Api::new(client, registry.clone());
        let ways = leaving.or(api.ways()).await?;
        let lifetime = self.expires.unwrap_or_else(|| {
            ways.key_lifetime_max.map_or(LIFETIME.as_secs(), |longest| longest.min(LIFETIME.as_secs()))
        });
        let signed_in = leaving.or(self.begin(&mut api, &ways)).await;
        let made = match signed_in {
            Ok(()) => self.make_key(&mut api, lifetime).await,
            Err(stopped) => Err(stopped),
        };
        let stored = match &made {
            Ok((entry, key)) => {
                let stored = leaving.or(store(&places, &registry.host, entry)).await;
                // What was signed in to do is done, or is undone.
                match stored {
                    Ok(stored) => Ok(stored),
                    Err(stopped) => {
                        undo(&places, &registry.host, entry).await;
                        if let Err(error) = api.revoke_key(&key.id).await {
                            eprintln!("coracle: the key {} was made and could not be revoked: {error}", key.id);
                        }
                        Err(stopped)
                    }
                }
            }
            Err(_) => Ok(Stored::default()),
        };
        // A session that was not begun is not ended; nor does it matter then that it cannot be.
        let _ = api.sign_out().await;
        let (entry, key) = made?;
        let stored = stored?;

        let login = credentials::Login {
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
            eprintln!("It is good until {expiration}; coracle logout {} ends it.", registry.host);
        }
        Ok(())
    }

    /// Begins a session, in the way that was asked for or that there is.
    async fn begin(&self, api: &mut Api, ways: &Ways) -> Result<(), Stopped> {
        let wants_provider = self.provider.is_some() || self.device || self.no_browser;
        if self.username.is_some() || ways.providers.is_empty() && !wants_provider {
            if !ways.password {
                return Err(Stopped::Failed(format!("nobody can sign in to {} with a password", api.host())));
            }
            return self.with_password(api).await;
        }
        let provider = self.provider(&ways.providers).await?;
        if self.device || !self.no_browser && !browser::is_there() {
            if !provider.device {
                let why =
                    "does not let people sign in with another device; on a machine with a browser, use --no-browser";
                return Err(Stopped::Failed(format!("{} {why}", provider.title)));
            }
            return Ok(device::sign_in(api, provider).await?);
        }
        Ok(browser::sign_in(api, provider, !self.no_browser).await?)
    }

    async fn with_password(&self, api: &mut Api) -> Result<(), Stopped> {
        let terminal = || {
            let why = "there is no terminal to ask for a name and a password: use --username and --password-stdin";
            Terminal::open().ok_or_else(|| Stopped::Wrong(why.to_owned()))
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

    /// The provider that is meant: the one that is named, the only one, or the one that the person chooses.
    async fn provider<'a>(&self, providers: &'a [Provider]) -> Result<&'a Provider, Stopped> {
        let names = || providers.iter().map(|provider| provider.name.as_str()).collect::<Vec<_>>().join(", ");
        let find = |name: &str| {
            let found = providers.iter().find(|provider| provider.name == name);
            found.ok_or_else(|| Stopped::Wrong(format!("there is no provider {name:?} here, but {}", names())))
        };
        match (&self.provider, providers) {
            (_, []) => Err(Stopped::Wrong("there are no providers here: sign in with --username".to_owned())),
            (Some(name), _) => find(name),
            (None, [only]) => Ok(only),
            (None, _) => {
                let why =
                    || Stopped::Wrong(format!("there are several providers: choose one with --provider: {}", names()));
                let terminal = Terminal::open().ok_or_else(why)?;
                let chosen = terminal.ask(&format!("Sign in through which of {}? ", names())).await?;
                find(chosen.trim())
            }
        }
    }

    async fn make_key(&self, api: &mut Api, lifetime: u64) -> Result<(Entry, NewKey), Stopped> {
        let user = api.whoami().await?;
        let label = self.label.clone().unwrap_or_else(|| {
            let name = rustix::system::uname();
            format!("coracle login on {}", super::printable(&name.nodename().to_string_lossy()))
        });
        let key = api.make_key(&label, &self.scopes, lifetime).await?;
        Ok((Entry { user, secret: key.secret.clone() }, key))
    }
}

/// Where the key is now, and what was there before it.
#[derive(Default)]
struct Stored {
    names: Vec<String>,
    before: Vec<Entry>,
}

async fn store(places: &[Place], host: &str, entry: &Entry) -> Result<Stored, String> {
    let mut stored = Stored::default();
    for place in places {
        stored.before.extend(place.get(host).await?);
        stored.names.push(place.put(host, entry).await?);
    }
    Ok(stored)
}

/// Takes a key away from where it was put before something failed.
async fn undo(places: &[Place], host: &str, entry: &Entry) {
    for place in places {
        let ours = place.get(host).await.is_ok_and(|kept| kept.is_some_and(|kept| *kept.secret == *entry.secret));
        if ours && let Err(error) = place.remove(host).await {
            eprintln!("coracle: {error}");
        }
    }
}

/// Ends the key of the sign-in before this one, if it was here. It is of no use to anybody any more.
async fn end_replaced(api: &mut Api, old: Option<&credentials::Login>, new: &credentials::Login, before: Vec<Entry>) {
    let Some(old) = old.filter(|old| old.url == new.url) else { return };
    let Some(entry) = before.into_iter().find(|entry| old.is_of(&entry.secret)) else { return };
    if let Err(error) = api.end_key(&old.key, &entry.secret).await {
        eprintln!("coracle: the key from before could not be revoked: {error}");
    }
}
