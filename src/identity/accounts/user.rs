//! Users: of coracle's own table, whether made here or for somebody of a provider, and of an htpasswd file.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::htpasswd::FileUser;
use super::{Accounts, Error, HashedPassword, Origin};
use crate::content::rows::{AccountRole, FederatedUserRow, Rows, SessionRow, UserRow};
use crate::kit::clock::Timestamp;

/// The longest user name, in bytes: it is the first component of what the user owns.
pub(super) const USER_NAME_MAX: usize = 255;

/// Somebody who can sign in, wherever they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) role: AccountRole,
    pub(crate) disabled: bool,
    /// What the provider says of somebody who comes from one.
    pub(crate) federated: Option<FederatedIdentity>,
    /// Those given here, and those that a provider says. Sorted.
    pub(crate) groups: Vec<String>,
    pub(crate) email: Option<String>,
    /// When the user was made; not known of a user in a file.
    pub(crate) created: Option<Timestamp>,
    /// Whether the htpasswd file has the name too. Then its password has no effect. Known only of listed users.
    pub(crate) also_in_file: bool,
    /// The first part of the names of the repositories that are the user's own; none, if that was not free. Of a user
    /// who was looked up.
    pub(crate) namespace: Option<String>,
    /// Tells the user from others who had the same name. Zero while that is not written down: nothing counts then.
    pub(super) incarnation: u64,
    /// Whether keys from before incarnations were noted are the user's.
    pub(super) inherits: bool,
    /// See [`Accounts::stamp`]; of a user who was looked up.
    pub(super) stamp: Option<u64>,
    /// The stored hash: argon2id of the own table, bcrypt of a file.
    pub(super) hash: StoredHash,
}

/// What a credential was derived from. It counts only while that is still so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DerivedFrom {
    /// The user, whatever the password is: its incarnation.
    User(Option<u64>),
    /// One sign-in of the user: the stamp of the password or of the federated user.
    SignIn(Option<u64>),
}

/// Where somebody comes from who has no password here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FederatedIdentity {
    /// The provider's name in the configuration.
    pub(crate) provider: String,
    pub(crate) issuer: String,
    /// Whether the provider does not know them any more: then they are kept out until they sign in again.
    pub(crate) gone: bool,
}

/// A stored password, by where it is from.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum StoredHash {
    Argon2(String),
    Bcrypt(String),
}

