//! Which cipher a connection uses.
//!
//! Clients with OpenSSL name AES-256 first. For large content it costs a tenth more than AES-128, and it hashes handshakes
//! with SHA-384, for which few processors have instructions. So the registry chooses: AES-128 before AES-256, and both
//! before `ChaCha20` if the processor has instructions for AES. A client that names `ChaCha20` first lacks them, such as one on
//! a Raspberry Pi 4, and gets what it names first.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ClientHello;
use rustls::{CipherSuite, ServerConfig};

/// The provider of cryptography, whose ciphers have the order that suits this processor.
pub(super) fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let has_aes = has_aes();
    provider.cipher_suites.sort_by_key(|suite| place(suite.suite(), has_aes));
    provider
}

/// A configuration in two forms: the server chooses the cipher, or the client does. Both know the same tickets.
#[derive(Clone, Debug)]
pub(super) struct Configs {
    server_chooses: Arc<ServerConfig>,
    client_chooses: Arc<ServerConfig>,
}

impl Configs {
    pub(super) fn new(config: ServerConfig) -> Self {
        let mut server_chooses = config.clone();
        server_chooses.ignore_client_order = true;
        Self { server_chooses: Arc::new(server_chooses), client_chooses: Arc::new(config) }
    }

    /// Whether these are the same, and not others that were made later.
    pub(super) fn are(&self, others: &Self) -> bool {
        Arc::ptr_eq(&self.client_chooses, &others.client_chooses)
    }

    /// The form for a client.
    pub(super) fn for_client(&self, hello: &ClientHello<'_>) -> &Arc<ServerConfig> {
        let known = &self.server_chooses.crypto_provider().cipher_suites;
        let first = hello.cipher_suites().iter().find(|suite| known.iter().any(|known| known.suite() == **suite));
        if first.is_some_and(|suite| is_chacha20(*suite)) { &self.client_chooses } else { &self.server_chooses }
    }
}

/// Sorts ciphers: those with the smallest place come first.
fn place(suite: CipherSuite, has_aes: bool) -> (bool, bool) {
    let is_aes_128 = matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    );
    (is_chacha20(suite) == has_aes, !is_aes_128)
}

const fn is_chacha20(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

/// Whether the processor has instructions for AES and for the multiplication of GCM.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(has_aes: bool) -> Vec<CipherSuite> {
        let suites = aws_lc_rs::default_provider().cipher_suites;
        let mut suites: Vec<_> = suites.iter().map(rustls::SupportedCipherSuite::suite).collect();
        suites.sort_by_key(|suite| place(*suite, has_aes));
        suites.retain(|suite| format!("{suite:?}").starts_with("TLS13_"));
        suites
    }

    #[test]
    fn aes_128_comes_first_with_instructions_for_it_and_chacha20_without() {
        let [aes_128, aes_256, chacha20] = [
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS13_AES_256_GCM_SHA384,
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        ];
        assert_eq!(order(true), [aes_128, aes_256, chacha20]);
        assert_eq!(order(false), [chacha20, aes_128, aes_256]);
    }
}
