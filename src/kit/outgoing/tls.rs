//! [`Tls`]: begins TLS on a connection to a server.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
pub(crate) use tokio_rustls::client::TlsStream;

use super::{Error, HandshakeError, Trust};

/// Begins TLS on connections.
#[derive(Clone)]
pub(crate) struct Tls(TlsConnector);

impl Tls {
    /// Reads the files of `trust`. `protocols` are offered in this order.
    pub(crate) fn new(trust: &Trust, protocols: &[&[u8]]) -> Result<Self, Error> {
        let mut config = trust.client_config()?;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Self(Arc::new(config).into()))
    }

    /// Verifies the server, which must have the name `host`.
    pub(crate) async fn connect<S>(&self, host: String, stream: S) -> Result<TlsStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host).map_err(|_| HandshakeError::Name)?;
        self.0.connect(name, stream).await.map_err(HandshakeError::of)
    }
}

/// The protocol that the server chose.
pub(crate) fn protocol<S>(stream: &TlsStream<S>) -> Option<&[u8]> {
    stream.get_ref().1.alpn_protocol()
}

impl HandshakeError {
    fn of(error: io::Error) -> Self {
        match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidMessage(_)) => Self::NotTls,
            Some(error) => Self::Certificate(error.to_string()),
            None => Self::Broken(error),
        }
    }
}
