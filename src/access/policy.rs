//! [`AccessPolicy`]: (identity, access) → allowed or refused. Pure; denies unless something grants.

use super::{Access, Identity, Refusal};

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

impl AccessPolicy {
    /// Decides. The same function answers for a single operation and filters every list.
    pub(crate) fn decide(self, identity: &Identity, access: &Access) -> Result<(), Refusal> {
        let granted = match (access, identity) {
            (Access::Anybody, _) => true,
            _ if self == Self::Open => true,
            (_, Identity::Anonymous) => return Err(Refusal::Unauthenticated),
            (Access::Known, Identity::User(_)) => true,
            (_, Identity::User(user)) if user.superuser => true,
            (Access::Metrics | Access::Repository(..), Identity::User(_)) if self == Self::SignedIn => true,
            (Access::Metrics, Identity::User(_)) => false,
            (Access::Repository(name, _), Identity::User(user)) => {
                name.as_str() != name.namespace() && name.namespace() == user.name
            }
        };
        if granted { Ok(()) } else { Err(Refusal::Denied) }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::sync::Arc;

    use super::super::{Action, User};
    use super::*;

    #[test]
    fn everybody_and_everything() {
        let user = |name: &str, superuser| Identity::User(Arc::new(User { name: name.into(), superuser }));
        let callers = [Identity::Anonymous, user("alice", false), user("root", true)];
        let repository = |name: &str| Access::Repository(name.parse().unwrap(), Action::Push);
        // One letter a caller: allowed, 401 or 403.
        for (access, owners, signed_in, open) in [
            (Access::Anybody, "aaa", "aaa", "aaa"),
            (Access::Known, "1aa", "1aa", "aaa"),
            (Access::Metrics, "13a", "1aa", "aaa"),
            (repository("alice/x"), "1aa", "1aa", "aaa"),
            (repository("alice/x/y"), "1aa", "1aa", "aaa"),
            (repository("alice"), "13a", "1aa", "aaa"),
            (repository("alicee/x"), "13a", "1aa", "aaa"),
            (repository("bob/x"), "13a", "1aa", "aaa"),
            (repository("bob/alice"), "13a", "1aa", "aaa"),
        ] {
            for (policy, expected) in
                [(AccessPolicy::Owners, owners), (AccessPolicy::SignedIn, signed_in), (AccessPolicy::Open, open)]
            {
                let decided: String = callers
                    .iter()
                    .map(|caller| match policy.decide(caller, &access) {
                        Ok(()) => 'a',
                        Err(Refusal::Unauthenticated) => '1',
                        Err(Refusal::Denied) => '3',
                    })
                    .collect();
                assert_eq!(decided, expected, "{access:?} under {policy:?}");
            }
        }
    }
}
