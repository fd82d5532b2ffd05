//! Commands on users, groups, keys, tags and the configuration of a real registry.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::content::{bytes, push_image, sha256};
use crate::support::process::{ADMIN, Finished, Program};
use crate::tls::certify;

fn coracle(root: &Path, arguments: &[&str]) -> Finished {
    Program::new(arguments).arg("--root").arg(root).run()
}

/// The standard output of a command that must succeed.
#[track_caller]
fn done(root: &Path, arguments: &[&str]) -> String {
    let finished = coracle(root, arguments);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    finished.stdout
}

/// The standard error of a command that must fail.
#[track_caller]
fn refused(root: &Path, arguments: &[&str]) -> String {
    let finished = coracle(root, arguments);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    finished.stderr
}

#[tokio::test]
async fn a_group_gets_members_and_a_role_from_the_command_line() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let running = Program::serve(root).with_admin().start();
    let password = done(root, &["user", "add", "carol"]);
    let carol = || running.user(("carol", password.trim()));
    let push = || async { carol().post("/v2/dev/app/blobs/uploads/").send().await.status.as_u16() };
    assert_eq!(push().await, 403);
    assert_eq!(done(root, &["group", "role", "dev", "write"]), "group dev, role write, members: -\n");
    assert_eq!(push().await, 403);
    assert_eq!(done(root, &["group", "add-member", "dev", "carol"]), "group dev, role write, members: carol\n");
    assert_eq!(push().await, 202);
    assert_eq!(done(root, &["group", "list"]), "NAME  ROLE   MEMBERS\ndev   write  carol\n");
    done(root, &["group", "role", "dev", "member"]);
    assert_eq!(push().await, 403);
    assert!(refused(root, &["group", "add-member", "dev", "carol", "dora"]).contains("dora"));
    done(root, &["group", "remove-member", "dev", "carol"]);
    let groups: Value = serde_json::from_str(&done(root, &["group", "list", "--json"])).unwrap();
    assert_eq!(groups["groups"][0]["members"], serde_json::json!([]), "{groups}");
    // A group that exists only through its members can be removed too.
    done(root, &["user", "groups", "carol", "ops"]);
    done(root, &["group", "remove", "ops"]);
    done(root, &["group", "remove", "dev"]);
    assert_eq!(done(root, &["group", "list"]), "NAME  ROLE  MEMBERS\n");
    assert!(refused(root, &["group", "remove", "dev"]).contains("dev"));
    for name in [" ", "dev ", ""] {
        assert!(refused(root, &["user", "groups", "carol", name]).contains("a group name must have"), "{name:?}");
        assert!(refused(root, &["group", "role", name, "read"]).contains("a group name must have"), "{name:?}");
    }
}

#[tokio::test]
async fn the_last_superuser_stays_unless_forced() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    for command in [&["user", "remove", "admin"], &["user", "disable", "admin"]] {
        let why = refused(root.path(), command);
        assert!(why.contains("admin is the only superuser") && why.contains("--force"), "{why}");
    }
    done(root.path(), &["user", "add", "chief", "--superuser"]);
    push_image(&running.user(ADMIN), "admin/app", "1", 1).await;
    done(root.path(), &["user", "disable", "admin"]);
    // A disabled superuser does not count.
    refused(root.path(), &["user", "remove", "chief"]);
    let removed = coracle(root.path(), &["user", "remove", "admin"]);
    assert_eq!((removed.code, removed.stdout.as_str()), (Some(0), "removed admin\n"), "{removed:?}");
    assert!(removed.stderr.contains("`coracle user namespace USER admin`"), "{removed:?}");
    done(root.path(), &["user", "disable", "chief", "--force"]);
    done(root.path(), &["user", "enable", "chief"]);
    running.stop();
    // The hint names no user that does not exist, and the unused password is mentioned.
    let running = Program::serve(root.path()).with_admin().start();
    running.wait_for("ignored CORACLE_ADMIN_PASSWORD: this registry already has users");
    assert!(running.stderr().contains("--username NAME "), "{}", running.stderr());
}

