//! Requests to slow, endless, lying and untrusted servers, over real sockets.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::time::Instant;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Longer than any test here takes.
const LONG: Duration = Duration::from_mins(1);

fn patient() -> Settings {
    Settings { deadline: LONG, ..Settings::default() }
}

fn get(url: &str) -> Request<Vec<u8>> {
    Request::get(url).body(Vec::new()).unwrap()
}

/// Reads the head of a request.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { break };
        head.push(byte);
    }
    String::from_utf8(head).unwrap()
}

/// Serves one connection: sends a response, and then a part again and again, if one is given. Returns the head of the
/// request. The connection stays open until the client closes it.
async fn serve(address: &str, answer: Vec<u8>, for_ever: Option<&'static [u8]>) -> (u16, oneshot::Receiver<String>) {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, asked) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        told.send(head(&mut stream).await).unwrap();
        let mut sent = stream.write_all(&answer).await;
        while let (Ok(()), Some(part)) = (&sent, for_ever) {
            sent = stream.write_all(part).await;
        }
        let mut rest = [0; 64];
        while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
    });
    (port, asked)
}

/// Creates a certificate authority and a server with a certificate for these names. Returns the file of the authority.
fn certified(directory: &Path, names: &[&str]) -> (PathBuf, TlsAcceptor) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let file = directory.join("authority.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    (file, acceptor(certificate.der(), &key))
}

/// Creates a server with a self-signed certificate for `localhost` that is also one of an authority, as `openssl req
/// -x509` makes it. It is valid in these years.
fn self_signed(directory: &Path, years: std::ops::Range<i32>) -> (PathBuf, TlsAcceptor) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let file = directory.join("self-signed.pem");
    std::fs::write(&file, certificate.pem()).unwrap();
    (file, acceptor(certificate.der(), &key))
}

fn acceptor(certificate: &CertificateDer<'static>, key: &KeyPair) -> TlsAcceptor {
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Serves connections over TLS. Returns the heads of the requests.
async fn serve_tls(acceptor: TlsAcceptor) -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, asked) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let head = head(&mut stream).await;
            if head.is_empty() {
                continue;
            }
            told.send(head).unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    });
    (port, asked)
}

#[tokio::test]
async fn a_request_has_only_necessary_headers_and_the_response_is_complete() {
    let answer = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\ngone".to_vec();
    let (port, asked) = serve("127.0.0.1", answer, None).await;
    let mut request = Request::post(format!("http://localhost:{port}/a/b?c=d")).body(b"body".to_vec()).unwrap();
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("elsewhere"));
    let response = Client::new(patient()).send(request).await.unwrap();
    assert_eq!((response.status().as_u16(), response.body().as_slice()), (404, b"gone".as_slice()));
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain");
    let asked = asked.await.unwrap().to_lowercase();
    assert!(asked.starts_with("post /a/b?c=d http/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("\r\nhost: localhost:{port}\r\n")), "{asked}");
    assert_eq!(asked.matches("\r\nhost:").count(), 1, "{asked}");
    assert!(asked.contains("\r\ncontent-length: 4\r\n"), "{asked}");
    // The limit does not apply to compressed responses.
    assert!(!asked.contains("accept-encoding") && !asked.contains("cookie"), "{asked}");
}

#[tokio::test]
async fn a_silent_or_endless_server_ends_at_the_deadline() {
    let short = || Settings { deadline: Duration::from_millis(300), ..Settings::default() };
    let endless_body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let promised = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec();
    for answer in [Vec::new(), b"HTTP/1.1 200 OK\r\nX-".to_vec(), promised, endless_body] {
        let (port, _asked) = serve("127.0.0.1", answer, None).await;
        let begun = Instant::now();
        let error = Client::new(short()).send(get(&format!("http://127.0.0.1:{port}/"))).await.unwrap_err();
        assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
        assert!(begun.elapsed() < LONG);
    }
}

#[tokio::test]
async fn a_server_without_a_handshake_ends_at_the_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let (ca, _) = certified(directory.path(), &["localhost"]);
    let (port, _asked) = serve("127.0.0.1", Vec::new(), None).await;
    let settings = Settings { ca: Some(ca), deadline: Duration::from_millis(500), ..Settings::default() };
    let error = Client::new(settings).send(get(&format!("https://localhost:{port}/"))).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
}

