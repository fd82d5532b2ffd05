//! Rows of users, API keys and sessions.
//!
//! A key and a session are found by the hash of their secret; the secret itself is nowhere. Each is
//! also listed under its owner, in the order of creation.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::codec::corrupt;
use super::schema::{KEYS, KEYS_OF, SESSIONS, SESSIONS_OF, USERS};
use super::{Error, Grantee, Rows, WriteTx, codec};
use crate::kit::clock::Timestamp;

/// SHA-256 of a secret.
pub(crate) type SecretHash = [u8; 32];

/// A user of coracle's own table.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserRow {
    /// The password's argon2id hash, as a PHC string; empty of a user who comes from a provider, and has none.
    pub(crate) password: String,
    /// What the user may do beyond the own repositories.
    pub(crate) role: AccountRole,
    /// A disabled user cannot sign in, and neither can their keys and sessions.
    pub(crate) disabled: bool,
    /// The groups the user belongs to, sorted.
    pub(crate) groups: Vec<String>,
    /// An address for people to write to, if one was given.
    pub(crate) email: Option<String>,
    /// When the user was made.
    pub(crate) created: Timestamp,
}

/// What a user may do beyond what policies and permissions grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AccountRole {
    /// Nothing.
    #[default]
    Ordinary,
    /// See everything, change nothing.
    ReadOnlySuperuser,
    /// Everything.
    Superuser,
}

/// An API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRow {
    /// What the key is named by where its secret is not known.
    pub(crate) id: Uuid,
    pub(crate) owner: String,
    pub(crate) label: String,
    /// What the key is limited to; without a list, the rights of its owner.
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) created: Timestamp,
    /// From when on it is not accepted any more.
    pub(crate) expires: Option<Timestamp>,
    /// The `User-Agent` it was made with.
    pub(crate) creator_agent: String,
    pub(crate) last_used: Option<Use>,
    /// Which owner of this name it was made for; unknown of a key from before that was kept.
    #[serde(skip)]
    pub(crate) incarnation: Option<u64>,
}

/// A browser session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionRow {
    /// What the session is named by where its cookie is not known.
    pub(crate) id: Uuid,
    pub(crate) user: String,
    pub(crate) created: Timestamp,
    /// When the password was last given.
    pub(crate) signed_in: Timestamp,
    pub(crate) last_used: Use,
    /// A mark of the password, or of the federated user, that it was begun with; unknown of a session from before
    /// that was kept.
    #[serde(skip)]
    pub(crate) stamp: Option<u64>,
}

/// When something was used, and from where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Use {
    pub(crate) at: Timestamp,
    pub(crate) address: Option<String>,
    pub(crate) agent: String,
}

impl Rows {
    pub(crate) fn user(&self, name: &str) -> Result<Option<UserRow>, Error> {
        let table = self.table(USERS)?;
        let row = table.get(name)?;
        row.map(|row| codec::row("users", row.value(), name)).transpose()
    }

    /// Whether there is any user at all.
    pub(crate) fn has_users(&self) -> Result<bool, Error> {
        Ok(self.table(USERS)?.range(..)?.next().is_some())
    }

