//! `storage.quotas`: how much repositories and namespaces may have.

use super::keys::Row;
use super::kind::Kind::{self, Texts};
use super::settings::{Section, Setting, Settings, section};
use super::walk::Findings;
use crate::oci::RepositoryPattern;

const QUOTAS: &str = "storage.quotas";
const REPOSITORIES: &str = "storage.quotas.*.repositories";
const NAMESPACES: &str = "storage.quotas.*.namespaces";

section! {
    /// A quota. Deleting always works, and so does everything that adds nothing.
    Quota {
        /// Patterns of repositories. Each has the quota for itself.
        repositories: Vec<String> = "storage.quotas.*.repositories", Texts, "[]";
        /// Patterns of namespaces, the first parts of names. All repositories of a namespace have the quota together.
        namespaces: Vec<String> = "storage.quotas.*.namespaces", Texts, "[]";
        /// Most bytes of blobs, each counted once. Mirrored blobs count, too, and are never refused. 0 for no limit.
        size: u64 = "storage.quotas.*.size", Kind::ANY_SIZE, "0";
        /// Most tags. 0 for no limit.
        tags: u64 = "storage.quotas.*.tags", Kind::COUNT, "0";
    }
}

/// Reports quotas that cannot be used.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    let Some(Setting::List(quotas)) = settings.given(QUOTAS) else { return };
    for (index, quota) in quotas.iter().enumerate() {
        let count = [REPOSITORIES, NAMESPACES].map(|key| quota.given_texts(key).count());
        if count.iter().filter(|count| **count > 0).count() != 1 {
            let why = "expected either repositories or namespaces: a quota is for each of these";
            findings.problem(&format!("{QUOTAS}[{index}]"), why);
        }
        let is_limit = |key| matches!(quota.given(key), Some(Setting::Int(limit)) if *limit > 0);
        if !is_limit("storage.quotas.*.size") && !is_limit("storage.quotas.*.tags") {
            findings.warning(&format!("{QUOTAS}[{index}]"), "limits nothing: it has neither size nor tags");
        }
        for (key, name) in [(REPOSITORIES, "repositories"), (NAMESPACES, "namespaces")] {
            for (at, pattern) in quota.given_texts(key) {
                let path = format!("{QUOTAS}[{index}].{name}[{at}]");
                if let Err(why) = pattern.parse::<RepositoryPattern>() {
                    findings.problem(&path, format!("the pattern {pattern:?} {why}"));
                } else if key == NAMESPACES && names_a_slash(pattern) {
                    let why = "matches no namespace: a namespace is the first part of a name, without a slash";
                    findings.problem(&path, format!("the pattern {pattern:?} {why}"));
                }
            }
            let covers = |pattern: &str| pattern == "**" || key == NAMESPACES && pattern == "*";
            let all = |quota: &Settings| quota.given_texts(key).any(|(_, pattern)| covers(pattern));
            if count[usize::from(key == NAMESPACES)] > 0
                && let Some(first) = quotas[..index].iter().position(all)
            {
                let why = format!("is never used: {QUOTAS}[{first}] matches all {name} and takes precedence");
                findings.warning(&format!("{QUOTAS}[{index}]"), why);
            }
        }
    }
}

/// Whether every text that a pattern matches has a slash. Alternatives are left out.
fn names_a_slash(pattern: &str) -> bool {
    let inner = pattern.trim_start_matches("**/").trim_end_matches("/**");
    inner.contains('/') && !inner.contains('{')
}
