//! [`RateLimit`]: how often one address may have providers asked.
//!
//! Whoever comes back from a provider makes the registry ask it; whoever only says so must not make it a tool. What
//! must hold: memory is bounded, and nobody waits longer than a window.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// So many in one window are an office's people.
const FREE: u32 = 60;
const WINDOW: Duration = Duration::from_mins(1);
/// At most this many addresses are counted; when there are more, those of earlier windows and then all go.
const ADDRESSES_MAX: usize = 20_000;

/// Counts by address.
#[derive(Debug, Default)]
pub(super) struct RateLimit(Mutex<HashMap<Option<IpAddr>, Window>>);

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
        if windows.len() >= ADDRESSES_MAX {
            windows.retain(|_, window| now - window.began < WINDOW);
        }
        if windows.len() >= ADDRESSES_MAX {
            windows.clear();
        }
        let window = windows.entry(address.map(network)).or_insert(Window { began: now, count: 0 });
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

/// Whom an address belongs to: of IPv6 everybody has a network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (!0 << 64))),
        address @ IpAddr::V4(_) => address,
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
        assert!(pace.0.lock().len() <= ADDRESSES_MAX);
    }
}
