//! [`ImageName`]: the name of an image as tools write it.

use super::{RepositoryName, Tag};

/// The tag of a name that has neither a tag nor a digest.
const DEFAULT_TAG: &str = "latest";

/// The name of an image in a layout or an archive: a tag, or `[host/]repository[:tag][@digest]`. The host is not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageName {
    /// The repository, unless the name is only a tag.
    pub repository: Option<RepositoryName>,
    /// The tag. `None` for a name with a digest.
    pub tag: Option<Tag>,
}

impl ImageName {
    /// Reads a name. A word without `/` and `:` is a tag. Returns `None` for a text that is no name.
    pub fn read(text: &str) -> Option<Self> {
        if let Ok(tag) = text.parse() {
            return Some(Self { repository: None, tag: Some(tag) });
        }
        let (text, has_digest) = text.split_once('@').map_or((text, false), |(name, _)| (name, true));
        let (text, tag) = match text.rsplit_once(':') {
            // A colon before a slash belongs to the port.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.parse().ok()?)),
            _ if has_digest => (text, None),
            _ => (text, DEFAULT_TAG.parse().ok()),
        };
        let repository = match text.split_once('/') {
            Some((host, rest)) if is_host(host) => rest,
            _ => text,
        };
        Some(Self { repository: Some(repository.parse().ok()?), tag })
    }
}

/// Whether the first component of a name is a host, as docker decides it.
fn is_host(component: &str) -> bool {
    component == "localhost" || component.contains(['.', ':'])
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn names_of_tools() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let with_digest = format!("team/app@{digest}");
        for (text, repository, tag) in [
            ("1.0", None, Some("1.0")),
            ("app:1", Some("app"), Some("1")),
            ("team/app", Some("team/app"), Some("latest")),
            ("docker.io/library/busybox:1", Some("library/busybox"), Some("1")),
            ("localhost:5000/team/app:1", Some("team/app"), Some("1")),
            ("localhost/app", Some("app"), Some("latest")),
            (&with_digest, Some("team/app"), None),
        ] {
            let name = ImageName::read(text).unwrap();
            assert_eq!(name.repository.as_ref().map(RepositoryName::as_str), repository, "{text}");
            assert_eq!(name.tag.as_ref().map(Tag::as_str), tag, "{text}");
        }
        for text in ["", "Team/App:1", "a/../b:1", "app:", "/app:1", "app:1:2/", "<none>:<none>"] {
            assert_eq!(ImageName::read(text), None, "{text}");
        }
    }
}
