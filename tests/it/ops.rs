//! Health checks, metrics, and a log without secrets.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::TestRegistry;
use crate::support::connection::Raw;
use crate::support::content::{noise, push_blob, push_image, sha256, start_upload};
use crate::support::process::{ADMIN, Finished, Program};
use crate::support::registry::{ALICE, ROOT};

#[tokio::test]
async fn probes_answer_anybody() {
    let t = TestRegistry::with_users().await;
    for path in ["/livez", "/readyz", "/startupz"] {
        t.anonymous().get(path).send().await.status(200);
        t.anonymous().head(path).send().await.status(200);
        t.anonymous().post(path).send().await.error(405, "UNSUPPORTED");
    }
}

#[tokio::test]
async fn the_root_names_the_program_and_the_path_of_its_api() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    let answer = running.anonymous().get("/").send().await.status(200);
    assert_eq!(answer.text(), "coracle, an OCI registry. Its API is at /v2/.\n");
    assert!(running.anonymous().head("/").send().await.status(200).body.is_empty());
    // A wrong password makes no difference to a probe.
    running.user(("admin", "wrong")).get("/").send().await.status(200);
}

#[tokio::test]
async fn figures_are_for_superusers_unless_the_registry_is_open() {
    let t = TestRegistry::with_users().await;
    t.anonymous().get("/metrics").send().await.error(401, "UNAUTHORIZED");
    t.user(ALICE).get("/metrics").send().await.error(403, "DENIED");
    t.user(ROOT).get("/metrics").send().await.status(200);
    TestRegistry::open().await.anonymous().get("/metrics").send().await.status(200);
}

/// The samples of an exposition in the text format of `OpenMetrics`, by name and labels.
fn samples(text: &str) -> Vec<(String, f64)> {
    assert!(text.ends_with("\n# EOF\n") || text == "# EOF\n", "{text}");
    let mut families = Vec::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let words: Vec<&str> = comment.splitn(3, ' ').collect();
            match words[..] {
                ["TYPE", family, _] => families.push(family),
                ["HELP" | "UNIT", _, _] | ["EOF"] => {}
                _ => panic!("{line}"),
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let bare = name.split('{').next().unwrap();
        assert!(bare.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
        assert_eq!(name.contains('{'), name.ends_with('}'), "{line}");
        assert!(families.iter().any(|family| bare.starts_with(family)), "a sample without a family: {line}");
        samples.push((name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}"))));
    }
    let names: std::collections::HashSet<_> = samples.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), samples.len(), "a sample is given twice: {text}");
    samples
}

#[tokio::test]
async fn figures_are_openmetrics_if_that_is_accepted_and_rise() {
    let t = TestRegistry::open().await;
    let read = async || {
        let request = t.anonymous().get("/metrics").header("accept", "application/openmetrics-text;version=1.0.0");
        let answer = request.send().await.status(200);
        assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text; version=1.0.0"));
        let samples = samples(&answer.text());
        move |name: &str| samples.iter().find(|(sample, _)| sample == name).map_or(0.0, |(_, value)| *value)
    };
    let digest = push_blob(&t.anonymous(), "a", &noise(10_000, 1)).await;
    let before = read().await;
    let gets = "zot_http_requests_total{method=\"GET\",code=\"200\"}";
    let sent = "coracle_http_sent_bytes_total";
    let seconds = "zot_http_method_latency_seconds_sum{method=\"GET\"}";
    for _ in 0..5 {
        t.anonymous().get(&format!("/v2/a/blobs/{digest}")).send().await.status(200);
    }
    t.anonymous().get("/v2/a/manifests/none").send().await.status(404);
    let after = read().await;
    // The five, and the reading before.
    assert!((after(gets) - before(gets) - 6.0).abs() < 0.1, "{} {}", before(gets), after(gets));
    assert!(after(sent) - before(sent) >= 50_000.0);
    assert!((after("zot_http_requests_total{method=\"GET\",code=\"404\"}") - 1.0).abs() < 0.1);
    let taken = after(seconds) - before(seconds);
    assert!(taken > 0.0 && taken.fract() > 0.0, "latencies have fractions of a second: {taken}");
    assert!(after("zot_http_method_latency_seconds_bucket{le=\"+Inf\",method=\"GET\"}") >= 7.0);
    assert!(after("coracle_http_connections") >= 1.0);
}

