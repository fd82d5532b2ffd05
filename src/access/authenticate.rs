//! [`Authenticator`]: credentials → identity.

use std::sync::Arc;

use super::password::{TooBusy, Verifier};
use super::{Credentials, Identity, Password, User};
use crate::meta::{self, AccountRead as _, Meta};

/// Finds out who asks.
#[derive(Debug)]
pub(crate) struct Authenticator {
    meta: Arc<Meta>,
    verifier: Verifier,
}

/// Why it is not known who asks.
#[derive(Debug)]
pub(crate) enum NotAuthenticated {
    /// The name or the password is wrong; which of them is not said.
    Wrong,
    /// Too many passwords are being verified.
    TooBusy,
    /// The look-up failed.
    Meta(meta::Error),
}

impl Authenticator {
    pub(crate) fn new(meta: Arc<Meta>) -> Self {
        Self { meta, verifier: Verifier::new() }
    }

    /// Who these credentials belong to.
    pub(crate) async fn authenticate(&self, credentials: Credentials) -> Result<Identity, NotAuthenticated> {
        match credentials {
            Credentials::None => Ok(Identity::Anonymous),
            Credentials::Basic { user, password } => self.basic(user, password).await,
        }
    }

    async fn basic(&self, name: String, password: Password) -> Result<Identity, NotAuthenticated> {
        let row = self.meta.read(|tx| tx.user(&name)).map_err(NotAuthenticated::Meta)?;
        let (stored, superuser) = row.map_or((None, false), |row| (Some(row.password), row.superuser));
        match self.verifier.verify(password, stored).await {
            Ok(true) => Ok(Identity::User(Arc::new(User { name, superuser }))),
            Ok(false) => Err(NotAuthenticated::Wrong),
            Err(TooBusy) => Err(NotAuthenticated::TooBusy),
        }
    }
}
