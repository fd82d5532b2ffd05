//! Verifies servers: their certificate must be signed by a trusted authority, or be in the given file.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::Error;

/// The error of webpki for a server certificate with `CA:TRUE`. webpki has checked the dates before.
const CA_AS_SERVER: &str = "CaUsedAsEndEntity";

/// A configuration that trusts the certificate authorities of the platform, and the certificates in a file.
pub(super) fn client_config(ca: Option<&Path>) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    let platform = rustls_native_certs::load_native_certs();
    let (known, _) = roots.add_parsable_certificates(platform.certs);
    let given = ca.map(read).transpose()?.unwrap_or_default();
    for certificate in &given {
        roots.add(certificate.clone()).map_err(|error| unusable(ca, &error))?;
    }
    if ca.is_none() && known == 0 {
        let why = platform.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(Error::Trust(format!("no certificate authorities are installed{why}")));
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let webpki = webpki.map_err(|error| Error::Trust(error.to_string()))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Trust(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { webpki, given }))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Reads the certificates in a file.
fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(Some(file), &error))?;
    if certificates.is_empty() { Err(unusable(Some(file), &"there is no certificate in it")) } else { Ok(certificates) }
}

fn unusable(file: Option<&Path>, why: &dyn fmt::Display) -> Error {
    Error::Trust(format!("{}: {why}", file.unwrap_or_else(|| Path::new("")).display()))
}

/// Verifies as webpki does. Also accepts a server whose certificate is in the given file although it is a certificate of
/// an authority. `openssl req -x509` makes such certificates, and curl accepts them.
#[derive(Debug)]
struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.webpki.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(why)))
                if why.0.to_string() == CA_AS_SERVER && self.given.contains(certificate) =>
            {
                rustls::client::verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
