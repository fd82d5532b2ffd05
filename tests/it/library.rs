//! The registry inside another program: several at once, without a socket, and gone when dropped.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use coracle::{AccessPolicy, Error, Registry};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use tokio::net::TcpStream;

use crate::support::TestRegistry;
use crate::support::connection::Raw;
use crate::support::content::{noise, push_blob, push_image, sha256};

#[tokio::test]
async fn two_registries_in_one_process_do_not_know_of_each_other() {
    let (one, other) = (TestRegistry::with_users().await, TestRegistry::open().await);
    assert_ne!(one.running.address(), other.running.address());
    assert_ne!(one.registry.data_dir(), other.registry.data_dir());
    push_image(&other.anonymous(), "alice/a", "1", 1).await;
    let alice = one.user(crate::support::registry::ALICE);
    alice.get("/v2/alice/a/manifests/1").send().await.error(404, "NAME_UNKNOWN");
    // An upload of one registry is unknown in the other.
    let location = alice.post("/v2/alice/a/blobs/uploads/").send().await.status(202).location();
    other.anonymous().get(&location).send().await.error(404, "BLOB_UPLOAD_UNKNOWN");
    // Each counts what is its own.
    one.anonymous().get("/livez").send().await.status(200);
    let metrics = other.anonymous().get("/metrics").send().await.status(200).text();
    assert!(!metrics.contains("code=\"202\""), "{metrics}");
}

#[tokio::test]
async fn a_request_is_answered_without_a_socket() {
    let registry = Registry::builder().temporary().policy(AccessPolicy::Open).open().unwrap();
    let content = Bytes::from_static(b"without a socket");
    let digest = sha256(&content);
    let push = Request::post(format!("/v2/a/blobs/uploads/?digest={digest}")).body(Full::new(content.clone())).unwrap();
    assert_eq!(registry.answer(push).await.status(), 201);
    let pull = Request::get(format!("/v2/a/blobs/{digest}")).body(Full::default()).unwrap();
    let response = registry.answer(pull).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), content);
    let head = Request::head(format!("/v2/a/blobs/{digest}")).body(Full::default()).unwrap();
    let response = registry.answer(head).await;
    assert_eq!(response.headers()["content-length"], content.len().to_string());
    assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
}

#[tokio::test]
async fn dropping_a_running_registry_stops_it() {
    let t = TestRegistry::open().await;
    let address = t.running.address();
    let mut connection = Raw::connect(address).await;
    connection.send("GET /v2/ HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(connection.answer().await.status, 200);
    drop(t.running);
    // Open connections end, and no new one is accepted.
    assert_eq!(connection.drain().await, 0);
    let begun = Instant::now();
    // A program that another test starts has the listening socket until its exec.
    while TcpStream::connect(address).await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(30), "new connections are accepted");
        tokio::task::yield_now().await;
    }
    // The registry itself is still there, and can be served again.
    let again = t.registry.spawn_local().await.unwrap();
    crate::support::http::Caller::new(again.address(), None).get("/v2/").send().await.status(200);
}