#[tokio::test]
async fn lists_have_a_header_and_every_column() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let running = Program::serve(root).with_admin().start();
    let key = done(root, &["apikey", "create", "--user", "admin", "--label", "ci", "--expires", "1h"]);
    running.user(("admin", key.trim())).get("/v2/").send().await.status(200);
    done(root, &["apikey", "create", "--user", "admin", "--scope", "a/**:pull"]);
    let listed = done(root, &["apikey", "list"]);
    let lines: Vec<&str> = listed.lines().collect();
    let columns: Vec<&str> = lines[0].split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
    assert_eq!(columns, ["ID", "OWNER", "LABEL", "SCOPES", "CREATED", "EXPIRES", "LAST USED"]);
    let find = |what: &str| lines.iter().find(|line| line.contains(what)).unwrap();
    assert_eq!(find(" ci ").matches(" UTC").count(), 3, "created, expires and last use: {listed}");
    assert!(find("a/**:pull").matches("never").count() == 2, "{listed}");
    let users = done(root, &["user", "list"]);
    assert!(users.starts_with("NAME   OWNS     GROUPS  NOTES\nadmin  admin/…  -       superuser\n"), "{users}");
    let finished = Program::new(["apikey", "revoke", "ci"]).run();
    assert!(finished.stderr.contains("\"ci\" is not an API key ID: see `coracle apikey list`"), "{finished:?}");
    // A warning names the scopes that grant nothing.
    done(root, &["user", "add", "carol"]);
    let scopes = ["--scope", "carol/**", "--scope", "team/app:pull"];
    let warned = coracle(root, &[&["apikey", "create", "--user", "carol"][..], &scopes].concat());
    assert!(warned.stderr.contains("the scopes team/app:pull of this API key grant carol nothing"), "{warned:?}");
}

#[tokio::test]
async fn a_tag_can_be_pointed_at_a_manifest_that_exists() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let running = Program::serve(root).with_admin().start();
    let digest = sha256(&bytes(&push_image(&running.user(ADMIN), "admin/app", "1", 1).await));
    let restored = done(root, &["tag", "restore", "admin/app:new", "--digest", &digest]);
    assert_eq!(restored, format!("admin/app:new points at {digest}\n"));
    running.user(ADMIN).get("/v2/admin/app/manifests/new").send().await.status(200);
    let other = format!("sha256:{}", "0".repeat(64));
    assert!(refused(root, &["tag", "restore", "admin/app:x", "--digest", &other]).contains("no earlier version"));
    let none = refused(root, &["tag", "restore", "admin/app:1"]);
    assert!(none.contains("no earlier version of the tag 1 is kept (storage.tagHistory)"), "{none}");
    assert!(refused(root, &["tag", "restore", "admin/nosuch:1"]).contains("there is no repository admin/nosuch"));
}

#[tokio::test]
async fn a_missing_database_next_to_a_journal_is_recovered_not_replaced() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("manifests.log"), b"").unwrap();
    let why = refused(root.path(), &["user", "list"]);
    assert!(why.contains("is missing: restore a backup, or run `coracle recover --root"), "{why}");
}

#[tokio::test]
async fn a_new_registry_among_other_files_is_mentioned() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("notes.txt"), b"").unwrap();
    let stderr = Program::serve(root.path()).start().stop().stderr;
    assert!(stderr.contains("contains 1 other entry, such as \"notes.txt\""), "{stderr}");
    let stderr = Program::serve(root.path()).start().stop().stderr;
    assert!(!stderr.contains("other entr"), "only before the first start: {stderr}");
}

#[tokio::test]
async fn a_reload_names_the_keys_that_need_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("coracle.toml");
    let running = Program::serve_with(root.path(), "[http]\nrealm = 'a'\n").with_admin().start();
    std::fs::write(&file, "[http]\nrealm = 'b'\n[log]\nlevel = 'debug'\n").unwrap();
    running.signal(Signal::HUP);
    running.wait_for("changed keys take effect after a restart");
    let stderr = running.stderr();
    let line = stderr.lines().find(|line| line.contains("after a restart")).unwrap();
    assert!(line.contains("keys=\"http.realm, log.level\""), "{line}");
}

