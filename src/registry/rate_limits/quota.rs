//! [`Quota`]: a number of requests in a window of time, for one client or for all together.
//!
//! A quota refills evenly. A client that was silent for a window may use it at once. The state of a quota is one point in
//! time: when it is full again.

use std::time::{Duration, Instant};

/// A number of requests in a window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    /// How many requests, at least one.
    pub(crate) requests: u64,
    pub(crate) window: Duration,
}

/// The rest of a quota after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) requests: u64,
    /// The seconds until the quota is full again.
    pub(crate) full_in: u64,
}

/// A quota has nothing left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UsedUp {
    /// The seconds until the next request, at least one.
    pub(crate) retry_in: u64,
    /// The seconds until the quota is full again.
    pub(crate) full_in: u64,
}

impl Quota {
    /// Takes one request from a quota that is full at `full_at`. A client may borrow requests beyond the quota, which are
    /// kept for it.
    pub(crate) fn take(self, full_at: &mut Instant, now: Instant, borrowed: u64) -> Result<Left, UsedUp> {
        let interval = self.interval();
        let debt = full_at.saturating_duration_since(now) + interval;
        let most = self.window + interval.saturating_mul(u32::try_from(borrowed).unwrap_or(u32::MAX));
        if debt > most {
            let retry_in = seconds(debt.saturating_sub(most)).max(1);
            return Err(UsedUp { retry_in, full_in: seconds(debt.saturating_sub(interval)).max(retry_in) });
        }
        *full_at = now + debt;
        let left = self.window.saturating_sub(debt).as_nanos() / interval.as_nanos();
        Ok(Left { requests: u64::try_from(left).unwrap_or(u64::MAX), full_in: seconds(debt) })
    }

    /// The time in which one request is refilled.
    fn interval(self) -> Duration {
        let nanoseconds = self.window.as_nanos() / u128::from(self.requests.max(1));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX).max(1))
    }
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Quota = Quota { requests: 10, window: Duration::from_secs(1) };

    #[test]
    fn a_quota_is_used_at_once_and_refills_evenly() {
        let now = Instant::now();
        let mut full_at = now;
        for left in (0..10).rev() {
            assert_eq!(TEN.take(&mut full_at, now, 0), Ok(Left { requests: left, full_in: 1 }));
        }
        assert_eq!(TEN.take(&mut full_at, now, 0), Err(UsedUp { retry_in: 1, full_in: 1 }));
        let later = now + Duration::from_millis(250);
        assert!(TEN.take(&mut full_at, later, 0).is_ok() && TEN.take(&mut full_at, later, 0).is_ok());
        assert!(TEN.take(&mut full_at, later, 0).is_err());
        let much_later = now + Duration::from_hours(1);
        assert_eq!(
            TEN.take(&mut full_at, much_later, 0),
            Ok(Left { requests: 9, full_in: 1 }),
            "no more than a window"
        );
    }

    #[test]
    fn others_do_not_use_what_is_kept_for_a_client() {
        let now = Instant::now();
        let mut full_at = now;
        while TEN.take(&mut full_at, now, 0).is_ok() {}
        let borrowed = (0..20).filter(|_| TEN.take(&mut full_at, now, 5).is_ok()).count();
        assert_eq!(borrowed, 5);
        // While it pays back, it comes first.
        let later = now + Duration::from_millis(100);
        assert!(TEN.take(&mut full_at, later, 0).is_err());
        assert!(TEN.take(&mut full_at, later, 5).is_ok());
    }

    #[test]
    fn long_windows_say_how_long_to_wait() {
        let (now, slow) = (Instant::now(), Quota { requests: 2, window: Duration::from_mins(1) });
        let mut full_at = now;
        assert_eq!(slow.take(&mut full_at, now, 0), Ok(Left { requests: 1, full_in: 30 }));
        assert_eq!(slow.take(&mut full_at, now, 0), Ok(Left { requests: 0, full_in: 60 }));
        assert_eq!(slow.take(&mut full_at, now, 0), Err(UsedUp { retry_in: 30, full_in: 60 }));
    }
}
