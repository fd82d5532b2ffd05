//! [`RateLimit`]: how often one address may have providers asked.
//!
//! Whoever comes back from a provider makes the registry ask it; whoever only says so must not make it a tool. What
//! must hold: memory is bounded, and nobody waits longer than a window.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::kit::bounded_map::BoundedMap;
use crate::kit::network::client_network;

/// So many in one window are an office's people.
const FREE: u32 = 60;
const WINDOW: Duration = Duration::from_mins(1);
/// At most this many addresses are counted.
const ADDRESSES_MAX: usize = 20_000;

/// Counts by address.
#[derive(Debug, Default)]
pub(super) struct RateLimit(Mutex<BoundedMap<Option<IpAddr>, Window, ADDRESSES_MAX>>);

#[derive(Debug)]
struct Window {
    began: Instant,
    count: u32,
}

impl RateLimit {
    /// Counts one; or says after how many seconds the next is let through.
    pub(super) fn pass(&self, address: Option<IpAddr>) -> Result<(), u64> {
        self.pass_at(address, Instant::now())
    }

    fn pass_at(&self, address: Option<IpAddr>, now: Instant) -> Result<(), u64> {
        let mut windows = self.0.lock();
        let window = windows
            .entry(address.map(client_network), |window| now - window.began < WINDOW)
            .or_insert(Window { began: now, count: 0 });
        if now - window.began >= WINDOW {
            *window = Window { began: now, count: 0 };
        }
        if window.count >= FREE {
            return Err(WINDOW.saturating_sub(now - window.began).as_secs() + 1);
        }
        window.count += 1;
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_too_often_waits_and_nobody_else_does() {
        let (pace, now) = (RateLimit::default(), Instant::now());
        let here: Option<IpAddr> = "2001:db8:1:2::1".parse().ok();
        let near: Option<IpAddr> = "2001:db8:1:2:ffff::9".parse().ok();
        let there: Option<IpAddr> = "2001:db8:1:3::1".parse().ok();
        for _ in 0..FREE {
            assert_eq!(pace.pass_at(here, now), Ok(()));
        }
        assert_eq!(pace.pass_at(here, now), Err(61));
        assert_eq!(pace.pass_at(near, now), Err(61), "it is one network");
        assert_eq!(pace.pass_at(there, now), Ok(()));
        assert_eq!(pace.pass_at(here, now + WINDOW / 2), Err(31));
        assert_eq!(pace.pass_at(here, now + WINDOW), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let (pace, now) = (RateLimit::default(), Instant::now());
        for number in 0..50_000_u32 {
            let _ = pace.pass_at(Some(IpAddr::from(number.to_be_bytes())), now);
        }
        assert!(pace.0.lock().values().len() <= ADDRESSES_MAX);
    }
}
