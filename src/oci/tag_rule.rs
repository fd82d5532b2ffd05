//! [`TagRule`]: the tags of a registry that are mirrored, and those that never change.
//!
//! `regex`, `excludeRegex` and `semver` mean the same as in zot: an expression matches anywhere in the tag, unless it has
//! `^` and `$`. A comparison takes time linear in the tag, and a compiled expression has a limited size. Unlike in
//! zot, there are no classes of Unicode, because tags are ASCII.

use regex_lite::{Regex, RegexBuilder};

use super::Tag;

/// The longest expression, in bytes.
const EXPRESSION_BYTES_MAX: usize = 4096;
/// The largest compiled expression, in bytes.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// A version as zot accepts it: one to three numbers, also after a `v`, and a suffix such as `-rc.1`.
const VERSION: &str = r"^v?[0-9]+(\.[0-9]+){0,2}(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$";

/// A rule for tags. The default permits every tag.
#[derive(Clone, Debug, Default)]
pub struct TagRule {
    wanted: Option<Regex>,
    excluded: Option<Regex>,
    /// Matches versions, if only they are mirrored.
    versions: Option<Regex>,
    /// Matches tags that are never compared again once they are stored.
    immutable: Option<Regex>,
}

/// Why a text is not a rule for tags.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not usable: {why}")]
pub struct InvalidTagRule {
    text: String,
    why: String,
}

impl TagRule {
    /// A rule with expressions for wanted and for excluded tags. An empty expression stands for none.
    pub fn new(wanted: &str, excluded: &str, only_versions: bool) -> Result<Self, InvalidTagRule> {
        let wanted = Some(wanted).filter(|text| !text.is_empty()).map(compile).transpose()?;
        let excluded = Some(excluded).filter(|text| !text.is_empty()).map(compile).transpose()?;
        let versions = only_versions.then(|| compile(VERSION)).transpose()?;
        Ok(Self { wanted, excluded, versions, immutable: None })
    }

    /// The same rule with patterns of immutable tags. `*` stands for any characters, `?` for one.
    pub fn with_immutable<'a>(
        mut self,
        patterns: impl IntoIterator<Item = &'a String>,
    ) -> Result<Self, InvalidTagRule> {
        let mut expression = String::new();
        for pattern in patterns {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-*?".contains(&byte);
            if pattern.is_empty() || !pattern.bytes().all(fits) {
                let why = "expected the characters of tags, and * or ?".to_owned();
                return Err(InvalidTagRule { text: super::shown(pattern), why });
            }
            expression.push_str(if expression.is_empty() { "^(?:" } else { "|" });
            expression.push_str(&regex_lite::escape(pattern).replace(r"\*", ".*").replace(r"\?", "."));
        }
        if !expression.is_empty() {
            expression.push_str(")$");
            self.immutable = Some(compile(&expression)?);
        }
        Ok(self)
    }

    /// Whether the tag is mirrored.
    #[must_use]
    pub fn permits(&self, tag: &Tag) -> bool {
        let tag = tag.as_str();
        self.wanted.as_ref().is_none_or(|wanted| wanted.is_match(tag))
            && !self.excluded.as_ref().is_some_and(|excluded| excluded.is_match(tag))
            && self.versions.as_ref().is_none_or(|versions| versions.is_match(tag))
    }

    /// Whether the tag never changes once it is stored.
    #[must_use]
    pub fn is_immutable(&self, tag: &Tag) -> bool {
        self.immutable.as_ref().is_some_and(|immutable| immutable.is_match(tag.as_str()))
    }
}

fn compile(text: &str) -> Result<Regex, InvalidTagRule> {
    let invalid = |why: String| InvalidTagRule { text: super::shown(text), why };
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(invalid(format!("it is longer than {EXPRESSION_BYTES_MAX} bytes")));
    }
    RegexBuilder::new(text).size_limit(COMPILED_BYTES_MAX).build().map_err(|error| invalid(error.to_string()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn tag(text: &str) -> Tag {
        text.parse().unwrap()
    }

    #[test]
    fn tags_are_permitted_as_in_zot() {
        for (wanted, excluded, versions, permitted, refused) in [
            ("", "", false, &["latest", "1.0"][..], &[][..]),
            ("1.*", "", false, &["1.0", "v1"], &["2.0"]),
            ("^v?3", "-rc", false, &["v3.1", "3"], &["13", "v3-rc1"]),
            ("", "^sha", false, &["1"], &["sha-1"]),
            ("", "", true, &["1", "v1.2", "1.2.3", "1.2.3-rc.1", "v1.2-alpine"], &["latest", "1.2.3.4", "vv1", "1."]),
            ("^v", "", true, &["v1"], &["1", "vlatest"]),
        ] {
            let rule = TagRule::new(wanted, excluded, versions).unwrap();
            for text in permitted {
                assert!(rule.permits(&tag(text)), "{wanted} {excluded} {versions}: {text}");
            }
            for text in refused {
                assert!(!rule.permits(&tag(text)), "{wanted} {excluded} {versions}: {text}");
            }
        }
    }

    #[test]
    fn patterns_of_immutable_tags_match_whole_tags() {
        let patterns = ["v*".to_owned(), "1.?".to_owned()];
        let rule = TagRule::default().with_immutable(&patterns).unwrap();
        for (text, expected) in
            [("v1", true), ("v", true), ("av1", false), ("1.2", true), ("1.23", false), ("1x2", false)]
        {
            assert_eq!(rule.is_immutable(&tag(text)), expected, "{text}");
        }
        assert!(!TagRule::default().is_immutable(&tag("v1")));
        assert!(TagRule::default().with_immutable(&["a/b".to_owned()]).is_err());
    }

    #[test]
    fn an_unusable_expression_is_named_with_the_reason() {
        let error = TagRule::new("(a", "", false).unwrap_err().to_string();
        assert_eq!(error, r#""(a" is not usable: found open group without closing ')'"#);
        let error = TagRule::new("", "(?:a{1000}){1000}", false).unwrap_err().to_string();
        assert!(error.ends_with("compiled regex exceeded size limit"), "{error}");
        assert!(TagRule::new(&"a".repeat(5000), "", false).is_err());
    }
}
