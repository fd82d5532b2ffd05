//! Limits of API keys: they create nothing that outlives them, and have no rights that their owner did not grant.

use coracle::Registry;
use coracle::config::Config;
use serde_json::{Value, json};

use super::browser::Browser;
use crate::support::TestRegistry;
use crate::support::content::push_image;
use crate::support::http::{Answer, Caller};
use crate::support::registry::{ALICE, BOB, ROOT};

const KEYS: &str = "/zot/auth/apikey";
const TOKENS: &str = "/api/v1/user/apptoken";

async fn key(owner: &Caller, body: Value) -> String {
    let made = owner.post(KEYS).body(body.to_string()).send().await.status(201).json();
    made["apiKey"].as_str().unwrap().to_owned()
}

/// A request to API v1 with a key.
async fn by_key(t: &TestRegistry, key: &str, method: &str, path: &str, body: &Value) -> Answer {
    let request = t.anonymous().request(method.parse().unwrap(), path).header("authorization", format!("Bearer {key}"));
    request.header("content-type", "application/json").body(body.to_string()).send().await
}

fn zot(rules: &str) -> coracle::Builder {
    let config = Config::from_toml_str(&format!("profile = 'zot'\n{rules}")).unwrap().config;
    Registry::builder().config(config).user(ALICE.0, ALICE.1).user(BOB.0, BOB.1).superuser(ROOT.0, ROOT.1)
}

#[tokio::test]
async fn a_public_repository_is_made_by_those_alone_who_may_make_it_public() {
    let body = |namespace: &str, visibility: &str| json!({ "namespace": namespace, "repository": "new", "visibility": visibility, "description": "" });
    let t = TestRegistry::with_users().await;
    let limited = key(&t.user(ALICE), json!({ "scopes": ["alice/**"] })).await;
    let unlimited = key(&t.user(ALICE), json!({})).await;
    by_key(&t, &limited, "POST", "/api/v1/repository", &body("alice", "public")).await.status(403);
    t.user(ALICE).get("/v2/alice/new/tags/list").send().await.status(404);
    by_key(&t, &limited, "POST", "/api/v1/repository", &body("alice", "private")).await.status(201);
    let visibility = json!({ "visibility": "public" });
    let change = "/api/v1/repository/alice/new/changevisibility";
    by_key(&t, &limited, "POST", change, &visibility).await.status(403);
    by_key(&t, &unlimited, "POST", change, &visibility).await.status(200);
    let other = json!({ "namespace": "alice", "repository": "other", "visibility": "public", "description": "" });
    by_key(&t, &unlimited, "POST", "/api/v1/repository", &other).await.status(201);

    // Nor by a user who may create, and no more.
    let rules = "[http.accessControl.repositories.'ci/**']\npolicies = [{ users = ['bob'], actions = ['create', 'update', 'read'] }]\n";
    let t = TestRegistry::start(zot(rules)).await;
    let mut bob = Browser::signed_in(&t, BOB).await;
    bob.tell("POST", "/api/v1/repository", &body("ci", "public")).await.status(403);
    bob.tell("POST", "/api/v1/repository", &body("ci", "private")).await.status(201);
    let mut root = Browser::signed_in(&t, ROOT).await;
    let other = json!({ "namespace": "ci", "repository": "other", "visibility": "public", "description": "" });
    root.tell("POST", "/api/v1/repository", &other).await.status(201);
}

#[tokio::test]
async fn a_key_lists_keys_by_no_route() {
    let t = TestRegistry::with_users().await;
    for user in [ALICE, ROOT] {
        let key = key(&t.user(user), json!({})).await;
        t.user((user.0, &key)).get(KEYS).send().await.error(403, "DENIED");
        for path in [TOKENS, "/api/v1/superuser/apptokens"] {
            by_key(&t, &key, "GET", path, &json!({})).await.status(403);
        }
    }
    Browser::signed_in(&t, ALICE).await.get(TOKENS).await.status(200);
    Browser::signed_in(&t, ROOT).await.get("/api/v1/superuser/apptokens").await.status(200);
    // In zot's profile a key without scopes lists the keys by both routes.
    let t = TestRegistry::start(zot("")).await;
    for (body, status) in [(json!({}), 200), (json!({ "scopes": ["**"] }), 403)] {
        let key = key(&t.user(ALICE), body).await;
        t.user((ALICE.0, &key)).get(KEYS).send().await.status(status);
        by_key(&t, &key, "GET", TOKENS, &json!({})).await.status(status);
    }
}

