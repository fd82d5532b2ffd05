//! Administration from the machine itself: the commands, and what they do.
//!
//! The same function runs them whether they come through the socket of a running registry or from
//! a command line that has opened the data directory alone. Whoever can do either owns the files.

mod directory;
mod rescue;
pub(crate) mod socket;
mod tag;

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) use crate::content::repository::Purge;
use crate::content::repository::{BackupError, Delays, DryRun, Error as ContentError, Scrubbed, Scrubbing, Stores};
use crate::content::rows::AccountRole;
use crate::identity::accounts::{Account, Accounts, Error, Key, NewKey, NewUser, Origin, Password, UserChange};
use crate::oci::RepositoryName;
use crate::registry::Shared;
pub(crate) use directory::{Handed, Offered};
pub(crate) use rescue::{recover, restore};

/// As many users as are listed at once.
const USERS_MAX: usize = 100_000;

/// What can be done.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub(crate) enum Command {
    AddUser {
        name: String,
        password: Option<Secret>,
        superuser: bool,
        read_only_superuser: bool,
        groups: Vec<String>,
        namespace: Option<String>,
    },
    ListUsers,
    SetPassword {
        name: String,
        password: Option<Secret>,
    },
    SetEnabled {
        name: String,
        enabled: bool,
    },
    SetNamespace {
        name: String,
        namespace: String,
    },
    SetGroups {
        name: String,
        groups: Vec<String>,
    },
    RemoveUser {
        name: String,
    },
    CreateKey {
        user: String,
        label: String,
        scopes: Vec<String>,
        expires_seconds: Option<u64>,
    },
    ListKeys {
        user: Option<String>,
    },
    RevokeKey {
        id: uuid::Uuid,
    },
    RotateSigningKey,
    ExplainAccess {
        user: Option<String>,
        repository: RepositoryName,
    },
    Collect {
        dry_run: bool,
        delay_seconds: Option<u64>,
        #[serde(default)]
        purge_history: Option<Purge>,
    },
    TagHistory {
        repository: RepositoryName,
    },
    RestoreTag {
        repository: RepositoryName,
        tag: Option<String>,
        digest: Option<String>,
    },
    Scrub {
        repair: bool,
        rate: Option<u64>,
    },
    BackUp {
        directory: PathBuf,
        copy: bool,
    },
}

/// Why something was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    Invalid(String),
    Accounts(Error),
    Content(ContentError),
    Backup(BackupError),
    /// As the caller knows the directory.
    Directory(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(what) => f.write_str(what),
            Self::Accounts(error) => error.fmt(f),
            Self::Content(error) => error.fmt(f),
            Self::Backup(error) => error.fmt(f),
            Self::Directory(why) => f.write_str(why),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Accounts(error)
    }
}

impl From<ContentError> for Failure {
    fn from(error: ContentError) -> Self {
        Self::Content(error)
    }
}

/// A password on its way through the socket. Does not print.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The password. Only for whoever is asked to let somebody in with it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Command {
    /// Whether it may take more than a moment.
    pub(crate) const fn is_long(&self) -> bool {
        matches!(self, Self::Collect { .. } | Self::Scrub { .. } | Self::BackUp { .. })
    }

    /// The directory that it works in besides the data directory.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match self {
            Self::BackUp { directory, .. } => Some(directory),
            _ => None,
        }
    }
}

/// What is asked between two steps of something long, and told how long the last one took: it may wait, or
/// break off.
pub(crate) type Rest<'a> = &'a dyn Fn(Duration) -> ControlFlow<()>;

