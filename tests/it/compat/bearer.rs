//! The rows about tokens of an external token issuer.

use std::path::Path;

use aws_lc_rs::signature::ECDSA_P521_SHA512_FIXED_SIGNING;
use coracle::Registry;
use coracle::config::Config;
use serde_json::{Value, json};

use crate::support::TestRegistry;
use crate::support::content::{push_image, start_upload};
use crate::support::http::{Answer, Caller};
use crate::support::issuer::Private;
use crate::support::registry::{ALICE, ROOT};
use crate::workload::issuer::Issuer;

/// A configuration in zot's profile with an external token issuer, whose keys are these.
fn settings(directory: &Path, keys: &str, more: &str) -> Config {
    let file = directory.join("keys");
    std::fs::write(&file, keys).unwrap();
    let bearer = "[http.auth.bearer]\nrealm = 'https://auth.example/auth'\nservice = 'here'";
    let text = format!("profile = 'zot'\n{more}\n{bearer}\ncert = '{}'\n", file.display());
    Config::from_toml_str(&text).unwrap().config
}

/// A registry that is configured so.
async fn believing(keys: &str, more: &str) -> TestRegistry {
    let directory = tempfile::tempdir().unwrap();
    let builder = Registry::builder().config(settings(directory.path(), keys, more));
    TestRegistry::start(builder.user(ALICE.0, ALICE.1).superuser(ROOT.0, ROOT.1)).await
}

/// A token that lets through these actions on `a/b`, and what else its claims say.
fn token(key: &Private, actions: &[&str], more: &Value) -> String {
    let access = json!([{ "type": "repository", "name": "a/b", "actions": actions }]);
    let mut claims = json!({ "exp": jiff::Timestamp::now().as_second() + 300, "access": access });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    key.token("EdDSA", &json!({}), &claims)
}

async fn get(t: &TestRegistry, token: &str, path: &str) -> Answer {
    t.anonymous().get(path).header("authorization", format!("Bearer {token}")).send().await
}

/// A registry in zot's profile that accepts tokens of an issuer as alice.
async fn admitting(issuer: &Issuer) -> TestRegistry {
    let rules = "{ claims = { repository = 'org/app' }, user = 'alice' }";
    let config = Config::from_toml_str(&format!("profile = 'zot'\n{}", issuer.settings("", rules))).unwrap().config;
    TestRegistry::start(Registry::builder().config(config).user(ALICE.0, ALICE.1)).await
}

