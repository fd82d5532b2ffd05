//! `storage.immutableTags`: the tags that can be neither moved nor removed.

use super::keys::Row;
use super::kind::Kind::{Text, Texts};
use super::settings::{Section, Setting, Settings, section};
use super::walk::Findings;
use crate::oci::{RepositoryPattern, TagRule};

const RULES: &str = "storage.immutableTags";

section! {
    /// A rule for immutable tags. Such a tag can be created, and pushed again with the same manifest.
    ImmutableTags {
        /// Name of the rule in messages. Without it, its key.
        name: Option<String> = "storage.immutableTags.*.name", Text, "";
        /// Patterns of the repositories that the rule applies to.
        repositories: Vec<String> = "storage.immutableTags.*.repositories", Texts, "required";
        /// Patterns of the immutable tags, such as v*. * stands for any characters, ? for one.
        tags: Vec<String> = "storage.immutableTags.*.tags", Texts, "required";
    }
}

/// Reports patterns that cannot be used.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    let Some(Setting::List(rules)) = settings.given(RULES) else { return };
    for (index, rule) in rules.iter().enumerate() {
        for (at, pattern) in rule.given_texts("storage.immutableTags.*.repositories") {
            if let Err(why) = pattern.parse::<RepositoryPattern>() {
                let path = format!("{RULES}[{index}].repositories[{at}]");
                findings.problem(&path, format!("the pattern {pattern:?} {why}"));
            }
        }
        for (at, pattern) in rule.given_texts("storage.immutableTags.*.tags") {
            if let Err(error) = TagRule::default().with_immutable([pattern]) {
                findings.problem(&format!("{RULES}[{index}].tags[{at}]"), format!("the pattern {error}"));
            }
        }
    }
}
