//! Users who come from providers: letting them in, and keeping them out when a provider does not know them any more.
//!
//! What must hold: somebody is who an issuer means by a subject, whatever they are called there today; a name that is
//! somebody's already is never taken over; what a provider says of groups is kept apart from what was given here.

use std::sync::Arc;
use std::time::Duration;

use super::user::{Account, check_user_name};
use super::{Accounts, Error, Origin};
use crate::content::rows::{self, AccountRole, FederatedUserRow, Rows, UserRow, WriteTx};
use crate::kit::clock::Timestamp;

/// As much is shown of a name that cannot be one, in characters.
const NAME_SHOWN: usize = 80;

/// Somebody who has signed in at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FederatedUser {
    /// The provider's name in the configuration.
    pub(crate) provider: String,
    pub(crate) issuer: String,
    /// Whom the issuer means by it: never anybody else.
    pub(crate) subject: String,
    /// What a user that is made for them is called.
    pub(crate) name: String,
    pub(crate) email: Option<String>,
    /// What the provider says of groups.
    pub(crate) groups: Vec<String>,
}

/// Why somebody who has signed in at a provider is not let in.
#[derive(Debug)]
pub(crate) enum NotAdmitted {
    /// The user is disabled here.
    Disabled { name: String },
    /// The name is another's.
    NameTaken { name: String },
    /// No user can have the name.
    InvalidName { name: String },
    /// Our fault.
    Accounts(Error),
}

impl From<Error> for NotAdmitted {
    fn from(error: Error) -> Self {
        Self::Accounts(error)
    }
}

impl From<rows::Error> for NotAdmitted {
    fn from(error: rows::Error) -> Self {
        Self::Accounts(error.into())
    }
}

/// A user whom a provider is to be asked about.
#[derive(Clone, Debug)]
pub(crate) struct DueFederatedUser {
    pub(crate) name: String,
    pub(crate) provider: String,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    /// What the provider is asked with, as it was sealed.
    pub(crate) sealed: Vec<u8>,
}

impl Accounts {
    /// The user of somebody who has just signed in at a provider; a new one, if they were never here. `sealed` is by
    /// what the provider can be asked again.
    pub(crate) fn admit(
        &self,
        who: FederatedUser,
        sealed: Option<Vec<u8>>,
        origin: &Origin,
    ) -> Result<Arc<Account>, NotAdmitted> {
        let now = self.clock.now();
        let in_file = self.htpasswd.as_ref().is_some_and(|file| file.has(&who.name));
        let claim = self.namespace_claim(&who.name);
        let origin = origin.clone();
        let name = self.change(move |tx| {
            let known = tx.user_of_identity(&who.issuer, &who.subject)?;
            let (name, row) = if let Some(name) = known {
                let row = tx.user(&name)?.ok_or_else(|| Error::UserUnknown { name: name.clone() })?;
                (name, row)
            } else {
                let name = who.name.clone();
                if check_user_name(&name).is_err() {
                    let name = name.chars().filter(|c| !c.is_control()).take(NAME_SHOWN).collect();
                    return Err(NotAdmitted::InvalidName { name });
                }
                if in_file || tx.user(&name)?.is_some() {
                    return Err(NotAdmitted::NameTaken { name });
                }
                claim.start_fresh(tx)?;
                tx.add_audit(now, &origin.row("user_create", &name, &[("provider", &who.provider)]))?;
                (name, new_row(now))
            };
            if row.disabled {
                tx.add_audit(now, &origin.row("login_failure", &name, &[("provider", &who.provider)]))?;
                return Ok(Err(name));
            }
            tx.put_user(&name, &UserRow { email: who.email.or(row.email), ..row })?;
            let was_gone = tx.federated_user(&name)?.is_some_and(|before| before.gone.is_some());
            match sealed {
                Some(sealed) => tx.put_federated_token(&name, &sealed)?,
                None if was_gone => tx.remove_federated_token(&name)?,
                None => {}
            }
            let FederatedUser { provider, issuer, subject, groups, .. } = who;
            tx.put_federated_user(
                &name,
                &FederatedUserRow { provider, issuer, subject, groups, checked: now, gone: None },
            )?;
            Ok(Ok(name))
        })?;
        let name = name.map_err(|name| NotAdmitted::Disabled { name })?;
        self.account(&name)?.ok_or_else(|| NotAdmitted::Accounts(Error::UserUnknown { name }))
    }

    /// At most `limit` users whom a provider has not spoken of for `every`, and whose keys or sessions were used
    /// since: those for whom it matters.
    pub(crate) fn due_federated_users(&self, every: Duration, limit: usize) -> Result<Vec<DueFederatedUser>, Error> {
        let now = self.clock.now();
        let users = self.database.read(Rows::federated_users)?;
        let old = users.into_iter().filter(|(_, row)| row.gone.is_none() && now.since(row.checked) >= every);
        let mut due = Vec::new();
        for (name, row) in old {
            if due.len() == limit {
                break;
            }
            let Some(sealed) = self.database.read(|tx| tx.federated_token(&name))? else { continue };
            if self.last_used(&name)?.is_some_and(|used| used > row.checked) {
                let FederatedUserRow { provider, issuer, subject, .. } = row;
                due.push(DueFederatedUser { name, provider, issuer, subject, sealed });
            }
        }
        Ok(due)
    }

