//! [`RepositoryName`]: the grammar of `<name>` (distribution-spec, "Pulling manifests").

use std::str::FromStr;
use std::sync::Arc;

/// The longest name, in bytes. Clients limit host and name together to 255.
pub const NAME_LENGTH_MAX: usize = 255;

/// The name of a repository: components `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, joined by `/`. At most [`NAME_LENGTH_MAX`]
/// bytes. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(Arc<str>);

super::text_value!(RepositoryName);

impl RepositoryName {
    /// The first component. A user of the same name owns the repository.
    pub fn namespace(&self) -> &str {
        self.0.split('/').next().unwrap_or(&self.0)
    }
}

impl serde::Serialize for RepositoryName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for RepositoryName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for RepositoryName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = |why| InvalidName { text: super::shown(text), why };
        if text.len() > NAME_LENGTH_MAX {
            return Err(invalid("a repository name has at most 255 characters"));
        }
        if text.split('/').all(is_component) {
            Ok(Self(text.into()))
        } else {
            Err(invalid(
                "components are lower-case letters and digits, separated inside by '.', '_', '__' or dashes, \
                 and joined by '/'",
            ))
        }
    }
}

/// Whether a text is a component of a name.
pub(crate) fn is_component(text: &str) -> bool {
    let mut rest = text.as_bytes();
    loop {
        let word = rest.iter().take_while(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9')).count();
        if word == 0 {
            return false;
        }
        rest = &rest[word..];
        let separator = match rest {
            [] => return true,
            [b'_', b'_', ..] => 2,
            [b'.' | b'_', ..] => 1,
            [b'-', ..] => rest.iter().take_while(|byte| **byte == b'-').count(),
            _ => return false,
        };
        rest = &rest[separator..];
    }
}

/// A text is not a [`RepositoryName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid repository name {text:?}: {why}")]
pub struct InvalidName {
    text: String,
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_of_the_specification() {
        let longest = "a".repeat(NAME_LENGTH_MAX);
        for name in [
            "a",
            "0",
            "busybox",
            "library/busybox",
            "a/b/c/d/e/f/g/h",
            "a.b",
            "a_b",
            "a__b",
            "a-b",
            "a---b",
            "tags/list",
            "a/blobs/b",
            "a/manifests/b",
            "v2/v2",
            &longest,
        ] {
            assert_eq!(name.parse::<RepositoryName>().map(|n| n.to_string()), Ok(name.to_owned()));
        }
        let too_long = "a".repeat(NAME_LENGTH_MAX + 1);
        for name in [
            "", "/", "/a", "a/", "a//b", "A", "aB", "a..b", "a___b", "_a", "a_", ".", "..", "a/../b", "-a", "a-",
            "a.-b", "a b", "a\0b", "ä", "a/_b", "a\\b", "a%2fb", "a:b", &too_long,
        ] {
            assert!(name.parse::<RepositoryName>().is_err(), "{name:?} was accepted");
        }
    }
}
