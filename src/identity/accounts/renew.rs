//! Replaces hashes with outdated parameters when their password is entered.

use std::sync::Arc;

use super::user::StoredHash;
use super::{Account, Accounts, Error, HashCaller, HashedPassword, Password};
use crate::content::rows::{RefreshRow, SessionRow, UserRow};

impl Accounts {
    /// Hashes the password again, stores the result and returns the account with it. Sessions and refresh tokens stay
    /// valid. The caller waits, because an access token is bound to the stored hash.
    pub(super) async fn renew_hash(self: &Arc<Self>, account: Arc<Account>, password: Password) -> Arc<Account> {
        // If too many others wait, the next sign-in replaces the hash.
        let Ok(hash) = self.hash(password, HashCaller::User(account.name.clone())).await else { return account };
        let (accounts, outdated) = (Arc::clone(self), Arc::clone(&account));
        let renewed = tokio::task::spawn_blocking(move || accounts.store_renewed(&outdated, hash)).await;
        match renewed {
            Ok(Ok(Some(renewed))) => renewed,
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot replace an outdated password hash");
                account
            }
            Ok(Ok(None)) | Err(_) => account,
        }
    }

    /// Returns the account with the stored hash. `None` if the password was changed in the meantime.
    fn store_renewed(&self, account: &Account, hash: HashedPassword) -> Result<Option<Arc<Account>>, Error> {
        let hash = hash.into_text();
        let stored = StoredHash::Argon2(hash.clone());
        let renewed = Account { hash: StoredHash::Argon2(hash.clone()), ..account.clone() };
        let (before, stamp, after) = (account.hash.clone(), self.stamp(account), self.stamp(&renewed));
        let name = account.name.clone();
        self.change(move |tx| {
            // The password may have been changed since.
            let Some(row) = tx.user(&name)?.filter(|row| before == StoredHash::Argon2(row.password.clone())) else {
                return Ok::<_, Error>(());
            };
            tx.put_user(&name, &UserRow { password: hash, ..row })?;
            for (secret, session) in tx.sessions_of(Some(&name))? {
                if session.stamp == Some(stamp) {
                    tx.put_session(&secret, &SessionRow { stamp: Some(after), ..session })?;
                }
            }
            for (secret, token) in tx.refresh_tokens_of(Some(&name))? {
                if token.stamp == stamp {
                    tx.put_refresh_token(&secret, &RefreshRow { stamp: after, ..token })?;
                }
            }
            Ok(())
        })?;
        Ok(self.account(&account.name)?.filter(|account| account.hash == stored))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::time::Duration;

    use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, Version};

    use super::*;
    use crate::identity::accounts::{DerivedFrom, Origin, scene};

    #[tokio::test]
    async fn an_outdated_hash_is_replaced_and_sessions_and_refresh_tokens_stay() {
        let (_root, accounts) = scene::accounts();
        let accounts = Arc::new(accounts);
        let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64, 1, 1, None).unwrap());
        let old = weak.hash_password(b"secret").unwrap().to_string();
        accounts.store_user("alice", UserRow { password: old.clone(), ..scene::user() });
        let stored = || accounts.database.read(|tx| tx.user("alice")).unwrap().unwrap().password;
        let origin = Origin::local();
        let account = accounts.account("alice").unwrap().unwrap();
        let (session, _) = accounts.start_session(&account, None, &origin).unwrap();
        let (refresh, _) = accounts.create_refresh_token(&account, "docker", &origin).unwrap();

        let wrong = accounts.sign_in("alice", Password::new("wrong"), None, || origin.clone()).await;
        assert!(wrong.is_err());
        assert_eq!(stored(), old);
        let signed_in = accounts.sign_in("alice", Password::new("secret"), None, || origin.clone()).await.unwrap();
        // A token that this sign-in gets is accepted by the next request.
        let derived_from = DerivedFrom::SignIn(Some(accounts.stamp(&signed_in.account)));
        assert!(accounts.account("alice").unwrap().unwrap().accepts(derived_from));
        let renewed = stored();
        assert_ne!(renewed, old);
        assert!(renewed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{renewed}");
        assert!(accounts.refresh(&refresh, &origin).unwrap().is_some());
        let grant = accounts.session_grant(&session).unwrap().unwrap();
        assert!(accounts.account("alice").unwrap().unwrap().accepts(grant.derived_from()));
        accounts.sign_in("alice", Password::new("secret"), None, || origin.clone()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(stored(), renewed, "a current hash is not replaced");
    }
}
