//! `storage.retention.policies`: the tags and manifests that stay.

use std::time::Duration;

use super::keys::Row;
use super::kind::Kind::{self, Bool, List, Texts};
use super::settings::{Section, Setting, Settings, section};
use super::walk::Findings;
use crate::oci::{RepositoryPattern, TagRule};

const POLICIES: &str = "storage.retention.policies";
const KEEP_TAGS: &str = "storage.retention.policies.*.keepTags";
const KEEP_UNTAGGED: &str = "storage.retention.policies.*.keepUntagged";
const DELETE_UNTAGGED: &str = "storage.retention.policies.*.deleteUntagged";
const REPOSITORIES: &str = "storage.retention.policies.*.repositories";
const PATTERNS: &str = "storage.retention.policies.*.keepTags.*.patterns";
/// The longest time that a condition has.
const WITHIN: Kind = Kind::duration("0s", "876000h");
/// The largest count of a condition. The memory of a run depends on it.
const COUNT: Kind = Kind::Int { least: 0, most: 1_000_000 };

section! {
    /// Retention in some repositories.
    RetentionPolicy {
        /// Patterns of the repositories that the policy applies to.
        repositories: Vec<String> = "storage.retention.policies.*.repositories", Texts, "required";
        /// Whether manifests are removed whose subject was deleted. Without a matching policy they are.
        delete_referrers: bool = "storage.retention.policies.*.deleteReferrers", Bool, "false";
        /// Whether untagged manifests are removed.
        delete_untagged: bool = "storage.retention.policies.*.deleteUntagged", Bool, "true";
        /// Tags to keep. The first entry that matches a tag decides, and tags without one are removed. Without any entry, all
        /// tags stay. Removed tags can be restored for storage.tagHistory.
        keep_tags: Vec<KeepTags> = "storage.retention.policies.*.keepTags", List, "[]";
        nested {
            /// Untagged manifests to keep for longer than storage.retention.delay.
            keep_untagged: Option<KeepUntagged> = read_keep_untagged;
        }
    }
}

section! {
    /// An entry for tags to keep. One of its conditions must hold. Without any, all tags stay that match.
    KeepTags {
        /// Regular expressions of the tags that the entry decides about. They match anywhere in a tag, unless they have ^
        /// and $. Without any, all tags.
        patterns: Vec<String> = "storage.retention.policies.*.keepTags.*.patterns", Texts, "[]";
        /// Keep tags that were pulled or pushed within this time.
        pulled_within: Option<Duration> = "storage.retention.policies.*.keepTags.*.pulledWithin", WITHIN;
        /// Keep tags that were pushed within this time.
        pushed_within: Option<Duration> = "storage.retention.policies.*.keepTags.*.pushedWithin", WITHIN;
        /// Keep this many of the tags that were pushed last. 0 for no such condition.
        most_recently_pushed: usize = "storage.retention.policies.*.keepTags.*.mostRecentlyPushedCount", COUNT, "0";
        /// Keep this many of the tags that were pulled last. 0 for no such condition.
        most_recently_pulled: usize = "storage.retention.policies.*.keepTags.*.mostRecentlyPulledCount", COUNT, "0";
        /// Keep this many of the highest versions, such as 1.10 and v1.9. Other tags are no versions. 0 for no such
        /// condition. A key of coracle.
        highest_version: usize = "storage.retention.policies.*.keepTags.*.highestVersionCount", COUNT, "0";
        /// Whether all conditions must hold instead of one. A key of coracle.
        require_all: bool = "storage.retention.policies.*.keepTags.*.requireAll", Bool, "false";
    }
}

