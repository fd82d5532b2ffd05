//! Commands on users, groups, keys, tags and the configuration of a real registry.

use std::os::unix::fs::PermissionsExt as _;
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
    let made = coracle(root, &["group", "role", "dev", "write"]);
    assert_eq!(made.stdout, "group dev, role write, members: -\n");
    assert!(made.stderr.contains("The group dev did not exist and was created."), "{made:?}");
    let known = coracle(root, &["group", "role", "dev", "write"]);
    assert_eq!((known.code, known.stderr.as_str()), (Some(0), ""));
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
    let empty = coracle(root, &["group", "list"]);
    assert_eq!((empty.stdout.as_str(), empty.stderr.as_str()), ("NAME  ROLE  MEMBERS\n", "There are no groups.\n"));
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
    running.wait_for("--username NAME ");
}

#[tokio::test]
async fn lists_have_a_header_and_every_column() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let running = Program::serve(root).with_admin().start();
    let empty = coracle(root, &["apikey", "list"]);
    assert_eq!((empty.code, empty.stdout.lines().count()), (Some(0), 1), "only the header: {empty:?}");
    assert_eq!(empty.stderr, "There are no API keys.\n");
    let unknown = refused(root, &["apikey", "list", "--user", "ghost"]);
    assert_eq!(unknown, "coracle: there is no user ghost\n");
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
    let absent = refused(root, &["tag", "restore", "admin/app:x", "--digest", &other]);
    assert!(absent.contains(&format!("the repository admin/app has no manifest {other}")), "{absent}");
    let none = refused(root, &["tag", "restore", "admin/app:1"]);
    assert!(none.contains("no earlier version of the tag 1 is kept (storage.tagHistory)"), "{none}");
    assert!(refused(root, &["tag", "restore", "admin/nosuch:1"]).contains("there is no repository admin/nosuch"));
}

#[tokio::test]
async fn the_history_of_tags_is_a_table_that_marks_the_current_target() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let running = Program::serve(root).with_admin().start();
    let digest = |manifest: &Value| sha256(&bytes(manifest));
    let old = digest(&push_image(&running.user(ADMIN), "admin/app", "1", 1).await);
    let new = digest(&push_image(&running.user(ADMIN), "admin/app", "1", 2).await);
    let gone = digest(&push_image(&running.user(ADMIN), "admin/app", "2", 3).await);
    running.user(ADMIN).delete(&format!("/v2/admin/app/manifests/{gone}")).send().await.status(202);
    let shown = done(root, &["tag", "history", "admin/app"]);
    let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["TAG", "DIGEST", "FROM", "UNTIL"], "{shown}");
    let row = |digest: &str| rows.iter().find(|row| row.get(1) == Some(&digest)).unwrap();
    assert_eq!((row(&new).len(), row(&new).last()), (6, Some(&"current")), "{shown}");
    assert_eq!((row(&old).len(), row(&old).last()), (8, Some(&"UTC")), "{shown}");
    let deleted = shown.split_once("\n\n").unwrap().1;
    assert!(deleted.starts_with("DELETED MANIFEST ") && deleted.contains(&gone), "{shown}");
}

#[tokio::test]
async fn a_change_of_a_namespace_names_the_repositories_whose_owner_changes() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let running = Program::serve(root).with_admin().start();
    done(root, &["user", "add", "erin"]);
    push_image(&running.user(ADMIN), "erin/app", "1", 1).await;
    for name in ["a", "b", "c", "d"] {
        push_image(&running.user(ADMIN), &format!("library/{name}"), "1", 1).await;
    }
    let changed = coracle(root, &["user", "namespace", "erin", "library"]);
    assert_eq!((changed.code, changed.stdout.as_str()), (Some(0), "done\n"), "{changed:?}");
    for line in [
        "4 repositories of library/… belong to erin now: library/a, library/b, library/c and 1 more\n",
        "1 repository of erin/… has no owner now: erin/app\n",
        "`coracle user namespace erin erin` undoes the change.\n",
    ] {
        assert!(changed.stderr.contains(line), "{line}{}", changed.stderr);
    }
    let same = coracle(root, &["user", "namespace", "erin", "library"]);
    assert!(!same.stderr.contains("undoes"), "{same:?}");
}

