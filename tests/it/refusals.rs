//! Requests that are refused by their head while the client still sends. The response must reach the client.

use std::time::{Duration, Instant};

use bytes::Bytes;
use coracle::Registry;
use coracle::config::Config;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::TestRegistry;
use crate::support::connection::Raw;
use crate::support::content::{noise, push_blob, sha256};
use crate::support::registry::{ALICE, BOB};

/// A step that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than the buffers of two sockets on loopback hold.
const BODY_BYTES: usize = 8 << 20;

/// Requests with a body that are refused by their head: the status, method and path, and headers.
const REFUSED: &[(u16, &str, &str)] = &[
    (401, "PATCH /v2/alice/x/blobs/uploads/$UPLOAD", ""),
    (403, "PATCH /v2/bob/x/blobs/uploads/$UPLOAD", "$ALICE"),
    (404, "PATCH /v2/alice/x/blobs/uploads/00000000-0000-4000-8000-000000000000", "$ALICE"),
    (416, "PATCH /v2/alice/x/blobs/uploads/$UPLOAD", "$ALICECONTENT-RANGE: 5-8388612\r\n"),
    (413, "PUT /v2/alice/x/manifests/1", "$ALICE"),
    (415, "PUT /v2/alice/x/manifests/1", "$ALICECONTENT-TYPE: text/html\r\n"),
    (400, "POST /v2/alice/x/blobs/uploads/?digest=sha256:zz", "$ALICE"),
    (405, "POST /v2/", "$ALICE"),
    (417, "PATCH /v2/alice/x/blobs/uploads/$UPLOAD", "$ALICEEXPECT: 200-ok\r\n"),
    (404, "GET /nothing", ""),
    (401, "PATCH /v2/alice/x/blobs/uploads/$UPLOAD", "CONNECTION: Upgrade\r\nUPGRADE: h2c\r\n"),
];

/// A registry with users, and with TLS or not.
pub(super) async fn registry(tls: bool) -> (TestRegistry, CertificateDer<'static>, tempfile::TempDir) {
    let files = tempfile::tempdir().unwrap();
    let certificate = crate::tls::certify(files.path());
    let at = files.path().display();
    let tls = if tls { format!("tls.cert = '{at}/cert.pem'\ntls.key = '{at}/key.pem'\n") } else { String::new() };
    let config = Config::from_toml_str(&format!("[http]\n{tls}")).unwrap().config;
    let builder = Registry::builder().config(config);
    let t = TestRegistry::start(builder.user(ALICE.0, ALICE.1).user(BOB.0, BOB.1)).await;
    (t, certificate, files)
}

fn basic((name, password): (&str, &str)) -> String {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
    format!("Authorization: Basic {pair}\r\n")
}

/// A row of the table with its values filled in.
fn fill(text: &str, upload: &str) -> String {
    text.replace("$ALICE", &basic(ALICE)).replace("$UPLOAD", upload)
}