/// Does it. `handed` is the command's directory if another process has named it. Blocks.
pub(crate) fn execute(
    registry: &Arc<Shared>,
    command: Command,
    handed: Option<&Handed>,
    rest: Rest<'_>,
) -> Result<Value, Failure> {
    let accounts = registry.accounts();
    let origin = Origin::local();
    match command {
        Command::AddUser { name, password, superuser, read_only_superuser, groups, namespace } => {
            let role = match (superuser, read_only_superuser) {
                (true, _) => AccountRole::Superuser,
                (false, true) => AccountRole::ReadOnlySuperuser,
                (false, false) => AccountRole::Ordinary,
            };
            let (password, generated) = password_or_generated(password)?;
            let password = accounts.hash_blocking(&password)?;
            accounts
                .add_user(NewUser { name: name.clone(), password, role, groups, email: None, namespace }, &origin)?;
            let mut made = owned_view(accounts, &name)?;
            made["password"] = generated.into();
            Ok(made)
        }
        Command::ListUsers => {
            let users = accounts.users("", USERS_MAX)?;
            let namespaces = accounts.namespaces_of(&users)?;
            let shown = users.iter().zip(namespaces).map(|(user, namespace)| user_view(user, namespace.as_deref()));
            Ok(json!({ "users": shown.collect::<Vec<_>>() }))
        }
        Command::SetPassword { name, password } => {
            let (password, generated) = password_or_generated(password)?;
            let password = accounts.hash_blocking(&password)?;
            let change = UserChange { password: Some(password), ..UserChange::default() };
            accounts.change_user(&name, change, None, &origin)?;
            Ok(json!({ "name": name, "password": generated }))
        }
        Command::SetEnabled { name, enabled } => {
            let change = UserChange { disabled: Some(!enabled), ..UserChange::default() };
            accounts.change_user(&name, change, None, &origin)?;
            Ok(json!({ "name": name, "enabled": enabled }))
        }
        Command::SetNamespace { name, namespace } => {
            accounts.set_namespace(&name, &namespace, &origin)?;
            Ok(owned_view(accounts, &name)?)
        }
        Command::SetGroups { name, groups } => {
            let change = UserChange { groups: Some(groups.clone()), ..UserChange::default() };
            accounts.change_user(&name, change, None, &origin)?;
            Ok(json!({ "name": name, "groups": groups }))
        }
        Command::RemoveUser { name } => {
            accounts.remove_user(&name, &origin)?;
            Ok(json!({ "name": name }))
        }
        Command::CreateKey { user, label, scopes, expires_seconds } => {
            let expires = expires_seconds.map(|seconds| accounts.now().after(Duration::from_secs(seconds)));
            let scopes = Some(scopes).filter(|scopes| !scopes.is_empty());
            let new = NewKey { label, scopes, expires, maker: None };
            let (plain, key, warning) = registry.key_check().create_key(&user, new, &origin)?;
            let mut view = key_view(&key);
            view["key"] = plain.reveal().into();
            view["warning"] = warning.into();
            Ok(view)
        }
        Command::ListKeys { user } => {
            let keys = accounts.keys(user.as_deref())?;
            Ok(json!({ "keys": keys.iter().map(key_view).collect::<Vec<_>>() }))
        }
        Command::RevokeKey { id } => {
            accounts.revoke_key(None, id, &origin)?;
            Ok(json!({ "id": id }))
        }
        Command::RotateSigningKey => {
            let id = registry.tokens().rotate().map_err(Error::from)?;
            accounts.note("rotate_signing_key", &id, &origin)?;
            Ok(json!({ "id": id }))
        }
        Command::ExplainAccess { user, repository } => {
            let explanation = registry.explain(user.as_deref(), &repository)?;
            Ok(json!(explanation))
        }
        Command::Collect { dry_run, delay_seconds, purge_history } => {
            let delay = delay_seconds.map(Duration::from_secs);
            collect(registry.stores(), dry_run, delay, purge_history.as_ref(), rest)
        }
        Command::TagHistory { repository } => tag::history(registry, &repository),
        Command::RestoreTag { repository, tag, digest } => {
            tag::restore(registry, &repository, tag.as_deref(), digest.as_deref())
        }
        Command::Scrub { repair, rate } => {
            let rate = rate.unwrap_or(registry.config().extensions.scrub.rate);
            let scrubbing = Scrubbing { repair, rate, unless_since: None };
            Ok(scrub_view(&registry.stores().scrub(scrubbing, rest)?))
        }
        Command::BackUp { directory, copy } => {
            let path = handed.map_or(directory.as_path(), Handed::path);
            let transferred = registry.stores().back_up(path, rescue::way(copy), rest);
            let transferred = transferred.map_err(|error| match handed {
                Some(handed) => Failure::Directory(handed.translate(&error, &directory)),
                None => Failure::Backup(error),
            })?;
            Ok(rescue::view(&transferred))
        }
    }
}

