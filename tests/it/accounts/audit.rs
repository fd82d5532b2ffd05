//! `log.audit`: what operators find in the file, and what happens to it while the program runs.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::connection::Raw;
use crate::support::content::{bytes, noise, push_blob, push_image, sha256, start_upload};
use crate::support::process::{ADMIN, Program, Running};

/// A program that writes an audit file, and the file.
fn start(root: &Path) -> (Running, PathBuf) {
    let file = root.join("audit.log");
    let config = format!("storage.commit = false\n[log]\naudit = '{}'\n", file.display());
    (Program::serve_with(root, &config).with_admin().start(), file)
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

/// The lines of requests, as method, target and status.
fn requests(file: &Path) -> Vec<String> {
    let requests = lines(file).into_iter().filter(|line| line["message"] == "HTTP API Audit");
    requests
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap().to_owned();
            format!("{} {} {}", text("action"), text("object"), line["status"])
        })
        .collect()
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().mode() & 0o777
}

#[tokio::test]
async fn every_request_that_changed_something_is_a_line_in_zots_form_and_no_other_is() {
    let root = tempfile::tempdir().unwrap();
    let (running, file) = start(root.path());
    let admin = running.user(ADMIN);
    let before = requests(&file).len();
    assert_eq!(before, 0);
    let manifest = push_image(&admin, "library/app", "1", 1).await;
    let digest = push_blob(&admin, "library/app", b"to be deleted").await;
    let upload = start_upload(&admin, "library/app").await;
    admin.delete(&upload).send().await.status(204);
    admin.delete(&format!("/v2/library/app/blobs/{digest}")).send().await.status(202);
    // Reading, what is refused, and what fails change nothing.
    admin.get("/v2/library/app/manifests/1").send().await.status(200);
    admin.get("/v2/_catalog").send().await.status(200);
    running.anonymous().put("/v2/library/app/manifests/2").body("{}").send().await.status(401);
    admin.put("/v2/library/app/manifests/2").body("{}").send().await.status(400);
    admin.delete("/v2/library/app/manifests/3").send().await.status(404);

    let mut expected: Vec<String> = Vec::new();
    for blob in [&manifest["config"], &manifest["layers"][0]] {
        let digest = blob["digest"].as_str().unwrap();
        expected.push(format!("POST /v2/library/app/blobs/uploads/?digest={digest} 201"));
    }
    expected.push("PUT /v2/library/app/manifests/1 201".to_owned());
    expected.push(format!("POST /v2/library/app/blobs/uploads/?digest={digest} 201"));
    expected.push("POST /v2/library/app/blobs/uploads/ 202".to_owned());
    expected.push(format!("DELETE {upload} 204"));
    expected.push(format!("DELETE /v2/library/app/blobs/{digest} 202"));
    assert_eq!(requests(&file), expected);
    let found = lines(&file);
    let line = found.iter().rfind(|line| line["message"] == "HTTP API Audit").unwrap();
    assert_eq!((&line["level"], &line["subject"]), (&json!("info"), &json!(ADMIN.0)));
    assert!(line["clientIP"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    assert!(line["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{line}");
    assert_eq!(mode(&file), 0o600);
}

#[tokio::test]
async fn what_is_done_to_accounts_is_there_too_and_no_secret_of_any_kind() {
    let root = tempfile::tempdir().unwrap();
    let (running, file) = start(root.path());
    let command = |arguments: &[&str]| {
        let done = Program::new(arguments).arg("--root").arg(root.path()).run();
        assert_eq!(done.code, Some(0), "{arguments:?}: {}", done.stderr);
        done.stdout.trim().to_owned()
    };
    let password = command(&["user", "add", "carol"]);
    // A failed request changes nothing and is not recorded.
    assert_ne!(Program::new(["user", "add", "carol", "--root"]).arg(root.path()).run().code, Some(0));
    let carol = running.user(("carol", &password));
    let key = carol.post("/zot/auth/apikey").body(r#"{"label":"ci"}"#).send().await.status(201).json();
    let wrong = "not carol's password";
    running.user(("carol", wrong)).get("/v2/").send().await.status(401);

    let visit = running.anonymous().get("/csrf_token").send().await.status(200);
    let (cookie, token) =
        (visit.header("set-cookie").unwrap(), visit.json()["csrf_token"].as_str().unwrap().to_owned());
    let body = json!({ "username": "carol", "password": password }).to_string();
    let path = format!("/api/v1/signin?_csrf_token={token}");
    let signin = running.anonymous().post(&path).header("cookie", cookie).body(body).send().await.status(200);
    let (session, token) = (signin.header("set-cookie").unwrap(), signin.header("x-next-csrf-token").unwrap());
    let path = format!("/api/v1/signout?_csrf_token={token}&everywhere=true");
    running.anonymous().post(&path).header("cookie", session).send().await.status(200);
    let stopped = running.stop();

    let found = lines(&file);
    let of_carol: Vec<&Value> = found.iter().filter(|line| line["object"] == "carol").collect();
    let mut kinds: Vec<&str> = of_carol.iter().map(|line| line["action"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    let expected = ["create_app_specific_token", "login_failure", "login_success", "logout_success", "user_create"];
    assert_eq!(kinds, expected);
    let of_kind = |kind: &str| *of_carol.iter().find(|line| line["action"] == kind).unwrap();
    let made = of_kind("create_app_specific_token");
    assert_eq!((&made["subject"], &made["metadata"]["label"]), (&json!("carol"), &json!("ci")));
    let request = found.iter().find(|line| line["object"] == "/zot/auth/apikey").unwrap();
    assert_eq!(request["request"], made["request"], "the two lines of one request have its id");
    assert_eq!(of_kind("login_failure")["subject"], "");
    assert_eq!(of_kind("user_create")["agent"], "coracle command line");
    assert!(requests(&file).contains(&"POST /api/v1/signout?_csrf_token=***&everywhere=true 200".to_owned()));

    let text = fs::read_to_string(&file).unwrap() + &stopped.stderr;
    let cookie = cookie.split(['=', ';']).nth(1).unwrap();
    let session = session.split(['=', ';']).nth(1).unwrap();
    for secret in [password.as_str(), wrong, key["apiKey"].as_str().unwrap(), token, cookie, session] {
        assert!(!text.contains(secret), "{secret} is in the audit, or in the log");
    }
}

#[tokio::test]
async fn changes_of_repositories_and_tags_are_lines_of_the_file_and_of_the_log() {
    let root = tempfile::tempdir().unwrap();
    let (running, file) = start(root.path());
    let admin = running.user(ADMIN);
    let digest = sha256(&bytes(&push_image(&admin, "library/app", "1", 1).await));
    let key = admin.post("/zot/auth/apikey").body(r#"{"label":"ci"}"#).send().await.status(201).json();
    let bearer = format!("Bearer {}", key["apiKey"].as_str().unwrap());
    let tell = async |method: &str, path: &str, body: Value| {
        let request = running.anonymous().request(method.parse().unwrap(), &format!("/api/v1/repository{path}"));
        let status = request.header("authorization", &bearer).body(body.to_string()).send().await.status;
        assert!(status.is_success(), "{method} {path}: {status}");
    };
    let tag = "/library/app/tag/2";
    tell("PUT", tag, json!({ "manifest_digest": digest })).await;
    tell("PUT", tag, json!({ "expiration": 32_503_680_000_u64 })).await;
    tell("DELETE", tag, json!({})).await;
    tell("POST", &format!("{tag}/restore"), json!({ "manifest_digest": digest })).await;
    tell("POST", &format!("{tag}/expire"), json!({})).await;
    let other = json!({ "namespace": "library", "repository": "b", "visibility": "private", "description": "" });
    tell("POST", "", other).await;
    tell("DELETE", "/library/app", json!({})).await;
    let stopped = running.stop();

    let found = lines(&file);
    let changes: Vec<&Value> = found.iter().filter(|line| line["object"] == "library").collect();
    let kinds: Vec<&str> = changes.iter().map(|line| line["action"].as_str().unwrap()).collect();
    let expected = [
        "create_tag",
        "change_tag_expiration",
        "delete_tag",
        "revert_tag",
        "permanently_delete_tag",
        "create_repo",
        "delete_repo",
    ];
    assert_eq!(kinds, expected);
    let created = &changes[0]["metadata"];
    assert_eq!((&created["repo"], &created["tag"]), (&json!("library/app"), &json!("2")));
    assert_eq!(created["manifest_digest"], digest);
    assert_eq!(changes[1]["metadata"]["expiration_date"], "Wed, 01 Jan 3000 00:00:00 -0000");
    let is_logged = |kind: &str| stopped.stderr.lines().any(|line| line.contains("audit") && line.contains(kind));
    assert!(expected.iter().all(|kind| is_logged(kind)), "{}", stopped.stderr);
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_made_anew() {
    let root = tempfile::tempdir().unwrap();
    let (running, file) = start(root.path());
    let admin = running.user(ADMIN);
    push_blob(&admin, "library/app", b"1").await;
    let moved = root.path().join("audit.log.1");
    fs::rename(&file, &moved).unwrap();
    let before = lines(&moved).len();
    push_blob(&admin, "library/app", b"2").await;
    push_blob(&admin, "library/app", b"3").await;
    assert_eq!(requests(&file).len(), 2);
    assert_eq!(lines(&moved).len(), before);
    assert_eq!(mode(&file), 0o600);

    // A file that another program created is appended to, and keeps its permissions.
    fs::remove_file(&file).unwrap();
    fs::write(&file, "{}\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    push_blob(&admin, "library/app", b"4").await;
    assert_eq!((lines(&file).len(), mode(&file)), (2, 0o640));
}

#[tokio::test]
async fn a_line_that_cannot_be_written_is_reported_and_fails_no_request() {
    let root = tempfile::tempdir().unwrap();
    let (running, file) = start(root.path());
    let admin = running.user(ADMIN);
    fs::rename(&file, root.path().join("away")).unwrap();
    fs::create_dir(&file).unwrap();
    let digest = push_blob(&admin, "library/app", b"1").await;
    running.wait_for("cannot write the audit file");
    admin.get(&format!("/v2/library/app/blobs/{digest}")).send().await.status(200);
    // And goes on when it can.
    fs::remove_dir(&file).unwrap();
    push_blob(&admin, "library/app", b"2").await;
    let expected = format!("POST /v2/library/app/blobs/uploads/?digest={} 201", sha256(b"2"));
    assert_eq!(requests(&file), [expected]);
}

#[test]
fn a_file_that_cannot_be_opened_is_said_at_the_start() {
    let root = tempfile::tempdir().unwrap();
    let config = "[log]\naudit = '/nowhere/at/all/audit.log'\n";
    let ended = Program::serve_with(root.path(), config).run();
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("log.audit") && ended.stderr.contains("/nowhere/at/all"), "{}", ended.stderr);
}

/// hyper drops the handler of a client that goes away, while what it has begun to write is written: who
/// pushes and does not wait for the answer must not be missing.
#[tokio::test]
async fn whoever_pushes_and_does_not_wait_for_the_answer_is_a_line_too() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("audit.log");
    let running = Program::serve_with(root.path(), &format!("log.audit = '{}'\n", file.display())).with_admin().start();
    let admin = running.user(ADMIN);
    admin.get("/v2/").send().await.status(200);
    let gone = |line: &String| line.ends_with(" 499");
    let mut digests = Vec::new();
    // Until one has gone in time, which on a busy machine may take a few more.
    while digests.len() < 20 || (digests.len() < 1000 && !requests(&file).iter().any(gone)) {
        let content = noise(1000, digests.len() as u64);
        let digest = sha256(&content);
        let mut raw = Raw::connect(running.address()).await;
        let head = format!("POST /v2/library/app/blobs/uploads/?digest={digest} HTTP/1.1\r\nhost: x");
        let authorization = admin.authorization().unwrap();
        raw.send(format!("{head}\r\nauthorization: {authorization}\r\ncontent-length: 1000\r\n\r\n")).await;
        raw.send(content).await;
        digests.push(digest);
    }
    // Refused requests are not recorded, because they could fill the disk.
    let mut raw = Raw::connect(running.address()).await;
    raw.send("POST /v2/library/app/blobs/uploads/ HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n").await;
    drop(raw);
    let mut stored = 0;
    for digest in &digests {
        let found = admin.head(&format!("/v2/library/app/blobs/{digest}")).send().await.status.is_success();
        stored += usize::from(found);
    }
    // A stop waits for what is being written.
    let log = running.stop().stderr;
    let lines = requests(&file);
    let gone = lines.iter().filter(|line| gone(line)).count();
    let done = lines.iter().filter(|line| line.ends_with(" 201")).count();
    assert!(done + gone >= stored, "{stored} blobs were stored, and these are the lines: {lines:?}");
    assert!(gone > 0, "no client has gone in time for the test to mean anything");
    // The access log has them too.
    let logged = log.lines().filter(|line| line.contains(" method=\"POST\" ") && line.contains(" status=499 ")).count();
    assert!(logged >= gone, "{gone} clients had gone, and the access log has {logged} of them");
    assert_eq!(done + gone, lines.len());
}