impl std::fmt::Debug for StoredHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoredHash")
    }
}

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

    /// Whether a credential that was derived from this counts still.
    pub(crate) fn accepts(&self, derived_from: DerivedFrom) -> bool {
        match derived_from {
            DerivedFrom::User(Some(incarnation)) => self.incarnation != 0 && incarnation == self.incarnation,
            DerivedFrom::User(None) => self.inherits,
            DerivedFrom::SignIn(Some(stamp)) => self.stamp == Some(stamp),
            // Another password has ended it, but where others write the file.
            DerivedFrom::SignIn(None) => !self.is_in_file(),
        }
    }

    /// Whether anything of the user's lets them in.
    pub(crate) fn may_sign_in(&self) -> bool {
        !self.disabled && !self.federated.as_ref().is_some_and(|federated| federated.gone)
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

/// A user to be made.
#[derive(Debug)]
pub(crate) struct NewUser {
    pub(crate) name: String,
    pub(crate) password: HashedPassword,
    pub(crate) role: AccountRole,
    pub(crate) groups: Vec<String>,
    pub(crate) email: Option<String>,
}

/// What to change of a user; what is not given stays.
#[derive(Debug, Default)]
pub(crate) struct UserChange {
    pub(crate) password: Option<HashedPassword>,
    pub(crate) role: Option<AccountRole>,
    pub(crate) disabled: Option<bool>,
    pub(crate) groups: Option<Vec<String>>,
    pub(crate) email: Option<String>,
}

/// Refuses what cannot be a user's name.
pub(super) fn check_user_name(name: &str) -> Result<(), Error> {
    let inside = |c: char| c.is_ascii_alphanumeric() || "._-@+$".contains(c);
    let valid = name.len() <= USER_NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(inside);
    if valid { Ok(()) } else { Err(Error::InvalidUserName { name: name.chars().take(80).collect() }) }
}

impl Accounts {
    /// A mark of what a user signs in with: of the stored hash, which is another one for another password; of a
    /// federated user, and of one in a file, of the incarnation too, since others may come to have the same.
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
        let mark = mac.finalize().into_bytes();
        mark.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Whoever has this name. The own table goes before the file.
    pub(crate) fn account(&self, name: &str) -> Result<Option<Arc<Account>>, Error> {
        let generation = self.generation();
        if let Some(known) = self.remembered.accounts.get(name, generation) {
            return Ok(Some(known));
        }
        let (row, federated, namespace) = self
            .database
            .read(|tx| Ok::<_, Error>((tx.user(name)?, tx.federated_user(name)?, tx.namespace_of(name)?)))?;
        let account = if let Some(row) = row {
            Some(Account::of_row(name, row, federated, namespace))
        } else {
            let user = self.htpasswd.as_ref().and_then(|file| file.user(name));
            user.map(|user| Account::of_file(name, user, namespace))
        };
        let account = account.map(|account| Arc::new(Account { stamp: Some(self.stamp(&account)), ..account }));
        if let Some(account) = &account {
            self.remembered.accounts.put(name.to_owned(), generation, Arc::clone(account));
        }
        Ok(account)
    }

    /// Who is meant by a name at a sign-in: the user of this name, or else the only one with this e-mail address.
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

    /// Whether anybody can sign in.
    pub(crate) fn has_users(&self) -> Result<bool, Error> {
        Ok(self.database.read(Rows::has_users)?)
    }

    /// At most `limit` users behind `after`, in byte order: those of the own table and those of the htpasswd file. What
    /// they own is not looked up.
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

    /// At most `limit` users of the own table behind `after`, in byte order.
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
            let federated = tx.federated_users_of(rows.iter().map(|(name, _)| name.as_str()))?;
            Ok(rows
                .into_iter()
                .zip(federated)
                .map(|((name, row), federated)| Account::of_row(&name, row, federated, None))
                .collect())
        })
    }

    /// Makes a user.
    pub(crate) fn add_user(&self, new: NewUser, origin: &Origin) -> Result<(), Error> {
        check_user_name(&new.name)?;
        // The new password would take the place of the file's.
        self.must_be_ours(&new.name)?;
        let name = new.name;
        let row = UserRow {
            password: new.password.into_text(),
            role: new.role,
            disabled: false,
            groups: sorted(new.groups),
            email: new.email,
            created: self.clock.now(),
        };
        let audit = origin.row("user_create", &name, &[]);
        let claim = self.namespace_claim(&name);
        let in_file = self.htpasswd.as_ref().is_some_and(|file| file.has(&name));
        self.change(move |tx| {
            if tx.user(&name)?.is_some() {
                return Err(Error::UserExists { name });
            }
            if in_file {
                claim.take(tx)?;
            } else {
                claim.start_fresh(tx)?;
            }
            tx.put_user(&name, &row)?;
            Ok(tx.add_audit(row.created, &audit)?)
        })
    }

    /// Changes a user. A new password ends every session of the user but `keeping`.
    pub(crate) fn change_user(
        &self,
        name: &str,
        change: UserChange,
        keeping: Option<crate::content::rows::SecretHash>,
        origin: &Origin,
    ) -> Result<(), Error> {
        let hash = change.password.map(HashedPassword::into_text);
        let kind = match change.disabled {
            Some(true) => "user_disable",
            Some(false) => "user_enable",
            None if hash.is_some() => "user_change_password",
            None => "user_change",
        };
        let (audit, now) = (origin.row(kind, name, &[]), self.clock.now());
        self.must_be_ours(name)?;
        let name = name.to_owned();
        let stamp = self
            .account(&name)?
            .zip(hash.clone())
            .map(|(account, hash)| self.stamp(&Account { hash: StoredHash::Argon2(hash), ..Account::clone(&account) }));
        self.change(move |tx| {
            let Some(mut row) = tx.user(&name)? else { return Err(Error::UserUnknown { name }) };
            if let Some(hash) = hash {
                // It would outlive what the provider says of them.
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
            tx.put_user(&name, &row)?;
            Ok(tx.add_audit(now, &audit)?)
        })
    }

    /// Removes a user, with their keys and sessions.
    pub(crate) fn remove_user(&self, name: &str, origin: &Origin) -> Result<(), Error> {
        let (audit, now) = (origin.row("user_delete", name, &[]), self.clock.now());
        self.must_be_ours(name)?;
        let (name, removed) = (name.to_owned(), name.to_owned());
        self.change(move |tx| {
            if tx.user(&name)?.is_none() {
                return Err(Error::UserUnknown { name });
            }
            tx.remove_user(&name)?;
            Ok::<_, Error>(tx.add_audit(now, &audit)?)
        })?;
        self.file_is_due(&removed);
        Ok(())
    }

    pub(super) fn must_be_ours(&self, name: &str) -> Result<(), Error> {
        match self.account(name)? {
            Some(account) if account.is_in_file() => Err(Error::UserInHtpasswd { name: name.to_owned() }),
            _ => Ok(()),
        }
    }
}

fn sorted(mut groups: Vec<String>) -> Vec<String> {
    groups.sort_unstable();
    groups.dedup();
    groups
}
