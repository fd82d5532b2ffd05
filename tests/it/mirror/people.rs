//! A mirror as operators see it: commands, metrics, the page, and the settings of clients.

use std::path::Path;
use std::time::Instant;

use coracle::Registry;
use coracle::config::Config;
use serde_json::Value;

use super::between::{Between, Canned, Mode};
use super::sync::{digest_of, until};
use super::{PATIENCE, is_stale, pull};
use crate::clients::home::{SKOPEO, installed};
use crate::support::TestRegistry;
use crate::support::content::push_image;
use crate::support::process::{Finished, Program, Running};
use crate::support::registry::{ALICE, ROOT};
use crate::ui::client::Client;

/// An upstream with a proxy, and the program that mirrors it below `up/`.
struct Scene {
    upstream: TestRegistry,
    between: Between,
    root: tempfile::TempDir,
    config: String,
}

impl Scene {
    async fn new(keys: &str) -> Self {
        Self::of(TestRegistry::open().await, "", keys).await
    }

    /// `sync` are keys before those of the upstream.
    async fn of(upstream: TestRegistry, sync: &str, keys: &str) -> Self {
        let between = Between::before(upstream.running.address()).await;
        let config = format!(
            "http.open = true\n{sync}[[extensions.sync.registries]]\nurls = ['http://{}']\nmaxRetries = 0\n{keys}\n",
            between.address
        );
        Self { upstream, between, root: tempfile::tempdir().unwrap(), config }
    }

    fn start(&self) -> Running {
        Program::serve_with(self.root.path(), &self.config).start()
    }

    fn host(&self) -> String {
        self.between.address.to_string()
    }

    fn coracle(&self, arguments: &[&str]) -> Finished {
        let config = self.root.path().join("coracle.toml");
        run(self.root.path(), &config, arguments)
    }

    /// The standard output of a command that must succeed.
    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let finished = self.coracle(arguments);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        finished.stdout
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.done(&[arguments, &["--json"]].concat())).unwrap()
    }
}

fn run(root: &Path, config: &Path, arguments: &[&str]) -> Finished {
    Program::new(arguments).arg("--root").arg(root).arg("--config").arg(config).run()
}

const ON_DEMAND: &str = "onDemand = true\ncontent = [{ prefix = '**', destination = '/up' }]";
/// A run that starts only on command: the first one is due in an hour or so.
const POLLED: &str = "pollInterval = '8760h'\ncontent = [{ prefix = 'team/**', destination = '/up' }]";