#[test]
fn check_config_finds_all_problems_and_what_serve_refuses() {
    let files = tempfile::tempdir().unwrap();
    let at = |name: &str| files.path().join(name).display().to_string();
    let check = |config: &str| {
        std::fs::write(files.path().join("coracle.toml"), config).unwrap();
        Program::new(["check-config", "--config"]).arg(files.path().join("coracle.toml")).run()
    };
    let tls = |cert: &str, key: &str| format!("[http]\ntls.cert = '{}'\ntls.key = '{}'\n", at(cert), at(key));
    certify(files.path());
    std::fs::rename(files.path().join("key.pem"), files.path().join("other.pem")).unwrap();
    certify(files.path());
    assert_eq!(check(&tls("cert.pem", "key.pem")).code, Some(0));
    for (cert, key, why) in [
        ("cert.pem", "other.pem", "is not the key of the certificate in http.tls.cert"),
        ("key.pem", "cert.pem", "contains no certificate"),
        ("cert.pem", "cert.pem", "contains no private key"),
    ] {
        let config = tls(cert, key);
        let checked = check(&config);
        assert!(checked.code == Some(2) && checked.stderr.contains(why), "{checked:?}");
        let served = Program::serve_with(&files.path().join("data"), &config).run();
        assert!(served.code == Some(1) && served.stderr.contains(why), "{served:?}");
    }
    let many = "[http]\nport = 'x'\nauth.htpasswd.path = '/nowhere/users'\n[http.accessControl.repositories]\n\
                'a/{b' = { defaultPolicy = ['raed'] }\n";
    let checked = check(many);
    assert_eq!(checked.code, Some(2), "{checked:?}");
    for problem in ["http.port", "http.auth.htpasswd.path", "unclosed brace", "defaultPolicy"] {
        assert!(checked.stderr.contains(problem), "{problem}: {}", checked.stderr);
    }
    assert!(checked.stderr.lines().all(|line| line.contains("coracle.toml: ")), "{}", checked.stderr);
}

#[test]
fn check_config_refuses_what_a_start_refuses() {
    let files = tempfile::tempdir().unwrap();
    certify(files.path());
    let at = |name: &str| files.path().join(name).display().to_string();
    for (name, content) in [("empty", ""), ("not-base64", "whsec_?"), ("none.pem", "no certificate")] {
        std::fs::write(files.path().join(name), content).unwrap();
    }
    let sinks = |more: &[&str]| {
        let sink = |more: &&str| format!("[[extensions.events.sinks]]\naddress = 'https://hooks.example'\n{more}\n");
        format!("[extensions.events]\nenable = true\n{}", more.iter().map(sink).collect::<String>())
    };
    let secret = |name: &str| sinks(&[&format!("secretFile = '{}'", at(name))]);
    let tls = format!(
        "[http]\nlisten = ['127.0.0.1:0']\ntls = {{ cert = '{}', key = '{}', cacert = '{}' }}\n",
        at("cert.pem"),
        at("key.pem"),
        at("none.pem")
    );
    let issuer = format!(
        "[[http.auth.bearer.oidc]]\nissuer = 'https://i.example'\naudiences = ['here']\nkeysFile = '{}'\n\
         rules = [{{ claims = {{ sub = 'a' }} }}]\n",
        at("empty")
    );
    for (config, why) in [
        (secret("empty"), "it has no secret"),
        (secret("not-base64"), "whsec_ must be followed by base64"),
        (sinks(&["credentials.token = \"a\\nb\""]), "the credentials fit no header"),
        (sinks(&["", ""]), "two sinks have the same address: give them names"),
        (issuer, "keysFile: "),
        (tls, "none.pem contains no certificate"),
        ("[http]\nlisten = ['127.0.0.1:5999', ':5999']\n".to_owned(), "is the same place as"),
    ] {
        let file = files.path().join("coracle.toml");
        std::fs::write(&file, &config).unwrap();
        let checked = Program::new(["check-config"]).arg(&file).run();
        assert!(checked.code == Some(2) && checked.stderr.contains(why), "{config}\n{checked:?}");
        assert_eq!(checked.stderr.lines().count(), 1, "{checked:?}");
        let served = Program::serve_with(&files.path().join("data"), &config).with_admin().run();
        assert!(served.code != Some(0) && served.stderr.contains(why), "{config}\n{served:?}");
    }
}
