//! API keys.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::scope::SCOPES_MAX;
use super::{Accounts, Actions, Error, KeyScope, Origin, PlainKey};
use crate::clock::Timestamp;
use crate::meta::{AccountRead as _, KeyRow, SecretHash, Use};
use crate::oci::RepositoryName;

/// The longest label, in characters.
pub(crate) const LABEL_MAX: usize = 255;

/// A key to be made.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewKey {
    pub(crate) label: String,
    /// What the key is limited to; nothing, if there is no list.
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) expires: Option<Timestamp>,
}

/// A key as it may be shown.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) id: Uuid,
    pub(crate) owner: String,
    pub(crate) label: String,
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) created: Timestamp,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) expired: bool,
    pub(crate) creator_agent: String,
    pub(crate) last_used: Option<Use>,
}

/// What presenting a key gives.
#[derive(Debug)]
pub(crate) struct KeyGrant {
    pub(crate) hash: SecretHash,
    pub(crate) id: Uuid,
    pub(crate) owner: String,
    /// What the key is limited to; nothing, if there is no list.
    pub(crate) scopes: Option<Vec<KeyScope>>,
    expires: Option<Timestamp>,
}

impl KeyGrant {
    fn of_row(hash: SecretHash, row: KeyRow) -> Result<Self, Error> {
        let scopes = parse_scopes(row.scopes.as_deref())?;
        Ok(Self { hash, id: row.id, owner: row.owner, scopes, expires: row.expires })
    }

    /// What the key lets through on a repository. Saying who may do what needs a key without scopes.
    pub(crate) fn actions(&self, name: &RepositoryName) -> Actions {
        match &self.scopes {
            None => Actions::ALL,
            Some(scopes) => scopes.iter().fold(Actions::NONE, |actions, scope| actions | scope.allows(name)),
        }
    }

    #[cfg(test)]
    pub(crate) fn test(owner: &str, scopes: Option<Vec<KeyScope>>) -> Self {
        Self { hash: [0; 32], id: Uuid::nil(), owner: owner.to_owned(), scopes, expires: None }
    }
}

impl Accounts {
    /// What a key gives, by the hash of its secret; nothing if it is unknown or has expired.
    /// Whether its owner may sign in at all is not looked at.
    pub(crate) fn key_grant(&self, hash: &SecretHash) -> Result<Option<Arc<KeyGrant>>, Error> {
        let generation = self.generation();
        let grant = if let Some(known) = self.remembered.keys.get(hash, generation) {
            known
        } else {
            let Some(row) = self.meta.read(|tx| tx.key(hash))? else { return Ok(None) };
            let grant = Arc::new(KeyGrant::of_row(*hash, row)?);
            self.remembered.keys.put(*hash, generation, Arc::clone(&grant));
            grant
        };
        Ok(Some(grant).filter(|grant| self.is_alive(grant)))
    }

    /// What a key of a user gives, by its id.
    pub(crate) fn key_grant_by_id(&self, owner: &str, id: Uuid) -> Result<Option<Arc<KeyGrant>>, Error> {
        let generation = self.generation();
        let known = self.remembered.key_ids.get(&id, generation);
        let grant = if let Some(known) = known {
            known
        } else {
            let rows = self.meta.read(|tx| tx.keys_of(Some(owner)))?;
            let Some((hash, row)) = rows.into_iter().find(|(_, row)| row.id == id) else { return Ok(None) };
            let grant = Arc::new(KeyGrant::of_row(hash, row)?);
            self.remembered.key_ids.put(id, generation, Arc::clone(&grant));
            grant
        };
        Ok(Some(grant).filter(|grant| grant.owner == owner && self.is_alive(grant)))
    }

    /// Whether a key has not expired.
    pub(crate) fn is_alive(&self, grant: &KeyGrant) -> bool {
        grant.expires.is_none_or(|expires| self.clock.now() < expires)
    }

