//! Which requests are challenged, and for what: clients learn there whether to send credentials, and which.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coracle::Registry;
use coracle::config::Config;
use serde_json::{Value, json};

use crate::support::TestRegistry;
use crate::support::content::push_image;
use crate::support::http::{Answer, Caller};
use crate::support::registry::{ALICE, BOB, ROOT};

/// A registry with the three users, in this profile and with these rules.
async fn registry(profile: &str, rules: &str) -> TestRegistry {
    let table = if rules.is_empty() { String::new() } else { format!("[http.accessControl.repositories]\n{rules}") };
    let config = Config::from_toml_str(&format!("profile = '{profile}'\n{table}")).unwrap().config;
    let builder = Registry::builder().config(config).user(ALICE.0, ALICE.1).user(BOB.0, BOB.1);
    TestRegistry::start(builder.superuser(ROOT.0, ROOT.1)).await
}

/// Makes a repository public.
async fn publish(t: &TestRegistry, repository: &str) {
    let key = t.user(ROOT).post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    let request = t.anonymous().post(&format!("/api/v1/repository/{repository}/changevisibility"));
    let request = request.header("authorization", format!("Bearer {}", key["apiKey"].as_str().unwrap()));
    request.body(json!({ "visibility": "public" }).to_string()).send().await.status(200);
}

/// The scheme of a challenge.
fn scheme(answer: &Answer) -> &str {
    answer.header("www-authenticate").unwrap().split(' ').next().unwrap()
}

/// The `access` claim of the token that the token service issues for this scope.
async fn granted(caller: &Caller, scope: &str) -> Value {
    let answer = caller.get(&format!("/v2/auth?scope={scope}")).send().await.status(200).json();
    let token = answer["token"].as_str().unwrap();
    let stranger = Caller::new(caller.address(), None);
    stranger.get("/v2/").header("authorization", format!("Bearer {token}")).send().await.status(200);
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<Value>(&claims).unwrap()["access"][0]["actions"].clone()
}

#[tokio::test]
async fn the_first_request_of_a_client_is_challenged_whatever_anonymous_callers_may_do() {
    let all = "['read', 'create', 'update', 'delete']";
    let private = format!("'**' = {{ defaultPolicy = {all} }}");
    let mixed = format!("'base/**' = {{ anonymousPolicy = ['read'], defaultPolicy = {all} }}\n{private}");
    let for_reading = format!("'**' = {{ anonymousPolicy = ['read'], defaultPolicy = {all} }}");
    let for_all = format!("'**' = {{ anonymousPolicy = {all} }}");
    // zot challenges for a password. A docker without one can only follow a challenge for a token.
    for (profile, rules, with_public, expected, guests) in [
        ("coracle", "", false, "Bearer", false),
        ("coracle", &*mixed, false, "Bearer", false),
        ("zot", "", false, "Basic", false),
        ("zot", &private, false, "Basic", false),
        ("zot", &private, true, "Bearer", false),
        ("zot", "", true, "Bearer", false),
        ("zot", &mixed, false, "Bearer", true),
        ("zot", &for_reading, false, "Bearer", true),
        ("zot", &for_all, false, "Bearer", true),
    ] {
        let what = format!("{profile} {with_public} {rules}");
        let t = registry(profile, rules).await;
        push_image(&t.user(ROOT), "base/x", "1", 1).await;
        if with_public {
            publish(&t, "base/x").await;
        }
        for path in ["/v2/", "/v2"] {
            let refused = t.anonymous().get(path).send().await.error(401, "UNAUTHORIZED");
            assert_eq!(scheme(&refused), expected, "{what}");
            t.user(ALICE).get(path).send().await.status(200);
        }
        // An anonymous token also passes: docker asks with it.
        let answer = t.anonymous().get("/v2/auth?scope=repository:base/x:pull").send().await.status(200).json();
        let bearer = format!("Bearer {}", answer["token"].as_str().unwrap());
        t.anonymous().get("/v2/").header("authorization", bearer).send().await.status(200);

        // Wrong credentials never become an anonymous caller.
        let is_public = with_public || rules.contains("anonymous");
        let status = if is_public { 200 } else { 401 };
        t.anonymous().get("/v2/base/x/manifests/1").send().await.status(status);
        let wrong = t.user((ALICE.0, "wrong"));
        for path in ["/v2/", "/v2/base/x/manifests/1", "/v2/auth", "/v2/auth?scope=repository:base/x:pull"] {
            let refused = wrong.get(path).send().await.error(401, "UNAUTHORIZED");
            assert_eq!(scheme(&refused), expected, "{what} {path}");
        }

        // zot's page offers to browse as a guest and is never challenged.
        let page = t.anonymous().get("/v2/").header("x-zot-api-client", "zot-ui").send().await;
        assert_eq!((page.status == 200, page.header("www-authenticate")), (guests, None), "{what}");
    }
}

#[tokio::test]
async fn the_challenge_of_a_head_request_offers_what_a_push_or_a_deletion_needs_next() {
    let t = TestRegistry::with_users().await;
    push_image(&t.user(ALICE), "alice/x", "1", 1).await;
    let digest = format!("sha256:{}", "0".repeat(64));
    let manifest = "/v2/alice/x/manifests/1".to_owned();
    let blob = format!("/v2/alice/x/blobs/{digest}");
    for (method, path, actions) in [
        ("HEAD", &manifest, "pull,push,delete"),
        ("GET", &manifest, "pull"),
        ("HEAD", &blob, "pull,push"),
        ("GET", &blob, "pull"),
    ] {
        let refused = t.anonymous().request(method.parse().unwrap(), path).send().await.status(401);
        let challenge = refused.header("www-authenticate").unwrap();
        assert!(
            challenge.ends_with(&format!(",scope=\"repository:alice/x:{actions}\"")),
            "{method} {path}: {challenge}"
        );
    }
    // The token has the allowed part of the requested actions. Requesting more is no error.
    publish(&t, "alice/x").await;
    for actions in ["pull,push", "pull,push,delete"] {
        let scope = format!("repository:alice/x:{actions}");
        assert_eq!(granted(&t.anonymous(), &scope).await, json!(["pull"]));
        assert_eq!(granted(&t.user(BOB), &scope).await, json!(["pull"]));
        assert_eq!(granted(&t.user(ALICE), &scope).await.as_array().unwrap().len(), actions.split(',').count());
    }
}
