//! "Pull" of blobs that are sent from their files: larger than what is read, mapped or sent at once.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::pull::parts;
use crate::support::TestRegistry;
use crate::support::content::{assert_blob, noise, push_blob, push_image};
use crate::support::process::Program;

/// More than two windows and a bit.
const LENGTH: usize = 20 * 1024 * 1024 + 12_345;
const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn a_large_blob_has_the_same_bytes_whole_and_in_parts() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let content = noise(LENGTH, 1);
    let digest = push_blob(&caller, "a", &content).await;
    assert_blob(&caller, "a", &digest, &content).await;
    let path = format!("/v2/a/blobs/{digest}");
    for (first, last) in [
        (0, 0),
        (0, 65_534),
        (0, 65_535),
        (1, 65_537),
        (8 * MIB - 1, 8 * MIB),
        (3, 8 * MIB + 2),
        (3, 16 * MIB + 70_000),
        (LENGTH - 65_536, LENGTH - 1),
        (0, LENGTH - 1),
    ] {
        let answer = caller.get(&path).header("range", format!("bytes={first}-{last}")).send().await.status(206);
        assert!(answer.body == content[first..=last], "{first}-{last}");
    }
    let answer = caller.get(&path).header("range", "bytes=5-9000000,17-17,12000000-").send().await.status(206);
    let parts = parts(&answer);
    let wanted = [&content[5..=9_000_000], &content[17..=17], &content[12_000_000..]];
    assert_eq!(parts.len(), 3);
    assert!(parts.iter().zip(wanted).all(|((_, bytes), wanted)| bytes == wanted));
}

/// The next client pulls it: build, push, deploy. Reading it back costs half a minute a gigabyte on an SD card.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_large_blob_is_still_in_memory_when_its_push_has_been_answered() {
    let root = tempfile::tempdir().unwrap();
    let program = Program::serve_with(root.path(), "[http]\nopen = true\n").start();
    let content = noise(80 * MIB, 1);
    let digest = push_blob(&program.anonymous(), "a", &content).await;
    let (algorithm, hex) = digest.split_once(':').unwrap();
    let file = std::fs::File::open(root.path().join("blobs").join(algorithm).join(hex)).unwrap();
    let is_cached = |at: &usize| {
        use rustix::io::{ReadWriteFlags, preadv2};
        preadv2(&file, &mut [std::io::IoSliceMut::new(&mut [0])], *at as u64, ReadWriteFlags::NOWAIT).is_ok()
    };
    let cached = (0..content.len()).step_by(4096).filter(is_cached).count();
    let pages = content.len().div_ceil(4096);
    // The kernel may need some of the memory for other tests.
    assert!(cached > pages * 9 / 10, "{cached} of {pages} pages are in memory");
}

/// Sends everything at once, and gives the bodies of the answers.
fn pipeline(address: SocketAddr, paths: &[String]) -> Vec<Vec<u8>> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    for path in paths {
        write!(socket, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    }
    let mut socket = BufReader::new(socket);
    let mut bodies = Vec::new();
    for path in paths {
        let mut length = None;
        loop {
            let mut line = String::new();
            socket.read_line(&mut line).unwrap();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim_end().parse().ok();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length.unwrap_or_else(|| panic!("{path} has no length"))];
        socket.read_exact(&mut body).unwrap();
        bodies.push(body);
    }
    bodies
}

#[tokio::test(flavor = "multi_thread")]
async fn large_and_small_answers_follow_each_other_on_one_connection() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let (large, other, small) = (noise(LENGTH, 1), noise(300_000, 2), noise(100, 3));
    let mut paths = Vec::new();
    let mut wanted = Vec::new();
    for content in [&large, &small, &other, &large, &small, &small, &other] {
        paths.push(format!("/v2/a/blobs/{}", push_blob(&caller, "a", content).await));
        wanted.push(content.to_vec());
    }
    push_image(&caller, "a", "latest", 1).await;
    paths.insert(2, "/v2/a/manifests/latest".to_owned());
    wanted.insert(2, caller.get("/v2/a/manifests/latest").send().await.body.to_vec());
    let address = caller.address();
    let bodies = tokio::task::spawn_blocking(move || pipeline(address, &paths)).await.unwrap();
    assert!(bodies == wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_cut_short_while_it_is_sent_ends_the_connection_and_nothing_else() {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    let content = noise(LENGTH, 1);
    let digest = push_blob(&caller, "a", &content).await;
    let (address, path) = (caller.address(), format!("/v2/a/blobs/{digest}"));
    let file = t.registry.data_dir().join("blobs").join(digest.replace(':', "/"));
    let received = tokio::task::spawn_blocking(move || {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut received = vec![0; 100_000];
        socket.read_exact(&mut received).unwrap();
        std::fs::File::options().write(true).open(file).unwrap().set_len(MIB as u64).unwrap();
        // Either the end or a reset: not the rest.
        let _ = socket.read_to_end(&mut received);
        received
    });
    let received = received.await.unwrap();
    assert!(received.len() < content.len(), "the rest cannot have come");
    let body = received.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert!(content.starts_with(&received[body..]), "what came are not the blob's bytes");
    caller.get("/v2/").send().await.status(200);
    caller.get(&format!("/v2/a/blobs/{digest}")).send().await.error(404, "BLOB_UNKNOWN");
}