#[tokio::test]
async fn a_label_is_never_what_a_client_has_made_up() {
    let t = TestRegistry::open().await;
    for method in ["BREW", "WHEN"] {
        let request = t.anonymous().request(method.parse().unwrap(), "/v2/");
        request.send().await.error(405, "UNSUPPORTED");
    }
    let text = t.anonymous().get("/metrics").send().await.status(200).text();
    assert!(!text.contains("BREW") && text.contains("method=\"OTHER\",code=\"405\"} 2"), "{text}");
}

/// The lines of a JSON log.
fn json_lines(log: &str) -> Vec<Value> {
    let lines = log.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The lines about requests.
fn requests(log: &str) -> Vec<Value> {
    json_lines(log).into_iter().filter(|line| line["target"] == "coracle::request").collect()
}

#[tokio::test]
async fn every_request_has_one_line_with_all_that_matters() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve_with(root.path(), "[log]\nformat = 'json'\n").with_admin().start();
    let admin = running.user(ADMIN);
    let digest = push_blob(&admin, "admin/a", &noise(5000, 2)).await;
    let blob = format!("/v2/admin/a/blobs/{digest}");
    admin.get(&format!("{blob}?x=y")).header("user-agent", "a test").send().await.status(200);
    running.anonymous().get(&blob).send().await.error(401, "UNAUTHORIZED");
    admin.head(&blob).send().await.status(200);
    let log = requests(&running.stop().stderr);
    let seen: Vec<_> = log.iter().map(|line| (line["method"].as_str().unwrap(), line["status"].as_u64())).collect();
    assert_eq!(seen, [("POST", Some(201)), ("GET", Some(200)), ("GET", Some(401)), ("HEAD", Some(200))]);
    let pull = &log[1];
    assert_eq!(pull["path"], blob);
    assert_eq!(pull["bytes"], 5000);
    assert_eq!(pull["user"], "admin");
    assert_eq!(pull["agent"], "a test");
    assert_eq!(pull["aborted"], false);
    assert_eq!(pull["level"], "INFO");
    assert!(pull["timestamp"].is_string() && pull["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    let seconds = pull["seconds"].as_f64().unwrap();
    assert!(seconds > 0.0 && seconds < 30.0, "{seconds}");
    assert_eq!(log[2].get("user"), None, "the caller is anonymous");
    assert_eq!((&log[3]["bytes"], &log[3]["aborted"]), (&Value::from(0), &Value::from(false)));
    let ids: std::collections::HashSet<_> = log.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), log.len());
}

#[tokio::test]
async fn a_line_says_when_the_client_has_gone() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve_with(root.path(), "[http]\nopen = true\n[log]\nformat = 'json'\n").start();
    let digest = push_blob(&running.anonymous(), "a", &noise(24 << 20, 3)).await;
    let mut gone = Raw::connect_narrow(running.address()).await;
    gone.send(format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
    assert!(!gone.is_silent_for(std::time::Duration::from_secs(20)).await);
    drop(gone);
    let log = running.wait_for("\"aborted\":true");
    let line = requests(&log).into_iter().find(|line| line["aborted"] == true).unwrap();
    assert!(line["bytes"].as_u64().unwrap() < 24 << 20, "{line}");
}

