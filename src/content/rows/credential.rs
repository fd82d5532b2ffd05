//! Rows of API keys, sessions, refresh tokens and signing keys.
//!
//! A credential is found by the SHA-256 of its secret; the secret is not stored. Each is also listed under its user, in
//! the order of creation.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::schema::{KEYS, KEYS_OF, REFRESH_TOKENS, REFRESH_TOKENS_OF, SESSIONS, SESSIONS_OF, SIGNING_KEYS};
use super::transaction::Definition;
use super::{Error, Rows, WriteTx, codec};
use crate::kit::clock::Timestamp;

/// SHA-256 of a secret.
pub(crate) type SecretHash = [u8; 32];

/// The name of a credential in errors, which must not contain its hash.
const UNNAMED: &str = "of a credential";

/// An API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRow {
    /// The public name of the key.
    pub(crate) id: Uuid,
    pub(crate) owner: String,
    pub(crate) label: String,
    /// The limits of the key. Without a list it has all rights of its owner.
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) created: Timestamp,
    pub(crate) expires: Option<Timestamp>,
    /// The `User-Agent` of the request that created it.
    pub(crate) creator_agent: String,
    pub(crate) last_used: Option<Use>,
    /// The incarnation of the owner: another user who gets the same name later has another one. Keys of earlier
    /// programs lack it.
    #[serde(skip)]
    pub(crate) incarnation: Option<u64>,
}

/// A browser session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionRow {
    /// The public name of the session.
    pub(crate) id: Uuid,
    pub(crate) user: String,
    pub(crate) created: Timestamp,
    /// When the user last proved who they are.
    pub(crate) signed_in: Timestamp,
    pub(crate) last_used: Use,
    /// A fingerprint of the password, or of the federated user, at the sign-in. Sessions of earlier programs lack it.
    #[serde(skip)]
    pub(crate) stamp: Option<u64>,
}

/// A refresh token: a client stores it in place of a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefreshRow {
    /// The public name of the token.
    pub(crate) id: Uuid,
    pub(crate) user: String,
    /// The name that the client gave itself.
    pub(crate) client: String,
    /// A fingerprint of the password that it was issued for. The token stops working when the password changes.
    pub(crate) stamp: u64,
    pub(crate) created: Timestamp,
    pub(crate) last_used: Use,
}

/// The last use of a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Use {
    pub(crate) at: Timestamp,
    pub(crate) address: Option<String>,
    pub(crate) agent: String,
}

/// A private key that signs access tokens. It has no `Debug`, so that it cannot get into a log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SigningRow {
    /// PKCS #8, version 1.
    pub(crate) key: Vec<u8>,
    pub(crate) created: Timestamp,
    /// When it signed for the last time.
    pub(crate) retired: Option<Timestamp>,
}

impl Rows {
    pub(crate) fn key(&self, hash: &SecretHash) -> Result<Option<KeyRow>, Error> {
        let Some(row) = self.get(KEYS, &hash[..], codec::decode_with)? else { return Ok(None) };
        let (row, incarnation) = row.ok_or_else(|| Error::corrupt(KEYS, UNNAMED))?;
        Ok(Some(KeyRow { incarnation, ..row }))
    }

    /// The keys of a user, or of all users, each with its hash: by owner, the oldest first.
    pub(crate) fn keys_of(&self, owner: Option<&str>) -> Result<Vec<(SecretHash, KeyRow)>, Error> {
        self.listed(KEYS_OF, owner, |hash| self.key(hash))
    }

