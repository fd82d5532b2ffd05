//! Pulls through a registry that mirrors another one.

mod between;

use std::time::{Duration, Instant};

use coracle::config::Config;
use coracle::{AccessPolicy, Registry};

use crate::support::TestRegistry;
use crate::support::content::{self, noise, push_blob, push_image, put_manifest, sha256};
use crate::support::http::Caller;
use crate::support::registry::{ALICE, BOB};
use between::{Between, Mode};

/// An upstream, a proxy before it, and a registry that mirrors it below `up/`.
struct Setting {
    upstream: TestRegistry,
    between: Between,
    mirror: TestRegistry,
}

impl Setting {
    /// `interval` is how long a tag is used without a comparison.
    async fn new(interval: &str) -> Self {
        let upstream = TestRegistry::open().await;
        let between = Between::before(upstream.running.address()).await;
        let config = Self::config(&between, interval);
        let mirror = TestRegistry::start(Registry::builder().config(config).policy(AccessPolicy::Open)).await;
        Self { upstream, between, mirror }
    }

    fn config(between: &Between, interval: &str) -> Config {
        let text = format!(
            "[[extensions.sync.registries]]\nurls = ['http://{}']\nonDemand = true\nmanifestCheckInterval = \
             '{interval}'\nmaxRetries = 0\ncontent = [{{ prefix = '**', destination = '/up' }}]\n",
            between.address
        );
        Config::from_toml_str(&text).unwrap().config
    }

    fn pusher(&self) -> Caller {
        self.upstream.anonymous()
    }

    fn puller(&self) -> Caller {
        self.mirror.anonymous()
    }
}

/// Pulls an image with its blobs, and compares every byte.
async fn pull(caller: &Caller, repository: &str, reference: &str, image: &serde_json::Value) {
    let manifest = caller.get(&format!("/v2/{repository}/manifests/{reference}")).send().await.status(200);
    assert_eq!(manifest.body, content::bytes(image));
    let layers = image["layers"].as_array().unwrap().iter().chain([&image["config"]]);
    for descriptor in layers {
        let digest = descriptor["digest"].as_str().unwrap();
        let blob = caller.get(&format!("/v2/{repository}/blobs/{digest}")).send().await.status(200);
        assert_eq!(sha256(&blob.body), digest);
    }
}

#[tokio::test]
async fn an_image_is_fetched_once_and_survives_its_upstream() {
    let t = Setting::new("1h").await;
    let image = push_image(&t.pusher(), "team/app", "1", 1).await;
    pull(&t.puller(), "up/team/app", "1", &image).await;
    assert_eq!(t.between.count("GET", "/manifests/"), 1);
    assert_eq!(t.between.count("GET", "/blobs/"), 2);
    let requests = t.between.total();
    pull(&t.puller(), "up/team/app", "1", &image).await;
    let digest = sha256(&content::bytes(&image));
    pull(&t.puller(), "up/team/app", &digest, &image).await;
    assert_eq!(t.between.total(), requests, "neither a tag within the interval nor a digest asks the upstream");
    t.puller().get("/v2/up/team/app/manifests/other").send().await.error(404, "MANIFEST_UNKNOWN");
    t.puller().get("/v2/elsewhere/manifests/1").send().await.error(404, "NAME_UNKNOWN");
}

#[tokio::test]
async fn a_tag_is_compared_with_one_head_request() {
    let t = Setting::new("0s").await;
    let first = push_image(&t.pusher(), "app", "1", 1).await;
    pull(&t.puller(), "up/app", "1", &first).await;
    let gets = t.between.count("GET", "");
    t.puller().get("/v2/up/app/manifests/1").send().await.status(200);
    assert_eq!((t.between.count("HEAD", "/manifests/1"), t.between.count("GET", "")), (1, gets));
    let second = push_image(&t.pusher(), "app", "1", 2).await;
    pull(&t.puller(), "up/app", "1", &second).await;
    assert_eq!(t.between.count("HEAD", "/manifests/1"), 2);
}

