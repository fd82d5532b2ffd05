//! [`Health`]: whether an upstream failed a moment ago, and how many requests it still allows.
//!
//! The first failure costs one caller its wait. Until the pause ends, all others get the same error at once, unless they
//! would wait longer. The pause grows with each failure in a row, and ends with a success.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Error;
use super::headers::Quota;

/// The pause after the first failure. Each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// The longest pause that an upstream can ask for with `Retry-After`.
const ASKED_PAUSE_MAX: Duration = Duration::from_mins(15);
/// The longest time that an announced quota counts. A request that is sent then brings the next one.
const QUOTA_MAX: Duration = Duration::from_mins(15);
/// A limit that begins again within this time is waited for.
const SHORT_WINDOW: Duration = Duration::from_mins(1);
/// At most this part of a limit is left for what is more urgent.
const LIMIT_SHARE: u64 = 4;

#[derive(Debug, Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    paused: Option<(Instant, Error)>,
    /// When the last pause began.
    pause_began: Option<Instant>,
    /// The requests that the upstream still allows, and until when that counts.
    remaining: Option<(Allowance, Instant)>,
    /// Failures since the start, those of one request only included.
    errors: u64,
    last_error: Option<(Instant, String)>,
}

/// The requests that an upstream still allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    pub(crate) left: u64,
    /// The requests of a whole window.
    limit: Option<u64>,
    /// When the limit begins again, if that is soon. Then it is worth a wait.
    pub(crate) begins_again: Option<Instant>,
}

impl Allowance {
    fn new(quota: &Quota) -> Self {
        let again = quota.reset.or(quota.window).filter(|again| *again <= SHORT_WINDOW);
        Self { left: quota.left, limit: quota.limit, begins_again: again.map(|again| Instant::now() + again) }
    }

    /// The requests that are left for what is more urgent: `wanted`, or less of a small limit. `wanted` is meant for
    /// windows of hours, of which few requests may be all for a long time.
    pub(crate) fn floor(&self, wanted: u64) -> u64 {
        match (self.limit, self.begins_again) {
            (Some(limit), _) => wanted.min(limit / LIMIT_SHARE).max(1),
            (None, Some(_)) => wanted.min(1),
            (None, None) => wanted,
        }
    }

    /// Whether it allows no more than the requests that are left for what is more urgent.
    pub(crate) fn is_below(&self, wanted: u64) -> bool {
        self.left < self.floor(wanted)
    }
}

/// How an upstream does, for people.
#[derive(Clone, Debug)]
pub(crate) struct ClientState {
    pub(crate) errors: u64,
    pub(crate) last_error: Option<(Instant, String)>,
    /// How long it is left alone, and why.
    pub(crate) paused: Option<(Duration, String)>,
}

impl Health {
    /// Fails while the upstream is left alone. A caller that waits longer than the one that gave up may try.
    pub(super) fn check(&self, wait: Duration) -> Result<(), Error> {
        match &self.0.lock().paused {
            Some((_, Error::Timeout { after, .. })) if wait > *after => Ok(()),
            Some((until, error)) if *until > Instant::now() => {
                Err(Error::BackedOff { error: Box::new(error.clone()), left: *until - Instant::now() })
            }
            _ => Ok(()),
        }
    }

    /// Records a response.
    pub(super) fn succeeded(&self) {
        let mut state = self.0.lock();
        state.failures = 0;
        state.paused = None;
    }

    /// Records the quota that the response with a manifest announces, or that it announces none.
    pub(super) fn announced(&self, quota: Option<Quota>) {
        let ends = |quota: &Quota| quota.reset.or(quota.window).unwrap_or(QUOTA_MAX).min(QUOTA_MAX);
        let remaining = quota.map(|quota| (Allowance::new(&quota), Instant::now() + ends(&quota)));
        self.0.lock().remaining = remaining;
    }

    /// Records a failure of a request that began at this time. Errors of one request only do not count.
    pub(super) fn failed(&self, error: &Error, began: Instant) {
        let mut state = self.0.lock();
        state.errors += 1;
        state.last_error = Some((Instant::now(), error.to_string()));
        if !error.is_of_host() {
            return;
        }
        // Requests that were on their way when the pause began fail with it. They are one failure.
        if state.pause_began.is_some_and(|pause| began < pause) && error.retry_after().is_none() {
            return;
        }
        let usual = PAUSE_MIN.saturating_mul(1 << state.failures.min(8)).min(PAUSE_MAX);
        let pause = error.retry_after().map_or(usual, |asked| asked.min(ASKED_PAUSE_MAX));
        state.failures = state.failures.saturating_add(1);
        state.pause_began = Some(Instant::now());
        state.paused = Some((Instant::now() + pause, error.clone()));
    }

