//! Finds invalid rules and rules without effect.

use super::{AccessControl, PolicyRule, Rules};
use crate::oci::RepositoryPattern;

impl AccessControl {
    /// Lists the errors in the rules: the path of the key under `http.accessControl` and the reason.
    pub fn problems(&self) -> Vec<(String, String)> {
        let wrong = |pattern: &str| {
            let why = pattern.parse::<RepositoryPattern>().err()?;
            Some((at(pattern), format!("the pattern {why}")))
        };
        self.repositories.iter().filter_map(|rules| wrong(&rules.pattern)).collect()
    }

    /// Lists the rules that have no effect or not the apparent one: path and explanation.
    pub fn remarks(&self) -> Vec<(String, String)> {
        let rules = Rules::new(self);
        let mut remarks = Vec::new();
        for block in &self.repositories {
            for (number, policy) in block.policies.iter().enumerate() {
                let path = format!("{}.policies[{number}]", at(&block.pattern));
                if let Some(why) = useless(policy) {
                    remarks.push((path.clone(), why.to_owned()));
                }
                let instead = "use defaultPolicy for all signed-in users and anonymousPolicy for anonymous callers";
                wildcards(&path, policy, instead, &mut remarks);
            }
            if let Some(why) = shadowed(&rules, &block.pattern) {
                remarks.push((at(&block.pattern), why));
            }
        }
        wildcards("adminPolicy", &self.admin, "name the users", &mut remarks);
        if self.metrics_users.iter().any(|user| user.contains('*')) {
            let why = "\"*\" is not a user: anonymousPolicy opens the metrics to all callers";
            remarks.push(("metrics.users".to_owned(), why.to_owned()));
        }
        for (group, members) in &self.groups {
            if members.iter().any(|user| user.contains('*')) {
                remarks.push((format!("groups.{group:?}.users"), "\"*\" is not a user: name the users".to_owned()));
            }
        }
        remarks
    }
}

/// Reports a star among users or groups. It matches no name, but people write it to mean all users.
fn wildcards(path: &str, policy: &PolicyRule, instead: &str, remarks: &mut Vec<(String, String)>) {
    for (field, names, what) in [("users", &policy.users, "user"), ("groups", &policy.groups, "group")] {
        let star = names.iter().find(|name| name.contains('*'));
        if let Some(star) = star {
            let why = format!("{star:?} is not a {what} and grants nothing, because names match exactly: {instead}");
            remarks.push((format!("{path}.{field}"), why));
        }
    }
}

fn at(pattern: &str) -> String {
    format!("repositories.{pattern:?}")
}

fn useless(policy: &PolicyRule) -> Option<&'static str> {
    if policy.users.is_empty() && policy.groups.is_empty() {
        return Some("grants nothing: it names neither users nor groups");
    }
    policy.actions.is_empty().then_some("grants nothing: it names no actions")
}

/// Why a pattern never applies to any of its sample names, or only depending on the order of equal patterns.
fn shadowed(rules: &Rules, text: &str) -> Option<String> {
    let names = text.parse::<RepositoryPattern>().ok()?.samples();
    let applied = names.iter().map(|name| rules.block(name).map_or("", |block| block.pattern.as_str()));
    let others: Vec<&str> = applied.filter(|other| *other != text).collect();
    let other = others.first()?;
    if others.len() == names.len() {
        return Some(format!("is never used: {other:?} matches the same repositories and takes precedence"));
    }
    (other.len() == text.len())
        .then(|| format!("{other:?} is as long, matches some of the same repositories and takes precedence there"))
}
