//! A certificate from an ACME authority (`http.tls.acme`), with Debian's pebble.

mod client;
mod front;
mod pebble;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tempfile::TempDir;

use self::front::Front;
use self::pebble::{BLOCKED, EXTERNAL, Pebble, free_port};
use crate::clients::home::needs;
use crate::support::content::noise;
use crate::support::process::{ADMIN, Program, Running};

const NAME: &str = "registry.example";

/// The ports and the data directory of a registry.
struct Place {
    root: TempDir,
    tls: u16,
    http: u16,
}

impl Place {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), tls: free_port(), http: free_port() }
    }

    fn tls(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.tls).into()
    }

    /// Starts a registry that asks this directory, with more settings of `http.tls.acme`.
    fn registry(&self, ca: &Path, directory: &str, more: &str) -> Running {
        self.registry_of(NAME, ca, directory, more)
    }

    fn registry_of(&self, name: &str, ca: &Path, directory: &str, more: &str) -> Running {
        let (tls, http, ca) = (self.tls, self.http, ca.display());
        let config = format!(
            "[http]\nlisten = ['127.0.0.1:{tls}', 'acme://127.0.0.1:{http}']\n[http.tls.acme]\ndomains = ['{name}']\n\
             directory = '{directory}'\ncaCert = '{ca}'\n{more}"
        );
        let file = self.root.path().join("coracle.toml");
        fs::write(&file, config).unwrap();
        let root = self.data();
        Program::new(["serve", "--root"]).arg(root).arg(file).with_admin().start()
    }

    fn data(&self) -> std::path::PathBuf {
        self.root.path().join("data")
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.data().join("acme").join(name)
    }

    /// Runs a command of the program, and returns its exit code, its output and its messages.
    fn command(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let config = self.root.path().join("coracle.toml");
        let program = Program::new(arguments).arg("--root").arg(self.data()).arg("--config").arg(config);
        let done = program.run();
        (done.code, done.stdout, done.stderr)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let (_, out, messages) = self.command(&[arguments, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{messages}"))
    }

    /// The certificate that clients get.
    async fn certificate(&self) -> CertificateDer<'static> {
        client::certificate(&client::connect(self.tls(), NAME, &[], &[]).await.unwrap())
    }

    /// Waits until clients get a certificate of the authority. The server reads the file at most a second later.
    async fn until_issued(&self, issuer: &CertificateDer<'static>) -> CertificateDer<'static> {
        let begun = Instant::now();
        loop {
            match client::connect(self.tls(), NAME, std::slice::from_ref(issuer), &[]).await {
                Ok(stream) => return client::certificate(&stream),
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(30), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until clients get another certificate than this one.
    async fn until_renewed(&self, old: &CertificateDer<'static>) -> CertificateDer<'static> {
        let begun = Instant::now();
        loop {
            let current = self.certificate().await;
            if current != *old {
                return current;
            }
            assert!(begun.elapsed() < Duration::from_mins(1), "the certificate stays");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

const OBTAINED: &str = "obtained the certificate";
const FAILED: &str = "the authority issued no certificate";
const SELF_SIGNED: &str = "clients get a self-signed one";

/// The figure of a metric.
async fn metric(place: &Place, name: &str) -> u64 {
    let login = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{}:{}", ADMIN.0, ADMIN.1));
    let stream = client::connect(place.tls(), NAME, &[], &[]).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request =
        hyper::Request::get("/metrics").header("host", NAME).header("authorization", format!("Basic {login}"));
    let response =
        sender.send_request(request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap();
    let text = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).split('.').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_certificate_is_obtained_by_tls_and_outlives_a_restart() {
    needs!(PEBBLE);
    let place = Place::new();
    let pebble = Pebble::start(place.tls, free_port());
    let running = place.registry(&pebble.ca_file(), &pebble.directory(), "email = 'ops@registry.example'\n");
    let log = running.wait_for(OBTAINED);
    assert!(log.contains(SELF_SIGNED) && log.contains("challenge=\"tls-alpn-01\""), "{log}");
    let issuer = pebble.issuer().await;
    let first = place.until_issued(&issuer).await;
    let stream = client::connect(place.tls(), NAME, &[issuer], &["http/1.1"]).await.unwrap();
    assert_eq!(client::get(stream, NAME, "/livez").await.unwrap().0, 200);
    for (path, mode) in [("", 0o700), ("account.json", 0o600), ("certificate.pem", 0o600), ("state.json", 0o600)] {
        let found = fs::metadata(place.file(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{path}: {found:o}");
    }
    let text = fs::read_to_string(place.file("certificate.pem")).unwrap();
    let key = KeyPair::from_pem(text.split_inclusive("-----END PRIVATE KEY-----\n").next().unwrap()).unwrap();
    assert_eq!(key.algorithm(), &rcgen::PKCS_ECDSA_P256_SHA256);
    let secret = fs::read_to_string(place.file("account.json")).unwrap();
    let secret = serde_json::from_str::<Value>(&secret).unwrap()["credentials"]["key_pkcs8"].clone();
    assert!(!running.stderr().contains(secret.as_str().unwrap()), "the log has the key of the account");

    // No challenge is pending, so no client gets its certificate.
    let other = client::connect(place.tls(), NAME, &[], &["acme-tls/1"]).await;
    assert!(other.is_err(), "a handshake for a challenge that is not pending");
    let status = place.json(&["status"]);
    let certificate = &status["certificate"];
    assert_eq!((&certificate["self_signed"], &certificate["acme"]["failure"]), (&json!(false), &Value::Null));
    assert!(certificate["acme"]["renewal"].is_string() && certificate["until"].is_string(), "{certificate}");
    let (code, shown, _) = place.command(&["certificate", "show"]);
    assert!(code == Some(0) && shown.contains("valid until") && shown.contains(NAME), "{shown}");
    assert!(metric(&place, "coracle_certificate_end_timestamp_seconds").await > 1_700_000_000);
    assert!(metric(&place, "coracle_acme_renewal_timestamp_seconds").await > 1_700_000_000);
    assert_eq!(metric(&place, "coracle_acme_last_failure_timestamp_seconds").await, 0);
    let stopped = running.stop();
    assert_eq!(stopped.code, Some(0));

    let running = place.registry(&pebble.ca_file(), &pebble.directory(), "");
    running.wait_for("the certificate comes from an ACME authority");
    assert_eq!(place.certificate().await, first);
    assert!(!running.stderr().contains(OBTAINED));
    // A backup has no private key.
    let backup = place.root.path().join("backup");
    let (code, _, messages) = place.command(&["backup", backup.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{messages}");
    assert!(!backup.join("acme").exists());
}

#[tokio::test]
async fn a_certificate_is_obtained_over_http_where_tls_is_not_reachable() {
    needs!(PEBBLE);
    let place = Place::new();
    let pebble = Pebble::start(free_port(), place.http);
    let running = place.registry(&pebble.ca_file(), &pebble.directory(), "");
    let log = running.wait_for(OBTAINED);
    assert!(log.contains("challenge=\"http-01\"") && !log.contains(FAILED), "{log}");
    place.until_issued(&pebble.issuer().await).await;
    // The port answers nothing else.
    let here = SocketAddr::from(([127, 0, 0, 1], place.http));
    let plain = crate::support::http::Caller::new(here, None);
    plain.get("/.well-known/acme-challenge/unknown").send().await.status(404);
    let answer = plain.get("/v2/?a=b").send().await.status(308);
    assert_eq!(answer.header("location"), Some("https://registry.example/v2/?a=b"));
    plain.post("/v2/a/blobs/uploads/").send().await.status(403);
    assert!(running.url().starts_with("https://"), "{}", running.url());
}

/// Counts pulls in a loop, and those that failed.
#[derive(Default)]
struct Pulls {
    done: AtomicUsize,
    failed: AtomicUsize,
    ended: AtomicBool,
}

impl Pulls {
    fn note(&self, answer: Result<(u16, bytes::Bytes), impl std::fmt::Display>, content: &bytes::Bytes) -> bool {
        match answer {
            Ok((200, body)) if body == *content => {
                self.done.fetch_add(1, Ordering::Relaxed);
                true
            }
            Ok((status, body)) => {
                eprintln!("a pull got {status} and {} bytes", body.len());
                self.failed.fetch_add(1, Ordering::Relaxed);
                false
            }
            Err(error) => {
                eprintln!("a pull failed: {error}");
                self.failed.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_during_pulls_and_no_connection_breaks() {
    needs!(PEBBLE);
    let place = Place::new();
    let pebble = Pebble::start(place.tls, place.http);
    let more = "[http.accessControl.repositories.\"**\"]\nanonymousPolicy = ['read', 'create']\n";
    let running = place.registry(&pebble.ca_file(), &pebble.directory(), more);
    running.wait_for(OBTAINED);
    let issuer = pebble.issuer().await;
    let first = place.until_issued(&issuer).await;
    let content = noise(300_000, 7);
    let path = push_over_tls(&place, &content).await;
    let pulls = Arc::new(Pulls::default());
    let mut tasks = Vec::new();
    // One connection for all pulls.
    tasks.push(tokio::spawn({
        let (pulls, path, content, address) = (Arc::clone(&pulls), path.clone(), content.clone(), place.tls());
        async move {
            let stream = client::connect(address, NAME, &[], &[]).await.unwrap();
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            while !pulls.ended.load(Ordering::Relaxed) {
                if !pulls.note(client::send(&mut sender, NAME, &path).await, &content) {
                    break;
                }
            }
        }
    }));
    // One connection for each pull. The certificate is valid each time.
    tasks.push(tokio::spawn({
        let (pulls, path, content, address) = (Arc::clone(&pulls), path.clone(), content.clone(), place.tls());
        async move {
            while !pulls.ended.load(Ordering::Relaxed) {
                let answer = match client::connect(address, NAME, std::slice::from_ref(&issuer), &["http/1.1"]).await {
                    Ok(stream) => client::get(stream, NAME, &path).await.map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                pulls.note(answer, &content);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }));
    let mut seen = BTreeSet::from([first.to_vec()]);
    let mut last = first;
    for _ in 0..3 {
        let (code, shown, messages) = tokio::task::block_in_place(|| place.command(&["certificate", "renew"]));
        assert_eq!(code, Some(0), "{shown}{messages}");
        last = place.until_renewed(&last).await;
        assert!(seen.insert(last.to_vec()), "an old certificate");
    }
    pulls.ended.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    let (done, failed) = (pulls.done.load(Ordering::Relaxed), pulls.failed.load(Ordering::Relaxed));
    assert!(done > 100 && failed == 0, "{done} pulls, {failed} failed: {}", running.stderr());
    println!("{done} pulls during {} renewals", seen.len() - 1);
}

/// Pushes a blob, and returns its path.
async fn push_over_tls(place: &Place, content: &bytes::Bytes) -> String {
    let stream = client::connect(place.tls(), NAME, &[], &[]).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let digest = crate::support::content::sha256(content);
    let request = hyper::Request::post(format!("/v2/team/app/blobs/uploads/?digest={digest}")).header("host", NAME);
    let request = request.body(http_body_util::Full::new(content.clone())).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status().as_u16(), 201);
    format!("/v2/team/app/blobs/{digest}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registry_answers_while_the_authority_is_away() {
    needs!(PEBBLE);
    let place = Place::new();
    let mut pebble = Pebble::new(place.tls, place.http, &json!({}));
    let running = place.registry(&pebble.ca_file(), &pebble.directory(), "");
    let log = running.wait_for(FAILED);
    assert!(log.contains(SELF_SIGNED) && log.contains("cannot be reached"), "{log}");
    let stream = client::connect(place.tls(), NAME, &[], &[]).await.unwrap();
    assert_eq!(client::get(stream, NAME, "/livez").await.unwrap().0, 200);
    let old = place.certificate().await;
    let status = tokio::task::block_in_place(|| place.json(&["status"]));
    assert_eq!((&status["certificate"]["self_signed"], &status["certificate"]["until"]), (&json!(true), &Value::Null));
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("self-signed") && warnings.contains("certificate renew"), "{warnings}");
    let diagnosis = tokio::task::block_in_place(|| place.json(&["doctor"]));
    let check = diagnosis["checks"].as_array().unwrap().iter().find(|check| check["name"] == "certificate").unwrap();
    assert_eq!(check["state"], "problem", "{check}");
    assert!(metric(&place, "coracle_acme_last_failure_timestamp_seconds").await > 1_700_000_000);
    assert_eq!(metric(&place, "coracle_acme_failures_total").await, 1);
    assert_eq!(metric(&place, "coracle_certificate_end_timestamp_seconds").await, 0);
    // It is tried again by itself after a minute, and on request at once.
    pebble.begin();
    let (code, shown, messages) = tokio::task::block_in_place(|| place.command(&["certificate", "renew"]));
    assert!(code == Some(0) && shown.contains("valid until"), "{shown}{messages}");
    let first = place.until_renewed(&old).await;
    // An authority that has lost its accounts gets another one. The old certificate stays meanwhile.
    pebble.end();
    let (code, _, messages) = tokio::task::block_in_place(|| place.command(&["certificate", "renew"]));
    assert!(code == Some(1) && messages.contains("cannot be reached"), "{messages}");
    assert_eq!(place.certificate().await, first);
    pebble.begin();
    let (code, _, messages) = tokio::task::block_in_place(|| place.command(&["certificate", "renew"]));
    assert_eq!(code, Some(0), "{messages}");
    running.wait_for("does not know the account any more");
    place.until_renewed(&first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_name_is_reported_and_not_tried_again_soon() {
    needs!(PEBBLE);
    let place = Place::new();
    let pebble = Pebble::start(place.tls, place.http);
    let front = Front::before(&pebble).await;
    let running = place.registry_of(BLOCKED, &pebble.ca_file(), &front.directory(), "");
    let log = running.wait_for(FAILED);
    assert!(log.contains("rejectedIdentifier") && log.contains("check http.tls.acme.domains"), "{log}");
    assert_eq!(front.orders(), 1);
    let state = |place: &Place| place.json(&["certificate", "show"])["acme"].clone();
    let before = tokio::task::block_in_place(|| state(&place));
    let minutes = |acme: &Value, key: &str| {
        let time = |key: &str| acme[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        (time(key).as_second() - time("failed").as_second()) / 60
    };
    assert!((30..=33).contains(&minutes(&before, "next_attempt")), "{before}");
    // A restart is no reason to try.
    running.stop();
    let running = place.registry_of(BLOCKED, &pebble.ca_file(), &front.directory(), "");
    running.wait_for(SELF_SIGNED);
    let after = tokio::task::block_in_place(|| state(&place));
    assert_eq!((&after["next_attempt"], front.orders()), (&before["next_attempt"], 1));
    running.stop();
    // Another name is, and here the registry is not where the name leads.
    let elsewhere = Place { root: place.root, tls: free_port(), http: free_port() };
    let running = elsewhere.registry(&pebble.ca_file(), &front.directory(), "");
    let log = running.wait_for(FAILED);
    for part in ["cannot verify registry.example by tls-alpn-01", "by http-01", "port 443", "port 80"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert_eq!(front.orders(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limits_of_the_authority_are_respected() {
    needs!(PEBBLE);
    let place = Place::new();
    let pebble = Pebble::start(place.tls, place.http);
    let front = Front::before(&pebble).await;
    front.rules.lock().unwrap().refused = Some(("rateLimited", 7200));
    let running = place.registry(&pebble.ca_file(), &front.directory(), "");
    let log = running.wait_for(FAILED);
    assert!(log.contains("too many (rateLimited)"), "{log}");
    let acme = tokio::task::block_in_place(|| place.json(&["certificate", "show"]))["acme"].clone();
    let time = |key: &str| acme[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    let pause = time("next_attempt") - time("failed");
    assert!((7200..=7920).contains(&pause), "{pause} s");
    assert_eq!(front.orders(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authority_says_when_to_renew() {
    needs!(PEBBLE);
    let place = Place::new();
    let pebble = Pebble::start(place.tls, place.http);
    let front = Front::before(&pebble).await;
    let past = ("2026-01-01T00:00:00Z".to_owned(), "2026-01-02T00:00:00Z".to_owned());
    front.rules.lock().unwrap().window = Some(past);
    let running = place.registry(&pebble.ca_file(), &front.directory(), "");
    running.wait_for(OBTAINED);
    // The window has passed, so that the certificate is renewed at once. The new one would be due as well, but not soon.
    running.wait_for("renewed the certificate");
    let begun = Instant::now();
    while front.rules.lock().unwrap().asked.len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(30), "the authority is not asked again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let rules = front.rules.lock().unwrap();
    assert_eq!(rules.orders.len(), 2, "{rules:?}");
    assert_eq!(rules.orders[1]["replaces"], rules.asked[0], "{rules:?}");
    assert_ne!(rules.asked[0], rules.asked[1]);
}

#[tokio::test]
async fn an_authority_that_is_not_trusted_gets_nothing() {
    needs!(PEBBLE);
    let place = Place::new();
    let (pebble, other) = (Pebble::start(place.tls, place.http), Pebble::new(1, 1, &json!({})));
    let running = place.registry(&other.ca_file(), &pebble.directory(), "");
    let log = running.wait_for(FAILED);
    assert!(log.contains("is not trusted") && log.contains("http.tls.acme.caCert"), "{log}");
    assert!(!place.file("account.json").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_external_account_is_named_by_a_key() {
    needs!(PEBBLE);
    let place = Place::new();
    let pebble = Pebble::start_with(place.tls, place.http, &json!({ "externalAccountBindingRequired": true }));
    let running = place.registry(&pebble.ca_file(), &pebble.directory(), "");
    let log = running.wait_for(FAILED);
    assert!(log.contains("externalAccountKeyFile"), "{log}");
    running.stop();
    let file = place.root.path().join("hmac");
    fs::write(&file, format!("{}\n", EXTERNAL.1)).unwrap();
    let more = format!("externalAccountId = '{}'\nexternalAccountKeyFile = '{}'\n", EXTERNAL.0, file.display());
    // Other settings have not failed yet.
    let running = place.registry(&pebble.ca_file(), &pebble.directory(), &more);
    running.wait_for(OBTAINED);
    assert!(!running.stderr().contains(EXTERNAL.1), "the log has the key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_a_renewal_that_waits_for_the_authority() {
    let place = Place::new();
    // Accepts connections, and does not answer.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let authority = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap().cert.pem();
    let ca = place.root.path().join("ca.pem");
    fs::write(&ca, authority).unwrap();
    let running = place.registry(&ca, &format!("http://{}/dir", silent.local_addr().unwrap()), "");
    let place = Arc::new(place);
    let renewal = tokio::task::spawn_blocking({
        let place = Arc::clone(&place);
        move || place.command(&["certificate", "renew"])
    });
    let (_attempt, _) = tokio::task::block_in_place(|| silent.accept()).unwrap();
    // The command waits for the attempt.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    let stopped = tokio::task::block_in_place(|| running.stop());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(stopped.code == Some(0) && !stopped.stderr.contains("panicked"), "{}", stopped.stderr);
    let (code, _, messages) = renewal.await.unwrap();
    assert!(code == Some(1) && messages.contains("stop"), "{messages}");
}
