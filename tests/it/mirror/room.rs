//! The size limit of a mirror.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::between::{Between, Mode};
use super::{Setting, pull};
use crate::support::TestRegistry;
use crate::support::content::{self, noise, push_blob, put_manifest, sha256};
use crate::support::http::Caller;
use crate::support::is_long_form;
use crate::support::process::{Program, Running};

const MIB: usize = 1 << 20;

/// Pushes an image with a layer of this size.
async fn push_large(caller: &Caller, repository: &str, tag: &str, size: usize, seed: u64) -> Value {
    let (config, layer) = (format!("{{\"seed\":{seed}}}").into_bytes(), noise(size, seed + 1));
    push_blob(caller, repository, &config).await;
    push_blob(caller, repository, &layer).await;
    let image = content::image(&config, &[&layer]);
    put_manifest(caller, repository, tag, &image).await.status(201);
    image
}

/// The bytes of all blobs in a data directory.
fn blob_bytes(root: &Path) -> u64 {
    let entries = std::fs::read_dir(root.join("blobs").join("sha256")).unwrap();
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Waits until the blobs take at most this many bytes.
async fn until_at_most(root: &Path, bytes: u64) {
    let waiting = async {
        while blob_bytes(root) > bytes {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_mins(1), waiting).await;
    assert!(waited.is_ok(), "{} bytes of blobs, and not {bytes}", blob_bytes(root));
}

fn config(between: &Between, limit: &str) -> String {
    format!(
        "http.open = true\n[extensions.sync]\n{limit}\n[[extensions.sync.registries]]\nurls = ['http://{}']\nonDemand = \
         true\nmanifestCheckInterval = '1h'\nmaxRetries = 0\ncontent = [{{ prefix = '**', destination = '/up' }}]\n",
        between.address
    )
}

fn evict(root: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let arguments = ["mirror", "evict", "--json", "--root", root.to_str().unwrap(), "--config"];
    let config = root.join("coracle.toml");
    let program = more.iter().fold(Program::new(arguments).arg(config), Program::arg);
    let ended = program.run();
    (ended.code, ended.stdout, ended.stderr)
}

#[tokio::test]
async fn a_limit_holds_while_five_times_as_much_passes_and_what_was_pushed_stays() {
    let t = Setting::with(|between| config(between, "sizeLimit = '4MiB'")).await;
    let root = t.mirror.registry.data_dir();
    let own = push_large(&t.puller(), "own/app", "1", MIB, 1000).await;
    let mut images = Vec::new();
    for number in 0..20 {
        images.push(push_large(&t.pusher(), "app", &number.to_string(), MIB, number * 10).await);
    }
    // The first one is also referenced by a manifest that is pushed to another repository.
    pull(&t.puller(), "up/app", "0", &images[0]).await;
    let shared = noise(MIB, 1);
    push_blob(&t.puller(), "own/shared", b"{}").await;
    push_blob(&t.puller(), "own/shared", &shared).await;
    let shared = content::image(b"{}", &[&shared]);
    put_manifest(&t.puller(), "own/shared", "1", &shared).await.status(201);
    for (number, image) in images.iter().enumerate().skip(1) {
        pull(&t.puller(), "up/app", &number.to_string(), image).await;
        // The limit, what was pushed, and the largest blob.
        until_at_most(&root, (4 + 2 + 1) * MIB as u64 + 4096).await;
    }
    pull(&t.puller(), "own/app", "1", &own).await;
    pull(&t.puller(), "own/shared", "1", &shared).await;
    // The last one is still here. Of the others the tags are.
    let requests = t.between.total();
    pull(&t.puller(), "up/app", "19", &images[19]).await;
    for number in 0..20 {
        t.puller().head(&format!("/v2/up/app/manifests/{number}")).send().await.status(200);
    }
    assert_eq!(t.between.total(), requests);
    // An evicted image is fetched again.
    pull(&t.puller(), "up/app", "1", &images[1]).await;
    assert!(t.between.count("GET", "/blobs/") > 20 * 2, "{}", t.between.count("GET", "/blobs/"));
    let metric = async |name: &str| {
        let metrics = t.puller().get("/metrics").send().await.status(200).text();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{metrics}"));
        line.trim().parse::<u64>().unwrap()
    };
    assert_eq!(metric("coracle_mirror_limit_bytes ").await, 4 * MIB as u64);
    assert!(metric("coracle_mirror_evicted_bytes_total ").await >= 13 * MIB as u64);
    let waiting = async { while metric("coracle_mirror_held_bytes ").await > 4 * MIB as u64 {} };
    tokio::time::timeout(Duration::from_mins(1), waiting).await.expect("the limit holds");
}

#[tokio::test]
async fn a_running_download_of_an_evicted_blob_finishes_and_commands_evict() {
    const BYTES: usize = 32 * MIB;
    let upstream = TestRegistry::open().await;
    let between = Between::before(upstream.running.address()).await;
    let image = push_large(&upstream.anonymous(), "app", "1", BYTES, 7).await;
    let data = tempfile::tempdir().unwrap();
    let running = Program::serve_with(data.path(), &config(&between, "")).start();
    pull(&running.anonymous(), "up/app", "1", &image).await;
    let layer = image["layers"][0]["digest"].as_str().unwrap();

    // More than the buffers of the sockets is left when the blob goes.
    let mut stream = TcpStream::connect(running.address()).await.unwrap();
    let request = format!("GET /v2/up/app/blobs/{layer} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut received = vec![0; 1000];
    stream.read_exact(&mut received).await.unwrap();

    let (code, _, stderr) = evict(data.path(), &[]);
    assert!(code == Some(1) && stderr.contains("name a size with --to"), "{code:?} {stderr}");
    let (_, planned, _) = evict(data.path(), &["--to", "1MiB", "--dry-run"]);
    assert!(planned.contains("\"dry_run\":true") && planned.contains("\"blobs\":1"), "{planned}");
    assert!(blob_bytes(data.path()) > BYTES as u64);
    let (code, evicted, _) = evict(data.path(), &["--to", "1MiB"]);
    assert!(code == Some(0) && evicted.contains("\"blobs\":1"), "{evicted}");
    assert!(blob_bytes(data.path()) < MIB as u64);

    stream.read_to_end(&mut received).await.unwrap();
    let begin = received.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(sha256(&received[begin..]), layer);
    pull(&running.anonymous(), "up/app", "1", &image).await;
    running.stop();
    // The registry is stopped, and all of it goes.
    let (code, evicted, _) = evict(data.path(), &["--to", "0"]);
    assert!(code == Some(0) && evicted.contains("\"manifests\":1"), "{evicted}");
    assert_eq!(blob_bytes(data.path()), 0);
}

/// Starts the registry of the test below.
fn start(root: &Path, between: &Between) -> Running {
    Program::serve_with(root, &config(between, "sizeLimit = '1MiB'")).start()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_during_evictions_lose_nothing_that_was_pushed() {
    let kills = if is_long_form() { 30 } else { 5 };
    let upstream = TestRegistry::open().await;
    let between = Between::before(upstream.running.address()).await;
    let mut images = Vec::new();
    for number in 0..8 {
        images.push(push_large(&upstream.anonymous(), "app", &number.to_string(), 300_000, number * 10).await);
    }
    let data = tempfile::tempdir().unwrap();
    let mut running = start(data.path(), &between);
    let mut pushed = Vec::new();
    for kill in 0..kills {
        let caller = running.anonymous();
        let tag = kill.to_string();
        // Half of what is pushed has the layer of a mirrored image, which is pulled meanwhile.
        let seed = if kill % 2 == 0 { 5000 + kill * 10 } else { kill % 8 * 10 };
        pushed.push((tag.clone(), push_large(&caller, "up/own", &tag, 300_000, seed).await));
        let pulling: Vec<_> = (0..4)
            .map(|client| {
                let (caller, images) = (caller.clone(), images.clone());
                tokio::spawn(async move {
                    for number in (0..images.len()).cycle().skip(client * 2) {
                        let digest = images[number]["layers"][0]["digest"].as_str().unwrap().to_owned();
                        let manifest = caller.get(&format!("/v2/up/app/manifests/{number}")).try_send().await;
                        let blob = caller.get(&format!("/v2/up/app/blobs/{digest}")).try_send().await;
                        let (Ok(_), Ok(blob)) = (manifest, blob) else { return };
                        assert!(blob.status != 200 || sha256(&blob.body) == digest);
                    }
                })
            })
            .collect();
        let evicting = {
            let root = data.path().to_owned();
            tokio::task::spawn_blocking(move || (0..3).for_each(|_| drop(evict(&root, &["--to", "300KiB"]))))
        };
        tokio::time::sleep(Duration::from_millis(100 + kill * 37 % 400)).await;
        running.kill();
        for client in pulling {
            client.await.unwrap();
        }
        evicting.await.unwrap();
        running = start(data.path(), &between);
        for (tag, image) in &pushed {
            pull(&running.anonymous(), "up/own", tag, image).await;
        }
    }
    for (number, image) in images.iter().enumerate() {
        pull(&running.anonymous(), "up/app", &number.to_string(), image).await;
    }
    between.set(Mode::Status(500));
    for (tag, image) in &pushed {
        pull(&running.anonymous(), "up/own", tag, image).await;
    }
    running.stop();
    let scrub = Program::new(["scrub", "--root"]).arg(data.path()).run();
    assert_eq!(scrub.code, Some(0), "{}{}", scrub.stdout, scrub.stderr);
}