#[tokio::test]
async fn a_key_that_expires_makes_none_that_lives_longer() {
    let t = TestRegistry::start(zot("")).await;
    let soon = (jiff::Timestamp::now() + std::time::Duration::from_hours(1)).to_string();
    let first = key(&t.user(ALICE), json!({ "expirationDate": soon })).await;
    let by_first = t.user((ALICE.0, &first));
    let make = async |caller: &Caller, body: Value| caller.post(KEYS).body(body.to_string()).send().await;
    let end = |answer: Answer| answer.status(201).json()["expirationDate"].as_str().unwrap().parse::<jiff::Timestamp>();
    let latest: jiff::Timestamp = soon.parse().unwrap();
    // Without an end it ends with the key that makes it. So do the keys that it makes.
    let second = make(&by_first, json!({})).await;
    let by_second = t.user((ALICE.0, second.json()["apiKey"].as_str().unwrap()));
    assert!(end(second).unwrap() <= latest);
    for caller in [&by_first, &by_second] {
        for body in [json!({ "expirationDate": null }), json!({ "expirationDate": "" }), json!({ "label": "x" })] {
            assert!(end(make(caller, body).await).unwrap() <= latest);
        }
        for later in ["9999-12-31T23:59:59Z", "2999-01-01T00:00:00Z"] {
            make(caller, json!({ "expirationDate": later })).await.error(400, "UNSUPPORTED");
        }
        let earlier = (jiff::Timestamp::now() + std::time::Duration::from_mins(1)).to_string();
        assert!(end(make(caller, json!({ "expirationDate": earlier })).await).unwrap() < latest);
    }
    let free = key(&t.user(ALICE), json!({})).await;
    let unlimited = make(&t.user((ALICE.0, &free)), json!({})).await.status(201).json();
    assert_eq!(unlimited["expirationDate"], "0001-01-01T00:00:00Z");
}

/// A password or a right by a group would outlive the key that created it.
#[tokio::test]
async fn a_superusers_key_gives_nobody_what_outlives_it() {
    let t = TestRegistry::with_users().await;
    let roots = key(&t.user(ROOT), json!({})).await;
    let mut session = Browser::signed_in(&t, ROOT).await;
    session.tell("PUT", "/api/v1/group/dev", &json!({ "role": "read" })).await.status(200);
    for (method, path, body) in [
        ("POST", "/api/v1/superuser/users/", json!({ "username": "mallory" })),
        ("PUT", "/api/v1/superuser/users/alice", json!({ "password": "password9" })),
        ("PUT", "/api/v1/superuser/users/alice", json!({ "email": "mallory@example.org" })),
        ("PUT", "/api/v1/superuser/users/alice", json!({ "groups": ["dev"] })),
        ("PUT", "/api/v1/superuser/users/alice", json!({ "enabled": true })),
        ("PUT", "/api/v1/group/dev", json!({ "role": "admin" })),
        ("PUT", "/api/v1/group/dev/members/alice", json!({})),
        ("POST", TOKENS, json!({ "title": "another" })),
        ("PUT", "/api/v1/user/", json!({ "password": "password9" })),
    ] {
        by_key(&t, &roots, method, path, &body).await.status(403);
        session.tell(method, path, &body).await.status(200);
    }
    // A key suffices to remove rights, and to read.
    for (method, path, status) in [
        ("GET", "/api/v1/superuser/users/", 200),
        ("GET", "/api/v1/superuser/logs", 200),
        ("GET", "/api/v1/group/dev/members", 200),
        ("DELETE", "/api/v1/group/dev/members/alice", 204),
        ("DELETE", "/api/v1/group/dev", 204),
        ("DELETE", "/api/v1/superuser/users/mallory", 204),
    ] {
        by_key(&t, &roots, method, path, &json!({})).await.status(status);
    }
}

