//! Upstreams with TLS: their certificates, HTTP/2, and proxies on the way.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle::config::Config;
use coracle::{AccessPolicy, Registry};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::between::{Between, Mode};
use super::pull;
use crate::clients::authority::certify;
use crate::support::TestRegistry;
use crate::support::content::push_image;
use crate::support::process::Program;

/// `more` are further keys of the registry.
fn config(address: SocketAddr, more: &str) -> String {
    format!(
        "[[extensions.sync.registries]]\nurls = ['https://{address}']\nonDemand = true\nmaxRetries = 0\n{more}\n\
         content = [{{ prefix = '**', destination = '/up' }}]\n"
    )
}

async fn mirror(address: SocketAddr, more: &str) -> TestRegistry {
    let config = Config::from_toml_str(&config(address, more)).unwrap().config;
    TestRegistry::start(Registry::builder().config(config).policy(AccessPolicy::Open)).await
}

/// A directory with a certificate of 127.0.0.1, and below it `trusted/ca.crt`, as `certDir` names it.
fn certificates() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let authority = certify(directory.path());
    let trusted = directory.path().join("trusted");
    std::fs::create_dir(&trusted).unwrap();
    std::fs::copy(authority, trusted.join("ca.crt")).unwrap();
    let key = format!("certDir = '{}'", trusted.display());
    (directory, key)
}

#[tokio::test]
async fn an_upstream_with_its_own_authority_is_reached_over_http_2() {
    let upstream = TestRegistry::open().await;
    let image = push_image(&upstream.anonymous(), "app", "1", 1).await;
    let (directory, trusted) = certificates();
    let between = Between::with_tls(upstream.running.address(), directory.path()).await;
    let versions = || between.seen().iter().map(|seen| seen.version).collect::<Vec<_>>();
    let first = mirror(between.address, &trusted).await;
    pull(&first.anonymous(), "up/app", "1", &image).await;
    assert!(versions().iter().all(|version| *version == hyper::Version::HTTP_2), "{:?}", versions());
    let second = mirror(between.address, &format!("{trusted}\ndisableHTTP2 = true")).await;
    pull(&second.anonymous(), "up/app", "1", &image).await;
    assert_eq!(versions().last(), Some(&hyper::Version::HTTP_11));
    let unverified = mirror(between.address, "tlsVerify = false").await;
    pull(&unverified.anonymous(), "up/app", "1", &image).await;

    let requests = between.total();
    let untrusting = mirror(between.address, "").await;
    let answer = untrusting.anonymous().get("/v2/up/app/manifests/1").send().await.status(502);
    let why = "is not trusted: it is self-signed, or signed by an unknown authority";
    let why = format!("the certificate of {} {why}", between.address);
    assert!(answer.text().contains(&why), "{}", answer.text());
    assert_eq!(between.total(), requests, "no request is sent to a host that is not trusted");
}

/// Writes a certificate of 127.0.0.1 that signs itself, as `openssl req -x509` makes it: `cert.pem` with `key.pem`, and
/// `trusted/ca.crt`. `change` may change it. Returns `trusted`.
fn self_signed(directory: &Path, change: impl FnOnce(&mut CertificateParams)) -> PathBuf {
    let trusted = directory.join("trusted");
    std::fs::create_dir(&trusted).unwrap();
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    for file in ["trusted/ca.crt", "cert.pem"] {
        std::fs::write(directory.join(file), &certificate).unwrap();
    }
    std::fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
    trusted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_trusted_leads_to_the_directory_for_certificates() {
    let upstream = TestRegistry::open().await;
    push_image(&upstream.anonymous(), "app", "1", 5).await;
    let directory = tempfile::tempdir().unwrap();
    let trusted = self_signed(directory.path(), |_| {});
    let between = Between::with_tls(upstream.running.address(), directory.path()).await;
    let host = between.address;
    let sync = |name: &str, more: &str| {
        let root = directory.path().join(name);
        let _running = Program::serve_with(&root, &config(host, more)).arg("--open").start();
        let file = root.join("coracle.toml");
        Program::new(["mirror", "sync", "--root"]).arg(&root).arg("--config").arg(file).run()
    };
    let synced = sync("one", "pollInterval = '8760h'");
    let imported =
        Program::new(["import", "--root"]).arg(directory.path().join("two")).arg(format!("https://{host}")).run();
    for (done, said) in [(&synced, &synced.stderr), (&imported, &imported.stdout)] {
        assert_eq!(done.code, Some(1), "{done:?}");
        for part in [
            &format!("the certificate of {host} is not trusted"),
            "note: to trust a self-signed certificate, or an authority of your own, name a directory with its file NAME.crt",
            &format!(
                "(extensions.sync.registries.*.certDir for {host}), or add it to the certificates that the system"
            ),
        ] {
            assert!(said.contains(part), "{part:?} is not in {done:?}");
        }
        assert!(!said.contains("wildcards"), "{done:?}");
    }
    // The note is right.
    let synced = sync("three", &format!("pollInterval = '8760h'\ncertDir = '{}'", trusted.display()));
    assert!(synced.code == Some(0) && synced.stdout.contains("1 fetched"), "{synced:?}");
}

#[tokio::test]
async fn an_expired_certificate_is_reported_with_its_date() {
    let upstream = TestRegistry::open().await;
    let directory = tempfile::tempdir().unwrap();
    let trusted = self_signed(directory.path(), |params| {
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2019, 2, 1), rcgen::date_time_ymd(2020, 2, 1));
    });
    let between = Between::with_tls(upstream.running.address(), directory.path()).await;
    let mirror = mirror(between.address, &format!("certDir = '{}'", trusted.display())).await;
    let answer = mirror.anonymous().get("/v2/up/app/manifests/1").send().await.status(502);
    let why = format!("the certificate of {} expired at 2020-02-01 00:00 UTC", between.address);
    assert!(answer.text().contains(&why), "{}", answer.text());
}

