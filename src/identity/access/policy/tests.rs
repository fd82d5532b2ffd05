//! Tables of decisions by caller and access.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use super::*;
use crate::identity::accounts::{KeyGrant, SessionGrant};

const NOW: Timestamp = Timestamp::from_micros(3_600_000_000);

fn user(name: &str, role: AccountRole, credential: Credential) -> Caller {
    Caller { identity: Identity::User(Arc::new(Account::test(name, role))), credential }
}

fn key(scopes: Option<&[&str]>) -> Credential {
    let scopes = scopes.map(|scopes| scopes.iter().map(|scope| scope.parse().unwrap()).collect());
    Credential::Key(Arc::new(KeyGrant::test("alice", scopes)))
}

fn session(age: Duration) -> Credential {
    let signed_in = Timestamp::from_micros(NOW.micros() - u64::try_from(age.as_micros()).unwrap());
    Credential::Session(Arc::new(SessionGrant::test("alice", signed_in)))
}

/// One letter for a decision: allowed, 401, 401 without a recent sign-in or with a narrow token, 403.
fn letter(decision: Result<(), Refusal>) -> char {
    match decision {
        Ok(()) => 'a',
        Err(Refusal::Unauthenticated) => '1',
        Err(Refusal::NotFresh) => 'f',
        Err(Refusal::TooNarrow) => 'n',
        Err(Refusal::Denied) => '3',
    }
}

fn policy(grants: AccessPolicy) -> Policy {
    Policy { grants, rules: None, keys_make_keys: false, anonymous_catalog: false }
}

/// Decides without permissions.
fn decide(policy: &Policy, caller: &Caller, access: &Access) -> char {
    letter(policy.decide(caller, access, &Permissions::default(), NOW))
}

fn repository(name: &str, actions: Actions) -> Access {
    Access::Repository(name.parse().unwrap(), actions)
}

#[test]
fn general_grants_depend_on_the_policy() {
    // anonymous, alice, a read-only superuser, a superuser
    let callers = [
        Caller::ANONYMOUS,
        user("alice", AccountRole::Ordinary, Credential::Password),
        user("eve", AccountRole::ReadOnlySuperuser, Credential::Password),
        user("root", AccountRole::Superuser, Credential::Password),
    ];
    for (access, owners, signed_in, open) in [
        (Access::Anyone, "aaaa", "aaaa", "aaaa"),
        (Access::SignedIn, "1aaa", "1aaa", "aaaa"),
        (Access::Metrics, "13aa", "1aaa", "aaaa"),
        (repository("alice/x", Actions::PUSH), "1a3a", "1a3a", "aaaa"),
        (repository("alice/x", Actions::PULL), "1aaa", "1aaa", "aaaa"),
        (repository("alice/x/y", Actions::DELETE), "1a3a", "1a3a", "aaaa"),
        (repository("alice", Actions::PUSH), "133a", "1a3a", "aaaa"),
        (repository("alicee/x", Actions::PULL), "13aa", "1aaa", "aaaa"),
        (repository("bob/alice", Actions::PUSH), "133a", "1a3a", "aaaa"),
        (repository("eve/x", Actions::PULL), "13aa", "1aaa", "aaaa"),
        (repository("eve/x", Actions::PUSH), "133a", "1a3a", "aaaa"),
        (repository("eve/x", Actions::DELETE), "133a", "1a3a", "aaaa"),
        (Access::OwnKeys, "1aaa", "1aaa", "1aaa"),
    ] {
        for (grants, expected) in
            [(AccessPolicy::Owners, owners), (AccessPolicy::SignedIn, signed_in), (AccessPolicy::Open, open)]
        {
            let policy = policy(grants);
            let decided: String = callers.iter().map(|caller| decide(&policy, caller, &access)).collect();
            assert_eq!(decided, expected, "{access:?} under {grants:?}");
        }
    }
}

