//! Client certificates (`http.tls.cacert`, `http.auth.mtls`): with curl, which sends one as docker and podman do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use coracle::{Registry, RunningRegistry};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

use crate::support::process::Program;
use crate::support::registry::{ALICE, BOB};

/// An authority, and the files of a test.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the authority");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Issues a certificate for a user, and returns the path of its files without their ending.
    fn issue(&self, directory: &Path, file: &str, name: &str, alternatives: Vec<SanType>) -> PathBuf {
        self.issue_with(directory, file, name, alternatives, CertificateParams::default())
    }

    fn issue_with(
        &self,
        directory: &Path,
        file: &str,
        name: &str,
        alternatives: Vec<SanType>,
        mut params: CertificateParams,
    ) -> PathBuf {
        let key = KeyPair::generate().unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !name.is_empty() {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.subject_alt_names = alternatives;
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = directory.join(file);
        std::fs::write(path.with_extension("cert"), certificate.pem()).unwrap();
        std::fs::write(path.with_extension("key"), key.serialize_pem()).unwrap();
        path
    }
}

fn san(text: &str) -> Vec<SanType> {
    vec![SanType::URI(text.try_into().unwrap())]
}

/// Writes a certificate for the registry, and returns the keys that name it and the authorities of clients.
fn tls_keys(directory: &Path) -> String {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(directory.join("server.pem"), own.cert.pem()).unwrap();
    std::fs::write(directory.join("server.key"), own.signing_key.serialize_pem()).unwrap();
    format!("[http.tls]\ncert = '{0}/server.pem'\nkey = '{0}/server.key'\ncacert = '{0}/ca.pem'\n", directory.display())
}

/// A registry with TLS, with alice and bob, and with client certificates of an authority.
async fn serve(directory: &Path, mtls: &str) -> (Registry, RunningRegistry) {
    let text = tls_keys(directory) + mtls;
    let config = coracle::config::Config::from_toml_str(&text).unwrap().config;
    let builder = Registry::builder().config(config).user(ALICE.0, ALICE.1).user(BOB.0, BOB.1);
    let registry = tokio::task::spawn_blocking(|| builder.temporary().open()).await.unwrap().unwrap();
    let running = registry.spawn_local().await.unwrap();
    (registry, running)
}

/// The status, and the user that the registry names in a refusal of a push to `carol/…`, that curl gets.
async fn curl(running: &RunningRegistry, certificate: Option<&Path>, more: &[&str]) -> (u16, String) {
    let url = format!("https://localhost:{}/v2/carol/app/blobs/uploads/", running.address().port());
    let mut command = Command::new("curl");
    command.args(["--silent", "--insecure", "--max-time", "60", "--request", "POST", "--write-out", "\n%{http_code}"]);
    if let Some(path) = certificate {
        command.arg("--cert").arg(path.with_extension("cert")).arg("--key").arg(path.with_extension("key"));
    }
    command.args(more).arg(url);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    (status.parse().unwrap(), body["errors"][0]["detail"]["user"].as_str().unwrap_or_default().to_owned())
}

