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
use crate::kit::shown_address::ShownAddress;
use crate::kit::traces::{Ended, RequestSpan};
use crate::registry::Shared;

/// A request whose response has begun. It travels with the body of the response.
#[derive(Debug)]
pub(super) struct AccessLogEntry {
    metrics: Arc<Metrics>,
    method: Method,
    status: u16,
    started: Instant,
    id: String,
    client: Option<IpAddr>,
    peer: Option<SocketAddr>,
    span: Option<RequestSpan>,
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
    path: String,
    user: LoggedCaller,
    agent: Option<String>,
}

impl AccessLogEntry {
    pub(super) fn new(
        registry: &Shared,
        head: &Parts,
        (id, span): (String, Option<RequestSpan>),
        from: ClientInfo<'_>,
        user: LoggedCaller,
        status: StatusCode,
        started: Instant,
    ) -> Self {
        let agent = || head.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
        let line = tracing::enabled!(target: "coracle::request", tracing::Level::INFO).then(|| Line {
            path: head.uri.path().to_owned(),
            user,
            agent: agent().map(str::to_owned),
        });
        let (metrics, method) = (Arc::clone(registry.metrics()), head.method.clone());
        let (client, peer) = (from.address, from.peer);
        Self { metrics, method, status: status.as_u16(), started, id, client, peer, span, line }
    }

    /// Writes the entry. The client got `sent` bytes of the body and did not take the other `unsent` bytes.
    pub(super) fn write(self, sent: u64, unsent: u64) {
        let duration = self.started.elapsed();
        self.metrics.request(&self.method, self.status, duration, sent);
        // The response to a `HEAD` has a length and no body.
        let aborted = unsent > 0 && self.method != Method::HEAD;
        let Self { id, client, peer, .. } = self;
        if let Some(span) = &self.span {
            let (status, peer) = (self.status, peer.map(|peer| peer.ip()));
            span.end(&Ended { status, sent, is_aborted: aborted, client, peer, id: &id });
        }
        let Some(Line { path, user, agent }) = self.line else { return };
        tracing::info!(
            target: "coracle::request",
            id,
            method = self.method.as_str(),
            path,
            status = self.status,
            bytes = sent,
            seconds = duration.as_secs_f64(),
            user = user.name(),
            client = client.map(|ip| tracing::field::display(ShownAddress::Ip(ip))),
            peer = peer.map(|peer| tracing::field::display(ShownAddress::Socket(peer))),
            agent,
            aborted,
            trace = self.span.as_ref().map(RequestSpan::trace_id),
        );
    }
}
