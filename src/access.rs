//! Who is asking, and may they.
//!
//! Three steps, in three files: what the headers say ([`Credentials`]), who that is
//! ([`Authenticator`]), and what they may do ([`Policy`]). Knows verbs and repository names, not
//! URLs, and nothing of what repositories contain. What must hold: nothing is allowed unless
//! something grants it, and a secret is compared in constant time and never printed.

mod authenticate;
mod credentials;
mod password;
mod policy;

use std::sync::Arc;

pub(crate) use authenticate::{Authenticator, NotAuthenticated};
pub(crate) use credentials::{Credentials, InvalidCredentials};
pub(crate) use password::{InvalidPassword, Password};
pub use policy::AccessPolicy;

use crate::oci::RepositoryName;

/// What an operation asks of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: anybody may know whether the registry runs.
    Anybody,
    /// To be known. What the answer lists is filtered by what the caller may pull.
    Known,
    /// To see the figures of the whole registry.
    Metrics,
    /// A right to one repository.
    Repository(RepositoryName, Action),
}

/// What can be done with a repository; the words of the token specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Pull,
    Push,
    Delete,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    Anonymous,
    User(Arc<User>),
}

/// A user who has proved it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    /// Whether everything is allowed.
    pub(crate) superuser: bool,
}

impl Identity {
    /// The user's name, for the log.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::User(user) => Some(&user.name),
        }
    }
}

/// Why a caller may not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Signing in could help.
    Unauthenticated,
    /// It is known who asks, and they may not.
    Denied,
}
