//! `http.accessControl`: reads the rules. `identity::access` knows what they mean.

use super::keys::Row;
use super::settings::{Section, Settings};
use crate::identity::access::{AccessControl, PolicyRule, RepositoryRules};

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
