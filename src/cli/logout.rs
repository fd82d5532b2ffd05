//! `coracle logout`: revokes the key that `coracle login` created, and removes it from the files of docker and podman.

use std::path::PathBuf;
use std::process::ExitCode;

use super::credentials::{Environment, Logins, places};
use super::login::{Api, Failure, Registry};
use crate::kit::outgoing::{Client, Plain, Settings};

/// Sign out of a registry: revoke and remove the key that `coracle login` created
///
/// If the registry cannot be reached, nothing is removed, so that you can try again. With --local the key is removed
/// anyway, and stays valid until it expires. A password or key that another program stored for the registry is removed
/// too, and stays valid.
///
/// The exit code is 1 if something failed, or if you are not logged in to the registry.
#[derive(Debug, clap::Args)]
pub(super) struct Logout {
    /// The registry: its name or URL [default: the only registry that you are logged in to]
    url: Option<String>,
    /// Remove the key from this file only [default: the files of docker and podman]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Remove the key from this machine without revoking it
    #[arg(long)]
    local: bool,
    /// Trust the certificates in this PEM file, besides those of the system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Logout {
    pub(super) fn run(self) -> ExitCode {
        let logins = match Logins::read() {
            Ok(logins) => logins,
            Err(error) => return super::failed(&error),
        };
        let hosts: Vec<&str> = logins.hosts().collect();
        let registry = match (&self.url, hosts.as_slice()) {
            (Some(url), _) => Registry::named(url, false),
            (None, [host]) => Registry::named(host, false),
            (None, []) => Err("not logged in to any registry".to_owned()),
            (None, hosts) => Err(format!("logged in to {}: name one", hosts.join(" and "))),
        };
        let registry = match registry {
            Ok(registry) => registry,
            Err(error) => return super::wrong(&error),
        };
        match super::asking(self.sign_out(registry, logins)) {
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(error)) | Err(error) => super::failed(&error),
        }
    }

    async fn sign_out(self, registry: Registry, mut logins: Logins) -> Result<(), String> {
        let login = logins.get(&registry.host).cloned();
        let named = match &self.authfile {
            Some(file) => Some(super::absolute(file)?),
            None => login.as_ref().and_then(|login| login.authfile.clone()),
        };
        let places = places(&Environment::read(), named.as_deref())?;
        let (mut ours, mut has_others) = (None, false);
        for place in &places {
            let Some(entry) = place.get(&registry.host).await? else { continue };
            match &login {
                Some(login) if login.is_of(&entry.secret) => ours = Some(entry.secret),
                _ => has_others = true,
            }
        }
        if let (Some(key), Some(login), false) = (&ours, &login, self.local) {
            // `coracle login` has accepted this http:// URL, so it needs no second permission.
            let plain = if login.url.starts_with("http://") { Plain::Anywhere } else { Plain::Loopback };
            let ca = self.ca.as_deref().map(super::absolute).transpose()?.or_else(|| login.ca.clone());
            let client = Client::new(Settings { ca, plain, ..Settings::default() });
            let registry = Registry { url: login.url.clone(), host: registry.host.clone() };
            Api::new(client, registry).end_key(&login.key, key).await.map_err(|failure| not_revoked(&failure))?;
        }
        let mut removed = false;
        for place in &places {
            removed |= place.remove(&registry.host).await?;
        }
        logins.remove(&registry.host)?;
        if !removed {
            return Err(format!("not logged in to {} here", registry.host));
        }
        println!("signed out of {}", registry.host);
        match (ours.is_some(), self.local) {
            (true, false) => eprintln!("The key was revoked."),
            (true, true) => eprintln!("The key was not revoked: it stays valid until it expires."),
            (false, _) => {}
        }
        if has_others {
            eprintln!("Credentials of another program were removed too, and stay valid.");
        }
        Ok(())
    }
}

fn not_revoked(failure: &Failure) -> String {
    format!("the key was not revoked, and nothing was removed: {failure}; --local only removes it from this machine")
}
