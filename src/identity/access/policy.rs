//! [`Policy`]: decides whether a caller has the access that an operation requires. Pure. Denies unless something grants.

use std::sync::Arc;
use std::time::Duration;

use super::{Access, Caller, Credential, Identity, Refusal, Requires, Rule, Rules};
use crate::content::rows::{AccountRole, Role};
use crate::identity::accounts::{Account, Action, Actions, Permissions};
use crate::identity::tokens::Holder;
use crate::kit::clock::Timestamp;
use crate::oci::{RepositoryName, RepositoryPattern};

/// How long a sign-in is recent, as in Quay.
const FRESH_FOR: Duration = Duration::from_mins(10);

/// The general grants, in addition to rules and permissions. Superusers may do everything under any policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccessPolicy {
    /// A user may do everything in the repositories of the own namespace, usually `<user>/…`.
    #[default]
    Owners,
    /// All signed-in users may do everything, as in zot without `accessControl`.
    SignedIn,
    /// There are no general grants, as in zot with `accessControl`.
    Listed,
    /// All callers may do everything, without credentials.
    Open,
}

/// The access control of a registry.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) grants: AccessPolicy,
    /// `http.accessControl`, if there is one.
    pub(crate) rules: Option<Arc<Rules>>,
    /// Whether an API key without scopes may create, list and revoke API keys, as in zot.
    pub(crate) keys_make_keys: bool,
    /// Whether anonymous callers may list the catalog without a token if rules grant anonymous rights, as in zot.
    pub(crate) anonymous_catalog: bool,
}