section! {
    /// Untagged manifests to keep. One of the conditions must hold. Without any, all stay.
    KeepUntagged {
        /// Keep untagged manifests that were pulled or pushed within this time.
        pulled_within: Option<Duration> = "storage.retention.policies.*.keepUntagged.pulledWithin", WITHIN;
        /// Keep untagged manifests that were pushed within this time.
        pushed_within: Option<Duration> = "storage.retention.policies.*.keepUntagged.pushedWithin", WITHIN;
        /// Keep this many of the untagged manifests that were pushed last. 0 for no such condition.
        most_recently_pushed: usize = "storage.retention.policies.*.keepUntagged.mostRecentlyPushedCount", COUNT, "0";
        /// Keep this many of the untagged manifests that were pulled last. 0 for no such condition.
        most_recently_pulled: usize = "storage.retention.policies.*.keepUntagged.mostRecentlyPulledCount", COUNT, "0";
    }
}

fn read_keep_untagged(settings: &Settings) -> Option<KeepUntagged> {
    settings.given(KEEP_UNTAGGED).map(|_| KeepUntagged::read(settings))
}

/// Reports values that are valid one by one and still unusable.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    let list = |settings: &'_ Settings, key| match settings.given(key) {
        Some(Setting::List(tables)) => tables.clone(),
        _ => Vec::new(),
    };
    let policies = list(settings, POLICIES);
    let mut removes_tags = false;
    for (index, policy) in policies.iter().enumerate() {
        if policy.given(REPOSITORIES) == Some(&Setting::Texts(Vec::new())) {
            let why = "is empty, so the policy applies to no repository";
            findings.warning(&format!("{POLICIES}[{index}].repositories"), why);
        }
        let is_for_all = |policy: &Settings| policy.given_texts(REPOSITORIES).any(|(_, pattern)| pattern == "**");
        if let Some(first) = policies[..index].iter().position(is_for_all) {
            let why = format!("is never used: {POLICIES}[{first}] matches all repositories and takes precedence");
            findings.warning(&format!("{POLICIES}[{index}]"), why);
        }
        for (at, pattern) in policy.given_texts(REPOSITORIES) {
            if let Err(why) = pattern.parse::<RepositoryPattern>() {
                let why = format!("the pattern {pattern:?} {why}");
                findings.problem(&format!("{POLICIES}[{index}].repositories[{at}]"), why);
            }
        }
        let entries = list(policy, KEEP_TAGS);
        for (entry, keep) in entries.iter().enumerate() {
            removes_tags = true;
            if let Some(first) = entries[..entry].iter().position(matches_every_tag) {
                let why = format!("is never used: keepTags[{first}] matches every tag and takes precedence");
                findings.warning(&format!("{POLICIES}[{index}].keepTags[{entry}]"), why);
            }
            for (at, pattern) in keep.given_texts(PATTERNS) {
                if let Err(error) = TagRule::new(pattern, "", false) {
                    let path = format!("{POLICIES}[{index}].keepTags[{entry}].patterns[{at}]");
                    findings.problem(&path, format!("the expression {error}"));
                }
            }
        }
        if policy.given(KEEP_UNTAGGED).is_some() && policy.given(DELETE_UNTAGGED) == Some(&Setting::Bool(false)) {
            let why = "is not used: deleteUntagged = false keeps all untagged manifests";
            findings.warning(&format!("{POLICIES}[{index}].keepUntagged"), why);
        }
    }
    if !removes_tags {
        return;
    }
    if settings.given("storage.gc") == Some(&Setting::Bool(false)) {
        let why = "tags are removed only by `coracle retention run`, because storage.gc is off";
        findings.warning(POLICIES, why);
    }
    if settings.given("storage.tagHistory") == Some(&Setting::Nanoseconds(0)) {
        findings.warning(POLICIES, "tags that retention removes cannot be restored, because storage.tagHistory is 0");
    }
}

/// Whether an entry of `keepTags` decides about every tag.
fn matches_every_tag(keep: &Settings) -> bool {
    let mut patterns = keep.given_texts(PATTERNS).map(|(_, pattern)| pattern.as_str()).peekable();
    patterns.peek().is_none() || patterns.any(|pattern| matches!(pattern.trim_matches(['^', '$']), "" | ".*" | ".+"))
}