#[tokio::test(flavor = "multi_thread")]
async fn a_command_synchronises_with_a_running_and_a_stopped_registry() {
    let scene = Scene::new(POLLED).await;
    let pusher = scene.upstream.anonymous();
    let first = push_image(&pusher, "team/app", "1", 1).await;
    push_image(&pusher, "team/app", "2", 2).await;
    push_image(&pusher, "other/app", "1", 3).await;
    let running = scene.start();
    let (repository, host) = ("up/team/app", scene.host());
    let dry = scene.json(&["mirror", "sync", repository, "--dry-run"]);
    let wanted = &dry["upstreams"][0]["would_fetch"];
    assert_eq!(wanted, &serde_json::json!(["up/team/app:1", "up/team/app:2"]), "{dry}");
    assert_eq!(scene.between.count("GET", "/manifests/"), 0);
    // One tag only.
    let done = scene.done(&["mirror", "sync", "up/team/app:1"]);
    assert!(done.starts_with(&format!("{host}: 1 tag in 1 repository, 1 fetched, 0 unchanged")), "{done}");
    let explained = scene.done(&["mirror", "explain", "up/team/app:1"]);
    for part in
        ["repository team/app", "prefix team/**, destination /up", "every 8760h", &digest_of(&first), "a pull does not"]
    {
        assert!(explained.contains(part), "{part} is not in {explained}");
    }
    let missing = scene.json(&["mirror", "explain", &format!("{host}/team/app:2")]);
    assert_eq!((&missing["reference"], &missing["stored"]), (&"up/team/app:2".into(), &Value::Null));
    assert!(missing["why"].as_str().unwrap().contains("onDemand is false"), "{missing}");
    let elsewhere = scene.json(&["mirror", "explain", "elsewhere/app:1"]);
    let why = elsewhere["why"].as_str().unwrap();
    assert!(why.starts_with("no rule leads to elsewhere/app"), "{elsewhere}");
    assert!(why.ends_with(&format!("Mirrored are: team/** of {host}")), "{elsewhere}");
    let absent = scene.coracle(&["mirror", "sync", "up/team/app:absent"]);
    assert_eq!(absent.code, Some(1), "{absent:?}");
    assert!(absent.stderr.contains("up/team/app:absent: the upstream does not have it"), "{absent:?}");
    running.stop();
    // Without a running registry the command does the same itself.
    let done = scene.done(&["mirror", "sync"]);
    assert!(done.contains("2 tags in 1 repository, 1 fetched, 1 unchanged"), "{done}");
    scene.between.set(Mode::Status(503));
    let failed = scene.coracle(&["mirror", "sync", &host]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("ended early") && failed.stderr.contains("503"), "{failed:?}");
    let running = scene.start();
    pull(&running.anonymous(), repository, "1", &first).await;
    let unknown = scene.coracle(&["mirror", "sync", "elsewhere"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("nothing is mirrored under \"elsewhere\""), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_that_matches_no_repository_is_reported_and_stays_in_the_status() {
    let scene = Scene::new(POLLED).await;
    let pusher = scene.upstream.anonymous();
    push_image(&pusher, "other/app", "1", 1).await;
    let _running = scene.start();
    let host = scene.host();
    let unmatched = format!("team/**: no repository of {host} matches this pattern");
    let synced = scene.coracle(&["mirror", "sync"]);
    assert_eq!(synced.code, Some(1), "{synced:?}");
    let status = scene.done(&["mirror", "status"]);
    for shown in [&synced.stderr, &status] {
        assert!(shown.contains(&unmatched), "{shown}");
        assert!(!shown.contains("credentials"), "the registry has no users: {shown}");
    }
    push_image(&pusher, "team/app", "1", 2).await;
    let synced = scene.done(&["mirror", "sync"]);
    assert!(synced.contains("1 tag in 1 repository, 1 fetched"), "{synced}");
    let status = scene.done(&["mirror", "status"]);
    assert!(!status.contains(&unmatched), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_for_which_the_upstream_fails_does_not_keep_others_out() {
    let scene = Scene::new(POLLED).await;
    let pusher = scene.upstream.anonymous();
    for (repository, tag) in [("team/a", "1"), ("team/a", "damaged"), ("team/a", "zz"), ("team/b", "1")] {
        push_image(&pusher, repository, tag, 1).await;
    }
    let running = scene.start();
    let failure = Canned { at: "/manifests/damaged".to_owned(), status: 500, kind: "text/plain", text: String::new() };
    scene.between.set(Mode::Answers(vec![failure]));
    let synced = scene.coracle(&["mirror", "sync"]);
    assert_eq!(synced.code, Some(1), "{synced:?}");
    assert!(synced.stdout.contains("4 tags in 2 repositories, 3 fetched, 0 unchanged, 1 failed"), "{synced:?}");
    assert!(synced.stderr.contains("up/team/a:damaged: ") && !synced.stderr.contains("ended early"), "{synced:?}");
    running.anonymous().get("/v2/up/team/b/manifests/1").send().await.status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_lead_to_their_file_and_not_to_names_without_wildcards() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("upstreams.json");
    let upstream = TestRegistry::with_users().await;
    push_image(&upstream.user(ALICE), "alice/app", "1", 1).await;
    let sync = format!("[extensions.sync]\ncredentialsFile = '{}'\n", file.display());
    let keys = "onDemand = true\npollInterval = '8760h'\ncontent = [{ prefix = 'alice/**', destination = '/up' }]";
    let scene = Scene::of(upstream, &sync, keys).await;
    let host = scene.host();
    let write = |password: &str| {
        let entries = serde_json::json!({ &host: { "username": ALICE.0, "password": password } });
        std::fs::write(&file, entries.to_string()).unwrap();
    };
    write("an old password");
    let running = scene.start();
    let advice = format!("check the credentials for {host} in {} (extensions.sync.credentialsFile)", file.display());
    let refused = scene.coracle(&["mirror", "sync"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("requires other credentials") && refused.stderr.contains(&advice), "{refused:?}");
    assert!(!refused.stderr.contains("wildcards"), "{refused:?}");
    let status = scene.done(&["mirror", "status"]);
    assert!(status.contains(&advice), "{status}");
    // A pull fails for the same reason, and the explanation knows it.
    running.anonymous().get("/v2/up/alice/app/manifests/1").send().await.status(502);
    let explained = scene.done(&["mirror", "explain", "up/alice/app:1"]);
    for part in ["not stored: the last pull failed", "requires other credentials", &advice] {
        assert!(explained.contains(part), "{part} is not in {explained}");
    }
    let outside = scene.coracle(&["mirror", "explain", &format!("{host}/library/hello")]);
    assert!(outside.stderr.contains(&format!("no rule leads to {host}/library/hello")), "{outside:?}");
    assert!(outside.stderr.contains(&format!("Mirrored are: alice/** of {host}")), "{outside:?}");
    write(ALICE.1);
    let synced = scene.done(&["mirror", "sync"]);
    assert!(synced.contains("1 fetched"), "{synced}");
    let explained = scene.done(&["mirror", "explain", "up/alice/app:1"]);
    assert!(!explained.contains("failed"), "{explained}");
    // An upstream may have no list although it accepts the credentials.
    for status in [403, 404, 405] {
        scene.between.set(Mode::Status(status));
        let unlisted = scene.coracle(&["mirror", "sync"]);
        assert_eq!(unlisted.code, Some(1), "{unlisted:?}");
        for part in ["does not list its repositories", "name them without wildcards"] {
            assert!(unlisted.stderr.contains(part), "{status}: {unlisted:?}");
        }
        assert!(!unlisted.stderr.contains("credentialsFile"), "{status}: {unlisted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_metrics_count_pulls_and_name_the_last_error() {
    let scene = Scene::new(&format!("{ON_DEMAND}\nmanifestCheckInterval = '0s'")).await;
    let image = push_image(&scene.upstream.anonymous(), "team/app", "1", 1).await;
    let running = scene.start();
    let pull_once = async || is_stale(&pull(&running.anonymous(), "up/team/app", "1", &image).await);
    let mut stale = vec![pull_once().await, pull_once().await];
    scene.between.set(Mode::Status(503));
    let mut status = Value::Null;
    let started = Instant::now();
    // On a busy machine an earlier comparison may have failed, and the upstream is left alone for a moment.
    while !status["upstreams"][0]["last_error"]["message"].as_str().unwrap_or_default().contains("503") {
        assert!(started.elapsed() < PATIENCE, "{status}");
        stale.push(pull_once().await);
        status = scene.json(&["mirror", "status"]);
    }
    let upstream = &status["upstreams"][0];
    assert_eq!(upstream["name"], scene.host());
    let counts = ["hits", "misses", "stale", "repositories"].map(|name| upstream[name].as_u64().unwrap());
    let (hits, stale) = (3 * (stale.len() - 1), stale.iter().filter(|is_stale| **is_stale).count());
    assert_eq!(counts, [hits as u64, 3, stale as u64, 1], "{status}");
    assert_eq!(upstream["available"], false);
    assert!(upstream["fetched_bytes"].as_u64().unwrap() > 1000, "{status}");
    let text = scene.done(&["mirror", "status"]);
    let mut lines = text.lines();
    assert!(lines.next().unwrap().starts_with("REGISTRY"), "{text}");
    assert!(lines.next().unwrap().contains("failing"), "{text}");
    assert!(text.contains("last error at"), "{text}");
    let metrics = running.anonymous().get("/metrics").send().await.status(200).text();
    for (name, value) in [("hits_total", hits), ("misses_total", 3), ("stale_total", stale), ("available", 0)] {
        let line = format!("coracle_mirror_{name}{{upstream=\"{}\"}} {value}\n", scene.host());
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
    // A command completes what a client has stored by its pulls.
    scene.between.set(Mode::Forward);
    drop(running);
    let done = scene.done(&["mirror", "sync", &scene.host()]);
    assert!(done.contains("1 tag in 1 repository, 0 fetched, 1 unchanged"), "{done}");
}

#[tokio::test]
async fn superusers_see_the_mirrors_and_readers_the_source_of_a_repository() {
    let upstream = TestRegistry::open().await;
    let between = Between::before(upstream.running.address()).await;
    let image = push_image(&upstream.anonymous(), "alice/app", "1", 1).await;
    let keys = format!(
        "[[extensions.sync.registries]]\nurls = ['http://{}']\npollInterval = '1s'\ncontent = [{{ prefix = 'alice/app' }}]\n",
        between.address
    );
    let config = Config::from_toml_str(&keys).unwrap().config;
    let builder = Registry::builder().config(config).user(ALICE.0, ALICE.1).superuser(ROOT.0, ROOT.1);
    let t = TestRegistry::start(builder).await;
    let path = "/api/v1/superuser/mirrors";
    let root = tokio::sync::Mutex::new(Client::signed_in(&t, ROOT).await);
    until("a run", async || {
        let shown = root.lock().await.get(path).await.status(200).json();
        shown["upstreams"][0]["sync"]["last"]["tags"] == 1
    })
    .await;
    Client::signed_in(&t, ALICE).await.get(path).await.status(403);
    let page = root.lock().await.get("/ui/admin/mirrors").await.status(200).text();
    for part in [&between.address.to_string(), "Synchronised every 1s", "Last synchronised", "coracle mirror sync"] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    pull(&t.user(ALICE), "alice/app", "1", &image).await;
    let mut alice = Client::signed_in(&t, ALICE).await;
    let source = alice.get("/api/v1/repository/alice/app").await.status(200).json()["mirror"].take();
    assert_eq!(source["upstream"], between.address.to_string());
    assert_eq!(source["repository"], "alice/app");
    let page = alice.get("/ui/r/alice/app").await.status(200).text();
    assert!(page.contains(&format!("Mirrors <code>{}/alice/app</code>", between.address)), "{page}");
    push_image(&t.user(ALICE), "alice/own", "1", 2).await;
    let own = alice.get("/api/v1/repository/alice/own").await.status(200).json();
    assert_eq!(own.get("mirror"), None, "{own}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_settings_lead_clients_through_the_mirror() {
    let scene = Scene::new(ON_DEMAND).await;
    let image = push_image(&scene.upstream.anonymous(), "team/app", "1", 1).await;
    // The registry may be set up later than its clients.
    std::fs::write(scene.root.path().join("coracle.toml"), &scene.config).unwrap();
    let early = scene.coracle(&["mirror", "setup", "containerd", "--address", "mirror.example"]);
    assert!(early.code == Some(0) && early.stdout.starts_with("[host.\"http://mirror.example\"]"), "{early:?}");
    let running = scene.start();
    let status = scene.done(&["mirror", "status"]);
    assert!(status.contains("  not asked yet  "), "{status}");
    let address = running.address().to_string();
    let set_up = |client| scene.coracle(&["mirror", "setup", client, "--address", &address]);
    let podman = set_up("podman");
    assert!(podman.stderr.contains("/etc/containers/registries.conf.d/coracle.conf"), "{podman:?}");
    let containerd = set_up("containerd").stdout;
    assert_eq!(containerd, format!("[host.\"http://{address}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"));
    let k3s = set_up("k3s").stdout;
    let expected = format!("mirrors:\n  \"{}\":\n    endpoint:\n      - \"http://{address}\"\n", scene.host());
    assert_eq!(k3s, expected);
    let docker = set_up("docker");
    assert_eq!(docker.code, Some(1));
    assert!(docker.stderr.contains("docker mirrors only Docker Hub"), "{docker:?}");
    let wrong = scene.coracle(&["mirror", "setup", "podman", "--address", "a b\"/c"]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    if !installed("the_printed_settings_lead_clients_through_the_mirror", &[SKOPEO]) {
        return;
    }
    let file = scene.root.path().join("registries.conf");
    std::fs::write(&file, &podman.stdout).unwrap();
    let source = format!("docker://{}/team/app:1", scene.host());
    let inspect = || {
        let arguments = ["--registries-conf", file.to_str().unwrap(), "inspect", "--raw", &source];
        Program::of("skopeo", arguments).run()
    };
    let found = inspect();
    assert_eq!(found.code, Some(0), "{found:?}");
    // Only the mirror can answer now.
    scene.between.set(Mode::Hang);
    let found = inspect();
    assert_eq!(found.code, Some(0), "{found:?}");
    assert_eq!(serde_json::from_str::<Value>(&found.stdout).unwrap(), image);
    let metrics = running.anonymous().get("/metrics").send().await.status(200).text();
    assert!(metrics.contains("coracle_mirror_hits_total{"), "{metrics}");
}
