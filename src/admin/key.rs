//! Operations on API keys.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Call, Failure, Operation};
use crate::identity::accounts::{Error, Key, KeyScope, NewKey, Origin};
use crate::kit::clock::Timestamp;

/// Create an API key and print it once
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct CreateKey {
    /// The owner of the key
    #[arg(long)]
    user: String,
    /// The purpose of the key [default: no label]
    #[arg(long, default_value = "", hide_default_value = true)]
    label: String,
    /// Limit the key to these repositories, such as team/** or team/app:pull [default: all rights of the user]
    #[arg(long = "scope", value_parser = scope)]
    scopes: Vec<String>,
    /// Let the key expire after this time, such as 90d, 12h or 30m [default: never]
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    expires: Option<u64>,
}

/// Parses a scope, so that a mistake is found before the command asks for a password.
pub(crate) fn scope(text: &str) -> Result<String, String> {
    text.parse::<KeyScope>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Parses the lifetime of a key, in seconds.
pub(crate) fn lifetime(text: &str) -> Result<u64, String> {
    match seconds(text)? {
        0 => Err("the lifetime of a key must be at least one second".to_owned()),
        seconds => Ok(seconds),
    }
}

/// Parses `90d`, `12h`, `30m` or `45s` to seconds.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let units = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
    let parsed =
        units.into_iter().find_map(|(unit, factor)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(factor));
    parsed.ok_or_else(|| "expected a time such as 90d, 12h, 30m or 45s".to_owned())
}

/// A key as it is listed. Times are seconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeyView {
    pub(crate) id: Uuid,
    pub(crate) owner: String,
    pub(crate) label: String,
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) created: u64,
    pub(crate) expires: Option<u64>,
    pub(crate) expired: bool,
    pub(crate) last_used: Option<u64>,
}

impl From<Key> for KeyView {
    fn from(key: Key) -> Self {
        let seconds = |at: Timestamp| at.micros() / 1_000_000;
        Self {
            id: key.id,
            owner: key.owner,
            label: key.label,
            scopes: key.scopes,
            created: seconds(key.created),
            expires: key.expires.map(seconds),
            expired: key.expired,
            last_used: key.last_used.map(|used| seconds(used.at)),
        }
    }
}

/// A new key, with its secret.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewApiKey {
    #[serde(flatten)]
    view: KeyView,
    pub(crate) key: String,
    pub(crate) warning: Option<String>,
}

impl Operation for CreateKey {
    type Answer = NewApiKey;

    fn perform(self, call: &Call<'_>) -> Result<NewApiKey, Failure> {
        let expires = self.expires.map(|seconds| call.accounts().now().after(Duration::from_secs(seconds)));
        let scopes = Some(self.scopes).filter(|scopes| !scopes.is_empty());
        let new = NewKey { label: self.label, scopes, expires, maker: None };
        let (plain, key, warning) = call.registry.key_check().create_key(&self.user, new, &Origin::local())?;
        Ok(NewApiKey { view: key.into(), key: plain.reveal().to_owned(), warning })
    }
}

/// List the API keys of one user or of all users
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct ListKeys {
    /// List only the keys of this user [default: all users]
    #[arg(long)]
    user: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeyList {
    pub(crate) keys: Vec<KeyView>,
}

impl Operation for ListKeys {
    type Answer = KeyList;

    fn perform(self, call: &Call<'_>) -> Result<KeyList, Failure> {
        if let Some(name) = &self.user
            && call.accounts().account(name)?.is_none()
        {
            return Err(Error::UserUnknown { name: name.clone() }.into());
        }
        let keys = call.accounts().keys(self.user.as_deref())?;
        Ok(KeyList { keys: keys.into_iter().map(KeyView::from).collect() })
    }
}

/// Revoke an API key, which takes effect immediately
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct RevokeKey {
    /// The ID of the key, as `coracle apikey list` shows it
    #[arg(value_parser = key_id)]
    id: Uuid,
}

fn key_id(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| format!("{text:?} is not an API key ID: see `coracle apikey list`"))
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RevokedKey {
    pub(crate) id: Uuid,
}

impl Operation for RevokeKey {
    type Answer = RevokedKey;

    fn perform(self, call: &Call<'_>) -> Result<RevokedKey, Failure> {
        call.accounts().revoke_key(None, self.id, &Origin::local())?;
        Ok(RevokedKey { id: self.id })
    }
}
