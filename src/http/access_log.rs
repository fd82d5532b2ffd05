//! One log line and one observation in the metrics for every request, when its answer has been sent
//! or its client has gone.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::{Method, Response};

use super::Body;
use crate::identity::access::Identity;
use crate::kit::metrics::Metrics;
use crate::registry::Shared;

/// What is learned of a request on its way.
#[derive(Debug, Default)]
pub(super) struct Subject {
    pub(super) caller: Option<Identity>,
    /// Cookies to set, whatever the answer is.
    pub(super) cookies: Vec<HeaderValue>,
}

/// A request whose answer is known.
#[derive(Debug)]
pub(super) struct AccessLogEntry<'a> {
    pub(super) registry: &'a Shared,
    /// Where the client is, as far as trusted proxies know it.
    pub(super) client: Option<IpAddr>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) head: &'a Parts,
    pub(super) id: String,
    pub(super) subject: Subject,
    pub(super) started: Instant,
}

/// Travels with the body of an answer, and reports when that ends.
#[derive(Debug)]
pub(super) struct Observer {
    metrics: Arc<Metrics>,
    method: Method,
    status: u16,
    started: Instant,
    /// Nothing, if nobody reads the log at this level.
    line: Option<Line>,
}

#[derive(Debug)]
struct Line {
    id: String,
    path: String,
    client: Option<IpAddr>,
    peer: Option<SocketAddr>,
    user: Option<Identity>,
    agent: Option<String>,
}

impl AccessLogEntry<'_> {
    /// Lets the answer's body report when it ends.
    pub(super) fn watch(self, mut response: Response<Body>) -> Response<Body> {
        let line = tracing::enabled!(target: "coracle::request", tracing::Level::INFO).then(|| Line {
            id: self.id,
            path: self.head.uri.path().to_owned(),
            client: self.client,
            peer: self.peer,
            user: self.subject.caller,
            agent: self
                .head
                .headers
                .get(hyper::header::USER_AGENT)
                .and_then(|agent| agent.to_str().ok())
                .map(str::to_owned),
        });
        let observer = Observer {
            metrics: Arc::clone(self.registry.metrics()),
            method: self.head.method.clone(),
            status: response.status().as_u16(),
            started: self.started,
            line,
        };
        response.body_mut().observe(observer);
        response
    }
}

impl Observer {
    /// The answer has ended; `unsent` bytes of it were never asked for.
    pub(super) fn ended(self, sent: u64, unsent: u64) {
        let duration = self.started.elapsed();
        self.metrics.request(&self.method, self.status, duration, sent);
        let Some(Line { id, path, client, peer, user, agent }) = self.line else { return };
        // A `HEAD` has a length and no body, and its client is not gone.
        let aborted = unsent > 0 && self.method != Method::HEAD;
        tracing::info!(
            target: "coracle::request",
            id,
            method = self.method.as_str(),
            path,
            status = self.status,
            bytes = sent,
            seconds = duration.as_secs_f64(),
            user = user.as_ref().and_then(Identity::name),
            client = client.map(tracing::field::display),
            peer = peer.map(tracing::field::display),
            agent,
            aborted,
        );
    }
}
