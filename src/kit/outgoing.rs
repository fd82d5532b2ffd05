//! The one HTTP client of the program: for providers of identities, and for `coracle login`.
//!
//! Another server may be slow, talk for ever, or be somebody else. Invariant: every request ends before its
//! deadline, whatever the other side does; no more of an answer is read than the limit; a certificate that does not
//! name the host, or that nobody trusted has signed, ends the connection before anything is sent; no redirect is
//! followed, so that what is sent goes to the host that was named and to no other; without TLS nothing leaves the
//! machine, unless the caller says that it may. What is sent is in no message: an error names the host and no more.
//!
//! A connection serves one request (HTTP/1.1): requests are rare, and none waits for one that hangs. Proxies of the
//! environment are not used. Knows nothing of sign-in or of registries.

mod heard;
#[cfg(test)]
mod tests;
mod trust;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::header::{self, HeaderValue};
use hyper::http::uri::{Authority, Scheme};
use hyper::{Request, Response, Uri, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use heard::{Beginning, Heard};

/// How long a request takes at most, from looking the host up to the last byte of the answer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// How much of an answer's body is read. Discovery documents and keys are a few KiB, a person's groups some more.
pub(crate) const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// How many bytes the head of an answer may have, and how many fields.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEAD_FIELDS_MAX: usize = 100;
/// How many of a host's addresses are tried, one after another, and how long each.
const ADDRESSES_MAX: usize = 4;
const CONNECT_WAIT: Duration = Duration::from_secs(4);

const USER_AGENT: &str = concat!("coracle/", env!("CARGO_PKG_VERSION"));

/// Where a request may go without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Plain {
    /// To this machine: `localhost`, and addresses that are loopback.
    #[default]
    Loopback,
    /// Anywhere: whoever is on the way reads and changes what they like.
    Anywhere,
}

/// How a [`Client`] asks.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// A file with certificates (PEM) to trust, besides those that the platform trusts.
    pub(crate) ca: Option<PathBuf>,
    pub(crate) plain: Plain,
    pub(crate) deadline: Duration,
    pub(crate) answer_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { ca: None, plain: Plain::default(), deadline: DEADLINE, answer_bytes_max: ANSWER_BYTES_MAX }
    }
}

