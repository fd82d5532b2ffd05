//! API keys: zot's document to the letter, and scopes that are enforced.

use serde_json::{Value, json};

use super::browser::Browser;
use crate::support::TestRegistry;
use crate::support::content::{push_blob, push_image, put_manifest};
use crate::support::http::{Answer, Caller};
use crate::support::registry::{ALICE, BOB, ROOT};

const ROUTES: [&str; 2] = ["/v2/_zot/ext/apikey", "/zot/auth/apikey"];
const NEVER: &str = "0001-01-01T00:00:00Z";

async fn create(caller: &Caller, body: &Value) -> Value {
    caller.post(ROUTES[0]).body(body.to_string()).send().await.status(201).json()
}

fn secret(made: &Value) -> &str {
    made["apiKey"].as_str().unwrap()
}

async fn listed(caller: &Caller) -> Vec<Value> {
    caller.get(ROUTES[1]).send().await.status(200).json()["apiKeys"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_key_is_made_used_listed_and_revoked_as_zots_document_says() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    push_image(&alice, "alice/repo1", "1", 1).await;
    for route in ROUTES {
        let body = r#"{"label": "myLabel", "scopes": ["repo1", "repo2"]}"#;
        let answer = alice.post(route).header("user-agent", "curl/8.5.0").body(body).send().await.status(201);
        let made = answer.has("content-type", "application/json").json();
        let fields: Vec<&str> = made.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected = [
            "apiKey",
            "createdAt",
            "creatorUa",
            "expirationDate",
            "generatedBy",
            "isExpired",
            "label",
            "lastUsed",
            "scopes",
            "uuid",
        ];
        expected.sort_unstable();
        assert_eq!(fields, expected);
        assert_eq!(made["label"], "myLabel");
        assert_eq!(made["scopes"], json!(["repo1", "repo2"]));
        assert_eq!(made["expirationDate"], NEVER);
        assert_eq!(made["lastUsed"], NEVER);
        assert_eq!(made["isExpired"], false);
        assert_eq!(made["generatedBy"], "manual");
        assert_eq!(made["creatorUa"], "curl/8.5.0");
        assert_eq!((secret(&made).len(), &secret(&made)[..4]), (36, "zak_"));

        let by_key = t.user((ALICE.0, secret(&made)));
        by_key.get("/v2/_catalog").send().await.status(200);
        let keys = listed(&alice).await;
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0]["uuid"], made["uuid"]);
        assert_ne!(keys[0]["lastUsed"], NEVER);
        assert!(keys[0].get("apiKey").is_none());

        alice.delete(&format!("{route}?id={}", made["uuid"].as_str().unwrap())).send().await.status(200);
        assert!(listed(&alice).await.is_empty());
        by_key.get("/v2/_catalog").send().await.error(401, "UNAUTHORIZED");
    }
}

#[tokio::test]
async fn keys_are_listed_oldest_first_and_only_ones_own() {
    let t = TestRegistry::with_users().await;
    let (alice, bob) = (t.user(ALICE), t.user(BOB));
    for n in 0..5 {
        create(&alice, &json!({ "label": n.to_string() })).await;
    }
    let bobs = create(&bob, &json!({ "label": "bob" })).await;
    let labels: Vec<Value> = listed(&alice).await.into_iter().map(|key| key["label"].clone()).collect();
    assert_eq!(labels, ["0", "1", "2", "3", "4"]);
    // Another user's key looks like a missing one.
    let id = bobs["uuid"].as_str().unwrap();
    alice.delete(&format!("{}?id={id}", ROUTES[0])).send().await.status(200);
    t.user((BOB.0, secret(&bobs))).get("/v2/").send().await.status(200);
}