#[tokio::test]
async fn what_is_stored_is_served_whatever_the_upstream_does() {
    for mode in [Mode::Hang, Mode::Status(429), Mode::Status(401), Mode::Status(403), Mode::Status(500)] {
        let t = Setting::new("0s").await;
        let image = push_image(&t.pusher(), "app", "1", 1).await;
        pull(&t.puller(), "up/app", "1", &image).await;
        t.between.set(mode.clone());
        let started = Instant::now();
        let answer = t.puller().get("/v2/up/app/manifests/1").send().await.status(200);
        assert_eq!(answer.header("warning"), Some("110 coracle \"Response is Stale\""), "{mode:?}");
        assert!(started.elapsed() < Duration::from_secs(10), "{mode:?} took {:?}", started.elapsed());
        pull(&t.puller(), "up/app", "1", &image).await;
        // Content that is not stored is refused with the name of the upstream.
        let missing = t.puller().get("/v2/up/other/manifests/1").send().await;
        let expected = if mode == Mode::Hang { 504 } else { 502 };
        assert_eq!(missing.status, expected, "{mode:?}");
        assert!(missing.text().contains(&t.between.address.to_string()), "{mode:?}: {}", missing.text());
    }
}

#[tokio::test]
async fn many_clients_cause_one_download_and_the_first_may_leave() {
    let t = Setting::new("1h").await;
    let layer = noise(3_000_000, 7);
    push_blob(&t.pusher(), "app", b"{}").await;
    push_blob(&t.pusher(), "app", &layer).await;
    put_manifest(&t.pusher(), "app", "1", &content::image(b"{}", &[&layer])).await.status(201);
    let path = format!("/v2/up/app/blobs/{}", sha256(&layer));
    t.between.set(Mode::Half);
    let first = tokio::spawn(t.puller().get(&path).try_send());
    while t.between.count("GET", "/blobs/") == 0 {
        tokio::task::yield_now().await;
    }
    let others: Vec<_> = (0..16).map(|_| tokio::spawn(t.puller().get(&path).send())).collect();
    first.abort();
    let _ = first.await;
    t.between.set(Mode::Forward);
    for other in others {
        assert_eq!(other.await.unwrap().status(200).body, layer);
    }
    assert_eq!(t.between.count("GET", "/blobs/"), 1);
    assert_eq!(t.mirror.unfinished_uploads(), 0);
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
async fn only_known_hosts_are_mirrored_and_rights_stay() {
    let upstream = TestRegistry::open().await;
    let between = Between::before(upstream.running.address()).await;
    let image = push_image(&upstream.anonymous(), "team/app", "1", 3).await;
    let builder = Registry::builder().config(Setting::config(&between, "1h"));
    let mirror = TestRegistry::start(builder.user(ALICE.0, ALICE.1).user(BOB.0, BOB.1)).await;
    let requests = between.total();
    let path = "/v2/team/app/manifests/1";
    mirror.user(BOB).get("/v2/up/team/app/manifests/1").send().await.error(403, "DENIED");
    mirror.anonymous().get("/v2/up/team/app/manifests/1").send().await.error(401, "UNAUTHORIZED");
    let host = between.address;
    for ns in ["evil.example", "127.0.0.1", "169.254.169.254", "..", "a/b", &format!("{host}.evil.example")] {
        let answer = mirror.user(ALICE).get(&format!("{path}?ns={ns}")).send().await;
        answer.error(404, "NAME_UNKNOWN");
    }
    assert_eq!(between.total(), requests, "no refused request reaches the upstream");
    let open = Registry::builder().config(Setting::config(&between, "1h")).policy(AccessPolicy::Open);
    let open = TestRegistry::start(open).await;
    let answer = open.anonymous().get(&format!("{path}?ns={host}")).send().await.status(200);
    assert_eq!(answer.body, content::bytes(&image));
}

#[tokio::test]
async fn signatures_come_with_the_image() {
    let t = Setting::new("1h").await;
    let image = push_image(&t.pusher(), "app", "1", 4).await;
    let subject = sha256(&content::bytes(&image));
    let mut signature = content::image(b"{}", &[]);
    push_blob(&t.pusher(), "app", b"{}").await;
    signature["artifactType"] = "application/vnd.example.signature".into();
    signature["subject"] = content::descriptor("application/vnd.oci.image.manifest.v1+json", &content::bytes(&image));
    let digest = sha256(&content::bytes(&signature));
    put_manifest(&t.pusher(), "app", &digest, &signature).await.status(201);
    pull(&t.puller(), "up/app", "1", &image).await;
    let listed = t.puller().get(&format!("/v2/up/app/referrers/{subject}")).send().await.status(200);
    assert_eq!(listed.json()["manifests"][0]["digest"], digest.as_str());
    let requests = t.between.total();
    t.between.set(Mode::Hang);
    let stored = t.puller().get(&format!("/v2/up/app/manifests/{digest}")).send().await.status(200);
    assert_eq!(stored.body, content::bytes(&signature));
    assert_eq!(t.between.total(), requests, "the signature was stored with the list");
}
