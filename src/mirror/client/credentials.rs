//! [`Credentials`]: what the registry presents to an upstream.
//!
//! They come from a file ([`file`]), from a program ([`helper`]), or from the client whose request is served. A file is read
//! again for each access token, so that a change takes effect at once. The output of a program is used for a short time.

mod file;
mod helper;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::Error;
use crate::kit::bounded_map::BoundedMap;
use crate::oci::RepositoryName;
use file::Found;
pub(crate) use helper::Helper;

/// How long the output of a program is used.
const HELPED: Duration = Duration::from_mins(1);
/// How long the failure of a program is used, so that those who waited for it do not run it one after the other.
const FAILED: Duration = Duration::from_secs(5);
/// How often a program runs again because an upstream does not accept its output.
const RENEWED: Duration = Duration::from_secs(10);
/// The most outputs that are kept: one for each program and host.
const HELPED_MAX: usize = 64;

/// The names of Docker Hub in credential files.
const HUB: [&str; 4] = ["registry-1.docker.io", "docker.io", "index.docker.io", "index.docker.io/v1"];
/// The name by which docker's programs know Docker Hub.
const HUB_SERVER: &str = "https://index.docker.io/v1/";

/// Where the credentials for upstreams come from. A clone shares the outputs of programs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials {
    source: Source,
    helped: Arc<Mutex<BoundedMap<(String, String), Flight, HELPED_MAX>>>,
}

#[derive(Clone, Debug, Default)]
enum Source {
    /// Requests are anonymous.
    #[default]
    None,
    /// A file with the credentials of several hosts. A host that is not in it gets anonymous requests.
    File(PathBuf),
    Helper(Helper),
    Login(Login),
}

/// The last run of a program for a host. Locked while it runs, so that it runs once for all who wait.
type Flight = Arc<tokio::sync::Mutex<Option<Helped>>>;

/// The result of a program.
#[derive(Debug)]
struct Helped {
    /// The name by which the program knows the host.
    server: String,
    result: Result<Option<Login>, String>,
    until: Instant,
    /// When an output was last given up before its time.
    renewed: Option<Instant>,
}

impl Helped {
    /// Gives the output up if it is these credentials. Returns whether it does.
    fn give_up(&mut self, server: &str, refused: &Login) -> bool {
        let is_refused = self.server == server && matches!(&self.result, Ok(Some(own)) if own == refused);
        let gives_up = is_refused && self.renewed.is_none_or(|last| last.elapsed() >= RENEWED);
        if gives_up {
            self.until = Instant::now();
            self.renewed = Some(self.until);
        }
        gives_up
    }
}

/// The credentials for one host.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    Password {
        user: String,
        password: Zeroizing<String>,
    },
    /// A refresh token of the host's token service.
    IdentityToken(Zeroizing<String>),
    /// An access token that is used as it is.
    AccessToken(Zeroizing<String>),
}

crate::kit::opaque_debug::opaque_debug!(Login);

impl Login {
    /// A text from which [`Login::from_text`] makes the same credentials, for another process of the same user.
    pub(crate) fn to_text(&self) -> Zeroizing<String> {
        let parts = match self {
            Self::Password { user, password } => ["password", user, password],
            Self::IdentityToken(token) => ["identity token", "", token],
            Self::AccessToken(token) => ["access token", "", token],
        };
        Zeroizing::new(serde_json::to_string(&parts).unwrap_or_default())
    }

    /// Reads a text of [`Login::to_text`].
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let [kind, user, secret]: [String; 3] = serde_json::from_str(text).ok()?;
        let secret = Zeroizing::new(secret);
        match kind.as_str() {
            "password" => Some(Self::Password { user, password: secret }),
            "identity token" => Some(Self::IdentityToken(secret)),
            "access token" => Some(Self::AccessToken(secret)),
            _ => None,
        }
    }

    /// The `Authorization` of the password.
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let Self::Password { user, password } = self else { return None };
        let pair = Zeroizing::new(format!("{user}:{}", password.as_str()));
        sensitive(&format!("Basic {}", STANDARD.encode(pair.as_bytes())))
    }

    /// The user, if there is a name.
    pub(crate) fn user(&self) -> Option<&str> {
        let Self::Password { user, .. } = self else { return None };
        Some(user)
    }

    /// The `Authorization` of the access token.
    pub(super) fn bearer(&self) -> Option<HeaderValue> {
        let Self::AccessToken(token) = self else { return None };
        sensitive(&format!("Bearer {}", token.as_str()))
    }
}

/// A header value that does not print.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl From<Source> for Credentials {
    fn from(source: Source) -> Self {
        Self { source, ..Self::default() }
    }
}

