//! Users of an LDAP directory (`http.auth.ldap`), with Debian's slapd.

mod slapd;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use coracle::Registry;
use coracle::config::Config;
use serde_json::json;

use self::slapd::{BIND_PASSWORD, Slapd, person, secret_of};
use crate::accounts::browser::Browser;
use crate::clients::home::needs;
use crate::support::TestRegistry;
use crate::support::process::Program;
use crate::support::registry::ALICE;

/// How long a change may take to have its effect.
const PATIENCE: Duration = Duration::from_mins(1);

/// A registry with alice as a user of its own.
async fn registry(config: &str) -> TestRegistry {
    let config = Config::from_toml_str(config).unwrap().config;
    TestRegistry::start(Registry::builder().config(config).user(ALICE.0, ALICE.1)).await
}

/// The status that a user gets for a request that needs no more than a sign-in.
async fn status(t: &TestRegistry, name: &str, password: &str) -> u16 {
    t.user((name, password)).get("/v2/").send().await.status.as_u16()
}

/// The status that a user gets for a push.
async fn push(t: &TestRegistry, name: &str, repository: &str) -> u16 {
    let upload = t.user((name, &secret_of(name))).post(&format!("/v2/{repository}/blobs/uploads/"));
    upload.send().await.status.as_u16()
}

