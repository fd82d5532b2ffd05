//! Quay's sign-in with curl's cookies, word for word; and what a careless one would let through.

use serde_json::{Value, json};

use super::browser::Browser;
use crate::support::TestRegistry;
use crate::support::http::{Answer, Request};
use crate::support::registry::{ALICE, ROOT};

#[tokio::test]
async fn the_three_commands_of_quays_document() {
    let t = TestRegistry::with_users().await;
    let mut browser = Browser::new(&t).await;
    // The token stays the same for the same cookie.
    let (cookie, csrf) = (browser.cookie.clone(), browser.csrf.clone());
    browser.fetch_csrf().await;
    assert_eq!((&browser.cookie, &browser.csrf), (&cookie, &csrf));

    let answer = browser.sign_in(ROOT.0, ROOT.1).await.status(200);
    assert_eq!(answer.json(), json!({ "success": true }));
    assert_ne!(browser.cookie, cookie, "the session is a new one");
    assert_ne!(browser.csrf, csrf);

    let user = browser.get("/api/v1/user/").await.status(200).json();
    assert_eq!(
        (&user["username"], &user["anonymous"], &user["super_user"]),
        (&json!("root"), &json!(false), &json!(true))
    );
    t.anonymous().get("/api/v1/user/").send().await.refused(401, "invalid_token");
}

/// A refusal in Quay's shape, which every such answer is checked for.
trait Refused {
    fn refused(self, status: u16, title: &str) -> Value;
}

impl Refused for Answer {
    #[track_caller]
    fn refused(self, status: u16, title: &str) -> Value {
        let body = self.status(status).json();
        assert_eq!(body["title"], title, "{body}");
        body
    }
}

#[tokio::test]
async fn every_trick_without_the_csrf_token_is_refused() {
    let t = TestRegistry::with_users().await;
    let mut alice = Browser::signed_in(&t, ALICE).await;
    let other = Browser::signed_in(&t, ALICE).await;
    let cookie = alice.cookie.clone().unwrap();
    let body = json!({ "password": "a new password" }).to_string();
    let put = || t.anonymous().put("/api/v1/user/").header("cookie", &cookie).body(body.clone());
    for request in [
        put(),
        put().header("x-csrf-token", ""),
        put().header("x-csrf-token", &other.csrf),
        put().header("x-csrf-token", alice.csrf.to_lowercase()),
        put().header("content-type", "text/plain"),
        put().header("x-requested-with", "XMLHttpRequest"),
        put().header("x-zot-api-client", "zot-ui"),
        put().header("x-csrf-token", &alice.csrf).header("sec-fetch-site", "cross-site"),
    ] {
        let body = request.send().await.refused(403, "insufficient_scope");
        assert_eq!(body["error"], "CSRF token was invalid or missing.");
    }
    // The password is what it was, and the right token works, also as a parameter.
    let path = format!("/api/v1/signout?_csrf_token={}", alice.csrf);
    t.user(ALICE).get("/v2/").send().await.status(200);
    t.anonymous().post(&path).header("cookie", &cookie).send().await.status(200);
    alice.get("/api/v1/user/").await.status(401);
}

#[tokio::test]
async fn a_session_that_somebody_else_began_is_not_signed_in_by_its_victim() {
    let t = TestRegistry::with_users().await;
    let attacker = Browser::new(&t).await;
    let fixed = attacker.cookie.clone().unwrap();
    let mut victim = Browser { caller: t.anonymous(), cookie: Some(fixed.clone()), csrf: attacker.csrf.clone() };
    victim.sign_in(ALICE.0, ALICE.1).await.status(200);
    assert_ne!(victim.cookie.as_ref(), Some(&fixed));
    t.anonymous().get("/api/v1/user/").header("cookie", fixed).send().await.status(401);
    victim.get("/api/v1/user/").await.status(200);
}

#[tokio::test]
async fn what_was_signed_out_is_dead_and_nothing_else() {
    let t = TestRegistry::with_users().await;
    let mut here = Browser::signed_in(&t, ALICE).await;
    let mut there = Browser::signed_in(&t, ALICE).await;
    let sessions = here.get("/api/v1/user/sessions").await.status(200).json();
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 2);
    let replay = here.cookie.clone().unwrap();
    here.send(here.caller.post("/api/v1/signout")).await.status(200);
    t.anonymous().get("/api/v1/user/").header("cookie", replay).send().await.status(401);
    there.get("/api/v1/user/").await.status(200);
    let mut third = Browser::signed_in(&t, ALICE).await;
    third.send(third.caller.post("/api/v1/signout?everywhere=true")).await.status(200);
    there.get("/api/v1/user/").await.status(401);
}