#[tokio::test]
async fn a_line_has_the_time_that_a_request_waits_for_others() {
    const PAUSE: Duration = Duration::from_millis(500);
    let root = tempfile::tempdir().unwrap();
    let config = "[http]\nopen = true\n[http.limits]\nmaxConnections = 1\n[log]\nformat = 'json'\n";
    let running = Program::serve_with(root.path(), config).start();
    let mut upload = Raw::connect(running.address()).await;
    let path = format!("/v2/a/blobs/uploads/?digest={}", sha256(b"0123456789"));
    upload.send(format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n01234")).await;
    while std::fs::read_dir(root.path().join("uploads")).unwrap().count() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut waiting = [Raw::connect(running.address()).await, Raw::connect(running.address()).await];
    for (connection, path) in waiting.iter_mut().zip(["/v2/leaves", "/v2/waits"]) {
        connection.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        assert!(connection.is_silent_for(PAUSE).await, "it was answered without a place");
    }
    let [leaves, mut waits] = waiting;
    drop(leaves);
    running.wait_for("/v2/leaves");
    upload.send("56789").await;
    assert_eq!(waits.answer().await.status, 404);
    let log = requests(&running.stop().stderr);
    for (path, status) in [("/v2/leaves", 499), ("/v2/waits", 404)] {
        let line = log.iter().find(|line| line["path"] == path).unwrap();
        assert_eq!(line["status"], status, "{line}");
        assert!(line["seconds"].as_f64().unwrap() >= PAUSE.as_secs_f64(), "{line}");
    }
}

#[tokio::test]
async fn a_line_has_the_bytes_that_were_sent_and_the_time_until_the_client_has_gone() {
    // The library takes the first at once, and the others in pieces.
    const SIZES: [usize; 3] = [8_000_000, 8 << 20, 24 << 20];
    const PAUSE: Duration = Duration::from_millis(500);
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve_with(root.path(), "[http]\nopen = true\n[log]\nformat = 'json'\n").start();
    let mut paths = Vec::new();
    for size in SIZES {
        let digest = push_blob(&running.anonymous(), "a", &noise(size, 4)).await;
        let path = format!("/v2/a/blobs/{digest}");
        let mut gone = Raw::connect_narrow(running.address()).await;
        gone.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        assert_eq!(gone.head().await.status, 200);
        // The time is under test.
        tokio::time::sleep(PAUSE).await;
        drop(gone);
        running.wait_for(&path);
        running.anonymous().get(&path).send().await.status(200);
        paths.push(path);
    }
    let log = requests(&running.stop().stderr);
    for (path, size) in paths.iter().zip(SIZES) {
        let lines: Vec<_> = log.iter().filter(|line| line["path"] == *path).collect();
        let [aborted, whole] = lines[..] else { panic!("{path}: {lines:?}") };
        assert_eq!((&aborted["aborted"], &whole["aborted"]), (&Value::from(true), &Value::from(false)), "{lines:?}");
        assert_eq!(whole["bytes"], size);
        assert!(aborted["bytes"].as_u64().unwrap() < size as u64, "{aborted}");
        assert!(aborted["seconds"].as_f64().unwrap() >= PAUSE.as_secs_f64(), "{aborted}");
    }
}

#[tokio::test]
async fn no_secret_is_ever_logged() {
    const SECRETS: [&str; 5] = ["s3cret-pw", "s3cret-cookie", "s3cret-query", "s3cret-userinfo", "s3cret-token"];
    for format in ["json", "text"] {
        let root = tempfile::tempdir().unwrap();
        let config = format!("[log]\nformat = '{format}'\nlevel = 'trace'\n");
        let running = Program::serve_with(root.path(), &config).env("CORACLE_ADMIN_PASSWORD", SECRETS[0]).start();
        let admin = running.user(("admin", SECRETS[0]));
        push_image(&admin, "admin/a", "1", 4).await;
        running.user(("admin", "s3cret-pw but wrong")).get("/v2/").send().await.status(401);
        admin.get("/v2/?password=s3cret-query").header("cookie", "session=s3cret-cookie").send().await.status(200);
        running.anonymous().get("/v2/").header("authorization", "Bearer s3cret-token").send().await.status(401);
        running.anonymous().get("/v2/").header("authorization", "s3cret-token").send().await.status(401);
        // As a proxy would be asked; and a path that is not one.
        let basic = STANDARD.encode(format!("admin:{}", SECRETS[0]));
        for line in ["GET http://admin:s3cret-userinfo@localhost/v2/", "GET /v2/a/manifests/1?token=s3cret-token"] {
            let mut raw = Raw::connect(running.address()).await;
            raw.send(format!("{line} HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic {basic}\r\n\r\n")).await;
            raw.answer().await;
        }
        // A failure of ours is logged with its cause.
        break_a_blob(&running, root.path(), &admin).await;
        let Finished { stderr, code, .. } = running.stop();
        assert_eq!(code, Some(0));
        assert!(stderr.contains("/v2/admin/a/manifests/1"), "something is logged: {stderr}");
        for secret in SECRETS.into_iter().chain([basic.as_str()]) {
            let line = stderr.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{format}: {secret}");
        }
        let coded = STANDARD.encode("admin:");
        assert!(!stderr.contains(coded.trim_end_matches('=')), "{format}: credentials as they were sent");
    }
}

/// Makes a pushed blob's file one that cannot be opened, asks for the blob, and returns the id of the failure.
async fn break_a_blob(
    running: &crate::support::process::Running,
    root: &std::path::Path,
    caller: &crate::support::http::Caller,
) -> String {
    let digest = push_blob(caller, "admin/broken", b"soon gone").await;
    let file = root.join("blobs").join(digest.replace(':', "/"));
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&file, &file).unwrap();
    let answer = caller.get(&format!("/v2/admin/broken/blobs/{digest}")).send().await.error(500, "UNKNOWN");
    let id = answer.json()["errors"][0]["detail"]["requestId"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("x-request-id"), Some(&*id));
    let root = root.to_str().unwrap();
    assert!(!answer.text().contains(root), "{}", answer.text());
    // The registry goes on.
    running.anonymous().get("/livez").send().await.status(200);
    push_blob(caller, "admin/whole", b"still here").await;
    id
}

