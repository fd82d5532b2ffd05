//! The client against a server that follows a script.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod lists;
mod tokens;

use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::Full;
use hyper::Request;
use hyper::service::service_fn;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;

type Reply = Response<Full<Bytes>>;

const QUICK: Effort = Effort { retries: 0, wait: Duration::from_secs(20), insists: false };
const PATIENT: Effort = Effort { retries: 3, ..QUICK };

/// Answers every request with the script, until the test ends. Returns the address of the server.
async fn serve(script: impl Fn(&Request<Incoming>) -> Option<Reply> + Clone + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let script = script.clone();
            let service = service_fn(move |request| {
                let reply = script(&request);
                async move {
                    match reply {
                        Some(reply) => Ok::<_, Infallible>(reply),
                        None => std::future::pending().await,
                    }
                }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move { connection.await.ok() });
        }
    });
    address
}

fn settings(address: SocketAddr) -> Settings {
    let proxies = std::sync::Arc::new(Matcher::builder().build());
    Settings {
        url: format!("http://{address}").parse().unwrap(),
        transport: TransportSettings { proxies, ..TransportSettings::default() },
        credentials: Credentials::default(),
        token_hosts: Vec::new(),
        concurrency: 64,
        idle: Duration::from_secs(20),
        retries: 3,
        retry_delay: Duration::from_millis(1),
        retry_delay_max: Duration::from_millis(4),
    }
}

fn client(address: SocketAddr) -> Client {
    Client::new(settings(address)).unwrap()
}

fn reply(status: u16, body: &str) -> Reply {
    Response::builder().status(status).body(Full::new(Bytes::from(body.to_owned()))).unwrap()
}

fn manifest_reply(body: &str) -> Reply {
    let mut reply = reply(200, body);
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MediaType::OCI_MANIFEST));
    let digest = Digest::of(Algorithm::Sha256, body.as_bytes()).to_string();
    reply.headers_mut().insert("docker-content-digest", digest.parse().unwrap());
    reply
}

fn name() -> RepositoryName {
    "library/busybox".parse().unwrap()
}

fn tag() -> Reference {
    Reference::Tag("1".parse().unwrap())
}

fn has(request: &Request<Incoming>, name: header::HeaderName, value: &str) -> bool {
    request.headers().get(name).is_some_and(|have| have == value)
}

fn credentials(directory: &std::path::Path, host: SocketAddr) -> Credentials {
    let file = directory.join("credentials.json");
    let mut written = std::fs::File::create(&file).unwrap();
    write!(written, r#"{{"{host}": {{"username": "alice", "password": "secret"}}}}"#).unwrap();
    Credentials::file(file)
}

/// A manifest without layers.
const IMAGE: &str = r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;
/// `alice:secret`.
const BASIC: &str = "Basic YWxpY2U6c2VjcmV0";

#[tokio::test]
async fn requests_that_run_together_share_one_token() {
    let fetched = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&fetched);
    let address = serve(move |request| {
        if request.uri().path() == "/token" {
            counter.fetch_add(1, Ordering::SeqCst);
            assert_eq!(request.uri().query(), Some("service=here&scope=repository%3Alibrary%2Fbusybox%3Apull"));
            return Some(reply(200, r#"{"token": "t1", "expires_in": 300}"#));
        }
        if has(request, header::AUTHORIZATION, "Bearer t1") {
            return Some(manifest_reply(IMAGE));
        }
        let host = request.headers()[header::HOST].to_str().unwrap();
        let mut refused = reply(401, "");
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="here",scope="ignored""#);
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
        Some(refused)
    })
    .await;
    let client = client(address);
    let pulls: Vec<_> = (0..16)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.manifest(&name(), &tag(), QUICK).await.unwrap().unwrap().digest })
        })
        .collect();
    for pull in pulls {
        assert_eq!(pull.await.unwrap(), Digest::of(Algorithm::Sha256, IMAGE.as_bytes()));
    }
    assert_eq!(fetched.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_redirect_to_another_host_loses_the_credentials() {
    let elsewhere = serve(|request| {
        assert!(!request.headers().contains_key(header::AUTHORIZATION));
        Some(reply(200, "blob"))
    })
    .await;
    let address = serve(move |request| {
        if !has(request, header::AUTHORIZATION, BASIC) {
            let mut refused = reply(401, "");
            refused.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=x"));
            return Some(refused);
        }
        let mut moved = reply(307, "");
        moved.headers_mut().insert(header::LOCATION, format!("http://{elsewhere}/cdn").parse().unwrap());
        Some(moved)
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let client = Client::new(Settings { credentials: credentials(directory.path(), address), ..settings(address) });
    let digest = Digest::of(Algorithm::Sha256, b"blob");
    let mut download = client.unwrap().blob(&name(), digest, 0, None, QUICK).await.unwrap().unwrap();
    assert_eq!(download.size, 4);
    assert_eq!(download.next().await.unwrap().unwrap(), "blob");
    assert!(download.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_token_service_on_another_host_does_not_get_the_credentials() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let elsewhere = serve(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        Some(reply(200, r#"{"token": "t"}"#))
    })
    .await;
    let address = serve(move |_| {
        let mut refused = reply(401, "");
        let challenge = format!(r#"Bearer realm="http://localhost:{}/token""#, elsewhere.port());
        refused.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
        Some(refused)
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let client = Client::new(Settings { credentials: credentials(directory.path(), address), ..settings(address) });
    let error = client.unwrap().manifest(&name(), &tag(), QUICK).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }) && error.to_string().contains("another domain"), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_failure_that_passes_is_repeated_and_others_are_not() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let address = serve(move |_| match counter.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Some(reply(503, "")),
        2 => Some(manifest_reply(IMAGE)),
        3 => Some(reply(403, r#"{"errors": [{"code": "DENIED", "message": "go away"}]}"#)),
        4 => Some(reply(404, "")),
        _ => {
            let mut limited = reply(429, "");
            limited.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("3600"));
            Some(limited)
        }
    })
    .await;
    let client = client(address);
    let effort = Effort { insists: true, ..PATIENT };
    assert!(client.manifest(&name(), &tag(), effort).await.unwrap().is_some());
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    let error = client.manifest(&name(), &tag(), effort).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }) && error.to_string().ends_with("DENIED go away"), "{error}");
    assert!(client.manifest(&name(), &tag(), effort).await.unwrap().is_none());
    assert_eq!(asked.load(Ordering::SeqCst), 5);
    let error = client.manifest(&name(), &tag(), effort).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_hours(1)));
    assert_eq!((asked.load(Ordering::SeqCst), client.allowance()), (6, None), "an hour is too long to wait");
}

#[tokio::test]
async fn a_hanging_upstream_costs_one_caller_its_wait_and_the_next_none() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let address = serve(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        None
    })
    .await;
    let client = client(address);
    let effort = Effort { wait: Duration::from_millis(50), ..QUICK };
    let error = client.manifest(&name(), &tag(), effort).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let error = client.manifest(&name(), &tag(), effort).await.unwrap_err();
    assert!(matches!(error, Error::BackedOff { .. }) && error.is_timeout(), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn nothing_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = client(address).manifest(&name(), &tag(), QUICK).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().starts_with(&format!("{address} cannot be reached")), "{error}");
}

