//! [`TokenGrant`]: the rights of a verified token.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::AccessEntry;
use crate::identity::accounts::Actions;
use crate::kit::clock::Timestamp;
use crate::oci::RepositoryName;

/// The credential that a token was issued for. The token ends with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IssuedFor {
    #[serde(rename = "nobody")]
    Anonymous,
    /// The password, by the stamp of its sign-in.
    Password(u64),
    /// The refresh token with this id. It may have been issued together with the token.
    Refresh(Uuid),
    /// The API key with this id.
    Key(Uuid),
    /// The ID token of a workload, by the rule that admitted it.
    Workload(String),
}

/// The holder of a token.
#[derive(Debug)]
pub(crate) enum Holder {
    /// A user of this registry or an anonymous caller.
    Local { user: Option<String>, by: IssuedFor },
    /// A holder that only the external issuer knows.
    External(Arc<ExternalHolder>),
}

/// The holder of a token of an external issuer.
#[derive(Debug)]
pub(crate) struct ExternalHolder {
    /// The name for the log. It differs from all user names.
    pub(crate) name: String,
    /// Whether the token allows listing all repositories.
    pub(crate) lists_catalog: bool,
}

/// The rights of a verified token.
#[derive(Debug)]
pub(crate) struct TokenGrant {
    pub(crate) holder: Holder,
    pub(super) not_before: Timestamp,
    pub(super) expires: Timestamp,
    repositories: HashMap<String, Actions>,
    /// Whether lists show all repositories of its holder, and not only those that the token names.
    pub(crate) lists_all: bool,
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
        // The token without scopes of Quay's documentation lists the repositories of its user.
        let lists_all = access.is_empty() || access.iter().any(AccessEntry::lists_catalog);
        Self { holder, not_before, expires, repositories, lists_all }
    }

    /// The actions that the token allows on a repository.
    pub(crate) fn actions(&self, name: &RepositoryName) -> Actions {
        self.repositories.get(name.as_str()).copied().unwrap_or_default()
    }
}