#[tokio::test]
async fn a_wrong_password_is_403_here_and_the_user_is_not_told_from_nobody() {
    let t = TestRegistry::with_users().await;
    let mut browser = Browser::new(&t).await;
    let mut answers = Vec::new();
    for name in [ALICE.0, "unknown", "", "un known", "älice"] {
        let answer = browser.sign_in(name, "wrong").await.status(403);
        let body = answer.json();
        assert_eq!(body["message"], "Invalid Username or Password");
        assert_eq!((&body["invalidCredentials"], &body["needsEmailVerification"]), (&json!(true), &json!(false)));
        answers.push(body);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    let refused = browser.send(browser.caller.post("/api/v1/signin").body("{")).await;
    refused.refused(400, "invalid_request");
}

#[tokio::test]
async fn guessing_is_told_to_wait_and_locks_nobody_out() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    alice.get("/v2/").send().await.status(200);
    let made = alice.post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    let mut session = Browser::signed_in(&t, ALICE).await;
    let mut waits = None;
    for n in 0..10 {
        let answer = t.user((ALICE.0, &format!("guess {n}"))).get("/v2/").send().await;
        if answer.status.as_u16() == 429 {
            waits = Some(answer.error(429, "TOOMANYREQUESTS").header("retry-after").unwrap().parse::<u64>().unwrap());
            break;
        }
        answer.status(401);
    }
    assert!((1..=301).contains(&waits.expect("ten guesses are too many")));
    // A key, a session, and the password that was right lately are not asked to wait.
    t.user((ALICE.0, made["apiKey"].as_str().unwrap())).get("/v2/").send().await.status(200);
    session.get("/api/v1/user/").await.status(200);
    alice.get("/v2/").send().await.status(200);
}

#[tokio::test]
async fn zots_page_signs_in_with_basic_and_its_header() {
    let t = TestRegistry::with_users().await;
    let page = |request: Request| request.header("x-zot-api-client", "zot-ui");
    let refused = page(t.user((ALICE.0, "wrong")).get("/v2/")).send().await;
    assert_eq!((refused.status.as_u16(), refused.header("www-authenticate")), (401, None));

    let answer = page(t.user(ALICE).get("/v2/")).send().await.status(200);
    let cookies: Vec<&str> = answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    assert!(cookies[0].starts_with("session=") && cookies[0].contains("HttpOnly"), "{cookies:?}");
    assert!(cookies[1].starts_with("user=alice;") && !cookies[1].contains("HttpOnly"), "{cookies:?}");
    let session = cookies[0].split(';').next().unwrap();
    let with_cookie = |request: Request| request.header("cookie", session);

    // The cookie counts with the header, and without it not.
    page(with_cookie(t.anonymous().get("/v2/_catalog"))).send().await.status(200);
    with_cookie(t.anonymous().get("/v2/_catalog")).send().await.error(401, "UNAUTHORIZED");
    with_cookie(t.anonymous().post("/zot/auth/apikey").body("{}")).send().await.error(401, "UNAUTHORIZED");
    page(with_cookie(t.anonymous().post("/zot/auth/apikey").body("{}"))).send().await.status(201);

    let answer = with_cookie(t.anonymous().post("/zot/auth/logout")).send().await.status(200);
    assert_eq!(answer.json(), json!({}));
    let refused = page(with_cookie(t.anonymous().get("/v2/_catalog"))).send().await;
    assert_eq!((refused.status.as_u16(), refused.header("www-authenticate")), (401, None));
}

#[tokio::test]
async fn superusers_manage_users_and_their_end_is_felt_at_once() {
    let t = TestRegistry::with_users().await;
    let mut root = Browser::signed_in(&t, ROOT).await;
    let body = json!({ "username": "carol", "email": "carol@example.org" }).to_string();
    let made = root.send(root.caller.post("/api/v1/superuser/users/").body(body.clone())).await.status(200).json();
    let password = made["password"].as_str().unwrap().to_owned();
    let again = root.send(root.caller.post("/api/v1/superuser/users/").body(body)).await;
    again.refused(400, "invalid_request");
    let carol = t.user(("carol", &password));
    let key = carol.post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    let by_key = t.user(("carol", key["apiKey"].as_str().unwrap()));
    let mut session = Browser::signed_in(&t, ("carol", &password)).await;
    by_key.get("/v2/").send().await.status(200);

    for (enabled, status) in [(false, 401), (true, 200)] {
        let body = json!({ "enabled": enabled }).to_string();
        let changed = root.send(root.caller.put("/api/v1/superuser/users/carol").body(body)).await.status(200);
        assert_eq!(changed.json()["enabled"], enabled);
        carol.get("/v2/").send().await.status(status);
        by_key.get("/v2/").send().await.status(status);
        session.get("/api/v1/user/").await.status(status);
    }
    root.send(root.caller.delete("/api/v1/superuser/users/carol")).await.status(204);
    by_key.get("/v2/").send().await.status(401);
    session.get("/api/v1/user/").await.status(401);
    let logs = root.get("/api/v1/superuser/logs").await.status(200).json();
    let kinds: Vec<&str> = logs["logs"].as_array().unwrap().iter().filter_map(|row| row["kind"].as_str()).collect();
    for kind in
        ["user_create", "create_app_specific_token", "login_success", "user_disable", "user_enable", "user_delete"]
    {
        assert!(kinds.contains(&kind), "{kind} is missing in {kinds:?}");
    }
    assert!(!logs.to_string().contains(&password));
}

