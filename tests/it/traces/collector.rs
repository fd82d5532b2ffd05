//! A collector of OpenTelemetry: it takes spans by OTLP over HTTP, refuses them, answers late, or is away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::HeaderMap;
use hyper::{Request, Response, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::{Map, Value};

use crate::support::restarting::Restarting;

const PATIENCE: Duration = Duration::from_mins(1);

/// A span that was taken.
#[derive(Clone, Debug)]
pub struct Taken {
    pub name: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    /// 2 for a request that was answered, 3 for one that was sent.
    pub kind: i32,
    pub is_error: bool,
    pub attributes: Map<String, Value>,
    pub resource: Map<String, Value>,
}

#[derive(Debug, Default)]
struct State {
    taken: Vec<Taken>,
    heads: Vec<HeaderMap>,
    status: Option<u16>,
    delay: Duration,
}

/// A collector on a port of its own, which it keeps when it is stopped and started again.
pub struct Collector {
    server: Restarting,
    state: Arc<Mutex<State>>,
}

impl Collector {
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
        format!("http://{}", self.server.address())
    }

    /// Answers with this status, and takes nothing.
    pub fn refuse(&self, status: Option<u16>) {
        self.state.lock().status = status;
    }

    pub fn delay(&self, delay: Duration) {
        self.state.lock().delay = delay;
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.state.lock().taken.clone()
    }

    /// The headers of every request.
    pub fn heads(&self) -> Vec<HeaderMap> {
        self.state.lock().heads.clone()
    }

    /// Waits until the taken spans satisfy a condition.
    pub async fn until(&self, what: &str, holds: impl Fn(&[Taken]) -> bool) -> Vec<Taken> {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&self.taken()) {
            assert!(Instant::now() < deadline, "{what}: {:#?}", self.taken());
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
    assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/v1/traces"));
    assert_eq!(head.headers["content-type"], "application/x-protobuf");
    let (delay, status) = {
        let mut state = state.lock();
        state.heads.push(head.headers);
        (state.delay, state.status)
    };
    tokio::time::sleep(delay).await;
    let mut response = Response::new(Full::default());
    match status {
        Some(status) => {
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            // The client must not take this for a server that expects TLS.
            *response.body_mut() = Full::from("see https://collector.example/errors");
        }
        None => state.lock().taken.extend(spans(&body)),
    }
    Ok(response)
}

fn spans(body: &[u8]) -> Vec<Taken> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let mut taken = Vec::new();
    for of_resource in request.resource_spans {
        let resource = map(of_resource.resource.unwrap().attributes);
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            assert!(span.end_time_unix_nano >= span.start_time_unix_nano && span.start_time_unix_nano > 0);
            taken.push(Taken {
                name: span.name,
                trace: hex::encode(span.trace_id),
                id: hex::encode(span.span_id),
                parent: hex::encode(span.parent_span_id),
                kind: span.kind,
                is_error: span.status.is_some_and(|status| status.code == 2),
                attributes: map(span.attributes),
                resource: resource.clone(),
            });
        }
    }
    taken
}

fn map(attributes: Vec<KeyValue>) -> Map<String, Value> {
    let value = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Any::StringValue(text)) => text.into(),
        Some(Any::IntValue(number)) => number.into(),
        other => panic!("{other:?}"),
    };
    attributes.into_iter().map(|attribute| (attribute.key, value(attribute.value))).collect()
}
