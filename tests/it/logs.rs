//! The logs of the real program: their rotation, SIGHUP, and what a line looks like.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::content::start_upload;
use crate::support::process::{ADMIN, Program};

/// Waits until a file has a text, and returns all of it.
#[track_caller]
fn wait_for(file: &Path, wanted: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if text.contains(wanted) {
            return text;
        }
        assert!(Instant::now() < deadline, "{} has no {wanted:?}: {text}", file.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn a_rotated_log_is_followed_and_sighup_ends_nothing() {
    let root = tempfile::tempdir().unwrap();
    let [log, moved, audit, old_audit] =
        ["coracle.log", "coracle.log.1", "audit", "audit.1"].map(|name| root.path().join(name));
    let config = format!("[log]\noutput = '{}'\naudit = '{}'\n", log.display(), audit.display());
    let running = Program::serve_with(root.path(), &config).with_admin().start();
    let admin = running.user(ADMIN);
    let upload = start_upload(&admin, "admin/a").await;
    wait_for(&log, "method=\"POST\"");
    // The next line makes the file again.
    std::fs::rename(&log, &moved).unwrap();
    admin.get("/v2/").send().await.status(200);
    let line = wait_for(&log, "path=\"/v2/\"");
    assert!(!line.contains("method=\"POST\""), "{line}");
    // So does SIGHUP, without a line of its own for the audit. A push that runs goes on.
    let (pieces, push) = admin.patch(&upload).piecewise();
    let push = tokio::spawn(push.send());
    pieces.send("half".into()).unwrap();
    std::fs::remove_file(&log).unwrap();
    std::fs::rename(&audit, &old_audit).unwrap();
    running.signal(Signal::HUP);
    wait_for(&log, "opened the log files again");
    assert_eq!(std::fs::read_to_string(&audit).unwrap(), "");
    pieces.send("full".into()).unwrap();
    drop(pieces);
    assert_eq!(push.await.unwrap().status(202).header("range"), Some("0-7"));
    // `copytruncate`: the file stays, and its content goes.
    std::fs::File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
    admin.get("/livez").send().await.status(200);
    assert!(!wait_for(&log, "/livez").contains('\0'));
    assert_eq!(running.stop().code, Some(0));
}

#[tokio::test]
async fn sighup_reads_the_configuration_and_an_error_in_it_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let rules = |actions: &str| format!("[http.accessControl.repositories.'open/**']\nanonymousPolicy = [{actions}]\n");
    let running = Program::serve_with(root.path(), &rules("'read'")).with_admin().start();
    let file = root.path().join("coracle.toml");
    let asked = || running.anonymous().get("/v2/open/a/tags/list").send();
    asked().await.status(404);
    std::fs::write(&file, "nonsense = ").unwrap();
    running.signal(Signal::HUP);
    running.wait_for("reload failed; the previous configuration stays in force");
    asked().await.status(404);
    std::fs::write(&file, rules("")).unwrap();
    running.signal(Signal::HUP);
    running.wait_for("reloaded http.accessControl");
    asked().await.status(401);
    // Without a file there is nothing to read, and nothing ends either.
    let other = tempfile::tempdir().unwrap();
    let without = Program::serve(other.path()).with_admin().start();
    for _ in 0..3 {
        without.signal(Signal::HUP);
    }
    without.wait_for("there is no configuration file to reload");
    without.anonymous().get("/livez").send().await.status(200);
    assert_eq!(without.stop().code, Some(0));
}

#[tokio::test]
async fn a_json_log_is_json_from_its_first_line_to_its_last() {
    let root = tempfile::tempdir().unwrap();
    // A key of zot's without effect here is a warning.
    let config = "distSpecVersion = '1.1.0'\n[log]\nformat = 'json'\nlevel = 'info'\n";
    let running = Program::serve_with(root.path(), config).start();
    let find = |lines: &str, has: &dyn Fn(&Value) -> bool| -> Option<Value> {
        let mut lines =
            lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")));
        lines.find(|line| has(line))
    };
    let started = find(&running.wait_for("\"password\""), &|line| line.get("password").is_some()).unwrap();
    assert_eq!((&started["user"], &started["level"]), (&"admin".into(), &"INFO".into()));
    // It is the password.
    let password = started["password"].as_str().unwrap().to_owned();
    let admin = running.user(("admin", &password));
    admin.get("/v2/").send().await.status(200);
    admin.get("/zot/auth/apikey").send().await.status(200);
    let key = admin.post("/zot/auth/apikey").header("content-type", "application/json").body("{\"label\":\"a\"}");
    key.send().await.status(201);
    // Another registry cannot have the same data: that is an error in JSON too.
    let second = Program::serve_with(root.path(), config).run();
    assert_eq!(second.code, Some(1));
    assert!(find(&second.stderr, &|line| line["level"] == "ERROR").is_some(), "{}", second.stderr);
    let log = running.stop().stderr;
    assert!(
        find(&log, &|line| line["level"] == "WARN" && line["message"].to_string().contains("distSpecVersion"))
            .is_some()
    );
    let made = find(&log, &|line| line["kind"] == "create_app_specific_token").unwrap();
    assert_eq!(made["metadata"]["label"], "a", "{made}");
}

#[tokio::test]
async fn a_text_log_has_plain_decimals_and_metadata_as_json() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve_with(root.path(), "").with_admin().start();
    let admin = running.user(ADMIN);
    for _ in 0..20 {
        running.anonymous().get("/nothing").send().await.status(404);
    }
    let key = admin.post("/zot/auth/apikey").header("content-type", "application/json").body("{\"label\":\"a\"}");
    key.send().await.status(201);
    let log = running.stop().stderr;
    let seconds: Vec<&str> = log.split_whitespace().filter_map(|word| word.strip_prefix("seconds=")).collect();
    assert!(seconds.len() > 20, "{log}");
    assert!(seconds.iter().all(|number| number.chars().all(|c| c.is_ascii_digit() || c == '.')), "{seconds:?}");
    assert!(log.contains("\"label\":\"a\"}"), "{log}");
}
