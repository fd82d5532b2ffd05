//! [`NameRule`]: which repository of an upstream a local repository mirrors, and the other way round. Pure:
//! knows no store and no request.

use super::platforms::Platforms;
use crate::oci::{RepositoryName, RepositoryPattern, Tag, TagRule};

/// Docker Hub's own namespace, which its users leave out: `busybox` is `library/busybox`.
const HUB_NAMESPACE: &str = "library/";

/// A rule with zot's meaning of `content`: a repository of the upstream whose name begins with `prefix` appears below
/// `destination`, with the prefix or without it.
#[derive(Clone, Debug)]
pub(crate) struct NameRule {
    /// The repositories of the upstream.
    pub(super) pattern: RepositoryPattern,
    /// The beginning of the pattern that is removed, without slashes at its ends.
    pub(super) prefix: String,
    /// The beginning of local names, without slashes at its ends. It may be empty.
    pub(super) destination: String,
    pub(super) strips_prefix: bool,
    /// Whether the upstream is Docker Hub.
    is_hub: bool,
    /// The platforms that scheduled synchronisation fetches.
    platforms: Platforms,
    tags: TagRule,
}

impl NameRule {
    /// A rule as `content` in the configuration. Fails with the reason if the prefix is no valid pattern.
    pub(crate) fn new(prefix: &str, destination: &str, strips_prefix: bool, is_hub: bool) -> Result<Self, String> {
        let trimmed = prefix.trim_matches('/');
        let pattern = trimmed.parse::<RepositoryPattern>().map_err(|error| error.to_string())?;
        let literal = trimmed.split(['*', '?', '[', '{']).next().unwrap_or_default();
        // Only whole components before the first wildcard are a prefix.
        let prefix = if literal.len() == trimmed.len() {
            trimmed
        } else {
            literal.rsplit_once('/').map_or("", |(components, _)| components)
        };
        let destination = destination.trim_matches('/').to_owned();
        Ok(Self {
            pattern,
            prefix: prefix.to_owned(),
            destination,
            strips_prefix,
            is_hub,
            platforms: Platforms::default(),
            tags: TagRule::default(),
        })
    }

    /// The same rule for some platforms only.
    #[must_use]
    pub(crate) fn with_platforms(mut self, platforms: Platforms) -> Self {
        self.platforms = platforms;
        self
    }

    /// The pattern of the upstream's repositories.
    pub(crate) fn pattern(&self) -> &str {
        self.pattern.as_str()
    }

    pub(crate) const fn platforms(&self) -> &Platforms {
        &self.platforms
    }

    /// The same rule for some tags only.
    #[must_use]
    pub(crate) fn with_tags(mut self, tags: TagRule) -> Self {
        self.tags = tags;
        self
    }

    /// Whether the rule has a tag.
    pub(crate) fn permits(&self, tag: &Tag) -> bool {
        self.tags.permits(tag)
    }

    /// Whether a tag is not compared again once it is stored.
    pub(crate) fn is_immutable(&self, tag: &Tag) -> bool {
        self.tags.is_immutable(tag)
    }

    /// The repositories of the upstream that the rule names without wildcards. `None` if it has wildcards.
    pub(crate) fn fixed_names(&self) -> Option<Vec<RepositoryName>> {
        let names = self.pattern.literals()?;
        Some(names.into_iter().filter_map(|name| self.with_namespace(name.as_str())).collect())
    }

    /// The repository of the upstream that a local one mirrors.
    pub(crate) fn remote(&self, local: &RepositoryName) -> Option<RepositoryName> {
        let rest = below(&self.destination, local.as_str())?;
        let remote = if self.strips_prefix { joined(&self.prefix, rest) } else { rest.to_owned() };
        let remote = self.with_namespace(&remote)?;
        self.pattern.matches(&remote).then_some(remote)
    }

    /// The local repository that mirrors one of the upstream.
    pub(crate) fn local(&self, remote: &RepositoryName) -> Option<RepositoryName> {
        let full = self.with_namespace(remote.as_str()).filter(|full| self.pattern.matches(full))?;
        let rest = if self.strips_prefix { below(&self.prefix, full.as_str())? } else { full.as_str() };
        joined(&self.destination, rest).parse().ok()
    }

    /// The name as the upstream knows it.
    fn with_namespace(&self, name: &str) -> Option<RepositoryName> {
        if self.is_hub && !name.contains('/') {
            format!("{HUB_NAMESPACE}{name}").parse().ok()
        } else {
            name.parse().ok()
        }
    }
}

/// The part of a name below a prefix of whole components. All of it if the prefix is empty, nothing if they are equal.
fn below<'a>(prefix: &str, name: &'a str) -> Option<&'a str> {
    if prefix.is_empty() {
        return Some(name);
    }
    let rest = name.strip_prefix(prefix)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

pub(super) fn joined(prefix: &str, rest: &str) -> String {
    match (prefix.is_empty(), rest.is_empty()) {
        (true, _) => rest.to_owned(),
        (_, true) => prefix.to_owned(),
        _ => format!("{prefix}/{rest}"),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_zot() {
        for (prefix, destination, strips, local, remote) in [
            ("**", "/", false, "a/b", Some("a/b")),
            ("**", "/mirror", false, "mirror/a/b", Some("a/b")),
            ("**", "/mirror", false, "mirrored/a", None),
            ("/repo1/repo", "/localrepo", true, "localrepo", Some("repo1/repo")),
            ("/repo1/repo", "/localrepo", false, "localrepo/repo1/repo", Some("repo1/repo")),
            ("/repo1/repo", "/localrepo", false, "localrepo/repo1/other", None),
            ("/team/**", "/copy", true, "copy/app/x", Some("team/app/x")),
            ("/team/**", "/copy", true, "copy", Some("team")),
            ("/team/a*", "", true, "app", Some("team/app")),
            ("/team/a*", "", true, "other", None),
        ] {
            let rule = NameRule::new(prefix, destination, strips, false).unwrap();
            let found = rule.remote(&local.parse().unwrap());
            assert_eq!(found.as_ref().map(RepositoryName::as_str), remote, "{prefix} {destination} {local}");
            if let Some(remote) = found {
                assert_eq!(rule.local(&remote).unwrap().as_str(), local, "{prefix} {destination} {remote}");
            }
        }
        assert!(NameRule::new("a/{b", "", false, false).is_err());
    }

    #[test]
    fn a_name_of_docker_hub_may_lack_its_namespace() {
        let rule = NameRule::new("**", "docker.io", false, true).unwrap();
        let remote = |local: &str| rule.remote(&local.parse().unwrap()).map(|name| name.to_string());
        assert_eq!(remote("docker.io/busybox").as_deref(), Some("library/busybox"));
        assert_eq!(remote("docker.io/library/busybox").as_deref(), Some("library/busybox"));
        assert_eq!(remote("docker.io/grafana/loki").as_deref(), Some("grafana/loki"));
        assert_eq!(remote("ghcr.io/busybox"), None);
        assert_eq!(rule.local(&"busybox".parse().unwrap()).unwrap().as_str(), "docker.io/library/busybox");
    }
}
