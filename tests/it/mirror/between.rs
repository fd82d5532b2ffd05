//! [`Between`]: a proxy before an upstream. It counts requests, and misbehaves as a test wants.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

type Body = BoxBody<Bytes, std::io::Error>;

/// More than a manifest may have.
const OVERSIZED: usize = 5 * 1024 * 1024;

/// The behaviour of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    Forward,
    /// Never answers.
    Hang,
    /// Answers after this time.
    Slow(Duration),
    /// Answers with this status.
    Status(u16),
    /// Answers 429 with this `Retry-After`.
    Limit(u32),
    /// Answers HEAD with this status, although GET works.
    NoHead(u16),
    /// Answers some requests itself.
    Answers(Vec<Canned>),
    /// Says that this many requests for manifests are left.
    Quota(u64),
    /// The announced length of a blob is too small by this, and half of it comes. The rest comes as it is.
    Shrunk(usize),
    /// Challenges every request without a token to get one from this token service.
    Realm(String),
    /// The same, and the token has a megabyte.
    LargeToken,
    /// Redirects every GET to the same path below this URL.
    Redirect(String),
    /// Redirects every GET to itself.
    Loop,
    /// Manifests have five megabytes.
    Oversized,
    /// Manifests and blobs have no length and no end.
    Endless,
    /// Manifests and blobs end before the announced length.
    Short,
    /// The announced length of manifests and blobs is too small.
    Long,
    /// The last byte of manifests and blobs is another one.
    Corrupt,
    /// Breaks the connection after this many bytes of a blob.
    Cut(usize),
    /// Sends half of a blob, and the rest when the mode changes.
    Half,
    /// Sends this many bytes of a blob in a second.
    Throttle(usize),
}

/// A response without the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canned {
    /// A part of the path.
    pub at: String,
    pub status: u16,
    pub kind: &'static str,
    pub text: String,
}

/// A request that has arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method and path with query.
    pub line: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
    pub version: hyper::Version,
}

