//! Who is asking, and may they.
//!
//! Three steps, in three files: what the headers say ([`Credentials`]), who that is
//! ([`Authenticator`], with what a connection presented last in its [`CredentialCache`]), and what they may do
//! ([`Policy`]). Knows verbs and repository names, not
//! URLs, and nothing of what repositories contain. What must hold: nothing is allowed unless
//! something grants it; a credential only narrows what its owner may do; a secret is compared in
//! constant time and never printed.

mod authenticate;
mod credential_cache;
mod credentials;
mod policy;
mod rules;

use std::sync::Arc;

pub(crate) use authenticate::{Authenticated, Authenticator, NotAuthenticated, RequestInfo};
pub(crate) use credential_cache::CredentialCache;
use credentials::InvalidCredentials;
pub(crate) use credentials::{Credentials, SESSION_COOKIE, Surface, read_cookie};
pub use policy::AccessPolicy;
pub(crate) use policy::{Policy, Reason};
pub use rules::{AccessControl, PolicyRule, RepositoryRules};
pub(crate) use rules::{Rule, Rules};

use crate::identity::accounts::{Account, KeyGrant, SessionGrant};
pub(crate) use crate::identity::accounts::{Action, Actions};
use crate::identity::tokens::{ExternalHolder, TokenGrant};
use crate::oci::RepositoryName;

/// What an operation asks of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing: anybody may know whether the registry runs.
    Anyone,
    /// To get a token for whoever one is: for what they may do.
    Token,
    /// To be known.
    SignedIn,
    /// To be known, or to be a guest where rules grant anonymous rights: zot's page asks this to offer browsing without
    /// signing in.
    Guest,
    /// To list repositories. What the answer lists is filtered by what the caller may pull.
    Catalog,
    /// To see the figures of the whole registry.
    Metrics,
    /// One of these rights to a repository, at least.
    Repository(RepositoryName, Actions),
    /// To make, list and revoke the own API keys.
    OwnKeys,
    /// A right to accounts.
    Account(Requires),
}

/// What an operation on accounts asks of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requires {
    /// Nothing.
    Anyone,
    /// To be signed in, with whatever credential.
    SignedIn,
    /// A right to the repository that the path names (Quay's roles read, write and admin).
    Repository(Action),
    /// To be signed in with all rights of one's own.
    UserAdmin,
    /// To be signed in with a session.
    Session,
    /// To have given the password within the last minutes, or to be an API key, which may do it to itself alone: which
    /// key it is about is looked at where it is done.
    FreshLoginOrKey,
    /// To have given the password within the last minutes.
    FreshLogin,
    /// To be a superuser, and to have given the password within the last minutes.
    Superuser,
    /// The same, or to be a read-only superuser.
    SuperuserRead,
    /// To be a superuser who has given the password within the last minutes. A key is not enough: what is done would
    /// outlive it, such as a password or a right of somebody else.
    FreshSuperuser,
    /// The same, or to be a read-only superuser.
    FreshSuperuserRead,
    /// To list the own API keys, by what zot's route takes as well.
    OwnKeys,
}

/// Who asks, and by what.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) identity: Identity,
    pub(crate) credential: Credential,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) enum Identity {
    Anonymous,
    User(Arc<Account>),
    /// Somebody whom an outside token service knows, and says by a token what they may do.
    External(Arc<ExternalHolder>),
}

impl Identity {
    /// A name, for the log.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::User(account) => Some(&account.name),
            Self::External(holder) => Some(&holder.name),
        }
    }
}

/// By what somebody is known. It never gives more than its owner may do.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    None,
    Password,
    Key(Arc<KeyGrant>),
    Session(Arc<SessionGrant>),
    Token(TokenCredential),
}

impl Credential {
    /// The session, if it is one.
    pub(crate) fn session(&self) -> Option<&SessionGrant> {
        match self {
            Self::Session(grant) => Some(grant),
            Self::None | Self::Password | Self::Key(_) | Self::Token(_) => None,
        }
    }

    /// The API key, if it is one or was got with one.
    pub(crate) fn key(&self) -> Option<&Arc<KeyGrant>> {
        match self {
            Self::Key(grant) => Some(grant),
            Self::Token(token) => token.key.as_ref(),
            Self::None | Self::Password | Self::Session(_) => None,
        }
    }
}

/// A token whose credential still counts.
#[derive(Clone, Debug)]
pub(crate) struct TokenCredential {
    pub(crate) grant: Arc<TokenGrant>,
    /// The key that the token was got with.
    pub(crate) key: Option<Arc<KeyGrant>>,
}

impl TokenCredential {
    /// What the token lets through on a repository.
    fn actions(&self, name: &RepositoryName) -> Actions {
        let by_key = self.key.as_ref().map_or(Actions::ALL, |key| key.actions(name));
        self.grant.actions(name).within(by_key)
    }
}

impl Caller {
    /// Somebody who said nothing.
    pub(crate) const ANONYMOUS: Self = Self { identity: Identity::Anonymous, credential: Credential::None };

    /// The user, if it is one.
    pub(crate) fn account(&self) -> Option<&Arc<Account>> {
        match &self.identity {
            Identity::Anonymous | Identity::External(_) => None,
            Identity::User(account) => Some(account),
        }
    }

    /// A name, for the log.
    pub(crate) fn name(&self) -> Option<&str> {
        self.identity.name()
    }
}

/// Why a caller may not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Signing in could help.
    Unauthenticated,
    /// Giving the password once more could help.
    NotFresh,
    /// The token is not for this: another one would help.
    TooNarrow,
    /// It is known who asks, and they may not.
    Denied,
}
