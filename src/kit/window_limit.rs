//! [`WindowLimit`]: limits how often clients of one network cause work, such as requests to other servers or rows of the
//! audit.
//!
//! A callback makes the registry send a request to a provider. Without a limit, forged callbacks would turn the registry
//! into a tool against it. A client waits no longer than one window.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::bounded_map::BoundedMap;
use super::network::client_network;

/// The number of passes in one window, enough for all users of an office.
const FREE: u32 = 60;
const WINDOW: Duration = Duration::from_mins(1);
/// The largest number of counted addresses.
const ADDRESSES_MAX: usize = 20_000;

/// Counts by address.
#[derive(Debug, Default)]
pub(crate) struct WindowLimit(Mutex<BoundedMap<Option<IpAddr>, Window, ADDRESSES_MAX>>);

#[derive(Debug)]
struct Window {
    began: Instant,
    count: u32,
}

impl WindowLimit {
    /// Counts one pass. If there are too many, returns the seconds to wait.
    pub(crate) fn pass(&self, address: Option<IpAddr>) -> Result<(), u64> {
        self.pass_at(address, Instant::now())
    }

    fn pass_at(&self, address: Option<IpAddr>, now: Instant) -> Result<(), u64> {
        let mut windows = self.0.lock();
        let key = address.map(client_network);
        let new = || Window { began: now, count: 0 };
        let window = windows.get_or_insert_with(key, new, |window| now - window.began < WINDOW);
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
mod tests {
    use super::*;

    #[test]
    fn only_the_network_with_too_many_passes_waits() {
        let (limit, now) = (WindowLimit::default(), Instant::now());
        let here: Option<IpAddr> = "2001:db8:1:2::1".parse().ok();
        let near: Option<IpAddr> = "2001:db8:1:ff::9".parse().ok();
        let there: Option<IpAddr> = "2001:db8:1:100::1".parse().ok();
        for _ in 0..FREE {
            assert_eq!(limit.pass_at(here, now), Ok(()));
        }
        assert_eq!(limit.pass_at(here, now), Err(61));
        assert_eq!(limit.pass_at(near, now), Err(61), "it is one network");
        assert_eq!(limit.pass_at(there, now), Ok(()));
        assert_eq!(limit.pass_at(here, now + WINDOW / 2), Err(31));
        assert_eq!(limit.pass_at(here, now + WINDOW), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let (limit, now) = (WindowLimit::default(), Instant::now());
        for number in 0..50_000_u32 {
            let _ = limit.pass_at(Some(IpAddr::from(number.to_be_bytes())), now);
        }
        assert!(limit.0.lock().values().len() <= ADDRESSES_MAX);
    }
}
