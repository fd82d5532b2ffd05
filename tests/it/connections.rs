//! Many connections at once: the choice of the connection to close, and the requests that are served meanwhile.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use coracle::{AccessPolicy, Registry};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::TestRegistry;
use crate::support::connection::Raw;
use crate::support::content::{noise, push_blob, sha256};
use crate::tls;

/// Connections open at a time.
const LIMIT: usize = 40;
/// More connections than the limit and the reserve.
const MANY: usize = 60;
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const PING: &str = "GET /v2/ HTTP/1.1\r\nhost: localhost\r\n\r\n";

async fn limited(more: &str) -> TestRegistry {
    let text = format!("[http]\n{more}\n[http.limits]\nmaxConnections = {LIMIT}\n");
    let config = coracle::config::Config::from_toml_str(&text).unwrap().config;
    TestRegistry::start(Registry::builder().config(config).policy(AccessPolicy::Open)).await
}

/// Neither the address with the many connections nor another one waits for long.
async fn all_are_served(t: &TestRegistry, what: &str) {
    for address in [THERE, HERE] {
        let begun = Instant::now();
        t.anonymous().at(address).get("/livez").send().await.status(200);
        // A request that comes while connections are being closed for it may be told to try again.
        while t.anonymous().at(address).get("/v2/").send().await.status != 200 {
            assert!(begun.elapsed() < Duration::from_secs(5), "{what}: {address} is refused");
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}: {address} waits {:?}", begun.elapsed());
    }
}

/// Begins an upload whose body does not end.
async fn slow_upload(address: SocketAddr) -> Raw {
    slow_upload_from(address, HERE).await
}

async fn slow_upload_from(address: SocketAddr, source: IpAddr) -> Raw {
    let mut upload = Raw::connect_from(address, source).await;
    let path = format!("/v2/a/blobs/uploads/?digest={}", sha256(b"0123456789"));
    upload.send(format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n01234")).await;
    upload
}

/// Waits until all places are taken, so that a request gets a 503 or has to wait.
async fn until_full(t: &TestRegistry, source: IpAddr) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let mut connection = Raw::connect_from(t.running.address(), source).await;
        connection.send(PING).await;
        if connection.is_silent_for(Duration::from_millis(300)).await {
            return;
        }
        assert!(Instant::now() < deadline, "a place is still free");
    }
}

#[tokio::test]
async fn connections_without_a_request_block_no_client() {
    let t = limited("").await;
    for (what, said, is_answered) in [
        ("silent", "", false),
        ("half a head", "GET /v2/ HTTP/1.1\r\nhost: localhost\r\nx-", false),
        ("between two requests", PING, true),
    ] {
        let mut held = Vec::new();
        for _ in 0..MANY {
            let mut connection = Raw::connect(t.running.address()).await;
            connection.send(said).await;
            if is_answered {
                assert_eq!(connection.answer().await.status, 200);
            }
            held.push(connection);
        }
        all_are_served(&t, what).await;
        // The youngest is still open, and the one that has been idle longest is not.
        assert_eq!(held.remove(0).drain().await, 0, "{what}");
        let mut youngest = held.pop().unwrap();
        youngest.send(if said.ends_with("x-") { "x: y\r\n\r\n" } else { PING }).await;
        assert_eq!(youngest.answer().await.status, 200, "{what}");
    }
}

#[tokio::test]
async fn many_addresses_with_silent_connections_block_no_client() {
    let t = limited("").await;
    let mut held = Vec::new();
    for n in 0..MANY {
        let source = Ipv4Addr::new(127, 0, 1, u8::try_from(n).unwrap());
        held.push(Raw::connect_from(t.running.address(), source.into()).await);
    }
    all_are_served(&t, "many addresses").await;
}