    /// When a key or a session of a user was last used.
    fn last_used(&self, name: &str) -> Result<Option<Timestamp>, Error> {
        let (keys, sessions) =
            self.database.read(|tx| Ok::<_, Error>((tx.keys_of(Some(name))?, tx.sessions_of(Some(name))?)))?;
        let of_keys = keys.into_iter().filter_map(|(hash, key)| self.latest_key_use(&hash).or(key.last_used));
        let of_sessions =
            sessions.into_iter().map(|(hash, session)| self.latest_session_use(&hash).unwrap_or(session.last_used));
        Ok(of_keys.chain(of_sessions).map(|used| used.at).max())
    }

    /// Keeps what a provider is to be asked with the next time.
    pub(crate) fn renew_federated_token(
        &self,
        who: DueFederatedUser,
        sealed: Vec<u8>,
    ) -> Result<DueFederatedUser, Error> {
        let (name, before, after) = (who.name.clone(), who.sealed, sealed.clone());
        self.change(move |tx| {
            // Whoever has signed in meanwhile has brought something newer.
            if tx.federated_token(&name)? == Some(before) {
                tx.put_federated_token(&name, &after)?;
            }
            Ok::<_, Error>(())
        })?;
        Ok(DueFederatedUser { sealed, ..who })
    }

    /// A provider knows a user still; of these groups, if it has said.
    pub(crate) fn federated_user_is_known(
        &self,
        who: &DueFederatedUser,
        groups: Option<Vec<String>>,
    ) -> Result<(), Error> {
        let (who, now) = (who.clone(), self.clock.now());
        self.change(move |tx| {
            if let Some(row) = asked_about(tx, &who)? {
                let groups = groups.unwrap_or_else(|| row.groups.clone());
                tx.put_federated_user(&who.name, &FederatedUserRow { groups, checked: now, ..row })?;
            }
            Ok::<_, Error>(())
        })
    }

    /// A provider does not know a user any more: until they sign in again, nothing of theirs counts.
    pub(crate) fn federated_user_is_gone(&self, who: &DueFederatedUser) -> Result<(), Error> {
        let (who, now) = (who.clone(), self.clock.now());
        let audit = Origin::itself().row("user_gone", &who.name, &[("provider", &who.provider)]);
        self.change(move |tx| {
            let Some(row) = asked_about(tx, &who)? else { return Ok(()) };
            tx.remove_federated_token(&who.name)?;
            tx.put_federated_user(&who.name, &FederatedUserRow { gone: Some(now), ..row })?;
            for (hash, session) in tx.sessions_of(Some(&who.name))? {
                tx.remove_session(&hash, &session)?;
            }
            Ok::<_, Error>(tx.add_audit(now, &audit)?)
        })
    }
}

/// The row of a user whom a provider was asked about; none, if they have signed in since, or are somebody else: what was
/// said at a sign-in is newer.
fn asked_about(tx: &WriteTx, who: &DueFederatedUser) -> Result<Option<FederatedUserRow>, Error> {
    if tx.federated_token(&who.name)?.as_ref() != Some(&who.sealed) {
        return Ok(None);
    }
    Ok(tx.federated_user(&who.name)?.filter(|row| row.issuer == who.issuer && row.subject == who.subject))
}