checks! {
    async fn workload_tokens_need_rules(_caller, _repository) {
        let issuer = Issuer::start();
        for (more, wrong) in [("", "rules: is missing"), ("claimMapping = { username = 'claims.sub' }", "claimMapping: not supported")] {
            let error = Config::from_toml_str(&issuer.settings(more, "")).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }

    async fn workload_tokens_are_passwords(_caller, _repository) {
        let issuer = Issuer::start();
        let t = admitting(&issuer).await;
        let caller = t.user(("any", &issuer.token(&json!({}))));
        caller.get("/v2/").send().await.status(200);
        caller.get("/v2/auth?scope=repository:alice/x:pull").send().await.status(200);
        start_upload(&caller, "alice/x").await;
    }

    async fn workload_tokens_are_exchanged(_caller, _repository) {
        let issuer = Issuer::start();
        let t = admitting(&issuer).await;
        let token = issuer.token(&json!({}));
        let caller = t.user(("any", &token));
        let same = caller.get("/zot/auth/token").send().await.status(200).json();
        assert_eq!(same["token"], token);
        let other = caller.get("/zot/auth/token?scope=repository:alice/x:pull").send().await.status(200).json();
        assert_ne!(other["token"], token);
    }

    async fn local_credentials_are_accepted_with_external_tokens(_caller, _repository) {
        let t = believing(&Private::ed().public_pem(), "").await;
        start_upload(&t.user(ALICE), "alice/x").await;
        let made = t.user(ALICE).post("/zot/auth/apikey").body("{}").send().await.status(201).json();
        t.user((ALICE.0, made["apiKey"].as_str().unwrap())).get("/v2/").send().await.status(200);
    }

    async fn anonymous_rights_stay_with_external_tokens(_caller, _repository) {
        let rules = "[http.accessControl.repositories]\n'**' = { anonymousPolicy = ['read'] }";
        let t = believing(&Private::ed().public_pem(), rules).await;
        push_image(&t.user(ROOT), "a/b", "1", 1).await;
        t.anonymous().get("/v2/a/b/tags/list").send().await.status(200);
        t.anonymous().get("/v2/").send().await.error(401, "UNAUTHORIZED");
    }

    async fn external_tokens_are_checked_for_their_audience(_caller, _repository) {
        let key = Private::ed();
        let t = believing(&key.public_pem(), "").await;
        for (more, status) in [
            (json!({ "aud": "here" }), 404),
            (json!({ "aud": ["there", "here"] }), 404),
            (json!({}), 404),
            (json!({ "aud": "there" }), 401),
        ] {
            get(&t, &token(&key, &["pull"], &more), "/v2/a/b/tags/list").await.status(status);
        }
    }

    async fn external_tokens_have_an_end(_caller, _repository) {
        let key = Private::ed();
        let t = believing(&key.public_pem(), "").await;
        get(&t, &key.token("EdDSA", &json!({}), &json!({})), "/v2/").await.error(401, "UNAUTHORIZED");
        get(&t, &token(&key, &[], &json!({})), "/v2/").await.status(200);
    }

    async fn invalid_external_tokens_are_challenged(_caller, _repository) {
        let t = believing(&Private::ed().public_pem(), "").await;
        let refused = get(&t, &token(&Private::ed(), &["pull"], &json!({})), "/v2/a/b/tags/list").await;
        let refused = refused.error(401, "UNAUTHORIZED");
        assert!(refused.header("www-authenticate").unwrap().ends_with("scope=\"repository:a/b:pull\",error=\"invalid_token\""));
    }

    async fn the_challenge_of_a_push_asks_for_pull_as_well(_caller, _repository) {
        let t = believing(&Private::ed().public_pem(), "").await;
        let refused = t.anonymous().post("/v2/a/b/blobs/uploads/").send().await.error(401, "UNAUTHORIZED");
        assert!(refused.header("www-authenticate").unwrap().ends_with(",scope=\"repository:a/b:pull,push\""));
    }

    async fn the_catalog_has_a_scope_of_its_own(_caller, _repository) {
        let key = Private::ed();
        let t = believing(&key.public_pem(), "").await;
        let refused = get(&t, &token(&key, &["pull"], &json!({})), "/v2/_catalog").await.error(401, "UNAUTHORIZED");
        assert!(refused.header("www-authenticate").unwrap().contains("scope=\"registry:catalog:*\""));
        let access = json!({ "access": [{ "type": "registry", "name": "catalog", "actions": ["*"] }] });
        get(&t, &token(&key, &[], &access), "/v2/_catalog").await.status(200);
    }

    async fn a_star_in_external_tokens_is_every_action(_caller, _repository) {
        let key = Private::ed();
        let t = believing(&key.public_pem(), "").await;
        get(&t, &token(&key, &["*"], &json!({})), "/v2/a/b/tags/list").await.error(404, "NAME_UNKNOWN");
    }

    async fn sets_of_several_keys_are_taken(_caller, _repository) {
        let keys = [Private::ed(), Private::ed()];
        let t = believing(&json!({ "keys": [keys[0].jwk("a"), keys[1].jwk("b")] }).to_string(), "").await;
        for key in &keys {
            get(&t, &token(key, &[], &json!({})), "/v2/").await.status(200);
        }
    }

    async fn keys_on_p521_are_refused(_caller, _repository) {
        let directory = tempfile::tempdir().unwrap();
        let key = Private::ec(&ECDSA_P521_SHA512_FIXED_SIGNING);
        let config = settings(directory.path(), &key.public_pem(), "");
        let error = Registry::builder().config(config).temporary().open().unwrap_err().to_string();
        assert!(error.contains("http.auth.bearer.cert") && error.contains("P-256"), "{error}");
    }
}
