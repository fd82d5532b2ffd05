//! Attacks by trying: whether there is a user of some name, and which key is one.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::browser::Browser;
use super::{audit, make_key, page};
use crate::support::TestRegistry;
use crate::support::http::Answer;
#[cfg(target_os = "linux")]
use crate::support::http::Caller;
#[cfg(target_os = "linux")]
use crate::support::process::ADMIN;
use crate::support::process::{Program, Running};
use crate::support::registry::{ALICE, BOB, ROOT};

/// The password of every user that [`with_all_kinds`] has.
const PASSWORD: &str = "the same password";

/// A user of each kind, and an unknown name.
const KINDS: [&str; 4] = ["known", "disabled", "in-file", "unknown"];

/// The program with a user of each kind. The hash of the one in the file takes much longer than ours.
fn with_all_kinds(root: &std::path::Path) -> Running {
    let file = root.join("htpasswd");
    std::fs::write(&file, format!("in-file:{}\n", bcrypt::hash(PASSWORD, 11).unwrap())).unwrap();
    let config = format!("[http.auth.htpasswd]\npath = '{}'\n[log]\nlevel = 'error'\n", file.display());
    let running = Program::serve_with(root, &config).with_admin().start();
    for name in ["known", "disabled"] {
        // Other passwords come by standard input. This one is generated and not used.
        let added = Program::new(["user", "add", name, "--root"]).arg(root).run();
        assert_eq!(added.code, Some(0), "{}", added.stderr);
    }
    let disabled = Program::new(["user", "disable", "disabled", "--root"]).arg(root).run();
    assert_eq!(disabled.code, Some(0), "{}", disabled.stderr);
    running
}

/// Everything that an answer says, but for when.
fn said_of(answer: &Answer, name: &str) -> (u16, Vec<String>, String) {
    // Every caller gets the requested name back.
    let header = |header| format!("{header:?}").replace(&format!("repository:{name}/"), "repository:/");
    let mut headers: Vec<String> = answer.headers.iter().map(header).collect();
    headers.retain(|header| !header.starts_with("(\"date\"") && !header.starts_with("(\"content-length\""));
    headers.sort_unstable();
    let body = if name.is_empty() { answer.text() } else { answer.text().replace(name, "NAME") };
    (answer.status.as_u16(), headers, body)
}

fn said(answer: &Answer) -> (u16, Vec<String>, String) {
    said_of(answer, "")
}

#[tokio::test]
async fn no_answer_tells_whether_there_is_such_a_user() {
    let root = tempfile::tempdir().unwrap();
    let running = with_all_kinds(root.path());
    let visitor = Browser::of(running.anonymous()).await;
    let (cookie, csrf) = (visitor.cookie.unwrap(), visitor.csrf);
    let unknown_key = format!("zak_{}", "0".repeat(32));
    let tried = |name: &str, password: &str| {
        let basic = running.user((name, password));
        let body = json!({ "username": name, "password": password }).to_string();
        [
            basic.get("/v2/"),
            page(basic.get("/v2/")),
            basic.get(&format!("/v2/{name}/a/manifests/1")),
            basic.post("/zot/auth/apikey").body("{}"),
            basic.get("/metrics"),
            running
                .anonymous()
                .post("/api/v1/signin")
                .header("cookie", &cookie)
                .header("x-csrf-token", &csrf)
                .body(body),
            running.user((name, &unknown_key)).get("/v2/"),
            // Without credentials: whose repository it would be.
            running.anonymous().get(&format!("/v2/{name}/a/tags/list")),
            running.anonymous().get(&format!("/api/v1/users/{name}")),
            running.anonymous().post(&format!("/v2/{name}/a/blobs/uploads/")),
        ]
    };
    let mut heard = Vec::new();
    for name in KINDS {
        let answers = tried(name, "wrong").into_iter().map(|request| async { said_of(&request.send().await, name) });
        heard.push(futures_util::future::join_all(answers).await);
    }
    for (n, first) in heard[0].iter().enumerate() {
        assert!(matches!(first.0, 401 | 403), "{first:?}");
        for (kind, others) in KINDS.iter().zip(&heard) {
            assert_eq!(others[n], *first, "{kind} is told from {}", KINDS[0]);
        }
    }
}

