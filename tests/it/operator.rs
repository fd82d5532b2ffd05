//! Surroundings of the registry: paths, owners, mount namespaces, files of other registries, htpasswd users.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::TestRegistry;
use crate::support::content::{bytes, descriptor, image, index, push_blob, push_image, put_manifest};
use crate::support::http::Caller;
use crate::support::process::{ADMIN, Finished, Program};
use crate::support::registry::{ALICE, BOB};

/// The user that [`Program::unprivileged`] runs as.
const NOBODY: u32 = 65534;

/// A command on a data directory.
fn coracle(root: &Path, arguments: &[&str]) -> Finished {
    Program::new(arguments).arg("--root").arg(root).run()
}

#[track_caller]
fn done(finished: &Finished) {
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

/// Whether the test is run by root, without whom there is nothing to see.
fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("SKIPPED: {test}: only root can make files for another user");
    }
    is_root
}

#[tokio::test]
async fn commands_work_on_a_data_directory_with_a_long_path() {
    let place = tempfile::tempdir().unwrap();
    for length in [40, 60, 120] {
        let root = place.path().join("d".repeat(length)).join("e".repeat(length)).join("data");
        let backup = root.with_file_name("backup");
        let running = Program::serve(&root).with_admin().start();
        push_image(&running.user(ADMIN), "a/b", "1", 1).await;
        for command in [&["user", "list"][..], &["gc"], &["scrub"], &["backup", backup.to_str().unwrap()]] {
            done(&coracle(&root, command));
        }
        let recover = coracle(&root, &["recover"]);
        assert!(recover.stderr.contains("a registry runs on"), "{recover:?}");
        assert!(backup.join("coracle.redb").exists());
        assert!(!running.stderr().contains("WARN"), "{}", running.stderr());
        done(&running.stop());
        done(&coracle(&root, &["user", "list"]));
    }
}

#[test]
fn a_data_directory_of_another_registry_is_refused_and_left_as_it_was() {
    let stores: [(&[&str], &str); 5] = [
        (&["docker/registry/v2/repositories/a/_layers/sha256/x/link"], "Docker"),
        (&["team/app/oci-layout", "team/app/index.json", "team/app/blobs/sha256/00"], "zot"),
        (&["cache.db", "meta.db"], "zot"),
        (&["oci-layout", "index.json", "blobs/sha256/00"], "is an OCI image layout"),
        (&["_trivy/db/trivy.db"], "zot"),
    ];
    for (files, program) in stores {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"{}").unwrap();
        }
        let before = std::fs::read_dir(root.path()).unwrap().count();
        let refused = Program::serve(root.path()).run();
        assert_eq!(refused.code, Some(1), "{refused:?}");
        for said in [program, root.path().to_str().unwrap(), "--root", "coracle import"] {
            assert!(refused.stderr.contains(said), "{refused:?}");
        }
        assert!(!refused.stderr.contains("the new data directory"), "{refused:?}");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), before, "{files:?}");
    }
    // A volume has entries of its own, which are no images.
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("lost+found")).unwrap();
    done(&Program::serve(root.path()).start().stop());
}

/// Gives a place to the user that a registry runs as.
fn give(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
}

/// Asserts that everything below a path is the registry's.
fn is_theirs(path: &Path) {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (NOBODY, NOBODY), "{}", path.display());
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            is_theirs(&entry.unwrap().path());
        }
    }
}