/// Asks again until there is this status.
async fn until(t: &TestRegistry, name: &str, wanted: u16) {
    let begun = Instant::now();
    loop {
        let found = status(t, name, &secret_of(name)).await;
        if found == wanted {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{name} gets {found}, not {wanted}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_user_of_the_directory_signs_in_and_owns_a_namespace() {
    needs!(SLAPADD, LDAPMODIFY);
    let twins = person("twin", "people", "") + &person("twin", "others", "");
    let slapd = Slapd::start(&format!("{}{twins}", person("alice", "people", "")));
    let t = registry(&slapd.plain("")).await;
    assert_eq!(status(&t, "ann", &secret_of("ann")).await, 200);
    assert_eq!(push(&t, "ann", "ann/app").await, 202);
    assert_eq!(push(&t, "ann", "bob/app").await, 403);
    let token = t.user(("ann", &secret_of("ann"))).get("/v2/auth?scope=repository:ann/app:push").send().await;
    assert!(token.status(200).json()["token"].is_string());
    // The directory ignores case, and the name is the one that it has.
    assert_eq!(status(&t, "ANN", &secret_of("ann")).await, 200);
    let browser = &mut Browser::signed_in(&t, ("Ann", &secret_of("ann"))).await;
    let user = browser.get("/api/v1/user/").await.status(200).json();
    assert_eq!((&user["username"], &user["provider"]), (&json!("ann"), &json!("ldap")));
    assert_eq!(user["groups"], json!(["cn=dev,ou=groups,dc=example", "dev"]));

    for (name, password) in [("ann", "wrong"), ("ann", ""), ("unknown", "secret of unknown"), ("", "secret of ann")] {
        assert_eq!(status(&t, name, password).await, 401, "{name:?} {password:?}");
    }
    let elsewhere = |name: &str| t.user((name, &secret_of(name))).at([127, 0, 0, 9]).get("/v2/");
    elsewhere("twin").send().await.status(401);
    // The registry's own alice is another person than the directory's.
    assert_eq!(status(&t, ALICE.0, ALICE.1).await, 200);
    elsewhere("alice").send().await.status(401);
}

#[tokio::test]
async fn a_filter_and_the_place_of_an_entry_exclude_users() {
    needs!(SLAPADD, LDAPMODIFY);
    let slapd = Slapd::start(&person("eve", "others", "title: guest\n"));
    let t = registry(&slapd.plain("userFilter = '(!(title=guest))'")).await;
    assert_eq!((status(&t, "ann", &secret_of("ann")).await, status(&t, "eve", &secret_of("eve")).await), (200, 401));
    let flat = slapd.plain("").replace("'dc=example'", "'ou=others,dc=example'").replace("subtreeSearch = true\n", "");
    let t = registry(&flat).await;
    assert_eq!((status(&t, "ann", &secret_of("ann")).await, status(&t, "eve", &secret_of("eve")).await), (401, 200));
}

#[tokio::test]
async fn a_name_is_never_part_of_the_filter() {
    needs!(SLAPADD, LDAPMODIFY);
    let slapd = Slapd::start("");
    let t = registry(&slapd.plain("")).await;
    let names = [
        "*",
        "a*",
        "a*n",
        "ann)(uid=*",
        "ann)(objectClass=*)",
        "*)(uid=*))(|(uid=*",
        "ann))(|(uid=bob",
        "*)(|(uid=ann)",
        "ann)(&)",
        "ann)(|",
        "!(uid=bob)",
        r"\61nn",
        r"ann\00",
        r"\",
        r"ann\",
        "ann\0",
        "ann,ou=people,dc=example",
        "uid=ann,ou=people,dc=example",
        " ann",
        "ann ",
        "an",
        "annn",
        "(uid=ann)",
        "~=ann",
    ];
    for (number, name) in (1..).zip(names) {
        let caller = t.user((name, &secret_of("ann"))).at([127, 0, 1, number]);
        let status = caller.get("/v2/").send().await.status.as_u16();
        assert!([400, 401].contains(&status), "{name:?}: {status}");
    }
    assert_eq!(status(&t, "ann", &secret_of("ann")).await, 200);
}

#[tokio::test]
async fn groups_of_the_directory_have_the_rights_of_rules() {
    needs!(SLAPADD, LDAPMODIFY);
    let slapd = Slapd::start("");
    let rule = |pattern, group| {
        format!(
            "[[http.accessControl.repositories.\"{pattern}/**\".policies]]\ngroups = ['{group}']\n\
             actions = ['read', 'create']\n"
        )
    };
    let rules = rule("short", "dev") + &rule("long", "cn=dev,ou=groups,dc=example") + &rule("ops", "ops");
    let t = registry(&format!("{}{rules}", slapd.plain("recheck = '1s'"))).await;
    for (name, repository, expected) in [
        ("ann", "short/app", 202),
        ("ann", "long/app", 202),
        ("ann", "ops/app", 403),
        ("bob", "short/app", 403),
        ("bob", "bob/app", 202),
    ] {
        assert_eq!(push(&t, name, repository).await, expected, "{name} {repository}");
    }
    // A changed membership counts after the next check of a user who has a session.
    let browser = &mut Browser::signed_in(&t, ("ann", &secret_of("ann"))).await;
    let ops = "dn: cn=ops,dc=example\nchangetype: ";
    slapd.modify(&format!("{ops}add\nobjectClass: groupOfNames\ncn: ops\nmember: uid=ann,ou=people,dc=example\n"));
    let mut wait_for = async |is_in: bool| {
        let begun = Instant::now();
        loop {
            let groups = browser.get("/api/v1/user/").await.status(200).json()["groups"].clone();
            if groups.as_array().unwrap().contains(&json!("ops")) == is_in {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "the groups stay: {groups}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    wait_for(true).await;
    assert_eq!(push(&t, "ann", "ops/app").await, 202);
    slapd.modify(&format!("{ops}delete\n"));
    wait_for(false).await;
    assert_eq!((push(&t, "ann", "short/app").await, push(&t, "ann", "ops/app").await), (202, 403));
}

#[tokio::test]
async fn a_user_in_500_groups_signs_in() {
    needs!(SLAPADD, LDAPMODIFY);
    let groups = (0..500).fold(String::new(), |mut all, number| {
        writeln!(all, "memberOf: cn=group-{number},ou=groups,dc=example").unwrap();
        all
    });
    let slapd = Slapd::start(&person("many", "people", &groups));
    let t = registry(&slapd.protected(true, &format!("caCert = '{}'", slapd.authority().display()))).await;
    for what in ["the first sign-in", "the next one"] {
        let begun = Instant::now();
        // Another address each time, so that the password is not cached.
        let caller = t.user(("many", &secret_of("many"))).at([127, 0, 2, u8::try_from(what.len()).unwrap()]);
        caller.get("/v2/").send().await.status(200);
        println!("{what} of a user in 500 groups over StartTLS: {:?}", begun.elapsed());
    }
    let browser = &mut Browser::signed_in(&t, ("many", &secret_of("many"))).await;
    let groups = browser.get("/api/v1/user/").await.status(200).json()["groups"].clone();
    assert_eq!(groups.as_array().unwrap().len(), 1000);
}

#[tokio::test]
async fn tls_is_verified_with_the_given_authority() {
    needs!(SLAPADD, LDAPMODIFY);
    let (slapd, other) = (Slapd::start(""), Slapd::start(""));
    let ca = |slapd: &Slapd| format!("caCert = '{}'", slapd.authority().display());
    let without_name = slapd.protected(false, &ca(&slapd)).replace("'localhost'", "'127.0.0.1'");
    for (config, expected) in [
        (slapd.protected(true, &ca(&slapd)), 200),
        (slapd.protected(false, &ca(&slapd)), 200),
        (slapd.protected(true, &ca(&other)), 503),
        (slapd.protected(false, &ca(&other)), 503),
        (slapd.protected(true, "skipVerify = true"), 200),
        (without_name, 503),
    ] {
        let t = registry(&config).await;
        assert_eq!(status(&t, "ann", &secret_of("ann")).await, expected, "{config}");
    }
}

#[tokio::test]
async fn while_the_directory_is_away_no_password_is_called_wrong() {
    needs!(SLAPADD, LDAPMODIFY);
    let mut slapd = Slapd::start("");
    let root = tempfile::tempdir().unwrap();
    let config = format!("[log]\nlevel = 'trace'\n{}", slapd.plain(""));
    let running = Program::serve_with(root.path(), &config).with_admin().start();
    let status =
        async |name: &str, password: &str| running.user((name, password)).get("/v2/").send().await.status.as_u16();
    assert_eq!(status("ann", &secret_of("ann")).await, 200);
    assert_eq!(status("ann", "guessed-by-mallory").await, 401);
    slapd.end();
    assert_eq!(status("ann", &secret_of("ann")).await, 200, "remembered");
    let refused = running.user(("bob", &secret_of("bob"))).get("/v2/").send().await.status(503);
    assert!(refused.header("retry-after").is_some(), "{}", refused.text());
    assert_eq!(status("ann", "another").await, 503);
    assert_eq!(status("unknown", "another").await, 503);
    slapd.begin();
    let begun = Instant::now();
    while status("bob", &secret_of("bob")).await != 200 {
        assert!(begun.elapsed() < PATIENCE, "the directory is not asked again");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let log = running.stop().stderr;
    assert!(log.contains("cannot ask the directory"), "{log}");
    for secret in ["secret of", BIND_PASSWORD, "guessed-by-mallory"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn a_locked_user_loses_sessions_and_keys_until_the_lock_ends() {
    needs!(SLAPADD, LDAPMODIFY);
    let slapd = Slapd::start("");
    let t = registry(&slapd.plain("recheck = '1s'")).await;
    let browser = &mut Browser::signed_in(&t, ("bob", &secret_of("bob"))).await;
    let body = json!({ "label": "ci" }).to_string();
    let made = t.user(("bob", &secret_of("bob"))).post("/v2/_zot/ext/apikey").body(body).send().await;
    let key = made.status(201).json()["apiKey"].as_str().unwrap().to_owned();
    slapd.modify(
        "dn: uid=bob,ou=people,dc=example\nchangetype: modify\nadd: pwdAccountLockedTime\n\
         pwdAccountLockedTime: 000001010000Z\n",
    );
    let begun = Instant::now();
    while browser.get("/api/v1/user/").await.status.as_u16() == 200 {
        assert!(begun.elapsed() < PATIENCE, "the session stays");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(status(&t, "bob", &key).await, 401);
    assert_eq!(status(&t, "bob", &secret_of("bob")).await, 401, "the password is cached");
    slapd.modify("dn: uid=bob,ou=people,dc=example\nchangetype: modify\ndelete: pwdAccountLockedTime\n");
    until(&t, "bob", 200).await;
    assert_eq!(status(&t, "bob", &key).await, 200);
    // A removed user is locked out in the same way.
    let browser = &mut Browser::signed_in(&t, ("bob", &secret_of("bob"))).await;
    slapd.modify("dn: uid=bob,ou=people,dc=example\nchangetype: delete\n");
    until(&t, "bob", 401).await;
    browser.get("/api/v1/user/").await.status(401);
}
