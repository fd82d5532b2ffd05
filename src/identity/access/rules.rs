//! [`Rules`]: the rules of `http.accessControl`, indexed for decisions.
//!
//! As in zot, the longest pattern that matches a repository applies, and no other. The admin policy adds to it. The
//! cost of a decision does not grow with the number of patterns, users and groups. Pure.

mod granted;
mod remarks;

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use super::Identity;
use crate::identity::accounts::{Account, Actions};
use crate::oci::{RepositoryName, RepositoryPattern};

/// The configuration `http.accessControl`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessControl {
    /// Rights by repository pattern (zot `repositories`).
    pub repositories: Vec<RepositoryRules>,
    /// Rights in every repository (zot `adminPolicy`).
    pub admin: PolicyRule,
    /// The members of groups, by the group's name (zot `groups`).
    pub groups: BTreeMap<String, Vec<String>>,
    /// The users who may read the metrics (zot `metrics.users`).
    pub metrics_users: Vec<String>,
    /// Whether anonymous callers may read the metrics (zot `metrics.anonymousPolicy`).
    pub metrics_anonymous: bool,
}

/// The rules for the repositories that a pattern matches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepositoryRules {
    /// A [`RepositoryPattern`]. An invalid one is a [problem](AccessControl::problems) and grants nothing.
    pub pattern: String,
    /// Rights of users and groups.
    pub policies: Vec<PolicyRule>,
    /// The actions of all signed-in users, in zot's words.
    pub default: Vec<String>,
    /// The actions of anonymous callers.
    pub anonymous: Vec<String>,
}

/// The actions of some users and groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyRule {
    /// Names, which are case-sensitive.
    pub users: Vec<String>,
    /// Names, which are case-sensitive.
    pub groups: Vec<String>,
    /// `read`, `create`, `update`, `delete` and `detectManifestCollision`.
    pub actions: Vec<String>,
}

/// The rule of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule<'a> {
    /// The policy with this number, for the user or one of the user's groups.
    Policy {
        pattern: &'a str,
        number: u32,
        group: Option<&'a str>,
    },
    Default {
        pattern: &'a str,
    },
    Anonymous {
        pattern: &'a str,
    },
    Admin {
        group: Option<&'a str>,
    },
}

/// The indexed rules.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// In the order of precedence.
    blocks: Vec<Block>,
    /// The blocks by the literal beginning or ending of their patterns, the longer of the two.
    beginnings: Index,
    endings: Index,
    admin: Entries,
    metrics_users: Vec<String>,
    metrics_anonymous: bool,
}

/// Blocks by a part of the names that they match.
#[derive(Debug, Default)]
struct Index {
    blocks: HashMap<String, Vec<usize>>,
    /// The lengths of the keys, ascending.
    lengths: Vec<usize>,
}

#[derive(Debug)]
struct Block {
    pattern: RepositoryPattern,
    entries: Entries,
    default: Actions,
    anonymous: Actions,
}

/// The grants of policies.
#[derive(Debug, Default)]
struct Entries {
    /// Sorted by name.
    users: Vec<Entry>,
    /// Sorted by name.
    groups: Vec<Entry>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    name: String,
    number: u32,
    /// The configured group of the user to which the policy applies.
    group: Option<String>,
    actions: Actions,
}

/// Translates zot's words for actions. The configuration check reports unknown ones, which grant nothing.
fn actions(words: &[String]) -> Actions {
    words.iter().fold(Actions::NONE, |actions, word| {
        actions
            | match word.as_str() {
                "read" => Actions::PULL,
                "create" => Actions::of(crate::identity::accounts::Action::Push),
                "update" => Actions::of(crate::identity::accounts::Action::Update),
                "delete" => Actions::DELETE,
                "detectManifestCollision" => Actions::DETECT_COLLISION,
                _ => Actions::NONE,
            }
    })
}

impl Rules {
    pub(crate) fn new(control: &AccessControl) -> Self {
        let entries = |policies: &[PolicyRule]| {
            let mut entries = Entries::default();
            for (number, policy) in (0..).zip(policies) {
                entries.add(number, policy, &control.groups);
            }
            entries.users.sort_unstable();
            entries.groups.sort_unstable();
            entries
        };
        let block = |rules: &RepositoryRules| {
            Some(Block {
                pattern: rules.pattern.parse().ok()?,
                entries: entries(&rules.policies),
                default: actions(&rules.default),
                anonymous: actions(&rules.anonymous),
            })
        };
        let mut blocks: Vec<Block> = control.repositories.iter().filter_map(block).collect();
        // zot applies any of several patterns of the same length. Here it is always the same one.
        blocks.sort_by(|a, b| {
            let (a, b) = (a.pattern.as_str(), b.pattern.as_str());
            b.len().cmp(&a.len()).then_with(|| a.cmp(b))
        });
        let (mut beginnings, mut endings) = (Index::default(), Index::default());
        for (at, block) in blocks.iter().enumerate() {
            for (beginning, ending) in block.pattern.literal_ends() {
                if beginning.len() >= ending.len() {
                    beginnings.add(beginning, at);
                } else {
                    endings.add(ending, at);
                }
            }
        }
        let mut metrics_users = control.metrics_users.clone();
        metrics_users.sort_unstable();
        Self {
            blocks,
            beginnings,
            endings,
            admin: entries(std::slice::from_ref(&control.admin)),
            metrics_users,
            metrics_anonymous: control.metrics_anonymous,
        }
    }