#[tokio::test]
async fn a_manifest_with_another_digest_or_without_end_is_refused() {
    let address = serve(|request| {
        let path = request.uri().path();
        if path.ends_with("/wrong") {
            let mut wrong = manifest_reply(IMAGE);
            *wrong.body_mut() = Full::new(Bytes::from_static(b"{ }"));
            return Some(wrong);
        }
        if path.ends_with("/large") {
            return Some(manifest_reply(&"x".repeat(MANIFEST_BYTES_MAX + 1)));
        }
        Some(reply(200, "{}"))
    })
    .await;
    let client = client(address);
    let get = async |reference: &str| {
        let reference = Reference::Tag(reference.parse().unwrap());
        client.manifest(&name(), &reference, QUICK).await.unwrap_err()
    };
    assert!(matches!(get("wrong").await, Error::Invalid { .. }));
    assert!(matches!(get("large").await, Error::TooLarge { .. }));
    assert!(matches!(get("untyped").await, Error::Invalid { .. }));
    let other = Reference::Digest(Digest::of(Algorithm::Sha256, b"other"));
    let error = client.manifest(&name(), &other, QUICK).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
}

#[tokio::test]
async fn a_known_manifest_is_only_asked_for() {
    let address = serve(|request| {
        let same = manifest_reply(IMAGE);
        let etag = format!("\"{}\"", same.headers()["docker-content-digest"].to_str().unwrap());
        if has(request, header::IF_NONE_MATCH, &etag) {
            assert_eq!(request.method(), Method::HEAD);
            return Some(reply(304, ""));
        }
        Some(same)
    })
    .await;
    let client = client(address);
    let state = async |known: &[u8]| {
        let known = Digest::of(Algorithm::Sha256, known);
        client.refresh(&name(), &tag(), known, QUICK).await.unwrap().unwrap()
    };
    assert_eq!(state(IMAGE.as_bytes()).await, Refreshed::Unchanged);
    assert!(matches!(state(b"other").await, Refreshed::Changed(changed) if changed.bytes == IMAGE));
    let digest = Digest::of(Algorithm::Sha256, IMAGE.as_bytes());
    let unknown = client.manifest_state(&name(), &tag(), None, QUICK).await.unwrap();
    assert_eq!(unknown, Some(ManifestState::Changed(Some(digest))));
}

#[tokio::test]
async fn a_registry_without_head_costs_one_request_for_each_check() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let address = serve(move |request| {
        counter.fetch_add(1, Ordering::SeqCst);
        Some(if request.method() == Method::HEAD { reply(404, "") } else { manifest_reply(IMAGE) })
    })
    .await;
    let client = client(address);
    let known = Digest::of(Algorithm::Sha256, IMAGE.as_bytes());
    // One wrong answer may be a tag that has just come.
    for requests in [2, 4, 6, 7, 8] {
        let state = client.refresh(&name(), &tag(), known, QUICK).await.unwrap();
        assert_eq!((state, asked.load(Ordering::SeqCst)), (Some(Refreshed::Unchanged), requests));
    }
}

