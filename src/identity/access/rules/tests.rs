//! Tests of zot's rule precedence and of the remarks about rules without effect.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use super::*;
use crate::content::rows::AccountRole;

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn block(pattern: &str, users: &[&str], actions: &[&str]) -> RepositoryRules {
    let policy = PolicyRule { users: texts(users), groups: Vec::new(), actions: texts(actions) };
    RepositoryRules { pattern: pattern.to_owned(), policies: vec![policy], ..RepositoryRules::default() }
}

fn user(name: &str, groups: &[&str]) -> Identity {
    let mut account = Account::test(name, AccountRole::Ordinary);
    account.groups = texts(groups);
    Identity::User(Arc::new(account))
}

/// The actions of an identity, in zot's order: read, create, update, delete.
fn granted(control: &AccessControl, identity: &Identity, name: &str) -> String {
    let mut actions = Actions::NONE;
    Rules::new(control).each_grant(identity, &name.parse().unwrap(), &mut |more, _| actions = actions | more);
    let word = |word: &str, letter| if actions.covers(super::actions(&texts(&[word]))) { letter } else { '-' };
    [word("read", 'r'), word("create", 'c'), word("update", 'u'), word("delete", 'd')].into_iter().collect()
}

#[test]
fn only_the_longest_matching_pattern_applies() {
    let control = AccessControl {
        repositories: vec![
            block("**", &["alice"], &["read", "create", "update", "delete"]),
            block("team/**", &["alice"], &["read"]),
            block("team/*", &["alice"], &["read", "delete"]),
            block("team/a", &["bob"], &["read"]),
            block("{x,y}/tools", &["alice"], &["read", "create"]),
        ],
        ..AccessControl::default()
    };
    let (alice, bob) = (user("alice", &[]), user("bob", &[]));
    for (name, to_alice, to_bob) in [
        ("other", "rcud", "----"),
        ("other/deep/er", "rcud", "----"),
        ("team", "r---", "----"),
        // "team/**" is longer than "team/*", and shorter than "team/a".
        ("team/b", "r---", "----"),
        ("team/b/c", "r---", "----"),
        ("team/a", "r---", "----"),
        ("teams/a", "rcud", "----"),
        ("x/tools", "rc--", "----"),
        ("z/tools", "rcud", "----"),
    ] {
        assert_eq!(
            (granted(&control, &alice, name).as_str(), granted(&control, &bob, name).as_str()),
            (to_alice, to_bob),
            "{name}"
        );
    }
}

#[test]
fn policies_grant_actions_to_users_groups_and_anonymous_callers() {
    let mut team = block("team/**", &["alice"], &["read", "create"]);
    team.policies.push(PolicyRule { users: Vec::new(), groups: texts(&["dev", "ops"]), actions: texts(&["update"]) });
    team.default = texts(&["read"]);
    team.anonymous = texts(&["read", "delete"]);
    let control = AccessControl {
        repositories: vec![team],
        admin: PolicyRule { users: texts(&["root"]), groups: texts(&["ops"]), actions: texts(&["delete"]) },
        groups: BTreeMap::from([("dev".to_owned(), texts(&["carol"]))]),
        ..AccessControl::default()
    };
    for (identity, in_team, elsewhere) in [
        (user("alice", &[]), "rc--", "----"),
        // Names are case-sensitive.
        (user("Alice", &[]), "r---", "----"),
        (user("bob", &["dev"]), "r-u-", "----"),
        // Through a configured group, and through a group of the database.
        (user("carol", &["testers"]), "r-u-", "----"),
        (user("dora", &["ops", "zoo"]), "r-ud", "---d"),
        (user("root", &[]), "r--d", "---d"),
        (user("other", &[]), "r---", "----"),
        // Anonymous rights do not apply to signed-in users.
        (Identity::Anonymous, "r--d", "----"),
    ] {
        let found = (granted(&control, &identity, "team/a"), granted(&control, &identity, "other/a"));
        assert_eq!((found.0.as_str(), found.1.as_str()), (in_team, elsewhere), "{identity:?}");
    }
}

