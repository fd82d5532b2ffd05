//! Configurations written for zot: each key is known, and some are refused or ignored.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{lines, load};
use crate::config::keys::{self, Status, key_document};
use crate::config::kind::Kind;
use crate::config::source::Format;

/// Every key that zot v2.1.20 has, with a value of the type it has there.
pub(super) const EVERYTHING: &str = r#"{
  "distSpecVersion": "1.1.1",
  "storage": {
    "rootDirectory": "/tmp/zot", "dedupe": true, "gc": true, "gcDelay": "1h", "gcInterval": "1h",
    "gcTimeWindow": "01:00-05:00", "commit": false, "maxRepos": 7, "fastRestart": false,
    "redirectBlobURL": true, "remoteCache": true,
    "retention": {"dryRun": false, "delay": "1h", "policies": [{
      "repositories": ["**"], "deleteReferrers": false, "deleteUntagged": true,
      "keepTags": [{"patterns": ["v2.*"], "pulledWithin": "168h", "pushedWithin": "168h",
                    "mostRecentlyPushedCount": 10, "mostRecentlyPulledCount": 10}],
      "keepUntagged": {"pulledWithin": "168h", "pushedWithin": "168h",
                       "mostRecentlyPushedCount": 0, "mostRecentlyPulledCount": 0}}]},
    "storageDriver": {"name": "s3", "rootdirectory": "/zot", "region": "us-east-2", "bucket": "b",
                      "regionendpoint": "localhost:4566", "secure": true, "skipverify": false},
    "cacheDriver": {"name": "redis", "url": "redis://localhost", "keyprefix": "zot"},
    "subPaths": {"/a": {
      "rootDirectory": "/data2", "dedupe": false, "gc": false, "gcDelay": "1h", "gcInterval": "1h",
      "gcTimeWindow": "", "commit": false, "maxRepos": 0, "fastRestart": false,
      "redirectBlobURL": false, "remoteCache": false, "retention": {"delay": "1h"},
      "storageDriver": {"name": "s3"}, "cacheDriver": {"name": "redis"}}}
  },
  "http": {
    "address": "127.0.0.1", "port": "8080", "externalUrl": "", "allowOrigin": "http://a.example",
    "realm": "zot", "readTimeout": "60s", "writeTimeout": "60s",
    "tls": {"cert": null, "key": null, "cacert": ""}, "compat": ["docker2s2"],
    "ratelimit": {"rate": 10, "methods": [{"method": "GET", "rate": 10}]},
    "auth": {
      "failDelay": 5, "htpasswd": {"path": "/htpasswd"},
      "ldap": {"credentialsFile": "", "address": "ldap.example", "port": 389, "insecure": false,
               "startTLS": false, "skipVerify": false, "subtreeSearch": true, "baseDN": "dc=x",
               "userAttribute": "uid", "userFilter": "", "userGroupAttribute": "memberOf",
               "caCert": ""},
      "bearer": {"realm": "https://auth.example/auth", "service": "myauth", "cert": "",
        "awsSecretsManager": {"region": "r", "secretName": "s", "refreshInterval": "1m"},
        "oidc": [{"issuer": "https://i.example", "audiences": ["zot"],
          "claimMapping": {"variables": [{"name": "n", "expression": "e"}],
                           "validations": [{"expression": "e", "message": "m"}],
                           "username": "claims.sub", "groups": ""},
          "certificateAuthority": "", "certificateAuthorityFile": "",
          "skipIssuerVerification": false}],
        "upstreamTokenEndpoint": {"realm": "https://t.example", "service": "s",
                                  "allowInsecureHttp": false}},
      "openid": {"providers": {"oidc": {"name": "n", "credentialsFile": "", "clientid": "i",
          "clientsecret": "s", "keypath": "", "issuer": "https://i.example", "authurl": "",
          "tokenurl": "", "scopes": ["openid"],
          "claimMapping": {"username": "email", "groups": "groups"}}},
        "callbackAllowOrigins": ["https://ui.example"]},
      "apikey": true, "sessionKeysFile": "/s.json",
      "sessionDriver": {"name": "redis", "url": "redis://localhost", "keyprefix": "zotsession"},
      "secureSession": true,
      "mtls": {"identityAttributes": ["CommonName"], "uriSanPattern": "", "uriSanIndex": 0,
               "dnsSanIndex": 0, "emailSanIndex": 0}
    },
    "accessControl": {
      "repositories": {"infra/**": {
        "policies": [{"users": ["alice"], "groups": ["dev"], "actions": ["read", "create"],
                      "conditions": [{"expression": "true", "message": "m"}]}],
        "defaultPolicy": ["read"], "anonymousPolicy": ["read"]}},
      "adminPolicy": {"users": [], "groups": [], "actions": [],
                      "conditions": [{"expression": "true", "message": "m"}]},
      "groups": {"dev": {"users": ["bob", "carol"]}},
      "metrics": {"users": ["prom"], "anonymousPolicy": ["read"]}
    }
  },
  "log": {"level": "debug", "output": "", "audit": "/audit.log"},
  "scheduler": {"numWorkers": 4},
  "cluster": {"members": ["a:5000"], "hashKey": "0123456789abcdef",
              "tls": {"cert": "", "key": "", "cacert": ""}},
  "extensions": {
    "search": {"enable": true, "cve": {"updateInterval": "2h", "trivy": {
      "dbRepository": "ghcr.io/aquasecurity/trivy-db",
      "javaDBRepository": "ghcr.io/aquasecurity/trivy-java-db", "vulnSeveritySources": ["auto"],
      "sbom": {"enable": false, "format": "spdx-json"}}}},
    "sync": {"enable": true, "credentialsFile": "", "downloadDir": "", "registries": [{
      "urls": ["https://registry-1.docker.io"], "onDemand": false, "pollInterval": "0",
      "tlsVerify": true, "certDir": "",
      "platforms": [],
      "content": [{"prefix": "**", "destination": "/", "stripPrefix": false, "platforms": [],
                   "tags": {"regex": "", "excludeRegex": "", "semver": false}}],
      "maxRetries": null, "retryDelay": null, "maxRetryDelay": null, "onlySigned": false,
      "syncLegacyCosignTags": true, "preserveDigest": false, "syncTimeout": "3h",
      "manifestCheckInterval": "0", "credentialHelper": "",
      "oauth2CredentialHelper": {"tokenURL": "", "assertionFile": "", "signingFile": "",
        "grantType": "", "clientID": "", "clientSecretFile": "", "scopes": [], "username": "",
        "audience": "", "subjectTokenType": "", "requestedTokenType": ""},
      "reqConcurrent": 3, "reqPerSec": 0, "disableHTTP2": false, "maxIdleConnsPerHost": 2}]},
    "metrics": {"enable": true, "prometheus": {"path": "/metrics"}},
    "scrub": {"enable": true, "interval": "24h"},
    "lint": {"enable": true, "mandatoryAnnotations": ["a"]},
    "ui": {"enable": true}, "mgmt": {}, "apikey": {},
    "trust": {"enable": true, "cosign": false, "notation": false},
    "events": {"enable": true, "sinks": [{
      "type": "http", "address": "https://e.example", "channel": "c", "timeout": "30s", "proxy": "",
      "headers": {"X-A": "b"},
      "credentials": {"username": "u", "password": "p", "file": "", "token": ""},
      "tlsconfig": {"cacertfile": "", "certfile": "", "keyfile": ""}}]}
  }
}"#;

