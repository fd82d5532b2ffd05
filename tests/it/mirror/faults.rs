//! Upstreams that fail in every way: what is stored is served within a second, what is not is refused with the reason, and
//! nothing wrong is stored.
//!
//! `cargo test --test it mirror::faults -- --nocapture` prints the table with the times.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle::config::Config;
use coracle::{AccessPolicy, Registry};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::between::{Between, Mode};
use super::{AT_ONCE, PATIENCE, Setting, is_stale, pull};
use crate::support::TestRegistry;
use crate::support::content::{self, noise, push_blob, push_image, sha256};
use crate::support::http::Caller;
use crate::support::registry::ALICE;

/// The faults that are tried at the same time. With more, the test itself makes the machine busy.
const AT_A_TIME: usize = 6;

/// A fault of an upstream.
#[derive(Clone, Debug)]
enum Fault {
    Mode(Mode),
    /// The configuration names another address.
    Address(String),
    /// The upstream wants a token of a service elsewhere, and the mirror has credentials.
    ForeignRealm,
}

/// The result of a request during a fault.
#[derive(Debug)]
struct Seen {
    status: u16,
    time: Duration,
    is_stale: bool,
    /// The text of an error.
    text: String,
}

/// The expected results. An upstream that only spoils content is not asked for it if a tag has not changed.
struct Expected {
    name: &'static str,
    fault: Fault,
    /// Whether a stored tag is served with a warning.
    is_stale: bool,
    /// The status of what is not stored.
    refused: u16,
    /// A part of the reason.
    reason: &'static str,
}

fn faults() -> Vec<Expected> {
    let fault =
        |name, mode, is_stale, refused, reason| Expected { name, fault: Fault::Mode(mode), is_stale, refused, reason };
    let address = |name, address: &str, reason| Expected {
        name,
        fault: Fault::Address(address.to_owned()),
        is_stale: true,
        refused: 502,
        reason,
    };
    vec![
        fault("slow (3 s)", Mode::Slow(Duration::from_secs(3)), true, 200, ""),
        fault("hanging", Mode::Hang, true, 504, "did not respond"),
        fault("429 with Retry-After", Mode::Limit(600), true, 502, "limits requests"),
        fault("401", Mode::Status(401), true, 502, "requires credentials"),
        fault("403", Mode::Status(403), true, 502, "denies access"),
        fault("500", Mode::Status(500), true, 502, "status 500"),
        fault("503", Mode::Status(503), true, 502, "status 503"),
        address("connection refused", "http://127.0.0.1:1", "cannot be reached"),
        // No resolver is asked for a label of more than 63 letters, so that a slow one does not matter.
        address("unresolvable", &format!("http://{}.invalid", "a".repeat(64)), "cannot be reached"),
        address("TLS error", "https://", "cannot be reached"),
        fault("endless body", Mode::Endless, false, 502, ""),
        fault("length too long", Mode::Short, false, 502, ""),
        fault("length too short", Mode::Long, false, 502, ""),
        fault("wrong digest", Mode::Corrupt, false, 502, "digest"),
        fault("redirect loop", Mode::Loop, false, 502, "redirects more than 5 times"),
        fault("redirect to a file", Mode::Redirect("file://".to_owned()), false, 502, "not on the web"),
        fault("oversized manifest", Mode::Oversized, false, 502, "more than 4194304 bytes"),
        fault("oversized token", Mode::LargeToken, true, 502, "more than 65536 bytes"),
        Expected {
            name: "token service of another domain",
            fault: Fault::ForeignRealm,
            is_stale: true,
            refused: 502,
            reason: "belongs to another domain",
        },
    ]
}

fn config(url: &str, credentials: Option<&Path>) -> Config {
    let credentials = credentials.map(|file| format!("credentialsFile = '{}'\n", file.display())).unwrap_or_default();
    let text = format!(
        "[extensions.sync]\n{credentials}[[extensions.sync.registries]]\nurls = ['{url}']\nonDemand = true\n\
         manifestCheckInterval = '0s'\nmaxRetries = 0\ncontent = [{{ prefix = '**', destination = '/up' }}]\n"
    );
    Config::from_toml_str(&text).unwrap().config
}

