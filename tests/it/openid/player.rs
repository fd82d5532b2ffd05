//! A small server of a test: a function from a request to a response, at an address that it can leave and take again.
//!
//! A reply may also be one that no honest server sends: one that never comes, never ends, or breaks off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Method, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::agent;

/// A request.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub form: Vec<(String, String)>,
    pub headers: HeaderMap,
}

fn find(pairs: &[(String, String)], name: &str) -> String {
    pairs.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone()).unwrap_or_default()
}

impl Asked {
    /// A parameter of the query, or an empty text.
    pub fn query(&self, name: &str) -> String {
        find(&self.query, name)
    }

    /// A field of the form in the body, or an empty text.
    pub fn form(&self, name: &str) -> String {
        find(&self.form, name)
    }

    /// A header, or an empty text.
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }
}

/// A response of an honest server.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Answer {
    pub fn new(status: u16, kind: &str, body: impl Into<Bytes>) -> Self {
        Self { status, headers: vec![("content-type".to_owned(), kind.to_owned())], body: body.into() }
    }

    pub fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json; charset=utf-8", body.to_string())
    }

    pub fn text(status: u16, body: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body.to_owned())
    }

    pub fn html(status: u16, body: &str) -> Self {
        Self::new(status, "text/html; charset=utf-8", body.to_owned())
    }

    pub fn redirect(to: &str) -> Self {
        Self::text(302, "").header("location", to)
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The reply to a request.
#[derive(Clone, Debug)]
pub enum Reply {
    Answer(Answer),
    /// The connection stays open without a response.
    Never,
    /// Endless JSON, as fast as the client reads it.
    Flood,
    /// Endless JSON, one blank at a time.
    Drip,
    /// The connection breaks off in the middle of the body.
    HangUp,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

type Body = BoxBody<Bytes, std::io::Error>;
type Play = dyn Fn(Asked) -> Reply + Send + Sync;

/// A server that ends with all its connections on drop.
pub struct Player {
    address: SocketAddr,
    play: Arc<Play>,
    task: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Player {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Player").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Player {
    /// Starts a server at a free port.
    pub async fn start(play: impl Fn(Asked) -> Reply + Send + Sync + 'static) -> Self {
        let mut player = Self { address: ([127, 0, 0, 1], 0).into(), play: Arc::new(play), task: None };
        player.resume().await;
        player
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns to the same address.
    pub async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        self.task = Some(tokio::spawn(accept(listener, Arc::clone(&self.play))));
    }

    /// Leaves: breaks connections off and refuses new ones.
    pub async fn leave(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn accept(listener: TcpListener, play: Arc<Play>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else { return };
        while connections.try_join_next().is_some() {}
        let play = Arc::clone(&play);
        let service = service_fn(move |request| answer(request, Arc::clone(&play)));
        connections.spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
    }
}

async fn answer(request: hyper::Request<Incoming>, play: Arc<Play>) -> Result<Response<Body>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let asked = Asked {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: agent::pairs(head.uri.query().unwrap_or_default()),
        form: agent::pairs(&String::from_utf8_lossy(&body)),
        headers: head.headers,
    };
    let json = Response::builder().header("content-type", "application/json");
    let endless = |piece: Bytes, pause: Duration| {
        let begin = futures_util::stream::once(async { Ok(Frame::data(Bytes::from_static(b"{"))) });
        let rest = futures_util::stream::unfold(piece, move |piece| async move {
            tokio::time::sleep(pause).await;
            Some((Ok(Frame::data(piece.clone())), piece))
        });
        StreamBody::new(futures_util::StreamExt::chain(begin, rest)).boxed()
    };
    Ok(match play(asked) {
        Reply::Answer(answer) => {
            let mut response = Response::builder().status(answer.status);
            for (name, value) in &answer.headers {
                response = response.header(name, value);
            }
            response.body(Full::new(answer.body).map_err(|never| match never {}).boxed()).unwrap()
        }
        Reply::Never => std::future::pending().await,
        Reply::Flood => json.body(endless(vec![b' '; 64 << 10].into(), Duration::ZERO)).unwrap(),
        Reply::Drip => json.body(endless(Bytes::from_static(b" "), Duration::from_millis(50))).unwrap(),
        Reply::HangUp => {
            let parts = [Ok(Frame::data(Bytes::from_static(b"{"))), Err(std::io::Error::other("hung up"))];
            json.body(StreamBody::new(futures_util::stream::iter(parts)).boxed()).unwrap()
        }
    })
}
