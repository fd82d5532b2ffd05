//! `kill -9` of the real program while blobs arrive: nothing wrong is stored or served, and the next request continues
//! where the killed one stopped.
//!
//! `CORACLE_FULL=1` runs 60 kills. `cargo test --test it mirror::kills -- --nocapture` prints what was seen.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::between::{Between, Mode};
use crate::support::content::{noise, push_blob, sha256};
use crate::support::process::{Program, Running};
use crate::support::{TestRegistry, is_long_form};

const LAYER_BYTES: usize = 3_000_000;
/// Fast enough for many kills, and slow enough to hit a fill at a chosen byte.
const BYTES_PER_SECOND: usize = 20_000_000;
/// How long a fill may take to reach a byte.
const PATIENCE: Duration = Duration::from_secs(30);

fn start(root: &Path, upstream: &Between) -> Running {
    let config = format!(
        "[[extensions.sync.registries]]\nurls = ['http://{}']\nonDemand = true\n\
         content = [{{ prefix = '**', destination = '/up' }}]\n",
        upstream.address
    );
    Program::serve_with(root, &config).arg("--open").start()
}

/// Requests a blob, and returns the bytes that arrive until the end or until the connection breaks.
async fn receive(running: std::net::SocketAddr, path: String) -> Vec<u8> {
    let mut received = Vec::new();
    let Ok(stream) = TcpStream::connect(running).await else { return received };
    let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await else {
        return received;
    };
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get(path).header("host", running.to_string()).body(Empty::<Bytes>::new()).unwrap();
    if let Ok(response) = sender.send_request(request).await {
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            received.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    }
    connection.abort();
    received
}

/// The size of the largest unfinished upload.
fn staged(root: &Path) -> usize {
    let uploads = std::fs::read_dir(root.join("uploads")).into_iter().flatten();
    let sizes = uploads.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
    usize::try_from(sizes.max().unwrap_or_default()).unwrap()
}

/// Hashes every stored blob. Returns how many there are.
fn check_blobs(root: &Path) -> usize {
    let Ok(blobs) = std::fs::read_dir(root.join("blobs/sha256")) else { return 0 };
    let check = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(sha256(&std::fs::read(&path).unwrap()), format!("sha256:{name}"), "a stored blob is wrong");
    };
    blobs.map(check).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_during_fills_store_nothing_wrong_and_fills_continue() {
    let kills = if is_long_form() { 60 } else { 5 };
    let upstream = TestRegistry::open().await;
    let between = Between::before(upstream.running.address()).await;
    between.set(Mode::Throttle(BYTES_PER_SECOND));
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let started = Instant::now();
    let (mut killed, mut continued, mut partial, mut layers) = (0, 0, 0, 0_u64);
    while killed < kills {
        layers += 1;
        let layer = noise(LAYER_BYTES, layers);
        let digest = push_blob(&upstream.anonymous(), "app", &layer).await;
        let path = format!("/v2/up/app/blobs/{digest}");
        // Several kills hit the same layer, at increasing bytes. The last one hits the end of the fill.
        for target in [kills * 7919 + killed * 104_729, 1_500_000 + killed * 7_333, LAYER_BYTES] {
            let target = if target == LAYER_BYTES { target } else { 1 + target % (LAYER_BYTES - 1) };
            if killed == kills {
                break;
            }
            let before = staged(root);
            let (ranged, asked) = (ranges(&between), between.count("GET", &digest));
            let running = start(root, &between);
            let client = tokio::spawn(receive(running.address(), path.clone()));
            let deadline = Instant::now() + PATIENCE;
            // The upload is a blob, or has reached the byte.
            while staged(root) < target.max(before + 1) && !client.is_finished() {
                assert!(Instant::now() < deadline, "the fill does not arrive at byte {target}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            running.kill();
            killed += 1;
            let received = client.await.unwrap();
            assert!(layer.starts_with(&received), "wrong bytes were served");
            partial += usize::from(!received.is_empty() && received.len() < layer.len());
            check_blobs(root);
            if before > 0 && between.count("GET", &digest) > asked {
                assert!(ranges(&between) > ranged, "a fill began again from the first byte");
                continued += 1;
            }
        }
        // At last the layer arrives.
        let running = start(root, &between);
        assert!(receive(running.address(), path).await == layer, "the layer is incomplete");
        running.stop();
        assert_eq!((staged(root), check_blobs(root)), (0, usize::try_from(layers).unwrap()));
    }
    assert_eq!(std::fs::read_dir(root.join("uploads")).unwrap().count(), 0, "an upload has stayed");
    println!(
        "{killed} kills in {:?}: {layers} layers, {continued} fills continued by Range, {partial} clients got a part",
        started.elapsed()
    );
    assert!(continued > 0);
}

fn ranges(between: &Between) -> usize {
    between.seen().iter().filter(|seen| seen.range.is_some()).count()
}
