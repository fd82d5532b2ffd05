//! API keys.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::scope::SCOPES_MAX;
use super::{Accounts, Actions, DerivedFrom, Error, KeyScope, Origin, PlainKey};
use crate::content::rows::{KeyRow, SecretHash, Use};
use crate::kit::clock::Timestamp;
use crate::oci::RepositoryName;

/// The longest label, in characters.
pub(crate) const LABEL_MAX: usize = 255;

/// The highest total cost of the scopes of one key, in steps for each character of a name. Listing repositories matches
/// every name against the scopes.
const COST_MAX: usize = 256;

/// A key that ends within this time is one about to end.
const ABOUT_TO_END: Duration = Duration::from_hours(7 * 24);

/// An API key to create.
#[derive(Clone, Debug, Default)]
pub(crate) struct NewKey {
    pub(crate) label: String,
    /// The scopes of the key. `None` grants all rights of the owner.
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) expires: Option<Timestamp>,
    /// The key that creates this one, if any. The new key does not outlive it.
    pub(crate) maker: Option<Arc<KeyGrant>>,
}

/// An API key as shown to its owner.
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

/// The rights of an API key.
#[derive(Debug)]
pub(crate) struct KeyGrant {
    pub(crate) hash: SecretHash,
    pub(crate) id: Uuid,
    pub(crate) owner: String,
    /// The scopes of the key. `None` grants all rights of the owner.
    pub(crate) scopes: Option<Vec<KeyScope>>,
    expires: Option<Timestamp>,
    incarnation: Option<u64>,
}

impl KeyGrant {
    /// The owner that the key was derived from, regardless of the password.
    pub(crate) fn derived_from(&self) -> DerivedFrom {
        DerivedFrom::User(self.incarnation)
    }

    /// The actions that the key allows on a repository. Only a key without scopes may administer.
    pub(crate) fn actions(&self, name: &RepositoryName) -> Actions {
        match &self.scopes {
            None => Actions::ALL,
            Some(scopes) => scopes.iter().fold(Actions::NONE, |actions, scope| actions | scope.adds(actions, name)),
        }
    }

    #[cfg(test)]
    pub(crate) fn test(owner: &str, scopes: Option<Vec<KeyScope>>) -> Self {
        Self { hash: [0; 32], id: Uuid::nil(), owner: owner.to_owned(), scopes, expires: None, incarnation: None }
    }
}

impl Accounts {
    /// Finds a key by the hash of its secret, unless it has expired. Does not check whether its owner may sign in.
    pub(crate) fn key_grant(&self, hash: &SecretHash) -> Result<Option<Arc<KeyGrant>>, Error> {
        let grant = self.caches.keys.get_or_load(hash, self.generation(), || {
            let row = self.database.read(|tx| tx.key(hash))?;
            Ok::<_, Error>(row.map(|row| Arc::new(self.grant(*hash, row))))
        })?;
        Ok(grant.filter(|grant| self.is_alive(grant)))
    }

    /// Finds a key of a user by its id, unless it has expired.
    pub(crate) fn key_grant_by_id(&self, owner: &str, id: Uuid) -> Result<Option<Arc<KeyGrant>>, Error> {
        let grant = self.caches.key_ids.get_or_load(&id, self.generation(), || {
            let rows = self.database.read(|tx| tx.keys_of(Some(owner)))?;
            let row = rows.into_iter().find(|(_, row)| row.id == id);
            Ok::<_, Error>(row.map(|(hash, row)| Arc::new(self.grant(hash, row))))
        })?;
        Ok(grant.filter(|grant| grant.owner == owner && self.is_alive(grant)))
    }

    /// The rights of a stored key. zot's clients send `[]` for "no scopes", so an empty list grants all rights.
    /// Earlier versions accepted scopes that are invalid now. Such a scope grants nothing.
    fn grant(&self, hash: SecretHash, row: KeyRow) -> KeyGrant {
        let valid = |scope: &String| match scope.parse::<KeyScope>() {
            Ok(scope) => Some(scope),
            Err(error) => {
                if self.caches.refused_scopes.get(&row.id, 0).is_none() {
                    self.caches.refused_scopes.put(row.id, 0, ());
                    tracing::warn!(
                        key = %row.id, owner = row.owner, %error,
                        "ignored an invalid scope of an API key; create another key"
                    );
                }
                None
            }
        };
        let scopes = row.scopes.as_deref().filter(|scopes| !scopes.is_empty());
        let scopes = scopes.map(|scopes| scopes.iter().filter_map(valid).collect());
        let KeyRow { id, owner, expires, incarnation, .. } = row;
        KeyGrant { hash, id, owner, scopes, expires, incarnation }
    }