#[tokio::test]
async fn a_blob_continues_where_it_broke() {
    let address = serve(|request| {
        Some(if has(request, header::RANGE, "bytes=4-") {
            let mut part = reply(206, "efgh");
            part.headers_mut().insert(header::CONTENT_RANGE, HeaderValue::from_static("bytes 4-7/8"));
            part
        } else if request.headers().contains_key(header::RANGE) {
            let mut wrong = reply(206, "cdefgh");
            wrong.headers_mut().insert(header::CONTENT_RANGE, HeaderValue::from_static("bytes 2-7/8"));
            wrong
        } else {
            reply(200, "abcdefgh")
        })
    })
    .await;
    let client = client(address);
    let digest = Digest::of(Algorithm::Sha256, b"abcdefgh");
    let mut rest = client.blob(&name(), digest, 4, None, QUICK).await.unwrap().unwrap();
    assert_eq!((rest.offset, rest.size), (4, 8));
    assert_eq!(rest.next().await.unwrap().unwrap(), "efgh");
    let error = client.blob(&name(), digest, 3, None, QUICK).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "a range that was not requested: {error}");
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_used_with_its_password() {
    let proxy = serve(|request| {
        assert_eq!(request.uri().to_string(), "http://upstream.invalid/v2/library/busybox/manifests/1");
        assert!(has(request, header::PROXY_AUTHORIZATION, BASIC));
        Some(manifest_reply(IMAGE))
    })
    .await;
    let matcher = Matcher::builder().http(format!("http://alice:secret@{proxy}")).no("direct.invalid").build();
    let mut settings = settings(proxy);
    settings.transport.proxies = Arc::new(matcher);
    settings.url = "http://upstream.invalid".parse().unwrap();
    let client = Client::new(settings.clone()).unwrap();
    assert!(client.manifest(&name(), &tag(), QUICK).await.unwrap().is_some());
    settings.url = "http://direct.invalid".parse().unwrap();
    let client = Client::new(settings).unwrap();
    assert!(client.manifest(&name(), &tag(), QUICK).await.is_err(), "NO_PROXY names this host");
}

#[tokio::test]
async fn requests_wait_for_a_slot_until_a_body_ends() {
    let address = serve(|_| Some(reply(200, "blob"))).await;
    let client = Client::new(Settings { concurrency: 1, ..settings(address) }).unwrap();
    let digest = Digest::of(Algorithm::Sha256, b"blob");
    let first = client.blob(&name(), digest, 0, None, QUICK).await.unwrap();
    let effort = Effort { wait: Duration::from_millis(20), ..QUICK };
    let error = client.blob(&name(), digest, 0, None, effort).await.unwrap_err();
    assert!(error.is_busy(), "{error}");
    drop(first);
    assert!(client.blob(&name(), digest, 0, None, QUICK).await.unwrap().is_some(), "the upstream did not fail");
}

#[tokio::test]
async fn a_blob_with_another_size_than_in_the_manifest_is_refused() {
    let address = serve(|_| Some(reply(200, "blob"))).await;
    let client = client(address);
    let digest = Digest::of(Algorithm::Sha256, b"blob");
    let error = client.blob(&name(), digest, 0, Some(5), QUICK).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }) && error.to_string().contains("not 5"), "{error}");
    assert!(client.blob(&name(), digest, 0, Some(4), QUICK).await.unwrap().is_some());
}

#[tokio::test]
async fn a_manifest_is_read_and_says_its_type_if_the_header_does_not() {
    let address = serve(|request| {
        let typed = |kind: &str| IMAGE.replacen('{', &format!("{{\"mediaType\":\"{kind}\","), 1);
        let docker = typed(MediaType::DOCKER_MANIFEST);
        let (kind, body) = match request.uri().path().rsplit_once('/')?.1 {
            "page" => ("text/html", "<html>".to_owned()),
            "disguised" => (MediaType::OCI_MANIFEST, "<html>".to_owned()),
            "first-schema" => ("application/json", r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned()),
            "other-type" => (MediaType::OCI_MANIFEST, docker),
            "json" => ("application/json; charset=utf-8", docker),
            "octets" => ("application/octet-stream", docker),
            "text" => ("text/plain", docker),
            _ => ("", docker),
        };
        let mut reply = reply(200, &body);
        if !kind.is_empty() {
            reply.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
        }
        Some(reply)
    })
    .await;
    let client = client(address);
    for (tag, is_read) in [
        ("page", false),
        ("disguised", false),
        ("first-schema", false),
        ("other-type", false),
        ("json", true),
        ("octets", true),
        ("text", true),
        ("untyped", true),
    ] {
        match client.manifest(&name(), &Reference::Tag(tag.parse().unwrap()), QUICK).await {
            Ok(read) => {
                assert_eq!((read.unwrap().media_type.as_str(), is_read), (MediaType::DOCKER_MANIFEST, true), "{tag}");
            }
            Err(error) => assert!(!is_read && error.is_invalid(), "{tag}: {error}"),
        }
    }
}
