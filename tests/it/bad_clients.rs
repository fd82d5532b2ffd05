//! Hostile clients: memory and open files of the real program stay within bounds, and other clients are served
//! meanwhile. `limits.rs` tests single slow clients, and `bad_input.rs` invalid requests.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::connection::Raw;
use crate::support::content::{MANIFEST, noise, push_blob, push_image, sha256};
use crate::support::process::{Program, Running};
use crate::support::raw::exchange;

const MIB: u64 = 1024;

/// An open registry as a process of its own.
fn serve(limits: &str) -> (Running, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    let config = format!("[http]\nopen = true\n[log]\nlevel = 'warn'\n[http.limits]\n{limits}");
    (Program::serve_with(root.path(), &config).start(), root)
}

/// Another client, which is served.
async fn others_are_served(running: &Running, seed: u64) {
    let content = noise(100_000, seed);
    let caller = running.anonymous();
    let digest = push_blob(&caller, "others", &content).await;
    let blob = caller.get(&format!("/v2/others/blobs/{digest}")).send().await.status(200);
    assert_eq!(blob.body, content);
}

/// Waits until something is so.
#[cfg(target_os = "linux")]
async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn thousands_of_silent_connections_cost_little_and_keep_nobody_out() {
    const SILENT: usize = 3000;
    let (running, _root) =
        serve("maxConnections = 4000\nmaxConnectionsPerAddress = 4000\nheaderTimeout = '10m'\nidleTimeout = '10m'\n");
    others_are_served(&running, 1).await;
    let before = (running.resident_most(), running.handles());
    let mut silent = Vec::new();
    for number in 0..SILENT {
        let mut connection = Raw::connect(running.address()).await;
        match number % 3 {
            0 => {}
            1 => connection.send("GET /v2/ HTTP/1.1\r\nhost: localhost\r\nx-").await,
            _ => {
                connection.send("GET /v2/ HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
                assert_eq!(connection.answer().await.status, 200);
            }
        }
        silent.push(connection);
    }
    others_are_served(&running, 2).await;
    // The last of them may still wait to be accepted, and of those who were served before some may have gone since.
    until("the connections are held", || running.handles() + 4 >= before.1 + SILENT as u64).await;
    let cost = running.resident_most() - before.0;
    assert!(cost < 128 * MIB, "{SILENT} silent connections cost {cost} KiB");
    drop(silent);
    until("the connections are closed", || running.handles() <= before.1 + 4).await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_open_uploads_cost_no_handles_and_little_memory() {
    const UPLOADS: usize = 10_000;
    const CLIENTS: usize = 4;
    let (running, root) = serve("");
    others_are_served(&running, 1).await;
    let before = (running.resident_most(), running.handles());
    let clients = (0..CLIENTS).map(|_| tokio::spawn(begin_uploads(running.address(), UPLOADS / CLIENTS)));
    let mut last = Vec::new();
    for client in futures_util::future::join_all(clients).await {
        last.push(client.unwrap());
    }
    assert_eq!(std::fs::read_dir(root.path().join("uploads")).unwrap().count(), UPLOADS);
    assert!(running.handles() <= before.1 + 4, "{} files are open, of {} before", running.handles(), before.1);
    let cost = running.resident_most() - before.0;
    assert!(cost < 24 * MIB, "{UPLOADS} open uploads cost {cost} KiB");
    others_are_served(&running, 2).await;
    // Each of them can be finished.
    for location in last {
        let put = running.anonymous().put(&format!("{location}?digest={}", sha256(b"first, and last")));
        put.body(", and last").send().await.status(201);
    }
}

/// Begins so many uploads, each with some bytes, and says where the last one goes on.
async fn begin_uploads(address: SocketAddr, count: usize) -> String {
    let mut connection = Raw::connect(address).await;
    let mut location = String::new();
    for _ in 0..count {
        connection.send("POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n").await;
        let started = connection.answer().await;
        assert_eq!(started.status, 202, "{}", started.head);
        let header = started.head.lines().find_map(|line| line.strip_prefix("location: "));
        location = header.unwrap().to_owned();
        connection
            .send(format!("PATCH {location} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nfirst"))
            .await;
        assert_eq!(connection.answer().await.status, 202);
    }
    location
}

/// A chunk of one byte takes six on the wire, and many times as much where it is kept as a piece of its own.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_bodies_in_the_smallest_chunks_cost_little() {
    const CLIENTS: usize = 16;
    let (running, _root) = serve("");
    others_are_served(&running, 1).await;
    let before = running.resident_most();
    let flood = "1\r\nx\r\n".repeat(64 << 10);
    let mut senders = Vec::new();
    for _ in 0..CLIENTS {
        let mut connection = Raw::connect(running.address()).await;
        let head = "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
        connection.send(head).await;
        let started = connection.answer().await;
        let location = started.head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap().to_owned();
        let flood = flood.clone();
        senders.push(tokio::spawn(async move {
            let head = format!("PATCH {location} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
            connection.send(head).await;
            for _ in 0..8 {
                connection.send(&flood).await;
            }
            connection
        }));
    }
    others_are_served(&running, 2).await;
    for sender in senders {
        sender.await.unwrap();
    }
    let cost = running.resident_most() - before;
    println!("{CLIENTS} endless bodies cost {cost} KiB");
    assert!(cost < CLIENTS as u64 * 2 * MIB, "{CLIENTS} endless bodies cost {cost} KiB");
}

/// Manifests that are as large, as deep or as long as they can be, from many clients at once.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_that_unfold_cost_little() {
    const CLIENTS: usize = 8;
    let (running, _root) = serve("");
    others_are_served(&running, 1).await;
    let before = running.resident_most();
    let long = "{},".repeat((4 << 20) / 3 - 100);
    let descriptor = format!("{{\"mediaType\":\"x/y\",\"digest\":\"{}\",\"size\":1}},", sha256(b""));
    let bombs = [
        format!("{{\"schemaVersion\":2,\"layers\":[{long}{{}}]}}"),
        format!("{{\"schemaVersion\":2,\"x\":{}", "[".repeat(4_000_000)),
        format!("{{\"schemaVersion\":2,\"x\":{}", "{\"a\":".repeat(800_000)),
        format!("{{\"schemaVersion\":2,\"annotations\":{{{}\"z\":\"\"}}}}", "\"a\":\"\",".repeat(500_000)),
        format!("{{\"schemaVersion\":2,\"layers\":[{}{{}}]}}", descriptor.repeat(9_990 * 3)),
    ];
    for bomb in bombs {
        assert!(bomb.len() <= 4 << 20, "{} bytes", bomb.len());
        let pushes = (0..CLIENTS).map(|n| {
            let put = running.anonymous().put(&format!("/v2/a/manifests/t{n}"));
            put.header("content-type", MANIFEST).body(bomb.clone()).send()
        });
        for answer in futures_util::future::join_all(pushes).await {
            assert!(answer.status == 400 && answer.body.len() < 64 << 10, "{}", answer.status);
        }
    }
    let cost = running.resident_most() - before;
    println!("{CLIENTS} manifests of 4 MiB at once cost {cost} KiB");
    // Ten times the manifest, most of which is its bytes on their way in.
    assert!(cost < CLIENTS as u64 * 40 * MIB, "{cost} KiB");
    others_are_served(&running, 2).await;
}

/// Between a proxy and the registry, one request must not hide in another (RFC 9112, 11.2).
#[tokio::test]
async fn no_request_hides_in_the_body_of_another() {
    let (running, _root) = serve("");
    let caller = running.anonymous();
    push_image(&caller, "a", "1", 1).await;
    let hidden = "DELETE /v2/a/manifests/1 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let length = hidden.len();
    let framings = [
        // One of the two is used, and the rest of the connection is not read as a request.
        format!("content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n\r\n0\r\n\r\n{hidden}"),
        format!("content-length: 0\r\ncontent-length: {length}\r\n\r\n{hidden}"),
        format!("content-length: {length}\r\ncontent-length: 0\r\n\r\n{hidden}"),
        format!("content-length: 0, {length}\r\n\r\n{hidden}"),
        format!("content-length: 0{length:x}\r\n\r\n{hidden}"),
        format!("content-length : {length}\r\n\r\n{hidden}"),
        format!("content-length: {length}\r\n\tx\r\n\r\n{hidden}"),
        format!("transfer-encoding: xchunked\r\ncontent-length: {length}\r\n\r\n{hidden}"),
        format!("transfer-encoding : chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("transfer-encoding: identity\r\n\r\n{hidden}"),
        format!("transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}"),
        format!("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n{hidden}"),
        format!("x: y\rtransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("transfer-encoding: chunked\r\n\r\n0x{length:x}\r\n{hidden}\r\n0\r\n\r\n"),
        format!("transfer-encoding: chunked\r\n\r\n2\r\nxx{hidden}"),
        format!("transfer-encoding: chunked\r\n\r\n10000000000000000\r\n{hidden}"),
    ];
    for framing in framings {
        let request = format!("PUT /v2/a/manifests/2 HTTP/1.1\r\nhost: localhost\r\n{framing}");
        let answer = exchange(running.address(), request.as_bytes(), true).await;
        assert!(matches!(answer.status, 0 | 400..500), "{framing:?}: {answer:?}");
        let tag = caller.head("/v2/a/manifests/1").send().await;
        assert_eq!(tag.status, 200, "{framing:?} hides a request");
    }
}
