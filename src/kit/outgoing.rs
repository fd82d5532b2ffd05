//! The HTTP client for small requests to other servers. `mirror::client` is the one for other registries.
//!
//! Other servers are not trusted. Every request ends before its deadline. A response is read up to a limit. Nothing is
//! sent to a server whose certificate is not trusted or does not name the host. Redirects are not followed. Without TLS,
//! requests stay on this machine, unless the caller allows more. Error messages name the host, and never contain data that
//! was sent.
//!
//! A connection serves one HTTP/1.1 request, because requests are rare. Proxies of the environment are not used.

mod announced;
mod first_bytes;
#[cfg(test)]
mod tests;
#[cfg_attr(not(feature = "tls"), path = "outgoing/tls/absent.rs")]
mod tls;
mod trust;
#[cfg(feature = "tls")]
mod verifier;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::header::{self, HeaderValue};
use hyper::http::uri::{Authority, Scheme};
use hyper::{Request, Response, Uri, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::network::is_loopback;
use super::text::minute;
use announced::Announced;
use first_bytes::{FirstBytes, Recorded};
pub(crate) use tls::{Tls, TlsStream, protocol};
pub(crate) use trust::Trust;

/// The longest time of a request, from looking up the host to the last byte of the response.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// The largest body of a response. Discovery documents and keys have a few KiB, the groups of a user somewhat more.
pub(crate) const RESPONSE_BYTES_MAX: usize = 1024 * 1024;
/// The largest head of a response, in bytes and in fields.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEAD_FIELDS_MAX: usize = 100;
/// How many addresses of a host are tried, and for how long each.
const ADDRESSES_MAX: usize = 4;
const CONNECT_WAIT: Duration = Duration::from_secs(4);

/// The reason for which a build without the feature `tls` does not support `https://`.
pub(crate) const LACKS_TLS: &str = "https:// needs TLS, and this program was built without the feature tls";

/// The cause of [`HandshakeError::Certificate`] if no trusted authority signed the certificate.
const UNKNOWN_AUTHORITY: &str = "self-signed, or signed by an unknown authority";

const USER_AGENT: &str = concat!("coracle/", env!("CARGO_PKG_VERSION"));

/// The hosts to which requests may go without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Plain {
    /// This machine: `localhost`, and loopback addresses.
    #[default]
    Loopback,
    /// Every host. An attacker on the network can read and change the data.
    Anywhere,
}

/// The settings of a [`Client`].
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// A file with certificates (PEM) to trust, in addition to those of the platform.
    pub(crate) ca: Option<PathBuf>,
    /// Certificates (PEM) to trust, in addition to those of the platform.
    pub(crate) ca_pem: Option<String>,
    pub(crate) plain: Plain,
    /// Connect to this address instead of those of the host. The certificate must still name the host.
    pub(crate) connect_to: Option<SocketAddr>,
    pub(crate) deadline: Duration,
    pub(crate) response_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ca: None,
            ca_pem: None,
            plain: Plain::default(),
            connect_to: None,
            deadline: DEADLINE,
            response_bytes_max: RESPONSE_BYTES_MAX,
        }
    }
}

/// Sends requests. A clone is the same client.
#[derive(Clone)]
pub(crate) struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    /// Created when it is first needed, because reading the certificates of the platform takes long.
    tls: OnceLock<Tls>,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the URL {0}")]
    Url(&'static str),
    /// Without TLS, and to another machine.
    #[error("{host} is another machine, and http:// has no protection: use https://")]
    Plain { host: String },
    /// The file of certificates cannot be read, or the platform has no certificate authorities.
    #[error("{0}")]
    Trust(String),
    /// The host has no address, or no address responds.
    #[error("{host} cannot be reached: {cause}")]
    Unreachable { host: String, cause: String },
    /// The certificate of the host cannot be used.
    #[error("the certificate of {host} {}", fault.describe(cause))]
    Certificate { host: String, fault: CertificateFault, cause: String },
    #[error("{host} did not answer within {} s", after.as_secs_f32())]
    Deadline { host: String, after: Duration },
    #[error("the response of {host} has more than {bytes_max} bytes")]
    TooLarge { host: String, bytes_max: usize },
    #[error("{host} speaks plain HTTP on this port, not TLS: use http:// instead of https://")]
    SpeaksHttp { host: String },
    #[error("{host} speaks TLS on this port, not plain HTTP: use https:// instead of http://")]
    SpeaksTls { host: String },
    /// The response is not HTTP, is incomplete, or has an encoding that was not requested.
    #[error("the response of {host} cannot be read: {cause}")]
    Broken { host: String, cause: String },
}

