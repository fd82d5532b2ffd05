//! Every endpoint of API v1 × every kind of caller, from the description that the registry gives of
//! itself: an endpoint that nobody has thought about fails the test.

use serde_json::{Value, json};

use crate::support::TestRegistry;
use crate::support::http::Caller;
use crate::support::registry::{ALICE, ROOT};

/// What each caller hears where nothing else is wrong: anonymous, alice's key, alice's key with a
/// scope, a superuser's key. `-` is not tried. Safe methods only: what changes something is refused to
/// all but keys for want of a CSRF token, which `sessions.rs` shows.
const EXPECTED: &[(&str, [u16; 4])] = &[
    ("GET /api/v1/discovery", [200, 200, 200, 200]),
    ("GET /api/v1/error/{error_type}", [200, 200, 200, 200]),
    ("GET /api/v1/superuser/apptokens", [401, 403, 403, 200]),
    ("GET /api/v1/superuser/logs", [401, 403, 403, 200]),
    ("GET /api/v1/superuser/users/", [401, 403, 403, 200]),
    ("GET /api/v1/superuser/users/{username}", [401, 403, 403, 200]),
    ("GET /api/v1/user/", [401, 200, 200, 200]),
    ("GET /api/v1/user/apptoken", [401, 200, 403, 200]),
    ("GET /api/v1/user/apptoken/{token_uuid}", [401, 403, 403, 403]),
    ("GET /api/v1/user/logs", [401, 200, 403, 200]),
    ("GET /api/v1/user/sessions", [401, 200, 403, 200]),
    ("GET /api/v1/users/{username}", [401, 200, 200, 200]),
    ("GET /csrf_token", [200, 200, 200, 200]),
    ("DELETE /api/v1/superuser/apptokens/{token_uuid}", [403, 403, 403, 404]),
    ("DELETE /api/v1/superuser/users/{username}", [403, 403, 403, 204]),
    ("DELETE /api/v1/user/", [403, 403, 403, 403]),
    ("DELETE /api/v1/user/apptoken/{token_uuid}", [403, 403, 403, 403]),
    ("DELETE /api/v1/user/sessions/{session_id}", [403, 404, 403, 404]),
    ("POST /api/v1/signin", [403, 400, 400, 400]),
    ("POST /api/v1/signin/verify", [403, 403, 403, 403]),
    ("POST /api/v1/signout", [403, 200, 200, 200]),
    ("POST /api/v1/superuser/users/", [403, 403, 403, 400]),
    ("POST /api/v1/user/apptoken", [403, 403, 403, 403]),
    ("PUT /api/v1/superuser/users/{username}", [403, 403, 403, 404]),
    ("PUT /api/v1/user/", [403, 403, 403, 403]),
];

async fn key(caller: &Caller, body: Value) -> String {
    let made = caller.post("/zot/auth/apikey").body(body.to_string()).send().await.status(201).json();
    made["apiKey"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_endpoint_for_every_caller() {
    let t = TestRegistry::with_users().await;
    let (alice, root) = (t.user(ALICE), t.user(ROOT));
    let keys = [
        None,
        Some(key(&alice, json!({})).await),
        Some(key(&alice, json!({ "scopes": ["alice/**"] })).await),
        Some(key(&root, json!({})).await),
    ];
    let document = t.anonymous().get("/api/v1/discovery").send().await.status(200).json();
    assert_eq!(document["openapi"], "3.0.3");
    let mut described: Vec<String> = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        described
            .extend(operations.as_object().unwrap().keys().map(|method| format!("{} {path}", method.to_uppercase())));
    }
    described.sort_unstable();
    let mut expected: Vec<&str> = EXPECTED.iter().map(|(line, _)| *line).collect();
    expected.sort_unstable();
    assert_eq!(described, expected, "a route without a row, or a row without a route");

    for (line, statuses) in EXPECTED {
        let (method, path) = line.split_once(' ').unwrap();
        let path = path
            .replace("{error_type}", "invalid_token")
            .replace("{username}", "bob")
            .replace("{token_uuid}", "00000000-0000-4000-8000-000000000000")
            .replace("{session_id}", "00000000-0000-4000-8000-000000000000");
        for (key, status) in keys.iter().zip(statuses) {
            let mut request = t.anonymous().request(method.parse().unwrap(), &path);
            if let Some(key) = key {
                request = request.header("authorization", format!("Bearer {key}"));
            }
            if matches!(method, "POST" | "PUT") {
                request = request.body(if path.contains("bob") { "{}" } else { "" });
            }
            request.send().await.status(*status);
        }
    }
    t.anonymous().get("/api/v1/nothing").send().await.status(404);
    t.anonymous().post("/api/v1/user/").send().await.status(405);
}