#[tokio::test]
async fn the_right_password_of_a_disabled_user_is_as_good_as_a_wrong_one() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    let (_, key) = make_key(&alice).await;
    let mut root = Browser::signed_in(&t, ROOT).await;
    root.tell("PUT", "/api/v1/superuser/users/alice", &json!({ "enabled": false })).await.status(200);
    let wrong = said(&t.user((ALICE.0, "wrong")).get("/v2/").send().await.error(401, "UNAUTHORIZED"));
    // The second time the password might have been remembered as right.
    for _ in 0..2 {
        assert_eq!(said(&alice.get("/v2/").send().await), wrong);
    }
    assert_eq!(said(&t.user((ALICE.0, &key)).get("/v2/").send().await), wrong);
    let mut browser = Browser::new(&t).await;
    let refused = [(ALICE.0, ALICE.1), (ALICE.0, "wrong"), ("unknown", "wrong")];
    let mut heard = Vec::new();
    for (name, password) in refused {
        heard.push(said(&browser.sign_in(name, password).await.status(403)));
    }
    assert!(heard.windows(2).all(|pair| pair[0] == pair[1]), "{heard:?}");
}

/// Callers who try passwords, each from its own address, so that none waits for the mistakes of others.
#[cfg(target_os = "linux")]
fn guesser(running: &Running, kind: &str, password: &str, place: u8) -> Caller {
    let number = KINDS.iter().position(|known| *known == kind).unwrap();
    running.user((kind, password)).at([127, 0, 10 + u8::try_from(number).unwrap(), place])
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_is_told_to_wait_does_not_learn_whether_there_is_such_a_user() {
    let root = tempfile::tempdir().unwrap();
    let running = with_all_kinds(root.path());
    let guesses = KINDS.map(|kind| {
        let running = &running;
        async move {
            // The wait begins with a second, which may be over before the next guess if the machine is busy; each is twice
            // as long as the one before.
            for n in 0..10 {
                let answer = guesser(running, kind, &format!("guess {n}"), 1).get("/v2/").send().await;
                if answer.status == 429 {
                    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
                    return n;
                }
                answer.error(401, "UNAUTHORIZED");
            }
            panic!("{kind} may be guessed as often as anybody likes");
        }
    });
    for (kind, free) in KINDS.iter().zip(futures_util::future::join_all(guesses).await) {
        assert!(free >= 3, "{kind} has to wait after {free} guesses already");
    }
}

/// The least that a wrong password takes for each kind of user. In one round all kinds are tried at the same moment, and
/// each is the first of the queue in turn, so that waiting for others slows all of them alike.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_time_of_an_answer_does_not_tell_whether_there_is_such_a_user() {
    let rounds = 2 * KINDS.len();
    let root = tempfile::tempdir().unwrap();
    let running = with_all_kinds(root.path());
    let mut least_of = KINDS.map(|_| Duration::MAX);
    for round in 1..=rounds {
        let order = (0..KINDS.len()).map(|place| (place + round) % KINDS.len());
        let answers = order.map(|kind| {
            let caller = guesser(&running, KINDS[kind], &format!("guess {round}"), u8::try_from(round).unwrap());
            async move {
                let begun = std::time::Instant::now();
                caller.get("/v2/").send().await.error(401, "UNAUTHORIZED");
                (kind, begun.elapsed())
            }
        });
        for (kind, time) in futures_util::future::join_all(answers).await {
            least_of[kind] = least_of[kind].min(time);
        }
    }
    let (least, most) = (least_of.iter().min().unwrap(), least_of.iter().max().unwrap());
    // A response for which no hash was computed, and nothing waited for, comes within a few milliseconds.
    assert!(*most < *least * 3, "{KINDS:?}: {least_of:?}");
}

/// The cost of a hash is measured in processor time. An unknown name, a disabled user and a user of a file cost as much as
/// a known user, so that the load of the machine does not reveal them.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_wrong_password_costs_a_hash_whoever_it_is_for() {
    const TIMES: u8 = 6;
    let root = tempfile::tempdir().unwrap();
    let running = with_all_kinds(root.path());
    let mut costs = Vec::new();
    for kind in KINDS {
        let before = running.ticks();
        let answers = (1..=TIMES).map(|n| {
            let caller = guesser(&running, kind, &format!("guess {n}"), n);
            async move { caller.get("/v2/").send().await.error(401, "UNAUTHORIZED") }
        });
        futures_util::future::join_all(answers).await;
        costs.push(running.ticks() - before);
    }
    let (least, most) = (costs.iter().min().unwrap(), costs.iter().max().unwrap());
    assert!(*most >= 6, "{TIMES} hashes took {most} ticks: the measure is too coarse to say anything");
    assert!(most < &(least * 4), "{KINDS:?}: {costs:?} ticks");
}