    /// Whether a key has not expired.
    pub(crate) fn is_alive(&self, grant: &KeyGrant) -> bool {
        grant.expires.is_none_or(|expires| self.clock.now() < expires)
    }

    /// Creates a key for a user. Returns its secret, which is not stored.
    pub(crate) fn create_key(&self, owner: &str, new: NewKey, origin: &Origin) -> Result<(PlainKey, Key), Error> {
        let now = self.clock.now();
        let expires = self.check_new_key(&new, now)?;
        let incarnation = self.key_incarnation(owner)?;
        let plain = PlainKey::generate();
        let row = KeyRow {
            id: Uuid::new_v4(),
            owner: owner.to_owned(),
            label: new.label,
            scopes: new.scopes,
            created: now,
            expires,
            creator_agent: origin.agent.clone(),
            last_used: None,
            incarnation: Some(incarnation),
        };
        let id = row.id.to_string();
        let audit = origin.row("create_app_specific_token", owner, &[("id", &id), ("label", &row.label)]);
        let (hash, stored, limit) = (plain.hash(), row.clone(), self.rules.keys_max);
        self.audited_change(audit, move |tx, _| {
            if tx.keys_of(Some(&stored.owner))?.len() >= limit {
                let why = format!("a user has at most {limit} API keys: revoke one that is no longer needed");
                return Err(Error::InvalidKey { why });
            }
            Ok(tx.put_key(&hash, &stored)?)
        })?;
        Ok((plain, self.shown(hash, row)))
    }

    /// The incarnation of a user who gets a key.
    pub(super) fn key_incarnation(&self, owner: &str) -> Result<u64, Error> {
        let unknown = || Error::UserUnknown { name: owner.to_owned() };
        let incarnation = self.account(owner)?.ok_or_else(unknown)?.incarnation;
        if incarnation == 0 {
            let why = "the users of the htpasswd file could not be stored, see the log".to_owned();
            return Err(Error::InvalidKey { why });
        }
        Ok(incarnation)
    }

    /// Checks a new key and returns its expiry.
    pub(super) fn check_new_key(&self, new: &NewKey, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        let invalid = |why: &str| Err(Error::InvalidKey { why: why.to_owned() });
        if new.label.chars().count() > LABEL_MAX || new.label.chars().any(char::is_control) {
            return invalid("a label has at most 255 characters, and no control characters");
        }
        if new.scopes.as_ref().is_some_and(|scopes| scopes.len() > SCOPES_MAX) {
            return invalid("an API key has at most 100 scopes");
        }
        let mut cost = 0;
        for scope in new.scopes.iter().flatten() {
            cost += scope.parse::<KeyScope>()?.pattern().cost();
        }
        if cost > COST_MAX {
            return invalid("the scopes of the API key are too large together: make several keys");
        }
        if new.expires.is_some_and(|expires| expires <= now) {
            return invalid("expirationDate must be in the future");
        }
        let last = new.maker.as_ref().and_then(|maker| maker.expires);
        let expires = match (new.expires, last) {
            (Some(expires), Some(last)) if expires > last => {
                let why = format!("an API key cannot create one that expires after itself, at {last}");
                return Err(Error::InvalidKey { why });
            }
            (expires, last) => expires.or(last).map(|expires| expires.min(Timestamp::LATEST)),
        };
        match self.rules.key_lifetime_max {
            Some(longest) if expires.is_none_or(|expires| expires > now.after(longest)) => {
                let days = longest.as_secs() / 86_400;
                Err(Error::InvalidKey {
                    why: format!("an API key must expire within {days} days here: give an expirationDate"),
                })
            }
            _ => Ok(expires),
        }
    }

    /// The longest lifetime of a key, if it is limited.
    pub(crate) fn key_lifetime_max(&self) -> Option<Duration> {
        self.rules.key_lifetime_max
    }

