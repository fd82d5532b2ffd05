//! [`Explanation`]: a user's rights in a repository, and the rules that grant them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::content::rows::Role;
use crate::identity::access::{Identity, Reason, Rule};
use crate::identity::accounts::{Account, Action, Actions, Error};
use crate::oci::RepositoryName;

/// A user's rights in a repository, with a password or with an API key that has no limits.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Explanation {
    /// The user, or null for an anonymous caller.
    pub(crate) user: Option<String>,
    pub(crate) repository: String,
    pub(crate) actions: Vec<Action>,
    pub(crate) because: Vec<Grant>,
    /// The namespace that the user owns.
    pub(crate) namespace: Option<String>,
    /// Why the user does not own the namespace of its name.
    pub(crate) namespace_note: Option<String>,
    /// Why none of the grants has an effect.
    pub(crate) note: Option<String>,
}

/// A rule and the actions that it grants.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Grant {
    pub(crate) grants: Vec<Action>,
    pub(crate) rule: String,
}

impl Shared {
    /// Explains the decision by making it. Without a user, the caller is anonymous.
    pub(crate) fn explain(&self, user: Option<&str>, repository: &RepositoryName) -> Result<Explanation, Error> {
        let mut note = None;
        let (mut namespace, mut namespace_note) = (None, None);
        let identity = match user {
            None => Identity::Anonymous,
            Some(name) => {
                let unknown = || Error::UserUnknown { name: name.to_owned() };
                let account = self.accounts().account(name)?.ok_or_else(unknown)?;
                if account.disabled {
                    note = Some("the user is disabled and cannot sign in: these rights are not in effect");
                } else if !account.may_sign_in() {
                    note = Some("the identity provider no longer knows the user: these rights are not in effect");
                }
                namespace.clone_from(&account.namespace);
                namespace_note = self.accounts().namespace_note(&account)?;
                Identity::User(account)
            }
        };
        let (policy, permissions) = (self.policy(), self.accounts().permissions(repository)?);
        let mut because = Vec::new();
        let mut actions = Actions::NONE;
        policy.each_grant(&identity, repository, &permissions, &mut |granted, reason| {
            actions = actions | granted;
            because.push(Grant { grants: granted.list(), rule: text(reason, repository) });
        });
        let actions = if note.is_some() { Vec::new() } else { actions.list() };
        let (user, repository, note) = (user.map(str::to_owned), repository.to_string(), note.map(str::to_owned));
        Ok(Explanation { user, repository, actions, because, namespace, namespace_note, note })
    }
}

impl Shared {
    /// Explains the rights of a user to that user.
    pub(crate) fn explain_own(&self, account: &Account, repository: &RepositoryName) -> Result<Explanation, Error> {
        let namespace_note = self.accounts().own_namespace_note(account)?;
        Ok(Explanation { namespace_note, ..self.explain(Some(&account.name), repository)? })
    }

    /// The roles that a user has in a repository, of the user and of its groups. Empty if the user does not exist.
    pub(crate) fn roles(&self, user: &str, repository: &RepositoryName) -> Result<Vec<Role>, Error> {
        let Some(account) = self.accounts().account(user)? else { return Ok(Vec::new()) };
        let (policy, permissions) = (self.policy(), self.accounts().permissions(repository)?);
        let mut roles = Vec::new();
        policy.each_grant(&Identity::User(account), repository, &permissions, &mut |granted, _| {
            let role = [Role::Admin, Role::Write, Role::Read].into_iter().find(|role| granted.covers(role.actions()));
            roles.extend(role);
        });
        roles.sort_unstable();
        roles.dedup();
        Ok(roles)
    }
}

fn text(reason: Reason<'_>, repository: &RepositoryName) -> String {
    let namespace = repository.namespace();
    match reason {
        Reason::Open => "the registry is open".to_owned(),
        Reason::SignedIn => "every signed-in user has all rights".to_owned(),
        Reason::Superuser => "the user is a superuser".to_owned(),
        Reason::ReadOnlySuperuser => "the user is a read-only superuser".to_owned(),
        Reason::ExternalIssuer => "the external token issuer grants it".to_owned(),
        Reason::Owner => format!("the user owns {namespace}/…"),
        Reason::Public => "the repository is public".to_owned(),
        Reason::User(role) => format!("the user has the role {} in the repository", role.as_str()),
        Reason::Group(group, role) => format!("the group {group} has the role {} in the repository", role.as_str()),
        Reason::Namespace(role) => format!("the group {namespace} has the role {} in {namespace}/…", role.as_str()),
        Reason::Rule(rule) => {
            let through = |group: Option<&str>| group.map(|group| format!(", through the group {group}"));
            let at = |pattern: &str| format!("http.accessControl.repositories.{pattern:?}");
            match rule {
                Rule::Policy { pattern, number, group } => {
                    format!("{}.policies[{number}]{}", at(pattern), through(group).unwrap_or_default())
                }
                Rule::Default { pattern } => format!("{}.defaultPolicy", at(pattern)),
                Rule::Anonymous { pattern } => format!("{}.anonymousPolicy", at(pattern)),
                Rule::Admin { group } => {
                    format!("http.accessControl.adminPolicy{}", through(group).unwrap_or_default())
                }
            }
        }
    }
}