/// The keys of [`EVERYTHING`] that are refused, in addition to `storage.subPaths`.
const REFUSED: [&str; 11] = [
    "cluster",
    "extensions.search.cve",
    "extensions.trust",
    "http.accessControl.adminPolicy.conditions",
    "http.accessControl.repositories.\"infra/**\".policies[0].conditions",
    "http.auth.bearer.awsSecretsManager",
    "http.auth.bearer.oidc[0].claimMapping",
    "http.auth.bearer.upstreamTokenEndpoint",
    "storage.cacheDriver",
    "storage.remoteCache",
    "storage.storageDriver",
];

#[test]
fn every_key_of_zot_is_known_and_only_these_are_refused() {
    let error = load(Format::Json, EVERYTHING).expect_err("much of this is refused");
    let mut expected: Vec<&str> = REFUSED.into_iter().chain(["storage.subPaths"]).collect();
    expected.sort_unstable();
    let found = lines(error.problems());
    let keys: Vec<&str> = found.iter().filter_map(|line| line.split(": ").nth(1)).collect();
    assert_eq!(keys, expected, "{error}");
    for line in found {
        assert!(!line.contains("unknown key") && !line.contains("expected"), "{line}");
        assert!(line.contains("not supported"), "{line}");
    }
}

/// Shows that the test above sees every key: a misspelling anywhere is found.
#[test]
fn every_key_of_zot_is_checked() {
    let tree: Value = serde_json::from_str(EVERYTHING).expect("the constant is JSON");
    let mut places = Vec::new();
    collect(&tree, "", &mut places);
    assert!(places.len() > 220, "only {} keys were seen", places.len());
    for pointer in places {
        let mut changed = tree.clone();
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer has a slash");
        let table = changed.pointer_mut(parent).and_then(Value::as_object_mut).expect("it is a table");
        let value = table.remove(name).expect("the key is there");
        table.insert(format!("{name}-x"), value);
        let error = load(Format::Json, &changed.to_string()).expect_err("a key is misspelt");
        let unknown = format!("{name}-x: unknown key");
        let is_free = ["/storageDriver/", "/cacheDriver/", "/headers/", "/retention/delay"]
            .iter()
            .any(|part| pointer.contains(part) && (*part != "/retention/delay" || pointer.contains("subPaths")));
        assert_eq!(error.to_string().contains(&unknown), !is_free, "{pointer}");
    }
}

