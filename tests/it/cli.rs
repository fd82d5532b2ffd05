//! The command line: its output, and its exit codes.

mod commands;
mod doctor;
mod environment;
mod guides;
mod login;
mod login_files;
pub mod person;
mod state;
mod systemd;

use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::support::process::{ADMIN, Finished, Program};

/// Runs the program with these arguments.
fn coracle(arguments: &[&str]) -> Finished {
    Program::new(arguments).run()
}

/// Runs the program with this standard output. Returns its exit code, and its standard error.
fn with_output(arguments: &[&str], output: impl Into<Stdio>) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
    let done = command.args(arguments).stdin(Stdio::null()).stdout(output).output().unwrap();
    (done.status.code(), String::from_utf8(done.stderr).unwrap())
}

#[test]
fn a_closed_or_full_output_is_no_panic() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().to_str().unwrap();
    assert_eq!(Program::serve(root.path()).with_admin().start().stop().code, Some(0));
    let of_root = |command: &[&'static str]| [command, &["--root", directory]].concat();
    for arguments in [
        of_root(&["user", "list"]),
        of_root(&["status"]),
        of_root(&["du"]),
        of_root(&["doctor"]),
        vec!["check-config", "--keys"],
        vec!["completions", "bash"],
    ] {
        let (reader, closed) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(with_output(&arguments, closed), (Some(1), String::new()), "{arguments:?}");
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (code, said) = with_output(&arguments, full);
        assert_eq!(code, Some(1), "{arguments:?}: {said}");
        assert!(said.starts_with("coracle: cannot write to standard output: No space left"), "{arguments:?}: {said}");
    }
}

#[test]
fn every_command_explains_itself() {
    let overview = coracle(&["--help"]);
    assert_eq!(overview.code, Some(0));
    let commands: Vec<&str> = overview
        .stdout
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.split_whitespace().next())
        .collect();
    for (command, about) in [("gc", "Remove unref"), ("scrub", "Verify"), ("backup", "Back up"), ("restore", "Restore")]
    {
        let line = overview.stdout.lines().find(|line| line.trim().starts_with(command)).unwrap();
        assert!(line.contains(about), "{line}");
    }
    assert!(commands.contains(&"serve") && commands.contains(&"check-config"), "{}", overview.stdout);
    for command in commands {
        let help = coracle(&["help", command]);
        assert_eq!(help.code, Some(0), "{command}: {}", help.stderr);
        assert!(help.stdout.contains("Usage: coracle"), "{command}: {}", help.stdout);
        assert!(!help.stdout.starts_with("Which registry"), "{command}: {}", help.stdout);
        // The help has more than the line of the overview.
        assert!(help.stdout.lines().count() > 5, "{command}: {}", help.stdout);
    }
    assert_eq!(coracle(&["--version"]).stdout, format!("coracle {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for arguments in [
        &[][..],
        &["float"],
        &["serve", "--sail"],
        &["serve", "--port", "65536"],
        &["serve", "--address", "here"],
        &["serve", "--root", ""],
        &["check-config", "--json"],
        &["apikey", "revoke", "ci"],
        &["group", "role", "dev", "owner"],
        &["check-config", "/nowhere/coracle.toml"],
        &["serve", "/nowhere/coracle.toml"],
    ] {
        let finished = coracle(arguments);
        assert_eq!(finished.code, Some(2), "{arguments:?}: {}", finished.stderr);
        assert!(!finished.stderr.is_empty(), "{arguments:?}");
        assert_eq!(finished.stdout, "", "{arguments:?}");
    }
}

#[test]
fn check_config_reports_every_problem_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("coracle.toml");
    let path = file.to_str().unwrap();
    std::fs::write(
        &file,
        "[http]\nport = 70000\nrelm = 'x'\n[log]\nlevel = 'loud'\n[storage]\nuploadExpiry = 'soon'\n",
    )
    .unwrap();
    for arguments in [&["check-config", path][..], &["serve", path]] {
        let finished = coracle(arguments);
        assert_eq!(finished.code, Some(2), "{arguments:?}");
        for problem in ["http.port", "http.relm", "http.realm", "log.level", "storage.uploadExpiry"] {
            assert!(finished.stderr.contains(problem), "{arguments:?}: {problem}: {}", finished.stderr);
        }
        assert!(finished.stderr.contains(path), "{arguments:?}: {}", finished.stderr);
        assert_eq!(finished.stdout, "", "{arguments:?}");
    }
    std::fs::write(&file, "[http]\nport = 7000\nreadTimeout = '1m'\n").unwrap();
    let finished = coracle(&["check-config", path]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(finished.stdout.contains(path), "{}", finished.stdout);
    assert!(finished.stderr.contains("warning") && finished.stderr.contains("http.readTimeout"), "{}", finished.stderr);
}

