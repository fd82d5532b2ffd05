//! Tests of the translation.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::super::source::{Format, parse};
use super::*;

fn translate(yaml: &str, environment: &[(&str, &str)]) -> (Value, Findings) {
    let mut findings = Findings::new("config.yml");
    let tree = parse("config.yml", Format::Yaml, yaml).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    (Value::Object(translated(tree, environment, &mut findings)), findings)
}

/// The first lines of each finding.
fn texts(findings: &[super::super::Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn the_configuration_of_the_image_and_of_debian_is_followed() {
    let (tree, findings) = translate(
        "version: 0.1\nlog:\n  fields:\n    service: registry\nstorage:\n  cache:\n    blobdescriptor: inmemory\n  \
         filesystem:\n    rootdirectory: /var/lib/registry\n  delete:\n    enabled: true\nhttp:\n  addr: :5000\n  \
         headers:\n    X-Content-Type-Options: [nosniff]\nauth:\n  htpasswd:\n    realm: basic-realm\n    \
         path: /etc/users\nhealth:\n  storagedriver:\n    enabled: true\n    interval: 10s\n",
        &[],
    );
    assert_eq!(texts(&findings.problems), Vec::<String>::new());
    assert_eq!(tree["storage"]["rootDirectory"], "/var/lib/registry/coracle");
    assert_eq!((&tree["http"]["address"], &tree["http"]["port"]), (&json!(""), &json!(5000)));
    assert_eq!(tree["http"]["auth"]["htpasswd"]["path"], "/etc/users");
    let policy = &tree["http"]["accessControl"]["repositories"]["**"];
    assert_eq!(policy["defaultPolicy"], json!(["read", "create", "update", "delete"]));
    assert!(policy["anonymousPolicy"].is_null());
    let warned = texts(&findings.warnings).join("\n");
    assert!(warned.contains("log.fields") && warned.contains("health") && !warned.contains("headers"), "{warned}");
}

#[test]
fn a_certificate_of_lets_encrypt_is_followed() {
    let tls =
        "letsencrypt: {cachefile: /c, email: a@b.example, hosts: [r.example], directoryurl: 'https://a.example/d'}";
    let (tree, findings) = translate(&format!("version: 0.1\nhttp: {{tls: {{{tls}}}}}\n"), &[]);
    assert!(findings.problems.is_empty(), "{:?}", findings.problems);
    let acme = json!({ "domains": ["r.example"], "email": "a@b.example", "directory": "https://a.example/d" });
    assert_eq!(tree["http"]["tls"]["acme"], acme);
    assert!(texts(&findings.warnings).join("\n").contains("cachefile"));
    // The documentation of distribution has the block with empty texts.
    let (tree, findings) =
        translate("version: 0.1\nhttp: {tls: {letsencrypt: {cachefile: '', email: '', hosts: []}}}\n", &[]);
    assert!(findings.problems.is_empty() && tree["http"]["tls"].is_null(), "{tree} {:?}", findings.problems);
}

#[test]
fn rights_are_those_of_distribution() {
    for (more, anonymous) in [
        ("", json!(["read", "create", "update"])),
        (
            "storage: {filesystem: {rootdirectory: /d}, delete: {enabled: true}}",
            json!(["read", "create", "update", "delete"]),
        ),
        ("storage: {filesystem: {rootdirectory: /d}, maintenance: {readonly: {enabled: true}}}", json!(["read"])),
        ("proxy: {remoteurl: 'https://registry-1.docker.io'}", json!(["read"])),
    ] {
        let (tree, findings) = translate(&format!("version: 0.1\n{more}\n"), &[]);
        assert!(findings.problems.is_empty(), "{:?}", findings.problems);
        assert_eq!(tree["http"]["accessControl"]["repositories"]["**"]["anonymousPolicy"], anonymous, "{more}");
    }
}

#[test]
fn what_would_change_the_registry_is_refused() {
    for (yaml, key) in [
        ("storage: {s3: {bucket: b}}", "storage.s3"),
        ("storage: {filesystem: {}}", "storage.filesystem.rootdirectory"),
        ("notifications: {endpoints: [{name: a}]}", "notifications.endpoints"),
        ("http: {prefix: /registry/}", "http.prefix"),
        ("http: {addr: nonsense}", "http.addr"),
        ("http: {tls: {letsencrypt: {email: a}}}", "http.tls.letsencrypt.hosts"),
        ("http: {tls: {certificate: '', key: ''}}", "http.tls.certificate"),
        ("auth: {silly: {realm: a}}", "auth.silly"),
        ("auth: {htpasswd: {realm: a}}", "auth.htpasswd.path"),
        ("proxy: {remoteurl: 'https://a', username: u, password: secret}", "proxy.password"),
        ("middleware: {storage: [{name: cloudfront}]}", "middleware"),
        ("sotrage: {}", "sotrage"),
    ] {
        let (_, findings) = translate(&format!("version: 0.1\n{yaml}\n"), &[]);
        let problems = texts(&findings.problems).join("\n");
        assert!(problems.contains(key) && !problems.contains("secret"), "{yaml}: {problems}");
    }
    // Another configuration is not touched.
    let (tree, findings) = translate("http: {addr: ':5000'}", &[]);
    assert_eq!((tree, findings.problems.len()), (json!({ "http": { "addr": ":5000" } }), 0));
}

#[test]
fn variables_replace_keys() {
    let (tree, findings) = translate(
        "version: 0.1\nstorage: {filesystem: {rootdirectory: /old}}\nhttp: {addr: ':5000'}\n",
        &[
            ("REGISTRY_HTTP_ADDR", "127.0.0.1:7000"),
            ("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/new"),
            ("REGISTRY_AUTH", "htpasswd"),
            ("REGISTRY_AUTH_HTPASSWD_REALM", "Registry Realm"),
            ("REGISTRY_AUTH_HTPASSWD_PATH", "/auth/htpasswd"),
            ("REGISTRY_STORAGE_DELETE_ENABLED", "true"),
            ("REGISTRY_AUTH_FILE", "/run/auth.json"),
            ("REGISTRY_PORT_5000_TCP", "tcp://10.0.0.1"),
            ("OTHER", "a"),
        ],
    );
    assert_eq!(texts(&findings.problems), Vec::<String>::new());
    assert_eq!((&tree["http"]["address"], &tree["http"]["port"]), (&json!("127.0.0.1"), &json!(7000)));
    assert_eq!(tree["storage"]["rootDirectory"], "/new/coracle");
    assert_eq!(tree["http"]["realm"], "Registry Realm");
    assert_eq!(tree["http"]["auth"]["htpasswd"]["path"], "/auth/htpasswd");
    assert_eq!(texts(&findings.warnings).len(), 1, "{:?}", findings.warnings);
    let (_, findings) = translate("version: 0.1\n", &[("REGISTRY_STORAGE", "s3"), ("REGISTRY_STORAGE_S3_BUCKET", "b")]);
    assert!(texts(&findings.problems).join("\n").contains("storage.s3"), "{:?}", findings.problems);
}
