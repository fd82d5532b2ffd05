//! "Pushing a blob in chunks": order, status, what breaks off, and who else is writing.

use std::time::Duration;

use bytes::Bytes;
use coracle::config::Config;
use coracle::{AccessPolicy, Registry};
use http_body_util::{Full, StreamBody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::TestRegistry;
use crate::support::content::{assert_blob, noise, sha256, sha512, start_upload, until_received};
use crate::support::http::{Answer, Caller};

async fn patch(caller: &Caller, location: &str, range: &str, chunk: &[u8]) -> Answer {
    caller.patch(location).header("content-range", range).body(chunk.to_vec()).send().await
}

async fn finish(caller: &Caller, location: &str, content: &[u8]) {
    let digest = sha256(content);
    let put = caller.put(&format!("{location}?digest={digest}")).send().await.status(201);
    assert_eq!(put.has("docker-content-digest", &digest).location(), format!("/v2/a/blobs/{digest}"));
    assert_blob(caller, "a", &digest, content).await;
}

async fn begin() -> (TestRegistry, Caller, String) {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let location = start_upload(&caller, "a").await;
    (t, caller, location)
}

#[tokio::test]
async fn chunks_in_order_are_202_with_the_range_reached() {
    let (_t, caller, mut location) = begin().await;
    let content = noise(700_000, 1);
    for (first, last) in [(0, 0), (1, 299_999), (300_000, 699_999)] {
        let answer = patch(&caller, &location, &format!("{first}-{last}"), &content[first..=last]).await.status(202);
        location = answer.has("range", &format!("0-{last}")).has("content-length", "0").location();
    }
    finish(&caller, &location, &content).await;
}

#[tokio::test]
async fn chunks_without_content_range_are_appended() {
    let (_t, caller, location) = begin().await;
    let content = noise(500_000, 2);
    let parts = content[1000..].chunks(70_000).map(Bytes::copy_from_slice).collect();
    let first = caller.patch(&location).body(content.slice(..1000)).send().await.status(202);
    first.has("range", "0-999");
    caller.patch(&location).chunked(parts).send().await.status(202).has("range", "0-499999");
    finish(&caller, &location, &content).await;
}

#[tokio::test]
async fn the_final_chunk_may_come_with_the_put() {
    for how in ["content-range", "no content-range", "chunked", "chunked with content-range"] {
        let (_t, caller, location) = begin().await;
        patch(&caller, &location, "0-4", b"01234").await.status(202);
        let put = caller.put(&format!("{location}?digest={}", sha256(b"0123456789")));
        let chunks = || vec![Bytes::from("567"), Bytes::from("89")];
        let put = match how {
            "content-range" => put.header("content-range", "5-9").body("56789"),
            "no content-range" => put.body("56789"),
            "chunked" => put.chunked(chunks()),
            _ => put.header("content-range", "5-9").chunked(chunks()),
        };
        put.send().await.status(201);
        assert_blob(&caller, "a", &sha256(b"0123456789"), b"0123456789").await;
    }
}

#[tokio::test]
async fn an_empty_chunk_is_202_and_changes_nothing() {
    let (_t, caller, location) = begin().await;
    caller.patch(&location).send().await.status(202).has("range", "0-0");
    caller.patch(&location).chunked(Vec::new()).send().await.status(202).has("range", "0-0");
    patch(&caller, &location, "0-3", b"0123").await.status(202).has("range", "0-3");
    caller.patch(&location).send().await.status(202).has("range", "0-3");
    finish(&caller, &location, b"0123").await;
}

#[tokio::test]
async fn the_status_of_an_upload_is_204_with_the_range_reached() {
    let (_t, caller, location) = begin().await;
    for (chunk, reached) in [("", "0-0"), ("0", "0-0"), ("1", "0-1"), ("2345", "0-5")] {
        caller.patch(&location).body(chunk).send().await.status(202);
        for request in [caller.get(&location), caller.head(&location)] {
            let answer = request.send().await.status(204).has("range", reached);
            assert_eq!(answer.location(), location);
            assert!(answer.body.is_empty());
        }
    }
    finish(&caller, &location, b"012345").await;
}

#[tokio::test]
async fn a_chunk_out_of_order_is_416_with_the_range_reached() {
    let (_t, caller, location) = begin().await;
    patch(&caller, &location, "5-9", b"56789").await.error(416, "BLOB_UPLOAD_INVALID").has("range", "0-0");
    patch(&caller, &location, "0-9", b"0123456789").await.status(202);
    // Again, overlapping, and with a gap.
    for (range, length) in [("0-9", 10), ("9-12", 4), ("5-20", 16), ("11-12", 2), ("1000-1009", 10)] {
        let refused = patch(&caller, &location, range, &b"x".repeat(length)).await;
        let refused = refused.error(416, "BLOB_UPLOAD_INVALID").has("range", "0-9");
        assert_eq!(refused.location(), location, "{range}");
        caller.get(&location).send().await.status(204).has("range", "0-9");
    }
    patch(&caller, &location, "10-12", b"abc").await.status(202).has("range", "0-12");
    finish(&caller, &location, b"0123456789abc").await;
}

#[tokio::test]
async fn a_final_chunk_out_of_order_is_416_with_the_range_reached() {
    let (_t, caller, location) = begin().await;
    patch(&caller, &location, "0-4", b"01234").await.status(202);
    let put = format!("{location}?digest={}", sha256(b"0123456789"));
    for (range, chunk) in [("0-4", "56789"), ("4-8", "56789"), ("6-9", "6789")] {
        let refused = caller.put(&put).header("content-range", range).body(chunk).send().await;
        let refused = refused.error(416, "BLOB_UPLOAD_INVALID").has("range", "0-4");
        assert_eq!(refused.location(), location);
    }
    caller.put(&put).header("content-range", "5-9").body("56789").send().await.status(201);
}

#[tokio::test]
async fn a_chunk_that_is_not_as_long_as_its_content_range_is_400_and_changes_nothing() {
    let (_t, caller, location) = begin().await;
    patch(&caller, &location, "0-2", b"012").await.status(202);
    let whole = format!("{location}?digest={}", sha256(b"01234"));
    for chunk in ["3", "345"] {
        let parts = || vec![Bytes::from(chunk)];
        for request in [caller.patch(&location), caller.put(&whole)] {
            let request = request.header("content-range", "3-4").body(chunk);
            request.send().await.error(400, "SIZE_INVALID");
        }
        // In chunked transfer coding, the length is known only at the end.
        for request in [caller.patch(&location), caller.put(&whole)] {
            let request = request.header("content-range", "3-4").chunked(parts());
            request.send().await.error(400, "SIZE_INVALID");
        }
        caller.get(&location).send().await.status(204).has("range", "0-2");
    }
    patch(&caller, &location, "3-4", b"34").await.status(202).has("range", "0-4");
    finish(&caller, &location, b"01234").await;
}

#[tokio::test]
async fn a_content_range_that_is_none_is_400() {
    let (_t, caller, location) = begin().await;
    for range in
        ["", "-", "0", "0-", "-4", "4-0", "a-b", "0-4-5", "+0-4", "0x0-4", "0-99999999999999999999", "bytes=0-4"]
    {
        patch(&caller, &location, range, b"01234").await.error(400, "BLOB_UPLOAD_INVALID");
        let put = caller.put(&format!("{location}?digest={}", sha256(b"01234")));
        put.header("content-range", range).body("01234").send().await.error(400, "BLOB_UPLOAD_INVALID");
    }
    caller.get(&location).send().await.status(204).has("range", "0-0");
    // As RFC 9110 writes it.
    patch(&caller, &location, "bytes 0-4/*", b"01234").await.status(202);
    patch(&caller, &location, "5-9/10", b"56789").await.status(202);
    finish(&caller, &location, b"0123456789").await;
}

#[tokio::test]
async fn sha512_is_announced_or_found_out_at_the_end() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let content = noise(400_000, 5);
    for start in ["?digest-algorithm=sha512", "", "?digest-algorithm=sha256"] {
        for digest in [sha512(&content), sha256(&content)] {
            let location = caller.post(&format!("/v2/a/blobs/uploads/{start}")).send().await.status(202).location();
            patch(&caller, &location, "0-199999", &content[..200_000]).await.status(202);
            patch(&caller, &location, "200000-399999", &content[200_000..]).await.status(202);
            let put = caller.put(&format!("{location}?digest={digest}")).send().await.status(201);
            put.has("docker-content-digest", &digest);
            assert_blob(&caller, "a", &digest, &content).await;
            caller.delete(&format!("/v2/a/blobs/{digest}")).send().await.status(202);
        }
    }
}

