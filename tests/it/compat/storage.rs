//! Differences of quotas and mandatory annotations.

use coracle::config::Config;
use coracle::{AccessPolicy, Registry};

use crate::support::TestRegistry;
use crate::support::content::{push_image, put_manifest};
use crate::support::http::Caller;

async fn with(config: &str) -> TestRegistry {
    let config = Config::from_toml_str(config).unwrap().config;
    TestRegistry::start(Registry::builder().config(config).policy(AccessPolicy::Open)).await
}

checks! {
    async fn one_more_repository_is_refused_at_its_first_blob(_caller, repository) {
        let t = with("storage.maxRepos = 1").await;
        let caller = t.anonymous();
        push_image(&caller, repository, "1", 1).await;
        caller.post("/v2/one/more/blobs/uploads/").send().await.error(429, "TOOMANYREQUESTS");
    }

    async fn referrers_need_no_annotations(_caller, repository) {
        let t = with("[extensions.lint]\nenable = true\nmandatoryAnnotations = ['vendor']\n").await;
        let caller = t.anonymous();
        crate::support::content::push_blob(&caller, repository, b"{}").await;
        let mut manifest = crate::support::content::image(b"{}", &[]);
        put_manifest(&caller, repository, "1", &manifest).await.error(400, "MANIFEST_INVALID");
        manifest["subject"] = manifest["config"].clone();
        put_manifest(&caller, repository, "1", &manifest).await.status(201);
    }
}
