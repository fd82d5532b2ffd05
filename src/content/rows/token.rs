//! Rows of what tokens are signed with, and of refresh tokens.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::codec::corrupt;
use super::schema::{REFRESH_TOKENS, REFRESH_TOKENS_OF, SIGNING_KEYS};
use super::{Error, Rows, SecretHash, Use, WriteTx, codec};
use crate::kit::clock::Timestamp;

/// A private key. Does not print.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SigningRow {
    /// PKCS #8, version 1.
    pub(crate) key: Vec<u8>,
    pub(crate) created: Timestamp,
    /// From when on nothing is signed with it any more.
    pub(crate) retired: Option<Timestamp>,
}

/// A refresh token: what a client has stored in place of a password, to get tokens with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefreshRow {
    /// What it is named by where its secret is not known.
    pub(crate) id: Uuid,
    pub(crate) user: String,
    /// What the client called itself.
    pub(crate) client: String,
    /// A mark of the password it was given for: with another password it counts no more.
    pub(crate) stamp: u64,
    pub(crate) created: Timestamp,
    pub(crate) last_used: Use,
}

impl Rows {
    /// Every signing key with its id, in no order that means anything.
    pub(crate) fn signing_keys(&self) -> Result<Vec<(String, SigningRow)>, Error> {
        let table = self.table(SIGNING_KEYS)?;
        let mut keys = Vec::new();
        for row in table.range(..)? {
            let (id, row) = row?;
            let corrupt = || corrupt("signing keys", id.value());
            keys.push((id.value().to_owned(), codec::decode(row.value()).ok_or_else(corrupt)?));
        }
        Ok(keys)
    }

    pub(crate) fn refresh_token(&self, hash: &SecretHash) -> Result<Option<RefreshRow>, Error> {
        let table = self.table(REFRESH_TOKENS)?;
        let row = table.get(&hash[..])?;
        row.map(|row| codec::row("refresh tokens", row.value(), "a hash")).transpose()
    }

    /// The refresh tokens of a user, oldest first, each with its hash; of everybody, if no user is named.
    pub(crate) fn refresh_tokens_of(&self, user: Option<&str>) -> Result<Vec<(SecretHash, RefreshRow)>, Error> {
        let index = self.table(REFRESH_TOKENS_OF)?;
        let mut tokens = Vec::new();
        for row in index.range((user.unwrap_or_default(), 0, 0)..)? {
            let (listed, hash) = row?;
            if user.is_some_and(|user| listed.value().0 != user) {
                break;
            }
            let hash: SecretHash = hash.value().try_into().map_err(|_| corrupt("refresh tokens of users", "a hash"))?;
            let row = self.refresh_token(&hash)?.ok_or_else(|| corrupt("refresh tokens", "a listed token"))?;
            tokens.push((hash, row));
        }
        Ok(tokens)
    }
}

impl WriteTx {
    pub(crate) fn put_signing_key(&mut self, id: &str, row: &SigningRow) -> Result<(), Error> {
        self.table_mut(SIGNING_KEYS)?.insert(id, codec::encode(row).as_slice())?;
        Ok(())
    }

    pub(crate) fn remove_signing_key(&mut self, id: &str) -> Result<(), Error> {
        self.table_mut(SIGNING_KEYS)?.remove(id)?;
        Ok(())
    }

    /// Adds a refresh token, or changes one whose user and creation stay.
    pub(crate) fn put_refresh_token(&mut self, hash: &SecretHash, row: &RefreshRow) -> Result<(), Error> {
        self.table_mut(REFRESH_TOKENS)?.insert(&hash[..], codec::encode(row).as_slice())?;
        let listed = (row.user.as_str(), row.created.micros(), row.id.as_u128());
        self.table_mut(REFRESH_TOKENS_OF)?.insert(listed, &hash[..])?;
        Ok(())
    }

    pub(crate) fn remove_refresh_token(&mut self, hash: &SecretHash, row: &RefreshRow) -> Result<(), Error> {
        self.table_mut(REFRESH_TOKENS)?.remove(&hash[..])?;
        self.table_mut(REFRESH_TOKENS_OF)?.remove((row.user.as_str(), row.created.micros(), row.id.as_u128()))?;
        Ok(())
    }
}
