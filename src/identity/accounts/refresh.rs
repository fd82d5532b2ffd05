//! Refresh tokens: `docker login` stores one instead of the password (OAuth 2.0, RFC 6749, 6).
//!
//! A refresh token only gets access tokens. It ends when its user changes the password, is disabled or removed, or
//! revokes it, and when it is unused for a long time.

use std::sync::Arc;

use uuid::Uuid;

use super::{Account, Accounts, DerivedFrom, Error, Origin, SessionId};
use crate::content::rows::{RefreshRow, SecretHash, Use};
use crate::kit::clock::Timestamp;

/// The largest number of one user. One more replaces the one that was unused for longest.
const REFRESH_TOKENS_MAX: usize = 20;
/// The longest client name, in bytes.
const CLIENT_MAX: usize = 255;

/// A refresh token as shown to its owner.
#[derive(Clone, Debug)]
pub(crate) struct RefreshToken {
    pub(crate) id: Uuid,
    pub(crate) client: String,
    pub(crate) created: Timestamp,
    pub(crate) last_used: Use,
}

/// The part of a refresh token that its access tokens are checked against.
#[derive(Debug)]
pub(crate) struct RefreshGrant {
    user: String,
    stamp: u64,
}

impl RefreshGrant {
    /// The sign-in of its user that the token was derived from.
    pub(crate) fn derived_from(&self) -> DerivedFrom {
        DerivedFrom::SignIn(Some(self.stamp))
    }
}

impl Accounts {
    /// Creates a refresh token for a user who has just entered the password. Returns its secret, which is not stored.
    pub(crate) fn create_refresh_token(
        &self,
        account: &Account,
        client: &str,
        origin: &Origin,
    ) -> Result<(SessionId, Uuid), Error> {
        let (secret, now) = (SessionId::generate(), self.clock.now());
        let row = RefreshRow {
            id: Uuid::new_v4(),
            user: account.name.clone(),
            client: client.chars().filter(|c| !c.is_control()).take(CLIENT_MAX).collect(),
            stamp: self.stamp(account),
            created: now,
            last_used: Use { at: now, address: origin.address.clone(), agent: origin.agent.clone() },
        };
        let id = row.id;
        let (hash, audit) = (secret.hash(), origin.row("create_refresh_token", &row.user, &[("client", &row.client)]));
        self.audited_change(audit, move |tx, _| {
            let mut others = tx.refresh_tokens_of(Some(&row.user))?;
            others.sort_unstable_by_key(|(_, other)| std::cmp::Reverse(other.last_used.at));
            for (other, old) in others.iter().skip(REFRESH_TOKENS_MAX - 1) {
                tx.remove_refresh_token(other, old)?;
            }
            Ok::<_, Error>(tx.put_refresh_token(&hash, &row)?)
        })?;
        Ok((secret, id))
    }

    /// Finds the user and id of a valid refresh token and records its use.
    pub(crate) fn refresh(&self, secret: &SessionId, origin: &Origin) -> Result<Option<(Arc<Account>, Uuid)>, Error> {
        let hash = secret.hash();
        let Some(row) = self.database.read(|tx| tx.refresh_token(&hash))? else { return Ok(None) };
        let derived_from = DerivedFrom::SignIn(Some(row.stamp));
        let account = self.account(&row.user)?.filter(|account| account.accepts(derived_from));
        let Some(account) = account.filter(|_| !self.is_unused(&row)) else { return Ok(None) };
        let now = self.clock.now();
        // A precision of one hour is enough, and access tokens live for minutes.
        if now.since(row.last_used.at) > std::time::Duration::from_hours(1) {
            let used = Use { at: now, address: origin.address.clone(), agent: origin.agent.clone() };
            self.database.write(move |tx| match tx.refresh_token(&hash)? {
                Some(row) => tx.put_refresh_token(&hash, &RefreshRow { last_used: used, ..row }),
                None => Ok(()),
            })?;
        }
        Ok(Some((account, row.id)))
    }

    /// Finds a refresh token of a user by its id. Does not check the sign-in that it was derived from.
    pub(crate) fn refresh_grant_by_id(&self, user: &str, id: Uuid) -> Result<Option<Arc<RefreshGrant>>, Error> {
        let grant = self.caches.refresh_ids.get_or_load(&id, self.generation(), || {
            let rows = self.database.read(|tx| tx.refresh_tokens_of(Some(user)))?;
            let row = rows.into_iter().find(|(_, row)| row.id == id);
            Ok::<_, Error>(row.map(|(_, row)| Arc::new(RefreshGrant { user: row.user, stamp: row.stamp })))
        })?;
        Ok(grant.filter(|grant| grant.user == user))
    }

    fn is_unused(&self, row: &RefreshRow) -> bool {
        self.clock.now().since(row.last_used.at) > self.rules.refresh_idle
    }

    /// Lists the refresh tokens of a user, oldest first.
    pub(crate) fn refresh_tokens(&self, user: &str) -> Result<Vec<RefreshToken>, Error> {
        let mut rows = self.database.read(|tx| tx.refresh_tokens_of(Some(user)))?;
        let account = self.account(user)?;
        rows.retain(|(_, row)| account.as_ref().is_some_and(|of| of.is_current(DerivedFrom::SignIn(Some(row.stamp)))));
        let token = |(_, row): (SecretHash, RefreshRow)| RefreshToken {
            id: row.id,
            client: row.client,
            created: row.created,
            last_used: row.last_used,
        };
        Ok(rows.into_iter().map(token).collect())
    }

    /// Ends one refresh token of a user, or all of them, and returns the number of ended tokens.
    pub(crate) fn end_refresh_tokens(&self, user: &str, id: Option<Uuid>, origin: &Origin) -> Result<usize, Error> {
        let (audit, now) = (origin.row("revoke_refresh_token", user, &[]), self.clock.now());
        let user = user.to_owned();
        self.change(move |tx| {
            let all = tx.refresh_tokens_of(Some(&user))?;
            let ended: Vec<_> = all.into_iter().filter(|(_, row)| id.is_none_or(|id| id == row.id)).collect();
            for (hash, row) in &ended {
                tx.remove_refresh_token(hash, row)?;
            }
            if !ended.is_empty() {
                tx.add_audit(now, &audit)?;
            }
            Ok(ended.len())
        })
    }

    /// Removes refresh tokens that are unused for too long or belong to an earlier state of their user.
    pub(super) fn remove_unused_refresh_tokens(&self) -> Result<(), Error> {
        let rows = self.database.read(|tx| tx.refresh_tokens_of(None))?;
        let unused: Vec<_> = rows
            .into_iter()
            .filter(|(_, row)| {
                self.is_unused(row) || self.is_superseded(&row.user, DerivedFrom::SignIn(Some(row.stamp)))
            })
            .collect();
        if unused.is_empty() {
            return Ok(());
        }
        self.change(move |tx| {
            for (hash, row) in unused {
                tx.remove_refresh_token(&hash, &row)?;
            }
            Ok(())
        })
    }
}
