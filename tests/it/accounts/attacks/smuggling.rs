//! Attacks with what a name, a password or a header consists of: control characters, quotes, look-alikes, bytes that
//! are no text, far too many of them, and the same header twice.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Value, json};

use super::super::browser::Browser;
use super::{audit, make_key, page};
use crate::support::TestRegistry;
use crate::support::http::Caller;
use crate::support::process::{ADMIN, Program};
use crate::support::raw::{RawAnswer, exchange};
use crate::support::registry::{ALICE, BOB};

/// A log line that a name would inject.
const FORGED: &str = "2026-01-01T00:00:00.000000Z  INFO coracle::audit: kind=\"login_success\" account=\"admin\"";

/// Sends a request with these lines of header behind the first ones.
async fn send(caller: &Caller, line: &str, headers: &[&[u8]]) -> RawAnswer {
    let mut bytes = format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n").into_bytes();
    for header in headers {
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    exchange(caller.address(), &bytes, false).await
}

/// Basic credentials of any bytes.
fn basic(credentials: &[u8]) -> Vec<u8> {
    format!("authorization: Basic {}", STANDARD.encode(credentials)).into_bytes()
}

/// The caller at its own address, if the machine has several, so that none waits for the mistakes of others.
fn elsewhere(caller: Caller, place: u8) -> Caller {
    if cfg!(target_os = "linux") { caller.at([127, 0, 30, place]) } else { caller }
}

/// Names of no user, each of them dangerous somewhere.
fn names(key: &str) -> Vec<String> {
    vec![
        format!("eve\r\n{FORGED}"),
        format!("eve\n{FORGED}"),
        "eve\r\nset-cookie: session=planted\r\n\r\n".to_owned(),
        "admin\0".to_owned(),
        "eve\0admin".to_owned(),
        "eve%0d%0aset-cookie:%20session=planted".to_owned(),
        "eve\" performer=\"admin\" status=200 x=\"".to_owned(),
        "eve\",\"performer\":\"admin\",\"x\":\"".to_owned(),
        "eve\\".to_owned(),
        "\u{1b}[2J\u{1b}[31meve".to_owned(),
        "\u{9b}2Jeve\u{7f}\u{8}".to_owned(),
        "\u{202e}nimda\u{2066}".to_owned(),
        "eve\u{2028}admin\u{2029}\u{85}".to_owned(),
        "\u{feff}admin".to_owned(),
        "admin\u{200b}".to_owned(),
        "аdmin".to_owned(),      // with a Cyrillic letter
        "ａｄｍｉｎ".to_owned(), // of full width
        "ADMIN".to_owned(),
        "admin ".to_owned(),
        " admin".to_owned(),
        "admin/".to_owned(),
        "../admin".to_owned(),
        "admin'--".to_owned(),
        "${jndi:ldap://127.0.0.1/a}{{7*7}}%s%n".to_owned(),
        format!("admin:{key}"),
        "a".repeat(255),
        "a".repeat(256),
        "ä".repeat(5000),
    ]
}

#[tokio::test]
async fn a_name_is_not_let_into_headers_and_log_lines_as_it_is() {
    for format in ["text", "json"] {
        let root = tempfile::tempdir().unwrap();
        let config = format!("[log]\nlevel = 'trace'\nformat = '{format}'\n");
        let running = Program::serve_with(root.path(), &config).with_admin().start();
        let admin = running.user(ADMIN);
        let (_, key) = make_key(&admin).await;
        let names = names(&key);
        // All at once, each in a form that a client might send.
        let tries = names.iter().zip(1..).map(|(name, place)| {
            let (running, admin, key) = (&running, &admin, &key);
            async move {
                for password in [ADMIN.1, key] {
                    let answer = page(elsewhere(running.user((name, password)), place).get("/v2/")).send().await;
                    assert!(matches!(answer.status.as_u16(), 401 | 429), "{name:?}: {answer:?}");
                    assert_eq!(answer.header("set-cookie"), None, "{name:?}: {answer:?}");
                }
                let mut browser = Browser::of(elsewhere(running.anonymous(), place)).await;
                let answer = browser.sign_in(name, ADMIN.1).await;
                assert!(matches!(answer.status.as_u16(), 403 | 429), "{name:?}: {answer:?}");
                assert_eq!(answer.header("set-cookie"), None, "{name:?}: {answer:?}");
                // A path is logged as it came, and so as long as it was.
                let name: String = name.chars().take(256).collect();
                let path = utf8_percent_encode(&name, NON_ALPHANUMERIC).to_string();
                let answer = admin.get(&format!("/v2/{path}/a/tags/list")).send().await;
                assert!(matches!(answer.status.as_u16(), 400 | 404 | 414), "{name:?}: {answer:?}");
            }
        });
        futures_util::future::join_all(tries).await;
        let mut superuser = Browser::of(running.anonymous()).await;
        superuser.sign_in(ADMIN.0, ADMIN.1).await.status(200);
        let audit = superuser.get("/api/v1/superuser/logs").await.status(200).text();
        let log = running.stop().stderr;
        assert!(log.contains("login_failure") && audit.contains("login_failure"), "{log}");
        assert!(!log.contains(&key) && !audit.contains(&key), "a key in a user name is still a secret");
        assert!(!log.chars().any(|c| c.is_control() && c != '\n'), "{log:?}");
        assert!(log.len() < 200_000 && log.lines().all(|line| line.len() < 2000), "a name has no length of its own");
        let forged =
            log.lines().find(|line| line.starts_with("2026-01-01") || line.contains(" performer=\"admin\" status=200"));
        assert_eq!(forged, None);
        for line in log.lines().filter(|line| format == "json" && line.starts_with('{')) {
            let read: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let successes = read["kind"] == "login_success" && read["account"] != "admin";
            assert!(!successes && read["account"] != "eve", "{line}");
        }
    }
}

/// Names that only the writer of an htpasswd file can give, and that are no cookie's value as they are.
const ODD: [&str; 7] = ["josé", "eve; Domain=evil.example", "a b", "quo\"te", "com,ma", "back\\slash", "100%25"];

#[tokio::test]
async fn a_user_with_an_odd_name_signs_in_and_the_name_stays_in_its_cookie() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let hash = bcrypt::hash("secret", 4).unwrap();
    // The last line has no name, and so no user.
    let lines = ODD.iter().chain([&""]).map(|name| format!("{name}:{hash}\n"));
    std::fs::write(&file, lines.collect::<String>()).unwrap();
    let config = format!("[http.auth.htpasswd]\npath = '{}'\n", file.path().display());
    let config = coracle::config::Config::from_toml_str(&config).unwrap().config;
    let t = TestRegistry::start(coracle::Registry::builder().config(config)).await;
    Browser::new(&t).await.sign_in("", "secret").await.status(403);
    for name in ODD {
        let answer = page(t.user((name, "secret")).get("/v2/")).send().await.status(200);
        let cookies: Vec<_> =
            answer.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(cookies.len(), 2, "{name}");
        let mut parts = cookies[1].split("; ");
        let value = parts.next().unwrap().strip_prefix("user=").unwrap();
        // RFC 6265, 4.1.1.
        let octet = |byte: u8| matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e);
        assert!(value.bytes().all(octet), "{value}");
        assert_eq!(percent_decode_str(value).decode_utf8().unwrap(), name);
        let attributes: Vec<&str> = parts.map(|part| part.split('=').next().unwrap()).collect();
        assert_eq!(attributes, ["Path", "Max-Age", "SameSite"]);
        // This user has keys as well.
        let (_, key) = make_key(&t.user((name, "secret"))).await;
        t.user((name, &key)).get("/v2/").send().await.status(200);
    }
}

