//! Certificates that the registry makes itself.

use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

/// The subject of the certificate that clients get until the authority issues one.
const NAME: &str = "coracle, until the ACME authority issues a certificate";

/// A certificate for these names that no client trusts.
pub(super) fn self_signed(domains: &[String]) -> Result<Arc<CertifiedKey>, String> {
    make(domains.to_vec(), |parameters| parameters.distinguished_name.push(DnType::CommonName, NAME))
}

/// The certificate by which the authority verifies a name (RFC 8737, 3). `digest` is that of the key authorization.
pub(super) fn for_challenge(domain: &str, digest: &[u8]) -> Result<Arc<CertifiedKey>, String> {
    make(vec![domain.to_owned()], |parameters| {
        parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    })
}

fn make(domains: Vec<String>, change: impl FnOnce(&mut CertificateParams)) -> Result<Arc<CertifiedKey>, String> {
    let failed = |error: rcgen::Error| format!("cannot make a certificate: {error}");
    let mut parameters = CertificateParams::new(domains).map_err(failed)?;
    parameters.distinguished_name = DistinguishedName::new();
    change(&mut parameters);
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    // Without rustls' check, which does not know the critical extension of a challenge.
    let key = aws_lc_rs::default_provider().key_provider.load_private_key(der);
    let key = key.map_err(|error| format!("cannot make a certificate: {error}"))?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], key)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use rustls::pki_types::ServerName;
    use x509_cert::Certificate;
    use x509_cert::der::Decode as _;

    use super::*;

    #[test]
    fn certificates_are_for_their_names() {
        let names = ["a.example".to_owned(), "b.example".to_owned()];
        let made = self_signed(&names).unwrap();
        for name in names {
            let name = ServerName::try_from(name).unwrap();
            let parsed = rustls::server::ParsedCertificate::try_from(&made.cert[0]).unwrap();
            rustls::client::verify_server_name(&parsed, &name).unwrap();
        }
        // The extension id-pe-acmeIdentifier is critical, and has the digest.
        let made = for_challenge("a.example", &[7; 32]).unwrap();
        let parsed = Certificate::from_der(&made.cert[0]).unwrap();
        let mut extensions = parsed.tbs_certificate().extensions().unwrap().iter();
        let found = extensions.find(|extension| extension.extn_id.to_string() == "1.3.6.1.5.5.7.1.31").unwrap();
        assert!(found.critical && found.extn_value.as_bytes().ends_with(&[7; 32]));
    }
}