#[tokio::test]
async fn a_redirect_out_of_tls_is_refused() {
    let upstream = TestRegistry::open().await;
    push_image(&upstream.anonymous(), "app", "1", 2).await;
    let (directory, trusted) = certificates();
    let between = Between::with_tls(upstream.running.address(), directory.path()).await;
    let plain = Between::before(upstream.running.address()).await;
    between.set(Mode::Redirect(format!("http://{}", plain.address)));
    let mirror = mirror(between.address, &trusted).await;
    let answer = mirror.anonymous().get("/v2/up/app/manifests/1").send().await.status(502);
    assert!(answer.text().contains("from https to http"), "{}", answer.text());
    assert_eq!(plain.total(), 0);
}

#[tokio::test]
async fn another_coracle_with_tls_is_mirrored() {
    let (directory, trusted) = certificates();
    let root = directory.path().join("data");
    let plain = Program::serve(&root).arg("--open").start();
    let image = push_image(&plain.anonymous(), "app", "1", 3).await;
    plain.stop();
    let path = directory.path().display();
    let tls = format!("http.tls.cert = '{path}/cert.pem'\nhttp.tls.key = '{path}/key.pem'\n");
    let upstream = Program::serve_with(&root, &tls).arg("--open").start();
    let mirror = mirror(upstream.address(), &trusted).await;
    pull(&mirror.anonymous(), "up/app", "1", &image).await;
    upstream.kill();
    pull(&mirror.anonymous(), "up/app", "1", &image).await;
}

/// A proxy that opens tunnels. It records the heads of requests.
async fn tunnels() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, heads) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let to = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
                seen.lock().push(head);
                let mut upstream = TcpStream::connect(to).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut upstream).await;
            });
        }
    });
    (address, heads)
}

/// A mirror with these variables in its environment pulls an image.
async fn pulls_with(root: &Path, config: &str, proxy: SocketAddr, no_proxy: &str, image: &serde_json::Value) {
    let program = Program::serve_with(root, config).arg("--open");
    let program = program.env("HTTPS_PROXY", format!("http://alice:secret@{proxy}")).env("NO_PROXY", no_proxy);
    let mirror = program.start();
    pull(&mirror.anonymous(), "up/app", "1", image).await;
    let log = mirror.stop().stderr;
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test]
async fn a_proxy_of_the_environment_opens_a_tunnel() {
    let upstream = TestRegistry::open().await;
    let image = push_image(&upstream.anonymous(), "app", "1", 4).await;
    let (directory, trusted) = certificates();
    let between = Between::with_tls(upstream.running.address(), directory.path()).await;
    let config = config(between.address, &trusted);
    let (proxy, heads) = tunnels().await;
    pulls_with(&directory.path().join("one"), &config, proxy, "registry.example", &image).await;
    let seen = std::mem::take(&mut *heads.lock());
    assert!(!seen.is_empty());
    for head in seen {
        assert!(head.starts_with(&format!("CONNECT {} ", between.address)), "{head}");
        assert!(head.to_lowercase().contains("proxy-authorization: basic ywxpy2u6c2vjcmv0"), "{head}");
    }
    pulls_with(&directory.path().join("two"), &config, proxy, "registry.example,127.0.0.1", &image).await;
    assert!(heads.lock().is_empty(), "NO_PROXY names this upstream");
}