fn has_curl() -> bool {
    let found = Command::new("curl").arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIPPED: curl is missing");
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_the_user_that_its_certificate_names() {
    if !has_curl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (ca, other) = (Authority::new(), Authority::new());
    std::fs::write(directory.path().join("ca.pem"), &ca.pem).unwrap();
    let (_registry, running) = serve(directory.path(), "").await;
    let alice = ca.issue(directory.path(), "alice", "alice", Vec::new());
    let unknown = ca.issue(directory.path(), "unknown", "nicolas", Vec::new());
    let nameless = ca.issue(directory.path(), "nameless", "", san("urn:x"));
    let forged = other.issue(directory.path(), "forged", "alice", Vec::new());
    for version in ["--http1.1", "--http2"] {
        assert_eq!(
            curl(&running, Some(&alice), &[version]).await,
            (403, "alice".into()),
            "alice may not push to carol/app"
        );
        assert_eq!(curl(&running, None, &[version]).await.0, 401, "without a certificate");
        assert_eq!(curl(&running, Some(&unknown), &[version]).await.0, 401);
        assert_eq!(curl(&running, Some(&nameless), &[version]).await.0, 401);
        assert_eq!(curl(&running, Some(&forged), &[version]).await.0, 0, "the handshake fails");
        // Other credentials go before a certificate.
        let bob = format!("{}:{}", BOB.0, BOB.1);
        assert_eq!(curl(&running, Some(&alice), &[version, "--user", &bob]).await, (403, "bob".into()));
        assert_eq!(curl(&running, Some(&unknown), &[version, "--user", &bob]).await, (403, "bob".into()));
        assert_eq!(curl(&running, Some(&alice), &[version, "--user", "bob:wrong"]).await.0, 401);
        // A page of another site cannot use it.
        let page = [version, "--header", "Origin: https://evil.example"];
        assert_eq!(curl(&running, Some(&alice), &page).await, (403, String::new()));
    }
    running.shutdown().await;
}

#[tokio::test]
async fn the_log_says_why_a_certificate_was_refused() {
    if !has_curl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (ca, other) = (Authority::new(), Authority::new());
    std::fs::write(directory.path().join("ca.pem"), &ca.pem).unwrap();
    let forged = other.issue(directory.path(), "forged", "alice", Vec::new());
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve_with(root.path(), &tls_keys(directory.path())).with_admin().start();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--insecure", "--max-time", "60", "--cert"]).arg(forged.with_extension("cert"));
    curl.arg("--key")
        .arg(forged.with_extension("key"))
        .arg(format!("https://localhost:{}/v2/", running.address().port()));
    assert!(!curl.status().unwrap().success());
    let log = running.wait_for("refused a client certificate");
    assert!(log.contains("invalid peer certificate") && log.contains("peer=127.0.0.1:"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configured_parts_of_a_certificate_name_the_user() {
    if !has_curl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let ca = Authority::new();
    std::fs::write(directory.path().join("ca.pem"), &ca.pem).unwrap();
    let spiffe = ca.issue(directory.path(), "spiffe", "workload", san("spiffe://example.org/user/alice"));
    let email = ca.issue(
        directory.path(),
        "email",
        "workload",
        vec![
            SanType::Rfc822Name("other@example.org".try_into().unwrap()),
            SanType::Rfc822Name("bob".try_into().unwrap()),
        ],
    );
    let dns = ca.issue(directory.path(), "dns", "workload", vec![SanType::DnsName("alice".try_into().unwrap())]);
    let plain = ca.issue(directory.path(), "plain", "bob", Vec::new());
    let mtls = "[http.auth.mtls]\nidentityAttributes = ['url', 'DNSName', 'Email', 'CN']\nemailSanIndex = 1\n\
                uriSanPattern = 'spiffe://example[.]org/user/(.+)'\n";
    let (_registry, running) = serve(directory.path(), mtls).await;
    for (certificate, user) in [(&spiffe, "alice"), (&dns, "alice"), (&email, "bob"), (&plain, "bob")] {
        assert_eq!(curl(&running, Some(certificate), &[]).await, (403, user.into()), "{certificate:?}");
    }
    running.shutdown().await;
    let (_registry, running) = serve(directory.path(), "[http.auth.mtls]\nidentityAttributes = ['Subject']\n").await;
    assert_eq!(curl(&running, Some(&plain), &[]).await.0, 401, "CN=bob is no user");
    running.shutdown().await;
}

/// A URI that only contains a match names no user, and the common name does not count in its place.
pub(crate) async fn a_uri_must_match_as_a_whole() {
    if !has_curl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let ca = Authority::new();
    std::fs::write(directory.path().join("ca.pem"), &ca.pem).unwrap();
    let mtls = "[http.auth.mtls]\nidentityAttributes = ['URI', 'CN']\n\
                uriSanPattern = 'spiffe://example[.]org/user/(.+)'\n";
    let (_registry, running) = serve(directory.path(), mtls).await;
    let whole = ca.issue(directory.path(), "whole", "bob", san("spiffe://example.org/user/alice"));
    assert_eq!(curl(&running, Some(&whole), &[]).await, (403, "alice".into()));
    for uri in ["urn:x:spiffe://example.org/user/alice", "spiffe://example.org/workload/x"] {
        let certificate = ca.issue(directory.path(), "other", "bob", san(uri));
        assert_eq!(curl(&running, Some(&certificate), &[]).await.0, 401, "{uri}");
    }
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_outlives_its_certificate_and_signs_nobody_in() {
    if !has_curl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let ca = Authority::new();
    std::fs::write(directory.path().join("ca.pem"), &ca.pem).unwrap();
    let (_registry, running) = serve(directory.path(), "").await;
    let mut params = CertificateParams::default();
    params.not_after = (std::time::SystemTime::now() + Duration::from_secs(4)).into();
    let alice = ca.issue_with(directory.path(), "alice", "alice", Vec::new(), params);
    let url = format!("https://localhost:{}/v2/carol/app/tags/list?n=[1-8]", running.address().port());
    let mut command = Command::new("curl");
    // One connection, and a request in each second.
    command.args(["--silent", "--insecure", "--rate", "60/m", "--output", "/dev/null", "--write-out"]);
    command.arg("%{http_code} %{num_connects}\n").arg("--cert").arg(alice.with_extension("cert"));
    command.arg("--key").arg(alice.with_extension("key")).arg(url);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (first, rest) = text.trim().split_once('\n').unwrap();
    assert_eq!(first, "403 1", "{text}");
    assert!(rest.ends_with("401 0"), "{text}");
    assert!(rest.lines().all(|line| line.ends_with(" 0")), "another connection: {text}");
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_authorities_count_for_new_connections() {
    if !has_curl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, &old.pem).unwrap();
    let (_registry, running) = serve(directory.path(), "").await;
    let alice = old.issue(directory.path(), "alice", "alice", Vec::new());
    let bob = new.issue(directory.path(), "bob", "bob", Vec::new());
    assert_eq!(curl(&running, Some(&alice), &[]).await.0, 403);
    assert_eq!(curl(&running, Some(&bob), &[]).await.0, 0);
    // A file that is unusable changes nothing.
    std::fs::write(&file, "nothing").unwrap();
    let until = |certificate: PathBuf, status: u16| {
        let running = &running;
        async move {
            let begun = Instant::now();
            while curl(running, Some(&certificate), &[]).await.0 != status {
                assert!(begun.elapsed() < Duration::from_secs(30), "{certificate:?}");
            }
        }
    };
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(curl(&running, Some(&alice), &[]).await.0, 403);
    std::fs::write(&file, &new.pem).unwrap();
    until(bob, 403).await;
    assert_eq!(curl(&running, Some(&alice), &[]).await.0, 0, "the old authority does not count any more");
    running.shutdown().await;
}
