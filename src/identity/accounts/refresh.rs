//! Refresh tokens: what `docker login` keeps in place of a password (OAuth 2.0, RFC 6749, 6).
//!
//! One is good for getting tokens and for nothing else, until its user gets another password, is
//! disabled or removed, or ends it; or does not use it for a long time.

use std::sync::Arc;

use uuid::Uuid;

use super::{Account, Accounts, DerivedFrom, Error, Origin, SessionId};
use crate::content::rows::{RefreshRow, SecretHash, Use};
use crate::kit::clock::Timestamp;

/// A user has at most this many: each further one ends the one that was not used for longest.
const REFRESH_TOKENS_MAX: usize = 20;
/// The longest name that a client gives itself, in bytes.
const CLIENT_MAX: usize = 255;

/// A refresh token as its owner may see it.
#[derive(Clone, Debug)]
pub(crate) struct RefreshToken {
    pub(crate) id: Uuid,
    pub(crate) client: String,
    pub(crate) created: Timestamp,
    pub(crate) last_used: Use,
}

/// What a refresh token gives to the access tokens that are made with it.
#[derive(Debug)]
pub(crate) struct RefreshGrant {
    user: String,
    stamp: u64,
}

impl RefreshGrant {
    /// What it was derived from: one password of its user.
    pub(crate) fn derived_from(&self) -> DerivedFrom {
        DerivedFrom::SignIn(Some(self.stamp))
    }
}

impl Accounts {
    /// Makes a refresh token for a user who has just given a password. Its secret is in the answer, and
    /// never seen again.
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
        self.change(move |tx| {
            let mut others = tx.refresh_tokens_of(Some(&row.user))?;
            others.sort_unstable_by_key(|(_, other)| std::cmp::Reverse(other.last_used.at));
            for (other, old) in others.iter().skip(REFRESH_TOKENS_MAX - 1) {
                tx.remove_refresh_token(other, old)?;
            }
            tx.put_refresh_token(&hash, &row)?;
            Ok::<_, Error>(tx.add_audit(now, &audit)?)
        })?;
        Ok((secret, id))
    }

    /// Whose refresh token it is, if it counts, and its id; notes that it was used.
    pub(crate) fn refresh(&self, secret: &SessionId, origin: &Origin) -> Result<Option<(Arc<Account>, Uuid)>, Error> {
        let hash = secret.hash();
        let Some(row) = self.database.read(|tx| tx.refresh_token(&hash))? else { return Ok(None) };
        let account = self.account(&row.user)?.filter(|account| account.may_sign_in());
        let derived_from = DerivedFrom::SignIn(Some(row.stamp));
        let Some(account) = account.filter(|account| account.accepts(derived_from)) else { return Ok(None) };
        if self.is_unused(&row) {
            return Ok(None);
        }
        let now = self.clock.now();
        // Once an hour is enough to know which ones are used, and a token lives for minutes.
        if now.since(row.last_used.at) > std::time::Duration::from_hours(1) {
            let used = Use { at: now, address: origin.address.clone(), agent: origin.agent.clone() };
            self.database.write(move |tx| match tx.refresh_token(&hash)? {
                Some(row) => tx.put_refresh_token(&hash, &RefreshRow { last_used: used, ..row }),
                None => Ok(()),
            })?;
        }
        Ok(Some((account, row.id)))
    }

    /// A refresh token of a user by its id, if it has not been ended. What it was derived from is not looked at.
    pub(crate) fn refresh_grant_by_id(&self, user: &str, id: Uuid) -> Result<Option<Arc<RefreshGrant>>, Error> {
        let generation = self.generation();
        let grant = if let Some(known) = self.remembered.refresh_ids.get(&id, generation) {
            known
        } else {
            let rows = self.database.read(|tx| tx.refresh_tokens_of(Some(user)))?;
            let Some((_, row)) = rows.into_iter().find(|(_, row)| row.id == id) else { return Ok(None) };
            let grant = Arc::new(RefreshGrant { user: row.user, stamp: row.stamp });
            self.remembered.refresh_ids.put(id, generation, Arc::clone(&grant));
            grant
        };
        Ok(Some(grant).filter(|grant| grant.user == user))
    }

    fn is_unused(&self, row: &RefreshRow) -> bool {
        self.clock.now().since(row.last_used.at) > self.rules.refresh_idle
    }

    /// The refresh tokens of a user, oldest first.
    pub(crate) fn refresh_tokens(&self, user: &str) -> Result<Vec<RefreshToken>, Error> {
        let mut rows = self.database.read(|tx| tx.refresh_tokens_of(Some(user)))?;
        let account = self.account(user)?;
        rows.retain(|(_, row)| account.as_ref().is_some_and(|of| of.accepts(DerivedFrom::SignIn(Some(row.stamp)))));
        let token = |(_, row): (SecretHash, RefreshRow)| RefreshToken {
            id: row.id,
            client: row.client,
            created: row.created,
            last_used: row.last_used,
        };
        Ok(rows.into_iter().map(token).collect())
    }

    /// Ends one refresh token of a user, or all of them; says how many have ended.
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

    /// Removes the ones that nobody has used for long.
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
