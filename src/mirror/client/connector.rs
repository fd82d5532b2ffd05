//! [`Connector`]: opens connections for the pool, directly or through a proxy, with or without TLS.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::either::Either;
use tower_service::Service;

use super::Error;
use super::transport::TransportSettings;
use crate::kit::outgoing::{CertificateFault, HandshakeError, Tls, TlsStream, causes, protocol};

/// The longest time to a usable connection: look-up, TCP, proxy and TLS.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// The longest time for one address of a host. The next one is tried after it.
const ADDRESS_WAIT: Duration = Duration::from_secs(4);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("{0}")]
    Unreachable(String),
    #[error("the proxy of the environment: {0}")]
    Proxy(String),
    /// The certificate of the host cannot be used: the predicate of a sentence.
    #[error("the certificate {fault}")]
    Certificate { fault: String, is_untrusted: bool },
    #[error("no connection within {} s", .0.as_secs())]
    Timeout(Duration),
}

#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    tls: Tls,
    proxies: Arc<Matcher>,
}

crate::kit::opaque_debug::opaque_debug!(Connector);

impl Connector {
    pub(super) fn new(settings: &TransportSettings) -> Result<Self, Error> {
        let protocols: &[&[u8]] = if settings.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        let tls = Tls::new(&settings.trust, protocols).map_err(|error| Error::Trust(error.to_string()))?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(ADDRESS_WAIT));
        Ok(Self { tcp, tls, proxies: Arc::clone(&settings.proxies) })
    }

    async fn connect(mut self, uri: Uri) -> Result<ServerStream, ConnectError> {
        let is_tls = uri.scheme_str() == Some("https");
        let proxy = self.proxies.intercept(&uri);
        let is_proxied = proxy.is_some() && !is_tls;
        let stream = match proxy {
            None => self.tcp.call(uri.clone()).await.map_err(|error| ConnectError::Unreachable(causes(&error)))?,
            Some(proxy) => {
                if proxy.uri().scheme_str() != Some("http") {
                    return Err(ConnectError::Proxy("only http:// proxies are supported".to_owned()));
                }
                let failed = |error: &(dyn std::error::Error + 'static)| ConnectError::Proxy(causes(error));
                if is_tls {
                    let mut tunnel = Tunnel::new(proxy.uri().clone(), self.tcp);
                    if let Some(password) = proxy.basic_auth() {
                        tunnel = tunnel.with_auth(password.clone());
                    }
                    tunnel.call(uri.clone()).await.map_err(|error| failed(&error))?
                } else {
                    self.tcp.call(proxy.uri().clone()).await.map_err(|error| failed(&error))?
                }
            }
        };
        let stream = stream.into_inner();
        if !is_tls {
            return Ok(ServerStream { stream: TokioIo::new(Either::Left(stream)), is_http2: false, is_proxied });
        }
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let stream = self.tls.connect(host, stream).await.map_err(tls_error)?;
        let is_http2 = protocol(&stream) == Some(b"h2");
        Ok(ServerStream { stream: TokioIo::new(Either::Right(stream)), is_http2, is_proxied })
    }
}

/// The error of a handshake: a certificate that is not accepted, or a connection that broke.
fn tls_error(error: HandshakeError) -> ConnectError {
    match error {
        HandshakeError::Name => ConnectError::Unreachable("the host is not a name".to_owned()),
        HandshakeError::NotTls => ConnectError::Unreachable("it does not speak TLS on this port".to_owned()),
        HandshakeError::Certificate(fault, cause) => ConnectError::Certificate {
            fault: fault.describe(&cause),
            is_untrusted: fault == CertificateFault::Untrusted,
        },
        HandshakeError::Broken(error) => ConnectError::Unreachable(error.to_string()),
    }
}

impl Service<Uri> for Connector {
    type Response = ServerStream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<ServerStream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.clone().connect(uri);
        Box::pin(async { timeout(CONNECT_WAIT, connecting).await.unwrap_or(Err(ConnectError::Timeout(CONNECT_WAIT))) })
    }
}

/// A connection to an upstream.
pub(super) struct ServerStream {
    stream: TokioIo<Either<TcpStream, TlsStream<TcpStream>>>,
    is_http2: bool,
    /// Whether requests must name the whole URL, because a proxy reads them.
    is_proxied: bool,
}

impl Connection for ServerStream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().proxy(self.is_proxied);
        if self.is_http2 { connected.negotiated_h2() } else { connected }
    }
}

impl Read for ServerStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl Write for ServerStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
