//! Browser sessions.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha384;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::{Account, Accounts, DerivedFrom, Error, Origin, SessionId};
use crate::content::rows::{SecretHash, SessionRow, Use};
use crate::kit::clock::Timestamp;

/// The rights of a session cookie.
#[derive(Clone, Debug)]
pub(crate) struct SessionGrant {
    pub(crate) hash: SecretHash,
    pub(crate) id: Uuid,
    pub(crate) user: String,
    /// When the password was last entered.
    pub(crate) signed_in: Timestamp,
    created: Timestamp,
    /// The last use that is written to the database.
    used: Timestamp,
    stamp: Option<u64>,
}

impl SessionGrant {
    fn new(hash: SecretHash, row: &SessionRow) -> Self {
        let SessionRow { id, ref user, created, signed_in, ref last_used, stamp } = *row;
        Self { hash, id, user: user.clone(), signed_in, created, used: last_used.at, stamp }
    }

    /// The sign-in of its user that the session was derived from.
    pub(crate) fn derived_from(&self) -> DerivedFrom {
        DerivedFrom::SignIn(self.stamp)
    }

    /// A session without a stamp.
    #[cfg(test)]
    pub(crate) fn test(user: &str, signed_in: Timestamp) -> Self {
        let user = user.to_owned();
        Self { hash: [0; 32], id: Uuid::nil(), user, signed_in, created: signed_in, used: signed_in, stamp: None }
    }
}

/// A session as shown to its owner.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) id: Uuid,
    pub(crate) created: Timestamp,
    pub(crate) last_used: Use,
}

/// A user and one of the user's sessions.
type UserSession = (Arc<Account>, Arc<SessionGrant>);

impl Accounts {
    /// Finds a session by its cookie, unless it has expired. Does not check whether its user may sign in.
    pub(crate) fn session_grant(&self, id: &SessionId) -> Result<Option<Arc<SessionGrant>>, Error> {
        let hash = id.hash();
        let grant = self.caches.sessions.get_or_load(&hash, self.generation(), || {
            let row = self.database.read(|tx| tx.session(&hash))?;
            Ok::<_, Error>(row.map(|row| Arc::new(SessionGrant::new(hash, &row))))
        })?;
        Ok(grant.filter(|grant| self.is_alive_session(grant)))
    }

    /// Finds a session by its cookie, with its user, if the user may sign in.
    pub(crate) fn session(&self, id: &SessionId) -> Result<Option<UserSession>, Error> {
        let Some(grant) = self.session_grant(id)? else { return Ok(None) };
        let account = self.account(&grant.user)?.filter(|account| account.accepts(grant.derived_from()));
        Ok(account.map(|account| (account, grant)))
    }

    /// Whether a session has not expired.
    pub(crate) fn is_alive_session(&self, grant: &SessionGrant) -> bool {
        !self.has_ended(&grant.hash, grant.created, grant.used)
    }

    fn has_ended(&self, hash: &SecretHash, created: Timestamp, used: Timestamp) -> bool {
        let now = self.clock.now();
        let idle = |since: Timestamp| now.since(since) >= self.rules.session_idle;
        now.since(created) >= self.rules.session_lifetime
            || idle(used) && self.latest_session_use(hash).is_none_or(|used| idle(used.at))
    }

    /// Starts a session for a user who has just signed in, and ends the session of the cookie that the client sent.
    /// The id is always new, so that an attacker cannot plant a known one.
    pub(crate) fn start_session(
        &self,
        account: &Account,
        replaced: Option<&SessionId>,
        origin: &Origin,
    ) -> Result<(SessionId, SessionGrant), Error> {
        let replaced = replaced.map(|id| self.session(id)).transpose()?.flatten();
        let (id, now) = (SessionId::generate(), self.clock.now());
        let row = SessionRow {
            id: Uuid::new_v4(),
            user: account.name.clone(),
            created: now,
            signed_in: now,
            last_used: Use { at: now, address: origin.address.clone(), agent: origin.agent.clone() },
            stamp: Some(self.stamp(account)),
        };
        let grant = SessionGrant::new(id.hash(), &row);
        let provider = account.federated.as_ref().map(|federated| ("provider", federated.provider.as_str()));
        let (hash, audit) = (id.hash(), origin.row("login_success", &account.name, provider.as_slice()));
        let origin = origin.clone();
        self.audited_change(audit, move |tx, now| {
            if let Some((user, old)) = replaced
                && let Some(row) = tx.session(&old.hash)?
            {
                tx.remove_session(&old.hash, &row)?;
                tx.add_audit(now, &origin.row("logout_success", &user.name, &[]))?;
            }
            Ok::<_, Error>(tx.put_session(&hash, &row)?)
        })?;
        Ok((id, grant))
    }

    /// Records that the user entered the password again.
    pub(crate) fn refresh_session(&self, hash: SecretHash, origin: &Origin) -> Result<Timestamp, Error> {
        let (now, origin) = (self.clock.now(), origin.clone());
        self.change(move |tx| {
            let mut row = tx.session(&hash)?.ok_or(Error::SessionUnknown)?;
            row.signed_in = now;
            tx.put_session(&hash, &row)?;
            tx.add_audit(now, &origin.row("login_success", &row.user, &[]))?;
            Ok(now)
        })
    }

