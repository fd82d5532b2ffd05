//! The errors of account operations.

use super::hash_queue::TooBusy;
use super::password::InvalidPassword;
use super::scope::InvalidScope;
use crate::content::rows;

/// Why an account operation failed. A variant exists where a caller acts differently.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no user {name}")]
    UserUnknown { name: String },
    #[error("there is a user {name} already")]
    UserExists { name: String },
    /// The htpasswd file belongs to the operator, so the registry does not change it.
    #[error("the user {name} is kept in the htpasswd file: change it there, or remove it there first")]
    UserInHtpasswd { name: String },
    #[error("the user {name} signs in through an identity provider and has no password here")]
    UserFederated { name: String },
    #[error(
        "invalid user name {name:?}: it has 1 to 255 letters, digits and the characters . _ - @ + $, and begins with a \
         letter or a digit"
    )]
    InvalidUserName { name: String },
    /// In Quay's words.
    #[error("E-mail address already used")]
    AddressTaken,
    #[error("{why}")]
    HtpasswdUnreadable { why: String },
    #[error("invalid namespace {name:?}: it is the first part of a repository's name, of at most 128 characters")]
    InvalidNamespace { name: String },
    #[error(
        "the namespace {namespace} belongs to the user {owner}: give that user another one first, or remove the user"
    )]
    NamespaceTaken { namespace: String, owner: String },
    #[error(transparent)]
    InvalidPassword(#[from] InvalidPassword),
    #[error(transparent)]
    TooBusy(#[from] TooBusy),
    #[error("there is no such API key")]
    KeyUnknown,
    #[error("there is no such session")]
    SessionUnknown,
    #[error("{why}")]
    InvalidKey { why: String },
    #[error(transparent)]
    InvalidScope(#[from] InvalidScope),
    #[error("there is no group {name}")]
    GroupUnknown { name: String },
    #[error("a user has at most {max} stars and {max} bookmarks: remove others first")]
    TooManyPreferences { max: usize },
    #[error("{why}")]
    InvalidPermission { why: String },
    /// A failure of the registry, not of the client.
    #[error(transparent)]
    Database(#[from] rows::Error),
}