#[tokio::test]
async fn what_cannot_be_a_key_is_refused_with_a_reason() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    let post = async |body: String| alice.post(ROUTES[0]).body(body).send().await;
    for body in [
        "",
        "{",
        "[]",
        r#"["label", null, null]"#,
        r#"{"label": 1}"#,
        r#"{"scopes": "repo1"}"#,
        r#"{"scopes": ["repo1:read"]}"#,
        r#"{"scopes": [""]}"#,
        r#"{"expirationDate": "tomorrow"}"#,
        r#"{"expirationDate": "2020-01-01T00:00:00Z"}"#,
        "{\"label\": \"a\\u0000b\"}",
    ] {
        post(body.to_owned()).await.error(400, "UNSUPPORTED");
    }
    post(format!(r#"{{"label": "{}"}}"#, "a".repeat(9000))).await.error(413, "UNSUPPORTED");
    alice.delete(ROUTES[0]).send().await.status(400);
    alice.put(ROUTES[0]).send().await.status(405);
    t.anonymous().post(ROUTES[0]).body("{}").send().await.error(401, "UNAUTHORIZED");
    assert!(listed(&alice).await.is_empty());
    let preflight = t.anonymous().request(hyper::Method::OPTIONS, ROUTES[1]).send().await.status(204);
    preflight.has("access-control-allow-origin", "*").has("access-control-allow-methods", "GET,POST,DELETE,OPTIONS");
}

#[tokio::test]
async fn only_the_owner_and_the_key_together_get_in() {
    let t = TestRegistry::with_users().await;
    let made = create(&t.user(ALICE), &json!({})).await;
    let key = secret(&made);
    t.user((ALICE.0, key)).get("/v2/").send().await.status(200);
    let other = format!("zak_{}", "0".repeat(32));
    for (user, password) in [(BOB.0, key), (ROOT.0, key), ("unknown", key), (ALICE.0, &key[4..]), (ALICE.0, &other)] {
        t.user((user, password)).get("/v2/").send().await.error(401, "UNAUTHORIZED");
    }
    let bearer = t.anonymous().get("/v2/").header("authorization", format!("Bearer {key}"));
    bearer.send().await.status(200);
}

/// Pushes an image of its own through a caller, and hands on the first answer that is not a success.
async fn push(caller: &Caller, repository: &str) -> Answer {
    let start = caller.post(&format!("/v2/{repository}/blobs/uploads/")).send().await;
    if !start.status.is_success() {
        return start;
    }
    caller.delete(&start.location()).send().await.status(204);
    let blob = repository.as_bytes();
    push_blob(caller, repository, blob).await;
    put_manifest(caller, repository, "1", &crate::support::content::image(blob, &[])).await
}

#[tokio::test]
async fn scopes_hold_on_every_route_and_in_every_list() {
    let t = TestRegistry::with_users().await;
    let root = t.user(ROOT);
    push_image(&root, "repo2", "1", 7).await;
    let scoped = async |scopes: Value| {
        let made = create(&root, &json!({ "scopes": scopes })).await;
        t.user((ROOT.0, secret(&made)))
    };
    let repo1 = scoped(json!(["repo1"])).await;
    push(&repo1, "repo1").await.status(201);
    push(&repo1, "repo2").await.error(403, "DENIED");
    repo1.get("/v2/repo2/manifests/1").send().await.error(403, "DENIED");
    repo1.get("/v2/repo2/tags/list").send().await.error(403, "DENIED");
    assert_eq!(repo1.get("/v2/_catalog").send().await.json()["repositories"], json!(["repo1"]));

    let pull = scoped(json!(["**:pull"])).await;
    pull.get("/v2/repo2/manifests/1").send().await.status(200);
    push(&pull, "repo2").await.error(403, "DENIED");
    pull.delete("/v2/repo2/manifests/1").send().await.error(403, "DENIED");
    assert_eq!(pull.get("/v2/_catalog").send().await.json()["repositories"], json!(["repo1", "repo2"]));

    // A blob is mounted only from where the key may pull.
    let manifest: Value = serde_json::from_slice(&root.get("/v2/repo2/manifests/1").send().await.body).unwrap();
    let digest = manifest["config"]["digest"].as_str().unwrap();
    let mount = format!("/v2/repo1/blobs/uploads/?mount={digest}&from=repo2");
    let refused = repo1.post(&mount).send().await.status(202);
    repo1.delete(&refused.location()).send().await.status(204);
    let both = scoped(json!(["repo1", "repo2:pull"])).await;
    both.post(&mount).send().await.status(201);

    // Nor does a scope reach what is not a repository.
    for key in [&repo1, &pull] {
        key.get("/metrics").send().await.error(403, "DENIED");
        key.get(ROUTES[0]).send().await.error(403, "DENIED");
    }
    let after: Value = serde_json::from_slice(&root.get("/v2/repo2/manifests/1").send().await.body).unwrap();
    assert_eq!(after, manifest, "a refused request has changed the manifest");
}

#[tokio::test]
async fn a_key_makes_no_keys_except_where_zot_lets_it() {
    let t = TestRegistry::with_users().await;
    let made = create(&t.user(ALICE), &json!({})).await;
    t.user((ALICE.0, secret(&made))).post(ROUTES[0]).body("{}").send().await.error(403, "DENIED");

    let zot = coracle::config::Config::from_toml_str("profile = 'zot'").unwrap().config;
    let t = TestRegistry::start(coracle::Registry::builder().config(zot).user(ALICE.0, ALICE.1)).await;
    let made = create(&t.user(ALICE), &json!({})).await;
    let by_key = t.user((ALICE.0, secret(&made)));
    create(&by_key, &json!({ "label": "second" })).await;
    assert_eq!(listed(&by_key).await.len(), 2);
    let scoped = create(&by_key, &json!({ "scopes": ["**"] })).await;
    t.user((ALICE.0, secret(&scoped))).get(ROUTES[0]).send().await.error(403, "DENIED");
}

#[tokio::test]
async fn there_are_no_more_keys_than_the_configuration_says_and_none_that_lives_longer() {
    let config = "[http.auth.keys]\nmaxPerUser = 2\nmaxLifetime = '24h'\n";
    let config = coracle::config::Config::from_toml_str(config).unwrap().config;
    let t = TestRegistry::start(coracle::Registry::builder().config(config).user(ALICE.0, ALICE.1)).await;
    let alice = t.user(ALICE);
    let post = async |body: Value| alice.post(ROUTES[0]).body(body.to_string()).send().await;
    post(json!({})).await.error(400, "UNSUPPORTED");
    post(json!({ "expirationDate": "2999-01-01T00:00:00Z" })).await.error(400, "UNSUPPORTED");
    let soon = time_from_now(3600);
    for status in [201, 201, 400] {
        post(json!({ "expirationDate": soon })).await.status(status);
    }
}

#[tokio::test]
async fn an_expired_key_is_refused_and_still_listed() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    let made = create(&alice, &json!({ "expirationDate": time_from_now(1) })).await;
    let by_key = t.user((ALICE.0, secret(&made)));
    by_key.get("/v2/").send().await.status(200);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while by_key.get("/v2/").send().await.status == 200 {
        assert!(std::time::Instant::now() < deadline, "the key does not expire");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    by_key.get("/v2/").send().await.error(401, "UNAUTHORIZED");
    assert_eq!(listed(&alice).await[0]["isExpired"], true);
    alice.delete(&format!("{}?id={}", ROUTES[0], made["uuid"].as_str().unwrap())).send().await.status(200);
}

#[tokio::test]
async fn refusals_about_keys_say_what_to_do() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    let made = create(&alice, &json!({})).await;
    let by_key = t.user((ALICE.0, secret(&made)));
    for route in ROUTES {
        let refused = by_key.get(route).send().await.error(403, "DENIED").text();
        assert!(refused.contains("alice may not manage API keys with this API key: use the password"), "{refused}");
        let empty = alice.post(route).send().await.error(400, "UNSUPPORTED").text();
        assert!(empty.contains("it is empty"), "{empty}");
        // As in zot, a key that does not exist is revoked already.
        let absent = format!("{route}?id=00000000-0000-4000-8000-000000000000");
        assert!(alice.delete(&absent).send().await.status(200).body.is_empty());
    }
    let bearer = format!("Bearer {}", secret(&made));
    let listing = t.anonymous().get("/api/v1/user/apptoken").header("authorization", &bearer);
    let refused = listing.send().await.status(403).json();
    let expected = "alice may not manage API keys with this API key: use a session, which POST /api/v1/signin starts";
    assert_eq!(refused["message"], expected);
    let mut browser = Browser::signed_in(&t, ALICE).await;
    let absent = browser.caller.delete("/api/v1/user/apptoken/00000000-0000-4000-8000-000000000000");
    browser.send(absent).await.status(404);
    // API v1 ignores Basic, so the message is the same for right and for wrong credentials.
    let message = async |who: Caller| who.get("/api/v1/user/").send().await.status(401).json()["message"].clone();
    let expected = "Requires authentication: API v1 does not accept Basic credentials. Send an API key as \
                    \"Authorization: Bearer KEY\", or use a session";
    for who in [alice, by_key, t.user((ALICE.0, "wrong")), t.user(("unknown", "wrong"))] {
        assert_eq!(message(who).await, expected);
    }
    assert_eq!(message(t.anonymous()).await, "Requires authentication");
}

