//! [`Rule`]: which tokens of an issuer are accepted, and whose rights they have.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use regex_lite::Regex;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Reason;
use super::claims::Claims;
use crate::identity::accounts::{Actions, InvalidScope, KeyScope};
use crate::oci::RepositoryName;

/// The longest pattern, and the longest value of a claim that a pattern can match, in bytes.
const TEXT_BYTES_MAX: usize = 4096;
/// The number of rules whose first failing claim a refusal names.
const NAMED_MAX: usize = 4;

/// Issuers whose tokens everyone can get, with the claims that say whose token it is.
const SHARED: [(&str, &[&str]); 2] = [
    (
        "https://token.actions.githubusercontent.com",
        &["sub", "repository", "repository_id", "repository_owner", "repository_owner_id", "job_workflow_ref"],
    ),
    ("https://gitlab.com", &["sub", "project_path", "project_id", "namespace_path", "namespace_id"]),
];

/// The operator's settings for one rule.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuleSettings {
    /// Patterns by claim. All must match.
    pub(crate) claims: BTreeMap<String, String>,
    /// The user whose rights the token has.
    pub(crate) user: Option<String>,
    /// Groups whose rights the token has.
    pub(crate) groups: Vec<String>,
    /// Limits of its rights, as those of an API key. Empty for none.
    pub(crate) scopes: Vec<String>,
}

/// Which tokens of an issuer are accepted, and whose rights they have.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    claims: Vec<(String, Pattern)>,
    pub(crate) user: Option<String>,
    /// Sorted.
    pub(crate) groups: Vec<String>,
    scopes: Option<Vec<KeyScope>>,
    id: String,
}

/// Why a rule is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidRule {
    #[error(
        "needs at least one claim other than iss and aud, with a pattern that is not only stars: otherwise every token \
         of the issuer matches"
    )]
    NoClaim,
    #[error("the pattern of {name:?} is empty or longer than {TEXT_BYTES_MAX} bytes")]
    Pattern { name: String },
    #[error(transparent)]
    Scope(#[from] InvalidScope),
}

impl Rule {
    /// Checks and prepares a rule of an issuer.
    pub(crate) fn new(issuer: &str, settings: &RuleSettings) -> Result<Self, InvalidRule> {
        let RuleSettings { claims, user, groups, scopes } = settings;
        // Every accepted token has the same issuer, and an audience of the configuration.
        let is_same = |name: &str| matches!(name, "iss" | "aud" | "/iss" | "/aud");
        if !claims.iter().any(|(name, pattern)| !is_same(name) && has_literal(pattern)) {
            return Err(InvalidRule::NoClaim);
        }
        let read = |(name, pattern): (&String, &String)| {
            let pattern = Pattern::new(pattern).ok_or_else(|| InvalidRule::Pattern { name: name.clone() })?;
            Ok((name.clone(), pattern))
        };
        let mut groups = groups.clone();
        groups.sort_unstable();
        groups.dedup();
        let parsed = scopes.iter().map(|scope| scope.parse()).collect::<Result<Vec<KeyScope>, InvalidScope>>()?;
        // A token of this registry ends with the rule that it was issued by, so every part of the rule counts.
        let text = format!("{issuer:?}{claims:?}{user:?}{groups:?}{scopes:?}");
        Ok(Self {
            claims: claims.iter().map(read).collect::<Result<_, InvalidRule>>()?,
            user: user.clone(),
            groups,
            scopes: Some(parsed).filter(|scopes| !scopes.is_empty()),
            id: hex::encode(&Sha256::digest(text)[..16]),
        })
    }

    /// Identifies the rule in tokens of this registry. It changes with the rule.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The actions that the rule allows on a repository.
    pub(super) fn actions(&self, name: &RepositoryName) -> Actions {
        match &self.scopes {
            None => Actions::CONTENT,
            Some(scopes) => scopes.iter().fold(Actions::NONE, |actions, scope| actions | scope.adds(actions, name)),
        }
    }

    pub(super) const fn is_unlimited(&self) -> bool {
        self.scopes.is_none()
    }

    /// The first claim that does not match.
    fn failing<'r>(&'r self, claims: &Claims) -> Option<&'r str> {
        let fails =
            |(name, pattern): &&(String, Pattern)| !claim(claims, name).is_some_and(|value| pattern.matches(&value));
        self.claims.iter().find(fails).map(|(name, _)| name.as_str())
    }
}

/// Finds the first rule that matches.
pub(super) fn matching<'r>(rules: &'r [Arc<Rule>], claims: &Claims) -> Result<&'r Arc<Rule>, Reason> {
    let mut why = String::new();
    for (number, rule) in rules.iter().enumerate() {
        let Some(name) = rule.failing(claims) else { return Ok(rule) };
        if number < NAMED_MAX {
            let between = if why.is_empty() { "" } else { ", " };
            let _ = write!(why, "{between}rules[{number}] at the claim {name}");
        }
    }
    Err(Reason::NoRule(why))
}

