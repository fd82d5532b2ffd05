//! New TLS connections, each with one request.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
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

/// Connects, requests `GET /v2/`, and closes, again and again on one thread. `is_resumed` says how the handshakes begin.
pub(crate) fn measure(server: &Server, extent: Extent, is_resumed: bool) -> Done {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any))
        .with_no_client_auth();
    if !is_resumed {
        config.resumption = Resumption::disabled();
    }
    let config = Arc::new(config);
    // The first connection brings tickets.
    connect(server, &config);
    let length = Duration::from_secs_f64(extent.seconds);
    let meter = Meter::begin(server);
    let (until, mut count) = (Instant::now() + length, 0);
    while Instant::now() < until {
        let kind = connect(server, &config);
        let expected = if is_resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
        assert!(kind == expected || kind == HandshakeKind::FullWithHelloRetryRequest && !is_resumed, "{kind:?}");
        count += 1;
    }
    meter.done(f64::from(count))
}

fn connect(server: &Server, config: &Arc<ClientConfig>) -> HandshakeKind {
    let socket = TcpStream::connect(server.address).unwrap();
    socket.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), socket);
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut response = Vec::new();
    // A server may close without the notice of TLS.
    let _ = stream.read_to_end(&mut response);
    assert!(response.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&response));
    stream.conn.handshake_kind().unwrap()
}
