//! [`Transport`]: sends single requests over pooled connections. Follows no redirect and repeats nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy::{self, Client};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;
use url::Url;

use super::Error;
use super::connector::{ConnectError, Connector};
use crate::kit::outgoing::{Trust, causes};
use crate::kit::traces::UpstreamSpan;

/// The largest head of a response in bytes, in HTTP/2.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// The buffer of an HTTP/1.1 connection in bytes. It limits the head of a response, and holds the bytes of one read.
const BUFFER_BYTES: usize = 256 * 1024;
/// How long an unused connection stays open.
const POOL_IDLE: Duration = Duration::from_secs(55);
/// How often a silent HTTP/2 connection is probed while requests wait on it.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// The window of an HTTP/2 stream. With less, the round trip limits the speed of a blob: 8 MiB allow 80 MB/s at 100 ms.
const STREAM_WINDOW: u32 = 8 * 1024 * 1024;

const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("coracle/", env!("CARGO_PKG_VERSION")));

#[derive(Clone, Debug)]
pub(crate) struct TransportSettings {
    pub(crate) trust: Trust,
    pub(crate) http2: bool,
    pub(crate) idle_connections: usize,
    /// The proxies to use. Usually those of the environment.
    pub(crate) proxies: Arc<Matcher>,
}

impl Default for TransportSettings {
    fn default() -> Self {
        Self { trust: Trust::default(), http2: true, idle_connections: 8, proxies: Arc::new(Matcher::from_env()) }
    }
}

/// A clone uses the same connections.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    client: Client<Connector, Full<Bytes>>,
    proxies: Arc<Matcher>,
}

impl Transport {
    pub(crate) fn new(settings: &TransportSettings) -> Result<Self, Error> {
        let connector = Connector::new(settings)?;
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(settings.idle_connections)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http1_max_buf_size(BUFFER_BYTES)
            .http1_max_headers(100)
            .http2_max_header_list_size(HEAD_BYTES_MAX)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(2 * STREAM_WINDOW)
            .http2_keep_alive_interval(PING_INTERVAL)
            .build(connector);
        Ok(Self { client, proxies: Arc::clone(&settings.proxies) })
    }

    /// Sends a request, and returns the head of its response.
    pub(crate) async fn send(
        &self,
        method: &Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Error> {
        let host = host_of(url);
        let invalid = |error: &dyn std::fmt::Display| Error::Url(format!("{host}: {error}"));
        let uri: Uri = url.as_str().parse().map_err(|error: hyper::http::uri::InvalidUri| invalid(&error))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.headers_mut() = headers;
        request.headers_mut().insert(header::USER_AGENT, USER_AGENT);
        // A proxy for plain HTTP gets its password with each request. One for TLS gets it with CONNECT.
        if url.scheme() == "http"
            && let Some(password) = self.proxies.intercept(&uri).and_then(|proxy| proxy.basic_auth().cloned())
        {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, password);
        }
        *request.uri_mut() = uri;
        let span = UpstreamSpan::begin(method, url, request.headers_mut());
        let answered = self.client.request(request).await;
        span.end(answered.as_ref().ok().map(|answered| answered.status().as_u16()));
        answered.map_err(|error| failure(host, &error))
    }
}

/// The error of a request that got no response.
fn failure(host: String, error: &legacy::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(next) = cause {
        match next.downcast_ref::<ConnectError>() {
            Some(ConnectError::Certificate { fault, is_untrusted }) => {
                return Error::Certificate { host, fault: fault.clone(), is_untrusted: *is_untrusted };
            }
            Some(ConnectError::Timeout(after)) => return Error::Timeout { host, after: *after },
            Some(other @ (ConnectError::Unreachable(_) | ConnectError::Proxy(_))) => {
                return Error::Unreachable { host, cause: other.to_string() };
            }
            None => cause = next.source(),
        }
    }
    if error.is_connect() {
        return Error::Unreachable { host, cause: causes(error) };
    }
    Error::broken(&host, error)
}

/// Host and port of the URL of an upstream. Fails if the URL is unusable.
pub(super) fn checked_host(url: &Url) -> Result<String, Error> {
    let host = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https"));
    let host = host.ok_or_else(|| Error::Url(format!("{url} must begin with https:// or http:// and name a host")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::Url(format!("the URL of {host} must not contain a user name or a password")));
    }
    Ok(host_of(url))
}

/// Host and port of a URL, for messages.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Reads a body of at most `limit` bytes, whose parts arrive within `idle` of each other.
pub(crate) async fn collect(host: &str, mut body: Incoming, limit: usize, idle: Duration) -> Result<Bytes, Error> {
    let mut bytes = BytesMut::new();
    loop {
        let frame = timeout(idle, body.frame()).await;
        let frame = frame.map_err(|_| Error::Timeout { host: host.to_owned(), after: idle })?;
        let Some(frame) = frame else { return Ok(bytes.freeze()) };
        let frame = frame.map_err(|error| Error::broken(host, &error))?;
        let Ok(part) = frame.into_data() else { continue };
        if bytes.len() + part.len() > limit {
            return Err(Error::TooLarge { host: host.to_owned(), limit });
        }
        bytes.extend_from_slice(&part);
    }
}
