//! [`WorkProgress`]: how much of long work is done.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How much of long work is done. The work writes it, and other threads read it and may stop the work.
#[derive(Debug, Default)]
pub(crate) struct WorkProgress {
    /// In any unit. 0 while it is unknown.
    total: AtomicU64,
    done: AtomicU64,
    is_stopped: AtomicBool,
}

impl WorkProgress {
    /// Sets the amount of work.
    pub(crate) fn expect(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Adds work that was not expected.
    pub(crate) fn expect_more(&self, more: u64) {
        if self.total.load(Ordering::Relaxed) > 0 {
            self.total.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Sets the amount that is done.
    pub(crate) fn reach(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    /// The amount that is done.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// The part that is done, in percent. At most 99, because the work knows its end. `None` if it is unknown.
    pub(crate) fn percent(&self) -> Option<u8> {
        let (done, total) = (u128::from(self.done()), u128::from(self.total.load(Ordering::Relaxed)));
        (total > 0).then(|| u8::try_from((done * 100 / total).min(99)).unwrap_or(99))
    }

    /// Asks the work to stop after its current step.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentage_is_known_once_the_total_is_and_ends_below_100() {
        let progress = WorkProgress::default();
        progress.reach(5);
        assert_eq!(progress.percent(), None);
        progress.expect_more(5);
        assert_eq!(progress.percent(), None);
        progress.expect(10);
        assert_eq!(progress.percent(), Some(50));
        progress.expect_more(10);
        assert_eq!(progress.percent(), Some(25));
        progress.reach(u64::MAX);
        assert_eq!(progress.percent(), Some(99));
    }
}