    /// Counts the keys of all users for which `is_counted` holds. Reads every key.
    pub(crate) fn count_keys(&self, is_counted: impl Fn(&KeyRow) -> bool) -> Result<u64, Error> {
        let mut count = 0;
        self.table(KEYS)?.each(.., |_, row| {
            let (row, _) =
                codec::decode_with::<KeyRow, Option<u64>>(row).ok_or_else(|| Error::corrupt(KEYS, UNNAMED))?;
            count += u64::from(is_counted(&row));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(count)
    }

    pub(crate) fn session(&self, hash: &SecretHash) -> Result<Option<SessionRow>, Error> {
        let Some(row) = self.get(SESSIONS, &hash[..], codec::decode_with)? else { return Ok(None) };
        let (row, stamp) = row.ok_or_else(|| Error::corrupt(SESSIONS, UNNAMED))?;
        Ok(Some(SessionRow { stamp, ..row }))
    }

    /// The sessions of a user, or of all users, each with its hash: by user, the oldest first.
    pub(crate) fn sessions_of(&self, user: Option<&str>) -> Result<Vec<(SecretHash, SessionRow)>, Error> {
        self.listed(SESSIONS_OF, user, |hash| self.session(hash))
    }

    pub(crate) fn refresh_token(&self, hash: &SecretHash) -> Result<Option<RefreshRow>, Error> {
        self.row(REFRESH_TOKENS, &hash[..], UNNAMED)
    }

    /// The refresh tokens of a user, or of all users, each with its hash: by user, the oldest first.
    pub(crate) fn refresh_tokens_of(&self, user: Option<&str>) -> Result<Vec<(SecretHash, RefreshRow)>, Error> {
        self.listed(REFRESH_TOKENS_OF, user, |hash| self.refresh_token(hash))
    }

    /// Looks up the credentials in an index of users.
    fn listed<R>(
        &self,
        index: Definition<(&'static str, u64, u128), &'static [u8]>,
        user: Option<&str>,
        find: impl Fn(&SecretHash) -> Result<Option<R>, Error>,
    ) -> Result<Vec<(SecretHash, R)>, Error> {
        let from = (user.unwrap_or_default(), 0, 0);
        self.table(index)?.collect(from.., usize::MAX, |(listed, ..), hash| {
            if user.is_some_and(|user| listed != user) {
                return Ok(None);
            }
            let hash: SecretHash = hash.try_into().map_err(|_| Error::corrupt(index, UNNAMED))?;
            let row = find(&hash)?.ok_or_else(|| Error::corrupt(index, UNNAMED))?;
            Ok(Some((hash, row)))
        })
    }

    /// All signing keys, each with its id, in no particular order.
    pub(crate) fn signing_keys(&self) -> Result<Vec<(String, SigningRow)>, Error> {
        self.named_rows(SIGNING_KEYS)
    }
}

impl WriteTx {
    /// Removes all API keys, sessions and refresh tokens of a user.
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

    /// Adds or changes a key. Its owner and its time of creation must not change.
    pub(crate) fn put_key(&mut self, hash: &SecretHash, row: &KeyRow) -> Result<(), Error> {
        self.insert(KEYS, &hash[..], codec::encode_with(row, &row.incarnation).as_slice())?;
        self.insert(KEYS_OF, (row.owner.as_str(), row.created.micros(), row.id.as_u128()), &hash[..])
    }

    pub(crate) fn remove_key(&mut self, hash: &SecretHash, row: &KeyRow) -> Result<(), Error> {
        self.remove(KEYS, &hash[..])?;
        self.remove(KEYS_OF, (row.owner.as_str(), row.created.micros(), row.id.as_u128()))
    }

    /// Adds or changes a session. Its user and its time of creation must not change.
    pub(crate) fn put_session(&mut self, hash: &SecretHash, row: &SessionRow) -> Result<(), Error> {
        self.insert(SESSIONS, &hash[..], codec::encode_with(row, &row.stamp).as_slice())?;
        self.insert(SESSIONS_OF, (row.user.as_str(), row.created.micros(), row.id.as_u128()), &hash[..])
    }

    pub(crate) fn remove_session(&mut self, hash: &SecretHash, row: &SessionRow) -> Result<(), Error> {
        self.remove(SESSIONS, &hash[..])?;
        self.remove(SESSIONS_OF, (row.user.as_str(), row.created.micros(), row.id.as_u128()))
    }

    /// Adds or changes a refresh token. Its user and its time of creation must not change.
    pub(crate) fn put_refresh_token(&mut self, hash: &SecretHash, row: &RefreshRow) -> Result<(), Error> {
        self.insert_row(REFRESH_TOKENS, &hash[..], row)?;
        self.insert(REFRESH_TOKENS_OF, (row.user.as_str(), row.created.micros(), row.id.as_u128()), &hash[..])
    }

    pub(crate) fn remove_refresh_token(&mut self, hash: &SecretHash, row: &RefreshRow) -> Result<(), Error> {
        self.remove(REFRESH_TOKENS, &hash[..])?;
        self.remove(REFRESH_TOKENS_OF, (row.user.as_str(), row.created.micros(), row.id.as_u128()))
    }

    pub(crate) fn put_signing_key(&mut self, id: &str, row: &SigningRow) -> Result<(), Error> {
        self.insert_row(SIGNING_KEYS, id, row)
    }

    pub(crate) fn remove_signing_key(&mut self, id: &str) -> Result<(), Error> {
        self.remove(SIGNING_KEYS, id)
    }
}