#[tokio::test]
async fn a_misspelt_limit_makes_no_key_without_it() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    let (scope, end) = (json!(["alice/app:pull"]), "2999-12-31T23:59:59Z");
    for body in [
        json!({ "label": "x", "scopes": scope, "expirationDate": end }),
        json!({ "Label": "x", "Scopes": scope, "ExpirationDate": end }),
        json!({ "LABEL": "x", "SCOPES": scope, "EXPIRATIONDATE": end }),
        json!({ "label": null, "scopes": scope, "expirationdate": end }),
    ] {
        let made = alice.post(KEYS).body(body.to_string()).send().await.status(201).json();
        assert_eq!((&made["scopes"], &made["expirationDate"]), (&scope, &json!(end)), "{body}");
    }
    for body in [
        r#"{"scope": ["alice/app"]}"#,
        r#"{"Scope": ["alice/app"]}"#,
        r#"{"expires": "2999-12-31T23:59:59Z"}"#,
        r#"{"expiration": "2999-12-31T23:59:59Z"}"#,
        r#"{"expiration_date": "2999-12-31T23:59:59Z"}"#,
        r#"{"label": "x", "permissions": []}"#,
        r#"{"scopes": ["alice/app"], "Scopes": null}"#,
        r#"{"scopes": ["alice/app"], "scopes": ["**"]}"#,
    ] {
        let refused = alice.post(KEYS).body(body).send().await.error(400, "UNSUPPORTED").json();
        let message = refused["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains("unknown field") || message.contains("duplicate field"), "{message}");
    }
    let mut browser = Browser::signed_in(&t, ALICE).await;
    for field in ["scope", "Scopes", "expirationDate", "expires", "Lifetime"] {
        let body = json!({ "title": "x", (field): 1 });
        browser.tell("POST", TOKENS, &body).await.status(400);
    }
    browser.tell("POST", TOKENS, &json!({ "title": "x" })).await.status(200);
    let keys = alice.get(KEYS).send().await.status(200).json();
    assert_eq!(keys["apiKeys"].as_array().unwrap().len(), 5);

    // The same holds if a misspelt field would leave a user more rights than intended.
    let mut root = Browser::signed_in(&t, ROOT).await;
    root.tell("PUT", "/api/v1/superuser/users/alice", &json!({ "enable": false })).await.status(400);
    root.tell("PUT", "/api/v1/superuser/users/alice", &json!({ "group": [] })).await.status(400);
    root.tell("PUT", "/api/v1/group/dev", &json!({ "rôle": "member" })).await.status(400);
}

#[tokio::test]
async fn an_end_beyond_what_is_kept_is_the_latest_one() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    for text in ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999999999+00:00", "9999-12-31T12:00:00-12:00"] {
        let made = alice.post(KEYS).body(json!({ "expirationDate": text }).to_string()).send().await.status(201).json();
        assert_eq!(made["expirationDate"], "9999-12-30T22:00:00Z", "{text}");
        t.user((ALICE.0, made["apiKey"].as_str().unwrap())).get("/v2/").send().await.status(200);
    }
    let mut browser = Browser::signed_in(&t, ALICE).await;
    let made = browser.tell("POST", TOKENS, &json!({ "title": "x", "expiration": "9999-12-31T23:59:59Z" })).await;
    assert_eq!(made.status(200).json()["token"]["expiration"], "Thu, 30 Dec 9999 22:00:00 -0000");
    for text in ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-32T00:00:00Z", "10000-01-01T00:00:00Z"] {
        let body = json!({ "expirationDate": text }).to_string();
        alice.post(KEYS).body(body).send().await.error(400, "UNSUPPORTED");
    }
}

#[tokio::test]
async fn a_wrong_key_as_a_bearer_token_is_challenged_as_an_invalid_token() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    push_image(&alice, "alice/app", "1", 1).await;
    let right = alice.post(KEYS).body("{}").send().await.status(201).json();
    let ask = async |bearer: &str, path: &str| {
        t.anonymous().get(path).header("authorization", format!("Bearer {bearer}")).send().await
    };
    let key = right["apiKey"].as_str().unwrap();
    ask(key, "/v2/").await.status(200);
    alice.delete(&format!("{KEYS}?id={}", right["uuid"].as_str().unwrap())).send().await.status(200);
    let unknown = format!("zak_{}", "0".repeat(32));
    for wrong in [key, &unknown, "zak_short", &unknown.to_uppercase(), "opaque"] {
        for path in ["/v2/", "/v2/_catalog", "/v2/alice/app/tags/list"] {
            let refused = ask(wrong, path).await.error(401, "UNAUTHORIZED");
            let challenge = refused.header("www-authenticate").unwrap();
            assert!(challenge.ends_with(",error=\"invalid_token\""), "{wrong} {path}: {challenge}");
        }
    }
    // As a password it is a wrong password.
    let refused = t.user((ALICE.0, key)).get("/v2/").send().await.error(401, "UNAUTHORIZED");
    assert!(!refused.header("www-authenticate").unwrap().contains("error="));
}