    /// Visits the users behind `after` in byte order, until told to stop.
    pub(crate) fn each_user(
        &self,
        after: &str,
        mut visit: impl FnMut(&str, UserRow) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        use std::ops::Bound::{Excluded, Unbounded};
        let table = self.table(USERS)?;
        for row in table.range((Excluded(after), Unbounded))? {
            let (name, row) = row?;
            let name = name.value();
            let row = codec::row("users", row.value(), name)?;
            if visit(name, row).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The users in a group, by name.
    pub(crate) fn members(&self, group: &str) -> Result<Vec<(String, UserRow)>, Error> {
        let mut members = Vec::new();
        self.each_user("", |name, row| {
            if row.groups.iter().any(|known| known == group) {
                members.push((name.to_owned(), row));
            }
            ControlFlow::Continue(())
        })?;
        Ok(members)
    }

    pub(crate) fn key(&self, hash: &SecretHash) -> Result<Option<KeyRow>, Error> {
        let table = self.table(KEYS)?;
        let row = table.get(&hash[..])?;
        let row = row.map(|row| codec::row_with::<KeyRow, _>("keys", row.value(), "a hash")).transpose()?;
        Ok(row.map(|(row, incarnation)| KeyRow { incarnation, ..row }))
    }

    /// The keys of a user, oldest first, each with its hash; of everybody, ordered by owner, if no
    /// user is named.
    pub(crate) fn keys_of(&self, owner: Option<&str>) -> Result<Vec<(SecretHash, KeyRow)>, Error> {
        let index = self.table(KEYS_OF)?;
        let mut keys = Vec::new();
        for row in index.range((owner.unwrap_or_default(), 0, 0)..)? {
            let (listed, hash) = row?;
            if owner.is_some_and(|owner| listed.value().0 != owner) {
                break;
            }
            let hash: SecretHash = hash.value().try_into().map_err(|_| corrupt("keys of users", "a hash"))?;
            let row = self.key(&hash)?.ok_or_else(|| corrupt("keys", "a listed key"))?;
            keys.push((hash, row));
        }
        Ok(keys)
    }

    pub(crate) fn session(&self, hash: &SecretHash) -> Result<Option<SessionRow>, Error> {
        let table = self.table(SESSIONS)?;
        let row = table.get(&hash[..])?;
        let row = row.map(|row| codec::row_with::<SessionRow, _>("sessions", row.value(), "a hash")).transpose()?;
        Ok(row.map(|(row, stamp)| SessionRow { stamp, ..row }))
    }

    /// The sessions of a user, oldest first, each with its hash; of everybody, if no user is named.
    pub(crate) fn sessions_of(&self, user: Option<&str>) -> Result<Vec<(SecretHash, SessionRow)>, Error> {
        let index = self.table(SESSIONS_OF)?;
        let mut sessions = Vec::new();
        for row in index.range((user.unwrap_or_default(), 0, 0)..)? {
            let (listed, hash) = row?;
            if user.is_some_and(|user| listed.value().0 != user) {
                break;
            }
            let hash: SecretHash = hash.value().try_into().map_err(|_| corrupt("sessions of users", "a hash"))?;
            let row = self.session(&hash)?.ok_or_else(|| corrupt("sessions", "a listed session"))?;
            sessions.push((hash, row));
        }
        Ok(sessions)
    }
}

impl WriteTx {
    /// Makes a user, or changes one.
    pub(crate) fn put_user(&mut self, name: &str, row: &UserRow) -> Result<(), Error> {
        let before = self.user(name)?;
        self.set_address(name, before.and_then(|before| before.email).as_deref(), row.email.as_deref())?;
        self.table_mut(USERS)?.insert(name, codec::encode(row).as_slice())?;
        Ok(())
    }

    /// Removes a user with everything that was given to them: somebody else may get the name.
    pub(crate) fn remove_user(&mut self, name: &str) -> Result<(), Error> {
        let row = self.user(name)?;
        self.set_address(name, row.and_then(|row| row.email).as_deref(), None)?;
        self.table_mut(USERS)?.remove(name)?;
        self.remove_user_data(name)
    }

    /// Removes credentials, permissions and the namespace of a user: whoever gets the name begins without them.
    pub(crate) fn remove_user_data(&mut self, name: &str) -> Result<(), Error> {
        self.remove_credentials(name)?;
        self.remove_federated_user(name)?;
        self.set_namespace(name, None)?;
        self.remove_permissions_of(Grantee::User, name)
    }

    /// Removes everything by which somebody signs in as a user but the password.
    pub(crate) fn remove_credentials(&mut self, name: &str) -> Result<(), Error> {
        for (hash, key) in self.keys_of(Some(name))? {
            self.remove_key(&hash, &key)?;
        }
        for (hash, session) in self.sessions_of(Some(name))? {
            self.remove_session(&hash, &session)?;
        }
        for (hash, token) in self.refresh_tokens_of(Some(name))? {
            self.remove_refresh_token(&hash, &token)?;
        }
        Ok(())
    }

    /// Adds a key, or changes one whose owner and creation stay.
    pub(crate) fn put_key(&mut self, hash: &SecretHash, row: &KeyRow) -> Result<(), Error> {
        self.table_mut(KEYS)?.insert(&hash[..], codec::encode_with(row, &row.incarnation).as_slice())?;
        let listed = (row.owner.as_str(), row.created.micros(), row.id.as_u128());
        self.table_mut(KEYS_OF)?.insert(listed, &hash[..])?;
        Ok(())
    }

    /// Removes a key.
    pub(crate) fn remove_key(&mut self, hash: &SecretHash, row: &KeyRow) -> Result<(), Error> {
        self.table_mut(KEYS)?.remove(&hash[..])?;
        self.table_mut(KEYS_OF)?.remove((row.owner.as_str(), row.created.micros(), row.id.as_u128()))?;
        Ok(())
    }

    /// Adds a session, or changes one whose user and creation stay.
    pub(crate) fn put_session(&mut self, hash: &SecretHash, row: &SessionRow) -> Result<(), Error> {
        self.table_mut(SESSIONS)?.insert(&hash[..], codec::encode_with(row, &row.stamp).as_slice())?;
        let listed = (row.user.as_str(), row.created.micros(), row.id.as_u128());
        self.table_mut(SESSIONS_OF)?.insert(listed, &hash[..])?;
        Ok(())
    }

    /// Removes a session.
    pub(crate) fn remove_session(&mut self, hash: &SecretHash, row: &SessionRow) -> Result<(), Error> {
        self.table_mut(SESSIONS)?.remove(&hash[..])?;
        self.table_mut(SESSIONS_OF)?.remove((row.user.as_str(), row.created.micros(), row.id.as_u128()))?;
        Ok(())
    }
}
