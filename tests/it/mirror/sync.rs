//! Synchronisation on a schedule.

use std::time::Duration;

use coracle::config::Config;
use coracle::{AccessPolicy, Registry};
use serde_json::{Value, json};

use super::between::{Between, Mode};
use super::{Setting, pull};
use crate::support::TestRegistry;
use crate::support::content::{self, descriptor, noise, push_blob, push_image, put_manifest, sha256};
use crate::support::http::Caller;

/// The keys of a registry that synchronises `team/**` every second, below `up/`. `more` are further keys.
fn keys(between: &Between, more: &str) -> String {
    let content = "content = [{ prefix = 'team/**', destination = '/up' }]";
    let content = if more.contains("content") { "" } else { content };
    format!(
        "[[extensions.sync.registries]]\nurls = ['http://{}']\npollInterval = '1s'\nmaxRetries = 0\n{content}\n{more}\n",
        between.address
    )
}

impl Setting {
    /// An upstream with content, and a registry that synchronises it.
    async fn synchronised(upstream: TestRegistry, more: &str) -> Self {
        let between = Between::before(upstream.running.address()).await;
        let config = Config::from_toml_str(&keys(&between, more)).unwrap().config;
        let mirror = TestRegistry::start(Registry::builder().config(config).policy(AccessPolicy::Open)).await;
        Self { upstream, between, mirror }
    }

    /// Waits for a tag.
    async fn until_there(&self, repository: &str, tag: &str, digest: &str) {
        let path = format!("/v2/{repository}/manifests/{tag}");
        until(&path, async || {
            let answer = self.puller().head(&path).send().await;
            answer.status == 200 && answer.header("docker-content-digest") == Some(digest)
        })
        .await;
    }

    /// Waits until this many further runs have begun.
    async fn runs(&self, count: usize) {
        let before = self.between.count("GET", "/_catalog");
        until("runs", async || self.between.count("GET", "/_catalog") >= before + count).await;
    }
}

/// Waits for a condition.
pub(super) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_mins(1), waiting).await.is_ok(), "waited too long for {what}");
}

pub(super) fn digest_of(manifest: &Value) -> String {
    sha256(&content::bytes(manifest))
}

/// Pushes a signature of an image as cosign does, under a tag, and returns it.
async fn sign_by_tag(pusher: &Caller, repository: &str, image: &Value) -> (String, Value) {
    let tag = format!("{}.sig", digest_of(image).replace(':', "-"));
    (tag.clone(), push_image(pusher, repository, &tag, 77).await)
}

/// Pushes a referrer of an image.
async fn refer(pusher: &Caller, repository: &str, image: &Value, kind: &str) -> Value {
    let mut referrer = content::image(b"{}", &[]);
    push_blob(pusher, repository, b"{}").await;
    referrer["artifactType"] = kind.into();
    referrer["subject"] = descriptor(content::MANIFEST, &content::bytes(image));
    put_manifest(pusher, repository, &digest_of(&referrer), &referrer).await.status(201);
    referrer
}

#[tokio::test]
async fn a_run_brings_complete_images_with_their_signatures() {
    let upstream = TestRegistry::open().await;
    let pusher = upstream.anonymous();
    let first = push_image(&pusher, "team/app", "1", 1).await;
    let second = push_image(&pusher, "team/deep/er", "latest", 2).await;
    let (signature_tag, signature) = sign_by_tag(&pusher, "team/app", &first).await;
    let referrer = refer(&pusher, "team/app", &first, "application/vnd.example.sbom").await;
    push_image(&pusher, "other/app", "1", 3).await;
    let t = Setting::synchronised(upstream, "").await;
    t.until_there("up/team/app", "1", &digest_of(&first)).await;
    t.until_there("up/team/deep/er", "latest", &digest_of(&second)).await;
    t.runs(2).await;
    t.between.set(Mode::Hang);
    pull(&t.puller(), "up/team/app", "1", &first).await;
    pull(&t.puller(), "up/team/deep/er", "latest", &second).await;
    pull(&t.puller(), "up/team/app", &signature_tag, &signature).await;
    pull(&t.puller(), "up/team/app", &digest_of(&referrer), &referrer).await;
    let subject = digest_of(&first);
    let listed = t.puller().get(&format!("/v2/up/team/app/referrers/{subject}")).send().await.status(200);
    assert_eq!(listed.json()["manifests"][0]["digest"], digest_of(&referrer).as_str());
    t.puller().get("/v2/up/other/app/manifests/1").send().await.error(404, "NAME_UNKNOWN");
    t.puller().get("/v2/up/team/app/manifests/2").send().await.error(404, "MANIFEST_UNKNOWN");
}