#[tokio::test]
async fn what_root_makes_belongs_to_the_owner_of_the_data_directory() {
    if !is_root("what_root_makes_belongs_to_the_owner_of_the_data_directory") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    give(place.path());
    let [root, backup, restored] = ["data", "backup", "restored"].map(|name| place.path().join(name));
    let audit = tempfile::tempdir().unwrap();
    std::fs::set_permissions(audit.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let config = audit.path().join("coracle.toml");
    std::fs::write(&config, format!("[log]\naudit = '{}'\n", audit.path().join("audit.log").display())).unwrap();
    let serve = |root: &Path| Program::serve(root).arg(&config).with_admin().unprivileged().start();

    let running = serve(&root);
    let manifest = push_image(&running.user(ADMIN), "a/b", "1", 1).await;
    // A new directory, and one that exists already, while the registry is running.
    done(&coracle(&root, &["backup", backup.to_str().unwrap()]));
    is_theirs(&backup);
    let existing = place.path().join("existing");
    std::fs::create_dir(&existing).unwrap();
    let refused = coracle(&root, &["backup", existing.to_str().unwrap()]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for said in [existing.to_str().unwrap(), "Permission denied", "the ID 65534", "chown 65534"] {
        assert!(refused.stderr.contains(said), "{refused:?}");
    }
    give(&existing);
    done(&coracle(&root, &["backup", existing.to_str().unwrap()]));
    done(&running.stop());

    // Every command while the registry is stopped.
    std::fs::remove_file(audit.path().join("audit.log")).unwrap();
    let with_audit = |arguments: &[&str]| {
        let arguments = [arguments, &["--config", config.to_str().unwrap()]].concat();
        done(&coracle(&root, &arguments));
    };
    with_audit(&["user", "add", "carol"]);
    with_audit(&["gc"]);
    let stray = root.join("blobs/sha256").join("0".repeat(64));
    std::fs::write(&stray, b"stray").unwrap();
    with_audit(&["scrub", "--repair"]);
    assert!(!stray.exists());
    let stopped = place.path().join("stopped");
    done(&coracle(&root, &["backup", stopped.to_str().unwrap()]));
    is_theirs(&stopped);
    std::fs::remove_file(root.join("coracle.redb")).unwrap();
    done(&coracle(&root, &["recover"]));
    is_theirs(&root);
    is_theirs(&audit.path().join("audit.log"));

    // A copy that root owns is not linked: the registry could not open it.
    std::process::Command::new("cp").arg("-r").arg(&backup).arg(place.path().join("copy")).status().unwrap();
    for (from, to) in [(&backup, &restored), (&place.path().join("copy"), &place.path().join("from-copy"))] {
        if !from.ends_with("backup") {
            std::fs::create_dir(to).unwrap();
            give(to);
        }
        done(&Program::new(["restore", "--root"]).arg(to).arg(from).run());
        is_theirs(to);
    }
    for root in [&root, &restored, &place.path().join("from-copy")] {
        let running = serve(root);
        let layer = manifest["layers"][0]["digest"].as_str().unwrap();
        running.user(ADMIN).get(&format!("/v2/a/b/blobs/{layer}")).send().await.status(200);
        done(&running.stop());
    }
}

#[test]
fn a_command_of_another_user_says_whose_the_registry_is() {
    if !is_root("a_command_of_another_user_says_whose_the_registry_is") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let root = place.path().join("data");
    let running = Program::serve(&root).with_admin().start();
    let ask = |mode: u32| {
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(mode)).unwrap();
        let refused = Program::new(["user", "list", "--root"]).arg(&root).unprivileged().run();
        assert_eq!(refused.code, Some(1), "{refused:?}");
        for said in ["belongs to the user with the ID 0", "sudo -u '#0'"] {
            assert!(refused.stderr.contains(said), "{mode:o}: {refused:?}");
        }
    };
    ask(0o700);
    ask(0o755);
    done(&running.stop());
    ask(0o755);
}

/// A registry in a mount namespace of its own, where another file system lies over the directory that a person names:
/// as with `PrivateTmp`, and in a container.
#[tokio::test]
async fn a_backup_is_where_the_person_asked_for_it_whatever_the_registry_sees_there() {
    let may = std::process::Command::new("unshare").args(["-m", "true"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: a mount namespace cannot be made here");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (root, hidden) = (place.path().join("data"), place.path().join("hidden"));
    std::fs::create_dir(&hidden).unwrap();
    let script = "mount -t tmpfs none \"$1\" && exec \"$2\" serve --port 0 --root \"$3\"";
    let running = Program::of("unshare", ["-m", "sh", "-c", script, "sh"])
        .arg(&hidden)
        .arg(env!("CARGO_BIN_EXE_coracle"))
        .arg(&root)
        .with_admin()
        .start();
    push_image(&running.user(ADMIN), "a/b", "1", 1).await;
    for number in 0..2 {
        // The second run updates it.
        let made = coracle(&root, &["backup", hidden.join("backup").to_str().unwrap(), "--json"]);
        done(&made);
        let value: Value = serde_json::from_str(&made.stdout).unwrap();
        assert_eq!(value["blobs"], 2 + number, "{value}");
        push_blob(&running.user(ADMIN), "a/b", b"one more").await;
    }
    done(&running.stop());
    let again = place.path().join("again");
    done(&Program::new(["restore", "--root"]).arg(&again).arg(hidden.join("backup")).run());
    let running = Program::serve(&again).start();
    running.user(ADMIN).get("/v2/a/b/manifests/1").send().await.status(200);
    // A directory that was made for a backup which is refused does not stay.
    let refused = coracle(&again, &["backup", again.join("within").to_str().unwrap()]);
    assert!(refused.code == Some(1) && refused.stderr.contains("overlaps the directory to copy from"), "{refused:?}");
    assert!(refused.stderr.contains(again.to_str().unwrap()) && !refused.stderr.contains("/proc/"), "{refused:?}");
    assert!(!again.join("within").exists());
}

#[tokio::test]
async fn users_of_the_htpasswd_file_are_listed_and_not_shadowed() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("htpasswd");
    let line = |name: &str| format!("{name}:{}\n", bcrypt::hash("secret", 4).unwrap());
    std::fs::write(&file, line("frank") + &line("admin")).unwrap();
    let config = format!("[http.auth.htpasswd]\npath = {file:?}\n");
    let running = Program::serve_with(root.path(), &config).with_admin().start();
    // The name of the first superuser is the file's too.
    running.wait_for("no superuser: the htpasswd file has the user admin");
    running.user(("admin", "secret")).get("/v2/").send().await.status(200);
    running.user(ADMIN).get("/v2/").send().await.status(401);

    let refused = coracle(root.path(), &["user", "add", "frank"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("kept in the htpasswd file"), "{refused:?}");
    running.user(("frank", "secret")).get("/v2/").send().await.status(200);
    let root_password = coracle(root.path(), &["user", "add", "chief", "--superuser"]).stdout;
    let listed = coracle(root.path(), &["user", "list"]).stdout;
    let lines: Vec<&str> = listed.lines().map(str::trim_end).collect();
    assert_eq!(lines.len(), 4, "{listed}");
    for (line, (name, note)) in
        lines[1..].iter().zip([("admin", "from htpasswd"), ("chief", "superuser"), ("frank", "from htpasswd")])
    {
        assert!(line.starts_with(name) && line.ends_with(note), "{listed}");
    }
    running.user(("chief", root_password.trim())).get("/v2/").send().await.status(200);
    // A user who was there first is told of.
    std::fs::write(&file, line("frank") + &line("chief")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !coracle(root.path(), &["user", "list"]).stdout.contains("also in the htpasswd file") {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test]
async fn an_invalid_line_of_htpasswd_is_logged_once_for_each_state_of_the_file() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("users");
    std::fs::write(&file, "bob:$apr1$salt$hash\n").unwrap();
    let config = format!("[http.auth.htpasswd]\npath = {file:?}\n");
    let running = Program::serve_with(root.path(), &config).with_admin().start();
    running.wait_for("ignored a line of the htpasswd file");
    let changed = root.path().join("changed");
    std::fs::write(&changed, "bob:$apr1$salt$hash\nhunter2\n").unwrap();
    std::fs::rename(&changed, &file).unwrap();
    running.wait_for("line=2");
    let log = running.stop().stderr;
    // The first line in both states, and the second one in the second state.
    assert_eq!(log.matches("ignored a line of the htpasswd file").count(), 3, "{log}");
}

#[test]
fn check_config_names_the_lines_of_htpasswd_that_let_nobody_in() {
    let root = tempfile::tempdir().unwrap();
    let (file, config) = (root.path().join("users"), root.path().join("coracle.toml"));
    std::fs::write(&config, format!("[http.auth.htpasswd]\npath = {file:?}\n")).unwrap();
    let check = || Program::new(["check-config"]).arg(&config).run();
    let missing = check();
    assert!(missing.code == Some(2) && missing.stderr.contains(file.to_str().unwrap()), "{missing:?}");
    std::fs::write(&file, format!("ann:{}\n", bcrypt::hash("x", 4).unwrap())).unwrap();
    done(&check());
    std::fs::write(&file, "# users\nbob:$apr1$salt$hash\nhunter2\n").unwrap();
    let wrong = check();
    assert!(wrong.code == Some(2) && !wrong.stdout.contains("is valid"), "{wrong:?}");
    let lines: Vec<&str> = wrong.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{wrong:?}");
    for (line, (number, why)) in lines.iter().zip([(2, "MD5"), (3, "name:hash")]) {
        assert!(line.contains(&format!("{}:{number}: ", file.display())) && line.contains(why), "{line}");
    }
    assert!(!wrong.stderr.contains("hunter2") && !wrong.stderr.contains("salt"), "{wrong:?}");
}

#[test]
fn a_password_is_chosen_by_one_rule() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    for (password, fits) in [("short", false), ("with a blank", false), ("tab\tbetween", false), ("long-enough", true)]
    {
        let environment = tempfile::tempdir().unwrap();
        let serve = Program::serve(environment.path()).env("CORACLE_ADMIN_PASSWORD", password);
        let add = |command: &[&str]| Program::new(command).arg("--root").arg(root.path()).input(password).run();
        let added = add(&["user", "add", "carol", "--password-stdin"]);
        assert_eq!(added.code, Some(i32::from(!fits)), "{added:?}");
        let changed = add(&["user", "passwd", "admin", "--password-stdin"]);
        assert_eq!(changed.code, Some(i32::from(!fits)), "{changed:?}");
        if fits {
            done(&serve.start().stop());
            continue;
        }
        for said in [added.stderr, changed.stderr, serve.run().stderr] {
            assert!(said.contains("at least 8 characters and no whitespace"), "{said}");
            assert!(!said.contains(password), "{said}");
        }
    }
    drop(running);
}

#[test]
fn serve_takes_its_configuration_in_both_ways() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("coracle.toml");
    std::fs::write(&config, "[http]\nopen = true\n").unwrap();
    let serve = || Program::serve(&root.path().join("data"));
    for program in [serve().arg(&config), serve().arg("--config").arg(&config)] {
        let running = program.start();
        running.wait_for("open: everyone");
        done(&running.stop());
    }
    assert_eq!(serve().arg(&config).arg("--config").arg(&config).run().code, Some(2));
}

/// Whether docker gives up at once on an error: `docker push` repeats what it does not take for an error with a text of
/// its own (moby, `retryOnError`), and it takes it for one only if there is a detail or another message than its code's
/// (distribution, `Errors.UnmarshalJSON`).
fn docker_gives_up(error: &Value) -> bool {
    let usual = match error["code"].as_str().unwrap() {
        "UNAUTHORIZED" => "authentication required",
        "DENIED" => "requested access to the resource is denied",
        "UNSUPPORTED" => "The operation is unsupported.",
        "TOOMANYREQUESTS" => "too many requests",
        "NAME_UNKNOWN" => "repository name not known to registry",
        _ => return false,
    };
    let message = error["message"].as_str().unwrap_or_default();
    !error["detail"].is_null() || !(message.is_empty() || message == usual)
}

#[tokio::test]
async fn a_refusal_says_who_may_not_do_what_and_docker_does_not_repeat_it() {
    let t = TestRegistry::with_users().await;
    push_image(&t.user(ALICE), "alice/app", "1", 1).await;
    let refused = |who: Caller, method: &'static str, path: String| async move {
        let answer = who.request(method.parse().unwrap(), &path).send().await;
        assert!((400..500).contains(&answer.status.as_u16()), "{method} {path}: {}", answer.status);
        let error = answer.json()["errors"][0].clone();
        assert!(docker_gives_up(&error), "{method} {path}: {error}");
        error
    };
    for (method, path, action, verb) in [
        ("POST", "blobs/uploads/", "push", "push to"),
        ("PUT", "manifests/1", "push", "push to"),
        ("GET", "manifests/1", "pull", "pull from"),
        ("GET", "tags/list", "pull", "pull from"),
        ("DELETE", "manifests/1", "delete", "delete from"),
    ] {
        let mut texts = Vec::new();
        for name in ["alice/app", "alice/none"] {
            let error = refused(t.user(BOB), method, format!("/v2/{name}/{path}")).await;
            assert_eq!(error["message"], format!("bob may not {verb} {name}"));
            assert_eq!(error["detail"], json!({ "user": "bob", "name": name, "action": action }));
            let anonymous = refused(t.anonymous(), method, format!("/v2/{name}/{path}")).await;
            assert_eq!(anonymous["message"], format!("Requires authentication to {verb} {name}"));
            // Existing and missing repositories get the same response.
            texts.push(format!("{error}{anonymous}").replace(name, "NAME"));
        }
        assert_eq!(texts[0], texts[1]);
    }
    for (who, method, path) in [
        (t.user(("bob", "wrong")), "GET", "/v2/alice/app/tags/list"),
        (t.anonymous(), "GET", "/v2/"),
        (t.anonymous(), "GET", "/v2/_catalog"),
        (t.user(BOB), "PUT", "/v2/"),
        (t.user(BOB), "GET", "/nothing"),
        (t.user(BOB), "GET", "/v2/bob/none/tags/list"),
        (t.anonymous(), "GET", "/zot/auth/apikey"),
    ] {
        refused(who, method, path.to_owned()).await;
    }
}

#[tokio::test]
async fn the_size_of_a_tag_is_that_of_its_image() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    let (shared, config, own) = (vec![1; 5000], vec![b' '; 100], vec![2; 300]);
    for blob in [&shared, &config, &own] {
        push_blob(&alice, "alice/app", blob).await;
    }
    let one = image(&config, &[&shared, &own, &own]);
    let two = image(&config, &[&shared]);
    let mut both = index(&[&one, &two]);
    both["manifests"].as_array_mut().unwrap().push(descriptor("application/octet-stream", &own));
    for (tag, manifest) in [("one", &one), ("two", &two), ("both", &both)] {
        put_manifest(&alice, "alice/app", tag, manifest).await.status(201);
    }
    let length = |manifest: &Value| bytes(manifest).len();
    let key = alice.post("/zot/auth/apikey").body(r#"{"label": "all"}"#).send().await.status(201).json();
    let bearer = format!("Bearer {}", key["apiKey"].as_str().unwrap());
    let get = |path: &'static str| t.anonymous().get(path).header("authorization", bearer.clone()).send();
    let shown = get("/api/v1/repository/alice/app").await.status(200).json();
    let expected = [
        ("one", length(&one) + 5400),
        ("two", length(&two) + 5100),
        ("both", length(&both) + length(&one) + length(&two) + 5400),
    ];
    let listed = get("/api/v1/repository/alice/app/tag/").await.status(200).json();
    for (tag, size) in expected {
        assert_eq!(shown["tags"][tag]["size"], size, "{tag}: {shown}");
        let entry = listed["tags"].as_array().unwrap().iter().find(|entry| entry["name"] == tag).unwrap();
        assert_eq!(entry["size"], size, "{tag}: {listed}");
    }
}
