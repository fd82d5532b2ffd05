//! The keys of issuers: rotation, outages, and files.

use std::time::{Duration, Instant};

use coracle::Registry;
use coracle::config::Config;
use serde_json::json;

use super::issuer::{Issuer, signing};
use crate::support::TestRegistry;
use crate::support::issuer::Private;
use crate::support::registry::ALICE;

const RULES: &str = "{ claims = { repository = 'org/app' }, groups = ['ci'] }";
const PATIENCE: Duration = Duration::from_mins(1);

async fn registry(settings: &str) -> TestRegistry {
    let config = Config::from_toml_str(settings).unwrap().config;
    TestRegistry::start(Registry::builder().config(config).user(ALICE.0, ALICE.1)).await
}

async fn status(t: &TestRegistry, token: &str) -> u16 {
    t.user(("any", token)).get("/v2/").send().await.status.as_u16()
}

/// Waits until a token gets a status.
async fn until(t: &TestRegistry, token: &str, wanted: u16) {
    let deadline = Instant::now() + PATIENCE;
    while status(t, token).await != wanted {
        assert!(Instant::now() < deadline, "the token does not get {wanted}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn tokens_of_a_removed_key_are_refused_and_those_of_a_new_key_accepted() {
    let (issuer, next) = (Issuer::start(), Private::p256());
    let t = registry(&issuer.settings("keysRefresh = '1s'", RULES)).await;
    let token = issuer.token(&json!({}));
    assert_eq!(status(&t, &token).await, 200);
    issuer.set_keys(vec![signing(&next, "e1", "ES256")]);
    let newer = next.token("ES256", &json!({ "kid": "e1" }), &issuer.claims(&json!({})));
    until(&t, &newer, 200).await;
    assert_eq!(status(&t, &token).await, 401, "its key is gone");
    // A key that is only announced under another issuer does not count.
    issuer.set_metadata(json!({ "issuer": "https://evil.example" }));
    let third = Private::ed();
    issuer.set_keys(vec![signing(&third, "o1", "EdDSA")]);
    let forged = third.token("EdDSA", &json!({ "kid": "o1" }), &issuer.claims(&json!({})));
    until(&t, &forged, 503).await;
    issuer.set_metadata(json!({}));
    until(&t, &forged, 200).await;
}

#[tokio::test]
async fn known_keys_stay_in_use_during_an_outage() {
    let issuer = Issuer::start();
    issuer.set_down(true);
    let t = registry(&issuer.settings("keysRefresh = '1s'", RULES)).await;
    let token = issuer.token(&json!({}));
    let answer = t.user(("any", &token)).get("/v2/").send().await.status(503);
    assert!(answer.header("retry-after").is_some() && !answer.text().contains("500"), "{}", answer.text());
    t.user(ALICE).get("/v2/").send().await.status(200);
    issuer.set_down(false);
    until(&t, &token, 200).await;
    issuer.set_down(true);
    let before = issuer.requests();
    let deadline = Instant::now() + PATIENCE;
    // The keys get old, the issuer is asked without success, and the token is accepted all the time.
    while issuer.requests() < before + 2 {
        assert_eq!(status(&t, &token).await, 200);
        assert!(Instant::now() < deadline, "the issuer is not asked");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn callers_do_not_wait_for_an_issuer_that_hangs() {
    let issuer = Issuer::start();
    let t = registry(&issuer.settings("keysRefresh = '1s'", RULES)).await;
    let token = issuer.token(&json!({}));
    assert_eq!(status(&t, &token).await, 200);
    issuer.set_hanging(true);
    let deadline = Instant::now() + PATIENCE;
    // One caller finds out that the issuer hangs.
    let before = issuer.requests();
    while issuer.requests() == before {
        assert_eq!(status(&t, &token).await, 200);
        assert!(Instant::now() < deadline, "the issuer is not asked");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // While one caller waits for the next attempt, the others do not.
    let before = issuer.requests();
    let mut waiting = None;
    let is_done = |task: &tokio::task::JoinHandle<u16>| task.is_finished();
    while issuer.requests() == before {
        assert!(Instant::now() < deadline, "the issuer is not asked");
        if waiting.as_ref().is_none_or(is_done) {
            let caller = t.user(("any", &token));
            waiting = Some(tokio::spawn(async move { caller.get("/v2/").send().await.status.as_u16() }));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let waiting = waiting.unwrap();
    for _ in 0..20 {
        assert_eq!(status(&t, &token).await, 200);
    }
    assert!(!waiting.is_finished(), "it waits for the issuer");
    issuer.set_hanging(false);
    assert_eq!(waiting.await.unwrap(), 200);
}

#[tokio::test]
async fn keys_can_come_from_a_file() {
    let (issuer, directory) = (Issuer::start(), tempfile::tempdir().unwrap());
    issuer.set_down(true);
    let file = directory.path().join("keys.json");
    std::fs::write(&file, json!({ "keys": [issuer.rsa.jwk("r1")] }).to_string()).unwrap();
    let t = registry(&issuer.settings(&format!("keysFile = '{}'\nkeysRefresh = '1s'", file.display()), RULES)).await;
    let token = issuer.token(&json!({}));
    assert_eq!(status(&t, &token).await, 200);
    assert_eq!(issuer.requests(), 0);
    std::fs::write(&file, json!({ "keys": [issuer.rsa.jwk("r2")] }).to_string()).unwrap();
    until(&t, &token, 401).await;
}