/// Why the certificate of a server cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertificateFault {
    /// No trusted authority signed it, or the server refuses the client.
    Untrusted,
    /// It is for other names.
    OtherName,
    /// It expired at this time, in seconds since 1970.
    Expired(u64),
    /// It is valid from this time on, in seconds since 1970.
    NotYetValid(u64),
}

impl CertificateFault {
    /// The predicate of a sentence about the certificate. `cause` is that of [`HandshakeError::Certificate`].
    pub(crate) fn describe(self, cause: &str) -> String {
        match self {
            Self::Untrusted if cause == UNKNOWN_AUTHORITY => format!("is not trusted: it is {cause}"),
            Self::Untrusted => format!("is not trusted: {cause}"),
            Self::OtherName => format!("is not for this name, but for {cause}"),
            Self::Expired(until) => format!("expired at {}", minute(until)),
            Self::NotYetValid(from) => format!("is not valid before {}", minute(from)),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

/// The body of a request.
type Outgoing = BoxBody<Bytes, Infallible>;

/// The server of a request.
struct Target {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    host: String,
    port: u16,
    tls: bool,
}

impl Client {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { shared: Arc::new(Shared { settings, tls: OnceLock::new() }) }
    }

    /// Sends a request with an absolute URL, and returns the response, of any status. Sets `Host` and `User-Agent`. Does not
    /// support cookies, redirects and compression.
    pub(crate) async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Error> {
        self.send_body(request.map(|body| Full::new(body.into()).boxed())).await
    }

    /// Sends a request without its body, which has this many bytes, and returns the response. A server that waits for the
    /// body lets the request reach the deadline.
    pub(crate) async fn announce(&self, request: Request<()>, length: u64) -> Result<Response<Vec<u8>>, Error> {
        self.send_body(request.map(|()| Announced { length }.boxed())).await
    }

    async fn send_body(&self, request: Request<Outgoing>) -> Result<Response<Vec<u8>>, Error> {
        let settings = &self.shared.settings;
        let target = Target::of(request.uri())?;
        if !target.tls && settings.plain == Plain::Loopback && !is_loopback(&target.host) {
            return Err(Error::Plain { host: target.host });
        }
        let host = target.host.clone();
        // Boxed, because the state of TLS and HTTP is large.
        let exchange = Box::pin(self.exchange(&target, request));
        let exchange = tokio::time::timeout(settings.deadline, exchange);
        exchange.await.unwrap_or(Err(Error::Deadline { host, after: settings.deadline }))
    }

    async fn exchange(&self, target: &Target, request: Request<Outgoing>) -> Result<Response<Vec<u8>>, Error> {
        let host = &target.host;
        // Before connecting, so that an unreadable file of certificates is reported first.
        let tls = if target.tls { Some(self.tls().await?) } else { None };
        let (stream, first_bytes) = Recorded::new(connect(target, &self.shared.settings).await?);
        let Some(tls) = tls else {
            let answer = self.ask(stream, target, request).await;
            return if expects_tls(&answer, &first_bytes) {
                Err(Error::SpeaksTls { host: host.clone() })
            } else {
                answer
            };
        };
        let stream = tls.connect(host.clone(), stream).await;
        self.ask(stream.map_err(|error| error.at(host, &first_bytes))?, target, request).await
    }

    async fn ask<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        target: &Target,
        request: Request<Outgoing>,
    ) -> Result<Response<Vec<u8>>, Error> {
        let host = &target.host;
        let bytes_max = self.shared.settings.response_bytes_max;
        let broken = |error: hyper::Error| Error::Broken { host: host.clone(), cause: causes(&error) };
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEAD_FIELDS_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let asking = async {
            let response = sender.send_request(prepare(request, target)?).await.map_err(broken)?;
            let (head, body) = response.into_parts();
            if head.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
                let cause = "it has a content encoding that was not requested".to_owned();
                return Err(Error::Broken { host: host.clone(), cause });
            }
            let body = Limited::new(body, bytes_max).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Error::TooLarge { host: host.clone(), bytes_max }
                } else {
                    Error::Broken { host: host.clone(), cause: causes(&*error) }
                }
            })?;
            Ok(Response::from_parts(head, body.to_bytes().to_vec()))
        };
        // The connection has no task of its own, so that it ends with the request.
        let mut asking = std::pin::pin!(asking);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            answer = &mut asking => answer,
            // The connection ended. The response may have arrived before.
            _ = &mut connection => asking.await,
        }
    }

    /// The trusted certificates.
    async fn tls(&self) -> Result<Tls, Error> {
        if let Some(tls) = self.shared.tls.get() {
            return Ok(tls.clone());
        }
        let settings = &self.shared.settings;
        let (authorities, pem) = (settings.ca.iter().cloned().collect(), settings.ca_pem.clone());
        let trust = Trust { authorities, pem, ..Trust::default() };
        let made = tokio::task::spawn_blocking(move || Tls::new(&trust, &[b"http/1.1"])).await;
        let made = made.map_err(|error| Error::Trust(error.to_string()))??;
        Ok(self.shared.tls.get_or_init(|| made).clone())
    }
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, Error> {
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(Error::Url("does not begin with https:// or http://")),
        };
        let authority = uri.authority().ok_or(Error::Url("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(Error::Url("contains a user name or a password"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(Error::Url("has no host"));
        }
        let port = match (authority.port_u16(), tls) {
            (Some(port), _) => port,
            (None, _) if has_port(authority) => return Err(Error::Url("has a port that is not a number up to 65535")),
            (None, true) => 443,
            (None, false) => 80,
        };
        Ok(Self { host, port, tls })
    }
}

