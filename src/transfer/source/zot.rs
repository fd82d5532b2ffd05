//! [`users`]: the API keys, stars and bookmarks of zot's users. zot keeps them in a bbolt database next to the images.
//!
//! Passwords are in the htpasswd file, which the configuration names. Groups are those of the last sign-in, which this
//! registry gets at its own sign-ins.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::Path;

use serde::Deserialize;
use uuid::Uuid;

use super::bolt::{Bolt, BoltError};
use crate::kit::file::open_regular;
use crate::transfer::Problem;

/// The database of zot 2, and its name before.
const FILES: [&str; 2] = ["meta.db", "repo.db"];
const USERS: &str = "UserData";
const KEYS: &str = "UserAPIKeys";
/// The time that Go writes for a missing one.
const NO_TIME: &str = "0001-01-01T00:00:00Z";
/// The most users, and the most keys of all of them.
const ENTRIES_MAX: usize = 100_000;

/// A user of another registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceUser {
    pub(crate) name: String,
    pub(crate) keys: Vec<SourceKey>,
    /// Names of repositories there.
    pub(crate) stars: Vec<String>,
    pub(crate) bookmarks: Vec<String>,
}

/// An API key of another registry. Times are in RFC 3339, or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceKey {
    /// SHA-256 of the secret without its prefix.
    pub(crate) hash: [u8; 32],
    pub(crate) id: Uuid,
    pub(crate) label: String,
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) created: String,
    pub(crate) expires: String,
    pub(crate) creator_agent: String,
    pub(crate) last_used: String,
}

impl SourceUser {
    /// Whether the user has nothing.
    pub(crate) const fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.stars.is_empty() && self.bookmarks.is_empty()
    }
}

/// As zot writes it. Lists may be `null`.
#[derive(Deserialize)]
struct UserData {
    #[serde(rename = "StarredRepos")]
    stars: Option<Vec<String>>,
    #[serde(rename = "BookmarkedRepos")]
    bookmarks: Option<Vec<String>>,
    /// By the hash of the secret.
    #[serde(rename = "APIKeys")]
    keys: Option<BTreeMap<String, KeyData>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct KeyData {
    created_at: String,
    expiration_date: String,
    creator_ua: String,
    last_used: String,
    label: String,
    scopes: Option<Vec<String>>,
    uuid: String,
}

/// Reads the users of a data directory of zot, in byte order of their names. Reports what is damaged.
pub(super) fn users(root: &Path, report: &mut dyn FnMut(Problem)) -> Vec<SourceUser> {
    for name in FILES {
        match open_regular(&root.join(name)) {
            Ok(None) => {}
            Ok(Some(file)) => match Bolt::open(file).and_then(|bolt| read(bolt.as_ref(), name, report)) {
                Ok(users) => return users,
                Err(error) => report(problem(name, error)),
            },
            Err(error) => report(problem(name, format!("cannot be read: {error}"))),
        }
    }
    Vec::new()
}

fn problem(file: &str, why: impl std::fmt::Display) -> Problem {
    Problem::new(file, format!("API keys, stars and bookmarks are not imported: it {why}"))
}

fn read(bolt: Option<&Bolt>, file: &str, report: &mut dyn FnMut(Problem)) -> Result<Vec<SourceUser>, BoltError> {
    let Some(bolt) = bolt else { return Ok(Vec::new()) };
    // zot finds the user of a key here, and the properties of the key at the user. Both must agree.
    let mut owners = HashMap::new();
    bolt.each(KEYS, |hash, owner| {
        if let Ok(owner) = std::str::from_utf8(owner) {
            owners.insert(hash.to_vec(), owner.to_owned());
        }
        if owners.len() < ENTRIES_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let mut users = Vec::new();
    bolt.each(USERS, |name, data| {
        let shown = String::from_utf8_lossy(name).into_owned();
        match (std::str::from_utf8(name), serde_json::from_slice::<UserData>(data)) {
            (Ok(name), Ok(data)) => users.push(user(name, data, &owners, report)),
            (Err(_), _) => report(Problem::new(format!("{file}: {shown}"), "the name is not UTF-8")),
            (_, Err(error)) => report(Problem::new(format!("{file}: {shown}"), format!("is damaged: {error}"))),
        }
        if users.len() < ENTRIES_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    if users.len().max(owners.len()) >= ENTRIES_MAX {
        report(Problem::new(file, format!("has more than {ENTRIES_MAX} users or API keys: the others are left out")));
    }
    Ok(users)
}

fn user(name: &str, data: UserData, owners: &HashMap<Vec<u8>, String>, report: &mut dyn FnMut(Problem)) -> SourceUser {
    let mut keys = Vec::new();
    for (hash, data) in data.keys.unwrap_or_default() {
        let what = format!("the API key {:?} of {name}", data.label);
        if owners.get(hash.as_bytes()).is_none_or(|owner| owner != name) {
            report(Problem::new(what, "has no entry by which zot would find it"));
            continue;
        }
        match key(&hash, data) {
            Some(key) => keys.push(key),
            None => report(Problem::new(what, "is damaged")),
        }
    }
    let (stars, bookmarks) = (data.stars.unwrap_or_default(), data.bookmarks.unwrap_or_default());
    SourceUser { name: name.to_owned(), keys, stars, bookmarks }
}

/// Returns `None` if the key cannot be named.
fn key(hash: &str, data: KeyData) -> Option<SourceKey> {
    let mut digest = [0; 32];
    hex::decode_to_slice(hash, &mut digest).ok()?;
    let id = data.uuid.parse().ok()?;
    let KeyData { created_at, expiration_date, creator_ua, last_used, label, scopes, .. } = data;
    Some(SourceKey {
        hash: digest,
        id,
        label,
        scopes,
        created: time(created_at),
        expires: time(expiration_date),
        creator_agent: creator_ua,
        last_used: time(last_used),
    })
}

/// Go writes a missing time as the first one of the year 1.
fn time(text: String) -> String {
    if text == NO_TIME { String::new() } else { text }
}