#[test]
fn check_config_refuses_log_files_that_a_start_cannot_open() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("coracle.toml");
    let path = file.to_str().unwrap();
    for key in ["output", "audit"] {
        for place in ["missing/log", ".", "coracle.toml/log"] {
            let log = directory.path().join(place);
            std::fs::write(&file, format!("[http]\nport = 0\n[log]\n{key} = {log:?}\n")).unwrap();
            let root = directory.path().join("data");
            for arguments in [&["check-config", path][..], &["serve", path, "--root", root.to_str().unwrap()]] {
                let finished = coracle(arguments);
                assert_ne!(finished.code, Some(0), "{arguments:?} {key} {place}: {}", finished.stdout);
                assert!(finished.stderr.contains(&format!("log.{key}")), "{arguments:?}: {}", finished.stderr);
            }
        }
        let log = directory.path().join("log");
        std::fs::write(&file, format!("[log]\n{key} = {log:?}\n")).unwrap();
        assert_eq!(coracle(&["check-config", path]).code, Some(0));
        assert!(!log.exists(), "a check creates no file");
    }
}

#[test]
fn check_config_lists_the_keys_with_their_defaults() {
    let table = coracle(&["check-config", "--keys"]);
    assert_eq!(table.code, Some(0));
    for (key, default) in [("http.address", "127.0.0.1"), ("http.port", "8080"), ("http.open", "false")] {
        let line = table.stdout.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap();
        assert_eq!(line.split_whitespace().nth(1), Some(default), "{line}");
    }
}

#[test]
fn without_a_configuration_the_data_is_where_the_platform_keeps_it() {
    let home = tempfile::tempdir().unwrap();
    let running = Program::new(["serve", "--port", "0"]).env("XDG_DATA_HOME", home.path()).start();
    assert!(running.address().ip().is_loopback(), "{}", running.url());
    let finished = running.stop();
    assert!(home.path().join("coracle/coracle.redb").is_file());
    assert!(finished.stderr.contains(home.path().to_str().unwrap()), "{}", finished.stderr);
}

#[test]
fn without_a_configuration_the_address_is_127_0_0_1_8080() {
    let home = tempfile::tempdir().unwrap();
    // The port may be taken by this test or by another program: both show where the registry wants to listen.
    let _taken = TcpListener::bind("127.0.0.1:8080");
    let finished = Program::new(["serve"]).env("XDG_DATA_HOME", home.path()).run();
    assert!(finished.stderr.contains("cannot listen on 127.0.0.1:8080"), "{}", finished.stderr);
}

#[test]
fn standard_output_has_one_line_and_standard_error_the_next_steps() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).start();
    let address = running.address().to_string();
    let finished = running.stop();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert_eq!(finished.stdout, "", "the line that it listens is the only one");
    for step in [
        &format!("skopeo login --tls-verify=false --username admin {address}"),
        &format!("docker://{address}/hello:1"),
        root.path().to_str().unwrap(),
    ] {
        assert!(finished.stderr.contains(step), "{step}: {}", finished.stderr);
    }
}

/// The password that a first start shows on standard error.
fn shown_password(stderr: &str) -> Option<String> {
    let (_, rest) = stderr.split_once("the password ")?;
    Some(rest.split_whitespace().next()?.to_owned())
}

#[tokio::test]
async fn the_first_start_makes_a_superuser_and_shows_a_password_once() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).start();
    let password = shown_password(&running.wait_for("the password ")).expect("a password is shown");
    assert!(password.len() >= 16, "{password}");
    running.user(("admin", &password)).get("/v2/").send().await.status(200);
    // A superuser: may push anywhere.
    running.user(("admin", &password)).post("/v2/any/where/blobs/uploads/").send().await.status(202);
    running.stop();

    let again = Program::serve(root.path()).with_admin().start();
    again.user(("admin", &password)).get("/v2/").send().await.status(200);
    again.user(ADMIN).get("/v2/").send().await.error(401, "UNAUTHORIZED");
    let stderr = again.stop().stderr;
    assert!(shown_password(&stderr).is_none() && !stderr.contains(&password), "{stderr}");
}

#[tokio::test]
async fn the_first_password_can_come_from_the_environment_and_is_not_shown() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    running.user(ADMIN).get("/v2/").send().await.status(200);
    let stderr = running.stop().stderr;
    assert!(!stderr.contains(ADMIN.1) && shown_password(&stderr).is_none(), "{stderr}");
    // An empty value counts as unset.
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).env("CORACLE_ADMIN_PASSWORD", "").start();
    running.user(("admin", "")).get("/v2/").send().await.error(401, "UNAUTHORIZED");
    let stderr = running.stop().stderr;
    assert!(shown_password(&stderr).is_some(), "{stderr}");
}

