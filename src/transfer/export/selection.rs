//! [`Selection`]: what a command exports.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::kit::text_form::text_form;
use crate::oci::{InvalidDigest, InvalidReference, Reference, RepositoryName, RepositoryPattern};

/// A pattern of repositories, or one repository with a tag or a digest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Selection {
    text: String,
    pattern: RepositoryPattern,
    pub(super) reference: Option<Reference>,
}

impl Selection {
    pub(super) fn matches(&self, name: &RepositoryName) -> bool {
        self.pattern.matches(name)
    }
}

impl FromStr for Selection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = |error: &dyn fmt::Display| error.to_string();
        let (pattern, reference) = match (text.split_once('@'), text.rsplit_once(':')) {
            (Some((name, digest)), _) => {
                (name, Some(Reference::Digest(digest.parse().map_err(|error: InvalidDigest| invalid(&error))?)))
            }
            (None, Some((name, tag))) => {
                (name, Some(Reference::Tag(tag.parse().map_err(|error: InvalidReference| invalid(&error))?)))
            }
            (None, None) => (text, None),
        };
        let pattern = pattern.parse().map_err(|error| format!("the pattern {pattern:?} {error}"))?;
        Ok(Self { text: text.to_owned(), pattern, reference })
    }
}

text_form!(Selection);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn selections_of_the_command_line() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let by_digest = format!("team/app@{digest}");
        for (text, matching, reference) in [
            ("team/app", true, None),
            ("team/**", true, None),
            ("other", false, None),
            ("team/app:1", true, Some("1")),
            ("team/*:1", true, Some("1")),
            (&by_digest, true, Some(digest.as_str())),
        ] {
            let selection: Selection = text.parse().unwrap();
            assert_eq!(selection.matches(&"team/app".parse().unwrap()), matching, "{text}");
            assert_eq!(selection.reference.map(|reference| reference.to_string()).as_deref(), reference, "{text}");
        }
        for text in ["team/app@latest", "team/app:-", "a:b:c"] {
            assert!(text.parse::<Selection>().is_err(), "{text}");
        }
    }
}
