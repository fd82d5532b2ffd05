//! [`KeyCheck`]: warns if the scopes of an API key grant nothing.

use std::cell::Cell;
use std::sync::Arc;

use super::Shared;
use crate::content::repository::{SearchScope, Stores};
use crate::identity::access::{Identity, Policy};
use crate::identity::accounts::{Accounts, Actions, Error, Key, KeyScope, NewKey, Origin, PlainKey};
use crate::oci::{CommonName, RepositoryName};

/// The largest number of beginnings of names that are examined, and of repositories.
const BEGINNINGS_MAX: usize = 1000;
const REPOSITORIES_MAX: usize = 10_000;

/// Finds out whether the scopes of a key grant anything.
pub(crate) struct KeyCheck {
    policy: Arc<Policy>,
    accounts: Arc<Accounts>,
    stores: Arc<Stores>,
}

impl Shared {
    pub(crate) fn key_check(&self) -> KeyCheck {
        KeyCheck { policy: self.policy(), accounts: Arc::clone(&self.accounts), stores: Arc::clone(&self.stores) }
    }
}

impl KeyCheck {
    /// Creates a key. Returns its secret, the key, and a warning if its scopes grant nothing now.
    pub(crate) fn create_key(
        &self,
        owner: &str,
        new: NewKey,
        origin: &Origin,
    ) -> Result<(PlainKey, Key, Option<String>), Error> {
        let (plain, key) = self.accounts.create_key(owner, new, origin)?;
        let warning = self.warning(&key);
        Ok((plain, key, warning))
    }

    /// A warning if scopes of a key grant its owner nothing now. `None` if finding out would take long.
    fn warning(&self, key: &Key) -> Option<String> {
        let scopes = key.scopes.as_ref().filter(|scopes| !scopes.is_empty())?;
        let owner = &key.owner;
        let idle = match self.idle(owner, scopes) {
            Ok(idle) => idle,
            Err(error) => {
                tracing::warn!(%error, key = %key.id, "cannot find out whether the scopes of an API key grant anything");
                return None;
            }
        };
        let which = match idle.as_slice() {
            [] => return None,
            idle if idle.len() == scopes.len() => String::new(),
            idle => format!(" {}", idle.join(", ")),
        };
        Some(format!(
            "the scopes{which} of this API key grant {owner} nothing: {owner} has no such rights in the repositories that they match"
        ))
    }

    /// The scopes that grant nothing.
    fn idle<'k>(&self, owner: &str, scopes: &'k [String]) -> Result<Vec<&'k str>, Error> {
        let parsed: Vec<KeyScope> = scopes.iter().filter_map(|scope| scope.parse().ok()).collect();
        if !self.grant_something(owner, &parsed, 1)? {
            return Ok(scopes.iter().map(String::as_str).collect());
        }
        let mut idle = Vec::new();
        for (text, scope) in scopes.iter().zip(&parsed).filter(|_| scopes.len() > 1) {
            if !self.grant_something(owner, std::slice::from_ref(scope), scopes.len())? {
                idle.push(text.as_str());
            }
        }
        Ok(idle)
    }

    /// Whether scopes grant anything. `share` divides the limits of the search.
    fn grant_something(&self, owner: &str, scopes: &[KeyScope], share: usize) -> Result<bool, Error> {
        let Some(account) = self.accounts.account(owner)? else { return Ok(true) };
        let identity = Identity::User(Arc::clone(&account));
        let is_granted = |name: &RepositoryName| {
            let allowed = scopes.iter().fold(Actions::NONE, |actions, scope| actions | scope.allows(name));
            let permissions = self.accounts.permissions(name)?;
            Ok::<_, Error>(!self.policy.owner_actions(&identity, name, &permissions).within(allowed).is_empty())
        };
        for name in scopes.iter().filter_map(|scope| scope.pattern().literals()).flatten() {
            if is_granted(&name)? {
                return Ok(true);
            }
        }
        let wild = || scopes.iter().map(KeyScope::pattern).filter(|pattern| pattern.literals().is_none());
        if wild().next().is_none() {
            return Ok(false);
        }
        let mut budget = BEGINNINGS_MAX / share;
        for ground in self.policy.grounds(&account) {
            for pattern in wild() {
                match pattern.common_name(&ground, &mut budget) {
                    CommonName::Name(name) if is_granted(&name)? => return Ok(true),
                    CommonName::Name(_) | CommonName::Nothing => {}
                    CommonName::Unknown => return Ok(true),
                }
            }
        }
        let among = match self.policy.beginnings(&identity) {
            None => SearchScope::All,
            Some(beginnings) => SearchScope::of(beginnings, self.accounts.named_repositories(Some(&account))?),
        };
        let looked = Cell::new(0);
        let found = self.stores.catalog(("", ""), 1, &among, |name| {
            looked.set(looked.get() + 1);
            looked.get() > REPOSITORIES_MAX / share || name.parse().is_ok_and(|name| is_granted(&name).unwrap_or(true))
        });
        // No warning if the list of repositories cannot be read.
        Ok(found.is_err() || found.is_ok_and(|page| !page.names.is_empty()))
    }
}
