//! Users: those of the database, local or federated, and those of an htpasswd file.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::htpasswd::FileUser;
use super::namespace::{check_namespace, must_be_free};
use super::permission::check_group_name;
use super::{Accounts, DIRECTORY, Error, HashedPassword, Origin};
use crate::content::rows::{AccountRole, FederatedUserRow, Rows, SessionRow, UserRow};
use crate::kit::clock::Timestamp;
use crate::kit::opaque_debug::opaque_debug;

/// The longest user name, in bytes.
pub(super) const USER_NAME_MAX: usize = 255;

/// A user, of the database or of the htpasswd file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) role: AccountRole,
    pub(crate) disabled: bool,
    /// Set if the user comes from an identity provider.
    pub(crate) federated: Option<FederatedIdentity>,
    /// The groups assigned here and those that the provider names, sorted.
    pub(crate) groups: Vec<String>,
    pub(crate) email: Option<String>,
    /// The time of creation. Unknown for users of the htpasswd file.
    pub(crate) created: Option<Timestamp>,
    /// Whether the htpasswd file has the name too. The password there has no effect. Set in lists only.
    pub(crate) also_in_file: bool,
    /// The namespace that the user owns, if any. Set by [`Accounts::account`] only.
    pub(crate) namespace: Option<String>,
    /// Distinguishes the user from earlier ones of the same name. Zero until it is stored. Credentials then fail.
    pub(super) incarnation: u64,
    /// Whether keys from versions that stored no incarnation belong to this user.
    pub(super) inherits: bool,
    /// See [`Accounts::stamp`]. Set by [`Accounts::account`] only.
    pub(super) stamp: Option<u64>,
    /// The stored hash: argon2id in the database, bcrypt in the htpasswd file.
    pub(super) hash: StoredHash,
}

/// The state that a credential was derived from. The credential is valid only while the account still has that state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DerivedFrom {
    /// The user regardless of the password, by its incarnation.
    User(Option<u64>),
    /// One sign-in, by the stamp of the password or of the federated user.
    SignIn(Option<u64>),
}

/// The identity of a user at an identity provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FederatedIdentity {
    /// The provider's name in the configuration.
    pub(crate) provider: String,
    pub(crate) issuer: String,
    /// Whether the provider has removed the user. Such a user must sign in again.
    pub(crate) gone: bool,
}

/// A stored password hash.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum StoredHash {
    Argon2(String),
    Bcrypt(String),
}

opaque_debug!(StoredHash);

impl Account {
    #[cfg(test)]
    pub(crate) fn test(name: &str, role: AccountRole) -> Self {
        let hash = StoredHash::Argon2(String::new());
        let namespace = Some(name.to_owned());
        Self { role, namespace, hash, ..Self::of_file(name, FileUser::default(), None) }
    }

    fn of_row(name: &str, row: UserRow, federated: Option<FederatedUserRow>, namespace: Option<String>) -> Self {
        let mut groups = row.groups;
        let federated = federated.map(|federated| {
            groups.extend(federated.groups);
            FederatedIdentity { provider: federated.provider, issuer: federated.issuer, gone: federated.gone.is_some() }
        });
        Self {
            federated,
            name: name.to_owned(),
            role: row.role,
            disabled: row.disabled,
            groups: sorted(groups),
            email: row.email,
            created: Some(row.created),
            also_in_file: false,
            namespace,
            incarnation: row.created.micros().max(1),
            inherits: true,
            stamp: None,
            hash: StoredHash::Argon2(row.password),
        }
    }

    fn of_file(name: &str, user: FileUser, namespace: Option<String>) -> Self {
        Self {
            name: name.to_owned(),
            role: AccountRole::Ordinary,
            disabled: false,
            federated: None,
            groups: Vec::new(),
            email: None,
            created: None,
            also_in_file: false,
            namespace,
            incarnation: user.incarnation,
            inherits: user.inherits,
            stamp: None,
            hash: StoredHash::Bcrypt(user.hash),
        }
    }

    /// The holder of the rights of a name and of groups, without a row. No credential is derived from it.
    pub(crate) fn of_workload(name: &str, groups: &[String]) -> Self {
        let hash = StoredHash::Argon2(String::new());
        Self { hash, groups: sorted(groups.to_vec()), ..Self::of_file(name, FileUser::default(), None) }
    }

