//! What is wrong with rules, and what in them can never count.

use super::{AccessControl, PolicyRule, Rules};
use crate::oci::RepositoryPattern;

impl AccessControl {
    /// What makes the rules unusable: the path of the key under `http.accessControl`, and why.
    pub fn problems(&self) -> Vec<(String, String)> {
        let wrong = |pattern: &str| {
            let why = pattern.parse::<RepositoryPattern>().err()?;
            Some((at(pattern), format!("the pattern {why}")))
        };
        self.repositories.iter().filter_map(|rules| wrong(&rules.pattern)).collect()
    }

    /// What will never have an effect, or not the one that it seems to have: path and explanation.
    pub fn remarks(&self) -> Vec<(String, String)> {
        let rules = Rules::new(self);
        let mut remarks = Vec::new();
        for block in &self.repositories {
            for (number, policy) in block.policies.iter().enumerate() {
                let path = format!("{}.policies[{number}]", at(&block.pattern));
                if let Some(why) = useless(policy) {
                    remarks.push((path.clone(), why.to_owned()));
                }
                let everybody = "write defaultPolicy for all users who have signed in, and anonymousPolicy for all \
                                 others";
                wildcards(&path, policy, everybody, &mut remarks);
            }
            if let Some(why) = overlooked(&rules, &block.pattern) {
                remarks.push((at(&block.pattern), why));
            }
        }
        wildcards("adminPolicy", &self.admin, "name the users", &mut remarks);
        if self.metrics_users.iter().any(|user| user.contains('*')) {
            let why = "\"*\" is no user: anonymousPolicy opens the metrics to everybody";
            remarks.push(("metrics.users".to_owned(), why.to_owned()));
        }
        for (group, members) in &self.groups {
            if members.iter().any(|user| user.contains('*')) {
                remarks.push((format!("groups.{group:?}.users"), "\"*\" is no user: name the users".to_owned()));
            }
        }
        remarks
    }
}

/// A star stands for nobody in lists of users and groups, and people write it for everybody.
fn wildcards(path: &str, policy: &PolicyRule, instead: &str, remarks: &mut Vec<(String, String)>) {
    for (field, names, what) in [("users", &policy.users, "user"), ("groups", &policy.groups, "group")] {
        let star = names.iter().find(|name| name.contains('*'));
        if let Some(star) = star {
            let why = format!(
                "{star:?} is no {what} and grants nothing, since names are compared letter by letter: {instead}"
            );
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

/// Why a pattern never counts, or only by chance, as far as examples show.
fn overlooked(rules: &Rules, text: &str) -> Option<String> {
    let names = text.parse::<RepositoryPattern>().ok()?.samples();
    let counting = names.iter().map(|name| rules.block(name).map_or("", |block| block.pattern.as_str()));
    let others: Vec<&str> = counting.filter(|other| *other != text).collect();
    let other = others.first()?;
    if others.len() == names.len() {
        return Some(format!("never counts: {other:?} fits the same repositories and goes before it"));
    }
    (other.len() == text.len())
        .then(|| format!("{other:?} is as long and fits some of the same repositories: there it goes before this one"))
}
