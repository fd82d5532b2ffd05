//! Federated users: their sign-in, and the check whether their identity provider still knows them.
//!
//! Issuer and subject identify a federated user, also after a change of name. A new user never takes over an existing
//! name. Groups that the provider names are stored apart from groups that were assigned here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::user::{Account, check_user_name};
use super::{Accounts, Error, Origin};
use crate::content::rows::{self, AccountRole, FederatedUserRow, Rows, UserRow, WriteTx};
use crate::kit::clock::Timestamp;

/// How many characters of an invalid name are shown.
const NAME_SHOWN: usize = 80;

/// A user who has signed in at an identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FederatedUser {
    /// The provider's name in the configuration.
    pub(crate) provider: String,
    pub(crate) issuer: String,
    /// The issuer's identifier of the user, which is never reused.
    pub(crate) subject: String,
    /// The name for a new user.
    pub(crate) name: String,
    pub(crate) email: Option<String>,
    /// The groups that the provider names, sorted.
    pub(crate) groups: Vec<String>,
}

/// Why a user who has signed in at an identity provider is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAdmitted {
    #[error("the user {name} is disabled")]
    Disabled { name: String },
    #[error("the name {name} belongs to another user")]
    NameTaken { name: String },
    #[error("the name {name} is invalid")]
    InvalidName { name: String },
    /// A failure of the registry, not of the client.
    #[error(transparent)]
    Accounts(#[from] Error),
}

impl From<rows::Error> for NotAdmitted {
    fn from(error: rows::Error) -> Self {
        Self::Accounts(error.into())
    }
}

/// A user whom the identity provider must confirm.
#[derive(Clone, Debug)]
pub(crate) struct DueFederatedUser {
    pub(crate) name: String,
    pub(crate) provider: String,
    pub(crate) issuer: String,
    pub(crate) subject: String,
    /// The sealed token for the question to the provider.
    pub(crate) sealed: Vec<u8>,
}

