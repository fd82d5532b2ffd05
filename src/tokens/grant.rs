//! [`TokenGrant`]: what a verified token lets through.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::AccessEntry;
use crate::accounts::Actions;
use crate::clock::Timestamp;
use crate::oci::RepositoryName;

/// By which credential a token was got. With the credential the token ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IssuedFor {
    /// By none.
    Nobody,
    /// By the password with this mark.
    Password(u64),
    /// By the API key with this id.
    Key(Uuid),
}

/// What a verified token lets through.
#[derive(Debug)]
pub(crate) struct TokenGrant {
    /// The user's name; nobody's, if it was given to nobody.
    pub(crate) user: Option<String>,
    pub(crate) by: IssuedFor,
    pub(super) not_before: Timestamp,
    pub(super) expires: Timestamp,
    repositories: HashMap<String, Actions>,
}

impl TokenGrant {
    pub(super) fn new(
        user: String,
        by: IssuedFor,
        access: &[AccessEntry],
        not_before: Timestamp,
        expires: Timestamp,
    ) -> Self {
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
        Self { user: Some(user).filter(|user| !user.is_empty()), by, not_before, expires, repositories }
    }

    /// What the token lets through on a repository.
    pub(crate) fn actions(&self, name: &RepositoryName) -> Actions {
        self.repositories.get(name.as_str()).copied().unwrap_or_default()
    }
}