    /// Lists the sessions of a user that have not ended, oldest first.
    pub(crate) fn sessions(&self, user: &str) -> Result<Vec<Session>, Error> {
        let rows = self.database.read(|tx| tx.sessions_of(Some(user)))?;
        let account = self.account(user)?;
        let is_current = |row: &SessionRow| {
            account.as_ref().is_some_and(|account| account.is_current(DerivedFrom::SignIn(row.stamp)))
        };
        let live = rows
            .into_iter()
            .filter(|(hash, row)| is_current(row) && !self.has_ended(hash, row.created, row.last_used.at));
        Ok(live
            .map(|(hash, row)| Session {
                id: row.id,
                created: row.created,
                last_used: self.latest_session_use(&hash).unwrap_or(row.last_used),
            })
            .collect())
    }

    /// Ends the sessions of a user that `which` selects and returns their number.
    pub(crate) fn end_sessions(
        &self,
        user: &str,
        which: impl Fn(&SecretHash, Uuid) -> bool + Send + 'static,
        origin: &Origin,
    ) -> Result<usize, Error> {
        let (audit, now, user) = (origin.row("logout_success", user, &[]), self.clock.now(), user.to_owned());
        self.change(move |tx| {
            let sessions = tx.sessions_of(Some(&user))?;
            let ended: Vec<_> = sessions.into_iter().filter(|(hash, row)| which(hash, row.id)).collect();
            for (hash, row) in &ended {
                tx.remove_session(hash, row)?;
            }
            if !ended.is_empty() {
                tx.add_audit(now, &audit)?;
            }
            Ok(ended.len())
        })
    }

    /// Whether a credential belongs to an earlier state of a user. Credentials of unknown users are kept, because the
    /// htpasswd file may be missing by mistake.
    pub(super) fn is_superseded(&self, user: &str, derived_from: DerivedFrom) -> bool {
        let account = self.account(user).ok().flatten();
        account.is_some_and(|account| account.incarnation != 0 && !account.is_current(derived_from))
    }

    /// Removes sessions that have ended and audit rows that are too old.
    pub(super) fn remove_expired(&self) -> Result<(), Error> {
        let rows = self.database.read(|tx| tx.sessions_of(None))?;
        let ended: Vec<_> = rows
            .into_iter()
            .filter(|(hash, row)| {
                self.has_ended(hash, row.created, row.last_used.at)
                    || self.is_superseded(&row.user, DerivedFrom::SignIn(row.stamp))
            })
            .collect();
        if !ended.is_empty() {
            self.change(move |tx| {
                for (hash, row) in ended {
                    tx.remove_session(&hash, &row)?;
                }
                Ok::<_, Error>(())
            })?;
        }
        self.trim_audit()
    }

    /// The CSRF token for a session cookie: 64 characters that only this registry can compute. It changes when the
    /// password is entered, and no row is stored for an anonymous client.
    pub(crate) fn csrf_token(&self, cookie: &SessionId, signed_in: Option<Timestamp>) -> String {
        let mut mac = Hmac::<Sha384>::new_from_slice(self.csrf_key.bytes()).expect("a key of any length is fine");
        mac.update(&cookie.hash());
        mac.update(&signed_in.map_or(0, Timestamp::micros).to_be_bytes());
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }

    /// Compares a CSRF token in constant time.
    pub(crate) fn is_csrf_token(&self, token: &str, cookie: &SessionId, signed_in: Option<Timestamp>) -> bool {
        self.csrf_token(cookie, signed_in).as_bytes().ct_eq(token.as_bytes()).into()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::content::rows::AccountRole;
    use crate::identity::accounts::{Rules, scene};

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn a_session_lives_while_it_is_used_and_no_longer_than_its_lifetime() {
        let rules = Rules { session_idle: 2 * HOUR, session_lifetime: 10 * HOUR, ..Rules::default() };
        let (_root, accounts) = scene::accounts_with(rules);
        let (used, _) =
            accounts.start_session(&Account::test("alice", AccountRole::Ordinary), None, &Origin::local()).unwrap();
        let (unused, _) =
            accounts.start_session(&Account::test("alice", AccountRole::Ordinary), None, &Origin::local()).unwrap();
        // Longer in total than the idle limit. Every other use has been written before the next look-up.
        for round in 0..6 {
            let grant = accounts.session_grant(&used).unwrap().unwrap_or_else(|| panic!("it has ended: {round}"));
            accounts.session_used(&grant.hash, None, "test");
            if round % 2 == 0 {
                accounts.flush_usage().unwrap();
            }
            assert_eq!(accounts.session_grant(&unused).unwrap().is_some(), round < 2, "the unused session: {round}");
            accounts.clock.advance(HOUR * 3 / 2);
        }
        assert!(accounts.session_grant(&used).unwrap().is_some());
        accounts.clock.advance(HOUR);
        assert!(accounts.session_grant(&used).unwrap().is_none());
    }

    #[test]
    fn an_ended_session_is_not_cached() {
        let (_root, accounts) = scene::accounts();
        let (id, grant) =
            accounts.start_session(&Account::test("alice", AccountRole::Ordinary), None, &Origin::local()).unwrap();
        assert!(accounts.session_grant(&id).unwrap().is_some());
        accounts.end_sessions("alice", move |hash, _| *hash == grant.hash, &Origin::local()).unwrap();
        assert!(accounts.session_grant(&id).unwrap().is_none());
    }
}
