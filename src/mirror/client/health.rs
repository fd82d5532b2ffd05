//! [`Health`]: whether an upstream failed a moment ago, and how many requests it still allows.
//!
//! The first failure costs one caller its wait. Until the pause ends, all others get the same error at once. The pause grows
//! with each failure in a row, and ends with a success.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Error;

/// The pause after the first failure. Each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_mins(1);
/// The longest pause that an upstream can ask for with `Retry-After`.
const ASKED_PAUSE_MAX: Duration = Duration::from_mins(15);

#[derive(Debug, Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    paused: Option<(Instant, Error)>,
    remaining: Option<u64>,
}

impl Health {
    /// Fails while the upstream is left alone.
    pub(super) fn check(&self) -> Result<(), Error> {
        match &self.0.lock().paused {
            Some((until, error)) if *until > Instant::now() => {
                Err(Error::BackedOff { error: Box::new(error.clone()), left: *until - Instant::now() })
            }
            _ => Ok(()),
        }
    }

    /// Records a response, with the remaining requests that it announces.
    pub(super) fn succeeded(&self, remaining: Option<u64>) {
        let mut state = self.0.lock();
        state.failures = 0;
        state.paused = None;
        state.remaining = remaining.or(state.remaining);
    }

    /// Records a failure. Errors of one request only do not count.
    pub(super) fn failed(&self, error: &Error) {
        if !error.is_of_host() {
            return;
        }
        let mut state = self.0.lock();
        if matches!(error, Error::RateLimited { .. }) {
            state.remaining = Some(0);
        }
        let usual = PAUSE_MIN.saturating_mul(1 << state.failures.min(8)).min(PAUSE_MAX);
        let pause = error.retry_after().map_or(usual, |asked| asked.min(ASKED_PAUSE_MAX));
        state.failures = state.failures.saturating_add(1);
        state.paused = Some((Instant::now() + pause, error.clone()));
    }

    /// The requests that the upstream still allows, if it has said so.
    pub(super) fn remaining_quota(&self) -> Option<u64> {
        self.0.lock().remaining
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout() -> Error {
        Error::Timeout { host: "a".to_owned(), after: Duration::from_secs(1) }
    }

    #[test]
    fn an_upstream_that_failed_is_left_alone_until_it_succeeds() {
        let health = Health::default();
        assert!(health.check().is_ok());
        health.failed(&Error::NotFound);
        assert!(health.check().is_ok(), "a missing manifest is no failure of the host");
        health.failed(&timeout());
        assert!(matches!(health.check(), Err(Error::BackedOff { error, .. }) if error.is_timeout()));
        health.succeeded(Some(7));
        assert!(health.check().is_ok());
        assert_eq!(health.remaining_quota(), Some(7));
    }

    #[test]
    fn the_pause_grows_and_respects_the_wish_of_the_upstream_within_a_limit() {
        let left = |health: &Health| match health.check() {
            Err(Error::BackedOff { left, .. }) => left,
            _ => Duration::ZERO,
        };
        let health = Health::default();
        let mut before = Duration::ZERO;
        for _ in 0..4 {
            health.failed(&timeout());
            assert!(left(&health) > before);
            before = left(&health);
        }
        for _ in 0..100 {
            health.failed(&timeout());
        }
        assert!(left(&health) <= PAUSE_MAX);
        let asked = Some(Duration::from_hours(5));
        health.failed(&Error::RateLimited { host: "a".to_owned(), retry_after: asked, message: String::new() });
        assert!(left(&health) > PAUSE_MAX && left(&health) <= ASKED_PAUSE_MAX);
        assert_eq!(health.remaining_quota(), Some(0));
    }
}
