//! Lists the namespaces that the rules give to users and groups, so that no other user gets one by its name.

use super::AccessControl;
use crate::identity::accounts::Granted;
use crate::oci::RepositoryPattern;

/// A namespace that no pattern names literally.
const ELSEWHERE: &str = "q7z-elsewhere";

impl AccessControl {
    /// The namespaces that patterns name literally, with the users that their policies name.
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
                // A pattern with a wildcard in the first component names no namespace.
                let elsewhere = format!("{ELSEWHERE}/{rest}").parse();
                if elsewhere.is_ok_and(|elsewhere| !pattern.matches(&elsewhere)) {
                    granted.entry(namespace.to_owned()).or_default().extend(users.iter().map(|user| (*user).clone()));
                }
            }
        }
        granted
    }
}