    pub(super) fn state(&self) -> ClientState {
        let state = self.0.lock();
        let paused = state.paused.as_ref().filter(|(until, _)| *until > Instant::now());
        ClientState {
            errors: state.errors,
            last_error: state.last_error.clone(),
            paused: paused.map(|(until, error)| (*until - Instant::now(), error.to_string())),
        }
    }

    /// The requests that the upstream still allows, if it has said so a short time ago.
    pub(super) fn allowance(&self) -> Option<Allowance> {
        self.0.lock().remaining.filter(|(_, until)| *until > Instant::now()).map(|(allowance, _)| allowance)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(1);

    fn timeout() -> Error {
        Error::Timeout { host: "a".to_owned(), after: WAIT }
    }

    #[test]
    fn an_upstream_that_failed_is_left_alone_until_it_succeeds() {
        let health = Health::default();
        assert!(health.check(WAIT).is_ok());
        health.failed(&Error::NotFound, Instant::now());
        assert!(health.check(WAIT).is_ok(), "a missing manifest is no failure of the host");
        health.failed(&timeout(), Instant::now());
        assert!(matches!(health.check(WAIT), Err(Error::BackedOff { error, .. }) if error.is_timeout()));
        assert!(health.check(2 * WAIT).is_ok(), "a slow upstream responds to those who wait");
        health.succeeded();
        assert!(health.check(WAIT).is_ok());
    }

    #[test]
    fn a_quota_counts_until_its_window_ends_or_a_response_has_none() {
        let health = Health::default();
        let announce = |left, window: Option<u64>| {
            let window = window.map(Duration::from_secs);
            health.announced(Some(Quota { left, limit: None, window, reset: None }));
            health.allowance().map(|allowance| allowance.left)
        };
        assert_eq!(announce(7, Some(21600)), Some(7));
        assert_eq!(announce(6, None), Some(6));
        let until = health.0.lock().remaining.unwrap().1;
        assert!(until <= Instant::now() + QUOTA_MAX);
        assert_eq!(announce(5, Some(0)), None, "its window has ended");
        assert_eq!(announce(4, Some(60)), Some(4));
        health.announced(None);
        assert_eq!(health.allowance(), None);
    }

    #[test]
    fn a_part_of_a_small_limit_is_left_for_others_and_a_short_window_is_waited_for() {
        let allowance = |left, limit, window: Option<u64>, reset: Option<u64>| {
            let (window, reset) = (window.map(Duration::from_secs), reset.map(Duration::from_secs));
            Allowance::new(&Quota { left, limit, window, reset })
        };
        // Docker Hub.
        let hub = allowance(19, Some(100), Some(21600), None);
        assert!(hub.is_below(20) && !hub.is_below(10) && hub.begins_again.is_none());
        // A coracle with 3 requests a second, counted over 5 seconds.
        let short = allowance(10, Some(15), Some(5), Some(2));
        assert_eq!((short.floor(20), short.is_below(20)), (3, false));
        assert!(short.begins_again.is_some_and(|again| again <= Instant::now() + Duration::from_secs(2)));
        assert!(allowance(2, Some(15), Some(5), Some(5)).is_below(20));
        assert!(allowance(0, Some(2), Some(21600), None).is_below(20));
        assert!(!allowance(1, Some(2), Some(21600), None).is_below(20));
        // Without the limit, a short window is used up to its end.
        assert!(!allowance(1, None, Some(5), None).is_below(20) && allowance(0, None, Some(5), None).is_below(20));
        assert!(allowance(5, None, None, None).begins_again.is_none());
    }

    #[test]
    fn the_pause_grows_and_respects_the_wish_of_the_upstream_within_a_limit() {
        let left = |health: &Health| match health.check(WAIT) {
            Err(Error::BackedOff { left, .. }) => left,
            _ => Duration::ZERO,
        };
        let health = Health::default();
        let mut before = Duration::ZERO;
        for _ in 0..4 {
            health.failed(&timeout(), Instant::now());
            assert!(left(&health) > before);
            before = left(&health);
        }
        for _ in 0..100 {
            health.failed(&timeout(), Instant::now());
        }
        assert!(left(&health) <= PAUSE_MAX);
        // A request from before the pause changes nothing.
        let once = Health::default();
        let began = Instant::now();
        once.failed(&timeout(), began);
        for _ in 0..20 {
            once.failed(&timeout(), began);
        }
        assert!(left(&once) <= PAUSE_MIN);
        let asked = Some(Duration::from_hours(5));
        health.failed(
            &Error::RateLimited { host: "a".to_owned(), retry_after: asked, message: String::new() },
            Instant::now(),
        );
        assert!(left(&health) > PAUSE_MAX && left(&health) <= ASKED_PAUSE_MAX);
        assert_eq!(health.allowance(), None, "a refusal is a pause, and says nothing about what comes after it");
    }
}
