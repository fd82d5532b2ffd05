//! Upstreams that limit requests, and commands whose upstream is down.

use std::time::{Duration, Instant};

use coracle::config::Config;
use coracle::{AccessPolicy, Registry};
use serde_json::Value;

use super::sync::{digest_of, until};
use crate::support::TestRegistry;
use crate::support::content::push_image;
use crate::support::process::{Finished, Program};
use crate::support::registry::ALICE;

/// Much less than the patience of a scheduled run, and more than a busy machine needs.
const SECONDS: Duration = Duration::from_secs(20);

/// A port where nothing listens.
fn closed() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_run_waits_for_a_short_limit_and_brings_everything() {
    // Ten requests in five seconds. The floor for Docker Hub would never let a request through.
    let limits = "[http.ratelimit]\nanonymousRate = 2\nwindow = '5s'\n";
    let rights = "[http.accessControl.repositories.'**']\nanonymousPolicy = ['read']\n";
    let config = Config::from_toml_str(&format!("{limits}{rights}")).unwrap().config;
    let upstream = TestRegistry::start(Registry::builder().config(config).user(ALICE.0, ALICE.1)).await;
    let mut images = Vec::new();
    for seed in 1..=6 {
        images.push(push_image(&upstream.user(ALICE), "alice/app", &seed.to_string(), seed).await);
    }
    let keys = format!(
        "[[extensions.sync.registries]]\nhost = 'main'\nurls = ['http://{}']\npollInterval = '10s'\ncontent = [{{ prefix \
         = 'alice/app', destination = '/main' }}]\n",
        upstream.running.address()
    );
    let config = Config::from_toml_str(&keys).unwrap().config;
    let mirror = TestRegistry::start(Registry::builder().config(config).policy(AccessPolicy::Open)).await;
    let begun = Instant::now();
    for (number, image) in images.iter().enumerate() {
        let path = format!("/v2/main/alice/app/manifests/{}", number + 1);
        until(&path, async || {
            let answer = mirror.anonymous().head(&path).send().await;
            answer.header("docker-content-digest") == Some(&digest_of(image))
        })
        .await;
    }
    // Six images need more than ten requests, so it has waited.
    assert!(begun.elapsed() > Duration::from_secs(1), "{:?}", begun.elapsed());
    let metrics = mirror.anonymous().get("/metrics").send().await.status(200).text();
    let value =
        |name: &str| metrics.lines().find_map(|line| line.strip_prefix(&format!("{name}{{upstream=\"main\"}} ")));
    if let Some(floor) = value("coracle_mirror_quota_floor") {
        assert_eq!(floor, "0", "no alert for a limit that begins again soon");
    }
    let failed = value("coracle_mirror_errors_total").unwrap_or("0");
    assert!(failed.parse::<u64>().unwrap() < 20, "{failed} requests were refused");
}

#[test]
fn a_command_says_in_seconds_that_the_upstream_is_down() {
    let (root, upstream) = (tempfile::tempdir().unwrap(), closed());
    let keys = format!(
        "http.open = true\n[[extensions.sync.registries]]\nhost = 'main'\nurls = ['http://{upstream}']\nonDemand = \
         true\npollInterval = '8760h'\ncontent = [{{ prefix = 'team/*' }}]\n"
    );
    let running = Program::serve_with(root.path(), &keys).start();
    let config = root.path().join("coracle.toml");
    let command = |arguments: &[&str]| -> (Finished, Duration) {
        let begun = Instant::now();
        let done = Program::new(arguments).arg("--root").arg(root.path()).arg("--config").arg(&config).run();
        (done, begun.elapsed())
    };
    for name in ["main", "team/app:1"] {
        let (done, took) = command(&["mirror", "sync", name]);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.stderr.contains(&format!("{upstream} cannot be reached: ")), "{done:?}");
        assert!(!done.stderr.contains("wildcards") && took < SECONDS, "{took:?} {done:?}");
    }
    let (done, took) = command(&["import", &format!("docker://{upstream}")]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stdout.starts_with("imported: nothing\n") && took < SECONDS, "{took:?} {done:?}");
    assert!(done.stdout.contains(&format!("incomplete: {upstream} cannot be reached: ")), "{done:?}");
    assert!(!done.stdout.contains("wildcards"), "{done:?}");
    // podman takes a host without a dot for no registry.
    let (podman, _) = command(&["mirror", "setup", "podman", "--address", "mirror.example"]);
    assert!(podman.stdout.starts_with(&format!("[[registry]]\nprefix = \"{upstream}/team\"\n")), "{podman:?}");
    assert!(podman.stderr.contains("main, which has no dot"), "{podman:?}");
    // A moment is the same in each answer.
    let last = || -> Value {
        let (shown, _) = command(&["mirror", "status", "--json"]);
        let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
        let upstream = &shown["upstreams"][0];
        serde_json::json!([upstream["last_error"]["at"], upstream["sync"]["last"]["ended"], upstream["sync"]["next"]])
    };
    let before = last();
    assert!(before[0].as_str().is_some_and(|at| at.ends_with('Z') && !at.contains('.')), "{before}");
    assert_eq!((last(), last()), (before.clone(), before));
    running.stop();
}