/// The reason of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason<'a> {
    /// [`AccessPolicy::Open`].
    Open,
    /// [`AccessPolicy::SignedIn`].
    SignedIn,
    Superuser,
    ReadOnlySuperuser,
    /// The repository is in the user's namespace.
    Owner,
    /// The repository is public.
    Public,
    /// A permission of the user in the repository.
    User(Role),
    /// A permission of a group the user is in.
    Group(&'a str, Role),
    /// The role of the group that has the name of the namespace.
    Namespace(Role),
    /// `http.accessControl`.
    Rule(Rule<'a>),
    /// The token of an external token issuer.
    ExternalIssuer,
}

impl Policy {
    /// Decides about an operation. `permissions` are those of the repository that the operation is on.
    pub(crate) fn decide(
        &self,
        caller: &Caller,
        access: &Access,
        permissions: &Permissions,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let (signed_in, has_name) = (caller.account().is_some(), caller.identity.grantee().is_some());
        let granted = match access {
            Access::Anyone | Access::Token | Access::Account(Requires::Anyone) => true,
            // Listing keys requires the same on every route.
            Access::OwnKeys | Access::Account(Requires::OwnKeys) => match &caller.credential {
                _ if !signed_in => false,
                // A credential must not create another one that outlives it.
                Credential::Key(grant) => self.keys_make_keys && grant.scopes.is_none(),
                // Keys would outlive them.
                Credential::Token(_) | Credential::Certificate | Credential::IdToken => false,
                Credential::None | Credential::Password | Credential::Session(_) => true,
            },
            Access::Account(requires) => return account(caller, *requires, now),
            _ if self.grants == AccessPolicy::Open => true,
            Access::Catalog if matches!(&caller.identity, Identity::External(holder) if !holder.lists_catalog) => {
                return Err(Refusal::TooNarrow);
            }
            // podman, skopeo and docker send their credentials only after a challenge to this request. Without one,
            // signing in with a wrong password would seem to succeed.
            Access::SignedIn => has_name || is_token(caller),
            Access::Guest | Access::Catalog => {
                has_name || is_token(caller) || self.anonymous_catalog && self.grants_anonymous()
            }
            Access::Metrics => self.metrics(caller),
            Access::Repository(name, any) => {
                let actions = self.actions(caller, name, permissions);
                if actions.within(*any).is_empty() && is_too_narrow(caller, name, *any) {
                    let possible = self
                        .owner_actions(&caller.identity, name, permissions)
                        .within(credential_actions(caller, name));
                    // Another token of the user would help, or signing in.
                    if !has_name || !possible.within(*any).is_empty() {
                        return Err(Refusal::TooNarrow);
                    }
                }
                !actions.within(*any).is_empty()
            }
        };
        match granted {
            true => Ok(()),
            false if has_name => Err(Refusal::Denied),
            false => Err(Refusal::Unauthenticated),
        }
    }

    /// The actions of a caller in a repository.
    pub(crate) fn actions(&self, caller: &Caller, name: &RepositoryName, permissions: &Permissions) -> Actions {
        let bound = match &caller.credential {
            Credential::Token(token) => token.actions(name),
            _ => credential_actions(caller, name),
        };
        let bound = bound | Actions::DETECT_COLLISION;
        self.owner_actions(&caller.identity, name, permissions).within(bound)
    }

    /// Whether a list shows a repository to a caller, who must have the right to pull. An access token with scopes shows the
    /// repositories that it names, or all of its user with the scope `registry:catalog:*`. A token without scopes shows
    /// all: clients get one and expect their repositories (Quay).
    pub(crate) fn sees(&self, caller: &Caller, name: &RepositoryName, permissions: &Permissions) -> bool {
        // Most repositories of a long list are not the caller's. This check costs less than the patterns of a key.
        if !self.owner_actions(&caller.identity, name, permissions).has(Action::Pull) {
            return false;
        }
        match (&caller.identity, &caller.credential) {
            (Identity::External(holder), _) if holder.lists_catalog => true,
            // Some clients list with the token of a pull and follow no challenge, so this is no refusal.
            (_, Credential::Token(token)) if !token.grant.lists_all => token.actions(name).has(Action::Pull),
            _ => credential_actions(caller, name).has(Action::Pull),
        }
    }

    /// Whether a list shows every repository to a caller, independent of rules and permissions.
    pub(crate) fn sees_all(&self, caller: &Caller) -> bool {
        let is_owner_of_all = match &caller.identity {
            _ if self.grants == AccessPolicy::Open => true,
            Identity::User(user) => user.role != AccountRole::Ordinary || self.grants == AccessPolicy::SignedIn,
            Identity::Anonymous | Identity::External(_) | Identity::Workload(_) => false,
        };
        is_owner_of_all && is_unlimited(caller)
    }

    /// How the names begin of all repositories that a caller may see without a permission there. `None` if it could be
    /// any repository.
    pub(crate) fn beginnings(&self, identity: &Identity) -> Option<Vec<String>> {
        let mut beginnings = match (identity, identity.grantee()) {
            _ if self.grants == AccessPolicy::Open => return None,
            (Identity::External(_), _) => return None,
            (_, None) => Vec::new(),
            (_, Some(user)) if user.role != AccountRole::Ordinary || self.grants == AccessPolicy::SignedIn => {
                return None;
            }
            // A group may have a role in the namespace of its name.
            (_, Some(user)) => user.namespace.iter().chain(&user.groups).map(|name| format!("{name}/")).collect(),
        };
        if let Some(rules) = &self.rules {
            beginnings.extend(rules.beginnings(identity)?);
        }
        Some(beginnings)
    }

    /// Patterns of the repositories in which a user may have rights without a permission.
    pub(crate) fn grounds(&self, account: &Account) -> Vec<RepositoryPattern> {
        let everywhere = matches!(self.grants, AccessPolicy::Open | AccessPolicy::SignedIn)
            || account.role != AccountRole::Ordinary
            || self.rules.as_ref().is_some_and(|rules| rules.is_admin(account));
        if everywhere {
            return "**".parse().into_iter().collect();
        }
        let namespaces = account.namespace.iter().chain(&account.groups);
        let mut grounds: Vec<_> = namespaces.filter_map(|name| format!("{name}/*/**").parse().ok()).collect();
        grounds.extend(self.rules.iter().flat_map(|rules| rules.patterns_for(account)).cloned());
        grounds
    }

    /// The actions of an identity in a repository, without the limits of a credential.
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

    /// Visits each grant to an identity in a repository.
    pub(crate) fn each_grant<'a>(
        &'a self,
        identity: &'a Identity,
        name: &RepositoryName,
        permissions: &'a Permissions,
        visit: &mut dyn FnMut(Actions, Reason<'a>),
    ) {
        if let Identity::Workload(workload) = identity {
            let bound = workload.actions(name) | Actions::DETECT_COLLISION;
            let visit = &mut |actions: Actions, reason| visit(actions.within(bound), reason);
            return self.each_unlimited_grant(identity, name, permissions, visit);
        }
        self.each_unlimited_grant(identity, name, permissions, visit);
    }

    /// The same, without the limits of a workload's rule.
    fn each_unlimited_grant<'a>(
        &'a self,
        identity: &'a Identity,
        name: &RepositoryName,
        permissions: &'a Permissions,
        visit: &mut dyn FnMut(Actions, Reason<'a>),
    ) {
        if self.grants == AccessPolicy::Open {
            visit(Actions::ALL, Reason::Open);
        }
        // The token names all rights of its holder.
        if let Identity::External(_) = identity {
            return visit(Actions::CONTENT, Reason::ExternalIssuer);
        }
        if permissions.public {
            visit(Actions::PULL, Reason::Public);
        }
        if let Some(user) = identity.grantee() {
            match user.role {
                AccountRole::Superuser => visit(Actions::ALL, Reason::Superuser),
                // Other grants do not apply.
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
            Identity::Workload(workload) => workload.is_unlimited() && self.rules.as_ref().is_some_and(by_rule),
            Identity::User(user) => {
                is_unlimited(caller)
                    && (user.role != AccountRole::Ordinary
                        || self.grants == AccessPolicy::SignedIn
                        || self.rules.as_ref().is_some_and(by_rule))
            }
        }
    }
}

/// The actions that a credential allows on a repository. For a token of this registry, those of the credential that it
/// was issued for.
fn credential_actions(caller: &Caller, name: &RepositoryName) -> Actions {
    match &caller.credential {
        Credential::None
        | Credential::Password
        | Credential::IdToken
        | Credential::Certificate
        | Credential::Session(_) => Actions::ALL,
        Credential::Key(grant) => grant.actions(name),
        Credential::Token(token) => match &token.grant.holder {
            Holder::Local { .. } => token.key.as_ref().map_or(Actions::ALL, |key| key.actions(name)),
            Holder::External(_) => token.grant.actions(name),
        },
    }
}

/// Whether a token allows none of these actions.
fn is_too_narrow(caller: &Caller, name: &RepositoryName, any: Actions) -> bool {
    matches!(&caller.credential, Credential::Token(token) if token.grant.actions(name).within(any).is_empty())
}

/// Whether the caller has an access token, possibly an anonymous one.
fn is_token(caller: &Caller) -> bool {
    matches!(caller.credential, Credential::Token(_))
}

/// Whether the credential has all rights of its owner.
fn is_unlimited(caller: &Caller) -> bool {
    match &caller.credential {
        Credential::None | Credential::Password | Credential::Certificate | Credential::Session(_) => true,
        Credential::Key(grant) => grant.scopes.is_none(),
        Credential::IdToken | Credential::Token(_) => false,
    }
}

/// Decides about an operation on accounts. The general grants do not apply.
fn account(caller: &Caller, requires: Requires, now: Timestamp) -> Result<(), Refusal> {
    let user = match &caller.identity {
        Identity::User(user) => user,
        Identity::Workload(_) => return Err(Refusal::Denied),
        Identity::Anonymous | Identity::External(_) => return Err(Refusal::Unauthenticated),
    };
    let fresh = || match &caller.credential {
        Credential::Session(session) if now.since(session.signed_in) < FRESH_FOR => Ok(()),
        Credential::Session(_) => Err(Refusal::NotFresh),
        Credential::None
        | Credential::Password
        | Credential::IdToken
        | Credential::Certificate
        | Credential::Key(_)
        | Credential::Token(_) => Err(Refusal::Denied),
    };
    let role = user.role;
    let allowed = match requires {
        // `Policy::decide` handles these.
        Requires::Repository(_) | Requires::Tag | Requires::OwnKeys => false,
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
        // A pipeline cannot enter a password, so an unlimited key is enough.
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