#[tokio::test]
async fn quays_application_tokens_are_the_same_keys() {
    let t = TestRegistry::with_users().await;
    let mut alice = Browser::signed_in(&t, ALICE).await;
    let made = alice.send(alice.caller.post("/api/v1/user/apptoken").body(r#"{"title":"t"}"#)).await.status(200).json();
    let code = made["token"]["token_code"].as_str().unwrap();
    t.user((ALICE.0, code)).get("/v2/").send().await.status(200);
    let bearer = |path: &str| t.anonymous().get(path).header("authorization", format!("Bearer {code}"));
    assert_eq!(bearer("/api/v1/user/").send().await.status(200).json()["username"], "alice");
    let bad = t.anonymous().put("/api/v1/user/").header("authorization", "Bearer zak_bad").body("{}");
    bad.send().await.refused(401, "invalid_token");

    let id = made["token"]["uuid"].as_str().unwrap();
    let one = alice.get(&format!("/api/v1/user/apptoken/{id}")).await.status(200).json();
    assert!(one["token"].get("token_code").is_none());
    alice.send(alice.caller.delete(&format!("/api/v1/user/apptoken/{id}"))).await.status(204);
    let again = alice.send(alice.caller.delete(&format!("/api/v1/user/apptoken/{id}"))).await;
    again.refused(404, "not_found");
    bearer("/api/v1/user/").send().await.status(401);
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let t = TestRegistry::with_users().await;
    let mut here = Browser::signed_in(&t, ALICE).await;
    let mut there = Browser::signed_in(&t, ALICE).await;
    let short = here.send(here.caller.put("/api/v1/user/").body(r#"{"password":"short"}"#)).await;
    short.refused(400, "invalid_request");
    here.send(here.caller.put("/api/v1/user/").body(r#"{"password":"long-enough"}"#)).await.status(200);
    here.get("/api/v1/user/").await.status(200);
    there.get("/api/v1/user/").await.status(401);
    t.user((ALICE.0, "long-enough")).get("/v2/").send().await.status(200);
    t.user(ALICE).get("/v2/").send().await.status(401);
}

#[tokio::test]
async fn a_body_is_an_object_and_its_limits_are_counted_in_characters() {
    let t = TestRegistry::with_users().await;
    let mut root = Browser::signed_in(&t, ROOT).await;
    let umlauts = |count: usize| "ä".repeat(count);
    for (method, path, good, bad) in [
        (
            "POST",
            "/api/v1/user/apptoken",
            json!({ "title": umlauts(255) }),
            vec![json!(["t", null, null]), json!({ "title": umlauts(256) })],
        ),
        (
            "PUT",
            "/api/v1/superuser/users/alice",
            json!({ "groups": [umlauts(255)], "password": umlauts(1024), "email": format!("{}@b", umlauts(252)) }),
            vec![
                json!([null, null, null, null]),
                json!({ "groups": [umlauts(256)] }),
                json!({ "password": umlauts(1025) }),
                json!({ "password": "eight-or\u{7}" }),
                json!({ "email": format!("{}@b", umlauts(253)) }),
            ],
        ),
    ] {
        let request = |body: &Value| root.caller.request(method.parse().unwrap(), path).body(body.to_string());
        let bad: Vec<Request> = bad.iter().map(request).collect();
        let good = request(&good);
        for request in bad {
            root.send(request).await.refused(400, "invalid_request");
        }
        root.send(good).await.status(200);
    }
    t.user((ALICE.0, &umlauts(1024))).get("/v2/").send().await.status(200);
}

#[tokio::test]
async fn a_name_that_no_user_can_have_is_not_written_down() {
    let t = TestRegistry::with_users().await;
    let mut root = Browser::signed_in(&t, ROOT).await;
    let mut stranger = Browser::new(&t).await;
    for length in [256, 60_000, 255] {
        let body = stranger.sign_in(&"a".repeat(length), "wrong").await.status(403).json();
        assert_eq!(body["invalidCredentials"], true);
    }
    // The audit row of a failure is written in the background: wait for the last one.
    let mut failures = Vec::new();
    for _ in 0..200 {
        let logs = root.get("/api/v1/superuser/logs").await.status(200).json();
        failures = logs["logs"].as_array().unwrap().clone();
        failures.retain(|row| row["kind"] == "login_failure");
        if !failures.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].get("namespace"), None, "an unknown name is not recorded");
}