    /// Makes a key for a user. Its secret is in the answer, and never seen again.
    pub(crate) fn create_key(&self, owner: &str, new: NewKey, origin: &Origin) -> Result<(PlainKey, Key), Error> {
        let now = self.clock.now();
        self.check_new_key(&new, now)?;
        if self.account(owner)?.is_none() {
            return Err(Error::UserUnknown { name: owner.to_owned() });
        }
        let plain = PlainKey::generate();
        let row = KeyRow {
            id: Uuid::new_v4(),
            owner: owner.to_owned(),
            label: new.label,
            scopes: new.scopes,
            created: now,
            expires: new.expires,
            creator_agent: origin.agent.clone(),
            last_used: None,
        };
        let id = row.id.to_string();
        let audit = origin.row("create_app_specific_token", owner, &[("id", &id), ("label", &row.label)]);
        let (hash, stored, limit) = (plain.hash(), row.clone(), self.rules.keys_max);
        self.change(move |tx| {
            if tx.keys_of(Some(&stored.owner))?.len() >= limit {
                let why = format!("a user has at most {limit} API keys: revoke one that is not needed any more");
                return Err(Error::InvalidKey { why });
            }
            tx.put_key(&hash, &stored)?;
            Ok(tx.add_audit(now, &audit)?)
        })?;
        Ok((plain, self.shown(hash, row)))
    }

    fn check_new_key(&self, new: &NewKey, now: Timestamp) -> Result<(), Error> {
        let invalid = |why: &str| Err(Error::InvalidKey { why: why.to_owned() });
        if new.label.chars().count() > LABEL_MAX || new.label.chars().any(char::is_control) {
            return invalid("a label has at most 255 characters, and no control characters");
        }
        if new.scopes.as_ref().is_some_and(|scopes| scopes.len() > SCOPES_MAX) {
            return invalid("an API key has at most 100 scopes");
        }
        parse_scopes(new.scopes.as_deref())?;
        if new.expires.is_some_and(|expires| expires <= now) {
            return invalid("expirationDate must be in the future");
        }
        match self.rules.key_lifetime_max {
            Some(longest) if new.expires.is_none_or(|expires| expires > now.after(longest)) => {
                let days = longest.as_secs() / 86_400;
                Err(Error::InvalidKey {
                    why: format!("an API key must expire within {days} days here: give an expirationDate"),
                })
            }
            _ => Ok(()),
        }
    }

    /// How long a key may live here, if there is a limit.
    pub(crate) fn key_lifetime_max(&self) -> Option<Duration> {
        self.rules.key_lifetime_max
    }

    /// The keys of a user, oldest first; of everybody, if no user is named.
    pub(crate) fn keys(&self, owner: Option<&str>) -> Result<Vec<Key>, Error> {
        let rows = self.meta.read(|tx| tx.keys_of(owner))?;
        Ok(rows.into_iter().map(|(hash, row)| self.shown(hash, row)).collect())
    }

    /// Revokes a key by its id: one of a user, or of anybody if no user is named. Counts for the
    /// very next request.
    pub(crate) fn revoke_key(&self, owner: Option<&str>, id: Uuid, origin: &Origin) -> Result<(), Error> {
        let found = self.meta.read(|tx| tx.keys_of(owner))?.into_iter().find(|(_, row)| row.id == id);
        let (hash, row) = found.ok_or(Error::KeyUnknown)?;
        let text = id.to_string();
        let audit = origin.row("revoke_app_specific_token", &row.owner, &[("id", &text), ("label", &row.label)]);
        let now = self.clock.now();
        self.change(move |tx| {
            let row = tx.key(&hash)?.ok_or(Error::KeyUnknown)?;
            tx.remove_key(&hash, &row)?;
            Ok(tx.add_audit(now, &audit)?)
        })
    }

    fn shown(&self, hash: SecretHash, row: KeyRow) -> Key {
        Key {
            id: row.id,
            owner: row.owner,
            label: row.label,
            scopes: row.scopes,
            created: row.created,
            expires: row.expires,
            expired: row.expires.is_some_and(|expires| expires <= self.clock.now()),
            creator_agent: row.creator_agent,
            last_used: self.latest_key_use(&hash).or(row.last_used),
        }
    }
}

/// An empty list limits to nothing less than no list: zot's clients send `[]` for "no scopes".
fn parse_scopes(scopes: Option<&[String]>) -> Result<Option<Vec<KeyScope>>, Error> {
    match scopes {
        None | Some([]) => Ok(None),
        Some(scopes) => Ok(Some(scopes.iter().map(|scope| scope.parse()).collect::<Result<_, _>>()?)),
    }
}
