//! `http.accessControl`: reads the rules. `identity::access` knows what they mean.

use super::keys::Row;
use super::model::Http;
use super::settings::{Section, Settings};
use crate::identity::access::{AccessControl, PolicyRule, RepositoryRules};

impl Http {
    /// Says that callers without credentials may push, if they may.
    pub(crate) fn anonymous_pushes(&self) -> Option<String> {
        let may = |words: &[&str]| {
            let (last, others) = words.split_last()?;
            let others = if others.is_empty() { String::new() } else { format!("{} and ", others.join(", ")) };
            Some(format!("everyone who can connect may {others}{last}"))
        };
        if self.open {
            return may(&["push", "pull", "delete"]);
        }
        let rules = &self.access_control.as_ref()?.repositories;
        let grants = |rules: &RepositoryRules, word: &str| rules.anonymous.iter().any(|action| action == word);
        let pushes = |rules: &&RepositoryRules| grants(rules, "create") || grants(rules, "update");
        let open: Vec<&RepositoryRules> = rules.iter().filter(pushes).collect();
        let all = |action: &str| open.iter().all(|rules| grants(rules, action));
        let (pull, delete) = (all("read").then_some("pull"), all("delete").then_some("delete"));
        let words: Vec<&str> = ["push"].into_iter().chain(pull).chain(delete).collect();
        match (open.as_slice(), rules.len()) {
            ([], _) => None,
            ([only], 1) if only.pattern == "**" => may(&words),
            _ => {
                let patterns: Vec<&str> = open.iter().map(|rules| rules.pattern.as_str()).collect();
                Some(format!("{} in {}", may(&words)?, patterns.join(", ")))
            }
        }
    }
}

/// Reads the rules. An empty table is a set of rules that grants nothing.
pub(super) fn read(settings: &Settings) -> Option<AccessControl> {
    settings.given("http.accessControl")?;
    let mut control = AccessControl::default();
    for (pattern, table) in settings.tables("http.accessControl.repositories") {
        control.repositories.push(RepositoryRules {
            pattern: pattern.clone(),
            policies: table.get("http.accessControl.repositories.*.policies"),
            default: table.get("http.accessControl.repositories.*.defaultPolicy"),
            anonymous: table.get("http.accessControl.repositories.*.anonymousPolicy"),
        });
    }
    control.groups = settings
        .tables("http.accessControl.groups")
        .map(|(name, table)| (name.clone(), table.get("http.accessControl.groups.*.users")))
        .collect();
    control.admin = PolicyRule {
        users: settings.get("http.accessControl.adminPolicy.users"),
        groups: settings.get("http.accessControl.adminPolicy.groups"),
        actions: settings.get("http.accessControl.adminPolicy.actions"),
    };
    control.metrics_users = settings.get("http.accessControl.metrics.users");
    let anonymous: Vec<String> = settings.get("http.accessControl.metrics.anonymousPolicy");
    control.metrics_anonymous = anonymous.iter().any(|action| action == "read");
    Some(control)
}

/// The policies of a repository pattern are a list of these.
impl Section for PolicyRule {
    const ROWS: &'static [Row] = &[];

    fn read(settings: &Settings) -> Self {
        Self {
            users: settings.get("http.accessControl.repositories.*.policies.*.users"),
            groups: settings.get("http.accessControl.repositories.*.policies.*.groups"),
            actions: settings.get("http.accessControl.repositories.*.policies.*.actions"),
        }
    }
}
