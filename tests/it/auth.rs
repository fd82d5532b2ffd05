//! Passwords: how they are kept, what a wrong one hears, and what a right one costs.

use crate::support::TestRegistry;
use crate::support::process::{ADMIN, Program};
use crate::support::registry::ALICE;

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_hear_the_same() {
    let t = TestRegistry::with_users().await;
    let mut heard = Vec::new();
    for credentials in [(ALICE.0, "wrong"), ("unknown", "wrong"), (ALICE.0, ""), ("unknown", ALICE.1)] {
        let answer = t.user(credentials).get("/v2/").send().await.error(401, "UNAUTHORIZED");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer realm=\""));
        let mut headers = answer.headers.clone();
        headers.remove("date");
        heard.push((headers, answer.text()));
    }
    assert!(heard.windows(2).all(|pair| pair[0] == pair[1]), "{heard:?}");
    t.user(ALICE).get("/v2/").send().await.status(200);
}

#[tokio::test]
async fn credentials_that_cannot_be_read_are_refused_with_a_challenge() {
    let t = TestRegistry::with_users().await;
    for value in ["Basic", "Basic !!!", "Basic YWxpY2U=", "Bearer abc", "nonsense", ""] {
        let request = t.anonymous().get("/v2/").header("authorization", value);
        request.send().await.error(401, "UNAUTHORIZED");
    }
    let request = t.user(ALICE).get("/v2/").header("authorization", "Basic Ym9iOng=");
    request.send().await.error(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn a_changed_password_counts_at_once() {
    let t = TestRegistry::with_users().await;
    t.user(ALICE).get("/v2/").send().await.status(200);
    let registry = t.registry.clone();
    tokio::task::spawn_blocking(move || registry.put_user(ALICE.0, "another", false)).await.unwrap().unwrap();
    t.user(ALICE).get("/v2/").send().await.error(401, "UNAUTHORIZED");
    t.user((ALICE.0, "another")).get("/v2/").send().await.status(200);
}

#[tokio::test]
async fn passwords_are_kept_as_argon2id_and_readable_by_nobody_else() {
    use std::os::unix::fs::MetadataExt as _;
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    let running = Program::serve(&data).with_admin().start();
    running.user(ADMIN).get("/v2/").send().await.status(200);
    running.stop();
    let database = std::fs::read(data.join("coracle.redb")).unwrap();
    let has = |text: &str| database.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("$argon2id$v=19$m=19456,t=2,p=1$"));
    assert!(!has(ADMIN.1));
    let mode = |path: &std::path::Path| path.metadata().unwrap().mode() & 0o777;
    assert_eq!((mode(&data), mode(&data.join("coracle.redb"))), (0o700, 0o600));
}

/// Measures hashing by the processor time of the program, which has no other work.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_unknown_user_costs_a_hash_and_a_remembered_password_none() {
    /// As many mistakes as anybody may make before they have to wait.
    const FEW: u32 = 3;
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve_with(root.path(), "[log]\nlevel = 'error'\n").with_admin().start();
    let cost = async |times: u32, name: &str, password: &dyn Fn(u32) -> String, status: u16| {
        let before = running.ticks();
        for n in 0..times {
            running.user((name, &password(n))).get("/v2/").send().await.status(status);
        }
        running.ticks() - before
    };
    let right = |_| ADMIN.1.to_owned();
    cost(1, ADMIN.0, &right, 200).await;
    let remembered = cost(20 * FEW, ADMIN.0, &right, 200).await;
    // The same mistake twice is one, and costs one hash.
    let mistakes = |n: u32| format!("wrong {n}");
    let wrong = cost(FEW, ADMIN.0, &mistakes, 401).await;
    let unknown = cost(FEW, "unknown", &mistakes, 401).await;
    assert!(wrong >= 3, "{FEW} hashes took {wrong} ticks: the measure is too coarse to say anything");
    assert!(unknown * 2 >= wrong && wrong * 2 >= unknown, "wrong: {wrong} ticks, unknown: {unknown}");

    // Twenty times as many requests would have cost twenty times as much; they cost less than five.
    assert!(remembered < 5 * wrong, "{FEW} hashes: {wrong} ticks, {} remembered: {remembered}", 20 * FEW);
}
