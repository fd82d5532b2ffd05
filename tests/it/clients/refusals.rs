//! Go's `net/http`, Node's, Python's `http.client` and curl, when they are refused while they still send 8 MB.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::home::{CLIENT_MINUTES_MAX, finish, needs};
use crate::support::content::sha256;

const BODY_BYTES: usize = 8_000_000;
const TIMES: usize = 15;

/// Writes a script for a client.
fn script(directory: &Path, name: &str, text: &str) -> PathBuf {
    let file = directory.join(name);
    std::fs::write(&file, text).unwrap();
    file
}

/// Runs a command, and returns what it says.
fn said(command: &mut Command) -> String {
    let (status, output) = finish(command, "", CLIENT_MINUTES_MAX);
    assert!(status.success(), "{command:?}: {}", output.stderr);
    String::from_utf8(output.stdout).unwrap()
}

/// Lets a client push to a registry that refuses it, over HTTP and TLS, with and without an announced length.
async fn refused(client: impl Fn() -> Command + Send + Clone + 'static) {
    for tls in [false, true] {
        let (t, ..) = crate::refusals::registry(tls).await;
        let url = t.running.url().replace("127.0.0.1", "localhost");
        let path = format!("/v2/alice/x/blobs/uploads/?digest={}", sha256(b"another"));
        for length in ["length", "chunked"] {
            let (url, path, client) = (url.clone(), path.clone(), client.clone());
            let run = move || {
                let numbers = [BODY_BYTES, TIMES].map(|number| number.to_string());
                said(client().args([&*url, "POST", &*path]).args(numbers).arg(length))
            };
            let seen = tokio::task::spawn_blocking(run).await.unwrap();
            let seen: Value = serde_json::from_str(&seen).unwrap();
            assert_eq!(seen, json!({ "401": TIMES }), "tls: {tls}, {length}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_reads_a_refusal() {
    needs!(PYTHON);
    let directory = tempfile::tempdir().unwrap();
    let script = script(directory.path(), "refusals.py", include_str!("refusals.py"));
    refused(move || {
        let mut command = Command::new("python3");
        command.arg(&script);
        command
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_reads_a_refusal() {
    needs!(NODE);
    let directory = tempfile::tempdir().unwrap();
    let script = script(directory.path(), "refusals.js", include_str!("refusals.js"));
    refused(move || {
        let mut command = Command::new("node");
        command.arg(&script);
        command
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_reads_a_refusal() {
    needs!(GO);
    let directory = tempfile::tempdir().unwrap();
    let script = script(directory.path(), "refusals.go", include_str!("refusals.go"));
    let program = directory.path().join("refusals");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg(&script);
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
    build.env("GOCACHE", cache).env("GOTOOLCHAIN", "local").env("GOPROXY", "off").env("GOFLAGS", "");
    tokio::task::spawn_blocking(move || said(&mut build)).await.unwrap();
    for http1 in ["", "1"] {
        let program = program.clone();
        refused(move || {
            let mut command = Command::new(&program);
            command.env("HTTP1", http1);
            command
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_reads_a_refusal() {
    needs!(CURL);
    let directory = tempfile::tempdir().unwrap();
    let body = directory.path().join("body");
    std::fs::write(&body, vec![0; BODY_BYTES]).unwrap();
    for tls in [false, true] {
        let (t, ..) = crate::refusals::registry(tls).await;
        let url = t.running.url().replace("127.0.0.1", "localhost");
        for options in [&["--http1.1"][..], &["--http1.1", "-H", "Expect:"], &["--http2", "-H", "Expect:"]] {
            for _ in 0..3 {
                let mut command = Command::new("curl");
                command.args(["-sk", "-o", "/dev/null", "-w", "%{http_code}"]).args(options);
                command.arg("--data-binary").arg(format!("@{}", body.display()));
                command.arg(format!("{url}/v2/alice/x/blobs/uploads/?digest={}", sha256(b"another")));
                let seen = tokio::task::spawn_blocking(move || said(&mut command)).await.unwrap();
                assert_eq!(seen, "401", "tls: {tls}, {options:?}");
            }
        }
    }
}
