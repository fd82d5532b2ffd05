//! [`Pending`]: what the authority asks for while it verifies that a name leads to this registry.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::sign::CertifiedKey;

use crate::kit::opaque_debug::opaque_debug;

/// A kind of challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    TlsAlpn01,
    Http01,
}

impl Challenge {
    /// The name in the protocol.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        }
    }

    /// The port that the authority connects to.
    pub(super) const fn port(self) -> u16 {
        match self {
            Self::TlsAlpn01 => 443,
            Self::Http01 => 80,
        }
    }
}

/// The pending challenges. Each is there until its guard is dropped.
#[derive(Clone, Default)]
pub(super) struct Pending(Arc<Mutex<Table>>);

opaque_debug!(Pending);

#[derive(Default)]
struct Table {
    /// By the name that is verified, in lower case.
    certificates: HashMap<String, Arc<CertifiedKey>>,
    /// By token.
    responses: HashMap<String, String>,
}

/// Keeps a challenge pending.
pub(super) struct Guard {
    pending: Pending,
    key: Key,
}

enum Key {
    Name(String),
    Token(String),
}

impl Pending {
    pub(super) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.0.lock().certificates.get(&name.to_ascii_lowercase()).cloned()
    }

    pub(super) fn response(&self, token: &str) -> Option<String> {
        self.0.lock().responses.get(token).cloned()
    }

    pub(super) fn add_certificate(&self, name: &str, certificate: Arc<CertifiedKey>) -> Guard {
        let name = name.to_ascii_lowercase();
        self.0.lock().certificates.insert(name.clone(), certificate);
        Guard { pending: self.clone(), key: Key::Name(name) }
    }

    pub(super) fn add_response(&self, token: &str, response: &str) -> Guard {
        self.0.lock().responses.insert(token.to_owned(), response.to_owned());
        Guard { pending: self.clone(), key: Key::Token(token.to_owned()) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut table = self.pending.0.lock();
        match &self.key {
            Key::Name(name) => drop(table.certificates.remove(name)),
            Key::Token(token) => drop(table.responses.remove(token)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_pending_until_its_guard_is_dropped() {
        let pending = Pending::default();
        let guard = pending.add_response("token", "token.thumbprint");
        assert_eq!(pending.response("token").as_deref(), Some("token.thumbprint"));
        assert_eq!(pending.response("another"), None);
        drop(guard);
        assert_eq!(pending.response("token"), None);
    }
}
