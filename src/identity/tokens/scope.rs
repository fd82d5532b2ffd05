//! [`ScopeRequest`]: the scopes that a client requests for a token (Docker token specification, "Token Scope
//! Documentation").
//!
//! Unknown types and actions are accepted and grant nothing, because clients ask for some that no registry has, and give
//! up if they are refused.

use std::fmt;

use super::AccessEntry;
use crate::identity::accounts::Actions;
use crate::oci::RepositoryName;

/// The largest number of resources of a token.
const SCOPES_MAX: usize = 100;
/// The longest list of scopes, in bytes.
const SCOPES_BYTES_MAX: usize = 16 * 1024;

/// A resource and the requested actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScopeRequest {
    kind: String,
    name: String,
    actions: Vec<String>,
}

/// Why a list of scopes is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidScopes {
    #[error("a token is for at most {SCOPES_MAX} resources")]
    TooMany,
    #[error("the scope {0:?} does not have the form type:name:actions")]
    Malformed(String),
}

impl ScopeRequest {
    /// Parses all values of the parameter `scope`. A value may have several scopes. Scopes of one resource are joined.
    pub(crate) fn read<'a>(values: impl Iterator<Item = &'a str>) -> Result<Vec<Self>, InvalidScopes> {
        let mut requests: Vec<Self> = Vec::new();
        let mut bytes = 0;
        for text in values.flat_map(str::split_ascii_whitespace) {
            bytes += text.len();
            let malformed = || InvalidScopes::Malformed(text.chars().take(80).collect());
            // The name may contain a port.
            let (kind, rest) = text.split_once(':').ok_or_else(malformed)?;
            let (name, actions) = rest.rsplit_once(':').ok_or_else(malformed)?;
            // The class, as in `repository(plugin)`, is obsolete.
            let kind = kind.split_once('(').map_or(kind, |(kind, _)| kind);
            let wanted = actions.split(',').filter(|word| !word.is_empty()).map(str::to_owned);
            let known = requests.iter_mut().find(|known| known.kind == kind && known.name == name);
            if let Some(known) = known {
                known.actions.extend(wanted);
            } else {
                let actions = wanted.collect();
                requests.push(Self { kind: kind.to_owned(), name: name.to_owned(), actions });
            }
            if requests.len() > SCOPES_MAX || bytes > SCOPES_BYTES_MAX {
                return Err(InvalidScopes::TooMany);
            }
        }
        Ok(requests)
    }

    /// The repository, if the resource is one. Some clients put `service` before its name.
    pub(crate) fn repository(&self, service: &str) -> Option<RepositoryName> {
        let name = self.name.strip_prefix(service).and_then(|rest| rest.strip_prefix('/')).unwrap_or(&self.name);
        (self.kind == "repository").then(|| name.parse().ok()).flatten()
    }

    /// Whether pulls are all that is requested.
    pub(crate) fn is_pull(&self) -> bool {
        self.actions.iter().all(|action| action == "pull")
    }

    /// Whether the resource is the list of repositories.
    pub(crate) fn is_catalog(&self) -> bool {
        self.kind == "registry" && self.name == "catalog"
    }

    /// The granted part of the requested actions, for a caller who may do `allowed`. Always in the order push, pull,
    /// delete, `*`, because some clients compare texts.
    pub(crate) fn granted(&self, name: Option<&RepositoryName>, allowed: Actions) -> AccessEntry {
        let asked = |word: &str| self.actions.iter().any(|action| action == word || action == "*");
        let everything = allowed.covers(Actions::ALL) && self.actions.iter().any(|action| action == "*");
        let words = [
            ("push", asked("push") && !allowed.within(Actions::PUSH).is_empty()),
            ("pull", asked("pull") && allowed.covers(Actions::PULL)),
            ("delete", asked("delete") && allowed.covers(Actions::DELETE)),
            ("*", everything),
        ];
        AccessEntry {
            kind: self.kind.clone(),
            name: name.map_or_else(|| self.name.clone(), ToString::to_string),
            actions: words.into_iter().filter(|(_, given)| *given).map(|(word, _)| word.to_owned()).collect(),
        }
    }

    /// The granted access to the list of repositories, which every caller may request.
    pub(crate) fn catalog(&self) -> AccessEntry {
        AccessEntry { kind: self.kind.clone(), name: self.name.clone(), actions: vec!["*".to_owned()] }
    }
}

impl fmt::Display for AccessEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.kind, self.name, self.actions.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(scope: &str, allowed: Actions) -> String {
        match ScopeRequest::read([scope].into_iter()) {
            Err(error) => format!("{error:?}"),
            Ok(requests) => {
                let entries = requests.iter().map(|request| match request.repository("localhost:8080") {
                    Some(name) => request.granted(Some(&name), allowed),
                    None if request.is_catalog() => request.catalog(),
                    None => request.granted(None, Actions::NONE),
                });
                entries.map(|entry| entry.to_string()).collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn clients_get_the_requested_actions_that_are_allowed() {
        let all = Actions::ALL;
        for (scope, allowed, expected) in [
            ("", all, ""),
            ("repository:a/b:pull", all, "repository:a/b:pull"),
            ("repository:a/b:pull,push", all, "repository:a/b:push,pull"),
            ("repository:a/b:pull,push", Actions::PULL, "repository:a/b:pull"),
            ("repository:a/b:push", Actions::PULL, "repository:a/b:"),
            ("repository:a/b:pull,push,delete", Actions::CONTENT, "repository:a/b:push,pull,delete"),
            ("repository:a/b:*", all, "repository:a/b:push,pull,delete,*"),
            ("repository:a/b:*", Actions::CONTENT, "repository:a/b:push,pull,delete"),
            ("repository:a/b:*", Actions::NONE, "repository:a/b:"),
            ("repository:a/b:fly,pull", all, "repository:a/b:pull"),
            ("repository:a/b:", all, "repository:a/b:"),
            ("repository(plugin):a/b:pull", all, "repository:a/b:pull"),
            ("repository:localhost:8080/a/b:pull", all, "repository:a/b:pull"),
            ("repository:other:8080/a/b:pull", all, "repository:other:8080/a/b:"),
            ("repository:A/B:pull", all, "repository:A/B:"),
            ("registry:catalog:*", Actions::NONE, "registry:catalog:*"),
            ("galaxy:milky:way", all, "galaxy:milky:"),
            ("repository:a:pull repository:b:push", all, "repository:a:pull repository:b:push"),
            ("repository:a:pull repository:a:push", all, "repository:a:push,pull"),
            ("repository", all, "Malformed(\"repository\")"),
            ("repository:a", all, "Malformed(\"repository:a\")"),
        ] {
            assert_eq!(granted(scope, allowed), expected, "{scope}");
        }
        let many = |count: usize| (0..count).map(|n| format!("repository:r{n}:pull")).collect::<Vec<_>>().join(" ");
        assert_eq!(ScopeRequest::read([many(SCOPES_MAX).as_str()].into_iter()).map(|all| all.len()), Ok(SCOPES_MAX));
        assert_eq!(granted(&many(SCOPES_MAX + 1), all), "TooMany");
    }
}
