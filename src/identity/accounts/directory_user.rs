//! Users of the directory: their sign-in with a password, and the check whether the directory still knows them.
//!
//! A user of the directory is a federated user, whose password is there. The users here and the users of other providers
//! have precedence: a name of theirs is never taken over.

use std::sync::Arc;
use std::time::Duration;

use super::federated_user::{FederatedUser, NotAdmitted};
use super::sign_in::{Attempt, NotSignedIn, SignedIn};
use super::user::Account;
use super::{Accounts, DueFederatedUser, Error, Origin};
use crate::content::rows::FederatedUserRow;
use crate::identity::directory::{Directory, DirectoryState, Entry, Unavailable};
use crate::kit::log_limit::LogLimit;

/// The name of the directory among the providers of users.
pub(crate) const DIRECTORY: &str = "ldap";
/// The most questions to the directory at a time. Further sign-ins wait in turn.
pub(super) const QUESTIONS_AT_ONCE: usize = 8;
/// After this long, a sign-in is written to the row of the user although nothing has changed.
const WRITTEN_EVERY: Duration = Duration::from_hours(1);

/// A directory, and how its users are treated.
#[derive(Debug)]
pub(super) struct DirectoryUsers {
    directory: Directory,
    /// How long a user who has signed in can do so again while the directory is away.
    remembered_for: Duration,
    /// Limits the log lines about a directory that cannot be asked.
    unavailable: LogLimit,
    /// The same for users who have the right password and are refused.
    refused: LogLimit,
}

impl Accounts {
    /// Lets the users of a directory sign in.
    #[must_use]
    pub(crate) fn with_directory(self, directory: Directory, remembered_for: Duration) -> Self {
        let (unavailable, refused) = (LogLimit::default(), LogLimit::default());
        Self { directory: Some(DirectoryUsers { directory, remembered_for, unavailable, refused }), ..self }
    }

    /// How the directory does, if there is one.
    pub(crate) fn directory_state(&self) -> Option<DirectoryState> {
        self.directory.as_ref().map(|users| users.directory.state())
    }

    /// The directory, if it verifies the passwords of this user. It does for its own users and for unknown ones.
    pub(super) fn directory_for(&self, account: Option<&Account>) -> Option<&Directory> {
        let directory = &self.directory.as_ref()?.directory;
        let is_asked = account.is_none_or(|account| !account.disabled && account.is_in_directory());
        is_asked.then_some(directory)
    }

    /// Lets the directory verify a password. `None` if it is wrong. If the directory is away, a password that was right
    /// lately is right.
    pub(super) async fn ask_directory(
        self: &Arc<Self>,
        directory: &Directory,
        attempt: &Attempt,
    ) -> Result<Option<SignedIn>, NotSignedIn> {
        let remembered_for = self.directory.as_ref().map_or(Duration::ZERO, |users| users.remembered_for);
        let entry = match directory.verify(&attempt.name, attempt.password.reveal()).await {
            Ok(Some(entry)) => entry,
            Ok(None) => {
                self.verifier.forget(&attempt.fingerprint);
                return Ok(None);
            }
            Err(away) => {
                let account = attempt.account.as_ref().filter(|_| attempt.may_sign_in());
                let remembered = account.filter(|_| self.verifier.is_remembered(&attempt.fingerprint));
                if let Some(count) = self.directory.as_ref().and_then(|users| users.unavailable.pass()) {
                    let is_remembered = remembered.is_some();
                    tracing::warn!(error = %away, is_remembered, count, "cannot ask the directory");
                }
                let signed_in = remembered
                    .map(|account| SignedIn { account: Arc::clone(account), fingerprint: attempt.fingerprint });
                return signed_in.map(Some).ok_or(NotSignedIn::DirectoryAway(away));
            }
        };
        let (accounts, issuer, origin) = (Arc::clone(self), directory.issuer().to_owned(), attempt.origin.clone());
        let admitted = tokio::task::spawn_blocking(move || accounts.admit_entry(issuer, entry, &origin)).await;
        match admitted.map_err(|_| super::TooBusy)? {
            Ok(account) => {
                let fingerprint = self.verifier.fingerprint(&attempt.password, Some(&account), attempt.address);
                self.verifier.confirmed(fingerprint, remembered_for);
                Ok(Some(SignedIn { account, fingerprint }))
            }
            Err(NotAdmitted::Accounts(error)) => Err(error.into()),
            Err(refused) => {
                if let Some(count) = self.directory.as_ref().and_then(|users| users.refused.pass()) {
                    tracing::warn!(
                        reason = %refused,
                        count,
                        "a user of the directory has the right password and is refused"
                    );
                }
                Ok(None)
            }
        }
    }

