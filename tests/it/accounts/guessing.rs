//! Guessing passwords: many at once, and without waiting for the answer; and what it must not cost others.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::TestRegistry;
use crate::support::connection::Raw;
use crate::support::http::Caller;
use crate::support::registry::{ALICE, ROOT};

/// A guess that no other call makes, as a request to be sent by hand.
fn guess(user: &str, n: usize) -> String {
    let caller = Caller::new(([127, 0, 0, 1], 0).into(), Some((user, &format!("guess {n}"))));
    format!("GET /v2/ HTTP/1.1\r\nhost: localhost\r\nauthorization: {}\r\n\r\n", caller.authorization().unwrap())
}

#[tokio::test]
async fn many_guesses_at_once_are_looked_at_no_more_than_one_after_another() {
    let t = TestRegistry::with_users().await;
    let guesses: JoinSet<_> = (0..30).map(|n| t.user((ALICE.0, &format!("guess {n}"))).get("/v2/").send()).collect();
    let answers = guesses.join_all().await;
    let of = |status: u16| answers.iter().filter(|answer| answer.status.as_u16() == status).count();
    // Three are anybody's mistake, and as many more are being looked at as there are turns.
    assert!((3..=5).contains(&of(401)), "{} of 30 were looked at", of(401));
    assert_eq!(of(401) + of(429), 30);
}

#[tokio::test]
async fn who_guesses_and_does_not_wait_for_the_answer_is_counted() {
    let t = TestRegistry::with_users().await;
    let made = t.user(ROOT).post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    let bearer = format!("Bearer {}", made["apiKey"].as_str().unwrap());
    let failures = async || {
        let logs = t.anonymous().get("/api/v1/superuser/logs").header("authorization", &bearer).send().await;
        let rows: Vec<Value> = logs.status(200).json()["logs"].as_array().unwrap().clone();
        rows.iter().filter(|row| row["kind"] == "login_failure").count()
    };
    for n in 0..3 {
        let mut raw = Raw::connect(t.running.address()).await;
        raw.send(guess(ALICE.0, n)).await;
        // Long enough to be read, and not to be answered.
        tokio::time::sleep(Duration::from_millis(150)).await;
        drop(raw);
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while failures().await < 3 {
        assert!(Instant::now() < deadline, "only {} of 3 guesses were counted", failures().await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    t.user((ALICE.0, "one more")).get("/v2/").send().await.error(429, "TOOMANYREQUESTS");
}

#[tokio::test]
async fn who_has_to_wait_is_not_told_so_at_once() {
    let t = TestRegistry::with_users().await;
    for n in 0..3 {
        t.user((ALICE.0, &format!("guess {n}"))).get("/v2/").send().await.status(401);
    }
    let begun = Instant::now();
    t.user((ALICE.0, "one more")).get("/v2/").send().await.status(429);
    assert!(begun.elapsed() >= Duration::from_millis(250), "answered after {:?}", begun.elapsed());
}

/// A hash needs 19 MiB, and goes on when its client has gone.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn guessing_and_going_away_fills_no_memory() {
    use crate::support::process::{ADMIN, Program};
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    for n in 0..60_u8 {
        // From an address that has guesses left.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 1, 1 + n], 0).into()).unwrap();
        let mut stream = socket.connect(running.address()).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, guess("unknown", n.into()).as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    // A successful sign-in had its turn among the guesses.
    running.user(ADMIN).get("/v2/").send().await.status(200);
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid().as_raw_nonzero())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 96 * 1024, "{} MiB", kib / 1024);
}

/// Six clients that guess passwords for unknown names until the test ends.
fn guess_many_names(address: std::net::SocketAddr) -> JoinSet<()> {
    let mut guessers = JoinSet::new();
    for n in 0..6 {
        guessers.spawn(async move {
            for i in 0.. {
                let (name, guess) = (format!("u{n}-{i}"), format!("guess {i}"));
                Caller::new(address, Some((&name, &guess))).get("/v2/").send().await;
            }
        });
    }
    guessers
}

/// Many clients share an address: behind a NAT, or a proxy that is not listed.
#[tokio::test(flavor = "multi_thread")]
async fn guesses_for_many_names_keep_no_user_of_the_same_address_out() {
    use crate::support::process::{ADMIN, Program};
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    let guessers = guess_many_names(running.address());
    let deadline = Instant::now() + Duration::from_secs(30);
    // From here on the address is slow.
    while running.user(("another", "wrong")).get("/v2/").send().await.status != 429 {
        assert!(Instant::now() < deadline, "the address may guess as fast as it likes");
    }
    let begun = Instant::now();
    while running.user(ADMIN).get("/v2/").send().await.status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the right password is refused");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // A wrong password has the same answer whether or not there is such a user, and whether or not it was verified.
    for (name, n) in [("another", 0), (ADMIN.0, 1), ("another", 1), (ADMIN.0, 2), (ADMIN.0, 2)] {
        let fresh = running.user((name, &format!("wrong {n}"))).get("/v2/").send().await;
        // The administrator is at home at this address by now, and so has the wait of one user.
        if name == "another" {
            fresh.error(429, "TOOMANYREQUESTS").has("retry-after", "2");
        }
    }
    drop(guessers);
}

/// A hash of a new password needs 19 MiB as well, and must not use the threads that uploads need.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn many_password_changes_at_once_fill_no_memory_and_delay_nobody() {
    use super::browser::Browser;
    use crate::support::process::{ADMIN, Program};
    const CHANGES: usize = 64;
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    let added =
        Program::new(["user", "add", "carol", "--password-stdin", "--root"]).arg(root.path()).input("password1");
    assert_eq!(added.run().code, Some(0));
    let mut browser = Browser::of(running.anonymous()).await;
    browser.sign_in("carol", "password1").await.status(200);
    let (cookie, csrf) = (browser.cookie.unwrap(), browser.csrf);
    let mut changes: JoinSet<u16> = (0..CHANGES)
        .map(|_| {
            let change = running.anonymous().put("/api/v1/user/").body(r#"{"password": "password1"}"#);
            let change = change.header("cookie", &cookie).header("x-csrf-token", &csrf);
            let change = change.header("content-type", "application/json");
            async move {
                let answer = change.send().await;
                assert!(answer.status != 503 || answer.header("retry-after").is_some());
                answer.status.as_u16()
            }
        })
        .collect();
    let first = changes.join_next().await.unwrap().unwrap();
    // Another caller's password is verified, and their upload begins, in between.
    let begun = Instant::now();
    running.user(ADMIN).post("/v2/a/b/blobs/uploads/").send().await.status(202);
    let waited = begun.elapsed();
    let mut answers = changes.join_all().await;
    answers.push(first);
    let of = |status: u16| answers.iter().filter(|answer| **answer == status).count();
    assert!(of(200) >= 20 && of(200) + of(503) == CHANGES, "{answers:?}");
    assert!(waited < Duration::from_secs(5), "another's upload begins after {waited:?}");
    assert!(running.resident_most() < 200 * 1024, "{} KiB", running.resident_most());
}
