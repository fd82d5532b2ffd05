//! [`Policy`]: (caller, access) → allowed or refused. Pure; denies unless something grants.

use std::sync::Arc;
use std::time::Duration;

use super::{Access, Caller, Credential, Identity, Refusal, Requires, Rule, Rules};
use crate::content::rows::{AccountRole, Role};
use crate::identity::accounts::{Account, Action, Actions, Permissions};
use crate::identity::tokens::Holder;
use crate::kit::clock::Timestamp;
use crate::oci::{RepositoryName, RepositoryPattern};

/// How long a password counts as given just now, as in Quay.
const FRESH_FOR: Duration = Duration::from_mins(10);

/// What is granted to whom besides what rules and permissions grant. Superusers may do everything under
/// any policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessPolicy {
    /// A user may do everything in the repositories of the own namespace, usually `<user>/…`.
    #[default]
    Owners,
    /// Everybody who has signed in may do everything: what zot does without `accessControl`.
    SignedIn,
    /// Nothing: what zot does with `accessControl`.
    Listed,
    /// Everybody who reaches the registry may do everything, without credentials.
    Open,
}

/// What decides.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) grants: AccessPolicy,
    /// `http.accessControl`, if there is one.
    pub(crate) rules: Option<Arc<Rules>>,
    /// Whether an API key without scopes may make, list and revoke API keys, as zot has it.
    pub(crate) keys_make_keys: bool,
    /// Whether an anonymous caller lists the catalog without a token where rules grant anonymous rights, as in zot.
    pub(crate) anonymous_catalog: bool,
}

