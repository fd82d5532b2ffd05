//! Attacks on accounts that a careless registry would permit, one test for each.
//!
//! This file attacks sessions: planted cookies, pages of other sites, ended sessions and removed users. `sessions.rs` has
//! some more.

mod guessing;
mod smuggling;

use serde_json::{Value, json};

use super::browser::Browser;
use crate::support::TestRegistry;
use crate::support::content::push_image;
use crate::support::http::{Answer, Caller, Request};
use crate::support::process::{ADMIN, Program};
use crate::support::registry::{ALICE, BOB, ROOT};

/// A request as zot's web page sends it.
fn page(request: Request) -> Request {
    request.header("x-zot-api-client", "zot-ui")
}

/// The session's cookie that an answer sets, as it is sent back.
fn session_of(answer: &Answer) -> String {
    let cookies = answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap());
    let session = cookies.filter_map(|cookie| cookie.split(';').next()).find(|cookie| cookie.starts_with("session="));
    session.unwrap().to_owned()
}

/// Makes a key, and returns its id and its secret.
async fn make_key(caller: &Caller) -> (String, String) {
    let made = caller.post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    (made["uuid"].as_str().unwrap().to_owned(), made["apiKey"].as_str().unwrap().to_owned())
}

/// The audit log of accounts, newest first.
async fn audit(t: &TestRegistry) -> Vec<Value> {
    let logs = Browser::signed_in(t, ROOT).await.get("/api/v1/superuser/logs").await.status(200).json();
    logs["logs"].as_array().unwrap().clone()
}

