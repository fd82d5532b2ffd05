//! A webhook receiver: it takes events, refuses them, answers late, or is away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_mins(1);

/// An event that was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Taken {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {:?}", self.headers)).to_str().unwrap()
    }

    pub fn data(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The last part of the type, the repository and the reference.
    pub fn line(&self) -> String {
        let (kind, data) = (self.header("ce-type").strip_prefix("zotregistry.").unwrap().to_owned(), self.data());
        let line =
            format!("{kind} {} {}", data["name"].as_str().unwrap(), data["reference"].as_str().unwrap_or_default());
        line.trim_end().to_owned()
    }
}

#[derive(Debug, Default)]
struct State {
    taken: Vec<Taken>,
    /// The status for events whose reference contains a text.
    refuses: Option<(u16, String)>,
    /// How long an answer takes.
    delay: Duration,
}

/// A receiver on a port of its own, which it keeps when it is stopped and started again.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: Option<JoinHandle<()>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut receiver = Self { address: listener.local_addr().unwrap(), state: Arc::default(), task: None };
        receiver.serve(listener);
        receiver
    }

    fn serve(&mut self, listener: TcpListener) {
        let state = Arc::clone(&self.state);
        self.task = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&state);
                let service = service_fn(move |request| answer(Arc::clone(&state), request));
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
                connections.spawn(async move { drop(connection.await) });
            }
        }));
    }

    /// Ends it with all its connections.
    pub async fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Starts it again on its port.
    pub fn restart(&mut self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.serve(socket.listen(64).unwrap());
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Answers events with this status if their reference contains a text.
    pub fn refuse(&self, refuses: Option<(u16, &str)>) {
        self.state.lock().refuses = refuses.map(|(status, text)| (status, text.to_owned()));
    }

    pub fn delay(&self, delay: Duration) {
        self.state.lock().delay = delay;
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.state.lock().taken.clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.taken().iter().map(Taken::line).collect()
    }

    /// Waits until the taken events satisfy a condition.
    pub async fn until(&self, what: &str, holds: impl Fn(&[String]) -> bool) -> Vec<Taken> {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&self.lines()) {
            assert!(Instant::now() < deadline, "{what}: {:#?}", self.lines());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.taken()
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let delay = state.lock().delay;
    tokio::time::sleep(delay).await;
    let mut state = state.lock();
    let taken = Taken { headers: head.headers, body };
    let mut response = Response::new(Full::new(Bytes::from_static(b"no thanks")));
    match &state.refuses {
        Some((status, text)) if taken.line().contains(text.as_str()) => {
            *response.status_mut() = StatusCode::from_u16(*status).unwrap();
        }
        _ => state.taken.push(taken),
    }
    Ok(response)
}
