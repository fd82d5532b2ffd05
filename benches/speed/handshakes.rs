//! New connections, each with one request: without TLS, and with handshakes of its two versions.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme, StreamOwned};

use super::server::Server;
use super::{Done, Extent, Meter};

/// Accepts every certificate: the benchmark measures the server.
#[derive(Debug)]
struct Any;

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// Without TLS: what the rest of a connection costs.
    Plain,
    Full(Version),
    Resumed(Version),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Two,
    Three,
}

impl Beginning {
    /// The configuration of the client, for TLS.
    fn client(self) -> Option<Arc<ClientConfig>> {
        let version = match self {
            Self::Plain => return None,
            Self::Full(version) | Self::Resumed(version) => version,
        };
        let version = match version {
            Version::Two => &TLS12,
            Version::Three => &TLS13,
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Any))
            .with_no_client_auth();
        if let Self::Full(_) = self {
            config.resumption = Resumption::disabled();
        }
        Some(Arc::new(config))
    }

    fn is_as_expected(self, kind: HandshakeKind) -> bool {
        match self {
            Self::Plain => false,
            Self::Full(_) => matches!(kind, HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest),
            Self::Resumed(_) => kind == HandshakeKind::Resumed,
        }
    }
}

/// Connects, requests `GET /v2/`, and closes, again and again on one thread.
pub(crate) fn measure(server: &Server, extent: Extent, beginning: Beginning) -> Done {
    let config = beginning.client();
    // The first connection brings tickets.
    connect(server, config.as_ref());
    let length = Duration::from_secs_f64(extent.seconds);
    let meter = Meter::begin(server);
    let (until, mut count) = (Instant::now() + length, 0);
    while Instant::now() < until {
        if let Some(kind) = connect(server, config.as_ref()) {
            assert!(beginning.is_as_expected(kind), "{kind:?}");
        }
        count += 1;
    }
    meter.done(f64::from(count))
}

/// One connection, and how its handshake was.
fn connect(server: &Server, config: Option<&Arc<ClientConfig>>) -> Option<HandshakeKind> {
    let mut socket = TcpStream::connect(server.address).unwrap();
    socket.set_nodelay(true).unwrap();
    let Some(config) = config else {
        request(&mut socket);
        return None;
    };
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), socket);
    request(&mut stream);
    stream.conn.handshake_kind()
}

fn request(stream: &mut (impl Read + Write)) {
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut response = Vec::new();
    // A server may close without the notice of TLS.
    let _ = stream.read_to_end(&mut response);
    assert!(response.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&response));
}
