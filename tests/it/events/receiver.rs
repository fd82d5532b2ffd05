//! A webhook receiver: it takes events, refuses them, answers late, or is away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::HeaderMap;
use hyper::{Request, Response, StatusCode};
use parking_lot::Mutex;
use serde_json::Value;

use crate::support::restarting::Restarting;

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
pub struct Receiver {
    server: Restarting,
    state: Arc<Mutex<State>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let server = Restarting::start(move |request| answer(Arc::clone(&shared), request)).await;
        Self { server, state }
    }

    pub async fn stop(&mut self) {
        self.server.stop().await;
    }

    pub fn restart(&mut self) {
        self.server.restart();
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.server.address())
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
