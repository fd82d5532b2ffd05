//! [`AccessLogEntry`]: one log line, and one observation in the metrics, for every request. It is written when the response
//! has been sent, or when its client has disconnected.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use hyper::header;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use super::forwarded::ClientInfo;
use crate::identity::access::Identity;
use crate::kit::metrics::Metrics;
use crate::registry::Shared;

/// A request whose response has begun. It travels with the body of the response.
#[derive(Debug)]
pub(super) struct AccessLogEntry {
    metrics: Arc<Metrics>,
    method: Method,
    status: u16,
    started: Instant,
    /// `None` if the log level excludes access log lines.
    line: Option<Line>,
}

/// The caller of a request, for the log.
#[derive(Debug)]
pub(super) enum LoggedCaller {
    /// The request was refused before its caller was known.
    Unknown,
    Known(Identity),
    /// The host and the user of an upstream that decided about the request.
    OfUpstream(String),
}

impl LoggedCaller {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Unknown => None,
            Self::Known(identity) => identity.name(),
            Self::OfUpstream(user) => Some(user),
        }
    }
}

#[derive(Debug)]
struct Line {
    id: String,
    path: String,
    client: Option<IpAddr>,
    peer: Option<SocketAddr>,
    user: LoggedCaller,
    agent: Option<String>,
}

impl AccessLogEntry {
    pub(super) fn new(
        registry: &Shared,
        head: &Parts,
        id: String,
        from: ClientInfo<'_>,
        user: LoggedCaller,
        status: StatusCode,
        started: Instant,
    ) -> Self {
        let agent = || head.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
        let line = tracing::enabled!(target: "coracle::request", tracing::Level::INFO).then(|| Line {
            id,
            path: head.uri.path().to_owned(),
            client: from.address,
            peer: from.peer,
            user,
            agent: agent().map(str::to_owned),
        });
        let (metrics, method) = (Arc::clone(registry.metrics()), head.method.clone());
        Self { metrics, method, status: status.as_u16(), started, line }
    }

    /// Writes the entry. The client got `sent` bytes of the body and did not take the other `unsent` bytes.
    pub(super) fn write(self, sent: u64, unsent: u64) {
        let duration = self.started.elapsed();
        self.metrics.request(&self.method, self.status, duration, sent);
        let Some(Line { id, path, client, peer, user, agent }) = self.line else { return };
        // The response to a `HEAD` has a length and no body.
        let aborted = unsent > 0 && self.method != Method::HEAD;
        tracing::info!(
            target: "coracle::request",
            id,
            method = self.method.as_str(),
            path,
            status = self.status,
            bytes = sent,
            seconds = duration.as_secs_f64(),
            user = user.name(),
            client = client.map(tracing::field::display),
            peer = peer.map(tracing::field::display),
            agent,
            aborted,
        );
    }
}
