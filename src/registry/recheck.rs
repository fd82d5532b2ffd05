//! Asks identity providers and the directory whether their users still exist.
//!
//! The API keys of a user who was removed at the provider must stop working. Only a response of the provider removes a
//! user. A provider that cannot be reached, or rejects the registry, changes nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use crate::identity::accounts::{Accounts, DIRECTORY, DueFederatedUser};
use crate::identity::directory::Unavailable;
use crate::kit::blocking;

/// The most users of one provider in one run.
const AT_ONCE_MAX: usize = 50;

impl Shared {
    /// Whether identity providers are asked again.
    pub(crate) fn rechecks_federated_users(&self) -> bool {
        self.recheck_interval("").is_some()
    }

    /// How often a provider is asked about a user.
    fn recheck_interval(&self, provider: &str) -> Option<Duration> {
        let auth = &self.config.http.auth;
        match provider {
            DIRECTORY => auth.ldap.as_ref().and_then(|ldap| ldap.recheck),
            _ => auth.openid.as_ref().and_then(|openid| openid.recheck),
        }
    }

    /// The shortest of the intervals after which providers and the directory are asked.
    pub(crate) fn shortest_recheck_interval(&self) -> Option<Duration> {
        [DIRECTORY, ""].into_iter().filter_map(|provider| self.recheck_interval(provider)).min()
    }

    /// The users that a provider must be asked about now. `last` has the last user of each provider that a run asked about
    /// before: those who follow come first.
    pub(crate) fn due_federated_users(
        &self,
        last: &HashMap<String, String>,
    ) -> Result<Vec<DueFederatedUser>, crate::identity::accounts::Error> {
        self.accounts.due_federated_users(|provider| self.recheck_interval(provider), last, AT_ONCE_MAX)
    }

    /// Asks about users, one after another, and stores the results.
    pub(crate) async fn recheck_federated_users(self: &Arc<Self>, due: Vec<DueFederatedUser>) {
        let mut away = HashSet::new();
        let mut unknown = HashMap::<String, (String, String, usize)>::new();
        let mut note = |provider: &str, user: String, error: String| {
            unknown.entry(provider.to_owned()).or_insert((user, error, 0)).2 += 1;
        };
        for who in due {
            // A provider that does not respond is not asked again in this run.
            if away.contains(&who.provider) {
                continue;
            }
            let (name, provider) = (who.name.clone(), who.provider.clone());
            match self.recheck_federated_user(who).await {
                Ok(()) => {}
                Err(Failure::Provider { error, is_away }) => {
                    note(&provider, name, error);
                    if is_away {
                        away.insert(provider);
                    }
                }
                Err(Failure::Directory(error)) => {
                    note(&provider, name, error.to_string());
                    away.insert(provider);
                }
                Err(Failure::Accounts(error)) => {
                    tracing::error!(user = name, error, "cannot store the response of a provider about a user");
                }
            }
        }
        for (provider, (user, error, users)) in unknown {
            // The directory has no name.
            let provider = Some(provider).filter(|provider| provider != DIRECTORY);
            let source = if provider.is_some() { "provider" } else { "directory" };
            tracing::warn!(provider, user, users, error, "cannot find out whether users of the {source} still exist");
        }
    }

    async fn recheck_federated_user(self: &Arc<Self>, who: DueFederatedUser) -> Result<(), Failure> {
        if who.provider == DIRECTORY {
            return match self.accounts.recheck_in_directory(&who).await.transpose().map_err(Failure::Directory)? {
                None => Ok(()),
                Some(Some(groups)) => {
                    self.write(move |accounts| accounts.federated_user_is_known(&who, Some(groups))).await
                }
                Some(None) => {
                    tracing::info!(user = who.name, "the directory no longer has a user, or has locked it");
                    self.write(move |accounts| accounts.federated_user_is_gone(&who)).await
                }
            };
        }
        self.recheck_at_provider(who).await
    }

    /// Runs a change on a blocking thread. A stop waits for it.
    pub(super) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Accounts) -> Result<T, crate::identity::accounts::Error> + Send + 'static,
    ) -> Result<T, Failure> {
        let accounts = Arc::clone(&self.accounts);
        let written = blocking::run(&self.work, move || work(&accounts)).await;
        let failed = |error: &dyn std::fmt::Display| Failure::Accounts(error.to_string());
        written.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
    }
}

/// Why the registry does not know whether a user still exists.
pub(super) enum Failure {
    /// The provider did not answer, or not as expected.
    Provider {
        error: String,
        is_away: bool,
    },
    Directory(Unavailable),
    Accounts(String),
}