/// Why somebody may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason<'a> {
    /// Everybody may do everything.
    Open,
    /// Everybody who has signed in may do everything.
    SignedIn,
    Superuser,
    ReadOnlySuperuser,
    /// It is in the user's own namespace.
    Owner,
    /// The repository is public.
    Public,
    /// A permission of the user in the repository.
    User(Role),
    /// A permission of a group the user is in.
    Group(&'a str, Role),
    /// What members of the group with the namespace's name may do in it.
    Namespace(Role),
    /// `http.accessControl`.
    Rule(Rule<'a>),
    /// An outside token service, as far as its token goes.
    ExternalIssuer,
}

impl Policy {
    /// Decides. The same function answers for a single operation and filters every list. `permissions` are
    /// those of the repository that the access is to.
    pub(crate) fn decide(
        &self,
        caller: &Caller,
        access: &Access,
        permissions: &Permissions,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let signed_in = caller.account().is_some();
        let granted = match access {
            Access::Anyone | Access::Token | Access::Account(Requires::Anyone) => true,
            // Listing keys takes the same by every route.
            Access::OwnKeys | Access::Account(Requires::OwnKeys) => match &caller.credential {
                _ if !signed_in => false,
                // A credential does not make another that outlives it.
                Credential::Key(grant) => self.keys_make_keys && grant.scopes.is_none(),
                Credential::Token(_) => false,
                Credential::None | Credential::Password | Credential::Session(_) => true,
            },
            Access::Account(requires) => return account(caller, *requires, now),
            _ if self.grants == AccessPolicy::Open => true,
            Access::Catalog if matches!(&caller.identity, Identity::External(holder) if !holder.lists_catalog) => {
                return Err(Refusal::TooNarrow);
            }
            // podman, skopeo and docker send their credentials only if this request was challenged. An answer without
            // a challenge would also accept a wrong password.
            Access::SignedIn => signed_in || is_token(caller),
            Access::Guest | Access::Catalog => {
                signed_in || is_token(caller) || self.anonymous_catalog && self.grants_anonymous()
            }
            Access::Metrics => self.metrics(caller),
            Access::Repository(name, any) => {
                let actions = self.actions(caller, name, permissions);
                if actions.within(*any).is_empty() && is_too_narrow(caller, name, *any) {
                    let could = self.owner_actions(&caller.identity, name, permissions).within(lasting(caller, name));
                    // Another token would help: the user may do it, or can be somebody else.
                    if !signed_in || !could.within(*any).is_empty() {
                        return Err(Refusal::TooNarrow);
                    }
                }
                !actions.within(*any).is_empty()
            }
        };
        match granted {
            true => Ok(()),
            false if signed_in => Err(Refusal::Denied),
            false => Err(Refusal::Unauthenticated),
        }
    }

    /// What a caller may do in a repository.
    pub(crate) fn actions(&self, caller: &Caller, name: &RepositoryName, permissions: &Permissions) -> Actions {
        let bound = match &caller.credential {
            Credential::Token(token) => token.actions(name),
            _ => lasting(caller, name),
        };
        let bound = bound | Actions::DETECT_COLLISION;
        self.owner_actions(&caller.identity, name, permissions).within(bound)
    }

    /// Whether a caller sees a repository in a list: whether they may pull from it. A list goes by who asks,
    /// whatever a token is for: clients ask for one without any scope, and expect their repositories (Quay).
    pub(crate) fn sees(&self, caller: &Caller, name: &RepositoryName, permissions: &Permissions) -> bool {
        let bound = match &caller.identity {
            // The service has said that all are for them to see.
            Identity::External(holder) if holder.lists_catalog => Actions::ALL,
            _ => lasting(caller, name),
        };
        self.owner_actions(&caller.identity, name, permissions).within(bound).has(Action::Pull)
    }

    /// The namespaces in which somebody may see repositories that the database does not name for them or for
    /// everybody; nothing if it could be any.
    pub(crate) fn namespaces(&self, identity: &Identity) -> Option<Vec<String>> {
        if self.grants == AccessPolicy::Open || self.rules.is_some() {
            return None;
        }
        match identity {
            Identity::Anonymous => Some(Vec::new()),
            Identity::External(_) => None,
            Identity::User(user) if user.role != AccountRole::Ordinary || self.grants == AccessPolicy::SignedIn => None,
            // A group's, if its members have a role there.
            Identity::User(user) => Some(user.namespace.iter().chain(&user.groups).cloned().collect()),
        }
    }

    /// Patterns of the repositories in which a user may have rights that no row of the database names.
    pub(crate) fn grounds(&self, account: &Account) -> Vec<RepositoryPattern> {
        let everywhere = matches!(self.grants, AccessPolicy::Open | AccessPolicy::SignedIn)
            || account.role != AccountRole::Ordinary
            || self.rules.as_ref().is_some_and(|rules| rules.is_admin(account));
        if everywhere {
            return "**".parse().into_iter().collect();
        }
        let namespaces = std::iter::once(&account.name).chain(&account.groups);
        let mut grounds: Vec<_> = namespaces.filter_map(|name| format!("{name}/*/**").parse().ok()).collect();
        grounds.extend(self.rules.iter().flat_map(|rules| rules.patterns_for(account)).cloned());
        grounds
    }

    /// What somebody may do in a repository, with all credentials they could have.
    pub(crate) fn owner_actions(
        &self,
        identity: &Identity,
        name: &RepositoryName,
        permissions: &Permissions,
    ) -> Actions {
        let mut actions = Actions::NONE;
        self.each_grant(identity, name, permissions, &mut |more, _| actions = actions | more);
        actions
    }

    /// Visits everything that grants somebody something in a repository.
    pub(crate) fn each_grant<'a>(
        &'a self,
        identity: &'a Identity,
        name: &RepositoryName,
        permissions: &'a Permissions,
        visit: &mut dyn FnMut(Actions, Reason<'a>),
    ) {
        if self.grants == AccessPolicy::Open {
            visit(Actions::ALL, Reason::Open);
        }
        // What the service grants stands in the token, and nothing here adds to it.
        if let Identity::External(_) = identity {
            return visit(Actions::CONTENT, Reason::ExternalIssuer);
        }
        if permissions.public {
            visit(Actions::PULL, Reason::Public);
        }
        if let Identity::User(user) = identity {
            match user.role {
                AccountRole::Superuser => visit(Actions::ALL, Reason::Superuser),
                // What others are granted besides does not make them more than that.
                AccountRole::ReadOnlySuperuser => {
                    return visit(Actions::PULL | Actions::INSPECT, Reason::ReadOnlySuperuser);
                }
                AccountRole::Ordinary => {}
            }
            if self.grants == AccessPolicy::SignedIn {
                visit(Actions::ALL, Reason::SignedIn);
            }
            let in_namespace = name.as_str() != name.namespace();
            if self.grants == AccessPolicy::Owners
                && in_namespace
                && user.namespace.as_deref() == Some(name.namespace())
            {
                visit(Actions::ALL, Reason::Owner);
            }
            if let Ok(at) = permissions.users.binary_search_by(|(known, _)| known.as_str().cmp(&user.name)) {
                let role = permissions.users[at].1;
                visit(role.actions(), Reason::User(role));
            }
            for (group, role) in &permissions.groups {
                if user.groups.binary_search(group).is_ok() {
                    visit(role.actions(), Reason::Group(group, *role));
                }
            }
            if let Some(role) = permissions.namespace
                && in_namespace
                && user.groups.binary_search_by(|group| group.as_str().cmp(name.namespace())).is_ok()
            {
                visit(role.actions(), Reason::Namespace(role));
            }
        }
        if let Some(rules) = &self.rules {
            rules.each_grant(identity, name, &mut |actions, rule| {
                if !actions.is_empty() {
                    visit(actions, Reason::Rule(rule));
                }
            });
        }
    }

    /// Whether any rule grants an anonymous caller something.
    pub(crate) fn grants_anonymous(&self) -> bool {
        self.rules.as_ref().is_some_and(|rules| rules.grant_anonymous())
    }

    fn metrics(&self, caller: &Caller) -> bool {
        let by_rule = |rules: &Arc<Rules>| rules.metrics(&caller.identity);
        match &caller.identity {
            Identity::Anonymous | Identity::External(_) => self.rules.as_ref().is_some_and(by_rule),
            Identity::User(user) => {
                is_unlimited(caller)
                    && (user.role != AccountRole::Ordinary
                        || self.grants == AccessPolicy::SignedIn
                        || self.rules.as_ref().is_some_and(by_rule))
            }
        }
    }
}

/// What a credential lets through on a repository; of a token of this registry, what the credential does that it
/// was got with.
fn lasting(caller: &Caller, name: &RepositoryName) -> Actions {
    match &caller.credential {
        Credential::None | Credential::Password | Credential::Session(_) => Actions::ALL,
        Credential::Key(grant) => grant.actions(name),
        Credential::Token(token) => match &token.grant.holder {
            Holder::Local { .. } => token.key.as_ref().map_or(Actions::ALL, |key| key.actions(name)),
            Holder::External(_) => token.grant.actions(name),
        },
    }
}

/// Whether a token is what stands between a caller and some actions.
fn is_too_narrow(caller: &Caller, name: &RepositoryName, any: Actions) -> bool {
    matches!(&caller.credential, Credential::Token(token) if token.grant.actions(name).within(any).is_empty())
}

/// Whether somebody has fetched a token, be it as nobody.
fn is_token(caller: &Caller) -> bool {
    matches!(caller.credential, Credential::Token(_))
}

/// Whether a credential has all rights of its owner.
fn is_unlimited(caller: &Caller) -> bool {
    match &caller.credential {
        Credential::None | Credential::Password | Credential::Session(_) => true,
        Credential::Key(grant) => grant.scopes.is_none(),
        Credential::Token(_) => false,
    }
}

/// Decides what concerns accounts. The general grants have no say in it.
fn account(caller: &Caller, requires: Requires, now: Timestamp) -> Result<(), Refusal> {
    let Identity::User(user) = &caller.identity else { return Err(Refusal::Unauthenticated) };
    let fresh = || match &caller.credential {
        Credential::Session(session) if now.since(session.signed_in) < FRESH_FOR => Ok(()),
        Credential::Session(_) => Err(Refusal::NotFresh),
        Credential::None | Credential::Password | Credential::Key(_) | Credential::Token(_) => Err(Refusal::Denied),
    };
    let role = user.role;
    let allowed = match requires {
        // A row that asks for a right to a repository names one, and is decided by that; who may list keys is decided
        // by the policy.
        Requires::Repository(_) | Requires::OwnKeys => false,
        Requires::Anyone | Requires::SignedIn => true,
        Requires::UserAdmin => is_unlimited(caller),
        Requires::Session => matches!(caller.credential, Credential::Session(_)),
        Requires::FreshLoginOrKey if matches!(caller.credential, Credential::Key(_)) => true,
        Requires::FreshLogin | Requires::FreshLoginOrKey => return fresh(),
        Requires::Superuser | Requires::FreshSuperuser => role == AccountRole::Superuser,
        Requires::SuperuserRead | Requires::FreshSuperuserRead => role != AccountRole::Ordinary,
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
        (
            true,
            Requires::Superuser | Requires::SuperuserRead | Requires::FreshSuperuser | Requires::FreshSuperuserRead,
            _,
        ) => fresh(),
        (true, ..) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