#[tokio::test]
async fn credentials_that_are_too_long_or_no_text_are_refused_and_change_nothing() {
    let t = TestRegistry::with_users().await;
    let caller = t.anonymous();
    let long =
        |name: usize, password: usize| basic(format!("{}:{}", "a".repeat(name), "x".repeat(password)).as_bytes());
    let (wrong, name, password) =
        ("invalid or expired credentials", "a user name has 1 to 255", "a password has at most 1024");
    let (base64, utf8, form) = ("not base64", "not UTF-8", "the form user:password");
    let (text, token, nobody, hyper) = ("not text", "neither a token nor an API key", "Requires authentication", "");
    for (header, status, why) in [
        // As long as they may be: not too long, but wrong.
        (long(255, 1024), 401, wrong),
        (long(256, 1), 401, name),
        (long(1, 1025), 401, password),
        (long(20_000, 1), 401, name),
        (long(1, 20_000), 401, password),
        (long(1, 30_000), 431, "the headers are too large"),
        (long(1, 40_000), 431, hyper),
        (basic(b"\xff\xfe:\xff"), 401, utf8),
        (basic(b"alice:\xc3"), 401, utf8),
        (basic(b"alice\xe9:x"), 401, utf8),
        (basic(b"\0:\0"), 401, name),
        (basic(b"ali\xc2\x85ce:x"), 401, name),
        (basic(b":alice's password"), 401, name),
        (basic(b":"), 401, nobody),
        (basic(b""), 401, form),
        (basic(b"alice"), 401, form),
        (b"authorization: Basic \xff\xfe\xfd".to_vec(), 401, text),
        (b"authorization: B\xc3\xa4sic YTpi".to_vec(), 401, "the schemes Basic and Bearer"),
        (b"authorization: Basic YTpi\0".to_vec(), 400, hyper),
        (b"authorization: Basic YT\rpi".to_vec(), 400, hyper),
        (b"authorization: Basic Y!==".to_vec(), 401, base64),
        (b"authorization: Basic YTpi YTpi".to_vec(), 401, base64),
        (b"authorization: Basic\tYTpi".to_vec(), 401, "the schemes Basic and Bearer"),
        (b"authorization: Bearer zak_\xff".to_vec(), 401, text),
        (format!("authorization: Bearer {}", "z".repeat(30_000)).into(), 401, token),
        (b"authorization: \xff".to_vec(), 401, text),
        (format!("cookie: session={}", "A".repeat(30_000)).into(), 401, nobody),
        (b"cookie: session=\xff\xfe; user=\xff".to_vec(), 401, nobody),
        (format!("cookie: {}", "session=A; ".repeat(2500)).into(), 401, nobody),
        (b"x-zot-api-client: \xff".to_vec(), 401, nobody),
    ] {
        let answer = send(&caller, "GET /v2/_catalog", &[&header]).await;
        let said = answer.status == status && answer.body.contains(why) && (why.is_empty() == answer.body.is_empty());
        assert!(said, "{}: {answer:?}", String::from_utf8_lossy(&header[..header.len().min(60)]));
        // The message names the fault and not the value.
        assert!(!answer.body.contains("YTpi") && answer.body.len() < 300, "{answer:?}");
    }
    let mut visitor = Browser::new(&t).await;
    let wide = "x".repeat(60_000);
    for (body, status) in [
        (json!({ "username": ALICE.0, "password": wide }).to_string().into_bytes(), 403),
        (json!({ "username": wide, "password": "x" }).to_string().into_bytes(), 403),
        (json!({ "username": wide, "password": wide }).to_string().into_bytes(), 413),
        (br#"{"username": "alice", "password": "\ud800"}"#.to_vec(), 400),
        (br#"{"username": "\udc00\ud800", "password": "x"}"#.to_vec(), 400),
        (b"{\"username\": \"alice\xff\", \"password\": \"x\"}".to_vec(), 400),
        (b"\xff\xfe{\0}\0".to_vec(), 400),
        (br#"{"username": "alice", "username": "bob", "password": "x"}"#.to_vec(), 400),
        (br#"{"username": ["alice"], "password": {"$ne": null}}"#.to_vec(), 400),
        (br#"{"username": null, "password": true}"#.to_vec(), 400),
        (vec![b'['; 60_000], 400),
    ] {
        let answer = visitor.send(visitor.caller.post("/api/v1/signin").body(body)).await.status(status);
        assert!(answer.body.len() < 1000 && answer.header("set-cookie").is_none(), "{}", answer.text());
    }
    for token in [b"\xff\xfe".to_vec(), vec![b'A'; 30_000]] {
        let request = visitor.caller.post("/api/v1/signin").header("cookie", visitor.cookie.as_ref().unwrap());
        request.header("x-csrf-token", token).body("{}").send().await.status(403);
    }
    let failures = audit(&t).await.into_iter().filter(|row| row["kind"] == "login_failure").count();
    assert_eq!(failures, 1, "an impossible password is not recorded");
    // No user waits for a password that cannot be theirs.
    for user in [ALICE, BOB] {
        t.user(user).get("/v2/").send().await.status(200);
    }
}

#[tokio::test]
async fn of_two_authorization_headers_none_counts() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    let (_, key) = make_key(&alice).await;
    let session = Browser::signed_in(&t, ALICE).await.cookie.unwrap();
    let right = format!("authorization: {}", alice.authorization().unwrap());
    let bearer = format!("Authorization: Bearer {key}");
    let by_key = String::from_utf8(basic(format!("{}:{key}", ALICE.0).as_bytes())).unwrap();
    let wrong = String::from_utf8(basic(b"alice:wrong")).unwrap();
    let (empty, nothing) = ("authorization:", "authorization: Basic Og==");
    let pairs = [
        [&*right, &*right],
        [&right, &wrong],
        [&wrong, &right],
        [&right, &bearer],
        [&bearer, &right],
        [&bearer, &bearer],
        [&by_key, &bearer],
        [&right, empty],
        [empty, &right],
        [&bearer, nothing],
        [nothing, &by_key],
        [empty, empty],
    ];
    let cookie = format!("cookie: {session}");
    for path in ["/v2/", "/v2/_catalog", "/zot/auth/apikey", "/api/v1/user/", "/metrics"] {
        for pair in pairs {
            // A session that would do is no way out, nor is something between the two.
            for between in ["accept: */*", &cookie, "x-zot-api-client: zot-ui"] {
                let headers = [pair[0], between, pair[1]].map(str::as_bytes);
                let answer = send(&alice, &format!("GET {path}"), &headers).await;
                assert_eq!(answer.status, 401, "{path} {pair:?} {between}: {answer:?}");
            }
        }
    }
    // Two values in one line are one invalid value, and a continued line is invalid.
    let value = |header: &str| header.split_once(": ").unwrap().1.to_owned();
    for one in [
        format!("authorization: {}, {}", value(&right), value(&bearer)),
        format!("authorization: {}, {}", value(&bearer), value(&right)),
        format!("authorization: {},", value(&by_key)),
    ] {
        assert_eq!(send(&alice, "GET /v2/", &[one.as_bytes()]).await.status, 401, "{one}");
    }
    let folded = format!("authorization: Basic\r\n {}", value(&right).split_once(' ').unwrap().1);
    assert_eq!(send(&alice, "GET /v2/", &[folded.as_bytes()]).await.status, 400);
    for one in [&right, &bearer, &by_key] {
        assert_eq!(send(&alice, "GET /v2/", &[one.as_bytes()]).await.status, 200, "{one}");
    }
}