fn collect(
    stores: &Arc<Stores>,
    dry_run: bool,
    delay: Option<Duration>,
    purge: Option<&Purge>,
    rest: Rest<'_>,
) -> Result<Value, Failure> {
    let delays = delay.map_or(stores.delays(), Delays::all);
    if let Some(name) = purge.and_then(Purge::repository)
        && !stores.repository(name).is_known()?
    {
        return Err(ContentError::RepositoryUnknown { name: name.clone() }.into());
    }
    let DryRun { collected, purged, is_part } = if dry_run {
        stores.dry_run_collection(delays, purge)?
    } else {
        let purged = purge.map_or(Ok(0), |purge| stores.purge_history(purge.repository(), rest))?;
        DryRun { collected: stores.collect(delays, rest)?, purged, is_part: false }
    };
    Ok(json!({
        "dry_run": dry_run,
        "purged": purged,
        "tags": collected.tags,
        "manifests": collected.manifests,
        "links": collected.links,
        "blobs": collected.blobs,
        "bytes": collected.bytes,
        "unreadable": collected.unreadable,
        "is_part": is_part,
    }))
}

fn scrub_view(scrubbed: &Scrubbed) -> Value {
    let damaged = scrubbed.damaged.iter();
    let unreadable = scrubbed.unreadable.iter();
    json!({
        "clean": scrubbed.is_clean(),
        "blobs": scrubbed.blobs,
        "bytes": scrubbed.bytes,
        "damaged": damaged.map(|blob| json!({
            "digest": blob.digest.to_string(), "what": blob.what, "tags": blob.tags,
        })).collect::<Vec<_>>(),
        "unreadable": unreadable.map(|(digest, why)| json!({
            "digest": digest.to_string(), "what": why,
        })).collect::<Vec<_>>(),
        "lost": scrubbed.lost,
        "derived": scrubbed.derived,
        "strays": scrubbed.strays,
        "obstacles": scrubbed.obstacles,
        "ignored": scrubbed.ignored,
        "repaired": scrubbed.repaired,
        "is_part": scrubbed.is_part,
    })
}

/// The password that was given; or a new one, to be shown.
fn password_or_generated(given: Option<Secret>) -> Result<(Password, Option<String>), Error> {
    if let Some(Secret(text)) = given {
        return Ok((Password::chosen(&text)?, None));
    }
    let password = Password::generate();
    let shown = password.reveal().to_owned();
    Ok((password, Some(shown)))
}

/// A user, and the namespace that is the user's own; or why there is none.
fn owned_view(accounts: &Accounts, name: &str) -> Result<Value, Error> {
    let account = accounts.account(name)?.ok_or_else(|| Error::UserUnknown { name: name.to_owned() })?;
    Ok(json!({
        "name": name,
        "namespace": account.namespace,
        "namespace_note": accounts.namespace_note(&account)?,
    }))
}

fn user_view(account: &Account, namespace: Option<&str>) -> Value {
    json!({
        "name": account.name,
        "superuser": account.role == AccountRole::Superuser,
        "read_only_superuser": account.role == AccountRole::ReadOnlySuperuser,
        "enabled": !account.disabled,
        "groups": account.groups,
        "email": account.email,
        "source": account.source(),
        "also_in_htpasswd": account.also_in_file,
        "namespace": namespace,
    })
}

fn key_view(key: &Key) -> Value {
    json!({
        "id": key.id,
        "owner": key.owner,
        "label": key.label,
        "scopes": key.scopes,
        "created": key.created.micros() / 1_000_000,
        "expires": key.expires.map(|at| at.micros() / 1_000_000),
        "expired": key.expired,
        "last_used": key.last_used.as_ref().map(|used| used.at.micros() / 1_000_000),
    })
}
