//! [`Validity`]: from when until when a certificate is valid, and what that means at a time.

#[cfg_attr(not(feature = "tls"), path = "certificate/absent.rs")]
mod file;

use std::time::Duration;

use super::clock::{Clock, Timestamp};
pub(crate) use file::are_certificates;
#[cfg(feature = "tls")]
pub(crate) use file::is_for;

/// A certificate that expires within this time needs attention. One with a short life does in the last quarter of it.
const NOTICE: Duration = Duration::from_hours(14 * 24);

/// The time in which a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

/// The state of a certificate at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValidityState {
    NotYetValid,
    Valid,
    /// Valid for two weeks at most, or a quarter of its lifetime.
    ExpiresSoon,
    Expired,
}

impl Validity {
    pub(crate) fn at(&self, now: Timestamp) -> ValidityState {
        if self.until <= now {
            ValidityState::Expired
        } else if self.from > now {
            ValidityState::NotYetValid
        } else if self.until < now.after(NOTICE.min(self.until.since(self.from) / 4)) {
            ValidityState::ExpiresSoon
        } else {
            ValidityState::Valid
        }
    }

    /// The state now, by the clock of this machine.
    pub(crate) fn now(&self) -> ValidityState {
        self.at(Clock::default().now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_with_a_short_life_needs_attention_later() {
        let start = Timestamp::from_micros(0);
        let day = Duration::from_hours(24);
        let state = |lifetime: u32, age: u32| {
            Validity { from: start, until: start.after(day * lifetime) }.at(start.after(day * age))
        };
        assert_eq!([state(365, 350), state(365, 352)], [ValidityState::Valid, ValidityState::ExpiresSoon]);
        assert_eq!(
            [state(8, 5), state(8, 7), state(8, 8)],
            [ValidityState::Valid, ValidityState::ExpiresSoon, ValidityState::Expired]
        );
    }
}