#[tokio::test]
async fn giving_up_on_a_shutdown_stops_at_once() {
    let t = TestRegistry::open().await;
    let mut upload = Raw::connect(t.running.address()).await;
    upload
        .send("POST /v2/a/blobs/uploads/?digest=sha256: HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n")
        .await;
    let mut slow = Raw::connect(t.running.address()).await;
    slow.send(format!(
        "POST /v2/a/blobs/uploads/?digest={} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nabc",
        sha256(b"x")
    ))
    .await;
    assert_eq!(upload.answer().await.status, 400);
    assert!(tokio::time::timeout(Duration::from_millis(50), t.running.shutdown()).await.is_err());
    // The default would have given it thirty seconds.
    assert!(tokio::time::timeout(Duration::from_secs(10), slow.drain()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_waits_for_running_requests_and_then_nothing_is_left() {
    let root = tempfile::tempdir().unwrap();
    let open = || Registry::builder().data_dir(root.path()).policy(AccessPolicy::Open).open();
    let content = noise(50_000, 5);
    let digest = sha256(&content);
    // Several times: what is left over would be left over for a moment only.
    for round in 0..5 {
        let registry = open().unwrap();
        let running = registry.spawn_local().await.unwrap();
        let caller = crate::support::http::Caller::new(running.address(), None);
        let mut upload = Raw::connect(running.address()).await;
        let path = format!("/v2/r{round}/blobs/uploads/?digest={digest}");
        upload
            .send(format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", content.len()))
            .await;
        upload.send(&content[..10]).await;
        // The other connection's answer comes after the upload's head has been read, or nearly so.
        push_blob(&caller, "other", format!("{round}").as_bytes()).await;
        let shutdown = tokio::spawn(running.shutdown());
        upload.send(&content[10..]).await;
        assert_eq!(upload.answer().await.status, 201, "round {round}");
        tokio::time::timeout(Duration::from_secs(20), shutdown).await.unwrap().unwrap();
        drop(registry);
        let again = open().unwrap_or_else(|error| panic!("round {round}: {error}"));
        drop(again);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_shutdown_that_cut_uploads_the_directory_is_free() {
    let root = tempfile::tempdir().unwrap();
    let config =
        coracle::config::Config::from_toml_str("[http]\nopen = true\nlimits.shutdownTimeout = '1ms'\n").unwrap();
    for round in 0..10 {
        let registry = Registry::builder().config(config.config.clone()).data_dir(root.path()).open();
        let registry = registry.unwrap_or_else(|error| panic!("round {round}: {error}"));
        let running = registry.spawn_local().await.unwrap();
        let mut uploads = Vec::new();
        for _ in 0..4 {
            let mut upload = Raw::connect(running.address()).await;
            let head = format!("POST /v2/a/blobs/uploads/?digest={} HTTP/1.1\r\nhost: localhost\r\n", sha256(b"never"));
            upload.send(format!("{head}content-length: 900000\r\n\r\n")).await;
            upload.send(noise(300_000, round)).await;
            uploads.push(upload);
        }
        running.shutdown().await;
        drop(registry);
    }
}

/// Between its fork and its exec, a child process has copies of all file descriptors, of the locked one as well.
#[test]
fn a_directory_is_free_at_once_although_the_program_starts_others() {
    let root = tempfile::tempdir().unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    Command::new("true").status().unwrap();
                }
            });
        }
        let mut refused = 0;
        for _ in 0..100 {
            refused += u32::from(Registry::builder().data_dir(root.path()).open().is_err());
        }
        over.store(true, Ordering::Relaxed);
        assert_eq!(refused, 0);
    });
}

#[test]
fn a_data_directory_has_one_registry() {
    let root = tempfile::tempdir().unwrap();
    let open = || Registry::builder().data_dir(root.path()).open();
    let first = open().unwrap();
    let clone = first.clone();
    drop(first);
    match open() {
        Err(Error::InUse { root: named }) => assert_eq!(named, root.path()),
        other => panic!("{other:?}"),
    }
    drop(clone);
    open().unwrap();
}

#[test]
fn a_registry_needs_a_directory_and_users_need_names() {
    assert!(matches!(Registry::builder().open(), Err(Error::NoDataDirectory)));
    for name in ["", "a:b", "a\nb", &"a".repeat(256)] {
        let refused = Registry::builder().temporary().user(name, "secret").open();
        assert!(matches!(refused, Err(Error::InvalidUser { .. })), "{name:?}");
    }
    // A password that no client could send is refused.
    for password in ["", &"x".repeat(1025)] {
        let refused = Registry::builder().temporary().user("alice", password).open();
        assert!(matches!(refused, Err(Error::InvalidUser { .. })), "{} characters", password.len());
    }
}
