//! [`KeyScope`]: limits an API key to repositories and actions.

use std::str::FromStr;

use super::Actions;
use crate::oci::{InvalidPattern, RepositoryName, RepositoryPattern};

/// The largest number of scopes of a key.
pub(crate) const SCOPES_MAX: usize = 100;
/// The longest scope, in bytes.
pub(crate) const SCOPE_LENGTH_MAX: usize = 300;

/// `<repository pattern>[:<actions>]`. The actions are a comma-separated list of `pull`, `push`, `delete` and `*`.
/// Without the list, all of them are granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyScope {
    pattern: RepositoryPattern,
    granted: Actions,
}

impl KeyScope {
    /// The actions that the scope grants on a repository.
    pub(crate) fn allows(&self, name: &RepositoryName) -> Actions {
        if self.pattern.matches(name) { self.granted } else { Actions::NONE }
    }

    /// The same, for a caller with these actions already. The pattern is matched only if the scope can add to them.
    pub(crate) fn adds(&self, actions: Actions, name: &RepositoryName) -> Actions {
        if actions.covers(self.granted) { Actions::NONE } else { self.allows(name) }
    }

    /// The pattern of the repositories.
    pub(crate) fn pattern(&self) -> &RepositoryPattern {
        &self.pattern
    }
}

impl FromStr for KeyScope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        let invalid = |why| InvalidScope { text: text.chars().take(80).collect(), why };
        if text.len() > SCOPE_LENGTH_MAX {
            return Err(invalid(Why::TooLong));
        }
        // Neither a repository name nor a pattern has a colon.
        let (pattern, actions) = match text.split_once(':') {
            Some((pattern, actions)) => (pattern, actions),
            None => (text, "*"),
        };
        let pattern = pattern.parse().map_err(|why| invalid(Why::Pattern(why)))?;
        let mut granted = Actions::NONE;
        for word in actions.split(',') {
            granted = granted
                | match word {
                    "pull" => Actions::PULL,
                    "push" => Actions::PUSH,
                    "delete" => Actions::DELETE,
                    "*" => Actions::CONTENT,
                    _ => return Err(invalid(Why::Actions)),
                };
        }
        Ok(Self { pattern, granted })
    }
}

/// Why a text is not a [`KeyScope`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the scope {text:?} {why}")]
pub(crate) struct InvalidScope {
    text: String,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Why {
    #[error("is longer than {SCOPE_LENGTH_MAX} characters")]
    TooLong,
    #[error(transparent)]
    Pattern(InvalidPattern),
    #[error("has other actions after the colon than pull, push, delete and *")]
    Actions,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_scope_grants_its_actions_on_matching_repositories() {
        // pull, push, delete
        for (scope, name, expected) in [
            ("repo1", "repo1", "xxx"),
            ("repo1", "repo2", "---"),
            ("repo1", "repo1/x", "---"),
            ("repo1", "x/repo1", "---"),
            ("repo1:*", "repo1", "xxx"),
            ("repo1:pull", "repo1", "x--"),
            ("repo1:pull,push", "repo1", "xx-"),
            ("repo1:delete", "repo1", "--x"),
            ("team/*", "team/a", "xxx"),
            ("team/*", "team/a/b", "---"),
            ("team/**", "team/a/b", "xxx"),
            ("team/**", "team", "xxx"),
            ("team/**", "teams", "---"),
            ("**", "team/a/b", "xxx"),
            ("*", "a", "xxx"),
            ("*", "a/b", "---"),
            ("app-{dev,test}:pull", "app-test", "x--"),
        ] {
            let parsed: KeyScope = scope.parse().unwrap();
            let name: RepositoryName = name.parse().unwrap();
            let allowed = parsed.allows(&name);
            assert_eq!(parsed.adds(Actions::NONE, &name), allowed, "{scope} on {name}");
            assert_eq!(parsed.adds(Actions::CONTENT, &name), Actions::NONE, "{scope} on {name}");
            let words = [Actions::PULL, Actions::PUSH, Actions::DELETE];
            let shown: String = words.iter().map(|word| if allowed.covers(*word) { 'x' } else { '-' }).collect();
            assert!(Actions::CONTENT.covers(allowed), "{scope} grants more than content");
            assert_eq!(shown, expected, "{scope} on {name}");
        }
    }

    #[test]
    fn an_invalid_scope_is_refused() {
        for text in [
            "",
            ":",
            ":pull",
            "a:",
            "a:read",
            "a:pull,",
            "a:pull:push",
            "A",
            "a b",
            "ä",
            "a\n",
            "!a",
            "a/{b",
            &"a".repeat(301),
        ] {
            assert!(text.parse::<KeyScope>().is_err(), "{text:?} was accepted");
        }
    }
}
