//! [`Policy`]: (caller, access) → allowed or refused. Pure; denies unless something grants.

use std::time::Duration;

use super::{Access, Action, Caller, Credential, Identity, Refusal, Requires};
use crate::clock::Timestamp;
use crate::meta::Standing;
use crate::oci::RepositoryName;

/// How long a password counts as given just now, as in Quay.
const FRESH_FOR: Duration = Duration::from_mins(10);

/// What is granted to whom. Superusers may do everything under any policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessPolicy {
    /// A user may do everything in the repositories under the own name, `<user>/…`.
    #[default]
    Owners,
    /// Everybody who has signed in may do everything: what zot does without `accessControl`.
    SignedIn,
    /// Everybody who reaches the registry may do everything, without credentials.
    Open,
}

/// What decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) grants: AccessPolicy,
    /// Whether an API key without scopes may make, list and revoke API keys, as zot has it.
    pub(crate) keys_make_keys: bool,
}

impl Policy {
    /// Decides. The same function answers for a single operation and filters every list.
    pub(crate) fn decide(self, caller: &Caller, access: &Access, now: Timestamp) -> Result<(), Refusal> {
        let granted = match access {
            Access::Anybody | Access::Account(Requires::Anyone) => true,
            Access::Account(requires) => return account(caller, *requires, now),
            Access::OwnKeys => match (&caller.identity, &caller.credential) {
                (Identity::Anonymous, _) => return Err(Refusal::Unauthenticated),
                // A credential does not make another that outlives it.
                (_, Credential::Key(grant)) => self.keys_make_keys && grant.scopes.is_none(),
                (_, Credential::None | Credential::Password | Credential::Session(_)) => true,
            },
            _ if self.grants == AccessPolicy::Open => true,
            _ if caller.account().is_none() => return Err(Refusal::Unauthenticated),
            Access::Known => true,
            Access::Metrics => {
                is_unlimited(caller)
                    && (caller.standing() != Standing::Ordinary || self.grants == AccessPolicy::SignedIn)
            }
            Access::Repository(name, action) => {
                self.owner_may(caller, name, *action) && credential_allows(&caller.credential, name, *action)
            }
        };
        if granted { Ok(()) } else { Err(Refusal::Denied) }
    }

    /// Whether whoever the credential belongs to may do it.
    fn owner_may(self, caller: &Caller, name: &RepositoryName, action: Action) -> bool {
        match caller.standing() {
            Standing::Superuser => true,
            // What others are granted besides does not make them more than that.
            Standing::ReadOnlySuperuser => action == Action::Pull,
            Standing::Ordinary if self.grants == AccessPolicy::SignedIn => true,
            Standing::Ordinary => name.as_str() != name.namespace() && caller.name() == Some(name.namespace()),
        }
    }
}

/// Whether a credential lets through what its owner may do.
fn credential_allows(credential: &Credential, name: &RepositoryName, action: Action) -> bool {
    match credential {
        Credential::None | Credential::Password | Credential::Session(_) => true,
        Credential::Key(grant) => {
            grant.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(|scope| scope.allows(name, action)))
        }
    }
}

/// Whether a credential has all rights of its owner.
fn is_unlimited(caller: &Caller) -> bool {
    !matches!(&caller.credential, Credential::Key(grant) if grant.scopes.is_some())
}

/// Decides what concerns accounts. The general grants have no say in it.
fn account(caller: &Caller, requires: Requires, now: Timestamp) -> Result<(), Refusal> {
    let Identity::User(user) = &caller.identity else { return Err(Refusal::Unauthenticated) };
    let fresh = || match &caller.credential {
        Credential::Session(session) if now.since(session.signed_in) < FRESH_FOR => Ok(()),
        Credential::Session(_) => Err(Refusal::NotFresh),
        Credential::None | Credential::Password | Credential::Key(_) => Err(Refusal::Denied),
    };
    let standing = user.standing;
    let allowed = match requires {
        Requires::Anyone | Requires::SignedIn => true,
        Requires::UserAdmin => is_unlimited(caller),
        Requires::FreshLogin => return fresh(),
        Requires::Superuser => standing == Standing::Superuser,
        Requires::SuperuserRead => standing != Standing::Ordinary,
    };
    match (allowed, requires, &caller.credential) {
        (false, ..) => Err(Refusal::Denied),
        // A pipeline has no password to give again; its key must be one without limits.
        (true, Requires::Superuser | Requires::SuperuserRead, Credential::Key(grant)) => {
            if grant.scopes.is_none() {
                Ok(())
            } else {
                Err(Refusal::Denied)
            }
        }
        (true, Requires::Superuser | Requires::SuperuserRead, _) => fresh(),
        (true, ..) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