#[test]
fn a_first_start_that_fails_creates_no_superuser() {
    let root = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let serve = Program::new(["serve", "--root", root.path().to_str().unwrap(), "--port", &port]);
    assert_eq!(serve.run().code, Some(1));
    let stderr = Program::serve(root.path()).start().stop().stderr;
    assert!(shown_password(&stderr).is_some(), "the superuser was made by the failed start: {stderr}");
}

#[tokio::test]
async fn open_is_refused_on_an_address_that_others_can_reach() {
    let root = tempfile::tempdir().unwrap();
    let refused = Program::serve(root.path()).arg("--open").arg("--address").arg("0.0.0.0").run();
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("http.open = true"), "{}", refused.stderr);
    assert!(!root.path().join("coracle.redb").exists(), "nothing was created");

    let local = Program::serve(root.path()).arg("--open").start();
    local.anonymous().post("/v2/a/blobs/uploads/").send().await.status(202);
    let stderr = local.stop().stderr;
    assert!(stderr.contains("everyone who can connect"), "{stderr}");
    assert!(shown_password(&stderr).is_none(), "{stderr}");

    let config = "[http]\nopen = true\naddress = '0.0.0.0'\n";
    let everywhere = Program::serve_with(root.path(), config).start();
    assert!(everywhere.address().ip().is_unspecified());
}

#[test]
fn the_command_line_overrides_the_configuration() {
    let (named, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config =
        format!("[storage]\nrootDirectory = '{}'\n[http]\naddress = '0.0.0.0'\nport = 1\n", other.path().display());
    let running = Program::serve_with(named.path(), &config).arg("--address").arg("127.0.0.1").start();
    assert!(running.address().ip().is_loopback());
    assert!(named.path().join("coracle.redb").exists());
    assert!(!other.path().join("coracle.redb").exists());
}

#[tokio::test]
async fn zot_compat_toml_runs_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().arg("zot-compat.toml").start();
    running.user(ADMIN).get("/v2/").send().await.status(200);
    running.anonymous().get("/v2/").send().await.error(401, "UNAUTHORIZED");
}

#[test]
fn a_data_directory_in_use_is_named() {
    let root = tempfile::tempdir().unwrap();
    let _first = Program::serve(root.path()).start();
    let second = Program::serve(root.path()).run();
    assert_eq!(second.code, Some(1));
    assert_eq!(second.stdout, "");
    let expected = format!("{} is in use by another coracle process", root.path().display());
    assert!(second.stderr.contains(&expected), "{}", second.stderr);
}

#[test]
fn of_many_first_starts_at_once_one_wins() {
    let root = tempfile::tempdir().unwrap();
    // All but one stop because the directory is in use.
    let running: Vec<_> = (0..6).map(|_| Program::serve(root.path()).spawn()).collect();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let (mut won, mut lost) = (Vec::new(), 0);
    for one in running {
        let text = loop {
            let text = one.stderr();
            if text.contains("in use") || text.contains("pull:") {
                break text;
            }
            assert!(std::time::Instant::now() < deadline, "{text}");
            std::thread::sleep(std::time::Duration::from_millis(2));
        };
        if text.contains("in use") { lost += 1 } else { won.push(one) }
    }
    assert_eq!((won.len(), lost), (1, 5));
    assert!(root.path().join("coracle.redb").exists());
}

#[test]
fn a_port_in_use_is_named() {
    let root = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let arguments = ["serve", "--root", root.path().to_str().unwrap(), "--port", &address.port().to_string()];
    let finished = coracle(&arguments);
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains(&format!("cannot listen on {address}")), "{}", finished.stderr);
    assert!(finished.stderr.contains("--port"), "what to do: {}", finished.stderr);
}

#[test]
fn an_unusable_data_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    for root in [file.clone(), file.join("below")] {
        let finished = Program::serve(&root).run();
        assert_eq!(finished.code, Some(1));
        assert!(finished.stderr.contains(root.to_str().unwrap()), "{}", finished.stderr);
        assert!(finished.stderr.contains("is not a directory"), "{}", finished.stderr);
    }
    // An unprivileged user cannot create a directory in `/`.
    let finished = Program::serve(std::path::Path::new("/coracle-test")).unprivileged().run();
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains("/coracle-test"), "{}", finished.stderr);
    assert!(finished.stderr.to_lowercase().contains("permission denied"), "{}", finished.stderr);
}