#[test]
fn credentials_only_limit_the_rights_of_their_owner() {
    let alice = |credential| user("alice", AccountRole::Ordinary, credential);
    let root = |credential| user("root", AccountRole::Superuser, credential);
    // alice: password, key, key for alice/x, key for pulling alice/**, key for bob/**;
    // root: password, key for pulling, key
    let callers = [
        alice(Credential::Password),
        alice(key(None)),
        alice(key(Some(&["alice/x"]))),
        alice(key(Some(&["alice/**:pull"]))),
        alice(key(Some(&["bob/**"]))),
        root(Credential::Password),
        root(key(Some(&["**:pull"]))),
        root(key(None)),
    ];
    let policy = policy(AccessPolicy::Owners);
    for (access, expected) in [
        (Access::SignedIn, "aaaaaaaa"),
        (Access::Metrics, "33333a3a"),
        (repository("alice/x", Actions::PULL), "aaaa3aaa"),
        (repository("alice/x", Actions::PUSH), "aaa33a3a"),
        (repository("alice/y", Actions::PULL), "aa3a3aaa"),
        (repository("alice/y", Actions::DELETE), "aa333a3a"),
        (repository("bob/x", Actions::PULL), "33333aaa"),
        (Access::OwnKeys, "a3333a33"),
        (Access::Account(Requires::SignedIn), "aaaaaaaa"),
        (Access::Account(Requires::UserAdmin), "aa333a3a"),
        (Access::Account(Requires::Session), "33333333"),
        (Access::Account(Requires::FreshLoginOrKey), "3aaaa3aa"),
        (Access::Account(Requires::FreshLogin), "33333333"),
        (Access::Account(Requires::Superuser), "3333333a"),
        // A key may not change passwords, keys and rights of other users.
        (Access::Account(Requires::FreshSuperuser), "33333333"),
        (Access::Account(Requires::FreshSuperuserRead), "33333333"),
        (Access::Account(Requires::OwnKeys), "a3333a33"),
    ] {
        let decided: String = callers.iter().map(|caller| decide(&policy, caller, &access)).collect();
        assert_eq!(decided, expected, "{access:?}");
    }
    let zot = Policy { keys_make_keys: true, ..policy };
    assert_eq!(decide(&zot, &alice(key(None)), &Access::OwnKeys), 'a');
    assert_eq!(decide(&zot, &alice(key(Some(&["**"]))), &Access::OwnKeys), '3');
    assert_eq!(decide(&zot, &alice(key(None)), &Access::Account(Requires::OwnKeys)), 'a');
    assert_eq!(decide(&zot, &root(key(None)), &Access::Account(Requires::FreshSuperuser)), '3');
}

#[test]
fn some_operations_require_a_recent_sign_in() {
    let minute = Duration::from_mins(1);
    // alice's session of 9 and 10 minutes, a read-only superuser's and a superuser's of 9, a superuser's of 10
    let callers = [
        user("alice", AccountRole::Ordinary, session(9 * minute)),
        user("alice", AccountRole::Ordinary, session(10 * minute)),
        user("eve", AccountRole::ReadOnlySuperuser, session(9 * minute)),
        user("root", AccountRole::Superuser, session(9 * minute)),
        user("root", AccountRole::Superuser, session(10 * minute)),
        Caller::ANONYMOUS,
    ];
    let policy = policy(AccessPolicy::Owners);
    for (requires, expected) in [
        (Requires::Anyone, "aaaaaa"),
        (Requires::SignedIn, "aaaaa1"),
        (Requires::UserAdmin, "aaaaa1"),
        (Requires::Session, "aaaaa1"),
        (Requires::FreshLogin, "afaaf1"),
        (Requires::FreshLoginOrKey, "afaaf1"),
        (Requires::Superuser, "333af1"),
        (Requires::SuperuserRead, "33aaf1"),
        (Requires::FreshSuperuser, "333af1"),
        (Requires::FreshSuperuserRead, "33aaf1"),
        (Requires::OwnKeys, "aaaaa1"),
    ] {
        let decided: String =
            callers.iter().map(|caller| decide(&policy, caller, &Access::Account(requires))).collect();
        assert_eq!(decided, expected, "{requires:?}");
    }
}

