//! `http.accessControl`: settings → the rules that decisions are made by.
//!
//! Knows the keys, not what the rules mean.

use super::settings::{Setting, Settings};
use crate::identity::access::{AccessControl, PolicyRule, RepositoryRules};

const REPOSITORIES: &str = "http.accessControl.repositories";
const GROUPS: &str = "http.accessControl.groups";
const ADMIN: [&str; 3] = [
    "http.accessControl.adminPolicy.users",
    "http.accessControl.adminPolicy.groups",
    "http.accessControl.adminPolicy.actions",
];
const METRICS: [&str; 2] = ["http.accessControl.metrics.users", "http.accessControl.metrics.anonymousPolicy"];

/// The rules, if the file has any.
pub(super) fn read(settings: &Settings) -> Option<AccessControl> {
    // Rules that grant nothing are rules too.
    settings.given("http.accessControl")?;
    let mut control = AccessControl::default();
    for (pattern, table) in map(settings, REPOSITORIES) {
        let policies: Vec<Settings> = table.get("http.accessControl.repositories.*.policies");
        control.repositories.push(RepositoryRules {
            pattern: pattern.clone(),
            policies: policies
                .iter()
                .map(|policy| PolicyRule {
                    users: policy.get("http.accessControl.repositories.*.policies.*.users"),
                    groups: policy.get("http.accessControl.repositories.*.policies.*.groups"),
                    actions: policy.get("http.accessControl.repositories.*.policies.*.actions"),
                })
                .collect(),
            default: table.get("http.accessControl.repositories.*.defaultPolicy"),
            anonymous: table.get("http.accessControl.repositories.*.anonymousPolicy"),
        });
    }
    control.groups = map(settings, GROUPS)
        .map(|(name, table)| (name.clone(), table.get("http.accessControl.groups.*.users")))
        .collect();
    let [users, groups, actions] = ADMIN;
    control.admin =
        PolicyRule { users: settings.get(users), groups: settings.get(groups), actions: settings.get(actions) };
    let [users, anonymous] = METRICS;
    control.metrics_users = settings.get(users);
    control.metrics_anonymous = settings.get::<Vec<String>>(anonymous).iter().any(|action| action == "read");
    Some(control)
}

fn map<'a>(settings: &'a Settings, key: &str) -> impl Iterator<Item = (&'a String, &'a Settings)> {
    let tables = match settings.given(key) {
        Some(Setting::Map(tables)) => Some(tables),
        _ => None,
    };
    tables.into_iter().flatten()
}
