//! Authentication and access control.
//!
//! [`Credentials`] parses the headers of a request. [`Authenticator`] finds the caller, with the help of the
//! connection's [`CredentialCache`]. [`Policy`] decides what the caller may do. Everything is denied unless something
//! grants it. A credential never gives more rights than its owner has. Secrets are compared in constant time and never
//! printed. Knows actions and repository names, but no URLs and no content.

mod authenticate;
mod credential_cache;
mod credentials;
mod policy;
mod rules;

use std::sync::Arc;

pub(crate) use authenticate::{Authenticated, Authenticator, IdToken, NotAuthenticated, RequestInfo};
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
use crate::identity::workload::Workload;
use crate::kit::clock::Timestamp;
use crate::oci::RepositoryName;

/// The access that an operation requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Anyone,
    /// Getting an access token. The token has the rights of the caller.
    Token,
    /// A signed-in caller, or one with an anonymous token.
    SignedIn,
    /// Like `SignedIn`, or an anonymous caller if rules grant anonymous rights. zot's web page asks for it to offer
    /// browsing without signing in.
    Guest,
    /// Listing repositories. The response only lists those that the caller may pull.
    Catalog,
    /// Reading the metrics of the registry.
    Metrics,
    /// At least one of these actions on a repository.
    Repository(RepositoryName, Actions),
    /// Managing the caller's API keys.
    OwnKeys,
    /// A right to accounts.
    Account(Requires),
}

/// The access that an operation on accounts requires. A sign-in is recent if the password was entered within the last
/// minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requires {
    Anyone,
    /// A signed-in caller.
    SignedIn,
    /// An action on the repository that the path names (Quay's roles read, write and admin).
    Repository(Action),
    /// Creating or moving a tag of the repository that the path names. Only the transaction of the change knows which of
    /// the two it is.
    Tag,
    /// A credential with all rights of its user.
    UserAdmin,
    /// A session.
    Session,
    /// A session with a recent sign-in, or an API key. The handler checks that the key acts on itself.
    FreshLoginOrKey,
    /// A session with a recent sign-in.
    FreshLogin,
    /// A superuser with a recent sign-in or an API key without scopes.
    Superuser,
    /// Like `Superuser`, or a read-only superuser.
    SuperuserRead,
    /// A superuser with a recent sign-in. An API key is not enough, because the change outlives it, such as a password or
    /// a right of another user.
    FreshSuperuser,
    /// Like `FreshSuperuser`, or a read-only superuser.
    FreshSuperuserRead,
    /// Listing the caller's API keys, with the credentials that zot's route accepts.
    OwnKeys,
}

/// The caller of a request and its credential.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) identity: Identity,
    pub(crate) credential: Credential,
}

/// The client certificate of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ClientCertificate {
    #[default]
    None,
    /// It names this user, who need not exist, and is valid until then. A connection may stay open for longer, and a TLS
    /// session that continues an earlier one is not verified again.
    Names { user: Arc<str>, until: Timestamp },
    /// It names no user.
    NamesNone,
}

/// The identity of a caller.
#[derive(Clone, Debug)]
pub(crate) enum Identity {
    Anonymous,
    User(Arc<Account>),
    /// The holder of an external token, which names its rights.
    External(Arc<ExternalHolder>),
    /// A workload. It has rights in repositories, and no account that it could change.
    Workload(Arc<Workload>),
}

impl Identity {
    /// The account whose rights in repositories the caller has, if it has those of one. A workload's account may exist only
    /// in rules.
    pub(crate) fn grantee(&self) -> Option<&Arc<Account>> {
        match self {
            Self::Anonymous | Self::External(_) => None,
            Self::User(account) => Some(account),
            Self::Workload(workload) => Some(&workload.account),
        }
    }

    /// The name for the log.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::User(account) => Some(&account.name),
            Self::External(holder) => Some(&holder.name),
            Self::Workload(workload) => Some(&workload.name),
        }
    }
}

/// The credential of a caller. It never gives more rights than its owner has.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    None,
    Password,
    /// The ID token of a workload.
    IdToken,
    Key(Arc<KeyGrant>),
    /// A client certificate of the connection.
    Certificate,
    Session(Arc<SessionGrant>),
    Token(TokenCredential),
}

impl Credential {
    /// The session, if the credential is one.
    pub(crate) fn session(&self) -> Option<&SessionGrant> {
        match self {
            Self::Session(grant) => Some(grant),
            Self::None | Self::Password | Self::IdToken | Self::Certificate | Self::Key(_) | Self::Token(_) => None,
        }
    }

    /// The API key, if the credential is one or is a token issued for one.
    pub(crate) fn key(&self) -> Option<&Arc<KeyGrant>> {
        match self {
            Self::Key(grant) => Some(grant),
            Self::Token(token) => token.key.as_ref(),
            Self::None | Self::Password | Self::IdToken | Self::Certificate | Self::Session(_) => None,
        }
    }
}

/// An access token whose credential is still valid.
#[derive(Clone, Debug)]
pub(crate) struct TokenCredential {
    pub(crate) grant: Arc<TokenGrant>,
    /// The API key that the token was issued for.
    pub(crate) key: Option<Arc<KeyGrant>>,
}

impl TokenCredential {
    /// The actions that the token allows on a repository.
    fn actions(&self, name: &RepositoryName) -> Actions {
        let by_key = self.key.as_ref().map_or(Actions::ALL, |key| key.actions(name));
        self.grant.actions(name).within(by_key)
    }
}

impl Caller {
    pub(crate) const ANONYMOUS: Self = Self { identity: Identity::Anonymous, credential: Credential::None };

    /// The account, if the caller is a user of this registry.
    pub(crate) fn account(&self) -> Option<&Arc<Account>> {
        match &self.identity {
            Identity::Anonymous | Identity::External(_) | Identity::Workload(_) => None,
            Identity::User(account) => Some(account),
        }
    }

    /// The name for the log.
    pub(crate) fn name(&self) -> Option<&str> {
        self.identity.name()
    }
}

/// Why access is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The caller is anonymous.
    Unauthenticated,
    /// The caller must enter the password again.
    NotFresh,
    /// The token lacks this access, but the caller could get one that has it.
    TooNarrow,
    /// The signed-in caller lacks the right.
    Denied,
}