/// Compares decisions under many rules, for a user with many groups, with a linear search, and prints the cost of one:
/// `cargo test --release --lib decisions_under_many_rules -- --nocapture`.
#[test]
fn decisions_under_many_rules_are_correct_and_fast() {
    use crate::identity::access::{AccessControl, PolicyRule, RepositoryRules, Rules};

    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let repositories = (0..1000).map(|n| {
        let pattern = match n % 4 {
            0 => format!("team{n}/**"),
            1 => format!("team{n}/app-*"),
            2 => format!("org/{{unit{n},unit{}}}/**", n + 1000),
            _ => format!("*/shared{n}"),
        };
        let policy = |groups: &[String], actions: &[&str]| PolicyRule {
            users: texts(&["bob"]),
            groups: groups.to_vec(),
            actions: texts(actions),
        };
        let groups: Vec<String> = (0..100).map(|group| format!("group{}", (n + group * 7) % 500)).collect();
        RepositoryRules {
            pattern,
            policies: vec![policy(&groups[..50], &["read"]), policy(&groups[50..], &["read", "create"])],
            ..RepositoryRules::default()
        }
    });
    let control = AccessControl { repositories: repositories.collect(), ..AccessControl::default() };
    let mut account = Account::test("alice", AccountRole::Ordinary);
    account.groups = (0..100).map(|n| format!("group{}", n * 5)).collect();
    account.groups.sort_unstable();
    let alice = Caller { identity: Identity::User(Arc::new(account)), credential: Credential::Password };
    let policy = Policy { rules: Some(Arc::new(Rules::new(&control))), ..policy(AccessPolicy::Listed) };
    let names: Vec<RepositoryName> = (0..4000)
        .map(|n| {
            let text = match n % 5 {
                0 => format!("team{}/app-x", n % 1100),
                1 => format!("team{}/deep/er", n % 1100),
                2 => format!("org/unit{}/app", n % 2200),
                3 => format!("any/shared{}", n % 1100),
                _ => format!("nothing/fits/{n}"),
            };
            text.parse().unwrap()
        })
        .collect();
    let permissions = Permissions::default();
    let Identity::User(account) = &alice.identity else { unreachable!() };
    let read = |rules: &RepositoryRules| rules.pattern.parse::<RepositoryPattern>().unwrap();
    let patterns: Vec<RepositoryPattern> = control.repositories.iter().map(read).collect();
    for name in &names {
        let fitting = control.repositories.iter().zip(&patterns).filter(|(_, pattern)| pattern.matches(name));
        let rules = fitting
            .map(|(rules, _)| rules)
            .min_by(|a, b| b.pattern.len().cmp(&a.pattern.len()).then(a.pattern.cmp(&b.pattern)));
        let grants = |action: &str| {
            rules.is_some_and(|rules| {
                rules.policies.iter().any(|policy| {
                    policy.actions.iter().any(|word| word == action)
                        && policy.groups.iter().any(|group| account.groups.contains(group))
                })
            })
        };
        let expected = (grants("read"), grants("create"));
        let actions = policy.actions(&alice, name, &permissions);
        assert_eq!((actions.has(Action::Pull), actions.has(Action::Push)), expected, "{name}");
    }
    let begun = std::time::Instant::now();
    let mut granted = 0;
    for _ in 0..25 {
        for name in &names {
            granted += usize::from(policy.actions(&alice, std::hint::black_box(name), &permissions).has(Action::Pull));
        }
    }
    let each = begun.elapsed() / (25 * u32::try_from(names.len()).unwrap());
    println!("one decision under 1000 rules for a user with 100 groups: {each:?} ({granted} granted)");
}

