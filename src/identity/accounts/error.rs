//! Why something cannot be done with an account.

use std::fmt;

use super::hash_queue::TooBusy;
use super::password::InvalidPassword;
use super::scope::InvalidScope;
use crate::content::rows;

/// Why something cannot be done with an account. A variant exists where a caller would act
/// differently.
#[derive(Debug)]
pub(crate) enum Error {
    UserUnknown {
        name: String,
    },
    UserExists {
        name: String,
    },
    /// The user is kept in a file that others write.
    UserInHtpasswd {
        name: String,
    },
    /// The user comes from a provider, and has no password here.
    UserFederated {
        name: String,
    },
    InvalidUserName {
        name: String,
    },
    /// The htpasswd file.
    HtpasswdUnreadable {
        why: String,
    },
    InvalidNamespace {
        name: String,
    },
    /// The namespace is another user's.
    NamespaceTaken {
        namespace: String,
        owner: String,
    },
    InvalidPassword(InvalidPassword),
    /// Too many passwords wait to be hashed.
    TooBusy,
    KeyUnknown,
    SessionUnknown,
    InvalidKey {
        why: String,
    },
    InvalidScope(InvalidScope),
    GroupUnknown {
        name: String,
    },
    InvalidPermission {
        why: String,
    },
    /// Our fault.
    Database(rows::Error),
}

impl From<rows::Error> for Error {
    fn from(error: rows::Error) -> Self {
        Self::Database(error)
    }
}

impl From<InvalidScope> for Error {
    fn from(invalid: InvalidScope) -> Self {
        Self::InvalidScope(invalid)
    }
}

impl From<TooBusy> for Error {
    fn from(TooBusy: TooBusy) -> Self {
        Self::TooBusy
    }
}

impl From<InvalidPassword> for Error {
    fn from(invalid: InvalidPassword) -> Self {
        Self::InvalidPassword(invalid)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserUnknown { name } => write!(f, "there is no user {name}"),
            Self::UserExists { name } => write!(f, "there is a user {name} already"),
            Self::UserInHtpasswd { name } => {
                write!(f, "the user {name} is kept in the htpasswd file: change it there, or remove it there first")
            }
            Self::UserFederated { name } => {
                write!(f, "the user {name} signs in through a provider, and has no password here")
            }
            Self::InvalidUserName { name } => write!(
                f,
                "invalid user name {name:?}: it has 1 to 255 letters, digits and the characters . _ - @ + $, and begins \
                 with a letter or a digit"
            ),
            Self::InvalidNamespace { name } => write!(
                f,
                "invalid namespace {name:?}: it is the first part of a repository's name, of at most 128 characters"
            ),
            Self::NamespaceTaken { namespace, owner } => write!(
                f,
                "the namespace {namespace} belongs to the user {owner}: give that user another one first, or remove \
                 the user"
            ),
            Self::InvalidPassword(invalid) => invalid.fmt(f),
            Self::TooBusy => f.write_str("too many passwords wait to be hashed: try again in a few seconds"),
            Self::KeyUnknown => f.write_str("there is no such API key"),
            Self::SessionUnknown => f.write_str("there is no such session"),
            Self::GroupUnknown { name } => write!(f, "there is no group {name}"),
            Self::InvalidKey { why } | Self::InvalidPermission { why } | Self::HtpasswdUnreadable { why } => {
                f.write_str(why)
            }
            Self::InvalidScope(invalid) => invalid.fmt(f),
            Self::Database(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}
