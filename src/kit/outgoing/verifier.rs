//! Verifies servers: their certificate must be signed by a trusted authority, or be in the given file.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::{Error, Trust};

/// The error of webpki for a server certificate with `CA:TRUE`. webpki has checked the dates before.
const CA_AS_SERVER: &str = "CaUsedAsEndEntity";

impl Trust {
    /// Reads the files. The result names no application protocol.
    pub(crate) fn client_config(&self) -> Result<ClientConfig, Error> {
        let unusable_config = |error: rustls::Error| Error::Trust(error.to_string());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = if self.accepts_any { Verifier::Any(Arc::clone(&provider)) } else { self.verifier(&provider)? };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable_config)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let Some((certificate, key)) = &self.identity else { return Ok(config.with_no_client_auth()) };
        let chain = read(certificate)?;
        let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
        config.with_client_auth_cert(chain, key_der).map_err(|error| unusable(key, &error))
    }

    /// The verifier of servers with a certificate of a trusted authority.
    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Verifier, Error> {
        let mut roots = RootCertStore::empty();
        let platform = rustls_native_certs::load_native_certs();
        let (known, _) = roots.add_parsable_certificates(platform.certs);
        let mut given = Vec::new();
        for file in &self.authorities {
            for certificate in read(file)? {
                roots.add(certificate.clone()).map_err(|error| unusable(file, &error))?;
                given.push(certificate);
            }
        }
        for certificate in self.pem.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes())) {
            let unusable = |error: String| Error::Trust(format!("the configured certificates: {error}"));
            let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
            roots.add(certificate.clone()).map_err(|error| unusable(error.to_string()))?;
            given.push(certificate);
        }
        if given.is_empty() && known == 0 {
            let why = platform.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
            return Err(Error::Trust(format!("no certificate authorities are installed{why}")));
        }
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
        Ok(Verifier::Authorities { webpki: webpki.map_err(|error| Error::Trust(error.to_string()))?, given })
    }
}

/// Reads the certificates in a file.
fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(file, &error))?;
    if certificates.is_empty() { Err(unusable(file, &"there is no certificate in it")) } else { Ok(certificates) }
}

fn unusable(file: &Path, why: &dyn fmt::Display) -> Error {
    Error::Trust(format!("{}: {why}", file.display()))
}

/// Verifies the certificates of servers.
#[derive(Debug)]
enum Verifier {
    /// Verifies as webpki does. Also accepts a server whose certificate is `given` although it is a certificate of an
    /// authority. `openssl req -x509` makes such certificates, and curl accepts them.
    Authorities { webpki: Arc<WebPkiServerVerifier>, given: Vec<CertificateDer<'static>> },
    /// Accepts every certificate.
    Any(Arc<CryptoProvider>),
}

/// Whether the certificate of a server is refused because it is that of an authority.
pub(super) fn is_authority(error: &CertificateError) -> bool {
    matches!(error, CertificateError::Other(why) if why.0.to_string() == CA_AS_SERVER)
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
        let Self::Authorities { webpki, given } = self else { return Ok(ServerCertVerified::assertion()) };
        match webpki.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(error)) if is_authority(&error) && given.contains(certificate) => {
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
        match self {
            Self::Authorities { webpki, .. } => webpki.verify_tls12_signature(message, certificate, signature),
            Self::Any(provider) => {
                let algorithms = &provider.signature_verification_algorithms;
                crypto::verify_tls12_signature(message, certificate, signature, algorithms)
            }
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match self {
            Self::Authorities { webpki, .. } => webpki.verify_tls13_signature(message, certificate, signature),
            Self::Any(provider) => {
                let algorithms = &provider.signature_verification_algorithms;
                crypto::verify_tls13_signature(message, certificate, signature, algorithms)
            }
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        match self {
            Self::Authorities { webpki, .. } => webpki.supported_verify_schemes(),
            Self::Any(provider) => provider.signature_verification_algorithms.supported_schemes(),
        }
    }
}