/// The value of a claim as text. A name that begins with a slash is a path into nested claims (RFC 6901). Lists, tables and
/// null match nothing.
fn claim(claims: &Claims, name: &str) -> Option<String> {
    let value = match name.strip_prefix('/') {
        None => claims.get(name)?,
        Some(path) => {
            let (first, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
            claims.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(rest)?
        }
    };
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A pattern for a whole value. `*` matches any characters but `/` and `:`, and `**` matches any characters. All other
/// characters match themselves.
#[derive(Clone, Debug)]
struct Pattern(Regex);

impl Pattern {
    fn new(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let mut regex = String::from(r"(?s)\A");
        let mut rest = text;
        while let Some(at) = rest.find('*') {
            regex.push_str(&regex_lite::escape(&rest[..at]));
            let stars = rest[at..].len() - rest[at..].trim_start_matches('*').len();
            regex.push_str(if stars == 1 { "[^/:]*" } else { ".*" });
            rest = &rest[at + stars..];
        }
        regex.push_str(&regex_lite::escape(rest));
        regex.push_str(r"\z");
        Some(Self(Regex::new(&regex).ok()?))
    }

    fn matches(&self, value: &str) -> bool {
        value.len() <= TEXT_BYTES_MAX && self.0.is_match(value)
    }
}

/// Whether a pattern has more than stars, separators and the scheme of a URL.
fn has_literal(pattern: &str) -> bool {
    let pattern = pattern.strip_prefix("https://").or_else(|| pattern.strip_prefix("http://")).unwrap_or(pattern);
    pattern.chars().any(|c| !matches!(c, '*' | '/' | ':'))
}

/// Whether a rule of an issuer that everyone can use does not say whose tokens it accepts. Returns the claims that would.
pub(crate) fn is_open_to_strangers(issuer: &str, claims: &BTreeMap<String, String>) -> Option<&'static [&'static str]> {
    let (_, owners) = SHARED.iter().find(|(shared, _)| issuer.trim_end_matches('/') == *shared)?;
    let names_owner = |name: &&str| claims.get(*name).is_some_and(|pattern| begins_with_owner(name, pattern));
    (!owners.iter().any(names_owner)).then_some(owners)
}

/// Whether the beginning of a pattern is fixed up to the end of the owner. `org*` also matches the owner `org-evil`.
fn begins_with_owner(name: &str, pattern: &str) -> bool {
    let Some(star) = pattern.find('*') else { return true };
    let fixed = &pattern[..star];
    match name {
        "sub" => fixed.contains('/') || fixed.rsplit(':').next() == Some("") && fixed.matches(':').count() > 1,
        "repository" | "project_path" | "namespace_path" | "job_workflow_ref" => fixed.contains('/'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_values_only() {
        for (pattern, value, expected) in [
            ("org/app", "org/app", true),
            ("org/app", "org/app2", false),
            ("org/app", "my-org/app", false),
            ("org/app", "ORG/app", false),
            ("org/app", "org/app\n", false),
            ("org/*", "org/app", true),
            ("org/*", "org/app/x", false),
            ("org/*", "org/app:x", false),
            ("org/**", "org/app/x:y", true),
            ("org/**", "org2/app", false),
            ("repo:org/app:ref:refs/heads/release-*", "repo:org/app:ref:refs/heads/release-1", true),
            ("repo:org/app:ref:refs/heads/release-*", "repo:org/app:ref:refs/heads/release-1/x", false),
            ("*", "", true),
            ("a.c", "abc", false),
            ("a|b", "a", false),
            ("(a)", "a", false),
            ("***", "a/b", true),
            ("org/app", "org/\u{430}pp", false),
            ("**", "a\nb", true),
        ] {
            let found = Pattern::new(pattern).map(|pattern| pattern.matches(value));
            assert_eq!(found, Some(expected), "{pattern} {value:?}");
        }
        assert!(Pattern::new("").is_none() && Pattern::new(&"a".repeat(TEXT_BYTES_MAX + 1)).is_none());
        assert!(!Pattern::new("**").is_some_and(|all| all.matches(&"a".repeat(TEXT_BYTES_MAX + 1))));
    }

    #[test]
    fn rules_of_shared_issuers_name_an_owner() {
        for (issuer, name, pattern, is_open) in [
            ("https://token.actions.githubusercontent.com", "repository", "org/app", false),
            ("https://token.actions.githubusercontent.com", "repository", "org/*", false),
            ("https://token.actions.githubusercontent.com", "repository", "org*", true),
            ("https://token.actions.githubusercontent.com", "repository", "*/app", true),
            ("https://token.actions.githubusercontent.com", "repository_owner", "org", false),
            ("https://token.actions.githubusercontent.com", "repository_owner", "org*", true),
            ("https://token.actions.githubusercontent.com", "sub", "repo:org/*:**", false),
            ("https://token.actions.githubusercontent.com", "sub", "repo:**", true),
            ("https://token.actions.githubusercontent.com", "ref", "refs/heads/main", true),
            ("https://gitlab.com", "project_path", "group/**", false),
            ("https://gitlab.com", "ref_protected", "true", true),
            ("https://gitlab.example", "ref_protected", "true", false),
        ] {
            let claims = BTreeMap::from([(name.to_owned(), pattern.to_owned())]);
            assert_eq!(is_open_to_strangers(issuer, &claims).is_some(), is_open, "{issuer} {name} {pattern}");
        }
    }
}