/// A registry with the data of an earlier one.
async fn mirror(root: &Path, config: Config) -> (Registry, coracle::RunningRegistry) {
    let builder = Registry::builder().data_dir(root).config(config).policy(AccessPolicy::Open);
    let registry = tokio::task::spawn_blocking(move || builder.open()).await.unwrap().unwrap();
    let running = registry.spawn_local().await.unwrap();
    (registry, running)
}

async fn ask(caller: &Caller, path: &str) -> Seen {
    let started = Instant::now();
    let answer = caller.get(path).try_send().await;
    let time = started.elapsed();
    match answer {
        Ok(answer) => Seen { status: answer.status.as_u16(), time, is_stale: is_stale(&answer), text: answer.text() },
        // The connection broke in the middle of a blob.
        Err(_) => Seen { status: 0, time, is_stale: false, text: String::new() },
    }
}

/// Asks for a stored tag, once if its response must be stale. A busy machine can make other responses stale, but not for
/// ever.
async fn ask_for_stored(caller: &Caller, path: &str, may_be_fresh: bool) -> Seen {
    let started = Instant::now();
    loop {
        let seen = ask(caller, path).await;
        if !(may_be_fresh && seen.is_stale) || started.elapsed() > PATIENCE {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Runs all requests during one fault. Returns a line of the table.
async fn during(expected: Expected) -> String {
    let Expected { name, fault, is_stale, refused, reason } = expected;
    let upstream = TestRegistry::open().await;
    let between = Between::before(upstream.running.address()).await;
    let pusher = upstream.anonymous();
    let (stored, missing) = (push_image(&pusher, "app", "1", 1).await, push_image(&pusher, "new", "1", 2).await);
    let layer = push_blob(&pusher, "app", &noise(300_000, 3)).await;
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("data");
    let good = config(&format!("http://{}", between.address), None);
    let (registry, running) = mirror(&root, good.clone()).await;
    pull(&Caller::new(running.address(), None), "up/app", "1", &stored).await;
    running.shutdown().await;
    drop(registry);

    let elsewhere = Between::before(upstream.running.address()).await;
    let mut host = between.address.to_string();
    let mut during = good.clone();
    match &fault {
        Fault::Mode(mode) => between.set(mode.clone()),
        Fault::Address(url) => {
            let url = if url == "https://" { format!("https://{host}") } else { url.clone() };
            url.split_once("://").unwrap().1.clone_into(&mut host);
            during = config(&url, None);
        }
        Fault::ForeignRealm => {
            let file = directory.path().join("credentials.json");
            std::fs::write(&file, format!("{{\"{host}\": {{\"username\": \"a\", \"password\": \"b\"}}}}")).unwrap();
            between.set(Mode::Realm(format!("http://localhost:{}/token", elsewhere.address.port())));
            during = config(&format!("http://{host}"), Some(&file));
        }
    }
    let (registry, running) = mirror(&root, during).await;
    let caller = Caller::new(running.address(), None);
    let digest = |image: &Value| sha256(&content::bytes(image));
    let cached = [
        ("tag", "/v2/up/app/manifests/1".to_owned()),
        ("digest", format!("/v2/up/app/manifests/{}", digest(&stored))),
        ("blob", format!("/v2/up/app/blobs/{}", stored["config"]["digest"].as_str().unwrap())),
    ];
    let uncached = [
        ("tag", "/v2/up/new/manifests/1".to_owned()),
        ("digest", format!("/v2/up/new/manifests/{}", digest(&missing))),
        ("blob", format!("/v2/up/app/blobs/{layer}")),
    ];
    let mut cells = Vec::new();
    for (kind, path) in cached {
        let seen = ask_for_stored(&caller, &path, !is_stale).await;
        assert_eq!(seen.status, 200, "{name}: a stored {kind}: {}", seen.text);
        assert_eq!(seen.is_stale, is_stale && kind == "tag", "{name}: the warning of a stored {kind}");
        assert!(seen.time < AT_ONCE, "{name}: a stored {kind} took {:?}", seen.time);
        cells.push(seen);
    }
    for (kind, path) in uncached {
        let seen = ask(&caller, &path).await;
        // An oversized manifest spoils no blob.
        let is_spoilt = !(kind == "blob" && matches!(fault, Fault::Mode(Mode::Oversized)));
        if is_spoilt && refused != 200 {
            // Bytes that were sent before the fault was noticed cannot be taken back. The connection breaks then.
            let breaks = kind == "blob" && seen.status == 0;
            assert!(seen.status == refused || breaks, "{name}: a missing {kind}: {} {}", seen.status, seen.text);
            let is_clear = seen.text.contains(&host) && seen.text.contains(reason);
            assert!(breaks || is_clear, "{name}: a missing {kind}: {}", seen.text);
        } else {
            assert_eq!(seen.status, 200, "{name}: a missing {kind}: {}", seen.text);
        }
        cells.push(seen);
    }
    assert_eq!(elsewhere.total(), 0, "{name}: the credentials were offered to another domain");
    running.shutdown().await;
    drop(registry);

    // Nothing wrong has stayed: everything comes, and is right.
    between.set(Mode::Forward);
    let (registry, running) = mirror(&root, good).await;
    let caller = Caller::new(running.address(), None);
    pull(&caller, "up/app", "1", &stored).await;
    pull(&caller, "up/new", "1", &missing).await;
    assert_eq!(sha256(&caller.get(&format!("/v2/up/app/blobs/{layer}")).send().await.status(200).body), layer);
    assert_eq!(std::fs::read_dir(root.join("uploads")).unwrap().count(), 0, "{name}: an upload has stayed");
    running.shutdown().await;
    drop(registry);

    let cell = |seen: &Seen| {
        let status = if seen.status == 0 { "broken".to_owned() } else { seen.status.to_string() };
        format!("{status:>6}{} {:>6} ms", if seen.is_stale { " W" } else { "  " }, seen.time.as_millis())
    };
    format!("{name:<32}| {}", cells.iter().map(cell).collect::<Vec<_>>().join(" | "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_of_an_upstream_leaves_what_is_stored_and_spoils_nothing() -> Result<(), String> {
    let (mut running, places) = (JoinSet::new(), Arc::new(Semaphore::new(AT_A_TIME)));
    for (index, expected) in faults().into_iter().enumerate() {
        let places = Arc::clone(&places);
        running.spawn(async move {
            let _place = places.acquire_owned().await.unwrap();
            (index, during(expected).await)
        });
    }
    let (mut lines, mut failures) = (Vec::new(), Vec::new());
    while let Some(ended) = running.join_next().await {
        match ended.map_err(tokio::task::JoinError::into_panic) {
            Ok(line) => lines.push(line),
            Err(panic) => failures.push(message(&*panic)),
        }
    }
    lines.sort_unstable();
    let columns = ["stored tag", "stored digest", "stored blob", "missing tag", "missing digest", "missing blob"];
    println!("{:<32}| {}", "fault (W: with Warning)", columns.map(|column| format!("{column:<18}")).join("| "));
    for (_, line) in lines {
        println!("{line}");
    }
    // Without a panic, no backtrace hides the reasons.
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

/// The text of a panic.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text").to_owned()
}

#[tokio::test]
async fn a_broken_download_continues_where_it_stopped() {
    let t = Setting::new("1h").await;
    let layer = noise(2_000_000, 8);
    push_blob(&t.pusher(), "app", &layer).await;
    let path = format!("/v2/up/app/blobs/{}", sha256(&layer));
    t.between.set(Mode::Cut(700_000));
    assert_eq!(t.puller().get(&path).send().await.status(200).body, layer);
    assert!(t.between.count("GET", "/blobs/") >= 3, "2 MB arrive in pieces of at most 0.7 MB");
}

#[tokio::test]
async fn an_upstream_without_head_costs_one_request_for_each_check() {
    for status in [404, 405] {
        let t = Setting::new("0s").await;
        push_image(&t.pusher(), "app", "1", 6).await;
        t.between.set(Mode::NoHead(status));
        let path = "/v2/up/app/manifests/1";
        t.puller().get(path).send().await.status(200);
        // The first checks notice that HEAD does not work: one 404 may be a tag that has just come.
        for _ in 0..if status == 404 { 3 } else { 1 } {
            assert_eq!(t.compared(path).await.1, [1, 1]);
        }
        assert_eq!((t.compared(path).await.1, t.compared(path).await.1), ([0, 1], [0, 1]));
    }
}

#[tokio::test]
async fn wrong_bytes_of_an_earlier_fill_are_neither_stored_nor_served() {
    let upstream = TestRegistry::open().await;
    let between = Between::before(upstream.running.address()).await;
    let layer = noise(400_000, 12);
    let digest = push_blob(&upstream.anonymous(), "app", &layer).await;
    let path = format!("/v2/up/app/blobs/{digest}");
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("data");
    let config = config(&format!("http://{}", between.address), None);
    between.set(Mode::Half);
    let (registry, running) = mirror(&root, config.clone()).await;
    let client = tokio::spawn(Caller::new(running.address(), None).get(&path).try_send());
    let uploads = root.join("uploads");
    let staged = || std::fs::read_dir(&uploads).unwrap().next().map(|entry| entry.unwrap().path());
    let has_begun = async || staged().is_some_and(|path| path.metadata().unwrap().len() > 0);
    super::sync::until("the first half", has_begun).await;
    // The stop ends the fill, and releases the data directory.
    running.shutdown().await;
    drop(registry);
    assert!(client.await.unwrap().is_err());
    // As many bytes as the blob has, so that there is nothing to continue.
    std::fs::write(staged().unwrap(), noise(layer.len(), 13)).unwrap();
    between.set(Mode::Forward);
    let (_registry, running) = mirror(&root, config).await;
    assert_eq!(Caller::new(running.address(), None).get(&path).send().await.status(200).body, layer);
    assert_eq!(between.seen().iter().filter(|seen| seen.range.is_some()).count(), 1);
    assert!(staged().is_none());
}

#[tokio::test]
async fn a_wrong_blob_breaks_the_transfer_and_is_not_stored() {
    let t = Setting::new("1h").await;
    let layer = noise(500_000, 9);
    push_blob(&t.pusher(), "app", &layer).await;
    let path = format!("/v2/up/app/blobs/{}", sha256(&layer));
    t.between.set(Mode::Corrupt);
    assert!(t.puller().get(&path).try_send().await.is_err(), "the client sees that the blob is incomplete");
    assert_eq!(t.mirror.unfinished_uploads(), 0);
    t.between.set(Mode::Forward);
    assert_eq!(t.puller().get(&path).send().await.status(200).body, layer);
}

#[tokio::test]
async fn credentials_stay_at_the_upstream_when_it_redirects() {
    let builder = Registry::builder().user(ALICE.0, ALICE.1);
    let upstream = TestRegistry::start(builder).await;
    let pusher = upstream.user(ALICE);
    let image = push_image(&pusher, "alice/app", "1", 5).await;
    let between = Between::before(upstream.running.address()).await;
    // A content network, which has the same content for everyone.
    let open = TestRegistry::open().await;
    let blobs = push_image(&open.anonymous(), "alice/app", "1", 5).await;
    assert_eq!(blobs, image);
    let elsewhere = Between::before(open.running.address()).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("credentials.json");
    let entry = serde_json::json!({ (between.address.to_string()): { "username": ALICE.0, "password": ALICE.1 } });
    std::fs::write(&file, entry.to_string()).unwrap();
    let config = config(&format!("http://{}", between.address), Some(&file));
    let mirror = TestRegistry::start(Registry::builder().config(config).policy(AccessPolicy::Open)).await;
    mirror.anonymous().get("/v2/up/alice/app/manifests/1").send().await.status(200);
    assert!(between.seen().iter().any(|seen| seen.authorization.is_some()));
    between.set(Mode::Redirect(format!("http://{}", elsewhere.address)));
    pull(&mirror.anonymous(), "up/alice/app", "1", &image).await;
    assert!(elsewhere.count("GET", "/blobs/") > 0);
    assert!(elsewhere.seen().iter().all(|seen| seen.authorization.is_none()), "{:?}", elsewhere.seen());
}
