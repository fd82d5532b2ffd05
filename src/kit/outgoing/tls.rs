//! [`Tls`]: begins TLS on a connection to a server.

use std::io;
use std::sync::Arc;

use rustls::CertificateError;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
pub(crate) use tokio_rustls::client::TlsStream;

use super::verifier::is_authority;
use super::{CertificateFault, Error, HandshakeError, Trust, UNKNOWN_AUTHORITY};
use crate::kit::text::some_of;

/// How many names of a certificate a message has.
const NAMES_SHOWN: usize = 5;

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
            Some(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. })) => {
                Self::Certificate(CertificateFault::OtherName, names(presented))
            }
            Some(error) => {
                let why = if is_unknown(error) { UNKNOWN_AUTHORITY.to_owned() } else { error.to_string() };
                Self::Certificate(CertificateFault::of(error), why)
            }
            None => Self::Broken(error),
        }
    }
}

/// Whether no trusted authority signed a certificate. The usual certificate that signs itself says that it is an authority.
fn is_unknown(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(error) = error else { return false };
    *error == CertificateError::UnknownIssuer || is_authority(error)
}

/// The names of a certificate, such as `DnsName("registry.example")`, as people write them.
fn names(presented: &[String]) -> String {
    let name = |text: &String| {
        let inner = text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(text);
        inner.trim_matches('"').to_owned()
    };
    let names: Vec<_> = presented.iter().map(name).collect();
    if names.is_empty() { "no name".to_owned() } else { some_of(&names, NAMES_SHOWN) }
}

impl CertificateFault {
    fn of(error: &rustls::Error) -> Self {
        let rustls::Error::InvalidCertificate(error) = error else { return Self::Untrusted };
        match error {
            CertificateError::ExpiredContext { not_after, .. } => Self::Expired(not_after.as_secs()),
            CertificateError::NotValidYetContext { not_before, .. } => Self::NotYetValid(not_before.as_secs()),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::OtherName,
            _ => Self::Untrusted,
        }
    }
}
