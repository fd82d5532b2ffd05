//! `storage.immutableTags`: the tags that can be neither moved nor removed.

use super::keys::Row;
use super::kind::Kind::{Text, Texts};
use super::settings::{Section, Setting, Settings, section};
use super::walk::Findings;
use crate::oci::{RepositoryPattern, TagRule};

const RULES: &str = "storage.immutableTags";
const REPOSITORIES: &str = "storage.immutableTags.*.repositories";
const TAGS: &str = "storage.immutableTags.*.tags";

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
        for (key, name) in [(REPOSITORIES, "repositories"), (TAGS, "tags")] {
            if rule.given(key) == Some(&Setting::Texts(Vec::new())) {
                findings.warning(&format!("{RULES}[{index}].{name}"), "is empty, so the rule makes no tag immutable");
            }
        }
        for (at, pattern) in rule.given_texts(REPOSITORIES) {
            if let Err(why) = pattern.parse::<RepositoryPattern>() {
                let path = format!("{RULES}[{index}].repositories[{at}]");
                findings.problem(&path, format!("the pattern {pattern:?} {why}"));
            }
        }
        for (at, pattern) in rule.given_texts(TAGS) {
            if let Err(error) = TagRule::default().with_immutable([pattern]) {
                findings.problem(&format!("{RULES}[{index}].tags[{at}]"), format!("the pattern {error}"));
            }
        }
    }
}
