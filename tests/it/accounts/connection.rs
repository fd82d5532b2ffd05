//! Several requests on one connection: what the one presented says nothing of the next.

use std::time::Duration;

use serde_json::{Value, json};

use super::browser::Browser;
use crate::support::TestRegistry;
use crate::support::connection::Raw;
use crate::support::content::push_image;
use crate::support::http::Caller;
use crate::support::registry::{ALICE, BOB, ROOT};

/// The header that presents a key as a password, or that of a caller.
fn authorization(caller: &Caller) -> String {
    format!("authorization: {}\r\n", caller.authorization().unwrap())
}

/// Changes Alice's account, as a superuser.
async fn change_alice(t: &TestRegistry, change: Value) {
    let mut session = Browser::signed_in(t, ROOT).await;
    session.tell("PUT", "/api/v1/superuser/users/alice", &change).await.status(200);
}

async fn new_key(owner: &Caller, body: &Value) -> Value {
    owner.post("/zot/auth/apikey").body(body.to_string()).send().await.status(201).json()
}

/// The status of the next request on a connection.
async fn get(connection: &mut Raw, path: &str, headers: &str) -> u16 {
    connection.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")).await;
    connection.answer().await.status
}

const IMAGE: &str = "/v2/alice/app/manifests/1";

#[tokio::test]
async fn each_request_of_a_connection_is_whose_key_it_has() {
    let t = TestRegistry::with_users().await;
    push_image(&t.user(ALICE), "alice/app", "1", 1).await;
    let key = async |user: (&str, &str), body: Value| {
        let made = new_key(&t.user(user), &body).await;
        authorization(&t.user((user.0, made["apiKey"].as_str().unwrap())))
    };
    let alice = key(ALICE, json!({})).await;
    let elsewhere = key(ALICE, json!({ "scopes": ["alice/other"] })).await;
    let bob = key(BOB, json!({})).await;
    let mut connection = Raw::connect(t.running.address()).await;
    for (headers, status) in [
        (alice.clone(), 200),
        (alice.clone(), 200),
        (String::new(), 401),
        (elsewhere.clone(), 403),
        (alice.clone(), 200),
        (bob, 403),
        // The same key, written otherwise; and another of the same length.
        (alice.replace("Basic", "basic").replace("=\r\n", "\r\n"), 200),
        (alice[..alice.len() - 8].to_owned() + "AAAA==\r\n", 401),
        (alice.clone(), 200),
        (format!("{alice}{alice}"), 401),
        (alice.clone(), 200),
    ] {
        assert_eq!(get(&mut connection, IMAGE, &headers).await, status, "{headers}");
    }
    // Quay's API ignores Basic, also after it was accepted elsewhere.
    assert_eq!(get(&mut connection, "/api/v1/user/", &alice).await, 401);
    assert_eq!(get(&mut connection, IMAGE, &alice).await, 200);
}

#[tokio::test]
async fn what_ends_a_key_ends_it_on_connections_that_have_used_it() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    push_image(&alice, "alice/app", "1", 1).await;
    let enable = async |enabled: bool| change_alice(&t, json!({ "enabled": enabled })).await;
    let (mut connection, mut other) =
        (Raw::connect(t.running.address()).await, Raw::connect(t.running.address()).await);

    let soon = jiff::Timestamp::now() + Duration::from_secs(2);
    let expiring = new_key(&alice, &json!({ "expirationDate": soon.to_string() })).await;
    let expiring = authorization(&t.user((ALICE.0, expiring["apiKey"].as_str().unwrap())));

    let revoked = new_key(&alice, &json!({})).await;
    let by_key = authorization(&t.user((ALICE.0, revoked["apiKey"].as_str().unwrap())));
    assert_eq!(get(&mut connection, IMAGE, &by_key).await, 200);
    enable(false).await;
    assert_eq!(get(&mut connection, IMAGE, &by_key).await, 401, "the user is disabled");
    enable(true).await;
    assert_eq!(get(&mut connection, IMAGE, &by_key).await, 200);
    alice.delete(&format!("/zot/auth/apikey?id={}", revoked["uuid"].as_str().unwrap())).send().await.status(200);
    assert_eq!(get(&mut connection, IMAGE, &by_key).await, 401, "the key is revoked");

    // After the last change, so that nothing is looked up again for its sake.
    assert_eq!(get(&mut other, IMAGE, &expiring).await, 200);
    while jiff::Timestamp::now() <= soon {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(get(&mut other, IMAGE, &expiring).await, 401, "the key has expired");
}

#[tokio::test]
async fn a_password_that_a_connection_has_presented_ends_with_what_it_was_good_for() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    push_image(&alice, "alice/app", "1", 1).await;
    let change = async |change: Value| change_alice(&t, change).await;
    let mut connection = Raw::connect(t.running.address()).await;
    let right = authorization(&alice);
    for (headers, status) in [(&right, 200), (&right, 200), (&String::new(), 401), (&right, 200)] {
        assert_eq!(get(&mut connection, IMAGE, headers).await, status, "{headers}");
    }
    // A page's password begins a session, however often the same one came before.
    let from_page = format!("{right}x-zot-api-client: zot-ui\r\n");
    for headers in [&right, &from_page, &right, &from_page] {
        connection.send(format!("GET {IMAGE} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")).await;
        let answer = connection.answer().await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.head.to_ascii_lowercase().contains("set-cookie:"), *headers == from_page, "{headers}");
    }
    change(json!({ "enabled": false })).await;
    assert_eq!(get(&mut connection, IMAGE, &right).await, 401, "the user is disabled");
    change(json!({ "enabled": true })).await;
    assert_eq!(get(&mut connection, IMAGE, &right).await, 200);
    change(json!({ "password": "an0ther-password" })).await;
    assert_eq!(get(&mut connection, IMAGE, &right).await, 401, "the password is another");
    let new = authorization(&t.user((ALICE.0, "an0ther-password")));
    assert_eq!(get(&mut connection, IMAGE, &new).await, 200);
    assert_eq!(get(&mut connection, IMAGE, &right).await, 401);
}