impl Accounts {
    /// Finds or creates the user for a sign-in at an identity provider. `sealed` is the token for later questions to
    /// the provider.
    pub(crate) fn admit(
        &self,
        who: FederatedUser,
        sealed: Option<Vec<u8>>,
        origin: &Origin,
    ) -> Result<Arc<Account>, NotAdmitted> {
        let now = self.clock.now();
        let in_file = self.htpasswd.as_ref().is_some_and(|file| file.has(&who.name));
        let has_file = self.htpasswd.is_some();
        let claim = self.namespace_claim(&who.name);
        let origin = origin.clone();
        let name = self.change(move |tx| {
            let (name, row) = if let Some(name) = tx.user_of_identity(&who.issuer, &who.subject)? {
                let row = tx.user(&name)?.ok_or_else(|| Error::UserUnknown { name: name.clone() })?;
                (name, row)
            } else {
                let name = who.name.clone();
                if check_user_name(&name).is_err() {
                    let name = name.chars().filter(|c| !c.is_control()).take(NAME_SHOWN).collect();
                    return Err(NotAdmitted::InvalidName { name });
                }
                // A user who is missing from the htpasswd file for a moment keeps the name.
                let was_in_file = tx.file_user(&name)?.is_some_and(|row| has_file || row.gone_since.is_none());
                if in_file || was_in_file || tx.user(&name)?.is_some() {
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

    /// Lists at most `limit` users of each provider whom it has not confirmed for as long as `every` says for it; `None` for
    /// never. Begins after the name that `last` has for the provider, and then with the first. Users whose keys and sessions
    /// were not used since are skipped.
    pub(crate) fn due_federated_users(
        &self,
        every: impl Fn(&str) -> Option<Duration>,
        last: &HashMap<String, String>,
        limit: usize,
    ) -> Result<Vec<DueFederatedUser>, Error> {
        let now = self.clock.now();
        let users = self.database.read(Rows::federated_users)?;
        let is_old = |row: &FederatedUserRow| {
            row.gone.is_none() && every(&row.provider).is_some_and(|every| now.since(row.checked) >= every)
        };
        let mut old: Vec<_> = users.into_iter().filter(|(_, row)| is_old(row)).collect();
        // They are in the order of their names, and stay so.
        old.sort_by_key(|(name, row)| last.get(&row.provider).is_some_and(|last| name <= last));
        let mut due = Vec::<DueFederatedUser>::new();
        let mut counts = HashMap::<String, usize>::new();
        for (name, row) in old {
            let count = counts.entry(row.provider.clone()).or_default();
            if *count == limit {
                continue;
            }
            let Some(sealed) = self.database.read(|tx| tx.federated_token(&name))? else { continue };
            if self.last_used(&name)?.is_some_and(|used| used > row.checked) {
                *count += 1;
                let FederatedUserRow { provider, issuer, subject, .. } = row;
                due.push(DueFederatedUser { name, provider, issuer, subject, sealed });
            }
        }
        Ok(due)
    }

    /// The last use of any key or session of a user.
    fn last_used(&self, name: &str) -> Result<Option<Timestamp>, Error> {
        let (keys, sessions) =
            self.database.read(|tx| Ok::<_, Error>((tx.keys_of(Some(name))?, tx.sessions_of(Some(name))?)))?;
        let of_keys = keys.into_iter().filter_map(|(hash, key)| self.latest_key_use(&hash).or(key.last_used));
        let of_sessions =
            sessions.into_iter().map(|(hash, session)| self.latest_session_use(&hash).unwrap_or(session.last_used));
        Ok(of_keys.chain(of_sessions).map(|used| used.at).max())
    }

    /// Stores a new token for questions to the provider.
    pub(crate) fn renew_federated_token(
        &self,
        who: DueFederatedUser,
        sealed: Vec<u8>,
    ) -> Result<DueFederatedUser, Error> {
        let (name, before, after) = (who.name.clone(), who.sealed, sealed.clone());
        self.change(move |tx| {
            // A sign-in in the meantime has stored a newer one.
            if tx.federated_token(&name)? == Some(before) {
                tx.put_federated_token(&name, &after)?;
            }
            Ok::<_, Error>(())
        })?;
        Ok(DueFederatedUser { sealed, ..who })
    }

    /// Records that the provider still knows a user, and the user's groups if the provider named them.
    pub(crate) fn federated_user_is_known(
        &self,
        who: &DueFederatedUser,
        groups: Option<Vec<String>>,
    ) -> Result<(), Error> {
        let (who, now) = (who.clone(), self.clock.now());
        self.change(move |tx| {
            if let Some(row) = current_row(tx, &who)? {
                let groups = groups.unwrap_or_else(|| row.groups.clone());
                tx.put_federated_user(&who.name, &FederatedUserRow { groups, checked: now, ..row })?;
            }
            Ok::<_, Error>(())
        })
    }

    /// Records that the provider no longer knows a user. The user is refused until the next sign-in there.
    pub(crate) fn federated_user_is_gone(&self, who: &DueFederatedUser) -> Result<(), Error> {
        let (who, now) = (who.clone(), self.clock.now());
        let audit = Origin::itself().row("user_gone", &who.name, &[("provider", &who.provider)]);
        self.change(move |tx| {
            let Some(row) = current_row(tx, &who)? else { return Ok(()) };
            tx.remove_federated_token(&who.name)?;
            tx.put_federated_user(&who.name, &FederatedUserRow { gone: Some(now), ..row })?;
            for (hash, session) in tx.sessions_of(Some(&who.name))? {
                tx.remove_session(&hash, &session)?;
            }
            Ok::<_, Error>(tx.add_audit(now, &audit)?)
        })
    }
}

/// The row of the user that the provider's answer is about. `None` if the user has signed in since, because the sign-in
/// is newer, or if the name now belongs to another user.
fn current_row(tx: &WriteTx, who: &DueFederatedUser) -> Result<Option<FederatedUserRow>, Error> {
    if tx.federated_token(&who.name)?.as_ref() != Some(&who.sealed) {
        return Ok(None);
    }
    Ok(tx.federated_user(&who.name)?.filter(|row| row.issuer == who.issuer && row.subject == who.subject))
}

/// A user without a password.
pub(super) fn new_row(now: Timestamp) -> UserRow {
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
    use crate::identity::accounts::{NewKey, NewUser, Password, scene};

    const HOUR: Duration = Duration::from_hours(1);

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
    fn issuer_and_subject_identify_a_user() {
        let (_root, accounts) = scene::accounts();
        let origin = Origin::local();
        assert_eq!(admit(&accounts, ann("ann@example.org"), b"1").unwrap(), "ann@example.org");
        assert_eq!(admit(&accounts, ann("new@example.org"), b"2").unwrap(), "ann@example.org");
        let account = accounts.account("ann@example.org").unwrap().unwrap();
        assert_eq!(account.email.as_deref(), Some("new@example.org"));
        // The same name with another subject, with another issuer, and with the same concatenation of both.
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
            namespace: None,
        };
        accounts.add_user(new, &origin).unwrap();
        let bob = FederatedUser { subject: "3".to_owned(), ..ann("bob") };
        assert!(matches!(admit(&accounts, bob, b"3"), Err(NotAdmitted::NameTaken { .. })));
        // After removal, the same identity is a new user without the earlier one's data.
        accounts.remove_user("ann@example.org", &origin).unwrap();
        assert_eq!(admit(&accounts, ann("new@example.org"), b"4").unwrap(), "new@example.org");
        assert!(accounts.account("ann@example.org").unwrap().is_none());
    }

    #[test]
    fn a_federated_user_cannot_get_a_password() {
        let (_root, accounts) = scene::accounts();
        admit(&accounts, ann("ann"), b"1").unwrap();
        let password = Some(accounts.hash_blocking(&Password::new("secret")).unwrap());
        let change = crate::identity::accounts::UserChange { password, ..Default::default() };
        let outcome = accounts.change_user("ann", change, None, &Origin::local());
        assert!(matches!(outcome, Err(Error::UserFederated { .. })), "{outcome:?}");
    }

    #[test]
    fn users_of_one_provider_do_not_keep_out_others() {
        let (_root, accounts) = scene::accounts();
        for (name, provider) in [("a1", "away"), ("a2", "away"), ("a3", "away"), ("b1", "other"), ("c1", "away")] {
            let user = FederatedUser { subject: name.to_owned(), provider: provider.to_owned(), ..ann(name) };
            admit(&accounts, user, b"1").unwrap();
            let (key, _) = accounts.create_key(name, NewKey::default(), &Origin::local()).unwrap();
            accounts.clock.advance(HOUR);
            accounts.key_used(&key.hash(), None, "crane");
        }
        accounts.clock.advance(HOUR);
        let due = |last: &[(&str, &str)]| -> Vec<String> {
            let last = last.iter().map(|(provider, name)| ((*provider).to_owned(), (*name).to_owned())).collect();
            let due = accounts.due_federated_users(|_| Some(HOUR), &last, 2).unwrap();
            due.into_iter().map(|who| who.name).collect()
        };
        assert_eq!(due(&[]), ["a1", "a2", "b1"]);
        assert_eq!(due(&[("away", "a2"), ("other", "b1")]), ["a3", "c1", "b1"]);
        assert_eq!(due(&[("away", "c1")]), ["b1", "a1", "a2"]);
    }

    #[test]
    fn the_provider_is_asked_about_users_with_recent_activity_until_they_are_gone() {
        let (_root, accounts) = scene::accounts();
        let origin = Origin::local();
        admit(&accounts, ann("ann"), b"1").unwrap();
        let due = || accounts.due_federated_users(|_| Some(HOUR), &HashMap::new(), 10).unwrap();
        accounts.clock.advance(2 * HOUR);
        assert!(due().is_empty(), "her credentials are unused");
        let (key, _) = accounts.create_key("ann", NewKey::default(), &origin).unwrap();
        accounts.key_used(&key.hash(), None, "crane");
        assert_eq!(due().len(), 1, "before the use is written");
        accounts.flush().unwrap();
        let asked = due().pop().unwrap();
        assert_eq!((asked.name.as_str(), asked.sealed.as_slice()), ("ann", &b"1"[..]));
        let asked = accounts.renew_federated_token(asked, b"2".to_vec()).unwrap();
        assert_eq!(due().len(), 1, "the provider has not answered yet");
        accounts.federated_user_is_known(&asked, Some(Vec::new())).unwrap();
        assert!(due().is_empty());
        assert!(accounts.account("ann").unwrap().unwrap().groups.is_empty());

        accounts.clock.advance(2 * HOUR);
        accounts.key_used(&key.hash(), None, "crane");
        let asked = due().pop().unwrap();
        assert_eq!(asked.sealed, b"2");
        // She signs in while the provider is asked with the token from before.
        admit(&accounts, ann("ann"), b"3").unwrap();
        accounts.federated_user_is_gone(&asked).unwrap();
        assert!(accounts.account("ann").unwrap().unwrap().may_sign_in());

        accounts.clock.advance(2 * HOUR);
        let (session, _) = accounts.start_session(&accounts.account("ann").unwrap().unwrap(), None, &origin).unwrap();
        let asked = due().pop().unwrap();
        accounts.federated_user_is_gone(&asked).unwrap();
        assert!(!accounts.account("ann").unwrap().unwrap().may_sign_in());
        assert!(accounts.session_grant(&session).unwrap().is_none());
        assert!(due().is_empty(), "the provider has answered");
        admit(&accounts, ann("ann"), b"4").unwrap();
        assert!(accounts.account("ann").unwrap().unwrap().may_sign_in());
        assert!(accounts.session_grant(&session).unwrap().is_none(), "an ended session stays so");
    }
}