#[tokio::test]
async fn a_body_is_read_up_to_the_limit_with_and_without_a_length() {
    let settings = || Settings { response_bytes_max: 1000, ..patient() };
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let to_the_end = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let said = b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n".to_vec();
    for (answer, for_ever) in [(chunked, b"4\r\nabcd\r\n".as_slice()), (to_the_end, b"abcd"), (said, b"abcd")] {
        let (port, _asked) = serve("127.0.0.1", answer, Some(for_ever)).await;
        let error = Client::new(settings()).send(get(&format!("http://127.0.0.1:{port}/"))).await.unwrap_err();
        assert!(matches!(error, Error::TooLarge { bytes_max: 1000, .. }), "{error:?}");
    }
    let whole = [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".as_slice(), &[b'a'; 1000]].concat();
    let (port, _asked) = serve("127.0.0.1", whole, None).await;
    let response = Client::new(settings()).send(get(&format!("http://127.0.0.1:{port}/"))).await.unwrap();
    assert_eq!(response.body().len(), 1000);
}

#[tokio::test]
async fn a_head_that_never_ends_is_refused() {
    let (port, _asked) = serve("127.0.0.1", b"HTTP/1.1 200 OK\r\n".to_vec(), Some(b"X-More: and more\r\n")).await;
    let error = Client::new(patient()).send(get(&format!("http://127.0.0.1:{port}/"))).await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error:?}");
}

#[tokio::test]
async fn an_incomplete_or_encoded_response_is_an_error() {
    let coded = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab".to_vec();
    let (port, _asked) = serve("127.0.0.1", coded, None).await;
    let error = Client::new(patient()).send(get(&format!("http://127.0.0.1:{port}/"))).await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error:?}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await.unwrap();
    });
    let error = Client::new(patient()).send(get(&format!("http://127.0.0.1:{port}/"))).await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error:?}");
}

#[tokio::test]
async fn a_response_without_a_length_ends_with_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nall of it").await.unwrap();
    });
    let response = Client::new(patient()).send(get(&format!("http://127.0.0.1:{port}/"))).await.unwrap();
    assert_eq!(response.body(), b"all of it");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = other.local_addr().unwrap();
    let answer =
        format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{elsewhere}/\r\nContent-Length: 0\r\n\r\n");
    let (port, _asked) = serve("127.0.0.1", answer.into_bytes(), None).await;
    let response = Client::new(patient()).send(get(&format!("http://127.0.0.1:{port}/"))).await.unwrap();
    assert_eq!(response.status().as_u16(), 307);
    // Connections are accepted in their order, and the first one is our own.
    let own = TcpStream::connect(elsewhere).await.unwrap();
    let (_, first) = other.accept().await.unwrap();
    assert_eq!(first, own.local_addr().unwrap(), "the redirect was followed");
}

#[tokio::test]
async fn ipv6_addresses_work() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec();
    let (port, asked) = serve("::1", answer, None).await;
    let response = Client::new(patient()).send(get(&format!("http://[::1]:{port}/"))).await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let asked = asked.await.unwrap().to_lowercase();
    assert!(asked.contains(&format!("\r\nhost: [::1]:{port}\r\n")), "{asked}");
}

#[tokio::test]
async fn a_certificate_must_be_signed_by_a_trusted_authority_for_the_host() {
    let directory = tempfile::tempdir().unwrap();
    let (ca, acceptor) = certified(directory.path(), &["localhost"]);
    let (port, mut asked) = serve_tls(acceptor).await;
    let trusting = || Settings { ca: Some(ca.clone()), ..patient() };

    let response = Client::new(trusting()).send(get(&format!("https://localhost:{port}/yes"))).await.unwrap();
    assert_eq!(response.body(), b"ok");
    assert!(asked.recv().await.unwrap().starts_with("GET /yes "));

    // The certificate does not have this name.
    let error = Client::new(trusting()).send(get(&format!("https://127.0.0.1:{port}/name"))).await.unwrap_err();
    assert!(matches!(error, Error::Certificate { fault: CertificateFault::OtherName, .. }), "{error:?}");

    // The address can differ from the host of the URL.
    let elsewhere = Settings { connect_to: Some(([127, 0, 0, 1], port).into()), ..trusting() };
    let response = Client::new(elsewhere).send(get("https://localhost:1/elsewhere")).await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    assert!(asked.recv().await.unwrap().starts_with("GET /elsewhere "));

    // Another authority has signed for the same name.
    let other = tempfile::tempdir().unwrap();
    let (other, _) = certified(other.path(), &["localhost"]);
    let settings = Settings { ca: Some(other), ..patient() };
    let error = Client::new(settings).send(get(&format!("https://localhost:{port}/other"))).await.unwrap_err();
    assert!(matches!(error, Error::Certificate { fault: CertificateFault::Untrusted, .. }), "{error:?}");

    // The untrusted servers got no request.
    let response = Client::new(trusting()).send(get(&format!("https://localhost:{port}/last"))).await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    assert!(asked.recv().await.unwrap().starts_with("GET /last "));
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_if_it_is_in_the_given_file() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ca, acceptor) = self_signed(directory.path(), 2000..2100);
    let (port, mut asked) = serve_tls(acceptor).await;
    let with = |ca: &Path| Client::new(Settings { ca: Some(ca.to_owned()), ..patient() });
    let response = with(&ca).send(get(&format!("https://localhost:{port}/yes"))).await.unwrap();
    assert_eq!(response.body(), b"ok");
    assert!(asked.recv().await.unwrap().starts_with("GET /yes "));

    // Under another name, instead of another certificate with the same name, and without the file.
    let error = with(&ca).send(get(&format!("https://127.0.0.1:{port}/name"))).await.unwrap_err();
    assert!(matches!(error, Error::Certificate { .. }), "{error:?}");
    let (other, _) = self_signed(other.path(), 2000..2100);
    let error = with(&other).send(get(&format!("https://localhost:{port}/other"))).await.unwrap_err();
    assert!(matches!(error, Error::Certificate { .. }), "{error:?}");

    // The certificate has expired.
    let (expired, acceptor) = self_signed(directory.path(), 2000..2001);
    let (port, _) = serve_tls(acceptor).await;
    let error = with(&expired).send(get(&format!("https://localhost:{port}/late"))).await.unwrap_err();
    assert!(matches!(error, Error::Certificate { fault: CertificateFault::Expired(978_307_200), .. }), "{error:?}");
    assert_eq!(error.to_string(), "the certificate of localhost expired at 2001-01-01 00:00 UTC");
}