#[tokio::test]
async fn guessing_keys_finds_none_and_keeps_nobody_out() {
    let t = TestRegistry::with_users().await;
    let (_, key) = make_key(&t.user(ALICE)).await;
    // More than any number of wrong passwords that causes a wait.
    let guesses = (0..100_u32).map(|n| {
        let t = &t;
        async move {
            let guess = format!("zak_{:032x}", u128::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835));
            let basic = t.user((ALICE.0, &guess)).get("/v2/").send().await.error(401, "UNAUTHORIZED");
            let bearer = t.anonymous().get("/v2/").header("authorization", format!("Bearer {guess}"));
            let bearer = bearer.send().await.error(401, "UNAUTHORIZED");
            assert_eq!(basic.text(), bearer.text());
            let challenge = |answer: &Answer| answer.header("www-authenticate").unwrap().to_owned();
            assert_eq!(challenge(&bearer), format!("{},error=\"invalid_token\"", challenge(&basic)));
            let v1 = t.anonymous().get("/api/v1/user/").header("authorization", format!("Bearer {guess}"));
            v1.send().await.status(401);
        }
    });
    futures_util::future::join_all(guesses).await;
    t.user((ALICE.0, &key)).get("/v2/").send().await.status(200);
    // A password that is not remembered as right, and a wrong one: both are looked at at once.
    t.user((BOB.0, BOB.1)).get("/v2/").send().await.status(200);
    t.user((ALICE.0, "wrong")).get("/v2/").send().await.error(401, "UNAUTHORIZED");
    let failures: Vec<Value> = audit(&t).await.into_iter().filter(|row| row["kind"] == "login_failure").collect();
    assert_eq!(failures.len(), 1, "one wrong password, and no key: {failures:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_is_nearly_a_key_is_none() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    let admin = running.user(ADMIN);
    let (id, key) = make_key(&admin).await;
    let digits = &key[4..];
    let hash = crate::support::content::sha256(digits.as_bytes());
    let nearly = [
        key.to_uppercase(),
        format!("zak_{}", digits.to_uppercase()),
        format!("ZAK_{digits}"),
        format!("zaк_{digits}"),
        key[..35].to_owned(),
        format!("{key}0"),
        format!("{key} "),
        format!(" {key}"),
        format!("{key}\u{200b}"),
        format!("{key}:{key}"),
        format!("{key}:"),
        format!("{}:{key}", ADMIN.0),
        format!("zak-{digits}"),
        format!("pat_{digits}"),
        digits.to_owned(),
        format!("zak_zak_{digits}"),
        format!("zak_0x{}", &digits[2..]),
        format!("zak_{id}"),
        format!("zak_{}", id.replace('-', "")),
        id.clone(),
        hash.trim_start_matches("sha256:").to_owned(),
        format!("zak_{}", &hash[7..39]),
    ];
    // As a password, what is no key is a wrong one: from as many addresses, since they would have to wait.
    let as_passwords = nearly.iter().zip(1..).map(|(text, place)| {
        let caller = running.user((ADMIN.0, text)).at([127, 0, 20, place]);
        async move { (text, caller.get("/v2/").send().await.status.as_u16()) }
    });
    for (text, status) in futures_util::future::join_all(as_passwords).await {
        assert_eq!(status, 401, "{text:?}");
    }
    // A space around the value of a header does not belong to it.
    for text in nearly.iter().filter(|text| text.trim() != key) {
        for path in ["/v2/", "/api/v1/user/"] {
            let request = running.anonymous().get(path).header("authorization", format!("Bearer {text}"));
            request.send().await.status(401);
        }
    }
    // The key itself, but not its owner's name.
    for (name, place) in
        ["Admin", "admin ", " admin", "admin\u{200b}", "аdmin", "administrator", "unknown", &key].iter().zip(1..)
    {
        let caller = running.user((name, &key)).at([127, 0, 21, place]);
        caller.get("/v2/").send().await.error(401, "UNAUTHORIZED");
    }
    running.user((ADMIN.0, &key)).get("/v2/").send().await.status(200);
}
