//! Probes during hostile load: an orchestrator must not restart a registry that is only busy.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use super::browser::Browser;
use crate::support::connection::Raw;
use crate::support::http::Caller;
use crate::support::process::{ADMIN, Program};

const ALICE: (&str, &str) = ("alice", "password1");

/// For so long the clients go on.
const DURATION: Duration = Duration::from_secs(4);
/// A part of a scope with many alternatives.
const BOMB: &str = "{,,,,,,,,,,,,,,,,,,,,,,,,,,,}";

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_are_answered_at_once_beside_idle_connections_floods_of_passwords_and_hostile_patterns() {
    let root = tempfile::tempdir().unwrap();
    let config = "[http.limits]\nmaxConnections = 256\n[log]\nlevel = 'error'\n";
    let running = Program::serve_with(root.path(), config).with_admin().start();
    running.user(ADMIN).get("/v2/").send().await.status(200);
    let added =
        Program::new(["user", "add", "alice", "--password-stdin", "--root"]).arg(root.path()).input(ALICE.1).run();
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    let mut browser = Browser::of(running.anonymous()).await;
    browser.sign_in(ALICE.0, ALICE.1).await.status(200);
    let (cookie, csrf) = (browser.cookie.unwrap(), browser.csrf);
    let address = running.address();
    let mut clients = JoinSet::new();
    // Idle connections of two addresses, again and again.
    for last in [7, 8] {
        clients.spawn(async move {
            loop {
                let mut held = Vec::new();
                for _ in 0..200 {
                    let mut connection = Raw::connect_from(address, [127, 0, 0, last].into()).await;
                    connection.send("GET /v2/ HTTP/1.1\r\n").await;
                    held.push(connection);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
    // Wrong passwords for new names from several addresses.
    for n in 0..48_u8 {
        clients.spawn(async move {
            for i in 0.. {
                let name = format!("u{n}-{i}");
                let caller = Caller::new(address, Some((&name, "wrong"))).at([127, 0, 1, n % 8]);
                let answer = caller.get("/v2/").send().await;
                assert!(matches!(answer.status.as_u16(), 401 | 429 | 503), "{}", answer.status);
            }
        });
    }
    // Password changes of one user, and keys with patterns that are costly to match.
    for n in 0..8 {
        let (cookie, csrf) = (cookie.clone(), csrf.clone());
        clients.spawn(async move {
            loop {
                let caller = Caller::new(address, None);
                let change = caller.put("/api/v1/user/").body(json!({ "password": ALICE.1 }).to_string());
                let change = change.header("cookie", &cookie).header("x-csrf-token", &csrf);
                change.header("content-type", "application/json").send().await;
                let scopes = [format!("{}:pull", BOMB.repeat(n + 1))];
                let key = json!({ "label": "bomb", "scopes": scopes }).to_string();
                let made = Caller::new(address, Some(ALICE)).post("/zot/auth/apikey").body(key).send().await;
                if made.status == 201 {
                    let key = made.json()["apiKey"].as_str().unwrap().to_owned();
                    let name = "a".repeat(60 + n);
                    Caller::new(address, Some((ALICE.0, &key))).get(&format!("/v2/{name}/tags/list")).send().await;
                }
            }
        });
    }
    let mut times = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < DURATION {
        let asked = Instant::now();
        running.anonymous().at([127, 0, 0, 9]).get("/livez").send().await.status(200);
        times.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    clients.abort_all();
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!("/livez: {} probes, median {:?}, 95 % within {:?}, longest {:?}", times.len(), at(50), at(95), at(100));
    // The machine that tests does the clients' work as well. Without the reserve for probes most of them take seconds.
    assert!(at(50) < Duration::from_millis(100), "median {:?}", at(50));
    assert!(at(95) < Duration::from_secs(1), "95 % within {:?}", at(95));
}
