//! `http.auth.ldap`: how the directory is read, and the problems that are reported.

use std::time::Duration;

use serde_json::{Value, json};

use super::{lines, load};
use crate::config::source::Format;
use crate::config::{Ldap, Loaded, ldap_credentials};

/// A complete block with changes; null removes a key.
fn tree(changes: &Value) -> String {
    let mut ldap = json!({"address": "ldap.example", "baseDN": "ou=people,dc=example", "userAttribute": "uid"});
    for (key, value) in changes.as_object().into_iter().flatten() {
        ldap[key] = value.clone();
    }
    json!({"http": {"auth": {"ldap": ldap}}}).to_string()
}

fn loaded(changes: &Value) -> Loaded {
    load(Format::Json, &tree(changes)).unwrap_or_else(|error| panic!("{changes}: {error}"))
}

fn ldap(changes: &Value) -> Ldap {
    loaded(changes).config.http.auth.ldap.expect("a directory")
}

#[test]
fn a_directory_has_safe_defaults() {
    let plain = ldap(&json!({}));
    assert_eq!((plain.port_in_use(), plain.insecure, plain.start_tls, plain.skip_verify), (636, false, false, false));
    assert_eq!((plain.subtree_search, plain.user_filter, plain.user_group_attribute), (false, None, None));
    assert_eq!((plain.recheck, plain.outage_memory), (Some(Duration::from_hours(1)), Duration::from_hours(1)));
    let other = ldap(&json!({"insecure": true, "startTLS": true, "recheck": "0s", "outageMemory": "0s"}));
    assert_eq!((other.port_in_use(), other.recheck, other.outage_memory), (389, None, Duration::ZERO));
    assert_eq!(ldap(&json!({"port": "3389"})).port_in_use(), 3389);
}

#[test]
fn wrong_values_say_what_is_expected() {
    let cases = [
        (json!({"address": null}), "address: is missing: the table requires it"),
        (json!({"address": ""}), "address: is empty: it is required"),
        (json!({"baseDN": ""}), "baseDN: is empty: it is required"),
        (
            json!({"address": "ldaps://ldap.example"}),
            "address: expected a host such as \"ldap.example\", without a scheme and a port",
        ),
        (
            json!({"address": "ldap.example:636"}),
            "address: expected a host such as \"ldap.example\", without a scheme and a port",
        ),
        (json!({"baseDN": "people"}), "baseDN: expected a distinguished name such as \"ou=people,dc=example\""),
        (json!({"userAttribute": "uid)(x"}), "userAttribute: expected the name of an attribute, such as \"uid\""),
        (
            json!({"userGroupAttribute": "a b"}),
            "userGroupAttribute: expected the name of an attribute, such as \"uid\"",
        ),
        (
            json!({"userFilter": "(objectClass=person"}),
            "userFilter: expected a filter such as \"(objectClass=inetOrgPerson)\"",
        ),
        (
            json!({"credentialsFile": "/nowhere"}),
            "credentialsFile: cannot read \"/nowhere\": No such file or directory (os error 2)",
        ),
        (json!({"caCert": "/nowhere"}), "caCert: cannot read \"/nowhere\": No such file or directory (os error 2)"),
    ];
    for (changes, expected) in cases {
        let found = load(Format::Json, &tree(&changes)).map_or_else(|error| lines(error.problems()), |_| Vec::new());
        assert_eq!(found, [format!("f: http.auth.ldap.{expected}")], "{changes}");
    }
}

#[test]
fn settings_without_protection_are_warned_of() {
    let cases = [
        (json!({}), ""),
        (json!({"address": "::1"}), ""),
        (json!({"startTLS": true}), "startTLS: has no effect without insecure"),
        (json!({"insecure": true}), "insecure: sends passwords in clear text"),
        (json!({"insecure": true, "address": "localhost"}), ""),
        (json!({"insecure": true, "startTLS": true}), ""),
        (json!({"skipVerify": true}), "skipVerify: lets an attacker"),
        (json!({"insecure": true, "address": "127.0.0.1", "skipVerify": true}), "insecure: has no TLS"),
    ];
    for (changes, expected) in cases {
        let found = lines(&loaded(&changes).warnings);
        match expected {
            "" => assert_eq!(found, [""; 0], "{changes}"),
            _ => assert!(found.len() == 1 && found[0].contains(expected), "{changes}: {found:?}"),
        }
    }
}

#[test]
fn no_message_has_the_password_of_the_credentials_file() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let read = |content: &str| {
        std::fs::write(file.path(), content).expect("written");
        ldap_credentials(file.path())
    };
    let (name, password) = read(r#"{"bindDN": "cn=x", "bindPassword": "hunter2"}"#).expect("credentials");
    assert_eq!((name.as_str(), password.reveal()), ("cn=x", "hunter2"));
    for wrong in [
        r#"{"bindDN": "cn=x", "bindPassword": "hunter2""#,
        r#"{"bindDN": "cn=x", "bindPassword": ["hunter2"]}"#,
        r#"{"bindPassword": "hunter2"}"#,
        r#"{"bindDN": "", "bindPassword": "hunter2"}"#,
        r#"{"bindDN": "cn=x", "bindPassword": ""}"#,
        "hunter2",
    ] {
        let why = read(wrong).expect_err("a problem");
        assert!(!why.contains("hunter2"), "{why}");
    }
}
