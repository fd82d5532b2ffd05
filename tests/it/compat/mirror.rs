//! Differences of the mirror.

use coracle::config::Config;
use coracle::{AccessPolicy, Registry};

use crate::support::TestRegistry;
use crate::support::content::push_image;
use crate::support::http::Caller;

checks! {
    async fn tags_of_an_upstream_are_listed(_caller, repository) {
        let upstream = TestRegistry::open().await;
        for (tag, seed) in [("1", 1), ("2", 10)] {
            push_image(&upstream.anonymous(), repository, tag, seed).await;
        }
        let config = format!(
            "[[extensions.sync.registries]]\nurls = ['http://{}']\nonDemand = true\n",
            upstream.running.address()
        );
        let config = Config::from_toml_str(&config).unwrap().config;
        let mirror = TestRegistry::start(Registry::builder().config(config).policy(AccessPolicy::Open)).await;
        let mirrored = mirror.anonymous();
        mirrored.get(&format!("/v2/{repository}/manifests/1")).send().await.status(200);
        let listed = mirrored.get(&format!("/v2/{repository}/tags/list")).send().await.status(200);
        assert_eq!(listed.json()["tags"], serde_json::json!(["1", "2"]));
    }
}
