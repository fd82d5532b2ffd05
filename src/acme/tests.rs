//! Attempts at an authority of a few lines, on the loopback interface.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::content::blobs::SystemDisk;

pub(super) const DIRECTORY: &str = "https://acme.example/directory";
const NAME: &str = "registry.example";
const PATIENCE: Duration = Duration::from_secs(20);
const PENDING: &str = r#"{"status": "pending", "authorizations": [], "finalize": "http://127.0.0.1/finalize"}"#;

pub(super) fn settings() -> Settings {
    Settings {
        domains: vec![NAME.to_owned()],
        directory: DIRECTORY.to_owned(),
        email: None,
        ca: None,
        challenges: vec![Challenge::TlsAlpn01],
        external_account: None,
    }
}

/// The status, the headers and the body of a response to a path, if it is not the usual one.
type Rule = fn(&str) -> Option<(u16, &'static str, String)>;

/// An authority that accepts every account and every order, and issues nothing.
struct Authority {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Authority {
    async fn start(rule: Rule) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serve(stream, address, rule, &log).await;
            }
        });
        Self { address, asked, task }
    }

    /// How often a path was requested.
    fn asked(&self, path: &str) -> usize {
        self.asked.lock().iter().filter(|asked| *asked == path).count()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, address: SocketAddr, rule: Rule, log: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    let text = loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.unwrap_or_default();
        request.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&request).to_lowercase();
        let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
        if count == 0 || body.is_some_and(|body| body >= length.unwrap_or(0_usize)) {
            break text;
        }
    };
    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
    log.lock().push(path.clone());
    let base = format!("http://{address}");
    let (status, headers, body) = rule(&path).unwrap_or_else(|| match path.as_str() {
        "/dir" => {
            let [nonce, account, order] = ["nonce", "account", "order"].map(|name| format!("{base}/new-{name}"));
            let directory = format!(
                r#"{{"newNonce": "{nonce}", "newAccount": "{account}", "newOrder": "{order}",
                "renewalInfo": "{base}/info"}}"#
            );
            (200, "", directory)
        }
        "/new-account" => (201, "", "{}".to_owned()),
        "/new-order" => (201, "", PENDING.to_owned()),
        "/order" => (200, "", PENDING.to_owned()),
        _ => (200, "", String::new()),
    });
    let answer = format!(
        "HTTP/1.1 {status} -\r\nReplay-Nonce: AAAA\r\nLocation: {base}/order\r\nConnection: close\r\n\
         Content-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    let body = if text.starts_with("head") { String::new() } else { body };
    let _ = stream.write_all(format!("{answer}{body}").as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A certificate of a registry, and its task.
struct Registry {
    root: TempDir,
    acme: Arc<Acme>,
    task: Option<JoinHandle<()>>,
}

impl Registry {
    fn new(directory: String) -> Self {
        let root = tempfile::tempdir().unwrap();
        let settings = Settings { directory, ..settings() };
        let acme = Acme::open(settings, &Tree::new(root.path()), Arc::new(SystemDisk), Clock::default());
        Self { root, acme: Arc::new(acme), task: None }
    }

    fn of(authority: &Authority) -> Self {
        Self::new(format!("http://{}/dir", authority.address))
    }

    fn start(&mut self) {
        self.task = Some(tokio::spawn(Arc::clone(&self.acme).run(TaskTracker::new())));
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join("acme").join(name)
    }

    /// Writes a certificate for a name.
    fn write_certificate(&self, name: &str) {
        let issuer = CertifiedIssuer::self_signed(CertificateParams::default(), KeyPair::generate().unwrap()).unwrap();
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        parameters.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &issuer).unwrap();
        let text = format!("{}{}", key.serialize_pem(), certificate.pem());
        self.acme.files.write_certificate(&text).unwrap();
    }

    /// Asks for a renewal, and returns why it failed and how long the pause is.
    async fn failure(&self) -> (String, Duration) {
        assert!(timeout(PATIENCE, self.acme.renew()).await.unwrap(), "the task has ended");
        let report = self.acme.report();
        let (at, why) = report.failure.unwrap();
        (why, report.next_attempt.unwrap().since(at))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

#[tokio::test]
async fn no_response_of_the_authority_ends_renewals() {
    let overflow: Rule =
        |path| (path == "/order").then(|| (200, "Retry-After: 18446744073709551615\r\n", PENDING.to_owned()));
    let no_url: Rule = |path| {
        let directory = r#"{"newNonce": "", "newAccount": "http://127.0.0.1/a", "newOrder": "http://127.0.0.1/b"}"#;
        (path == "/dir").then(|| (200, "", directory.to_owned()))
    };
    for (rule, expected) in [(overflow, "did not finish in time"), (no_url, "no URL at \"newNonce\"")] {
        let authority = Authority::start(rule).await;
        let mut registry = Registry::of(&authority);
        registry.start();
        for _ in 0..2 {
            let (why, pause) = registry.failure().await;
            assert!(why.contains(expected), "{why}");
            assert!(pause >= Duration::from_mins(30) && pause < Failure::PAUSE_MAX, "{pause:?}");
        }
    }
}

#[tokio::test]
async fn a_panic_of_the_acme_client_is_a_failure() {
    assert_eq!(unwound(async { 1 }).await, Ok(1));
    let error = unwound(async {
        tokio::task::yield_now().await;
        panic!("overflow\nwhen adding")
    });
    let error: Result<(), String> = error.await;
    assert!(error.as_ref().is_err_and(|error| error.ends_with("overflow when adding")), "{error:?}");
}

#[tokio::test]
async fn an_order_that_takes_long_is_asked_about_when_the_authority_says() {
    let rule: Rule = |path| (path == "/order").then(|| (200, "Retry-After: 600\r\n", PENDING.to_owned()));
    let authority = Authority::start(rule).await;
    let mut registry = Registry::of(&authority);
    registry.start();
    let (why, pause) = registry.failure().await;
    assert!(pause >= Duration::from_secs(599) && pause < Duration::from_mins(12), "{pause:?}: {why}");
}

#[tokio::test]
async fn a_renewal_ends_when_the_server_stops() {
    // Accepts connections, and does not answer.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut registry = Registry::new(format!("http://{}/dir", silent.local_addr().unwrap()));
    registry.start();
    let acme = Arc::clone(&registry.acme);
    let renewal = tokio::spawn(async move { acme.renew().await });
    silent.accept().await.unwrap();
    registry.task.take().unwrap().abort();
    let is_renewed = timeout(Duration::from_secs(2), renewal).await.unwrap().unwrap();
    assert!(!is_renewed);
    let is_renewed = timeout(Duration::from_secs(2), registry.acme.renew()).await.unwrap();
    assert!(!is_renewed, "no server runs");
}

/// Makes reading a file fail.
fn make_unreadable(path: &Path) {
    fs::create_dir_all(path).unwrap();
}

#[tokio::test]
async fn an_account_that_cannot_be_read_is_not_replaced() {
    let authority = Authority::start(|_| None).await;
    let mut registry = Registry::of(&authority);
    make_unreadable(&registry.file("account.json"));
    registry.start();
    let (why, _) = registry.failure().await;
    assert!(why.contains("cannot read") && why.contains("account.json"), "{why}");
    assert_eq!(authority.asked("/new-account"), 0);
}

#[tokio::test]
async fn nothing_is_ordered_while_the_certificate_cannot_be_read() {
    let authority = Authority::start(|_| None).await;
    let mut registry = Registry::of(&authority);
    make_unreadable(&registry.file("certificate.pem"));
    let validity = registry.acme.report().validity;
    assert!(matches!(validity, Err(NoCertificate::Unreadable(_))), "{validity:?}");
    let (_, task) = registry.acme.next(Timestamp::from_micros(7), &mut None);
    assert_eq!(task, Task::Obtain);
    assert!(registry.acme.next(Timestamp::from_micros(7), &mut None).0 > Timestamp::from_micros(7));
    registry.start();
    let (why, _) = registry.failure().await;
    assert!(why.contains("cannot read") && why.contains("certificate.pem"), "{why}");
    assert!(authority.asked.lock().is_empty());
}

#[tokio::test]
async fn a_certificate_for_other_names_is_reported_as_such() {
    let registry = Registry::new(DIRECTORY.to_owned());
    assert_eq!(registry.acme.report().validity, Err(NoCertificate::Missing));
    registry.write_certificate("other.example");
    assert_eq!(registry.acme.report().validity, Err(NoCertificate::OtherNames));
    registry.write_certificate(NAME);
    assert!(registry.acme.report().validity.is_ok());
}

#[tokio::test]
async fn text_of_the_authority_has_no_control_characters_and_a_limit() {
    let rule: Rule = |path| {
        let detail = format!(r"\u001b[2Jthe\norder is {}", "long".repeat(5000));
        let problem = format!(r#"{{"type": "urn:ietf:params:acme:error:malformed", "detail": "{detail}"}}"#);
        (path == "/new-order").then_some((403, "Content-Type: application/problem+json\r\n", problem))
    };
    let authority = Authority::start(rule).await;
    let mut registry = Registry::of(&authority);
    registry.start();
    let (why, _) = registry.failure().await;
    assert!(why.contains("[2Jthe order is long") && why.len() < 1200, "{why}");
    assert!(!why.chars().any(char::is_control), "{why}");
}

#[tokio::test]
async fn an_error_of_a_proxy_causes_no_second_order() {
    let authority = Authority::start(|path| (path == "/new-order").then(|| (502, "", "a page".to_owned()))).await;
    let mut registry = Registry::of(&authority);
    registry.write_certificate(NAME);
    registry.start();
    let (why, _) = registry.failure().await;
    assert!(why.contains("answers 502 to /new-order"), "{why}");
    assert_eq!(authority.asked("/new-order"), 1);
}

#[tokio::test]
async fn an_order_has_at_most_one_authorization_for_each_name() {
    let rule: Rule = |path| {
        let url = "http://127.0.0.1/authorization";
        let order = PENDING.replace("[]", &format!(r#"["{url}", "{url}"]"#));
        (path == "/new-order").then_some((201, "", order))
    };
    let authority = Authority::start(rule).await;
    let mut registry = Registry::of(&authority);
    registry.start();
    let (why, _) = registry.failure().await;
    assert!(why.contains("2 authorizations of an order for 1 names"), "{why}");
}