/// The key of the table for a pointer into [`EVERYTHING`].
fn key_of(pointer: &str) -> String {
    let mut key = String::new();
    for name in pointer.split('/').skip(1) {
        let is_each = matches!(keys::find(&key).map(|row| row.kind), Some(Kind::Map | Kind::List));
        let name = if is_each { keys::EACH } else { name };
        key = if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    }
    key
}

#[test]
fn the_page_of_keys_has_every_key_of_zot_with_an_alternative_if_it_is_refused() {
    let tree: Value = serde_json::from_str(EVERYTHING).expect("the constant is JSON");
    let mut places = Vec::new();
    collect(&tree, "", &mut places);
    let of_zot: BTreeSet<String> = places.iter().map(|pointer| key_of(pointer)).collect();
    let page = key_document();
    let listed = |key: &str| page.contains(&format!("\n| `{key}` | "));
    for key in &of_zot {
        let is_table = of_zot.iter().any(|other| keys::below(key, other).is_some());
        let mut enclosing = key.rmatch_indices('.').filter_map(|(at, _)| keys::find(&key[..at]));
        let is_free = enclosing.any(|row| matches!(row.kind, Kind::Free | Kind::TextMap));
        assert!(is_table || is_free || listed(key), "{key} is missing on the page");
    }
    for row in keys::all() {
        assert!(listed(row.key), "{} is missing on the page", row.key);
        let has_it = of_zot.iter().any(|key| key == row.key || keys::below(row.key, key).is_some());
        assert_eq!(row.is_of_zot(), has_it, "{} is in the wrong table, see OWN", row.key);
        if let Status::Refused(reason) = row.decided().1 {
            let alternatives = ["use ", "remove ", "list ", "set "];
            let (_, instead) = reason.rsplit_once([';', ':']).expect(reason);
            assert!(alternatives.iter().any(|word| instead.contains(word)), "{}: {reason}", row.key);
            assert!(!reason.contains("yet"), "{}: {reason}", row.key);
        }
    }
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/keys.md");
    let committed = std::fs::read_to_string(file).unwrap_or_default();
    let is_same = committed == page;
    assert!(is_same, "run: coracle check-config --keys --markdown >docs/keys.md");
}

/// JSON pointers of every key whose name the user does not choose.
fn collect(value: &Value, pointer: &str, places: &mut Vec<String>) {
    match value {
        Value::Object(table) => {
            let names_are_free =
                ["/repositories", "/groups", "/providers", "/subPaths"].iter().any(|end| pointer.ends_with(end));
            for (name, inner) in table {
                let below = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
                if !names_are_free {
                    places.push(below.clone());
                }
                collect(inner, &below, places);
            }
        }
        Value::Array(list) => {
            for (index, inner) in list.iter().enumerate() {
                collect(inner, &format!("{pointer}/{index}"), places);
            }
        }
        _ => {}
    }
}

#[test]
fn rules_of_retention_are_read_as_they_are_written() {
    let text = r#"{"storage": {"gc": false, "gcDelay": "2h", "gcTimeWindow": "22:00-06:00", "retention": {"delay": "3h",
        "policies": [{"repositories": ["a/**"], "deleteReferrers": true}, {"repositories": ["**"], "deleteUntagged": false}]}}}"#;
    let collection = load(Format::Json, text).expect("the configuration is right").config.storage.collection;
    assert!(!collection.enable);
    let hours = |hours: u64| std::time::Duration::from_secs(3600 * hours);
    assert_eq!((collection.delay, collection.untagged_delay), (hours(2), Some(hours(3))));
    let opens_in = |at| collection.time_window.map(|window| window.opens_in(hours(at)));
    assert_eq!((opens_in(23), opens_in(12)), (Some(hours(0)), Some(hours(10))));
    let policies = collection.policies.iter();
    let read: Vec<_> = policies.map(|p| (p.repositories.as_slice(), p.delete_referrers, p.delete_untagged)).collect();
    assert_eq!(read, [(&["a/**".to_owned()][..], true, true), (&["**".to_owned()][..], false, false)]);
    let default = load(Format::Json, "{}").expect("nothing is wrong").config.storage.collection;
    assert!(default.enable && default.untagged_delay.is_none() && default.policies.is_empty());
}