#[tokio::test]
async fn tls_connections_without_a_request_block_no_client() {
    let (t, certificate, _files) = tls::registry_with(&format!("maxConnections = {LIMIT}\n")).await;
    let address = t.running.address();
    let served = async |what: &str| {
        let begun = Instant::now();
        let stream = tls::connect(address, &[&certificate], &["http/1.1"]).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let _connection = tokio::spawn(connection);
        let request = hyper::Request::get("/livez").header("host", "localhost").body(Empty::<bytes::Bytes>::new());
        assert_eq!(sender.send_request(request.unwrap()).await.unwrap().status(), 200, "{what}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{what}: /livez waits {:?}", begun.elapsed());
    };
    let mut silent = Vec::new();
    for _ in 0..MANY {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    served("before the handshake").await;
    for protocol in ["http/1.1", "h2"] {
        let mut held = Vec::new();
        for _ in 0..MANY {
            held.push(tls::connect(address, &[&certificate], &[protocol]).await.unwrap());
        }
        served(protocol).await;
    }
}

#[tokio::test]
async fn an_idle_http2_connection_is_closed_in_order() {
    let (t, certificate, _files) = tls::registry_with(&format!("maxConnections = {LIMIT}\n")).await;
    let mut held = Vec::new();
    for _ in 0..MANY {
        let stream = tls::connect(t.running.address(), &[&certificate], &["h2"]).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = hyper::Request::get("https://localhost/v2/").body(Empty::<bytes::Bytes>::new());
        let answer = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.unwrap();
        held.push((sender, connection));
    }
    let (_sender, first) = held.remove(0);
    let ended = tokio::time::timeout(Duration::from_secs(10), first).await;
    assert!(matches!(ended, Ok(Ok(Ok(())))), "the connection was not closed properly: {ended:?}");
}

/// An HTTP/2 client that takes as much of each response as its window permits.
async fn http2(address: SocketAddr, source: IpAddr, window: u32) -> SendRequest<StreamedBody> {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    let stream = socket.connect(address).await.unwrap();
    let mut client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = client.initial_stream_window_size(window).handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

type StreamedBody = BoxBody<bytes::Bytes, std::convert::Infallible>;

fn get(path: &str) -> hyper::Request<StreamedBody> {
    hyper::Request::get(format!("http://localhost{path}")).body(Empty::new().boxed()).unwrap()
}

#[tokio::test]
async fn http2_clients_that_send_or_take_small_bodies_slowly_shut_nobody_out() {
    let t = limited("").await;
    let (mut sending, mut untaken) = (Vec::new(), Vec::new());
    for n in 0..4 {
        let source = Ipv4Addr::new(127, 0, 1, n).into();
        let mut sender = http2(t.running.address(), source, 0).await;
        for _ in 0..LIMIT / 2 {
            let response = sender.send_request(get("/v2/")).await.unwrap();
            assert_eq!(response.status(), 200);
            untaken.push(response);
        }
        for _ in 0..LIMIT / 4 {
            let body = StreamBody::new(futures_util::stream::pending::<Result<Frame<bytes::Bytes>, _>>());
            let request = hyper::Request::post("http://localhost/v2/auth").header("content-length", "60000");
            sending.push(tokio::spawn(sender.send_request(request.body(BoxBody::new(body)).unwrap())));
        }
    }
    all_are_served(&t, "slow bodies over HTTP/2").await;
    assert!(sending.iter().all(|response| !response.is_finished()), "a request whose body arrives was refused");
}

#[tokio::test]
async fn each_request_of_an_http2_connection_needs_a_place() {
    /// Three quarters of [`LIMIT`].
    const SHARE: usize = 30;
    let t = limited("").await;
    let digest = push_blob(&t.anonymous(), "a", &noise(1 << 20, 1)).await;
    // The blob is larger than the window of the client, which reads nothing.
    let mut sender = http2(t.running.address(), HERE, 64 * 1024).await;
    let mut stalled = Vec::new();
    for _ in 0..SHARE {
        let answer = sender.send_request(get(&format!("/v2/a/blobs/{digest}"))).await.unwrap();
        assert_eq!(answer.status(), 200);
        stalled.push(answer);
    }
    until_full(&t, HERE).await;
    t.anonymous().at(THERE).get("/v2/").send().await.status(200);
    // The registry allows as many streams of a connection as the share, so there is another connection for more.
    let mut sender = http2(t.running.address(), HERE, 64 * 1024).await;
    assert_eq!(sender.send_request(get("/livez")).await.unwrap().status(), 200, "probes need no place");
    let mut waiting = tokio::spawn(sender.send_request(get("/v2/")));
    let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err(), "it was answered without a place: {early:?}");
    stalled.pop();
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_connection_with_a_request_in_flight_is_never_closed() {
    let t = limited("").await;
    // The client reads a part of a blob, so its response is in flight. The rest does not fit into the system's buffers.
    let content = noise(24 << 20, 1);
    let digest = push_blob(&t.anonymous(), "a", &content).await;
    let mut upload = slow_upload(t.running.address()).await;
    let mut pull = Raw::connect_narrow(t.running.address()).await;
    pull.send(format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await;
    assert!(!pull.is_silent_for(Duration::from_secs(10)).await);
    let mut silent = Vec::new();
    for _ in 0..2 * MANY {
        silent.push(Raw::connect(t.running.address()).await);
    }
    all_are_served(&t, "next to two requests").await;
    upload.send("56789").await;
    assert_eq!(upload.answer().await.status, 201);
    let got = pull.drain().await;
    assert!(got > content.len(), "{got} bytes of {} came", content.len());
}

#[tokio::test]
async fn one_address_does_not_take_the_places_of_others() {
    let t = limited("").await;
    let mut uploads = Vec::new();
    for _ in 0..LIMIT {
        uploads.push(slow_upload(t.running.address()).await);
    }
    until_full(&t, HERE).await;
    // Probes are answered at the crowded address too, and other addresses are not affected.
    t.anonymous().at(HERE).get("/livez").send().await.status(200);
    t.anonymous().at(THERE).get("/v2/").send().await.status(200);
    // A request that waits gets the place of one that ends.
    let mut waiting = Raw::connect(t.running.address()).await;
    waiting.send(PING).await;
    assert!(waiting.is_silent_for(Duration::from_millis(300)).await, "it was answered without a place");
    let mut first = uploads.remove(0);
    first.send("56789").await;
    assert_eq!(first.answer().await.status, 201);
    drop(uploads);
    assert_eq!(waiting.answer().await.status, 200);
    let metrics = t.anonymous().at(THERE).get("/metrics").send().await.status(200).text();
    assert!(metrics.contains("\ncoracle_http_refused_connections_total "), "{metrics}");
}

#[tokio::test]
async fn too_many_requests_in_flight_are_refused_and_probes_are_answered() {
    let t = limited("").await;
    let mut uploads = Vec::new();
    for n in 0..LIMIT {
        let source = Ipv4Addr::new(127, 0, 1, u8::try_from(n % 4).unwrap());
        uploads.push(slow_upload_from(t.running.address(), source.into()).await);
    }
    until_full(&t, THERE).await;
    let mut waiting = Vec::new();
    let refused = loop {
        let mut connection = Raw::connect_from(t.running.address(), THERE).await;
        connection.send(PING).await;
        if !connection.is_silent_for(Duration::from_millis(300)).await {
            break connection.answer().await;
        }
        waiting.push(connection);
        assert!(waiting.len() < LIMIT, "any number of requests may wait");
    };
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("retry-after: "), "{}", refused.head);
    for path in ["/livez", "/readyz", "/startupz"] {
        t.anonymous().at(THERE).get(path).send().await.status(200);
    }
    drop(uploads);
    for mut connection in waiting {
        assert_eq!(connection.answer().await.status, 200);
    }
}

#[tokio::test]
async fn refused_clients_that_keep_sending_do_not_keep_probes_out() {
    let t = limited("").await;
    let address = |n: usize| Ipv4Addr::new(127, 0, 1, u8::try_from(n % 4).unwrap()).into();
    let mut uploads = Vec::new();
    for n in 0..LIMIT {
        uploads.push(slow_upload_from(t.running.address(), address(n)).await);
    }
    until_full(&t, THERE).await;
    let mut refused = Vec::new();
    for n in 0..MANY - LIMIT {
        let mut connection = Raw::connect_from(t.running.address(), address(n)).await;
        connection.send("POST /v2/auth HTTP/1.1\r\nhost: localhost\r\ncontent-length: 60000\r\n\r\n").await;
        refused.push(connection);
    }
    // None of them reads its response or closes.
    let _sending = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            for connection in &mut refused {
                connection.send("x").await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }));
    for _ in 0..3 {
        let begun = Instant::now();
        t.anonymous().at(HERE).get("/livez").send().await.status(200);
        assert!(begun.elapsed() < Duration::from_secs(5), "/livez waits {:?}", begun.elapsed());
    }
    for mut upload in uploads {
        upload.send("56789").await;
        assert_eq!(upload.answer().await.status, 201);
    }
}

