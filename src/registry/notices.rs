//! [`Notices`]: log lines that are written once for each peer.

use std::net::IpAddr;

use parking_lot::Mutex;

use crate::kit::bounded_map::BoundedMap;

/// The most notices, because unknown clients can cause them.
const NOTICES_MAX: usize = 32;

/// A misconfiguration of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Notice {
    /// The peer forwards requests, and is not trusted.
    UntrustedProxy,
    /// The peer is trusted, and its `X-Forwarded-*` and `Forwarded` headers contradict each other.
    Contradiction,
}

/// The notices that were logged, by kind and peer.
#[derive(Debug, Default)]
pub(super) struct Notices(Mutex<BoundedMap<(Notice, IpAddr), (Notice, IpAddr), NOTICES_MAX>>);

impl Notices {
    /// Logs a notice about a peer, unless it was logged before.
    pub(super) fn give(&self, notice: Notice, peer: IpAddr) {
        if self.is_new(notice, peer) {
            match notice {
                Notice::UntrustedProxy => tracing::warn!(
                    %peer,
                    "ignored X-Forwarded-* and Forwarded headers of a peer that is not trusted: if it is your proxy, add its \
                     address to http.trustedProxies"
                ),
                Notice::Contradiction => tracing::warn!(
                    %peer,
                    "ignored X-Forwarded-* and Forwarded headers that contradict each other: let the proxy remove \
                     the headers that it does not set"
                ),
            }
        }
    }

    /// The notices so far, ordered by kind and peer.
    pub(super) fn all(&self) -> Vec<(Notice, IpAddr)> {
        let mut all: Vec<_> = self.0.lock().values().copied().collect();
        all.sort_unstable();
        all
    }

    fn is_new(&self, notice: Notice, peer: IpAddr) -> bool {
        let mut given = self.0.lock();
        !given.contains_key(&(notice, peer)) && given.try_insert((notice, peer), (notice, peer), |_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_logged_once_for_each_peer_up_to_a_limit() {
        let notices = Notices::default();
        let peer = |n: u8| IpAddr::from([192, 0, 2, n]);
        assert!(notices.is_new(Notice::UntrustedProxy, peer(1)));
        assert!(!notices.is_new(Notice::UntrustedProxy, peer(1)));
        assert!(notices.is_new(Notice::Contradiction, peer(1)));
        let given = (2..=255).filter(|n| notices.is_new(Notice::UntrustedProxy, peer(*n))).count();
        assert_eq!(given, NOTICES_MAX - 2);
        assert_eq!(notices.all()[0], (Notice::UntrustedProxy, peer(1)));
    }
}
