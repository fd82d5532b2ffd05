//! Which namespaces the rules give to some users and groups: others do not come to own them by their name.

use super::AccessControl;
use crate::identity::accounts::Granted;
use crate::oci::RepositoryPattern;

/// A namespace that no pattern names.
const ELSEWHERE: &str = "q7z-elsewhere";

impl AccessControl {
    /// The namespaces that patterns name, with the users whom policies name there.
    pub(crate) fn granted(&self) -> Granted {
        let mut granted = Granted::new();
        for rules in &self.repositories {
            let policies: Vec<_> = rules.policies.iter().filter(|policy| !policy.actions.is_empty()).collect();
            let of_groups = policies.iter().flat_map(|policy| &policy.groups);
            let members = of_groups.clone().filter_map(|group| self.groups.get(group)).flatten();
            let users: Vec<_> = policies.iter().flat_map(|policy| &policy.users).chain(members).collect();
            if users.is_empty() && of_groups.count() == 0 {
                continue;
            }
            let Ok(pattern) = rules.pattern.parse::<RepositoryPattern>() else { continue };
            for name in pattern.samples() {
                let Some((namespace, rest)) = name.as_str().split_once('/') else { continue };
                // With a wildcard there the pattern names no namespace.
                let elsewhere = format!("{ELSEWHERE}/{rest}").parse();
                if elsewhere.is_ok_and(|elsewhere| !pattern.matches(&elsewhere)) {
                    granted.entry(namespace.to_owned()).or_default().extend(users.iter().map(|user| (*user).clone()));
                }
            }
        }
        granted
    }
}