#[tokio::test]
async fn a_failure_of_ours_has_an_id_that_the_log_explains() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve_with(root.path(), "[log]\nformat = 'json'\n").with_admin().start();
    let id = break_a_blob(&running, root.path(), &running.user(ADMIN)).await;
    let log = json_lines(&running.stop().stderr);
    let of_it: Vec<_> = log.iter().filter(|line| line["id"] == *id).collect();
    let failures: Vec<_> = of_it.iter().filter(|line| line["level"] == "ERROR").collect();
    assert_eq!(failures.len(), 1, "the cause is logged once: {log:?}");
    assert!(failures[0]["cause"].as_str().unwrap().len() > 10, "{:?}", failures[0]);
    assert_eq!(of_it.iter().filter(|line| line["target"] == "coracle::request").count(), 1);
}

#[tokio::test]
async fn a_blob_that_was_cut_short_on_disk_is_not_served_as_whole() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve_with(root.path(), "[http]\nopen = true\n").start();
    let content = noise(2 << 20, 5);
    let digest = push_blob(&running.anonymous(), "a", &content).await;
    let file = root.path().join("blobs").join(digest.replace(':', "/"));
    std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(1000).unwrap();
    let path = format!("/v2/a/blobs/{digest}");
    running.anonymous().get(&path).send().await.error(404, "BLOB_UNKNOWN");
    running.anonymous().get("/livez").send().await.status(200);
}