/// Whether the authority has a port.
fn has_port(authority: &Authority) -> bool {
    authority.as_str().len() > authority.host().len()
}

/// Prepares a request for the connection: moves the host from the URL to the header.
fn prepare(request: Request<Outgoing>, target: &Target) -> Result<Request<Outgoing>, Error> {
    let (mut head, body) = request.into_parts();
    let name = head.uri.authority().map_or("", Authority::as_str).to_owned();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    head.uri = path.parse().map_err(|_| Error::Url("has an invalid path"))?;
    head.version = hyper::Version::HTTP_11;
    let default_port = if target.tls { ":443" } else { ":80" };
    let host = name.strip_suffix(default_port).unwrap_or(&name);
    let host = HeaderValue::from_str(host).map_err(|_| Error::Url("has an invalid host"))?;
    head.headers.insert(header::HOST, host);
    head.headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(Request::from_parts(head, body))
}

async fn connect(target: &Target, settings: &Settings) -> Result<TcpStream, Error> {
    let Target { host, port, tls } = target;
    let unreachable = |cause: String| Error::Unreachable { host: host.clone(), cause };
    let mut found: Vec<SocketAddr> = if let Some(address) = settings.connect_to {
        vec![address]
    } else {
        let found = tokio::net::lookup_host((host.as_str(), *port)).await;
        found.map_err(|error| unreachable(error.to_string()))?.collect()
    };
    if !tls && settings.plain == Plain::Loopback {
        // A name server decides about `localhost`, too.
        found.retain(|address| address.ip().is_loopback());
    }
    let mut last = "it has no address".to_owned();
    for address in found.into_iter().take(ADDRESSES_MAX) {
        last = match tokio::time::timeout(CONNECT_WAIT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
                return Ok(stream);
            }
            Ok(Err(error)) => format!("{address}: {error}"),
            Err(_) => format!("{address}: it did not answer"),
        };
    }
    Err(unreachable(last))
}

/// Whether a server that got plain HTTP expects TLS. Some servers send an alert. Others, such as coracle, nginx and
/// servers in Go, send a 400 that mentions HTTPS.
fn expects_tls(answer: &Result<Response<Vec<u8>>, Error>, first_bytes: &FirstBytes) -> bool {
    let names_https = |body: &[u8]| body.windows(5).any(|part| part.eq_ignore_ascii_case(b"https"));
    match answer {
        Ok(answer) => answer.status().as_u16() == 400 && names_https(answer.body()),
        Err(_) => first_bytes.is_tls(),
    }
}

/// Why a handshake failed.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// The host is not a name that a certificate can have.
    Name,
    /// The server does not speak TLS.
    NotTls,
    /// The certificate of the server cannot be used, or the server refuses the client.
    Certificate(CertificateFault, String),
    /// The connection ended.
    Broken(io::Error),
}

impl HandshakeError {
    fn at(self, host: &str, first_bytes: &FirstBytes) -> Error {
        let host = host.to_owned();
        match self {
            Self::Name => Error::Url("has a host that is not a name"),
            _ if first_bytes.is_http() => Error::SpeaksHttp { host },
            Self::NotTls => Error::Broken { host, cause: "the server speaks neither TLS nor HTTP".to_owned() },
            Self::Certificate(fault, cause) => Error::Certificate { host, fault, cause },
            Self::Broken(error) => Error::Unreachable { host, cause: error.to_string() },
        }
    }
}

/// An error with its causes. A cause that the text ends with already is left out.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.extend([": ", &cause_text]);
        }
        next = cause.source();
    }
    text
}