    /// The same account with more groups.
    pub(crate) fn with_groups(&self, more: &[String]) -> Self {
        let groups = sorted(self.groups.iter().chain(more).cloned().collect());
        Self { groups, ..self.clone() }
    }

    /// Whether a credential that was derived from this state is accepted now.
    pub(crate) fn accepts(&self, derived_from: DerivedFrom) -> bool {
        self.may_sign_in() && self.is_current(derived_from)
    }

    /// Whether the account still has this state. It may be disabled.
    pub(super) fn is_current(&self, derived_from: DerivedFrom) -> bool {
        match derived_from {
            DerivedFrom::User(Some(incarnation)) => self.incarnation != 0 && incarnation == self.incarnation,
            DerivedFrom::User(None) => self.inherits,
            DerivedFrom::SignIn(Some(stamp)) => self.stamp == Some(stamp),
            // Credentials without a stamp predate stamps. A changed password ended them, except for the htpasswd file.
            DerivedFrom::SignIn(None) => !self.is_in_file(),
        }
    }

    /// Whether any credential of the user is accepted.
    pub(crate) fn may_sign_in(&self) -> bool {
        !self.disabled && !self.federated.as_ref().is_some_and(|federated| federated.gone)
    }

    /// Whether the password of the user is in the directory.
    pub(crate) fn is_in_directory(&self) -> bool {
        self.federated.as_ref().is_some_and(|federated| federated.provider == DIRECTORY)
    }

    /// Where the account is kept: `local`, `htpasswd`, or the identity provider's name in the configuration.
    pub(crate) fn source(&self) -> &str {
        match &self.federated {
            Some(federated) => &federated.provider,
            None if self.is_in_file() => "htpasswd",
            None => "local",
        }
    }

    /// Whether the account is kept in the htpasswd file.
    pub(crate) fn is_in_file(&self) -> bool {
        matches!(self.hash, StoredHash::Bcrypt(_))
    }
}

/// A user to create.
#[derive(Debug)]
pub(crate) struct NewUser {
    pub(crate) name: String,
    pub(crate) password: HashedPassword,
    pub(crate) role: AccountRole,
    pub(crate) groups: Vec<String>,
    pub(crate) email: Option<String>,
    /// The namespace that the user owns, regardless of its content. By default it is made from the name.
    pub(crate) namespace: Option<String>,
}

/// The changes to a user. A field that is `None` stays as it is.
#[derive(Debug, Default)]
pub(crate) struct UserChange {
    pub(crate) password: Option<HashedPassword>,
    pub(crate) role: Option<AccountRole>,
    pub(crate) disabled: Option<bool>,
    pub(crate) groups: Option<Vec<String>>,
    pub(crate) email: Option<String>,
}

/// Rejects an invalid user name.
pub(super) fn check_user_name(name: &str) -> Result<(), Error> {
    let inside = |c: char| c.is_ascii_alphanumeric() || "._-@+$".contains(c);
    let valid = name.len() <= USER_NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(inside);
    if valid { Ok(()) } else { Err(Error::InvalidUserName { name: name.chars().take(80).collect() }) }
}

