//! `coracle logout`: revokes the key that `coracle login` created, and removes it from the files of docker and podman.

use std::path::PathBuf;
use std::process::ExitCode;

use super::Error;
use super::credentials::{Environment, LoginRecords, credential_files};
use super::login::{Api, RemoteRegistry};
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
    pub(super) fn run(self) -> Result<ExitCode, Error> {
        let logins = LoginRecords::read()?;
        let hosts: Vec<&str> = logins.hosts().collect();
        let registry = match (&self.url, hosts.as_slice()) {
            (Some(url), _) => RemoteRegistry::named(url, false),
            (None, [host]) => RemoteRegistry::named(host, false),
            (None, []) => Err(Error::usage("not logged in to any registry")),
            (None, hosts) => Err(Error::usage(format!("logged in to {}: name one", hosts.join(" and ")))),
        };
        super::block_on(self.sign_out(registry?, logins))?;
        Ok(ExitCode::SUCCESS)
    }

    async fn sign_out(self, registry: RemoteRegistry, mut logins: LoginRecords) -> Result<(), Error> {
        let login = logins.get(&registry.host).cloned();
        let named = match &self.authfile {
            Some(file) => Some(super::absolute(file)?),
            None => login.as_ref().and_then(|login| login.authfile.clone()),
        };
        let files = credential_files(&Environment::read(), named.as_deref())?;
        let (mut ours, mut has_others) = (None, false);
        for file in &files {
            let Some(entry) = file.get(&registry.host).await? else { continue };
            match &login {
                Some(login) if login.has_key(&entry.secret) => ours = Some(entry.secret),
                _ => has_others = true,
            }
        }
        if let (Some(key), Some(login), false) = (&ours, &login, self.local) {
            // `coracle login` has accepted this http:// URL, so it needs no second permission.
            let plain = if login.url.starts_with("http://") { Plain::Anywhere } else { Plain::Loopback };
            let ca = self.ca.as_deref().map(super::absolute).transpose()?.or_else(|| login.ca.clone());
            let client = Client::new(Settings { ca, plain, ..Settings::default() });
            let registry = RemoteRegistry { url: login.url.clone(), host: registry.host.clone() };
            Api::new(client, registry).end_key(&login.key, key).await.map_err(|failure| {
                Error::failed(format!(
                    "the key was not revoked, and nothing was removed: {failure}; --local only removes it from this machine"
                ))
            })?;
        }
        let mut removed = false;
        for file in &files {
            removed |= file.remove(&registry.host).await?;
        }
        logins.remove(&registry.host)?;
        if !removed {
            return Err(Error::failed(format!("not logged in to {} here", registry.host)));
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