/// Begins an upload and returns its id.
async fn begin(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    let head = format!(
        "POST /v2/alice/x/blobs/uploads/ HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: 0\r\n\r\n",
        basic(ALICE)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    let id = answer.lines().find_map(|line| line.strip_prefix("docker-upload-uuid: "));
    id.unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Sends a whole body before it reads, as Python's `http.client` does. Returns everything that came.
async fn send_all(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), head: &str, chunked: bool) -> String {
    let length =
        if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {BODY_BYTES}") };
    let exchange = async {
        let (line, headers) = head.split_once('\n').unwrap();
        let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let block = vec![7; 64 << 10];
        for _ in 0..BODY_BYTES / block.len() {
            if chunked {
                stream.write_all(format!("{:x}\r\n", block.len()).as_bytes()).await.unwrap();
            }
            stream.write_all(&block).await.unwrap();
            if chunked {
                stream.write_all(b"\r\n").await.unwrap();
            }
        }
        if chunked {
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time")
}

fn check(answer: &str, status: u16, head: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
    let (answer, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(answer.contains("connection: close"), "{head}: {answer}");
    assert!(body.contains("\"errors\""), "{head}: {body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_reaches_a_client_that_sends_everything_first() {
    let (t, ..) = registry(false).await;
    let upload = begin(&mut TcpStream::connect(t.running.address()).await.unwrap()).await;
    for (status, line, headers) in REFUSED {
        let head = fill(&format!("{line}\n{headers}"), &upload);
        for chunked in [false, true] {
            if chunked && matches!(status, 413 | 416) {
                continue; // The head does not tell how long the body is.
            }
            for _ in 0..3 {
                let mut stream = TcpStream::connect(t.running.address()).await.unwrap();
                check(&send_all(&mut stream, &head, chunked).await, *status, &head);
            }
        }
    }
    // A body of unknown length that turns out to be too large.
    let head = format!("PUT /v2/alice/x/manifests/1\n{}", basic(ALICE));
    let mut stream = TcpStream::connect(t.running.address()).await.unwrap();
    check(&send_all(&mut stream, &head, true).await, 413, &head);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_reaches_a_client_that_sends_everything_first_over_tls() {
    let (t, certificate, _files) = registry(true).await;
    let connect = || async { crate::tls::connect(t.running.address(), &[&certificate], &["http/1.1"]).await.unwrap() };
    let upload = begin(&mut connect().await).await;
    for (status, line, headers) in REFUSED {
        let head = fill(&format!("{line}\n{headers}"), &upload);
        check(&send_all(&mut connect().await, &head, false).await, *status, &head);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_ends_one_stream_over_http2() {
    let (t, certificate, _files) = registry(true).await;
    let stream = crate::tls::connect(t.running.address(), &[&certificate], &["h2"]).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    // More than the windows of a stream and of the connection, one after another.
    for round in 0..4 {
        let push = Request::post("https://localhost/v2/alice/x/blobs/uploads/?digest=sha256:zz");
        let push = push.body(Full::new(Bytes::from(vec![7; BODY_BYTES]))).unwrap();
        let response = tokio::time::timeout(PATIENCE, sender.send_request(push)).await.unwrap().unwrap();
        assert_eq!(response.status(), 400, "{round}");
        assert!(response.headers().get("connection").is_none());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(!body.is_empty());
    }
}

#[tokio::test]
async fn a_refused_request_gets_no_100_continue() {
    let (t, ..) = registry(false).await;
    let upload = begin(&mut TcpStream::connect(t.running.address()).await.unwrap()).await;
    for (status, line, headers) in REFUSED {
        for length in [Some(4), Some(100 << 20), None] {
            if *status == 413 && length != Some(100 << 20) || *status == 416 && length == Some(100 << 20) {
                continue;
            }
            let length = match (status, length) {
                (416, _) => "Content-Length: 8388608".to_owned(),
                (_, Some(length)) => format!("Content-Length: {length}"),
                _ => "Transfer-Encoding: chunked".to_owned(),
            };
            let head = fill(&format!("{line} HTTP/1.1\r\nHost: localhost\r\n{headers}{length}\r\n"), &upload);
            let expect = if *status == 417 { "" } else { "Expect: 100-continue\r\n" };
            let mut raw = Raw::connect(t.running.address()).await;
            let begun = Instant::now();
            raw.send(format!("{head}{expect}\r\n")).await;
            let answer = raw.answer().await;
            assert_eq!(answer.status, *status, "{head}: {}", answer.head);
            // The response comes at once.
            assert!(begun.elapsed() < Duration::from_millis(900), "{head}: {:?}", begun.elapsed());
        }
    }
}

#[tokio::test]
async fn an_accepted_request_gets_100_continue_and_an_old_client_does_not() {
    let (t, ..) = registry(false).await;
    let content = noise(1000, 1);
    let path = format!("/v2/alice/x/blobs/uploads/?digest={}", sha256(&content));
    let mut raw = Raw::connect(t.running.address()).await;
    raw.send(format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: 1000\r\nExpect: 100-Continue\r\n\r\n",
        basic(ALICE)
    ))
    .await;
    assert_eq!(raw.answer().await.status, 100);
    raw.send(&content).await;
    assert_eq!(raw.answer().await.status, 201);
    // HTTP/1.0 knows no 100 (RFC 9110, 10.1.1).
    let mut raw = Raw::connect(t.running.address()).await;
    raw.send(format!("POST {path} HTTP/1.0\r\n{}Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n", basic(ALICE)))
        .await;
    assert!(raw.is_silent_for(Duration::from_millis(100)).await);
    raw.send(&content).await;
    assert_eq!(raw.answer().await.status, 201);
}

#[tokio::test]
async fn a_short_body_that_is_refused_keeps_its_connection() {
    let (t, ..) = registry(false).await;
    let mut raw = Raw::connect(t.running.address()).await;
    for _ in 0..3 {
        raw.send("PATCH /v2/a/blobs/uploads/1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n").await;
        // The answer does not wait for the body.
        let answer = raw.answer().await;
        assert!((400..500).contains(&answer.status), "{}", answer.head);
        assert!(!answer.head.contains("connection: close"), "{}", answer.head);
        raw.send(vec![7; 100_000]).await;
    }
    raw.send("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(raw.answer().await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_too_large_is_answered_too() {
    let (t, ..) = registry(false).await;
    let mut stream = TcpStream::connect(t.running.address()).await.unwrap();
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
    let line = format!("x-{}: {}\r\n", "a".repeat(100), "b".repeat(8000));
    for _ in 0..400 {
        stream.write_all(line.as_bytes()).await.unwrap();
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_stops_does_not_wait_for_refused_clients() {
    let (t, ..) = registry(false).await;
    let mut refused = Vec::new();
    for _ in 0..4 {
        let mut raw = Raw::connect(t.running.address()).await;
        raw.send("POST /v2/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n").await;
        assert_eq!(raw.answer().await.status, 405);
        refused.push(raw);
    }
    // It does not wait for silent clients either.
    let _silent = Raw::connect(t.running.address()).await;
    let begun = Instant::now();
    t.running.shutdown().await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn refused_clients_block_no_other_client() {
    let (t, ..) = registry(false).await;
    let address = t.running.address();
    let mut refused = Vec::new();
    for _ in 0..200 {
        let mut raw = Raw::connect(address).await;
        raw.send("POST /v2/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n").await;
        assert_eq!(raw.answer().await.status, 405);
        refused.push(raw);
    }
    push_blob(&t.user(ALICE), "alice/x", &noise(1000, 2)).await;
}

#[tokio::test]
async fn plain_http_to_a_tls_port_and_tls_to_a_plain_port_are_answered_in_plain_http() {
    let (t, ..) = registry(true).await;
    for line in ["GET /v2/", "HEAD /", "PUT /v2/a/manifests/1"] {
        let mut stream = TcpStream::connect(t.running.address()).await.unwrap();
        stream.write_all(format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.contains("use https:// instead of http://"), "{answer}");
    }
    // It still serves those who speak TLS, and gives up what is neither.
    let mut stream = TcpStream::connect(t.running.address()).await.unwrap();
    stream.write_all(&[0; 100]).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"));

    let (t, certificate, _files) = registry(false).await;
    let mut stream = TcpStream::connect(t.running.address()).await.unwrap();
    // A client's hello: a handshake record of TLS 1.0, as all versions begin.
    stream.write_all(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3]).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.contains("use http:// instead of https://"), "{answer}");
    let error = crate::tls::connect(t.running.address(), &[&certificate], &["h2"]).await.unwrap_err();
    assert!(error.to_string().contains("InvalidContentType"), "{error}");
}