#[tokio::test]
async fn an_unchanged_tag_costs_one_head_request_and_a_moved_one_is_fetched() {
    let upstream = TestRegistry::open().await;
    let first = push_image(&upstream.anonymous(), "team/app", "1", 1).await;
    let t = Setting::synchronised(upstream, "").await;
    t.until_there("up/team/app", "1", &digest_of(&first)).await;
    t.runs(1).await;
    let gets = (t.between.count("GET", "/manifests/"), t.between.count("GET", "/blobs/"));
    let referrers = t.between.count("GET", "/referrers/");
    t.runs(3).await;
    assert_eq!((t.between.count("GET", "/manifests/"), t.between.count("GET", "/blobs/")), gets);
    assert_eq!(gets, (1, 2));
    assert_eq!(t.between.count("GET", "/referrers/"), referrers);
    // Counted at one moment.
    let seen = t.between.seen();
    let count = |beginning: &str| seen.iter().filter(|seen| seen.line.starts_with(beginning)).count();
    let (heads, runs) = (count("HEAD /v2/team/app/manifests/1"), count("GET /v2/_catalog"));
    assert!(heads == runs || heads + 1 == runs, "{heads} in {runs} runs");
    let second = push_image(&t.pusher(), "team/app", "1", 2).await;
    t.until_there("up/team/app", "1", &digest_of(&second)).await;
    // A tag that the upstream no longer has stays.
    t.pusher().delete("/v2/team/app/manifests/1").send().await.status(202);
    t.runs(2).await;
    pull(&t.puller(), "up/team/app", "1", &second).await;
}

#[tokio::test]
async fn a_tag_appears_when_all_its_blobs_are_there_and_broken_transfers_continue() {
    let upstream = TestRegistry::open().await;
    let layer = noise(600_000, 5);
    let pusher = upstream.anonymous();
    push_blob(&pusher, "team/app", b"{}").await;
    push_blob(&pusher, "team/app", &layer).await;
    let image = content::image(b"{}", &[&layer]);
    let between = Between::before(upstream.running.address()).await;
    between.set(Mode::Half);
    let config = Config::from_toml_str(&keys(&between, "")).unwrap().config;
    put_manifest(&pusher, "team/app", "1", &image).await.status(201);
    let mirror = TestRegistry::start(Registry::builder().config(config).policy(AccessPolicy::Open)).await;
    let t = Setting { upstream, between, mirror };
    until("a blob", async || t.between.count("GET", "/blobs/") > 0).await;
    t.puller().get("/v2/up/team/app/manifests/1").send().await.status(404);
    t.between.set(Mode::Cut(250_000));
    t.until_there("up/team/app", "1", &digest_of(&image)).await;
    t.between.set(Mode::Status(503));
    pull(&t.puller(), "up/team/app", "1", &image).await;
    // The next runs fail, and the one after the recovery succeeds.
    let second = push_image(&t.pusher(), "team/app", "1", 6).await;
    let requests = t.between.total();
    until("a failed run", async || t.between.total() > requests).await;
    t.between.set(Mode::Forward);
    t.until_there("up/team/app", "1", &digest_of(&second)).await;
}