#[tokio::test]
async fn the_level_decides_what_is_logged() {
    let root = tempfile::tempdir().unwrap();
    for (level, requests, traces) in [("error", 0, false), ("warn", 0, false), ("info", 1, false), ("trace", 1, true)] {
        let config = format!("[http]\nopen = true\n[log]\nformat = 'json'\nlevel = '{level}'\n");
        let running = Program::serve_with(root.path(), &config).start();
        running.anonymous().get("/livez").send().await.status(200);
        let log = running.stop().stderr;
        assert_eq!(self::requests(&log).len(), requests, "{level}");
        let low = json_lines(&log).iter().any(|line| line["level"] == "TRACE" || line["level"] == "DEBUG");
        assert!(!low || traces, "{level}: {log}");
    }
}

#[tokio::test]
async fn the_log_can_go_to_a_file_which_is_appended_to() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("coracle.log");
    let config = format!("[http]\nopen = true\n[log]\nformat = 'json'\noutput = '{}'\n", file.display());
    for starts in 1..=2 {
        let running = Program::serve_with(root.path(), &config).start();
        running.anonymous().get("/livez").send().await.status(200);
        let stderr = running.stop().stderr;
        assert!(json_lines(&stderr).is_empty() && stderr.contains("data directory"), "{stderr}");
        assert_eq!(requests(&std::fs::read_to_string(&file).unwrap()).len(), starts);
    }
    let config = format!("[log]\noutput = '{}/none/coracle.log'\n", root.path().display());
    let refused = Program::serve_with(root.path(), &config).run();
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("log.output"), "{}", refused.stderr);
}

#[tokio::test]
async fn with_too_little_room_left_nothing_is_pushed_and_everything_else_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let roomy = Program::serve_with(data.path(), "storage.minFreeSpace = 0").with_admin().start();
    let admin = roomy.user(ADMIN);
    let manifest = push_image(&admin, "app", "1", 1).await.to_string();
    let digest = push_blob(&admin, "app", b"a layer").await;
    let upload = start_upload(&admin, "app").await;
    assert_eq!(roomy.stop().code, Some(0));

    // More than any disk has.
    let full = Program::serve_with(data.path(), "storage.minFreeSpace = '4000000TiB'").start();
    let admin = full.user(ADMIN);
    for (refused, body) in [
        (admin.post("/v2/app/blobs/uploads/"), ""),
        (admin.post(&format!("/v2/app/blobs/uploads/?digest={digest}")), "a layer"),
        (admin.post(&format!("/v2/other/blobs/uploads/?mount={digest}&from=app")), ""),
        (admin.patch(&upload), "a layer"),
        (admin.put(&format!("{upload}?digest={digest}")), "a layer"),
        (admin.put("/v2/app/manifests/2"), &manifest),
    ] {
        let answer = refused.body(body.to_owned()).send().await.error(507, "UNKNOWN");
        assert!(answer.header("retry-after").is_some());
        assert!(answer.text().contains("the registry's disk is full"), "{}", answer.text());
    }
    admin.get(&upload).send().await.status(204).has("range", "0-0");
    admin.get("/v2/app/manifests/1").send().await.status(200);
    admin.get(&format!("/v2/app/blobs/{digest}")).send().await.status(200);
    let ready = full.anonymous().get("/readyz").send().await.status(200);
    assert!(ready.text().contains("pushes refused") && ready.text().contains("storage.minFreeSpace"));
    let request = admin.get("/metrics").header("accept", "application/openmetrics-text");
    let figures = samples(&request.send().await.status(200).text());
    let figure = |wanted: &str| figures.iter().find(|(name, _)| name == wanted).expect(wanted).1;
    assert!(figure("coracle_storage_min_free_bytes") > 4e18);
    assert!(figure("coracle_storage_free_bytes") > 0.0);
    assert!(figure("coracle_storage_read_only") < 0.5);
    admin.delete(&upload).send().await.status(204);
    admin.delete("/v2/app/manifests/1").send().await.status(202);
    admin.delete(&format!("/v2/app/blobs/{digest}")).send().await.status(202);
    let log = full.stop().stderr;
    assert_eq!(log.matches("storage.minFreeSpace").count(), 6, "one line each: {log}");
}