/// A client that is cut off must not begin again: what the registry has received is kept, and the
/// status of the upload says how much that is.
#[tokio::test]
async fn a_patch_that_breaks_off_keeps_its_bytes_and_the_client_goes_on_from_the_status() {
    let content = noise(600_000, 6);
    for head in ["Content-Length: 600000", "Content-Range: 0-599999\r\nContent-Length: 600000"] {
        let (_t, caller, location) = begin().await;
        let mut socket = TcpStream::connect(caller.address()).await.unwrap();
        let head = format!("PATCH {location} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&content[..250_000]).await.unwrap();
        until_received(&caller, &location, 250_000).await;
        drop(socket);
        patch(&caller, &location, "250000-599999", &content[250_000..]).await.status(202).has("range", "0-599999");
        finish(&caller, &location, &content).await;
    }
}

#[tokio::test]
async fn a_put_that_breaks_off_keeps_its_bytes_too() {
    let (_t, caller, location) = begin().await;
    let content = noise(10_000, 7);
    let put = format!("{location}?digest={}", sha256(&content));
    let mut socket = TcpStream::connect(caller.address()).await.unwrap();
    let head = format!("PUT {put} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&content[..4000]).await.unwrap();
    until_received(&caller, &location, 4000).await;
    // This client only says that no more will come, and hears what became of it.
    socket.shutdown().await.unwrap();
    socket.read_to_end(&mut Vec::new()).await.unwrap();
    caller.get(&location).send().await.status(204).has("range", "0-3999");
    caller.put(&put).header("content-range", "4000-9999").body(content.slice(4000..)).send().await.status(201);
    assert_blob(&caller, "a", &sha256(&content), &content).await;
}

#[tokio::test]
async fn two_clients_on_one_upload_do_not_interleave() {
    let (_t, caller, location) = begin().await;
    let (parts, first) = caller.patch(&location).header("content-range", "0-5").piecewise();
    let first = tokio::spawn(first.send());
    parts.send(Bytes::from("012")).unwrap();
    until_received(&caller, &location, 3).await;
    // The other client has read the status, and goes on from there; so it has to wait, and is told
    // afterwards that this is not the place any more.
    let other = patch(&caller, &location, "3-5", b"xyz");
    let ending = async {
        parts.send(Bytes::from("345")).unwrap();
        drop(parts);
    };
    let (refused, ()) = tokio::join!(other, ending);
    first.await.unwrap().status(202).has("range", "0-5");
    refused.error(416, "BLOB_UPLOAD_INVALID").has("range", "0-5");
    finish(&caller, &location, b"012345").await;
}

/// In process and on a paused clock, since the registry waits some seconds before it says so.
#[tokio::test(start_paused = true)]
async fn a_client_that_finds_another_one_writing_for_long_is_told_409() {
    let registry = Registry::builder().policy(AccessPolicy::Open).temporary().open().unwrap();
    let request = |method: &str, path: &str| hyper::Request::builder().method(method).uri(path);
    let start = request("POST", "/v2/a/blobs/uploads/").body(Full::<Bytes>::default()).unwrap();
    let started = registry.answer(start).await;
    let location = started.headers()["location"].to_str().unwrap().to_owned();
    // A body that begins and never ends; that it is asked for more says that it is being written.
    let (asked, mut was_asked) = tokio::sync::mpsc::unbounded_channel();
    let mut first = Some(Bytes::from("012"));
    let body = StreamBody::new(futures_util::stream::poll_fn(move |_| {
        if let Some(part) = first.take() {
            return std::task::Poll::Ready(Some(Ok::<_, std::io::Error>(hyper::body::Frame::data(part))));
        }
        asked.send(()).unwrap();
        std::task::Poll::Pending
    }));
    let patch = request("PATCH", &location).body(body).unwrap();
    let writing = tokio::spawn({
        let registry = registry.clone();
        async move { registry.answer(patch).await.status() }
    });
    was_asked.recv().await.unwrap();
    let other = request("PATCH", &location).body(Full::from("xyz")).unwrap();
    let refused = registry.answer(other).await;
    assert_eq!(refused.status(), 409);
    assert!(refused.headers().contains_key("retry-after"));
    writing.abort();
}

#[tokio::test]
async fn an_upload_that_nobody_continues_expires() {
    let config = Config::from_toml_str("storage.uploadExpiry = \"5s\"").unwrap().config;
    let t = TestRegistry::start(Registry::builder().config(config).policy(AccessPolicy::Open)).await;
    let caller = t.anonymous();
    let [old, young] = [start_upload(&caller, "a").await, start_upload(&caller, "a").await];
    caller.patch(&old).body("some").send().await.status(202);
    let expired = async {
        while caller.get(&old).send().await.status != 404 {
            caller.patch(&young).body("s").send().await.status(202);
            // A server looks through the uploads when it starts.
            t.registry.spawn_local().await.unwrap().shutdown().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), expired).await.expect("the old upload expires");
    caller.patch(&old).body("more").send().await.error(404, "BLOB_UPLOAD_UNKNOWN");
    caller.get(&young).send().await.status(204);
    assert_eq!(t.unfinished_uploads(), 1);
}

#[tokio::test]
async fn an_upload_is_continued_after_the_registry_was_closed_and_opened() {
    let root = tempfile::tempdir().unwrap();
    let open = || Registry::builder().policy(AccessPolicy::Open).data_dir(root.path()).open().unwrap();
    let content = noise(100_000, 9);
    let location = {
        let running = open().spawn_local().await.unwrap();
        let caller = Caller::new(running.address(), None);
        let location = start_upload(&caller, "a").await;
        patch(&caller, &location, "0-59999", &content[..60_000]).await.status(202);
        running.shutdown().await;
        location
    };
    let running = open().spawn_local().await.unwrap();
    let caller = Caller::new(running.address(), None);
    caller.get(&location).send().await.status(204).has("range", "0-59999");
    patch(&caller, &location, "60000-99999", &content[60_000..]).await.status(202).has("range", "0-99999");
    finish(&caller, &location, &content).await;
    running.shutdown().await;
}