/// A user without a password.
fn new_row(now: Timestamp) -> UserRow {
    UserRow {
        password: String::new(),
        role: AccountRole::Ordinary,
        disabled: false,
        groups: Vec::new(),
        email: None,
        created: now,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::content::blobs::{SystemDisk, Tree};
    use crate::content::rows::Database;
    use crate::identity::accounts::{NewKey, NewUser, Password, Rules};
    use crate::kit::clock::Clock;

    const HOUR: Duration = Duration::from_hours(1);

    fn accounts() -> (tempfile::TempDir, Clock, Accounts) {
        let root = tempfile::tempdir().unwrap();
        let database = Arc::new(Database::open(&Tree::new(root.path()), Arc::new(SystemDisk), false).unwrap());
        let clock = Clock::default();
        let accounts = Accounts::open(database, clock.clone(), Rules::default(), None, None).unwrap();
        (root, clock, accounts)
    }

    fn ann(name: &str) -> FederatedUser {
        FederatedUser {
            provider: "oidc".to_owned(),
            issuer: "https://id.example".to_owned(),
            subject: "1".to_owned(),
            name: name.to_owned(),
            email: Some(name.to_owned()),
            groups: vec!["dev".to_owned()],
        }
    }

    fn admit(accounts: &Accounts, who: FederatedUser, sealed: &[u8]) -> Result<String, NotAdmitted> {
        let account = accounts.admit(who, Some(sealed.to_vec()), &Origin::local())?;
        Ok(account.name.clone())
    }

    #[test]
    fn somebody_is_who_the_issuer_means_and_nobody_else() {
        let (_root, _, accounts) = accounts();
        let origin = Origin::local();
        assert_eq!(admit(&accounts, ann("ann@example.org"), b"1").unwrap(), "ann@example.org");
        assert_eq!(admit(&accounts, ann("new@example.org"), b"2").unwrap(), "ann@example.org");
        let account = accounts.account("ann@example.org").unwrap().unwrap();
        assert_eq!(account.email.as_deref(), Some("new@example.org"));
        // The same name of another subject, of another issuer, and where a part of one belongs to the other.
        for (issuer, subject) in [("https://id.example", "2"), ("https://id.exampl", "e1"), ("https://other", "1")] {
            let other =
                FederatedUser { issuer: issuer.to_owned(), subject: subject.to_owned(), ..ann("ann@example.org") };
            let outcome = admit(&accounts, other, b"3");
            assert!(matches!(outcome, Err(NotAdmitted::NameTaken { .. })), "{issuer} {subject}: {outcome:?}");
        }
        let new = NewUser {
            name: "bob".to_owned(),
            password: accounts.hash_blocking(&Password::new("secret")).unwrap(),
            role: AccountRole::Superuser,
            groups: Vec::new(),
            email: None,
        };
        accounts.add_user(new, &origin).unwrap();
        let bob = FederatedUser { subject: "3".to_owned(), ..ann("bob") };
        assert!(matches!(admit(&accounts, bob, b"3"), Err(NotAdmitted::NameTaken { .. })));
        // Whoever was removed is somebody new, and nothing of theirs is left.
        accounts.remove_user("ann@example.org", &origin).unwrap();
        assert_eq!(admit(&accounts, ann("new@example.org"), b"4").unwrap(), "new@example.org");
        assert!(accounts.account("ann@example.org").unwrap().is_none());
    }

    #[test]
    fn no_password_is_given_to_somebody_of_a_provider() {
        let (_root, _, accounts) = accounts();
        admit(&accounts, ann("ann"), b"1").unwrap();
        let password = Some(accounts.hash_blocking(&Password::new("secret")).unwrap());
        let change = crate::identity::accounts::UserChange { password, ..Default::default() };
        let outcome = accounts.change_user("ann", change, None, &Origin::local());
        assert!(matches!(outcome, Err(Error::UserFederated { .. })), "{outcome:?}");
    }

    #[test]
    fn a_provider_is_asked_about_whoever_was_used_since_and_is_not_gone() {
        let (_root, clock, accounts) = accounts();
        let origin = Origin::local();
        admit(&accounts, ann("ann"), b"1").unwrap();
        let due = || accounts.due_federated_users(HOUR, 10).unwrap();
        clock.advance(2 * HOUR);
        assert!(due().is_empty(), "nobody acts for her");
        let (key, _) = accounts.create_key("ann", NewKey::default(), &origin).unwrap();
        accounts.key_used(&key.hash(), None, "crane");
        assert_eq!(due().len(), 1, "before it is written down");
        accounts.flush().unwrap();
        let asked = due().pop().unwrap();
        assert_eq!((asked.name.as_str(), asked.sealed.as_slice()), ("ann", &b"1"[..]));
        let asked = accounts.renew_federated_token(asked, b"2".to_vec()).unwrap();
        assert_eq!(due().len(), 1, "nothing was said yet");
        accounts.federated_user_is_known(&asked, Some(Vec::new())).unwrap();
        assert!(due().is_empty());
        assert!(accounts.account("ann").unwrap().unwrap().groups.is_empty());

        clock.advance(2 * HOUR);
        accounts.key_used(&key.hash(), None, "crane");
        let asked = due().pop().unwrap();
        assert_eq!(asked.sealed, b"2");
        // She signs in while the provider is asked with the token from before.
        admit(&accounts, ann("ann"), b"3").unwrap();
        accounts.federated_user_is_gone(&asked).unwrap();
        assert!(accounts.account("ann").unwrap().unwrap().may_sign_in());

        clock.advance(2 * HOUR);
        let (session, _) = accounts.start_session(&accounts.account("ann").unwrap().unwrap(), None, &origin).unwrap();
        let asked = due().pop().unwrap();
        accounts.federated_user_is_gone(&asked).unwrap();
        assert!(!accounts.account("ann").unwrap().unwrap().may_sign_in());
        assert!(accounts.session_grant(&session).unwrap().is_none());
        assert!(due().is_empty(), "nobody is asked about her any more");
        admit(&accounts, ann("ann"), b"4").unwrap();
        assert!(accounts.account("ann").unwrap().unwrap().may_sign_in());
        assert!(accounts.session_grant(&session).unwrap().is_none(), "what was ended stays so");
    }
}