    /// Visits each rule that applies to an identity in a repository.
    pub(super) fn each_grant<'a>(
        &'a self,
        identity: &'a Identity,
        name: &RepositoryName,
        visit: &mut dyn FnMut(Actions, Rule<'a>),
    ) {
        let block = self.block(name);
        let Some(account) = identity.grantee() else {
            if let Some(Block { pattern, anonymous, .. }) = block {
                visit(*anonymous, Rule::Anonymous { pattern: pattern.as_str() });
            }
            return;
        };
        if let Some(Block { pattern, entries, default, .. }) = block {
            let pattern = pattern.as_str();
            entries.each(account, &mut |entry, group| {
                visit(entry.actions, Rule::Policy { pattern, number: entry.number, group });
            });
            visit(*default, Rule::Default { pattern });
        }
        self.admin.each(account, &mut |entry, group| visit(entry.actions, Rule::Admin { group }));
    }

    /// The patterns of the rules that grant a user something.
    pub(crate) fn patterns_for<'a>(&'a self, account: &'a Account) -> Vec<&'a RepositoryPattern> {
        let grants = |block: &&Block| !block.default.is_empty() || block.entries.grants(account);
        self.blocks.iter().filter(grants).map(|block| &block.pattern).collect()
    }

    /// How the names begin of all repositories in which rules grant an identity something. `None` if that could be any.
    pub(super) fn beginnings(&self, identity: &Identity) -> Option<Vec<String>> {
        let patterns = match identity.grantee() {
            Some(account) if self.is_admin(account) => return None,
            Some(account) => self.patterns_for(account),
            None => {
                self.blocks.iter().filter(|block| !block.anonymous.is_empty()).map(|block| &block.pattern).collect()
            }
        };
        Some(patterns.into_iter().flat_map(RepositoryPattern::literal_ends).map(|(beginning, _)| beginning).collect())
    }

    /// Whether the admin policy grants a user something.
    pub(crate) fn is_admin(&self, account: &Account) -> bool {
        self.admin.grants(account)
    }

    /// Whether any rule grants an anonymous caller something.
    pub(super) fn grant_anonymous(&self) -> bool {
        self.blocks.iter().any(|block| !block.anonymous.is_empty())
    }

    /// Whether rules allow an identity to read the metrics.
    pub(super) fn metrics(&self, identity: &Identity) -> bool {
        match identity.grantee() {
            None => self.metrics_anonymous,
            Some(account) => self.metrics_users.binary_search(&account.name).is_ok(),
        }
    }

    /// The rules for a repository: those with the longest matching pattern.
    fn block(&self, repository: &RepositoryName) -> Option<&Block> {
        let name = repository.as_str();
        let beginnings = self.beginnings.lengths.iter().filter_map(|length| name.get(..*length));
        let endings = self.endings.lengths.iter().filter_map(|length| name.get(name.len().checked_sub(*length)?..));
        let candidates = beginnings.filter_map(|part| self.beginnings.blocks.get(part));
        let candidates = candidates.chain(endings.filter_map(|part| self.endings.blocks.get(part)));
        let matching = candidates.filter_map(|at| at.iter().find(|at| self.blocks[**at].pattern.matches(repository)));
        matching.min().map(|at| &self.blocks[*at])
    }
}

impl Index {
    /// Adds a block after those of higher precedence.
    fn add(&mut self, part: String, at: usize) {
        if let Err(place) = self.lengths.binary_search(&part.len()) {
            self.lengths.insert(place, part.len());
        }
        let blocks = self.blocks.entry(part).or_default();
        if blocks.last() != Some(&at) {
            blocks.push(at);
        }
    }
}

impl Entries {
    fn add(&mut self, number: u32, policy: &PolicyRule, groups: &BTreeMap<String, Vec<String>>) {
        let actions = actions(&policy.actions);
        let entry = |name: &String, group: Option<&String>| Entry {
            name: name.clone(),
            number,
            group: group.cloned(),
            actions,
        };
        self.users.extend(policy.users.iter().map(|user| entry(user, None)));
        for group in &policy.groups {
            self.groups.push(entry(group, None));
            // Members of configured groups are resolved here, so that decisions need not.
            let members = groups.get(group).into_iter().flatten();
            self.users.extend(members.map(|member| entry(member, Some(group))));
        }
    }

    /// Whether an entry grants something to a user or one of the user's groups.
    fn grants(&self, account: &Account) -> bool {
        let mut grants = false;
        self.each(account, &mut |entry, _| grants |= !entry.actions.is_empty());
        grants
    }

    /// Visits the entries for a user and the user's groups.
    fn each<'a>(&'a self, account: &'a Account, visit: &mut dyn FnMut(&'a Entry, Option<&'a str>)) {
        for entry in named(&self.users, &account.name) {
            visit(entry, entry.group.as_deref());
        }
        // Both lists are sorted, so one pass is enough.
        let (mut entries, mut groups) = (self.groups.iter().peekable(), account.groups.iter().peekable());
        while let (Some(entry), Some(group)) = (entries.peek(), groups.peek()) {
            match entry.name.as_str().cmp(group.as_str()) {
                Ordering::Less => drop(entries.next()),
                Ordering::Greater => drop(groups.next()),
                Ordering::Equal => {
                    visit(entry, Some(&entry.name));
                    entries.next();
                }
            }
        }
    }
}

fn named<'a>(entries: &'a [Entry], name: &'a str) -> impl Iterator<Item = &'a Entry> {
    let start = entries.partition_point(|entry| entry.name.as_str() < name);
    entries[start..].iter().take_while(move |entry| entry.name == name)
}

#[cfg(test)]
mod tests;