impl Accounts {
    /// A keyed hash of the user's current sign-in state. It changes with the password. For federated users and users of
    /// the htpasswd file it includes the incarnation, because later users of the same name may have an equal hash.
    pub(crate) fn stamp(&self, account: &Account) -> u64 {
        let (StoredHash::Argon2(hash) | StoredHash::Bcrypt(hash)) = &account.hash;
        let mut mac = Hmac::<Sha256>::new_from_slice(self.stamp_key.bytes()).expect("a key of any length is fine");
        mac.update(account.name.as_bytes());
        mac.update(&[0]);
        mac.update(hash.as_bytes());
        if hash.is_empty() || account.is_in_file() && !account.inherits {
            mac.update(&[0]);
            mac.update(&account.incarnation.to_be_bytes());
        }
        let stamp = mac.finalize().into_bytes();
        stamp.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Finds a user by name. The database takes precedence over the htpasswd file.
    pub(crate) fn account(&self, name: &str) -> Result<Option<Arc<Account>>, Error> {
        self.caches.accounts.get_or_load(name, self.generation(), || {
            let (row, federated, namespace) = self
                .database
                .read(|tx| Ok::<_, Error>((tx.user(name)?, tx.federated_user(name)?, tx.namespace_of(name)?)))?;
            let account = if let Some(row) = row {
                Some(Account::of_row(name, row, federated, namespace))
            } else {
                let user = self.htpasswd.as_ref().and_then(|file| file.user(name));
                user.map(|user| Account::of_file(name, user, namespace))
            };
            Ok(account.map(|account| Arc::new(Account { stamp: Some(self.stamp(&account)), ..account })))
        })
    }

    /// Finds a user by name, or by an e-mail address that no other user has.
    pub(crate) fn account_or_address(&self, name: &str) -> Result<Option<Arc<Account>>, Error> {
        let account = self.account(name)?;
        if account.is_some() || !name.contains('@') {
            return Ok(account);
        }
        match self.database.read(|tx| tx.users_at(name))?.as_slice() {
            [user] => self.account(user),
            _ => Ok(None),
        }
    }

    /// Whether the database has a user.
    pub(crate) fn has_users(&self) -> Result<bool, Error> {
        Ok(self.database.read(Rows::has_users)?)
    }

    /// Lists at most `limit` users after `after` in byte order, without their namespaces.
    pub(crate) fn users(&self, after: &str, limit: usize) -> Result<Vec<Account>, Error> {
        let mut users = self.own_users(after, limit)?;
        if let Some(file) = &self.htpasswd {
            for user in &mut users {
                user.also_in_file = file.has(&user.name);
            }
            let own: HashSet<_> = users.iter().map(|user| user.name.clone()).collect();
            let listed = file.users_after(after).into_iter().filter(|(name, _)| !own.contains(name));
            users.extend(listed.map(|(name, user)| Account::of_file(&name, user, None)));
            users.sort_unstable_by(|one, other| one.name.cmp(&other.name));
            users.truncate(limit);
        }
        Ok(users)
    }

    /// Lists at most `limit` users of the database after `after` in byte order.
    fn own_users(&self, after: &str, limit: usize) -> Result<Vec<Account>, Error> {
        let mut rows = Vec::new();
        self.database.read(|tx| {
            tx.each_user(after, |name, row| {
                if rows.len() == limit {
                    return ControlFlow::Break(());
                }
                rows.push((name.to_owned(), row));
                ControlFlow::Continue(())
            })?;
            let account = |(name, row): (String, _)| Ok(Account::of_row(&name, row, tx.federated_user(&name)?, None));
            rows.into_iter().map(account).collect()
        })
    }

    /// Creates a user.
    pub(crate) fn add_user(&self, new: NewUser, origin: &Origin) -> Result<(), Error> {
        check_user_name(&new.name)?;
        new.groups.iter().try_for_each(|group| check_group_name(group))?;
        // A user of the database would hide the one in the file.
        self.must_be_ours(&new.name)?;
        let NewUser { name, password, role, groups, email, namespace } = new;
        if let Some(namespace) = &namespace {
            check_namespace(namespace)?;
        }
        let detail: Vec<_> = namespace.iter().map(|namespace| ("namespace", namespace.as_str())).collect();
        let audit = origin.row("user_create", &name, &detail);
        let claim = self.namespace_claim(&name);
        let in_file = self.htpasswd.as_ref().is_some_and(|file| file.has(&name));
        self.audited_change(audit, move |tx, now| {
            if tx.user(&name)?.is_some() {
                return Err(Error::UserExists { name });
            }
            // A command without the configuration knows the file only by this row.
            if tx.file_user(&name)?.is_some_and(|row| row.gone_since.is_none()) {
                return Err(Error::UserInHtpasswd { name });
            }
            if let Some(namespace) = &namespace {
                must_be_free(tx, namespace, &name)?;
            }
            must_be_unused(tx, email.as_deref(), &name)?;
            if !in_file {
                claim.remove_earlier(tx)?;
            }
            match &namespace {
                Some(namespace) => tx.set_namespace(&name, Some(namespace))?,
                None => claim.take(tx)?,
            }
            let (password, groups) = (password.into_text(), sorted(groups));
            Ok(tx.put_user(&name, &UserRow { password, role, disabled: false, groups, email, created: now })?)
        })
    }

    /// Changes a user. A new password ends all sessions except `keeping`, and all refresh tokens.
    pub(crate) fn change_user(
        &self,
        name: &str,
        change: UserChange,
        keeping: Option<crate::content::rows::SecretHash>,
        origin: &Origin,
    ) -> Result<(), Error> {
        change.groups.iter().flatten().try_for_each(|group| check_group_name(group))?;
        let hash = change.password.map(HashedPassword::into_text);
        let kind = match change.disabled {
            Some(true) => "user_disable",
            Some(false) => "user_enable",
            None if hash.is_some() => "user_change_password",
            None => "user_change",
        };
        let audit = origin.row(kind, name, &[]);
        self.must_be_ours(name)?;
        let name = name.to_owned();
        let stamp = self
            .account(&name)?
            .zip(hash.clone())
            .map(|(account, hash)| self.stamp(&Account { hash: StoredHash::Argon2(hash), ..Account::clone(&account) }));
        self.audited_change(audit, move |tx, _| {
            let Some(mut row) = tx.user(&name)? else { return Err(Error::UserUnknown { name }) };
            must_be_unused(tx, change.email.as_deref(), &name)?;
            if let Some(hash) = hash {
                // A password would still work after the provider has removed the user.
                if tx.federated_user(&name)?.is_some() {
                    return Err(Error::UserFederated { name });
                }
                row.password = hash;
                for (session, session_row) in tx.sessions_of(Some(&name))? {
                    if Some(session) == keeping {
                        tx.put_session(&session, &SessionRow { stamp, ..session_row })?;
                    } else {
                        tx.remove_session(&session, &session_row)?;
                    }
                }
                for (token, token_row) in tx.refresh_tokens_of(Some(&name))? {
                    tx.remove_refresh_token(&token, &token_row)?;
                }
            }
            row.role = change.role.unwrap_or(row.role);
            row.disabled = change.disabled.unwrap_or(row.disabled);
            row.groups = change.groups.map_or(row.groups, sorted);
            row.email = change.email.or(row.email);
            Ok(tx.put_user(&name, &row)?)
        })
    }

    /// Removes a user with all API keys and sessions. Also removes what is kept of a user who left the htpasswd file.
    pub(crate) fn remove_user(&self, name: &str, origin: &Origin) -> Result<(), Error> {
        self.must_be_ours(name)?;
        let removed = name.to_owned();
        self.audited_change(origin.row("user_delete", name, &[]), move |tx, _| {
            if tx.user(&removed)?.is_some() {
                return Ok::<_, Error>(tx.remove_user(&removed)?);
            }
            if tx.file_user(&removed)?.is_none_or(|row| row.gone_since.is_none()) {
                return Err(Error::UserUnknown { name: removed });
            }
            tx.remove_file_user(&removed)?;
            Ok(tx.remove_user_data(&removed)?)
        })?;
        self.file_is_due(name);
        Ok(())
    }

    pub(super) fn must_be_ours(&self, name: &str) -> Result<(), Error> {
        match self.account(name)? {
            Some(account) if account.is_in_file() => Err(Error::UserInHtpasswd { name: name.to_owned() }),
            _ => Ok(()),
        }
    }
}

/// Refuses an e-mail address that another user has, because users sign in with it.
fn must_be_unused(tx: &Rows, address: Option<&str>, user: &str) -> Result<(), Error> {
    let Some(address) = address else { return Ok(()) };
    if tx.users_at(address)?.iter().any(|other| other != user) { Err(Error::AddressTaken) } else { Ok(()) }
}

fn sorted(mut groups: Vec<String>) -> Vec<String> {
    groups.sort_unstable();
    groups.dedup();
    groups
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::identity::accounts::scene;

    /// Earlier versions, and identity providers, may have given one address to two users.
    #[test]
    fn an_address_of_two_users_names_neither_of_them() {
        let (_root, accounts) = scene::accounts();
        let put = |name| {
            accounts.store_user(name, UserRow { email: Some("a@example.org".to_owned()), ..scene::user() });
        };
        put("ann");
        assert_eq!(accounts.account_or_address("A@example.org").unwrap().unwrap().name, "ann");
        put("bob");
        assert!(accounts.account_or_address("a@example.org").unwrap().is_none());
        let change = UserChange { email: Some("a@example.org".to_owned()), ..UserChange::default() };
        assert!(matches!(accounts.change_user("ann", change, None, &Origin::local()), Err(Error::AddressTaken)));
    }
}