#[test]
fn the_index_finds_the_same_rule_as_a_linear_search() {
    let patterns = [
        "**",
        "*",
        "a/*",
        "a/**",
        "a/{b,c}",
        "a/b",
        "ab/**",
        "[ab]/b",
        "?/c",
        "**/c",
        "a/b/**",
        "{a,ab}/**",
        "*/{b,{c,d}}",
        "a{,b}/b",
        "[a-]/b",
        "**/b/**",
    ];
    let repositories = patterns.iter().map(|pattern| block(pattern, &[], &[])).collect();
    let rules = Rules::new(&AccessControl { repositories, ..AccessControl::default() });
    for name in ["a", "b", "ab", "a/b", "a/c", "b/b", "b/c", "ab/c", "a/b/c", "a/d/c", "c/d/e", "ab/x/y"] {
        let name = name.parse().unwrap();
        let slow = rules.blocks.iter().find(|block| block.pattern.matches(&name)).map(|block| &block.pattern);
        assert_eq!(rules.block(&name).map(|block| &block.pattern), slow, "{name}");
    }
}

#[test]
fn every_repository_with_a_grant_has_one_of_the_beginnings() {
    let patterns = ["**", "a", "a/*", "a/b/**", "{a,ab}/**", "[ab]/b", "**/c", "a{,b}/b"];
    let names = ["a", "ab", "a/b", "a/b/c", "ab/c", "b/b", "x/c"];
    let (bob, carol) = (user("bob", &["team"]), user("carol", &[]));
    let mut narrow = 0;
    for (one, other) in patterns.iter().flat_map(|one| patterns.iter().map(move |other| (*one, *other))) {
        let mut public = block(other, &["carol"], &["read"]);
        public.anonymous = texts(&["read"]);
        let repositories = vec![block(one, &["bob"], &["read"]), public];
        let rules = Rules::new(&AccessControl { repositories, ..AccessControl::default() });
        for identity in [&bob, &carol, &Identity::Anonymous] {
            let beginnings = rules.beginnings(identity).unwrap();
            for name in names {
                let mut is_granted = false;
                rules.each_grant(identity, &name.parse().unwrap(), &mut |actions, _| is_granted |= !actions.is_empty());
                let is_within = beginnings.iter().any(|beginning| name.starts_with(beginning.as_str()));
                assert!(is_within || !is_granted, "{name} of {one} and {other} is not within {beginnings:?}");
                narrow += usize::from(!is_within);
            }
        }
    }
    assert!(narrow > 100, "{narrow}");
    let admin = PolicyRule { users: texts(&["bob"]), actions: texts(&["read"]), ..PolicyRule::default() };
    let rules = Rules::new(&AccessControl { admin, ..AccessControl::default() });
    assert_eq!((rules.beginnings(&bob), rules.beginnings(&carol)), (None, Some(Vec::new())));
}

#[test]
fn rules_without_effect_are_reported() {
    let remarks = |patterns: &[&str]| {
        let repositories = patterns.iter().map(|pattern| block(pattern, &["a"], &["read"])).collect();
        let control = AccessControl { repositories, ..AccessControl::default() };
        control.remarks().into_iter().map(|(at, why)| format!("{at} {why}")).collect::<Vec<_>>()
    };
    assert_eq!(remarks(&["**", "team/**", "team/abc", "{x,y}/z"]), Vec::<String>::new());
    let shadowed = remarks(&["team/*", "team/**"]);
    assert_eq!(shadowed.len(), 1);
    assert!(shadowed[0].starts_with("repositories.\"team/*\" is never used: \"team/**\""), "{shadowed:?}");
    assert!(remarks(&["{a,b}/x", "{a,c}/x"])[0].contains("as long"), "{:?}", remarks(&["{a,b}/x", "{a,c}/x"]));
    let mut empty = block("x", &[], &["read"]);
    empty.policies.push(PolicyRule { users: texts(&["a"]), ..PolicyRule::default() });
    let control = AccessControl { repositories: vec![empty], ..AccessControl::default() };
    assert_eq!(control.remarks().len(), 2);
}

#[test]
fn invalid_patterns_are_problems() {
    let problems = |pattern: &str| {
        let control =
            AccessControl { repositories: vec![block(pattern, &["a"], &["read"])], ..AccessControl::default() };
        control.problems().into_iter().map(|(at, why)| format!("{at} {why}")).collect::<Vec<_>>()
    };
    for pattern in ["**", "a/{b,c}/[x-z]?"] {
        assert!(problems(pattern).is_empty(), "{:?}", problems(pattern));
    }
    for pattern in ["", "a b", "a/{b", "a]}", "!a", "Team/**", "a//b", "/a", "a/team**", "{a,/b}"] {
        let found = problems(pattern);
        assert_eq!(found.len(), 1, "{pattern:?}");
        assert!(found[0].starts_with(&format!("repositories.{pattern:?} the pattern ")), "{found:?}");
    }
}