impl Credentials {
    /// A file in the format of zot, docker or podman.
    pub(crate) fn file(path: PathBuf) -> Self {
        Source::File(path).into()
    }

    /// A program that knows the credentials.
    pub(crate) fn helper(helper: Helper) -> Self {
        Source::Helper(helper).into()
    }

    /// The credentials of a client of ours.
    pub(crate) fn login(login: Login) -> Self {
        Source::Login(login).into()
    }

    /// The credentials for a host, with its port if it has one, and for one of its repositories. The log has the reason of an error, and
    /// clients do not see it.
    pub(super) async fn of(&self, host: &str, repository: Option<&RepositoryName>) -> Result<Option<Login>, Error> {
        self.find(host, repository.map(RepositoryName::as_str)).await.map_err(|why| {
            tracing::warn!(host, why, "cannot read the credentials for an upstream");
            Error::Credentials { host: host.to_owned() }
        })
    }

    /// As [`Credentials::of`], after the upstream did not accept a request. If the credentials are refused ones, a program that
    /// they came from runs again, at most once in [`RENEWED`].
    pub(super) async fn other_than(
        &self,
        host: &str,
        repository: Option<&RepositoryName>,
        is_refused: impl Fn(&Login) -> bool,
    ) -> Result<Option<Login>, Error> {
        let login = self.of(host, repository).await?;
        match login.as_ref().filter(|login| is_refused(login)) {
            Some(refused) if self.give_up(server(host), refused) => self.of(host, repository).await,
            _ => Ok(login),
        }
    }

    /// Gives up the output of a program for a host. Returns whether there is, or will be, another one.
    fn give_up(&self, server: &str, refused: &Login) -> bool {
        let flights: Vec<Flight> = self.helped.lock().values().cloned().collect();
        let mut has_other = false;
        for flight in flights {
            // A program that is running has no output yet.
            has_other |= flight
                .try_lock()
                .map_or(true, |mut helped| helped.as_mut().is_some_and(|helped| helped.give_up(server, refused)));
        }
        has_other
    }

    /// The credentials for a host, or why they cannot be read.
    pub(crate) async fn find(&self, host: &str, repository: Option<&str>) -> Result<Option<Login>, String> {
        let file = match &self.source {
            Source::None => return Ok(None),
            Source::Login(login) => return Ok(Some(login.clone())),
            Source::Helper(helper) => return self.ask(helper, server(host)).await,
            Source::File(file) => file.clone(),
        };
        let names = names(host, repository);
        let read = tokio::task::spawn_blocking(move || file::find(&file, &names)).await;
        let Found { helper, login } = read.map_err(|error| error.to_string())??;
        if let Some(helper) = helper
            && let Some(login) = self.ask(&helper, server(host)).await?
        {
            return Ok(Some(login));
        }
        Ok(login)
    }

    /// Runs a program, unless it ran a short time ago. Others that need the same output wait. A run continues if its caller
    /// leaves: the next one needs its output.
    async fn ask(&self, helper: &Helper, server: &str) -> Result<Option<Login>, String> {
        let key = (helper.to_string(), server.to_owned());
        let flight = Arc::clone(self.helped.lock().get_or_insert_with(key, Arc::default, |_| true));
        let mut flight = flight.lock_owned().await;
        if let Some(helped) = flight.as_ref().filter(|helped| helped.until > Instant::now()) {
            return helped.result.clone();
        }
        let (helper, server) = (helper.clone(), server.to_owned());
        let running = tokio::spawn(async move {
            let result = helper.get(&server).await;
            let lifetime = if result.is_ok() { HELPED } else { FAILED };
            let renewed = flight.as_ref().and_then(|last| last.renewed);
            *flight = Some(Helped { server, result: result.clone(), until: Instant::now() + lifetime, renewed });
            result
        });
        running.await.map_err(|error| error.to_string())?
    }
}

/// The name by which a program knows a host.
fn server(host: &str) -> &str {
    if HUB.contains(&host) { HUB_SERVER } else { host }
}

/// The names of a host in files, the most specific one first: podman's files may name a repository or its beginning.
fn names(host: &str, repository: Option<&str>) -> Vec<String> {
    let hosts: &[&str] = if HUB.contains(&host) { &HUB } else { &[host] };
    let mut paths = Vec::new();
    let mut path = repository;
    while let Some(current) = path {
        paths.push(format!("/{current}"));
        path = current.rsplit_once('/').map(|(parent, _)| parent);
    }
    paths.push(String::new());
    paths.iter().flat_map(|path| hosts.iter().map(move |host| format!("{host}{path}"))).collect()
}

#[cfg(test)]
mod tests;