/// A proxy on a free port, for the length of a test.
#[derive(Clone, Debug)]
pub struct Between {
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Between {
    /// A proxy before the server at an address.
    pub async fn before(upstream: SocketAddr) -> Self {
        Self::start(upstream, None).await
    }

    /// The same with TLS, with `cert.pem` and `key.pem` of a directory.
    pub async fn with_tls(upstream: SocketAddr, directory: &Path) -> Self {
        let certificate = CertificateDer::from_pem_file(directory.join("cert.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(directory.join("key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key);
        let mut config = config.unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self::start(upstream, Some(Arc::new(config).into())).await
    }

    async fn start(upstream: SocketAddr, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Self { address, mode: watch::Sender::new(Mode::Forward), seen: Arc::default() };
        let served = proxy.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (served, tls) = (served.clone(), tls.clone());
                tokio::spawn(async move {
                    let Some(tls) = tls else { return served.serve(stream, false, upstream).await };
                    if let Ok(stream) = tls.accept(stream).await {
                        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        served.serve(stream, is_http2, upstream).await;
                    }
                });
            }
        });
        proxy
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, http2: bool, to: SocketAddr) {
        let service = service_fn(move |request| {
            let proxy = self.clone();
            async move { proxy.answer(request, to).await }
        });
        let stream = TokioIo::new(stream);
        if http2 {
            let _ =
                hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
        } else {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
        }
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    /// How many requests had this method, and a path with this text.
    pub fn count(&self, method: &str, text: &str) -> usize {
        let fits = |seen: &&Seen| seen.line.starts_with(&format!("{method} ")) && seen.line.contains(text);
        self.seen.lock().iter().filter(fits).count()
    }

    /// How many requests there were.
    pub fn total(&self) -> usize {
        self.seen.lock().len()
    }

    async fn answer(&self, request: Request<Incoming>, upstream: SocketAddr) -> Result<Response<Body>, Infallible> {
        let text =
            |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned);
        let path = request.uri().path_and_query().unwrap().as_str().to_owned();
        let seen = Seen {
            line: format!("{} {path}", request.method()),
            authorization: text(header::AUTHORIZATION),
            range: text(header::RANGE),
            version: request.version(),
        };
        let (is_get, has_token) = (request.method() == Method::GET, seen.authorization.is_some());
        let has_range = seen.range.is_some();
        let (is_blob, is_manifest) = (is_get && path.contains("/blobs/"), is_get && path.contains("/manifests/"));
        self.seen.lock().push(seen);
        let mode = self.mode.borrow().clone();
        let redirect = |to: String| Ok(canned(307, Some((header::LOCATION, to)), Vec::new()));
        match &mode {
            Mode::Hang => std::future::pending().await,
            Mode::Answers(answers) => {
                if let Some(Canned { status, kind, text, .. }) = answers.iter().find(|canned| path.contains(&canned.at))
                {
                    let kind = (header::CONTENT_TYPE, (*kind).to_owned());
                    return Ok(canned(*status, Some(kind), text.clone().into_bytes()));
                }
            }
            Mode::Slow(time) => tokio::time::sleep(*time).await,
            Mode::Status(status) => return Ok(canned(*status, None, Vec::new())),
            Mode::Limit(wait) => return Ok(canned(429, Some((header::RETRY_AFTER, wait.to_string())), Vec::new())),
            Mode::NoHead(status) if request.method() == Method::HEAD => return Ok(canned(*status, None, Vec::new())),
            Mode::Realm(_) | Mode::LargeToken if path.starts_with("/token") => {
                let token = format!("{{\"token\": \"{}\"}}", "t".repeat(1 << 20));
                return Ok(canned(200, None, token.into_bytes()));
            }
            Mode::Realm(realm) if !has_token => return Ok(challenge(realm)),
            Mode::LargeToken if !has_token => return Ok(challenge(&format!("http://{}/token", self.address))),
            Mode::Redirect(to) if is_get => return redirect(format!("{to}{path}")),
            Mode::Loop if is_get => return redirect(path),
            Mode::Oversized if is_manifest => return Ok(canned(200, None, vec![b' '; OVERSIZED])),
            _ => {}
        }
        let stream = TcpStream::connect(upstream).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(async move { connection.await.ok() });
        let (mut head, _) = request.into_parts();
        head.version = hyper::Version::HTTP_11;
        if let Some(host) = head.uri.authority().map(ToString::to_string) {
            head.headers.insert(header::HOST, host.try_into().unwrap());
        }
        head.uri = path.parse().unwrap();
        let response = sender.send_request(Request::from_parts(head, Empty::<Bytes>::new())).await.unwrap();
        let (mut head, body) = response.into_parts();
        head.headers.remove(header::CONNECTION);
        if let (Mode::Quota(left), true) = (&mode, path.contains("/manifests/")) {
            head.headers.insert("ratelimit-remaining", format!("{left};w=21600").try_into().unwrap());
        }
        let is_spoilt = match mode {
            Mode::Endless | Mode::Short | Mode::Long | Mode::Corrupt => is_blob || is_manifest,
            Mode::Cut(_) | Mode::Half | Mode::Throttle(_) => is_blob,
            Mode::Shrunk(_) => is_blob && !has_range,
            _ => false,
        };
        if !is_spoilt || !head.status.is_success() {
            let body = body.map_err(std::io::Error::other).boxed();
            return Ok(Response::from_parts(head, body));
        }
        let content = body.collect().await.unwrap().to_bytes();
        let announced = match mode {
            Mode::Endless => None,
            Mode::Short => Some(content.len() + 100),
            Mode::Long => Some(content.len() - 1),
            Mode::Shrunk(by) => Some(content.len() - by),
            _ => Some(content.len()),
        };
        head.headers.remove(header::CONTENT_LENGTH);
        head.headers.extend(announced.map(|length| (header::CONTENT_LENGTH, length.into())));
        Ok(Response::from_parts(head, self.spoilt(mode, content)))
    }

    /// The body of a manifest or blob as the mode has it.
    fn spoilt(&self, mode: Mode, content: Bytes) -> Body {
        let (pieces, waiting) = mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
        let mut mode_changes = self.mode.subscribe();
        tokio::spawn(async move {
            let send = async |bytes: Bytes| pieces.send(Ok(Frame::data(bytes))).await.is_ok();
            match mode {
                Mode::Cut(length) => {
                    send(content.slice(..length.min(content.len()))).await;
                    let _ = pieces.send(Err(std::io::Error::other("cut"))).await;
                }
                Mode::Shrunk(_) => {
                    send(content.slice(..content.len() / 2)).await;
                    let _ = pieces.send(Err(std::io::Error::other("cut"))).await;
                }
                Mode::Corrupt => {
                    let mut wrong = content.to_vec();
                    *wrong.last_mut().unwrap() ^= 1;
                    send(wrong.into()).await;
                }
                Mode::Half => {
                    send(content.slice(..content.len() / 2)).await;
                    let _ = mode_changes.wait_for(|mode| *mode != Mode::Half).await;
                    send(content.slice(content.len() / 2..)).await;
                }
                Mode::Throttle(rate) => {
                    let mut rest = content;
                    while !rest.is_empty() && send(rest.split_to(rest.len().min(rate / 50 + 1))).await {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                Mode::Endless => while send(content.clone()).await {},
                Mode::Long => drop(send(content.slice(..content.len() - 1)).await),
                _ => drop(send(content).await),
            }
        });
        let stream = futures_util::stream::unfold(waiting, |mut waiting| async move {
            waiting.recv().await.map(|piece| (piece, waiting))
        });
        http_body_util::BodyExt::boxed(StreamBody::new(Box::pin(SyncStream(Mutex::new(Box::pin(stream))))))
    }
}

/// A response without the upstream.
fn canned(status: u16, header: Option<(header::HeaderName, String)>, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed());
    *response.status_mut() = status.try_into().unwrap();
    response.headers_mut().extend(header.map(|(name, value)| (name, value.try_into().unwrap())));
    response.headers_mut().entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    response
}

fn challenge(realm: &str) -> Response<Body> {
    canned(401, Some((header::WWW_AUTHENTICATE, format!("Bearer realm=\"{realm}\",service=\"test\""))), Vec::new())
}

/// Makes a stream `Sync`, which a boxed body must be.
struct SyncStream<S>(Mutex<std::pin::Pin<Box<S>>>);

impl<S: futures_util::Stream> futures_util::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.get_mut().0.get_mut().as_mut().poll_next(context)
    }
}