#[tokio::test]
async fn unknown_clients_that_send_small_bodies_slowly_shut_nobody_out() {
    let t = limited("").await;
    let mut upload = slow_upload(t.running.address()).await;
    let mut slow = Vec::new();
    for n in 0..MANY {
        let source = Ipv4Addr::new(127, 0, 1, u8::try_from(n % 4).unwrap());
        let mut connection = Raw::connect_from(t.running.address(), source.into()).await;
        connection.send("POST /v2/auth HTTP/1.1\r\nhost: localhost\r\ncontent-length: 60000\r\n\r\ng").await;
        slow.push(connection);
    }
    all_are_served(&t, "slow bodies").await;
    // An upload is not closed, although it is as slow.
    upload.send("56789").await;
    assert_eq!(upload.answer().await.status, 201);
}

#[tokio::test]
async fn a_trusted_proxy_has_no_share() {
    let t = limited("trustedProxies = ['127.0.0.1']").await;
    let mut uploads = Vec::new();
    // More than the share of an address, and less than the limit.
    for _ in 0..LIMIT - 2 {
        uploads.push(slow_upload(t.running.address()).await);
    }
    for mut upload in uploads {
        t.anonymous().at(HERE).get("/v2/").send().await.status(200);
        upload.send("56789").await;
        assert_eq!(upload.answer().await.status, 201);
    }
}