#[test]
fn permissions_only_add_rights() {
    let named = |role| vec![("alice".to_owned(), role)];
    let mut permissions = vec![Permissions { public: true, ..Permissions::default() }];
    for role in [Role::Read, Role::Write, Role::Admin] {
        permissions.push(Permissions { users: named(role), ..Permissions::default() });
        permissions.push(Permissions { groups: named(role), ..Permissions::default() });
        permissions.push(Permissions { namespace: Some(role), ..Permissions::default() });
    }
    let roles = [AccountRole::Ordinary, AccountRole::ReadOnlySuperuser, AccountRole::Superuser];
    let credentials = || [Credential::Password, key(None), key(Some(&["alice/x:pull"])), key(Some(&["bob/**"]))];
    let callers = roles.into_iter().flat_map(|role| credentials().map(|c| user("alice", role, c)));
    for caller in std::iter::once(Caller::ANONYMOUS).chain(callers) {
        for grants in [AccessPolicy::Owners, AccessPolicy::SignedIn, AccessPolicy::Open] {
            let policy = policy(grants);
            for name in ["alice/x", "alice", "bob/x"] {
                for actions in [Actions::PULL, Actions::PUSH, Actions::DELETE, Actions::INSPECT] {
                    let access = repository(name, actions);
                    let alone = policy.decide(&caller, &access, &Permissions::default(), NOW);
                    for permissions in &permissions {
                        let with = policy.decide(&caller, &access, permissions, NOW);
                        assert!(alone.is_err() || with.is_ok(), "{caller:?} {name} {permissions:?} {grants:?}");
                    }
                    let name = name.parse().unwrap();
                    let sees = |permissions: &Permissions| policy.sees(&caller, &name, permissions);
                    let alone = sees(&Permissions::default());
                    assert!(permissions.iter().all(|permissions| !alone || sees(permissions)));
                }
            }
        }
    }
}

#[test]
fn a_user_has_ground_in_the_namespace_that_the_user_owns() {
    let policy = policy(AccessPolicy::Owners);
    let covers = |account: &Account, name: &str| {
        let name = name.parse().unwrap();
        policy.grounds(account).iter().any(|pattern| pattern.matches(&name))
    };
    let mut alice = Account::test("Alice", AccountRole::Ordinary);
    for (namespace, covered) in [(Some("alice__c1"), true), (Some("team"), false), (None, false)] {
        alice.namespace = namespace.map(str::to_owned);
        assert_eq!(covers(&alice, "alice__c1/app"), covered, "{namespace:?}");
        assert_eq!(covers(&alice, "team/app"), namespace == Some("team"));
    }
}

#[test]
fn a_caller_who_sees_all_sees_each() {
    let names: Vec<RepositoryName> = ["a", "alice/x", "bob/x/y"].iter().map(|name| name.parse().unwrap()).collect();
    let mut numbers = [0, 0];
    for grants in [AccessPolicy::Open, AccessPolicy::SignedIn, AccessPolicy::Owners] {
        let policy = policy(grants);
        for role in [AccountRole::Ordinary, AccountRole::ReadOnlySuperuser, AccountRole::Superuser] {
            for scopes in [None, Some(&["alice/**"][..])] {
                for credential in [Credential::Password, key(scopes), session(Duration::ZERO)] {
                    let caller = user("alice", role, credential);
                    let sees_each = names.iter().all(|name| policy.sees(&caller, name, &Permissions::default()));
                    assert_eq!(policy.sees_all(&caller), sees_each, "{grants:?} {caller:?}");
                    numbers[usize::from(sees_each)] += 1;
                }
            }
        }
        assert_eq!(policy.sees_all(&Caller::ANONYMOUS), grants == AccessPolicy::Open);
    }
    assert!(numbers.iter().all(|number| *number > 0));
}
