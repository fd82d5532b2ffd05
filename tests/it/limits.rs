//! Limits for slow, silent and greedy clients. A slow but steady client must still succeed.

use std::time::Duration;

use coracle::{AccessPolicy, Registry};
use tokio::time::sleep;

use crate::support::TestRegistry;
use crate::support::connection::Raw;
use crate::support::content::{noise, push_blob, sha256};
use crate::support::process::Program;

/// An open registry with these settings under `http.limits`.
async fn limited(limits: &str) -> TestRegistry {
    let config = coracle::config::Config::from_toml_str(&format!("[http.limits]\n{limits}")).unwrap().config;
    TestRegistry::start(Registry::builder().config(config).policy(AccessPolicy::Open)).await
}

async fn connect(t: &TestRegistry) -> Raw {
    Raw::connect(t.running.address()).await
}

/// The figure of one line of the metrics.
async fn figure(t: &TestRegistry, name: &str) -> Option<u64> {
    let metrics = t.anonymous().get("/metrics").send().await.status(200).text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.map(|figure| figure.parse().unwrap())
}

#[tokio::test]
async fn a_slow_but_steady_upload_outlives_every_timeout() {
    let t = limited("headerTimeout = '300ms'\nidleTimeout = '300ms'\nbodyIdleTimeout = '300ms'\n").await;
    let content = noise(30_000, 1);
    let mut upload = connect(&t).await;
    let path = format!("/v2/a/blobs/uploads/?digest={}", sha256(&content));
    upload.send(format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", content.len())).await;
    // The pace is what is tested: twenty pauses of 50 ms make a second.
    for piece in content.chunks(1500) {
        upload.send(piece).await;
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(upload.answer().await.status, 201);
    let blob = t.anonymous().get(&format!("/v2/a/blobs/{}", sha256(&content))).send().await.status(200);
    assert_eq!(blob.body, content);
}

#[tokio::test]
async fn a_silent_upload_ends_with_408_and_keeps_its_bytes() {
    let t = limited("bodyIdleTimeout = '200ms'\n").await;
    let location = t.anonymous().post("/v2/a/blobs/uploads/").send().await.status(202).location();
    let mut upload = connect(&t).await;
    upload.send(format!("PATCH {location} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n0123")).await;
    let answer = upload.answer().await;
    assert_eq!(answer.status, 408);
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
    assert_eq!(upload.drain().await, 0, "and the connection is closed");

    t.anonymous().get(&location).send().await.status(204).has("range", "0-3");
    let last = format!("{location}?digest={}", sha256(b"0123456789"));
    t.anonymous().put(&last).header("content-range", "4-9").body("456789").send().await.status(201);
}

#[tokio::test]
async fn a_silent_monolithic_push_leaves_nothing_behind() {
    let t = limited("bodyIdleTimeout = '200ms'\n").await;
    let mut push = connect(&t).await;
    let digest = sha256(b"0123456789");
    push.send(format!(
        "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n0123"
    ))
    .await;
    assert_eq!(push.answer().await.status, 408);
    let left = std::fs::read_dir(t.registry.data_dir().join("uploads")).unwrap().count();
    assert_eq!(left, 0, "no client knows the id, so no client can continue");
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let t = limited("headerTimeout = '200ms'\nidleTimeout = '200ms'\n").await;
    assert_eq!(connect(&t).await.drain().await, 0, "a connection that never sends anything");
    let mut used = connect(&t).await;
    used.send("GET /v2/ HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(used.answer().await.status, 200);
    assert_eq!(used.drain().await, 0, "a connection between two requests");
}

#[tokio::test]
async fn a_head_that_arrives_slowly_runs_out_of_time() {
    let t = limited("headerTimeout = '300ms'\nidleTimeout = '1h'\n").await;
    for requests_before in 0..2 {
        let mut connection = connect(&t).await;
        for _ in 0..requests_before {
            connection.send("GET /v2/ HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
            assert_eq!(connection.answer().await.status, 200);
        }
        connection.send("GET /v2/ HTTP/1.1\r\nhost: localhost\r\n").await;
        let mut dripped = 0;
        while connection.is_silent_for(Duration::from_millis(50)).await {
            connection.send("x").await;
            dripped += 1;
            assert!(dripped < 600, "the head has no time limit");
        }
        assert_eq!(connection.drain().await, 0);
    }
}

#[tokio::test]
async fn a_small_body_has_its_own_time_however_steadily_it_drips() {
    let t = limited("headerTimeout = '300ms'\nbodyIdleTimeout = '1h'\n").await;
    for (line, framing) in [
        ("PUT /v2/a/manifests/1", "content-length: 2000"),
        ("POST /v2/auth", "content-length: 2000"),
        ("POST /v2/auth", "transfer-encoding: chunked"),
    ] {
        let mut connection = connect(&t).await;
        connection.send(format!("{line} HTTP/1.1\r\nhost: localhost\r\n{framing}\r\n\r\n")).await;
        let piece = if framing.contains("chunked") { "1\r\nx\r\n" } else { "x" };
        let mut dripped = 0;
        while connection.is_silent_for(Duration::from_millis(50)).await {
            connection.send(piece).await;
            dripped += 1;
            assert!(dripped < 600, "{line}: it may go on for ever");
        }
        assert_eq!(connection.answer().await.status, 408, "{line}");
    }
}

#[tokio::test]
async fn a_connection_may_be_idle_longer_than_a_head_may_take() {
    let t = limited("headerTimeout = '100ms'\nidleTimeout = '1h'\n").await;
    let mut connection = connect(&t).await;
    for _ in 0..3 {
        connection.send("GET /v2/ HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert_eq!(connection.answer().await.status, 200);
        // The idle time is under test.
        assert!(connection.is_silent_for(Duration::from_millis(300)).await, "closed too early");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected() {
    let t = limited("bodyIdleTimeout = '300ms'\n").await;
    let content = noise(24 << 20, 6);
    let digest = push_blob(&t.anonymous(), "a", &content).await;
    let mut greedy = Raw::connect_narrow(t.running.address()).await;
    greedy.send(format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
    // It does not read. That it is gone shows in the number of connections, one of which is asking.
    let mut asked = 0;
    while figure(&t, "coracle_http_connections").await != Some(1) {
        asked += 1;
        assert!(asked < 2000, "the connection is held");
        sleep(Duration::from_millis(10)).await;
    }
    let got = greedy.drain().await;
    assert!(got < content.len(), "{got} bytes came: the test holds too little back");
}

#[tokio::test]
async fn a_slow_reader_gets_everything() {
    let t = limited("bodyIdleTimeout = '1s'\n").await;
    let content = noise(30 << 20, 7);
    let digest = push_blob(&t.anonymous(), "a", &content).await;
    let mut slow = connect(&t).await;
    slow.send(format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await;
    // The pace is what is tested: three seconds for what does not fit into the system's buffers.
    let got = slow.drain_slowly(Duration::from_millis(25), 256 << 10).await;
    assert!(got > content.len(), "{got} bytes came, of {} and a head", content.len());
}

#[tokio::test]
async fn headers_and_request_lines_have_limits() {
    let t = TestRegistry::open().await;
    let cases: [(&str, String, u16); 8] = [
        ("many headers", format!("GET /v2/ HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "a: b\r\n".repeat(98)), 200),
        ("too many", format!("GET /v2/ HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "a: b\r\n".repeat(101)), 431),
        ("long headers", format!("GET /v2/ HTTP/1.1\r\nhost: localhost\r\na: {}\r\n\r\n", "b".repeat(30 << 10)), 200),
        ("too long", format!("GET /v2/ HTTP/1.1\r\nhost: localhost\r\na: {}\r\n\r\n", "b".repeat(33 << 10)), 431),
        ("far too long", format!("GET /v2/ HTTP/1.1\r\nhost: localhost\r\na: {}\r\n\r\n", "b".repeat(600 << 10)), 431),
        ("without end", format!("GET /v2/ HTTP/1.1\r\nhost: localhost\r\na: {}", "b".repeat(100 << 10)), 431),
        ("long line without end", format!("GET /v2/{}", "a".repeat(60 << 10)), 414),
        ("long line", format!("GET /v2/{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "a".repeat(9 << 10)), 414),
    ];
    for (what, request, status) in cases {
        let mut connection = connect(&t).await;
        connection.send(request).await;
        assert_eq!(connection.answer().await.status, status, "{what}");
    }
    // A request line can be longer than hyper is ready to read at all.
    let mut connection = connect(&t).await;
    connection.send(format!("GET /v2/{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "a".repeat(70 << 10))).await;
    assert_eq!(connection.answer().await.status, 414);
    t.anonymous().get("/v2/").send().await.status(200);
}

#[tokio::test]
async fn one_request_too_many_waits_for_a_place() {
    let t = limited("maxConnections = 2\n").await;
    let request = "GET /v2/ HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let (mut first, mut second) = (connect(&t).await, connect(&t).await);
    for connection in [&mut first, &mut second] {
        let path = format!("/v2/a/blobs/uploads/?digest={}", sha256(b"0123456789"));
        connection.send(format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n01234")).await;
    }
    // Both requests are in flight once the file of each upload is there.
    while std::fs::read_dir(t.registry.data_dir().join("uploads")).unwrap().count() < 2 {
        sleep(Duration::from_millis(10)).await;
    }
    let mut third = connect(&t).await;
    third.send(request).await;
    assert!(third.is_silent_for(Duration::from_millis(300)).await, "it was answered without a place");
    drop(first);
    assert_eq!(third.answer().await.status, 200);
    second.send("56789").await;
    assert_eq!(second.answer().await.status, 201);
}

#[tokio::test]
async fn a_body_shorter_than_announced_is_refused() {
    let t = TestRegistry::open().await;
    let digest = sha256(b"01234");
    for path in [format!("/v2/a/blobs/uploads/?digest={digest}"), "/v2/a/manifests/1".to_owned()] {
        let method = if path.contains("uploads") { "POST" } else { "PUT" };
        let mut connection = connect(&t).await;
        connection
            .send(format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n01234"))
            .await;
        connection.finish_sending().await;
        // The client has said that nothing more comes: it hears a refusal, or nothing.
        let answer = connection.try_answer().await;
        assert!(answer.as_ref().is_none_or(|answer| answer.status == 400), "{path}: {answer:?}");
    }
    t.anonymous().get(&format!("/v2/a/blobs/{digest}")).send().await.status(404);
    t.anonymous().get("/v2/a/manifests/1").send().await.status(404);
}

#[tokio::test]
async fn a_body_longer_than_announced_is_cut() {
    let t = TestRegistry::open().await;
    let digest = sha256(b"01234");
    let mut connection = connect(&t).await;
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    connection
        .send(format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n0123456789\r\n\r\n"))
        .await;
    assert_eq!(connection.answer().await.status, 201, "five bytes were announced, and five were taken");
    assert_eq!(connection.answer().await.status, 400, "what follows is not a request");
    assert_eq!(connection.drain().await, 0);
    let blob = t.anonymous().get(&format!("/v2/a/blobs/{digest}")).send().await.status(200);
    assert_eq!(blob.body, "01234");
}

#[tokio::test]
async fn a_chunk_that_differs_from_its_range_changes_nothing() {
    let t = TestRegistry::open().await;
    let location = t.anonymous().post("/v2/a/blobs/uploads/").send().await.status(202).location();
    for (range, body) in [("0-9", "01234"), ("0-3", "01234")] {
        let chunk = t.anonymous().patch(&location).header("content-range", range);
        chunk.body(body).send().await.error(400, "SIZE_INVALID");
        let chunk = t.anonymous().patch(&location).header("content-range", range);
        chunk.chunked(vec![body.into()]).send().await.error(400, "SIZE_INVALID");
        t.anonymous().get(&location).send().await.status(204).has("range", "0-0");
    }
    let last = format!("{location}?digest={}", sha256(b"01234"));
    t.anonymous().put(&last).body("01234").send().await.status(201);
}

#[tokio::test]
async fn a_manifest_has_a_largest_size_announced_or_not() {
    let t = TestRegistry::open().await;
    let body = noise((4 << 20) + 1, 8);
    t.anonymous().put("/v2/a/manifests/1").body(body.clone()).send().await.error(413, "MANIFEST_INVALID");
    let pieces: Vec<_> = body.chunks(100_000).map(bytes::Bytes::copy_from_slice).collect();
    t.anonymous().put("/v2/a/manifests/1").chunked(pieces).send().await.error(413, "MANIFEST_INVALID");
}

#[test]
fn every_configurable_limit_is_documented_with_its_default() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
    let keys = Program::new(["check-config", "--keys"]).run();
    let mut seen = 0;
    for line in keys.stdout.lines().filter(|line| line.starts_with("http.limits.")) {
        let mut columns = line.split_whitespace();
        let row = format!("| `{}` | {} |", columns.next().unwrap(), columns.next().unwrap());
        assert!(page.contains(&row), "docs/configuration.md has no row {row}");
        seen += 1;
    }
    assert!(seen >= 6, "only {seen} limits: {}", keys.stdout);
}
