//! The token service: the tokens that it issues, and their rights.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::accounts::browser::Browser;
use crate::support::TestRegistry;
use crate::support::content::push_image;
use crate::support::http::{Answer, Caller};
use crate::support::process::Program;
use crate::support::registry::{ALICE, BOB, ROOT};

/// The claims of a token. Clients do not read them.
fn claims(token: &str) -> Value {
    let body = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap()
}

async fn token(caller: &Caller, query: &str) -> String {
    let answer = caller.get(&format!("/v2/auth{query}")).send().await.status(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    answer.json()["token"].as_str().unwrap().to_owned()
}

async fn with(t: &TestRegistry, token: &str, path: &str) -> Answer {
    t.anonymous().get(path).header("authorization", format!("Bearer {token}")).send().await
}

/// The challenge of a refusal.
fn challenge(answer: &Answer) -> String {
    answer.header("www-authenticate").expect("a challenge").to_owned()
}

#[tokio::test]
async fn the_answer_has_every_field_that_a_client_reads() {
    let t = TestRegistry::with_users().await;
    let host = t.running.address().to_string();
    let query = format!("?service={host}&account=alice&client_id=docker&scope=repository:alice/x:pull,push");
    let answer = t.user(ALICE).get(&format!("/v2/auth{query}")).send().await.status(200).json();
    assert_eq!(answer["token"], answer["access_token"]);
    assert_eq!(answer["expires_in"], 3600);
    let issued: jiff::Timestamp = answer["issued_at"].as_str().unwrap().parse().unwrap();
    assert!(issued <= jiff::Timestamp::now());
    assert_eq!(answer.as_object().unwrap().len(), 4, "no other field was requested: {answer}");
    let claims = claims(answer["token"].as_str().unwrap());
    assert_eq!(
        (&claims["iss"], &claims["sub"], &claims["aud"]),
        (&json!("coracle"), &json!("alice"), &json!("coracle"))
    );
    assert_eq!(claims["exp"].as_u64(), Some(claims["iat"].as_u64().unwrap() + 3600));
    assert_eq!(claims["access"], json!([{ "type": "repository", "name": "alice/x", "actions": ["push", "pull"] }]));
    // The published key verifies it.
    let keys = t.anonymous().get("/.well-known/jwks.json").send().await.status(200).json();
    assert_eq!((&keys["keys"][0]["kty"], &keys["keys"][0]["alg"]), (&json!("EC"), &json!("ES256")));
}

#[tokio::test]
async fn tokens_have_the_allowed_part_of_the_requested_actions() {
    let t = TestRegistry::with_users().await;
    for (who, scopes, expected) in [
        (Some(ALICE), "scope=repository:alice/x:pull", json!([["alice/x", "pull"]])),
        (Some(ALICE), "scope=repository:alice/x:pull,push,delete", json!([["alice/x", "push,pull,delete"]])),
        (Some(ALICE), "scope=repository:alice/x:*", json!([["alice/x", "push,pull,delete,*"]])),
        (Some(ALICE), "scope=repository:bob/x:pull,push", json!([["bob/x", ""]])),
        (
            Some(ALICE),
            "scope=repository:alice/x:pull&scope=repository:bob/x:pull",
            json!([["alice/x", "pull"], ["bob/x", ""]]),
        ),
        (
            Some(ALICE),
            "scope=repository:alice/x:pull%20repository:alice/y:push",
            json!([["alice/x", "pull"], ["alice/y", "push"]]),
        ),
        (
            Some(ALICE),
            "scope=repository:alice/x:pull+repository:alice/y:push",
            json!([["alice/x", "pull"], ["alice/y", "push"]]),
        ),
        (Some(ALICE), "scope=registry:catalog:*", json!([["catalog", "*"]])),
        (Some(ALICE), "scope=repository:ALICE/x:pull", json!([["ALICE/x", ""]])),
        (Some(ALICE), "scope=repository:alice/x:fly", json!([["alice/x", ""]])),
        (Some(ALICE), "scope=", json!([])),
        (Some(ALICE), "", json!([])),
        (Some(ROOT), "scope=repository:bob/x:*", json!([["bob/x", "push,pull,delete,*"]])),
        (None, "scope=repository:alice/x:pull,push", json!([["alice/x", ""]])),
    ] {
        let caller = who.map_or_else(|| t.anonymous(), |who| t.user(who));
        let token = token(&caller, &format!("?{scopes}")).await;
        let claims = claims(&token);
        let short = |entry: &Value| {
            let words: Vec<&str> = entry["actions"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            json!([entry["name"], words.join(",")])
        };
        let access: Vec<Value> = claims["access"].as_array().unwrap().iter().map(short).collect();
        assert_eq!(Value::Array(access), expected, "{who:?} {scopes}");
    }
    // The requests created no repository.
    let listed = t.user(ROOT).get("/v2/_catalog").send().await.status(200).json();
    assert_eq!(listed["repositories"], json!([]));
}

#[tokio::test]
async fn invalid_token_requests_are_refused() {
    let t = TestRegistry::with_users().await;
    let many: String = (0..101).map(|n| format!("scope=repository:r{n}:pull&")).collect::<Vec<_>>().concat();
    for (query, status) in [
        ("?service=another.example", 400),
        ("?scope=repository", 400),
        ("?scope=repository:alice", 400),
        ("?service=a&service=b", 400),
        (&format!("?{many}"), 400),
    ] {
        t.user(ALICE).get(&format!("/v2/auth{query}")).send().await.status(status);
    }
    t.user((ALICE.0, "wrong")).get("/v2/auth").send().await.error(401, "UNAUTHORIZED");
    t.user((ALICE.0, "wrong")).get("/v2/auth?scope=repository:alice/x:pull").send().await.error(401, "UNAUTHORIZED");
    t.anonymous().get("/v2/auth").send().await.error(401, "UNAUTHORIZED");
    t.anonymous().put("/v2/auth").send().await.status(405);
    let bearer = format!("Bearer {}", token(&t.user(ALICE), "?scope=repository:alice/x:pull").await);
    t.anonymous().get("/v2/auth").header("authorization", bearer).send().await.error(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn a_form_gets_a_token_and_a_refresh_token_gets_more() {
    let t = TestRegistry::with_users().await;
    let post = async |form: &str| {
        let request = t.anonymous().post("/v2/token").header("content-type", "application/x-www-form-urlencoded");
        request.body(form.to_owned()).send().await
    };
    let password = "username=alice&password=alice%27s+password";
    let asked = "service=&client_id=containerd-client&scope=repository%3Aalice%2Fx%3Apull+registry%3Acatalog%3A*";
    let answer = post(&format!("grant_type=password&{password}&{asked}")).await.status(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let answer = answer.json();
    assert_eq!(answer["scope"], "repository:alice/x:pull registry:catalog:*");
    assert_eq!(answer.get("refresh_token"), None, "it was not requested");
    with(&t, answer["access_token"].as_str().unwrap(), "/v2/alice/x/tags/list").await.status(404);

    let answer = post(&format!("grant_type=password&access_type=offline&{password}&{asked}")).await.status(200).json();
    let refresh = answer["refresh_token"].as_str().unwrap().to_owned();
    let by_refresh = format!("grant_type=refresh_token&refresh_token={refresh}&{asked}");
    let answer = post(&by_refresh).await.status(200).json();
    assert_eq!(answer["refresh_token"], refresh.as_str());
    with(&t, answer["access_token"].as_str().unwrap(), "/v2/alice/x/tags/list").await.status(404);
    // It is no credential for other requests.
    t.user((ALICE.0, &refresh)).get("/v2/").send().await.status(401);
    with(&t, &refresh, "/v2/").await.status(401);
    // The request of docker login.
    let login = t.user(ALICE).get("/v2/auth?offline_token=true&client_id=docker").send().await.status(200).json();
    assert!(login["refresh_token"].is_string());

    for (form, status) in [
        ("", 400),
        ("grant_type=client_credentials", 400),
        ("grant_type=password&username=alice", 400),
        ("grant_type=refresh_token", 400),
        ("grant_type=password&username=alice&password=wrong", 401),
        ("grant_type=refresh_token&refresh_token=nonsense", 401),
        ("grant_type=password&grant_type=refresh_token", 400),
    ] {
        post(form).await.status(status);
    }
    // A new password ends the refresh token and earlier access tokens.
    let registry = t.registry.clone();
    tokio::task::spawn_blocking(move || registry.put_user(ALICE.0, "another", false)).await.unwrap().unwrap();
    post(&by_refresh).await.error(401, "UNAUTHORIZED");
    with(&t, answer["access_token"].as_str().unwrap(), "/v2/alice/x/tags/list").await.error(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn refresh_tokens_are_listed_and_ended_by_their_owner_and_not_issued_for_keys() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    let key = alice.post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    let key = key["apiKey"].as_str().unwrap().to_owned();
    let by_key = t.user((ALICE.0, &key)).get("/v2/auth?offline_token=true").send().await.status(200).json();
    assert_eq!(by_key.get("refresh_token"), None, "a token for a key must not outlive it");
    let made = alice.get("/v2/auth?offline_token=true&client_id=docker").send().await.status(200).json();
    let bearer = |key: &str| format!("Bearer {key}");
    let list = async || {
        let request = t.anonymous().get("/api/v1/user/refreshtoken").header("authorization", bearer(&key));
        request.send().await.status(200).json()["tokens"].clone()
    };
    let tokens = list().await;
    assert_eq!((tokens.as_array().unwrap().len(), &tokens[0]["client"]), (1, &json!("docker")));
    let path = format!("/api/v1/user/refreshtoken/{}", tokens[0]["uuid"].as_str().unwrap());
    t.anonymous().delete(&path).header("authorization", bearer(&key)).send().await.status(204);
    t.anonymous().delete(&path).header("authorization", bearer(&key)).send().await.status(404);
    assert_eq!(list().await, json!([]));
    let form = format!("grant_type=refresh_token&refresh_token={}", made["refresh_token"].as_str().unwrap());
    t.anonymous().post("/v2/auth").body(form).send().await.error(401, "UNAUTHORIZED");
    // Their number is limited, because each docker login adds one.
    for _ in 0..25 {
        alice.get("/v2/auth?offline_token=true").send().await.status(200);
    }
    assert_eq!(list().await.as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn a_token_allows_its_scopes_only_and_the_challenge_names_the_missing_one() {
    let t = TestRegistry::with_users().await;
    push_image(&t.user(ALICE), "alice/x", "1", 1).await;
    let host = t.running.address();
    let expected = |rest: &str| format!("Bearer realm=\"http://{host}/v2/auth\",service=\"{host}\"{rest}");

    let ping = t.anonymous().get("/v2/").send().await.error(401, "UNAUTHORIZED");
    assert_eq!(challenge(&ping), expected(""));
    let read = t.anonymous().get("/v2/alice/x/tags/list").send().await.error(401, "UNAUTHORIZED");
    assert_eq!(challenge(&read), expected(",scope=\"repository:alice/x:pull\""));
    let push = t.anonymous().post("/v2/alice/x/blobs/uploads/").send().await.error(401, "UNAUTHORIZED");
    assert_eq!(challenge(&push), expected(",scope=\"repository:alice/x:pull,push\""));
    let delete = t.anonymous().delete("/v2/alice/x/manifests/1").send().await.error(401, "UNAUTHORIZED");
    assert_eq!(challenge(&delete), expected(",scope=\"repository:alice/x:delete\""));
    let list = t.anonymous().get("/v2/_catalog").send().await.error(401, "UNAUTHORIZED");
    assert_eq!(challenge(&list), expected(",scope=\"registry:catalog:*\""));

    let pull = token(&t.user(ALICE), "?scope=repository:alice/x:pull").await;
    with(&t, &pull, "/v2/alice/x/manifests/1").await.status(200);
    for scheme in ["bearer", "BEARER", "Bearer  "] {
        let request = t.anonymous().get("/v2/alice/x/manifests/1");
        request.header("authorization", format!("{scheme} {pull}")).send().await.status(200);
    }
    let bearer = format!("Bearer {pull}");
    let request = t.anonymous().post("/v2/alice/x/blobs/uploads/").header("authorization", &bearer);
    let narrow = request.send().await.error(401, "UNAUTHORIZED");
    assert_eq!(challenge(&narrow), expected(",scope=\"repository:alice/x:pull,push\",error=\"insufficient_scope\""));
    // Another token would not help, because the user lacks the right.
    let request = t.anonymous().post("/v2/bob/x/blobs/uploads/").header("authorization", &bearer);
    request.send().await.error(403, "DENIED");

    // The token without scopes of Quay's documentation lists the user's repositories.
    let login = token(&t.user(ALICE), "").await;
    let listed = with(&t, &login, "/v2/_catalog").await.status(200).json();
    assert_eq!(listed, json!({ "repositories": ["alice/x"] }));
    with(&t, &login, "/v2/").await.status(200);
    let narrow = with(&t, &login, "/v2/alice/x/tags/list").await.error(401, "UNAUTHORIZED");
    assert!(challenge(&narrow).ends_with("error=\"insufficient_scope\""));
    let bobs = token(&t.user(BOB), "?scope=repository:alice/x:pull").await;
    assert_eq!(with(&t, &bobs, "/v2/_catalog").await.status(200).json(), json!({ "repositories": [] }));
    with(&t, &bobs, "/v2/alice/x/tags/list").await.error(403, "DENIED");
}

#[tokio::test]
async fn a_token_with_scopes_lists_only_the_repositories_that_it_names() {
    let t = TestRegistry::with_users().await;
    for repository in ["alice/x", "alice/y", "alice/z"] {
        push_image(&t.user(ALICE), repository, "1", 1).await;
    }
    for (query, listed) in [
        ("?scope=repository:alice/x:pull", json!(["alice/x"])),
        ("?scope=repository:alice/x:pull,push&scope=repository:alice/z:pull", json!(["alice/x", "alice/z"])),
        ("?scope=repository:alice/x:push", json!([])),
        ("?scope=repository:alice/none:pull", json!([])),
        ("?scope=repository:bob/x:pull", json!([])),
        ("?scope=registry:catalog:*", json!(["alice/x", "alice/y", "alice/z"])),
        ("?scope=repository:alice/x:pull&scope=registry:catalog:*", json!(["alice/x", "alice/y", "alice/z"])),
        ("", json!(["alice/x", "alice/y", "alice/z"])),
    ] {
        let token = token(&t.user(ALICE), query).await;
        let found = with(&t, &token, "/v2/_catalog").await.status(200).json();
        assert_eq!(found["repositories"], listed, "{query}");
        let found = with(&t, &token, "/api/v1/repository?namespace=alice").await.status(200).json();
        let found: Vec<String> = found["repositories"]
            .as_array()
            .unwrap()
            .iter()
            .map(|repository| format!("alice/{}", repository["name"].as_str().unwrap()))
            .collect();
        assert_eq!(json!(found), listed, "{query}");
    }
}

#[tokio::test]
async fn lost_rights_take_effect_at_the_next_request_with_an_old_token() {
    let t = TestRegistry::with_users().await;
    let (alice, root) = (t.user(ALICE), t.user(ROOT));
    push_image(&alice, "alice/x", "1", 1).await;
    let invalid = |answer: Answer| {
        let answer = answer.error(401, "UNAUTHORIZED");
        assert!(challenge(&answer).ends_with("error=\"invalid_token\""), "{}", challenge(&answer));
    };
    let root_key = root.post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    let root_key = format!("Bearer {}", root_key["apiKey"].as_str().unwrap());
    let tell = async |method: &str, path: &str, body: Value| {
        let request = t.anonymous().request(method.parse().unwrap(), path).header("authorization", &root_key);
        let answer = request.header("content-type", "application/json").body(body.to_string()).send().await;
        assert!(answer.status.is_success(), "{method} {path}: {}", answer.text());
    };

    // A revoked key.
    let key = alice.post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    let by_key = token(&t.user((ALICE.0, key["apiKey"].as_str().unwrap())), "?scope=repository:alice/x:pull").await;
    with(&t, &by_key, "/v2/alice/x/tags/list").await.status(200);
    alice.delete(&format!("/zot/auth/apikey?id={}", key["uuid"].as_str().unwrap())).send().await.status(200);
    invalid(with(&t, &by_key, "/v2/alice/x/tags/list").await);

    // A role.
    let bobs = token(&t.user(BOB), "?scope=repository:alice/x:pull,push").await;
    assert_eq!(claims(&bobs)["access"][0]["actions"], json!([]));
    let role = "/api/v1/repository/alice/x/permissions/user/bob";
    tell("PUT", role, json!({ "role": "write" })).await;
    let bobs = token(&t.user(BOB), "?scope=repository:alice/x:pull,push").await;
    assert_eq!(claims(&bobs)["access"][0]["actions"], json!(["push", "pull"]));
    with(&t, &bobs, "/v2/alice/x/tags/list").await.status(200);
    tell("PUT", role, json!({ "role": "read" })).await;
    with(&t, &bobs, "/v2/alice/x/tags/list").await.status(200);
    let push = t.anonymous().post("/v2/alice/x/blobs/uploads/").header("authorization", format!("Bearer {bobs}"));
    push.send().await.error(403, "DENIED");
    tell("DELETE", role, json!({})).await;
    with(&t, &bobs, "/v2/alice/x/tags/list").await.error(403, "DENIED");

    // A disabled user who is enabled again, a new password, and a removed user whose name another user gets.
    let old = token(&alice, "?scope=repository:alice/x:pull").await;
    let mut session = Browser::signed_in(&t, ROOT).await;
    let mut change = async |change: Value| {
        session.tell("PUT", "/api/v1/superuser/users/alice", &change).await.status(200);
    };
    change(json!({ "enabled": false })).await;
    invalid(with(&t, &old, "/v2/alice/x/tags/list").await);
    change(json!({ "enabled": true })).await;
    with(&t, &old, "/v2/alice/x/tags/list").await.status(200);
    change(json!({ "password": "quite another one".replace(' ', "-") })).await;
    invalid(with(&t, &old, "/v2/alice/x/tags/list").await);
    let bobs = token(&t.user(BOB), "?scope=repository:bob/x:pull").await;
    tell("DELETE", "/api/v1/superuser/users/bob", json!({})).await;
    invalid(with(&t, &bobs, "/v2/").await);
    session.tell("POST", "/api/v1/superuser/users/", &json!({ "username": "bob" })).await.status(200);
    invalid(with(&t, &bobs, "/v2/").await);
}

#[tokio::test]
async fn the_scopes_of_a_key_limit_the_tokens_issued_for_it() {
    let t = TestRegistry::with_users().await;
    push_image(&t.user(ALICE), "alice/x", "1", 1).await;
    push_image(&t.user(ALICE), "alice/y", "1", 1).await;
    let body = json!({ "scopes": ["alice/x:pull"] }).to_string();
    let key = t.user(ALICE).post("/zot/auth/apikey").body(body).send().await.status(201).json();
    let by_key = t.user((ALICE.0, key["apiKey"].as_str().unwrap()));
    let token = token(&by_key, "?scope=repository:alice/x:*&scope=repository:alice/y:pull").await;
    assert_eq!(claims(&token)["access"][0]["actions"], json!(["pull"]));
    assert_eq!(claims(&token)["access"][1]["actions"], json!([]));
    with(&t, &token, "/v2/alice/x/tags/list").await.status(200);
    assert_eq!(with(&t, &token, "/v2/_catalog").await.status(200).json()["repositories"], json!(["alice/x"]));
    // The token creates no API keys.
    with(&t, &token, "/zot/auth/apikey").await.status(403);
}

#[tokio::test]
async fn the_realm_is_the_configured_url_and_tokens_survive_a_restart_and_a_new_key() {
    let root = tempfile::tempdir().unwrap();
    let config = "http.externalUrl = 'https://registry.example/'\nhttp.auth.token.lifetime = '60s'\n";
    let running = Program::serve_with(root.path(), config).with_admin().start();
    let ping = running.anonymous().get("/v2/").send().await.error(401, "UNAUTHORIZED");
    let expected = "Bearer realm=\"https://registry.example/v2/auth\",service=\"registry.example\"";
    assert_eq!(challenge(&ping), expected);
    let admin = running.user(crate::support::process::ADMIN);
    let query = "?service=registry.example&scope=repository:a/x:pull";
    let answer = admin.get(&format!("/v2/auth{query}")).send().await.status(200).json();
    assert_eq!(answer["expires_in"], 60);
    let token = format!("Bearer {}", answer["token"].as_str().unwrap());
    running.stop();
    let running = Program::serve_with(root.path(), config).start();
    let use_it = async || {
        running.anonymous().get("/v2/a/x/tags/list").header("authorization", &token).send().await.status(404);
    };
    use_it().await;
    let keys = async || running.anonymous().get("/.well-known/jwks.json").send().await.status(200).json();
    let before = keys().await;
    let done = Program::new(["token", "rotate-key", "--json", "--root"]).arg(root.path()).run();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let after = keys().await;
    assert_eq!((before["keys"].as_array().unwrap().len(), after["keys"].as_array().unwrap().len()), (1, 2));
    assert_eq!(after["keys"][1], before["keys"][0]);
    use_it().await;
    let done: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(after["keys"][0]["kid"], done["id"]);
}

#[tokio::test]
async fn only_configured_proxies_are_trusted() {
    let root = tempfile::tempdir().unwrap();
    let config = "http.trustedProxies = ['127.0.0.9', '10.0.0.0/8']\nlog.format = 'json'\n";
    let running = Program::serve_with(root.path(), config).with_admin().start();
    let realm = async |from: [u8; 4], headers: &[(&str, &str)]| {
        let request = running.anonymous().at(from).get("/v2/");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let challenge = challenge(&request.send().await.error(401, "UNAUTHORIZED"));
        challenge.split('"').nth(1).unwrap().to_owned()
    };
    let own = format!("http://{}/v2/auth", running.address());
    let forwarded = [("x-forwarded-proto", "https"), ("x-forwarded-host", "registry.example")];
    assert_eq!(realm([127, 0, 0, 1], &forwarded).await, own);
    assert_eq!(realm([127, 0, 0, 9], &forwarded).await, "https://registry.example/v2/auth");
    assert_eq!(realm([127, 0, 0, 9], &[]).await, own);
    // Values that the client sent before the proxy's own are ignored, and so are invalid hosts.
    let more = [("x-forwarded-proto", "https, http"), ("x-forwarded-host", "evil.example, good.example")];
    assert_eq!(realm([127, 0, 0, 9], &more).await, "http://good.example/v2/auth");
    let odd = [("x-forwarded-host", "a\"b/../c")];
    let odd =
        odd.iter().fold(running.anonymous().at([127, 0, 0, 9]).get("/v2/"), |r, (name, value)| r.header(name, value));
    odd.send().await.error(400, "UNSUPPORTED");

    // Clients behind the proxy are distinguished. A client that only sends the header is not.
    let guess = async |from: [u8; 4], client: &str, n: usize| {
        let guesser = Caller::new(running.address(), Some(("admin", &format!("guess {n}")))).at(from);
        guesser.get("/v2/").header("x-forwarded-for", client).send().await.status.as_u16()
    };
    for n in 0..3 {
        guess([127, 0, 0, 9], "203.0.113.1", n).await;
    }
    // The wait is one second from here and each refusal takes a third of it, so the refused requests come first.
    assert_eq!(guess([127, 0, 0, 9], "203.0.113.1", 4).await, 429);
    // The client may have started the list with any value.
    assert_eq!(guess([127, 0, 0, 9], "203.0.113.3, 203.0.113.1, 10.1.2.3", 6).await, 429);
    assert_eq!(guess([127, 0, 0, 9], "203.0.113.2", 5).await, 401);
    for n in 10..14 {
        guess([127, 0, 0, 8], &format!("203.0.113.{n}"), n).await;
    }
    assert_eq!(guess([127, 0, 0, 8], "203.0.113.99", 14).await, 429);

    // Cookies are limited to TLS if the client uses it.
    let cookie = async |from: [u8; 4]| {
        let request = running.anonymous().at(from).get("/csrf_token").header("x-forwarded-proto", "https");
        request.send().await.status(200).header("set-cookie").unwrap().contains("; Secure")
    };
    assert_eq!((cookie([127, 0, 0, 1]).await, cookie([127, 0, 0, 9]).await), (false, true));
}
