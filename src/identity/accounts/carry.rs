//! API keys, stars and bookmarks that come from another registry. The secrets of the keys stay: only their hashes are
//! known, and both registries hash them in the same way.

use std::collections::HashSet;

use uuid::Uuid;

use super::preference::PREFERENCES_MAX;
use super::{Accounts, Error, NewKey, Origin};
use crate::content::rows::{KeyRow, Preference, Rows, SecretHash, Use};
use crate::kit::clock::Timestamp;
use crate::oci::RepositoryName;

/// The longest `User-Agent` that is kept, in characters.
const AGENT_MAX: usize = 255;

/// An API key of another registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CarriedKey {
    /// SHA-256 of the secret without its prefix.
    pub(crate) hash: SecretHash,
    pub(crate) id: Uuid,
    pub(crate) label: String,
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) created: Option<Timestamp>,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) creator_agent: String,
    pub(crate) last_used: Option<Timestamp>,
}

/// The result for the keys of one user.
#[derive(Debug, Default)]
pub(crate) struct CarriedKeys {
    /// Keys that are new here, and those that were here already.
    pub(crate) new: u64,
    pub(crate) known: u64,
    /// Keys that are not valid any more. They are left out.
    pub(crate) expired: u64,
    /// The labels of others that were left out, and why.
    pub(crate) refused: Vec<(String, String)>,
}

impl Accounts {
    /// Adds API keys of another registry to a user, in one transaction. The rules for new keys hold. A dry run changes
    /// nothing.
    pub(crate) fn carry_keys(
        &self,
        owner: &str,
        keys: Vec<CarriedKey>,
        dry_run: bool,
        origin: &Origin,
    ) -> Result<CarriedKeys, Error> {
        let (incarnation, now) = (self.key_incarnation(owner)?, self.clock.now());
        let (mut carried, mut rows) = (CarriedKeys::default(), Vec::new());
        for key in keys {
            if key.expires.is_some_and(|expires| expires <= now) {
                carried.expired += 1;
                continue;
            }
            let new = NewKey { label: key.label, scopes: key.scopes, expires: key.expires, maker: None };
            match self.check_new_key(&new, now) {
                Ok(expires) => {
                    let row = KeyRow {
                        id: key.id,
                        owner: owner.to_owned(),
                        label: new.label,
                        scopes: new.scopes,
                        created: key.created.map_or(now, |created| created.min(now)),
                        expires,
                        creator_agent: key.creator_agent.chars().take(AGENT_MAX).collect(),
                        last_used: key.last_used.map(|at| Use { at, address: None, agent: String::new() }),
                        incarnation: Some(incarnation),
                    };
                    rows.push((key.hash, row));
                }
                Err(error @ (Error::InvalidKey { .. } | Error::InvalidScope(_))) => {
                    carried.refused.push((new.label, error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        let (owner, limit, origin) = (owner.to_owned(), self.rules.keys_max, origin.clone());
        let sort = move |tx: &Rows| sort_out(tx, &owner, rows, limit, carried);
        if dry_run {
            return self.database.read(sort).map(|(carried, _)| carried);
        }
        self.change(move |tx| {
            let (carried, rows) = sort(tx)?;
            for (hash, row) in rows {
                let id = row.id.to_string();
                let detail = [("id", id.as_str()), ("label", &row.label), ("from", "zot")];
                tx.put_key(&hash, &row)?;
                tx.add_audit(now, &origin.row("create_app_specific_token", &row.owner, &detail))?;
            }
            Ok(carried)
        })
    }

    /// Stars and bookmarks the repositories among these that exist here. Returns how many are new. A dry run changes
    /// nothing.
    pub(crate) fn carry_preferences(
        &self,
        user: &str,
        stars: Vec<RepositoryName>,
        bookmarks: Vec<RepositoryName>,
        dry_run: bool,
    ) -> Result<u64, Error> {
        let user = user.to_owned();
        let new = move |tx: &Rows| {
            let mut new = Vec::new();
            for (preference, names) in [(Preference::Star, stars), (Preference::Bookmark, bookmarks)] {
                let held = tx.preferred(&user, preference, PREFERENCES_MAX)?.len();
                let mut room = PREFERENCES_MAX.saturating_sub(held);
                for name in names {
                    if room > 0 && tx.repository(&name)?.is_some() && !tx.prefers(&user, preference, &name)? {
                        new.push((preference, name));
                        room -= 1;
                    }
                }
            }
            Ok::<_, Error>((user, new))
        };
        if dry_run {
            return self.database.read(new).map(|(_, new)| new.len() as u64);
        }
        self.database.write(move |tx| {
            let (user, new) = new(tx)?;
            for (preference, name) in &new {
                tx.set_preference(&user, *preference, name, true)?;
            }
            Ok(new.len() as u64)
        })
    }
}

/// The keys that must be stored.
fn sort_out(
    tx: &Rows,
    owner: &str,
    rows: Vec<(SecretHash, KeyRow)>,
    limit: usize,
    mut carried: CarriedKeys,
) -> Result<(CarriedKeys, Vec<(SecretHash, KeyRow)>), Error> {
    let held = tx.keys_of(Some(owner))?;
    let mut ids: HashSet<Uuid> = held.iter().map(|(_, row)| row.id).collect();
    let mut new = Vec::new();
    for (hash, mut row) in rows {
        let refused = match tx.key(&hash)? {
            Some(known) if known.owner == owner => {
                carried.known += 1;
                continue;
            }
            Some(_) => Some("another user has it here".to_owned()),
            None if held.len() + new.len() >= limit => Some(format!("a user has at most {limit} API keys")),
            None => None,
        };
        if let Some(why) = refused {
            carried.refused.push((row.label, why));
            continue;
        }
        if !ids.insert(row.id) {
            row.id = Uuid::new_v4();
        }
        new.push((hash, row));
    }
    carried.new = new.len() as u64;
    Ok((carried, new))
}