#[tokio::test]
async fn only_wanted_platforms_are_fetched_and_the_others_on_request() {
    let upstream = TestRegistry::open().await;
    let pusher = upstream.anonymous();
    let mut children = Vec::new();
    for seed in 0..10 {
        children.push(push_image(&pusher, "team/app", &format!("child{seed}"), 100 + seed).await);
        pusher.delete(&format!("/v2/team/app/manifests/child{seed}")).send().await.status(202);
    }
    let mut index = content::index(&children.iter().collect::<Vec<_>>());
    for (number, entry) in index["manifests"].as_array_mut().unwrap().iter_mut().enumerate() {
        entry["platform"] = json!({ "os": "linux", "architecture": format!("cpu{number}") });
    }
    put_manifest(&pusher, "team/app", "1", &index).await.status(201);
    let t = Setting::synchronised(upstream, "platforms = ['linux/cpu3', 'linux/cpu7']").await;
    t.until_there("up/team/app", "1", &digest_of(&index)).await;
    t.runs(2).await;
    assert_eq!((t.between.count("GET", "/manifests/"), t.between.count("GET", "/blobs/")), (3, 4));
    let stored = t.puller().get("/v2/up/team/app/manifests/1").send().await.status(200);
    assert_eq!(stored.body, content::bytes(&index));
    // This is what `skopeo copy --all` does.
    for child in &children {
        pull(&t.puller(), "up/team/app", &digest_of(child), child).await;
    }
    assert_eq!(t.between.count("GET", "/manifests/"), 11);
    let unlisted = push_image(&t.pusher(), "team/app", "unlisted", 200).await;
    // A digest that no stored manifest lists is not fetched: the registry does not mirror on demand.
    t.between.set(Mode::Hang);
    let path = format!("/v2/up/team/app/manifests/{}", digest_of(&unlisted));
    t.puller().get(&path).send().await.status(404);
}

#[tokio::test]
async fn a_pushed_tag_is_never_replaced() {
    let upstream = TestRegistry::open().await;
    let t = Setting::synchronised(upstream, "").await;
    let own = push_image(&t.puller(), "up/team/app", "1", 10).await;
    push_image(&t.pusher(), "team/app", "1", 11).await;
    let other = push_image(&t.pusher(), "team/app", "2", 12).await;
    t.until_there("up/team/app", "2", &digest_of(&other)).await;
    t.runs(2).await;
    pull(&t.puller(), "up/team/app", "1", &own).await;
}

#[tokio::test]
async fn a_repository_without_wildcards_needs_no_catalog_and_only_signed_images_come() {
    let upstream = TestRegistry::open().await;
    let pusher = upstream.anonymous();
    let tagged = push_image(&pusher, "team/app", "tagged", 1).await;
    sign_by_tag(&pusher, "team/app", &tagged).await;
    let referred = push_image(&pusher, "team/app", "referred", 2).await;
    refer(&pusher, "team/app", &referred, "application/vnd.cncf.notary.signature").await;
    let described = push_image(&pusher, "team/app", "described", 3).await;
    refer(&pusher, "team/app", &described, "application/vnd.example.sbom").await;
    push_image(&pusher, "team/app", "unsigned", 4).await;
    let more = "onlySigned = true\ncontent = [{ prefix = 'team/app', destination = '/copy', stripPrefix = true }]";
    let t = Setting::synchronised(upstream, more).await;
    t.until_there("copy", "tagged", &digest_of(&tagged)).await;
    t.until_there("copy", "referred", &digest_of(&referred)).await;
    let lists = t.between.count("GET", "/tags/list");
    until("two more runs", async || t.between.count("GET", "/tags/list") >= lists + 2).await;
    assert_eq!(t.between.count("GET", "/_catalog"), 0);
    for tag in ["described", "unsigned"] {
        t.puller().get(&format!("/v2/copy/manifests/{tag}")).send().await.status(404);
    }
}

/// A fixed name is synchronised although the upstream does not list its repositories. For the table of differences from zot.
pub async fn name_needs_no_catalog() {
    let upstream = TestRegistry::open().await;
    let image = push_image(&upstream.anonymous(), "team/app", "1", 1).await;
    let t = Setting::synchronised(upstream, "content = [{ prefix = 'team/app' }]").await;
    t.until_there("team/app", "1", &digest_of(&image)).await;
    assert_eq!(t.between.count("GET", "/_catalog"), 0);
}

/// Without an interval in the configuration, a second pull of a tag asks the upstream nothing. For the same table.
pub async fn tag_is_compared_once_a_minute() {
    let upstream = TestRegistry::open().await;
    let image = push_image(&upstream.anonymous(), "team/app", "1", 1).await;
    let between = Between::before(upstream.running.address()).await;
    let keys = format!("[[extensions.sync.registries]]\nurls = ['http://{}']\nonDemand = true\n", between.address);
    let config = Config::from_toml_str(&keys).unwrap().config;
    let mirror = TestRegistry::start(Registry::builder().config(config).policy(AccessPolicy::Open)).await;
    pull(&mirror.anonymous(), "team/app", "1", &image).await;
    let requests = between.total();
    pull(&mirror.anonymous(), "team/app", "1", &image).await;
    assert_eq!(between.total(), requests);
}
