//! Pulls through a registry that mirrors another one.

mod answers;
mod between;
mod content;
mod credentials;
mod faults;
mod kills;
mod limits;
mod lists;
mod origin;
mod people;
mod pull;
mod rights;
mod room;
mod rules;
mod sync;
mod tls;

use std::time::{Duration, Instant};

use coracle::config::Config;
use coracle::{AccessPolicy, Registry};

use crate::support::TestRegistry;
use crate::support::content::{bytes, sha256};
use crate::support::http::{Answer, Caller};
use between::Between;
pub use sync::{name_needs_no_catalog, tag_is_compared_once_a_minute};

/// Longer than any response takes on a busy machine, and shorter than the wait for an upstream.
const AT_ONCE: Duration = Duration::from_secs(10);
/// How long a test waits for a response that is not stale.
const PATIENCE: Duration = Duration::from_mins(1);
/// The warning of a response that may be outdated.
const STALE: &str = "110 coracle \"Response is Stale\"";

/// An upstream, a proxy before it, and a registry that mirrors it below `up/`.
struct Setting {
    upstream: TestRegistry,
    between: Between,
    mirror: TestRegistry,
}

impl Setting {
    /// `interval` is how long a tag is used without a comparison.
    async fn new(interval: &str) -> Self {
        Self::of(|between| Self::config(between, interval)).await
    }

    /// Takes the text of a configuration.
    async fn with(text: impl FnOnce(&Between) -> String) -> Self {
        Self::of(|between| Config::from_toml_str(&text(between)).unwrap().config).await
    }

    async fn of(config: impl FnOnce(&Between) -> Config) -> Self {
        let upstream = TestRegistry::open().await;
        let between = Between::before(upstream.running.address()).await;
        let config = config(&between);
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

    /// Requests until a response is not stale. Returns it, and how many HEAD and GET requests the upstream got for it.
    async fn compared(&self, path: &str) -> (Answer, [usize; 2]) {
        let counts = || ["HEAD", "GET"].map(|method| self.between.count(method, ""));
        let started = Instant::now();
        loop {
            let before = counts();
            let answer = self.puller().get(path).send().await.status(200);
            if !is_stale(&answer) {
                let now = counts();
                return (answer, [now[0] - before[0], now[1] - before[1]]);
            }
            assert!(started.elapsed() < PATIENCE, "{path} is stale");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Whether the mirror could not ask the upstream. On a busy machine that happens also with a good upstream, because a
/// stored tag waits only 0.8 s for it.
fn is_stale(answer: &Answer) -> bool {
    answer.header("warning") == Some(STALE)
}

/// Pulls an image with its blobs, and compares every byte. Returns the response with the manifest.
async fn pull(caller: &Caller, repository: &str, reference: &str, image: &serde_json::Value) -> Answer {
    let manifest = caller.get(&format!("/v2/{repository}/manifests/{reference}")).send().await.status(200);
    assert_eq!(manifest.body, bytes(image));
    let layers = image["layers"].as_array().unwrap().iter().chain([&image["config"]]);
    for descriptor in layers {
        let digest = descriptor["digest"].as_str().unwrap();
        let blob = caller.get(&format!("/v2/{repository}/blobs/{digest}")).send().await.status(200);
        assert_eq!(sha256(&blob.body), digest);
    }
    manifest
}