/// The user of a session cookie, or `None`.
async fn whose(t: &TestRegistry, cookie: &str) -> Option<String> {
    let answer = t.anonymous().get("/api/v1/user/").header("cookie", cookie).send().await;
    if answer.status.as_u16() == 401 {
        return None;
    }
    Some(answer.status(200).json()["username"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_planted_cookie_is_not_what_its_victim_signs_in_with() {
    let t = TestRegistry::with_users().await;
    let invented = format!("session={}", "A".repeat(43));
    for on_zots_page in [true, false] {
        let visitor = Browser::new(&t).await;
        let bob = Browser::signed_in(&t, BOB).await;
        assert_eq!(whose(&t, bob.cookie.as_ref().unwrap()).await.as_deref(), Some(BOB.0));
        for (planted, csrf) in [
            (visitor.cookie.unwrap(), visitor.csrf),
            (bob.cookie.unwrap(), bob.csrf),
            (invented.clone(), String::new()),
        ] {
            let new = if on_zots_page {
                let answer = page(t.user(ALICE).get("/v2/")).header("cookie", &planted).send().await.status(200);
                session_of(&answer)
            } else {
                // As in Quay, where the attacker has also planted the CSRF token of the cookie.
                let mut victim = Browser { caller: t.anonymous(), cookie: Some(planted.clone()), csrf };
                if victim.csrf.is_empty() {
                    victim.fetch_csrf().await;
                }
                victim.sign_in(ALICE.0, ALICE.1).await.status(200);
                victim.cookie.unwrap()
            };
            assert_ne!(new, planted);
            assert_eq!(whose(&t, &new).await.as_deref(), Some(ALICE.0));
            assert_eq!(whose(&t, &planted).await, None, "the browser's earlier session has ended");
        }
    }
}

#[tokio::test]
async fn a_session_is_taken_from_its_cookie_and_from_nowhere_else() {
    let t = TestRegistry::with_users().await;
    let mut alice = Browser::signed_in(&t, ALICE).await;
    let cookie = alice.cookie.clone().unwrap();
    let id = cookie.strip_prefix("session=").unwrap();
    let sessions = alice.get("/api/v1/user/sessions").await.status(200).json();
    let named = sessions["sessions"][0]["id"].as_str().unwrap().to_owned();
    let get = |path: &str| t.anonymous().get(path);
    for request in [
        get(&format!("/api/v1/user/?session={id}")),
        get(&format!("/api/v1/user/?{cookie}&_csrf_token={}", alice.csrf)),
        get("/api/v1/user/").header("session", id),
        get("/api/v1/user/").header("x-session", id).header("x-csrf-token", &alice.csrf),
        get("/api/v1/user/").header("set-cookie", &cookie),
        get("/api/v1/user/").header("cookie2", &cookie),
        get("/api/v1/user/").header("cookie", format!("Session={id}")),
        get("/api/v1/user/").header("cookie", format!("xsession={id}")),
        get("/api/v1/user/").header("cookie", format!("session_id={id}; user=alice; _csrf_token={}", alice.csrf)),
        get("/api/v1/user/").header("cookie", format!("a=\"; {cookie}\"")),
        get("/api/v1/user/").header("cookie", format!("session={named}")),
        get("/api/v1/user/").header("cookie", "user=alice"),
        // The first one of a name counts; what follows does not become the session by being one.
        get("/api/v1/user/").header("cookie", format!("session=; {cookie}")),
    ] {
        request.send().await.status(401);
    }
    for scheme in ["Bearer", "Session", "Cookie", "Token"] {
        get("/api/v1/user/").header("authorization", format!("{scheme} {id}")).send().await.status(401);
    }
    t.user((ALICE.0, id)).get("/v2/").send().await.error(401, "UNAUTHORIZED");
    get("/api/v1/user/").header("cookie", format!("theme=dark; {cookie}")).send().await.status(200);
}

#[tokio::test]
async fn no_other_token_is_taken_for_the_one_of_a_session() {
    let t = TestRegistry::with_users().await;
    let mut alice = Browser::new(&t).await;
    let visitor = alice.csrf.clone();
    alice.sign_in(ALICE.0, ALICE.1).await.status(200);
    let before = alice.csrf.clone();
    let again = json!({ "password": ALICE.1 }).to_string();
    alice.send(alice.caller.post("/api/v1/signin/verify").body(again)).await.status(200);
    let (cookie, csrf) = (alice.cookie.clone().unwrap(), alice.csrf.clone());
    assert!(visitor != before && before != csrf, "each time the password is given, the token is another");
    let bob = Browser::signed_in(&t, BOB).await;
    let (_, bobs_key) = make_key(&t.user(BOB)).await;

    let body = json!({ "password": "the attacker's", "_csrf_token": csrf, "csrf_token": csrf }).to_string();
    let put = |path: &str| t.anonymous().put(path).header("cookie", &cookie).body(body.clone());
    let with = |token: &str| put("/api/v1/user/").header("x-csrf-token", token);
    let mut tried = vec![put("/api/v1/user/"), put(&format!("/api/v1/user/?csrf_token={csrf}"))];
    for token in [
        &visitor,
        &before,
        &bob.csrf,
        cookie.strip_prefix("session=").unwrap(),
        &csrf[..63],
        &format!("{csrf}A"),
        &format!("{csrf}, {csrf}"),
        &csrf.to_uppercase(),
        &"A".repeat(64),
        "null",
        "undefined",
        "*",
    ] {
        tried.push(with(token));
        tried.push(put(&format!("/api/v1/user/?_csrf_token={}", token.replace(' ', "%20"))));
    }
    // The header goes before the parameter, and the first header before the second.
    tried.push(put(&format!("/api/v1/user/?_csrf_token={csrf}")).header("x-csrf-token", &visitor));
    tried.push(with(&visitor).header("x-csrf-token", &csrf));
    // Where tokens are not, and what browsers and frameworks call them elsewhere.
    tried.push(put("/api/v1/user/").header("cookie", format!("_csrf_token={csrf}")));
    tried.push(put("/api/v1/user/").header("x-xsrf-token", &csrf).header("csrf-token", &csrf));
    tried.push(put("/api/v1/user/").header("origin", "http://127.0.0.1").header("referer", "http://127.0.0.1/"));
    // A browser sends Basic by itself, too.
    tried.push(put("/api/v1/user/").header("authorization", t.user(ALICE).authorization().unwrap()));
    for request in tried {
        assert_eq!(request.send().await.status(403).json()["error"], "CSRF token was invalid or missing.");
    }
    // Another method's clothes: nothing that is called safe changes anything, and nothing else is called safe.
    for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
        let get = t.anonymous().get("/api/v1/user/").header("cookie", &cookie).header(name, "PUT");
        get.body(body.clone()).send().await.status(200);
    }
    t.anonymous()
        .post("/api/v1/user/?_method=PUT")
        .header("cookie", &cookie)
        .body(body.clone())
        .send()
        .await
        .status(405);
    for path in ["/api/v1/signout", "/api/v1/signin"] {
        t.anonymous().get(path).header("cookie", &cookie).send().await.status(405);
        t.anonymous().head(path).header("cookie", &cookie).send().await.status(405);
    }
    // A key of the attacker gives no access to the session of an additional cookie.
    let sessions = alice.get("/api/v1/user/sessions").await.status(200).json();
    let path = format!("/api/v1/user/sessions/{}", sessions["sessions"][0]["id"].as_str().unwrap());
    let confused = t.anonymous().delete(&path).header("authorization", format!("Bearer {bobs_key}"));
    confused.header("cookie", &cookie).send().await.status(404);

    t.user(ALICE).get("/v2/").send().await.status(200);
    assert_eq!(whose(&t, &cookie).await.as_deref(), Some(ALICE.0));
    // The right token in the header, with any parameter.
    let right = t.anonymous().post(&format!("/api/v1/signout?_csrf_token={visitor}")).header("x-csrf-token", &csrf);
    right.header("cookie", &cookie).send().await.status(200);
    // Once more, it is a token of nothing.
    let replay = t.anonymous().post("/api/v1/user/apptoken").header("x-csrf-token", &csrf).header("cookie", &cookie);
    replay.body(r#"{"title":"t"}"#).send().await.status(403);
}

#[tokio::test]
async fn a_form_of_another_site_signs_nobody_in() {
    let t = TestRegistry::with_users().await;
    // The attacker's account is to become the one that the victim works with.
    let (attacker, victim) = (Browser::new(&t).await, Browser::new(&t).await);
    let body = json!({ "username": BOB.0, "password": BOB.1 }).to_string();
    let signin = || t.anonymous().post("/api/v1/signin").header("content-type", "text/plain").body(body.clone());
    let (theirs, cookie) = (attacker.csrf, victim.cookie.unwrap());
    for request in [
        signin(),
        signin().header("cookie", &cookie),
        signin().header("cookie", &cookie).header("x-csrf-token", &theirs),
        signin().header("x-csrf-token", &theirs),
        signin().header("cookie", "session=").header("x-csrf-token", &theirs),
        signin().header("cookie", &cookie).header("x-csrf-token", &victim.csrf).header("sec-fetch-site", "cross-site"),
    ] {
        let answer = request.send().await.status(403);
        assert_eq!(answer.json()["error"], "CSRF token was invalid or missing.");
        assert_eq!(answer.header("set-cookie"), None);
    }
    signin().header("cookie", &cookie).header("x-csrf-token", &victim.csrf).send().await.status(200);
}

#[tokio::test]
async fn a_page_of_another_origin_can_read_no_answer() {
    let t = TestRegistry::with_users().await;
    let alice = Browser::signed_in(&t, ALICE).await;
    let cookie = alice.cookie.unwrap();
    for path in ["/csrf_token", "/api/v1/user/", "/api/v1/user/apptoken", "/zot/auth/apikey", "/v2/_catalog", "/v2/"] {
        for origin in ["https://evil.example", "null", "http://127.0.0.1.evil.example"] {
            let asks = |request: Request| page(request).header("origin", origin).header("cookie", &cookie);
            let answer = asks(t.anonymous().get(path)).send().await.status(200);
            let before = asks(t.anonymous().request(hyper::Method::OPTIONS, path))
                .header("access-control-request-method", "GET")
                .header("access-control-request-headers", "x-zot-api-client, x-csrf-token")
                .send()
                .await;
            for answer in [answer, before] {
                // `*` is what a browser gives nothing for that it sent a cookie with.
                let allowed = answer.header("access-control-allow-origin");
                assert!(matches!(allowed, None | Some("*")), "{path} {origin}: {allowed:?}");
                assert_eq!(answer.header("access-control-allow-credentials"), None, "{path} {origin}");
            }
        }
    }
}

#[tokio::test]
async fn a_form_of_another_site_changes_nothing_with_what_the_browser_sends_by_itself() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    push_image(&alice, "alice/a", "1", 1).await;
    let (id, key) = make_key(&alice).await;
    let cookie = session_of(&page(alice.get("/v2/")).send().await.status(200));
    let keys =
        async || alice.get("/zot/auth/apikey").send().await.status(200).json()["apiKeys"].as_array().unwrap().len();
    let revoke = format!("/v2/_zot/ext/apikey?id={id}");
    let requests = |caller: &Caller| {
        [
            caller.post("/zot/auth/apikey").body("{}"),
            caller.delete(&revoke),
            caller.post("/v2/alice/a/blobs/uploads/"),
            caller.put("/v2/alice/a/manifests/2").header("content-type", "text/plain").body("{}"),
            caller.delete("/v2/alice/a/manifests/1"),
            caller.post("/zot/auth/logout"),
        ]
    };
    for request in requests(&alice) {
        request.header("sec-fetch-site", "cross-site").send().await.error(403, "DENIED");
    }
    for request in requests(&t.anonymous()) {
        let request = page(request).header("cookie", &cookie).header("sec-fetch-site", "cross-site");
        request.send().await.error(403, "DENIED");
    }
    assert_eq!((keys().await, whose(&t, &cookie).await.as_deref()), (1, Some(ALICE.0)));
    alice.get("/v2/alice/a/manifests/1").send().await.status(200);
    assert_eq!(t.unfinished_uploads(), 0);
    // A browser also repeats a key that was typed in place of a password, but sends no bearer token by itself.
    let push = |caller: &Caller| caller.post("/v2/alice/a/blobs/uploads/").header("sec-fetch-site", "cross-site");
    push(&t.user((ALICE.0, &key))).send().await.error(403, "DENIED");
    push(&t.anonymous()).header("authorization", format!("Bearer {key}")).send().await.status(202);
}

#[tokio::test]
async fn a_cookie_without_the_pages_header_counts_on_no_route_of_the_registry() {
    let t = TestRegistry::with_users().await;
    push_image(&t.user(ROOT), "root/a", "1", 1).await;
    let cookie = session_of(&page(t.user(ROOT).get("/v2/")).send().await.status(200));
    let anonymous = t.anonymous();
    let requests = || {
        [
            (anonymous.get("/v2/"), 200),
            (anonymous.get("/v2/_catalog"), 200),
            (anonymous.get("/v2/root/a/tags/list"), 200),
            (anonymous.get("/v2/root/a/manifests/1"), 200),
            (anonymous.post("/v2/root/a/blobs/uploads/"), 202),
            (anonymous.get("/v2/_zot/ext/apikey"), 200),
            (anonymous.post("/zot/auth/apikey").body("{}"), 201),
            (anonymous.delete("/zot/auth/apikey?id=x"), 200),
            (anonymous.get("/metrics"), 200),
            (anonymous.delete("/v2/root/a/manifests/1"), 202),
        ]
    };
    for (request, _) in requests() {
        let request = request.header("cookie", &cookie).header("x-requested-with", "XMLHttpRequest");
        request.send().await.error(401, "UNAUTHORIZED");
    }
    for (request, status) in requests() {
        page(request).header("cookie", &cookie).send().await.status(status);
    }
}

#[tokio::test]
async fn what_let_a_removed_user_in_does_not_come_back_with_the_name() {
    let t = TestRegistry::with_users().await;
    let users = "/api/v1/superuser/users/";
    let mut root = Browser::signed_in(&t, ROOT).await;
    let create = async |root: &mut Browser| {
        let made = root.tell("POST", users, &json!({ "username": "carol" })).await.status(200);
        made.json()["password"].as_str().unwrap().to_owned()
    };
    let password = create(&mut root).await;
    let carol = t.user(("carol", &password));
    let (_, key) = make_key(&carol).await;
    let by_key = t.user(("carol", &key));
    let cookies = [
        session_of(&page(carol.get("/v2/")).send().await.status(200)),
        Browser::signed_in(&t, ("carol", &password)).await.cookie.unwrap(),
    ];
    root.tell("DELETE", &format!("{users}carol"), &json!({})).await.status(204);
    let gone = async || {
        carol.get("/v2/").send().await.status(401);
        by_key.get("/v2/").send().await.status(401);
        t.anonymous().get("/api/v1/user/").header("authorization", format!("Bearer {key}")).send().await.status(401);
        for cookie in &cookies {
            assert_eq!(whose(&t, cookie).await, None);
        }
    };
    gone().await;
    let new = create(&mut root).await;
    gone().await;
    t.user(("carol", &new)).get("/v2/").send().await.status(200);
    let keys = t.user(("carol", &new)).get("/zot/auth/apikey").send().await.status(200).json();
    assert_eq!(keys, json!({ "apiKeys": [] }));
}

#[tokio::test]
async fn what_was_signed_out_or_revoked_stays_so_after_kill_9() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    let mut browsers = Vec::new();
    for _ in 0..2 {
        let mut browser = Browser::of(running.anonymous()).await;
        browser.sign_in(ADMIN.0, ADMIN.1).await.status(200);
        browsers.push(browser);
    }
    let by_password = running.user(ADMIN);
    let ((id, revoked), (_, kept)) = (make_key(&by_password).await, make_key(&by_password).await);
    let page_session = session_of(&page(by_password.get("/v2/")).send().await.status(200));
    let [mut here, there] = browsers.try_into().ok().unwrap();
    let signed_out = here.cookie.clone().unwrap();
    here.send(here.caller.post("/api/v1/signout")).await.status(200);
    running.anonymous().post("/zot/auth/logout").header("cookie", &page_session).send().await.status(200);
    by_password.delete(&format!("/zot/auth/apikey?id={id}")).send().await.status(200);
    running.kill();

    let again = Program::serve(root.path()).start();
    for (cookie, status) in [(signed_out, 401), (page_session, 401), (there.cookie.unwrap(), 200)] {
        again.anonymous().get("/api/v1/user/").header("cookie", cookie).send().await.status(status);
    }
    for (key, status) in [(revoked, 401), (kept, 200)] {
        again.user((ADMIN.0, &key)).get("/v2/").send().await.status(status);
    }
}

#[tokio::test]
async fn signing_out_twice_and_of_nothing_tells_nothing() {
    let t = TestRegistry::with_users().await;
    let cookie = session_of(&page(t.user(ALICE).get("/v2/")).send().await.status(200));
    let mut heard: Vec<(Value, usize)> = Vec::new();
    for cookie in [&*cookie, &cookie, "session=", "session=x", &format!("session={}", "A".repeat(43)), "a=b"] {
        let answer = t.anonymous().post("/zot/auth/logout").header("cookie", cookie).send().await.status(200);
        heard.push((answer.json(), answer.headers.get_all("set-cookie").iter().count()));
    }
    assert!(heard.windows(2).all(|pair| pair[0] == pair[1]), "{heard:?}");
    assert_eq!(whose(&t, &cookie).await, None);
}