#[tokio::test]
async fn a_server_of_the_other_scheme_is_recognised() {
    for (answer, is_http) in [("HTTP/1.1 400 Bad Request\r\n\r\n", true), ("SSH-2.0-OpenSSH_10.0\r\n", false)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.read_to_end(&mut Vec::new()).await.unwrap();
        });
        let error = Client::new(patient()).send(get(&format!("https://localhost:{port}/"))).await.unwrap_err();
        assert_eq!(matches!(error, Error::SpeaksHttp { .. }), is_http, "{error:?}");
    }
    let directory = tempfile::tempdir().unwrap();
    let (_, acceptor) = certified(directory.path(), &["localhost"]);
    let (port, _asked) = serve_tls(acceptor).await;
    let error = Client::new(patient()).send(get(&format!("http://localhost:{port}/"))).await.unwrap_err();
    assert!(matches!(error, Error::SpeaksTls { .. }), "{error:?}");
    for body in ["Client sent an HTTP request to an HTTPS server.", "this port speaks HTTPS"] {
        let answer =
            format!("HTTP/1.0 400 Bad Request\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let (port, _asked) = serve("127.0.0.1", answer.into_bytes(), None).await;
        let error = Client::new(patient()).send(get(&format!("http://localhost:{port}/"))).await.unwrap_err();
        assert!(matches!(error, Error::SpeaksTls { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_certificate_can_be_for_an_address() {
    let directory = tempfile::tempdir().unwrap();
    let (ca, acceptor) = certified(directory.path(), &["127.0.0.1"]);
    let (port, _asked) = serve_tls(acceptor).await;
    let settings = Settings { ca: Some(ca), ..patient() };
    let response = Client::new(settings).send(get(&format!("https://127.0.0.1:{port}/"))).await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
}

#[tokio::test]
async fn an_unusable_file_of_certificates_is_named_in_the_error() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "no certificate").unwrap();
    for file in [empty, directory.path().join("missing.pem")] {
        let settings = Settings { ca: Some(file.clone()), ..patient() };
        let error = Client::new(settings).send(get("https://localhost:1/")).await.unwrap_err();
        assert!(matches!(error, Error::Trust(_)), "{error:?}");
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    }
}

#[tokio::test]
async fn without_tls_requests_stay_on_this_machine_unless_the_caller_allows_more() {
    for url in ["http://192.0.2.1/", "http://registry.example/", "http://127.0.0.1.example/", "http://[2001:db8::1]/"] {
        let error = Client::new(patient()).send(get(url)).await.unwrap_err();
        assert!(matches!(error, Error::Plain { .. }), "{url}: {error:?}");
    }
    // The name does not exist. It is looked up, because the caller allows other machines.
    let settings = Settings { plain: Plain::Anywhere, deadline: LONG, ..Settings::default() };
    let error = Client::new(settings).send(get("http://registry.invalid/")).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn an_invalid_url_is_refused_before_a_connection() {
    for url in ["/path", "ftp://localhost/", "http://user:secret@localhost/", "https://localhost:99999/"] {
        let Ok(request) = Request::get(url).body(Vec::new()) else { continue };
        let error = Client::new(patient()).send(request).await.unwrap_err();
        assert!(matches!(error, Error::Url(_)), "{url}: {error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn an_error_contains_no_data_that_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let request = Request::post(format!("http://127.0.0.1:{port}/token?code=hidden-1"));
    let request = request.header(header::AUTHORIZATION, "Bearer hidden-2").body(b"secret=hidden-3".to_vec()).unwrap();
    let error = Client::new(patient()).send(request).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hidden"), "{error:?}");
}