#[test]
fn the_help_has_no_line_breaks_within_paragraphs() {
    let help = Program::new(["import", "--help"]).env("COLUMNS", "2000").run().stdout;
    let paragraph = help.lines().find(|line| line.starts_with("All digests stay")).unwrap();
    assert!(paragraph.ends_with("Clients can push and pull meanwhile."), "{help}");
    assert_eq!(help.lines().filter(|line| line.starts_with("- ")).count(), 4, "{help}");
}

#[tokio::test]
async fn a_certificate_is_not_renewed_without_tls() {
    let root = tempfile::tempdir().unwrap();
    let _running = Program::serve(root.path()).with_admin().start();
    let why = refused(root.path(), &["certificate", "renew"]);
    assert!(why.contains("this registry has no certificate: it speaks no TLS"), "{why}");
}

#[tokio::test]
async fn the_settings_of_a_client_follow_the_named_configuration() {
    let (home, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = files.path().join("mirror.toml");
    std::fs::write(&file, "[extensions.sync]\nmirror = ['docker.io']\n").unwrap();
    let _running = Program::new(["serve", "--port", "0"]).env("XDG_DATA_HOME", home.path()).start();
    let set_up = || {
        let command = Program::new(["mirror", "setup", "docker", "--address", "mirror.example"]);
        command.env("XDG_DATA_HOME", home.path())
    };
    // The registry that runs on the directory of the platform mirrors nothing.
    assert_eq!(set_up().run().code, Some(1));
    let printed = set_up().arg("--config").arg(&file).run();
    assert!(printed.code == Some(0) && printed.stdout.contains("mirror.example"), "{printed:?}");
}

#[tokio::test]
async fn a_backup_is_not_served() {
    let place = tempfile::tempdir().unwrap();
    let (root, backup) = (place.path().join("data"), place.path().join("backup"));
    let running = Program::serve(&root).with_admin().start();
    done(&root, &["backup", backup.to_str().unwrap()]);
    running.stop();
    let served = Program::serve(&backup).run();
    let expected = format!("{} is a backup or an unfinished restore: run `coracle restore ", backup.display());
    assert!(served.code == Some(1) && served.stderr.contains(&expected), "{served:?}");
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
    let warning = || {
        let status: Value = serde_json::from_str(&coracle(root.path(), &["status", "--json"]).stdout).unwrap();
        status["warnings"].as_array().unwrap().iter().find_map(|line| {
            let line = line.as_str().unwrap();
            line.contains("coracle.toml").then(|| line.to_owned())
        })
    };
    let file = file.display();
    assert_eq!(
        warning().as_deref(),
        Some(&*format!("changed keys of {file} take effect after a restart: http.realm, log.level"))
    );
    // A file that cannot be read says where the problems are. The one of the start leaves nothing to do.
    for (content, logged, expected) in [
        (
            "[http]\nraelm = 'a'\n",
            "reload failed",
            Some(format!("`coracle check-config --config {file}` names all problems")),
        ),
        ("[http]\nrealm = 'a'\n", "read the configuration again", None),
    ] {
        std::fs::write(root.path().join("coracle.toml"), content).unwrap();
        running.signal(Signal::HUP);
        running.wait_for(logged);
        let warning = warning();
        let ends = expected.as_ref().is_none_or(|end| warning.as_ref().is_some_and(|warning| warning.ends_with(end)));
        assert!(warning.is_some() == expected.is_some() && ends, "{warning:?}");
    }
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
        assert!(served.code == Some(2) && served.stderr.contains(why), "{served:?}");
    }
    let many = "[http]\nport = 'x'\nauth.htpasswd.path = '/nowhere/users'\n[http.accessControl.repositories]\n\
                'a/{b' = { defaultPolicy = ['raed'] }\n";
    let checked = check(many);
    assert_eq!(checked.code, Some(2), "{checked:?}");
    for problem in ["http.port", "http.auth.htpasswd.path", "unclosed brace", "defaultPolicy"] {
        assert!(checked.stderr.contains(problem), "{problem}: {}", checked.stderr);
    }
    assert!(checked.stderr.lines().all(|line| line.contains("coracle.toml: ")), "{}", checked.stderr);
    // A start finds the same, and says for each line that it is one of several problems.
    let served = Program::serve_with(&files.path().join("data"), many).run();
    assert!(served.code == Some(2) && served.stderr.contains("cannot read /nowhere/users: No such file"), "{served:?}");
    let problems = served.stderr.lines().filter(|line| line.contains("coracle.toml: ")).count();
    assert!(served.stderr.contains(&format!("coracle: the configuration has {problems} problems:\n")), "{served:?}");
    // One problem is one line, also if only a start would find it.
    let alone = "http.auth.htpasswd.path = '/nowhere/users'\n";
    for done in [check(alone), Program::serve_with(&files.path().join("data"), alone).run()] {
        assert!(done.code == Some(2) && done.stderr.contains("cannot read /nowhere/users: No such file"), "{done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
    }
    // Problems hide no warnings.
    let checked = check("[http]\nport = 'x'\nreadTimeout = '1m'\n");
    assert!(checked.stderr.contains("http.port") && checked.stderr.contains("warning: "), "{checked:?}");
}

#[test]
fn check_config_warns_of_anonymous_pushes_and_old_certificates() {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("coracle.toml");
    let check = |config: &str| {
        std::fs::write(&file, config).unwrap();
        let done = Program::new(["check-config"]).arg(&file).run();
        assert_eq!(done.code, Some(0), "{done:?}");
        done.stderr
    };
    let rules = |pattern: &str, actions: &str| {
        format!("[http.accessControl.repositories.'{pattern}']\nanonymousPolicy = [{actions}]\n")
    };
    let everyone = "everyone who can connect may";
    for (config, said) in [
        (rules("**", "'read'"), None),
        (rules("**", "'read', 'create'"), Some("push and pull")),
        (rules("**", "'create'"), Some("push")),
        (rules("in/**", "'read', 'create', 'delete'"), Some("push, pull and delete in in/**")),
        (rules("**", "'read'") + &rules("in/**", "'update'"), Some("push in in/**")),
        ("http.open = true\n".to_owned(), Some("push, pull and delete")),
    ] {
        let warned = check(&config);
        match said {
            None => assert_eq!(warned, "", "{config}"),
            Some(said) => assert!(warned.ends_with(&format!("{everyone} {said} without signing in\n")), "{warned}"),
        }
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec!["registry.example".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
    std::fs::write(files.path().join("old.pem"), parameters.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(files.path().join("old.key"), key.serialize_pem()).unwrap();
    std::fs::set_permissions(files.path().join("old.key"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let at = |name: &str| files.path().join(name).display().to_string();
    let config = format!("[http]\nport = 0\ntls.cert = '{}'\ntls.key = '{}'\n", at("old.pem"), at("old.key"));
    let warned = check(&config);
    assert!(warned.contains("http.tls.cert: the certificate has expired"), "{warned}");
    assert!(!warned.contains("http.tls.key"), "{warned}");
    std::fs::set_permissions(at("old.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let shown = at("old.key");
    let exposed = format!("other users may use the private key {shown} (mode 0644): run `chmod o= {shown}`");
    let warned = check(&config);
    assert!(warned.contains(&format!("http.tls.key: {exposed}")) && warned.contains("has expired"), "{warned}");
    let stopped = Program::serve_with(&files.path().join("data"), &config).start().stop();
    assert!(stopped.stderr.contains(&exposed), "{}", stopped.stderr);
}

#[test]
fn check_config_refuses_what_a_start_refuses() {
    let files = tempfile::tempdir().unwrap();
    certify(files.path());
    let at = |name: &str| files.path().join(name).display().to_string();
    for (name, content) in [("empty", ""), ("not-base64", "whsec_?"), ("none.pem", "no certificate")] {
        std::fs::write(files.path().join(name), content).unwrap();
    }
    std::fs::write(files.path().join("large"), "s".repeat((64 << 10) + 1)).unwrap();
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
        (secret("large"), "large: it is larger than 65536 bytes"),
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