    /// Finds or creates the user of an entry. Writes only if something has changed.
    fn admit_entry(&self, issuer: String, entry: Entry, origin: &Origin) -> Result<Arc<Account>, NotAdmitted> {
        let Entry { name, subject, groups } = entry;
        if let Some(account) = self.unchanged(&issuer, &subject, &groups)? {
            return Ok(account);
        }
        // Identifies the sign-in, so that an earlier answer about the user does not count.
        let token = rand::random::<[u8; 16]>().to_vec();
        let who = FederatedUser { provider: DIRECTORY.to_owned(), issuer, subject, name, email: None, groups };
        self.admit(who, Some(token), origin)
    }

    /// The user of an entry, if the row says the same as the entry.
    fn unchanged(&self, issuer: &str, subject: &str, groups: &[String]) -> Result<Option<Arc<Account>>, Error> {
        let now = self.clock.now();
        let is_same = |row: &FederatedUserRow| {
            row.provider == DIRECTORY
                && row.gone.is_none()
                && row.groups == groups
                && now.since(row.checked) < WRITTEN_EVERY
        };
        let name = self.database.read(|tx| {
            let Some(name) = tx.user_of_identity(issuer, subject)? else { return Ok(None) };
            Ok::<_, Error>(tx.federated_user(&name)?.filter(is_same).map(|_| name))
        })?;
        let account = name.map(|name| self.account(&name)).transpose()?.flatten();
        Ok(account.filter(|account| account.may_sign_in()))
    }

    /// Asks the directory about a user. `None` if it no longer has the user, and otherwise the groups.
    pub(crate) async fn recheck_in_directory(
        &self,
        who: &DueFederatedUser,
    ) -> Option<Result<Option<Vec<String>>, Unavailable>> {
        let directory = &self.directory.as_ref()?.directory;
        if directory.issuer() != who.issuer {
            return None;
        }
        let found = directory.find(&who.name).await;
        let same = |entry: &Entry| entry.subject == who.subject;
        Some(found.map(|entry| entry.filter(same).map(|entry| entry.groups)))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::identity::accounts::scene;

    fn entry(name: &str) -> Entry {
        Entry { name: name.to_owned(), subject: format!("entryUUID:{name}"), groups: vec!["dev".to_owned()] }
    }

    #[cfg(feature = "ldap")]
    #[tokio::test]
    async fn a_confirmed_password_counts_for_its_user_alone_while_the_directory_is_away() {
        let (_root, accounts) = scene::accounts();
        let directory = Directory::test_away();
        let issuer = directory.issuer().to_owned();
        let accounts = Arc::new(accounts.with_directory(directory, Duration::from_hours(1)));
        let admit = |name| accounts.admit_entry(issuer.clone(), entry(name), &Origin::local()).unwrap();
        let (ann, _) = (admit("ann"), admit("bob"));
        let password = crate::identity::accounts::Password::new("secret");
        let fingerprint = accounts.verifier.fingerprint(&password, Some(&ann), None);
        accounts.verifier.confirmed(fingerprint, Duration::from_hours(1));
        accounts.verifier.end_cached(&fingerprint);

        let sign_in = async |name: &str, password: &str| {
            let signed_in =
                accounts.sign_in(name, crate::identity::accounts::Password::new(password), None, Origin::local).await;
            signed_in.map(|signed_in| signed_in.account.name.clone())
        };
        let is_away = |outcome| matches!(outcome, Err(NotSignedIn::DirectoryAway(_)));
        assert_eq!(sign_in("ann", "secret").await.unwrap(), "ann");
        assert!(is_away(sign_in("ann", "other").await), "the wrong password is not known to be wrong");
        assert!(is_away(sign_in("bob", "secret").await), "the password of another user");
        assert!(is_away(sign_in("new", "secret").await));

        let change = crate::identity::accounts::UserChange { disabled: Some(true), ..Default::default() };
        accounts.change_user("ann", change, None, &Origin::local()).unwrap();
        assert!(matches!(sign_in("ann", "secret").await, Err(NotSignedIn::Wrong)));
    }

    #[test]
    fn a_sign_in_that_changes_nothing_writes_nothing() {
        let (_root, accounts) = scene::accounts();
        let admit = |entry| accounts.admit_entry("ldap:dc=x".to_owned(), entry, &Origin::local());
        admit(entry("ann")).unwrap();
        let generation = accounts.generation();
        assert_eq!(admit(entry("ann")).unwrap().groups, ["dev"]);
        assert_eq!(accounts.generation(), generation);
        assert!(admit(Entry { groups: Vec::new(), ..entry("ann") }).unwrap().groups.is_empty());
        assert_ne!(accounts.generation(), generation);
        let other = Entry { subject: "entryUUID:other".to_owned(), ..entry("ann") };
        assert!(matches!(admit(other), Err(NotAdmitted::NameTaken { .. })), "a later entry with the name");
    }
}
