//! `coracle logout`: revokes the key that `coracle login` has made, and removes it from where docker and podman look.

use std::path::PathBuf;
use std::process::ExitCode;

use super::credentials::{Environment, Logins, places};
use super::login::{Api, Failure, Registry};
use crate::kit::outgoing::{Client, Plain, Settings};

/// Sign out of a registry: revoke the key that `coracle login` has made, and remove it
///
/// The key is revoked first. If the registry cannot be asked to, nothing is removed, so that it can be done later;
/// --local removes the key all the same, which stays good until it ends by itself. A password or a key that something
/// else has put there is removed, and stays good.
///
/// Ends with 1 if it could not be done, or if nobody has signed in there.
#[derive(Debug, clap::Args)]
pub(super) struct Logout {
    /// The registry: its name or its URL; without, the only one that `coracle login` has signed in to
    url: Option<String>,
    /// Remove the key from this file alone
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Only remove the key from this machine, without asking the registry
    #[arg(long)]
    local: bool,
    /// Certificates (PEM) to trust besides those that the system trusts
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Logout {
    pub(super) fn run(self) -> ExitCode {
        let logins = match Logins::read() {
            Ok(logins) => logins,
            Err(error) => return super::failed(&error),
        };
        let registry = match (&self.url, logins.only()) {
            (Some(url), _) => Registry::named(url),
            (None, Some(host)) => Registry::named(host),
            (None, None) => Err("say which registry: coracle login has signed in to none, or to several".to_owned()),
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
        let (mut ours, mut others) = (None, false);
        for place in &places {
            let Some(entry) = place.get(&registry.host).await? else { continue };
            match &login {
                Some(login) if login.is_of(&entry.secret) => ours = Some(entry.secret),
                _ => others = true,
            }
        }
        if let (Some(key), Some(login), false) = (&ours, &login, self.local) {
            // Whoever has signed in over http:// has said then that it may be so.
            let plain = if login.url.starts_with("http://") { Plain::Anywhere } else { Plain::Loopback };
            let ca = self.ca.as_deref().map(super::absolute).transpose()?.or_else(|| login.ca.clone());
            let client = Client::new(Settings { ca, plain, ..Settings::default() });
            let asked = Registry { url: login.url.clone(), host: registry.host.clone() };
            Api::new(client, asked).end_key(&login.key, key).await.map_err(|failure| not_revoked(&failure))?;
        }
        let mut removed = false;
        for place in &places {
            removed |= place.remove(&registry.host).await?;
        }
        logins.remove(&registry.host)?;
        if !removed {
            return Err(format!("nobody has signed in to {} here", registry.host));
        }
        println!("signed out of {}", registry.host);
        match (ours.is_some(), self.local) {
            (true, false) => eprintln!("The key was revoked."),
            (true, true) => eprintln!("The key was not revoked: it stays good until it ends by itself."),
            (false, _) => {}
        }
        if others {
            eprintln!("What else was removed was not made by coracle login here, and stays good.");
        }
        Ok(())
    }
}

fn not_revoked(failure: &Failure) -> String {
    format!("the key was not revoked, and nothing was removed: {failure}; --local removes it from this machine alone")
}
