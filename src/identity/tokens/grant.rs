//! [`TokenGrant`]: what a verified token lets through.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::AccessEntry;
use crate::identity::accounts::Actions;
use crate::kit::clock::Timestamp;
use crate::oci::RepositoryName;

/// By which credential a token was got. With the credential the token ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IssuedFor {
    /// By none.
    #[serde(rename = "nobody")]
    Anonymous,
    /// By the password with this mark.
    Password(u64),
    /// By the refresh token with this id, or together with it.
    Refresh(Uuid),
    /// By the API key with this id.
    Key(Uuid),
}

/// Whom a token was given to.
#[derive(Debug)]
pub(crate) enum Holder {
    /// Here, to a user or to nobody.
    Local { user: Option<String>, by: IssuedFor },
    /// Elsewhere, to somebody whom this registry need not know.
    External(Arc<ExternalHolder>),
}

/// Somebody whom an outside token service has given a token to.
#[derive(Debug)]
pub(crate) struct ExternalHolder {
    /// For the log; no user's name.
    pub(crate) name: String,
    /// Whether the token is for the list of all repositories.
    pub(crate) lists_catalog: bool,
}

/// What a verified token lets through.
#[derive(Debug)]
pub(crate) struct TokenGrant {
    pub(crate) holder: Holder,
    pub(super) not_before: Timestamp,
    pub(super) expires: Timestamp,
    repositories: HashMap<String, Actions>,
}

impl TokenGrant {
    pub(super) fn new(holder: Holder, access: &[AccessEntry], not_before: Timestamp, expires: Timestamp) -> Self {
        let mut repositories: HashMap<String, Actions> = HashMap::new();
        for entry in access.iter().filter(|entry| entry.kind == "repository") {
            let actions = repositories.entry(entry.name.clone()).or_default();
            for word in &entry.actions {
                *actions = *actions
                    | match word.as_str() {
                        "pull" => Actions::PULL,
                        "push" => Actions::PUSH,
                        "delete" => Actions::DELETE,
                        "*" => Actions::ALL,
                        _ => Actions::NONE,
                    };
            }
        }
        Self { holder, not_before, expires, repositories }
    }

    /// What the token lets through on a repository.
    pub(crate) fn actions(&self, name: &RepositoryName) -> Actions {
        self.repositories.get(name.as_str()).copied().unwrap_or_default()
    }
}