/// Sends requests. A clone is the same client.
#[derive(Clone)]
pub(crate) struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    /// Made for the first request that needs it: finding out whom the platform trusts reads many files.
    tls: OnceLock<Arc<ClientConfig>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Error {
    /// The URL is not one that can be asked.
    Url(&'static str),
    /// Without TLS, and to another machine.
    Plain { host: String },
    /// The file of certificates cannot be read, or the platform trusts nobody.
    Trust(String),
    /// The host has no address, or none of them answers.
    Unreachable { host: String, cause: String },
    /// The host does not prove that it is the one that was meant.
    Certificate { host: String, cause: String },
    /// It took too long.
    Deadline { host: String, after: Duration },
    /// The answer is larger than it may be.
    TooLarge { host: String, bytes_max: usize },
    /// TLS was asked for, and the host speaks plain HTTP there.
    SpeaksHttp { host: String },
    /// Plain HTTP was asked for, and the host speaks TLS there.
    SpeaksTls { host: String },
    /// The answer is no HTTP, broken off, or coded in a way that was not asked for.
    Broken { host: String, cause: String },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(why) => write!(f, "the URL {why}"),
            Self::Plain { host } => write!(f, "{host} is another machine, and http:// has no protection: use https://"),
            Self::Trust(why) => f.write_str(why),
            Self::Unreachable { host, cause } => write!(f, "{host} cannot be reached: {cause}"),
            Self::Certificate { host, cause } => write!(f, "{host} does not prove who it is: {cause}"),
            Self::Deadline { host, after } => write!(f, "{host} did not answer within {} s", after.as_secs_f32()),
            Self::TooLarge { host, bytes_max } => write!(f, "the answer of {host} has more than {bytes_max} bytes"),
            Self::SpeaksHttp { host } => {
                write!(f, "{host} speaks plain HTTP on this port, not TLS: use http:// instead of https://")
            }
            Self::SpeaksTls { host } => {
                write!(f, "{host} speaks TLS on this port, not plain HTTP: use https:// instead of http://")
            }
            Self::Broken { host, cause } => write!(f, "the answer of {host} cannot be read: {cause}"),
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

/// Whom a request is for.
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

    /// Sends a request with a whole URL, and returns the whole answer, whatever its status. `Host` and `User-Agent`
    /// are set here. Neither cookies nor redirects nor compression: each answer is for its request alone.
    pub(crate) async fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Error> {
        let settings = &self.shared.settings;
        let target = Target::of(request.uri())?;
        if !target.tls && settings.plain == Plain::Loopback && !is_loopback(&target.host) {
            return Err(Error::Plain { host: target.host });
        }
        let host = target.host.clone();
        // Apart from whoever waits for it: what TLS and HTTP have in hand is large.
        let exchange = Box::pin(self.exchange(&target, request));
        let exchange = tokio::time::timeout(settings.deadline, exchange);
        exchange.await.unwrap_or(Err(Error::Deadline { host, after: settings.deadline }))
    }

    async fn exchange(&self, target: &Target, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Error> {
        let host = &target.host;
        // Before there is a connection, so that a file that cannot be read is told of as that.
        let tls = if target.tls { Some(self.tls().await?) } else { None };
        let (stream, beginning) = Heard::new(connect(target, self.shared.settings.plain).await?);
        let Some(tls) = tls else {
            let answer = self.ask(stream, target, request).await;
            return if is_from_tls(&answer, &beginning) {
                Err(Error::SpeaksTls { host: host.clone() })
            } else {
                answer
            };
        };
        let name = ServerName::try_from(host.clone()).map_err(|_| Error::Url("has a host that is not a name"))?;
        let stream = TlsConnector::from(tls).connect(name, stream).await;
        self.ask(stream.map_err(|error| handshake_error(host, &error, &beginning))?, target, request).await
    }

    async fn ask<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        target: &Target,
        request: Request<Vec<u8>>,
    ) -> Result<Response<Vec<u8>>, Error> {
        let host = &target.host;
        let bytes_max = self.shared.settings.answer_bytes_max;
        let broken = |error: hyper::Error| Error::Broken { host: host.clone(), cause: causes(&error) };
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEAD_FIELDS_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let asking = async {
            let response = sender.send_request(outgoing(request, target)?).await.map_err(broken)?;
            let (head, body) = response.into_parts();
            if head.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
                let cause = "it is coded in a way that was not asked for".to_owned();
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
        // The connection is driven here and not in a task of its own: it ends with the request, whatever happens.
        let mut asking = std::pin::pin!(asking);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            answer = &mut asking => answer,
            // What has arrived is still there to be read.
            _ = &mut connection => asking.await,
        }
    }

    /// Whom to believe.
    async fn tls(&self) -> Result<Arc<ClientConfig>, Error> {
        if let Some(tls) = self.shared.tls.get() {
            return Ok(Arc::clone(tls));
        }
        let ca = self.shared.settings.ca.clone();
        let made = tokio::task::spawn_blocking(move || trust::client_config(ca.as_deref())).await;
        let made = Arc::new(made.map_err(|error| Error::Trust(error.to_string()))??);
        Ok(Arc::clone(self.shared.tls.get_or_init(|| made)))
    }
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, Error> {
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(Error::Url("begins neither with https:// nor with http://")),
        };
        let authority = uri.authority().ok_or(Error::Url("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(Error::Url("has a name or a password in it"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(Error::Url("names no host"));
        }
        let port = match (authority.port_u16(), tls) {
            (Some(port), _) => port,
            (None, _) if has_port(authority) => return Err(Error::Url("has a port that is no number up to 65535")),
            (None, true) => 443,
            (None, false) => 80,
        };
        Ok(Self { host, port, tls })
    }
}

/// Whether something stands behind the host.
fn has_port(authority: &Authority) -> bool {
    authority.as_str().len() > authority.host().len()
}

/// Whether a host is this machine, whatever a name server says.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The request as it goes over the connection: its path alone on the line, and the host in its header.
fn outgoing(request: Request<Vec<u8>>, target: &Target) -> Result<Request<Full<Bytes>>, Error> {
    let (mut head, body) = request.into_parts();
    let (name, default) =
        (head.uri.authority().map_or("", Authority::as_str).to_owned(), if target.tls { ":443" } else { ":80" });
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    head.uri = path.parse().map_err(|_| Error::Url("has a path that cannot be asked for"))?;
    head.version = hyper::Version::HTTP_11;
    let host = name.strip_suffix(default).unwrap_or(&name);
    let host = HeaderValue::from_str(host).map_err(|_| Error::Url("has a host that cannot be asked for"))?;
    head.headers.insert(header::HOST, host);
    head.headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(Request::from_parts(head, Full::new(body.into())))
}

async fn connect(target: &Target, plain: Plain) -> Result<TcpStream, Error> {
    let Target { host, port, tls } = target;
    let unreachable = |cause: String| Error::Unreachable { host: host.clone(), cause };
    let found = tokio::net::lookup_host((host.as_str(), *port)).await;
    let mut found: Vec<SocketAddr> = found.map_err(|error| unreachable(error.to_string()))?.collect();
    if !tls && plain == Plain::Loopback {
        // `localhost` is a name too, and somebody answers what it means.
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

/// Whether what answers plain HTTP expects TLS. Some servers answer with an alert. Others, such as coracle, nginx and
/// those in Go, answer with a 400 that names HTTPS.
fn is_from_tls(answer: &Result<Response<Vec<u8>>, Error>, beginning: &Beginning) -> bool {
    let names_https = |body: &[u8]| body.windows(5).any(|part| part.eq_ignore_ascii_case(b"https"));
    match answer {
        Ok(answer) => answer.status().as_u16() == 400 && names_https(answer.body()),
        Err(_) => beginning.is_tls(),
    }
}

/// A handshake fails because of who answers, or because nobody does.
fn handshake_error(host: &str, error: &io::Error, beginning: &Beginning) -> Error {
    let (host, tls) = (host.to_owned(), error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()));
    match tls {
        _ if beginning.is_http() => Error::SpeaksHttp { host },
        Some(rustls::Error::InvalidMessage(_)) => {
            Error::Broken { host, cause: "what answers speaks neither TLS nor HTTP".to_owned() }
        }
        Some(tls) => Error::Certificate { host, cause: tls.to_string() },
        None => Error::Unreachable { host, cause: error.to_string() },
    }
}

/// An error and what caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        text.extend([": ", &cause.to_string()]);
        next = cause.source();
    }
    text
}