/// A time as RFC 3339, so many seconds from the next full second.
fn time_from_now(seconds: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let days = (now + seconds + 1) / 86_400;
    let rest = (now + seconds + 1) % 86_400;
    // Days since 1970 to a date (Howard Hinnant's algorithm).
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// A client that signs out may have nothing but the key.
#[tokio::test]
async fn a_key_revokes_itself_and_no_other() {
    let t = TestRegistry::with_users().await;
    let revoke = |key: &Value, id: &Value| {
        let request = t.anonymous().delete(&format!("/api/v1/user/apptoken/{}", id.as_str().unwrap()));
        request.header("authorization", format!("Bearer {}", secret(key))).send()
    };
    let [one, limited, other] = [json!({}), json!({ "scopes": ["alice/app:pull"] }), json!({})];
    let (one, limited) = (create(&t.user(ALICE), &one).await, create(&t.user(ALICE), &limited).await);
    let bobs = create(&t.user(BOB), &other).await;
    let roots = create(&t.user(ROOT), &json!({})).await;
    for (key, id) in [(&one, &limited), (&limited, &one), (&one, &bobs), (&roots, &one)] {
        revoke(key, &id["uuid"]).await.status(403);
    }
    revoke(&one, &json!("00000000-0000-4000-8000-000000000000")).await.status(403);
    assert_eq!(listed(&t.user(ALICE)).await.len(), 2);
    for key in [&limited, &one] {
        revoke(key, &key["uuid"]).await.status(204);
        t.user((ALICE.0, secret(key))).get("/v2/").send().await.status(401);
        revoke(key, &key["uuid"]).await.status(401);
    }
    assert!(listed(&t.user(ALICE)).await.is_empty());
    assert_eq!((listed(&t.user(BOB)).await.len(), listed(&t.user(ROOT)).await.len()), (1, 1));
}

/// A client whose clock is wrong says how long a key is to live, and not until when.
#[tokio::test]
async fn a_lifetime_is_as_good_as_an_end_and_goes_without_one() {
    let t = TestRegistry::with_users().await;
    let mut alice = Browser::signed_in(&t, ALICE).await;
    let mut ask = async |body: Value| {
        let request = alice.caller.post("/api/v1/user/apptoken").body(body.to_string());
        alice.send(request).await
    };
    ask(json!({ "title": "a", "lifetime": 3600 })).await.status(200);
    for body in [
        json!({ "title": "a", "lifetime": 0 }),
        json!({ "title": "a", "lifetime": -1 }),
        json!({ "title": "a", "lifetime": u64::MAX }),
        json!({ "title": "a", "lifetime": "3600" }),
        json!({ "title": "a", "lifetime": 3600, "expiration": "2999-12-31T23:59:59Z" }),
    ] {
        ask(body).await.status(400);
    }
    let keys = listed(&t.user(ALICE)).await;
    let time = |name: &str| keys[0][name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let lifetime = time("expirationDate").duration_since(time("createdAt"));
    assert_eq!((keys.len(), lifetime.as_secs_f64().round()), (1, 3600.0));
}

#[tokio::test]
async fn where_there_are_no_keys_none_is_made_by_any_route() {
    let config = coracle::config::Config::from_toml_str("[http.auth]\napikey = false\n").unwrap().config;
    let t = TestRegistry::start(coracle::Registry::builder().config(config).user(ALICE.0, ALICE.1)).await;
    for route in ROUTES {
        t.user(ALICE).post(route).body("{}").send().await.error(404, "UNSUPPORTED");
    }
    let mut alice = Browser::signed_in(&t, ALICE).await;
    let request = alice.caller.post("/api/v1/user/apptoken").body(json!({ "title": "a" }).to_string());
    alice.send(request).await.status(404);
}