    /// Lists the keys of a user, or of all users, oldest first.
    pub(crate) fn keys(&self, owner: Option<&str>) -> Result<Vec<Key>, Error> {
        let mut rows = self.database.read(|tx| tx.keys_of(owner))?;
        if let Some(owner) = owner {
            let account = self.account(owner)?;
            rows.retain(|(_, row)| {
                account.as_ref().is_some_and(|of| of.is_current(DerivedFrom::User(row.incarnation)))
            });
        }
        Ok(rows.into_iter().map(|(hash, row)| self.shown(hash, row)).collect())
    }

    /// Counts the keys that end within 7 days. Keys that were created for at most that time do not count, because programs
    /// create and replace them all the time. Reads every key.
    pub(crate) fn count_keys_about_to_end(&self) -> Result<u64, Error> {
        let now = self.clock.now();
        let is_about_to_end = |row: &KeyRow| {
            row.expires
                .is_some_and(|end| end > now && end <= now.after(ABOUT_TO_END) && end > row.created.after(ABOUT_TO_END))
        };
        Ok(self.database.read(|tx| tx.count_keys(is_about_to_end))?)
    }

    /// Revokes a key by its id, of one user or of any user. Takes effect immediately.
    pub(crate) fn revoke_key(&self, owner: Option<&str>, id: Uuid, origin: &Origin) -> Result<(), Error> {
        let found = self.database.read(|tx| tx.keys_of(owner))?.into_iter().find(|(_, row)| row.id == id);
        let (hash, row) = found.ok_or(Error::KeyUnknown)?;
        let text = id.to_string();
        let audit = origin.row("revoke_app_specific_token", &row.owner, &[("id", &text), ("label", &row.label)]);
        self.audited_change(audit, move |tx, _| {
            let row = tx.key(&hash)?.ok_or(Error::KeyUnknown)?;
            Ok(tx.remove_key(&hash, &row)?)
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::identity::accounts::scene;

    /// Stores a key of alice.
    fn put(accounts: &Accounts, scopes: Option<Vec<String>>, expires: Option<Timestamp>) -> SecretHash {
        let hash = PlainKey::generate().hash();
        let row = KeyRow {
            id: Uuid::new_v4(),
            owner: "alice".to_owned(),
            label: String::new(),
            scopes,
            created: accounts.now(),
            expires,
            creator_agent: String::new(),
            last_used: None,
            incarnation: None,
        };
        accounts.database.write(move |tx| tx.put_key(&hash, &row)).unwrap();
        hash
    }

    #[test]
    fn a_key_about_to_end_counts_unless_it_was_created_for_a_short_time() {
        let (_root, accounts) = scene::accounts();
        let days = |days: u64| Duration::from_hours(days * 24);
        for lifetime in [None, Some(3), Some(7), Some(30), Some(30), Some(60)] {
            put(&accounts, None, lifetime.map(|lifetime| accounts.now().after(days(lifetime))));
        }
        for (advanced, expected) in [(0, 0), (22, 0), (2, 2), (5, 2), (2, 0), (25, 1)] {
            accounts.clock.advance(days(advanced));
            assert_eq!(accounts.count_keys_about_to_end().unwrap(), expected, "{advanced} days later");
        }
    }

    /// Version 0.1 accepted scopes that are invalid now. A key with such a scope must neither hang nor grant anything.
    #[test]
    fn a_stored_scope_that_is_invalid_now_grants_nothing() {
        let (_root, accounts) = scene::accounts();
        let name = |text: &str| text.parse::<RepositoryName>().unwrap();
        let bomb = format!("{{{}}}", ",".repeat(27)).repeat(10);
        for (scopes, opens) in [
            (vec![bomb.as_str()], &[][..]),
            (vec!["!secret/**"], &[]),
            (vec!["a/{b", "a/team**"], &[]),
            (vec!["!secret/**", "a/b:pull"], &["a/b"]),
        ] {
            let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
            let hash = put(&accounts, Some(scopes.clone()), None);
            let grant = accounts.key_grant(&hash).unwrap().unwrap();
            assert!(grant.scopes.is_some(), "{scopes:?} became unlimited");
            for open in ["a/b", "a/team", "secret/x", "b"] {
                let expected = if opens.contains(&open) { Actions::PULL } else { Actions::NONE };
                assert_eq!(grant.actions(&name(open)), expected, "{scopes:?} on {open}");
            }
        }
    }
}
