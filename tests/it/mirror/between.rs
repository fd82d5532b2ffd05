//! [`Between`]: a proxy before an upstream. It counts requests, and misbehaves as a test wants.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

type Body = BoxBody<Bytes, std::io::Error>;

/// The behaviour of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    Forward,
    /// Never answers.
    Hang,
    /// Answers with this status.
    Status(u16),
    /// Breaks the connection after this many bytes of a blob.
    Cut(usize),
    /// Changes the last byte of a blob.
    Corrupt,
    /// Sends half of a blob, and the rest when the mode changes.
    Half,
}

/// A proxy on a free port, for the length of a test.
#[derive(Clone, Debug)]
pub struct Between {
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    counts: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Between {
    /// A proxy before the server at an address.
    pub async fn before(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Self { address, mode: watch::Sender::new(Mode::Forward), counts: Arc::default() };
        let served = proxy.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = served.clone();
                let service = service_fn(move |request| {
                    let served = served.clone();
                    async move { served.answer(request, upstream).await }
                });
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { connection.await.ok() });
            }
        });
        proxy
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many requests had this method, and a path with this text.
    pub fn count(&self, method: &str, text: &str) -> usize {
        let counts = self.counts.lock();
        let fits = |line: &&String| line.starts_with(&format!("{method} ")) && line.contains(text);
        counts.keys().filter(fits).map(|line| counts[line]).sum()
    }

    /// How many requests there were.
    pub fn total(&self) -> usize {
        self.counts.lock().values().sum()
    }

    async fn answer(&self, request: Request<Incoming>, upstream: SocketAddr) -> Result<Response<Body>, Infallible> {
        let line = format!("{} {}", request.method(), request.uri());
        let is_blob = line.starts_with("GET ") && line.contains("/blobs/");
        *self.counts.lock().entry(line).or_default() += 1;
        let mode = self.mode.borrow().clone();
        match mode {
            Mode::Hang => std::future::pending().await,
            Mode::Status(status) => {
                let body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed();
                return Ok(Response::builder().status(status).body(body).unwrap());
            }
            _ => {}
        }
        let stream = TcpStream::connect(upstream).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(async move { connection.await.ok() });
        let (head, _) = request.into_parts();
        let response = sender.send_request(Request::from_parts(head, Empty::<Bytes>::new())).await.unwrap();
        let (head, body) = response.into_parts();
        if !is_blob || mode == Mode::Forward || !head.status.is_success() {
            let body = body.map_err(std::io::Error::other).boxed();
            return Ok(Response::from_parts(head, body));
        }
        let content = body.collect().await.unwrap().to_bytes();
        Ok(Response::from_parts(head, self.spoilt(mode, content)))
    }

    /// The body of a blob as the mode has it.
    fn spoilt(&self, mode: Mode, content: Bytes) -> Body {
        let (pieces, waiting) = mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
        let mut mode_changes = self.mode.subscribe();
        tokio::spawn(async move {
            let (first, rest) = match mode {
                Mode::Cut(length) => {
                    let length = length.min(content.len());
                    let _ = pieces.send(Ok(Frame::data(content.slice(..length)))).await;
                    let _ = pieces.send(Err(std::io::Error::other("cut"))).await;
                    return;
                }
                Mode::Corrupt => {
                    let mut wrong = content.to_vec();
                    *wrong.last_mut().unwrap() ^= 1;
                    (Bytes::from(wrong), Bytes::new())
                }
                _ => (content.slice(..content.len() / 2), content.slice(content.len() / 2..)),
            };
            let _ = pieces.send(Ok(Frame::data(first))).await;
            if !rest.is_empty() {
                let _ = mode_changes.wait_for(|mode| *mode != Mode::Half).await;
                let _ = pieces.send(Ok(Frame::data(rest))).await;
            }
        });
        let stream = futures_util::stream::unfold(waiting, |mut waiting| async move {
            waiting.recv().await.map(|piece| (piece, waiting))
        });
        http_body_util::BodyExt::boxed(StreamBody::new(Box::pin(SyncStream(Mutex::new(Box::pin(stream))))))
    }
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
