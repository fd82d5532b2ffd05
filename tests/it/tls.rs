//! TLS: HTTP/1.1 and HTTP/2 by negotiation, and certificates that change while clients are served.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle::config::Config;
use coracle::{AccessPolicy, Error, Registry};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ClientConfig, HandshakeKind, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::TestRegistry;
use crate::support::content::{noise, sha256};
use crate::support::process::Program;

/// Makes a certificate for `localhost`, writes it and its key, and returns it.
pub(super) fn certify(directory: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(directory.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(directory.join("key.pem"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(directory.join("cert.pem"), made.cert.pem()).unwrap();
    made.cert.der().clone()
}

/// The configuration that uses them.
fn settings(directory: &Path) -> String {
    let directory = directory.display();
    format!("[http]\nopen = true\ntls.cert = '{directory}/cert.pem'\ntls.key = '{directory}/key.pem'\n")
}

/// An open registry with a certificate of its own.
async fn registry() -> (TestRegistry, CertificateDer<'static>, tempfile::TempDir) {
    registry_with("").await
}

/// The same with these settings under `http.limits`.
pub(super) async fn registry_with(limits: &str) -> (TestRegistry, CertificateDer<'static>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let certificate = certify(directory.path());
    let config =
        Config::from_toml_str(&format!("{}[http.limits]\n{limits}", settings(directory.path()))).unwrap().config;
    let t = TestRegistry::start(Registry::builder().config(config).policy(AccessPolicy::Open)).await;
    assert!(t.running.url().starts_with("https://127.0.0.1:"), "{}", t.running.url());
    (t, certificate, directory)
}

/// Connects, trusting these certificates and no other, and offering these protocols.
pub(super) async fn connect(
    address: SocketAddr,
    trusted: &[&CertificateDer<'static>],
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in trusted {
        roots.add((*certificate).clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let socket = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), socket).await
}

/// Sends requests over HTTP/2.
async fn client2(t: &TestRegistry, trusted: &CertificateDer<'static>) -> http2::SendRequest<Full<Bytes>> {
    connected2(t, trusted).await.0
}

/// The same with the connection, which ends when the registry ends it.
async fn connected2(
    t: &TestRegistry,
    trusted: &CertificateDer<'static>,
) -> (http2::SendRequest<Full<Bytes>>, tokio::task::JoinHandle<Result<(), hyper::Error>>) {
    let stream = connect(t.running.address(), &[trusted], &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    // The windows of the specification, which are smaller than what hyper's client offers.
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    (sender, tokio::spawn(connection))
}

fn request(method: &str, path: &str, body: Bytes) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(format!("https://localhost{path}")).body(Full::new(body)).unwrap()
}

/// The status and the whole body.
async fn whole(response: Response<hyper::body::Incoming>) -> (u16, Bytes) {
    (response.status().as_u16(), response.into_body().collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn a_large_blob_goes_in_and_out_over_http2() {
    let (t, certificate, _files) = registry().await;
    let mut client = client2(&t, &certificate).await;
    let content = noise(20 << 20, 1);
    let digest = sha256(&content);
    let push = request("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), content.clone());
    let response = client.send_request(push).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    assert_eq!(whole(response).await.0, 201);
    let pull = request("GET", &format!("/v2/a/blobs/{digest}"), Bytes::new());
    let (status, body) = whole(client.send_request(pull).await.unwrap()).await;
    assert_eq!((status, body.len()), (200, content.len()));
    assert_eq!(sha256(&body), digest);
}

#[tokio::test]
async fn requests_share_a_connection_over_http2() {
    let (t, certificate, _files) = registry().await;
    let client = client2(&t, &certificate).await;
    let answers = (0..20).map(|seed| {
        let mut client = client.clone();
        async move {
            let content = noise(50_000, seed);
            let path = format!("/v2/a/blobs/uploads/?digest={}", sha256(&content));
            whole(client.send_request(request("POST", &path, content)).await.unwrap()).await.0
        }
    });
    assert_eq!(futures_util::future::join_all(answers).await, [201; 20]);
}

/// Waits until no client is connected, without asking the registry.
async fn until_alone(connection: tokio::task::JoinHandle<Result<(), hyper::Error>>) {
    let ended = tokio::time::timeout(Duration::from_secs(30), connection).await;
    assert!(ended.is_ok(), "the connection is held");
}

#[tokio::test]
async fn a_client_that_answers_pings_and_reads_nothing_is_disconnected() {
    let (t, certificate, _files) = registry_with("bodyIdleTimeout = '300ms'\nidleTimeout = '1h'\n").await;
    let (mut client, _) = connected2(&t, &certificate).await;
    let content = noise(4 << 20, 3);
    let path = format!("/v2/a/blobs/uploads/?digest={}", sha256(&content));
    let push = client.send_request(request("POST", &path, content.clone())).await.unwrap();
    assert_eq!(whole(push).await.0, 201);
    let pull = format!("/v2/a/blobs/{}", sha256(&content));
    // The bytes beyond the window wait while the client does not read.
    let (mut greedy, connection) = connected2(&t, &certificate).await;
    let held = greedy.send_request(request("GET", &pull, Bytes::new())).await.unwrap();
    let mut asked = 0;
    loop {
        let metrics = client.send_request(request("GET", "/metrics", Bytes::new())).await.unwrap();
        let (_, metrics) = whole(metrics).await;
        let metrics = String::from_utf8_lossy(&metrics);
        let line = metrics.lines().find(|line| line.starts_with("coracle_http_connections "));
        if line == Some("coracle_http_connections 1") {
            break;
        }
        asked += 1;
        assert!(asked < 1000, "the connection is held: {line:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(connection);
    assert!(held.into_body().collect().await.is_err(), "it came whole: the test holds too little back");
    // The other has only rested, and may.
    let (status, body) = whole(client.send_request(request("GET", &pull, Bytes::new())).await.unwrap()).await;
    assert_eq!((status, body.len()), (200, content.len()));
}

#[tokio::test]
async fn a_client_that_answers_pings_and_requests_nothing_is_disconnected() {
    let (t, certificate, _files) = registry_with("idleTimeout = '300ms'\n").await;
    let (mut client, connection) = connected2(&t, &certificate).await;
    let ping = client.send_request(request("GET", "/v2/", Bytes::new())).await.unwrap();
    assert_eq!(whole(ping).await.0, 200);
    until_alone(connection).await;
}

#[tokio::test]
async fn a_slow_reader_gets_everything_over_http2() {
    let (t, certificate, _files) = registry_with("bodyIdleTimeout = '2s'\nidleTimeout = '2s'\n").await;
    let (mut client, _) = connected2(&t, &certificate).await;
    let content = noise(4 << 20, 4);
    let path = format!("/v2/a/blobs/uploads/?digest={}", sha256(&content));
    assert_eq!(whole(client.send_request(request("POST", &path, content.clone())).await.unwrap()).await.0, 201);
    let pull = request("GET", &format!("/v2/a/blobs/{}", sha256(&content)), Bytes::new());
    let mut body = client.send_request(pull).await.unwrap().into_body();
    let (mut count, mut paused) = (0, 0);
    while let Some(frame) = body.frame().await {
        count += frame.unwrap().into_data().unwrap().len();
        // The pace is what is tested: a pause for each window of the client.
        if count / (512 << 10) > paused {
            paused += 1;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    assert_eq!((count, paused), (content.len(), 8));
}

#[tokio::test]
async fn headers_have_a_limit_over_http2() {
    let (t, certificate, _files) = registry().await;
    let mut client = client2(&t, &certificate).await;
    let mut long = request("GET", "/v2/", Bytes::new());
    long.headers_mut().insert("a", "b".repeat(40 << 10).try_into().unwrap());
    // Either an answer, or the client is told the limit and does not even send.
    if let Ok(response) = client.send_request(long).await {
        assert_eq!(response.status(), 431);
    }
    let response = client2(&t, &certificate).await.send_request(request("GET", "/v2/", Bytes::new())).await.unwrap();
    assert_eq!(response.status(), 200);
}

/// podman asks for 1024 ranges of a layer at once, and speaks HTTP/2 wherever it can.
#[tokio::test]
async fn a_thousand_ranges_go_over_http2() {
    let (t, certificate, _files) = registry().await;
    let mut client = client2(&t, &certificate).await;
    let content = noise(1 << 20, 1);
    let digest = sha256(&content);
    let push = request("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), content.clone());
    assert_eq!(client.send_request(push).await.unwrap().status(), 201);
    let ranges: Vec<_> = (0..1024).map(|n| n * 1000).map(|first| format!("{first:012}-{:012}", first + 9)).collect();
    let mut pull = request("GET", &format!("/v2/a/blobs/{digest}"), Bytes::new());
    pull.headers_mut().insert("range", format!("bytes={}", ranges.join(",")).try_into().unwrap());
    let response = client.send_request(pull).await.unwrap();
    assert_eq!(response.status(), 206);
    let (_, body) = whole(response).await;
    assert_eq!(body.windows(14).filter(|window| window == b"Content-Range:").count(), 1024);
}

/// Connects with this configuration, sends a request, and returns the connection.
async fn asked(address: SocketAddr, config: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let socket = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::clone(config)).connect(name, socket).await.unwrap();
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    stream
}

/// A client with this version of TLS, which names its ciphers in the order of these parts of their names.
fn client_of(
    trusted: &CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
    order: &[&str],
) -> Arc<ClientConfig> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let place = |suite: CipherSuite| order.iter().position(|part| format!("{suite:?}").contains(part));
    provider.cipher_suites.sort_by_key(|suite| place(suite.suite()).unwrap());
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_protocol_versions(&[version]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

#[tokio::test]
async fn the_registry_chooses_the_cipher_unless_the_client_names_chacha20_first() {
    let (t, certificate, _files) = registry().await;
    let negotiated = async |version, order: &[&str]| {
        let stream = asked(t.running.address(), &client_of(&certificate, version, order)).await;
        format!("{:?}", stream.get_ref().1.negotiated_cipher_suite().unwrap().suite())
    };
    for version in VERSIONS {
        let chacha20 = negotiated(version, &["CHACHA20", "AES_256", "AES_128"]).await;
        assert!(chacha20.contains("CHACHA20"), "{chacha20}");
        // As OpenSSL names them.
        let chosen = negotiated(version, &["AES_256", "CHACHA20", "AES_128"]).await;
        let expected =
            if std::fs::read_to_string("/proc/cpuinfo").unwrap().contains(" aes ") { "AES_128" } else { "CHACHA20" };
        assert!(chosen.contains(expected), "{chosen}");
    }
}

#[tokio::test]
async fn a_client_that_comes_back_continues_its_session() {
    let (t, certificate, _files) = registry().await;
    for version in VERSIONS {
        for order in [["AES_256", "AES_128", "CHACHA20"], ["CHACHA20", "AES_256", "AES_128"]] {
            let client = client_of(&certificate, version, &order);
            let mut kinds = Vec::new();
            for _ in 0..3 {
                kinds.push(asked(t.running.address(), &client).await.get_ref().1.handshake_kind().unwrap());
            }
            assert_eq!(
                kinds,
                [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed],
                "{version:?} {order:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_client_without_http2_is_served_http1() {
    let (t, certificate, _files) = registry().await;
    for protocols in [&["http/1.1"][..], &[]] {
        let stream = connect(t.running.address(), &[&certificate], protocols).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut ping = request("GET", "/v2/", Bytes::new());
        // HTTP/2 says it in another way, and HTTP/1.1 must say it.
        ping.headers_mut().insert("host", "localhost".try_into().unwrap());
        let response = sender.send_request(ping).await.unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_11));
    }
}

#[tokio::test]
async fn running_requests_finish_over_http2_too() {
    let (t, certificate, _files) = registry().await;
    let stream = connect(t.running.address(), &[&certificate], &["h2"]).await.unwrap();
    let (mut sender, connection) =
        http2::handshake::<_, _, http_body_util::combinators::BoxBody<Bytes, std::io::Error>>(
            TokioExecutor::new(),
            TokioIo::new(stream),
        )
        .await
        .unwrap();
    tokio::spawn(connection);
    let content = noise(100_000, 2);
    let (digest, rest) = (sha256(&content), content.slice(50_000..));
    let (go_on, wait) = tokio::sync::oneshot::channel::<()>();
    let pieces = futures_util::stream::unfold((0, Some(wait), content.slice(..50_000), rest), async |state| {
        let (step, wait, first, rest) = state;
        match step {
            0 => Some((Ok(hyper::body::Frame::data(first.clone())), (1, wait, first, rest))),
            1 => {
                wait.unwrap().await.unwrap();
                Some((Ok(hyper::body::Frame::data(rest.clone())), (2, None, first, rest)))
            }
            _ => None,
        }
    });
    let body = http_body_util::StreamBody::new(pieces).boxed();
    let path = format!("https://localhost/v2/a/blobs/uploads/?digest={digest}");
    let upload = tokio::spawn(sender.send_request(Request::post(path).body(body).unwrap()));
    // The staging file of the upload tells that the request has begun.
    let uploads = t.registry.data_dir().join("uploads");
    let mut waited = 0;
    while std::fs::read_dir(&uploads).unwrap().count() == 0 {
        waited += 1;
        assert!(waited < 6000, "the upload does not begin");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let shutdown = tokio::spawn(t.running.shutdown());
    tokio::task::yield_now().await;
    go_on.send(()).unwrap();
    assert_eq!(upload.await.unwrap().unwrap().status(), 201);
    tokio::time::timeout(Duration::from_secs(20), shutdown).await.unwrap().unwrap();
}

/// Connects until the registry shows this certificate.
async fn shown(address: SocketAddr, certificate: &CertificateDer<'static>) {
    for _ in 0..600 {
        if connect(address, &[certificate], &["h2"]).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the certificate is not shown");
}

#[tokio::test]
async fn a_new_certificate_is_used_and_a_broken_one_is_not() {
    let (root, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = certify(files.path());
    let running = Program::serve_with(root.path(), &settings(files.path())).start();
    let address = running.address();
    let stream = connect(address, &[&first], &["h2"]).await.unwrap();
    let (mut old, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);

    let second = certify(files.path());
    shown(address, &second).await;
    assert!(connect(address, &[&first], &["h2"]).await.is_err(), "the old certificate is shown no more");
    // Open connections stay open.
    let response = old.send_request(request("GET", "/v2/", Bytes::new())).await.unwrap();
    assert_eq!(response.status(), 200);

    for broken in ["", "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"] {
        let before = running.stderr().matches("the previous one stays in use").count();
        std::fs::write(files.path().join("cert.pem"), broken).unwrap();
        for _ in 0..600 {
            // Each new connection still works, and at one of them the change is noticed.
            connect(address, &[&second], &["h2"]).await.unwrap();
            if running.stderr().matches("the previous one stays in use").count() > before {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert!(running.stderr().matches("the previous one stays in use").count() > before, "{}", running.stderr());
    }
    let third = certify(files.path());
    shown(address, &third).await;
}

#[tokio::test]
async fn a_certificate_that_becomes_a_pipe_stops_nothing() {
    let (root, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let certificate = certify(files.path());
    let running = Program::serve_with(root.path(), &settings(files.path())).start();
    let (cert, kept) = (files.path().join("cert.pem"), files.path().join("kept.pem"));
    std::fs::rename(&cert, &kept).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &cert, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let mut tries = 0;
    while !running.stderr().contains("it is not a file") {
        tries += 1;
        assert!(tries < 600, "{}", running.stderr());
        connect(running.address(), &[&certificate], &["h2"]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    connect(running.address(), &[&certificate], &["h2"]).await.unwrap();
    std::fs::rename(&kept, &cert).unwrap();
    shown(running.address(), &certificate).await;
    assert_eq!(running.stop().code, Some(0));
}

#[tokio::test]
async fn a_client_in_the_handshake_does_not_delay_the_stop() {
    let (t, _certificate, _files) = registry().await;
    let mut stalled = TcpStream::connect(t.running.address()).await.unwrap();
    stalled.write_all(&[0x16, 3, 1, 0, 200]).await.unwrap();
    // The registry has begun with the connection when it has begun with the next one.
    let _also = TcpStream::connect(t.running.address()).await.unwrap();
    let TestRegistry { running, .. } = t;
    // The handshake may take ten seconds.
    tokio::time::timeout(Duration::from_secs(7), running.shutdown()).await.expect("the registry stops");
    assert_eq!(stalled.read(&mut [0; 8]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_client_that_sends_too_much_reads_why_its_handshake_failed() {
    let (t, _certificate, _files) = registry().await;
    for _ in 0..10 {
        let mut client = TcpStream::connect(t.running.address()).await.unwrap();
        // A record that is too long.
        let sent = [&[0x16, 3, 1, 0xff, 0xff][..], &vec![0x55; 300_000]].concat();
        client.write_all(&sent).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.first(), Some(&0x15), "an alert: {answer:?}");
    }
}

#[test]
fn unusable_files_are_refused_at_the_start() {
    let files = tempfile::tempdir().unwrap();
    certify(files.path());
    let key = std::fs::read(files.path().join("key.pem")).unwrap();
    certify(files.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config::from_toml_str(&settings(files.path())).unwrap().config;
    let registry = Registry::builder().config(config).temporary().open().unwrap();
    for (name, content) in [("key.pem", &key[..]), ("key.pem", b""), ("cert.pem", b"")] {
        std::fs::write(files.path().join(name), content).unwrap();
        let refused = runtime.block_on(registry.spawn_local());
        assert!(matches!(refused, Err(Error::Tls { .. })), "{name}: {refused:?}");
        assert!(refused.unwrap_err().to_string().contains("http.tls."), "{name}");
    }
}
