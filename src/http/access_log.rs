//! [`AccessLogEntry`]: one log line, and one observation in the metrics, for every request.
//!
//! An HTTP/1.1 connection writes that of a large response when its last byte has gone to the socket, or when the connection
//! has ended. Otherwise the body writes it when it is dropped. Over HTTP/2, the library may then hold a few pieces that
//! the client has not taken.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

use super::forwarded::ClientInfo;
use crate::identity::access::Identity;
use crate::kit::access_log::{AccessLine, AccessLog};
use crate::kit::metrics::Metrics;
use crate::kit::traces::{Ended, RequestSpan};
use crate::registry::Shared;

/// The status of a request whose client left before the response, as in nginx.
pub(super) const CLIENT_GONE: u16 = 499;
/// The most bytes of a path in a line. Those of valid requests are shorter.
const PATH_BYTES_MAX: usize = 1024;

/// A request whose response has begun. It travels with the body of the response, and then with an [`EndedBody`].
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
    /// `None` if nothing takes lines about requests.
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
    log: AccessLog,
    path: String,
    user: LoggedCaller,
    agent: Option<String>,
}

impl AccessLogEntry {
    /// Writes the entry. `sent` bytes of the body went to the client. `aborted` is whether the response was not sent whole.
    pub(super) fn write(self, sent: u64, aborted: bool) {
        let duration = self.started.elapsed();
        self.metrics.request(&self.method, self.status, duration, sent);
        let Self { id, client, peer, .. } = self;
        if let Some(span) = &self.span {
            let (status, peer) = (self.status, peer.map(|peer| peer.ip()));
            span.end(&Ended { status, sent, is_aborted: aborted, client, peer, id: &id });
        }
        let Some(Line { log, path, user, agent }) = self.line else { return };
        log.write(&AccessLine {
            id: &id,
            method: self.method.as_str(),
            path: &path,
            status: self.status,
            bytes: sent,
            duration,
            user: user.name(),
            client,
            peer,
            agent: agent.as_deref(),
            aborted,
            trace: self.span.as_ref().map(RequestSpan::trace_id).as_deref(),
        });
    }
}

/// A request that is being answered. Its client may leave before that, and then the handler is dropped: so this writes the
/// log entry when it is dropped without a response.
#[derive(Debug)]
pub(super) struct Unanswered<'a> {
    pub(super) registry: &'a Shared,
    pub(super) head: &'a Parts,
    pub(super) client: ClientInfo<'a>,
    pub(super) agent: &'a str,
    pub(super) id: String,
    pub(super) span: Option<RequestSpan>,
    pub(super) started: Instant,
    pub(super) is_answered: bool,
}

impl Unanswered<'_> {
    /// The log entry of the response.
    pub(super) fn answered(mut self, caller: LoggedCaller, status: StatusCode) -> AccessLogEntry {
        self.entry(caller, status.as_u16())
    }

    fn entry(&mut self, caller: LoggedCaller, status: u16) -> AccessLogEntry {
        self.is_answered = true;
        let path = self.head.uri.path();
        let log = self.registry.access_log();
        let line = log.is_enabled().then(|| Line {
            log: log.clone(),
            path: path[..path.floor_char_boundary(PATH_BYTES_MAX)].to_owned(),
            user: caller,
            agent: Some(self.agent).filter(|agent| !agent.is_empty()).map(str::to_owned),
        });
        AccessLogEntry {
            metrics: Arc::clone(self.registry.metrics()),
            method: self.head.method.clone(),
            status,
            started: self.started,
            id: std::mem::take(&mut self.id),
            client: self.client.address,
            peer: self.client.peer,
            span: self.span.take(),
            line,
        }
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            let status =
                if std::thread::panicking() { StatusCode::INTERNAL_SERVER_ERROR.as_u16() } else { CLIENT_GONE };
            self.entry(LoggedCaller::Unknown, status).write(0, true);
        }
    }
}

/// A response body that has ended, with its log entry. The connection may still write bytes that the body has handed out.
#[derive(Debug)]
pub(crate) struct EndedBody {
    entry: Box<AccessLogEntry>,
    /// The bytes that the body has handed out.
    handed_out: u64,
    /// Whether these are all bytes of the body.
    is_whole: bool,
}

impl EndedBody {
    pub(super) const fn new(entry: Box<AccessLogEntry>, handed_out: u64, is_whole: bool) -> Self {
        Self { entry, handed_out, is_whole }
    }

    /// The bytes that the body has handed out.
    pub(crate) const fn handed_out(&self) -> u64 {
        self.handed_out
    }

    /// Whether the body has handed out all its bytes.
    pub(crate) const fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Writes the log entry of a response that was sent whole.
    pub(crate) fn log_sent(self) {
        self.entry.write(self.handed_out, false);
    }

    /// Writes the log entry of a response that was not sent whole. The last `unsent` bytes that the body has handed out did
    /// not go to the socket. It may be more than the body has handed out.
    pub(crate) fn log_aborted(self, unsent: u64) {
        self.entry.write(self.handed_out.saturating_sub(unsent), true);
    }
}