#[test]
fn usual_configurations_of_zot_load_with_warnings_at_most() {
    let cases: [(&str, &[&str]); 4] = [
        (
            r#"{"storage": {"rootDirectory": "/var/lib/registry"},
                "http": {"address": "0.0.0.0", "port": "8080"}, "log": {"level": "info"}}"#,
            &[],
        ),
        (
            r#"{"distSpecVersion": "1.1.1", "storage": {"rootDirectory": "/r", "dedupe": true, "gc": true,
                "gcDelay": "2h", "gcInterval": "1h"}, "http": {"readTimeout": "0", "compat": ["docker2s2"]},
                "scheduler": {"numWorkers": 3}, "extensions": {"mgmt": {"enable": true}}}"#,
            &[
                "f: distSpecVersion: has no effect: coracle always supports version 1.1 and the newest draft",
                "f: extensions.mgmt: has no effect: zot ignores it too",
                "f: http.compat: has no effect: Docker's media types are always accepted",
                "f: http.readTimeout: has no effect: a transfer may take any time while bytes keep \
                 coming, see http.limits.bodyIdleTimeout",
                "f: profile: is missing, although distSpecVersion is a key of zot: in coracle, users may push and pull \
                 only in the repositories under their own name, and in zot every signed-in user has all rights; add `profile = \"zot\"` for the rights of zot, or `profile = \"coracle\"` for those of \
                 coracle",
                "f: scheduler.numWorkers: has no effect: background work needs no worker pool",
                "f: storage.dedupe: has no effect: coracle always stores one copy of a blob",
            ],
        ),
        (
            r#"{"profile": "coracle", "storage": {"dedupe": false}}"#,
            &["f: storage.dedupe: has no effect: coracle always stores one copy of a blob"],
        ),
        (
            r#"{"profile": "coracle", "storage": {"gc": false, "maxRepos": 0, "remoteCache": false},
                "http": {"auth": {"apikey": false, "htpasswd": {"path": ""}, "failDelay": 0,
                                  "sessionDriver": {"name": "local"}},
                         "tls": {"cacert": ""}, "allowOrigin": "", "compat": []},
                "log": {"audit": ""}, "scheduler": {"numWorkers": 0},
                "extensions": {"scrub": {"enable": false, "interval": "24h"}, "UI": {"Enable": false},
                  "search": {"enable": false, "cve": {"updateInterval": "2h"}}, "lint": {},
                  "sync": {"enable": false, "registries": []}, "trust": {"enable": false},
                  "events": {"sinks": []}}}"#,
            &[],
        ),
    ];
    for (text, warnings) in cases {
        let loaded = load(Format::Json, text).expect("nothing here is refused");
        assert_eq!(lines(&loaded.warnings), warnings, "{text}");
    }
    let error =
        load(Format::Json, r#"{"extensions": {"trust": {}}}"#).expect_err("an empty block means that it is wanted");
    assert!(error.to_string().starts_with("f: extensions.trust: not supported"));
    let error = load(Format::Json, r#"{"extensions": {"ui": {}}}"#).expect_err("the page needs search");
    assert!(error.to_string().starts_with("f: extensions.ui: zot's web page needs search"), "{error}");
    for (blocks, search, ui) in [
        ("", false, false),
        (r#""search": {}"#, true, false),
        (r#""search": {}, "ui": {}"#, true, true),
        (r#""search": {"enable": false}, "ui": {"enable": false}"#, false, false),
    ] {
        let loaded = load(Format::Json, &format!(r#"{{"extensions": {{{blocks}}}}}"#)).expect("nothing is wrong");
        let extensions = loaded.config.extensions;
        assert_eq!((extensions.search.enable, extensions.ui.enable), (search, ui), "{blocks}");
    }
    for (block, enable) in [("", false), (r#""scrub": {}"#, true), (r#""scrub": {"enable": false}"#, false)] {
        let loaded = load(Format::Json, &format!(r#"{{"extensions": {{{block}}}}}"#)).expect("nothing is wrong");
        assert_eq!(loaded.config.extensions.scrub.enable, enable, "{block}");
    }
}

#[test]
fn a_warning_says_what_differs_from_zot_without_a_profile_and_which_line_to_add() {
    let warned = |file: &str, text: &str| {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join(file);
        std::fs::write(&path, text).expect("it is written");
        let loaded = crate::config::Config::load(&path).expect("nothing is wrong");
        lines(&loaded.warnings).into_iter().find(|line| line.contains(": profile: is missing"))
    };
    let rules = r#"{"http": {"accessControl": {"repositories": {"**": {"defaultPolicy": ["read"]}}}}}"#;
    let said = warned("zot.json", rules).expect("rules without a profile");
    assert!(
        said.contains("`\"profile\": \"zot\"`") && said.contains("only the rights that http.accessControl grants"),
        "{said}"
    );
    let said = warned("zot.yaml", "distSpecVersion: 1.1.1\n").expect("a key of zot's");
    assert!(said.contains("`profile: zot`") && said.contains("every signed-in user has all rights"), "{said}");
    assert!(warned("zot.toml", "distSpecVersion = '1.1.1'").is_some_and(|said| said.contains("`profile = \"zot\"`")));
    assert!(warned("zot.yml", "http: {auth: {htpasswd: {path: /etc/users}}}").is_some());
    // The profile is given, or the configuration was written for coracle.
    assert_eq!(warned("zot.json", &rules.replacen('{', r#"{"profile": "zot", "#, 1)), None);
    assert_eq!(warned("zot.json", &rules.replacen('{', r#"{"profile": "coracle", "#, 1)), None);
    assert_eq!(warned("own.toml", "[http.accessControl.repositories.'**']\ndefaultPolicy = ['read']"), None);
    assert_eq!(warned("own.json", r#"{"http": {"port": 5000}}"#), None);
}

#[test]
fn rules_of_access_are_read_as_they_are_written() {
    let text = r#"{"http": {"accessControl": {
      "repositories": {
        "team/**": {
          "policies": [{"users": ["alice", "Bob"], "actions": ["read", "create"]}, {"groups": ["dev"], "actions": ["update"]}],
          "defaultPolicy": ["read"]},
        "**": {"anonymousPolicy": ["read", "detectManifestCollision"]}},
      "adminPolicy": {"users": ["root"], "actions": ["delete"]},
      "groups": {"dev": {"users": ["carol"]}},
      "metrics": {"users": ["prom"], "anonymousPolicy": ["read"]}}}}"#;
    let control = load(Format::Json, text).expect("it is right").config.http.access_control.expect("it is given");
    let patterns: Vec<&str> = control.repositories.iter().map(|rules| rules.pattern.as_str()).collect();
    assert_eq!(patterns, ["**", "team/**"]);
    let team = &control.repositories[1];
    assert_eq!(
        (team.policies[0].users.join(" "), team.policies[0].actions.join(" ")),
        ("alice Bob".into(), "read create".into())
    );
    assert_eq!((team.policies[1].groups.join(" "), team.default.join(" ")), ("dev".into(), "read".into()));
    assert_eq!(control.repositories[0].anonymous.join(" "), "read detectManifestCollision");
    assert_eq!((control.admin.users.join(" "), control.groups["dev"].join(" ")), ("root".into(), "carol".into()));
    assert_eq!((control.metrics_users.join(" "), control.metrics_anonymous), ("prom".into(), true));

    // An empty block denies everything.
    let config = |text| load(Format::Json, text).expect("it is right").config;
    assert!(config(r#"{"http": {"accessControl": {}}}"#).http.access_control.is_some());
    assert!(config(r#"{"http": {}}"#).http.access_control.is_none());
}

#[test]
fn rules_of_access_that_are_wrong_or_useless_are_reported() {
    let text = r#"{"http": {"accessControl": {"repositories": {"a/{b": {}, "b": {"defaultPolicy": ["push"]}}}}}"#;
    let found = lines(load(Format::Json, text).expect_err("two things are wrong").problems()).join("\n");
    assert!(found.contains("defaultPolicy[0]: expected one of \"read\""), "{found}");
    let text = r#"{"http": {"accessControl": {"repositories": {"a/{b": {}}}}}"#;
    let found = lines(load(Format::Json, text).expect_err("a brace is open").problems()).join("\n");
    assert_eq!(found, "f: http.accessControl.repositories.\"a/{b\": the pattern has an unclosed brace");
    let text = r#"{"http": {"accessControl": {"repositories": {"team/*": {}, "team/**": {}}}}}"#;
    let warnings = lines(&load(Format::Json, text).expect("it is right").warnings).join("\n");
    assert!(warnings.contains("repositories.\"team/*\": is never used: \"team/**\" matches the same"), "{warnings}");
}
