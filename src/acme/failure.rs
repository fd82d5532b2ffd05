//! [`Failure`]: why the authority issued no certificate, and how long to pause.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The first and the longest pause by kind of failure.
///
/// A refused name costs a failed validation for each challenge. Let's Encrypt permits five of them in an hour for a name,
/// so that two challenges every half an hour stay below the limit.
const AWAY: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(1));
const REFUSED: (Duration, Duration) = (Duration::from_mins(30), Duration::from_hours(12));
const LIMITED: (Duration, Duration) = (Duration::from_hours(1), Duration::from_hours(12));
/// The longest `Retry-After` that is followed, so that a mistake of the authority does not end renewals.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_hours(7 * 24);

/// Why an attempt failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) why: String,
    /// The pause for which the authority asks.
    pub(super) retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// The authority cannot be reached, or has an internal problem.
    Away,
    /// The authority could not verify a name by the challenge.
    Challenge,
    /// The authority refuses the account or the names, or has issued an unusable certificate.
    Refused,
    /// The authority has issued too much, or was asked too often.
    RateLimited,
    /// The fault is on this machine.
    Local,
}

impl Failure {
    /// Longer than every pause.
    pub(super) const PAUSE_MAX: Duration = Duration::from_hours(8 * 24);

    pub(super) fn new(kind: Kind, why: impl Into<String>) -> Self {
        Self { kind, why: why.into(), retry_after: None }
    }

    pub(super) fn local(why: &str) -> Self {
        Self::new(Kind::Local, why)
    }

    pub(super) const fn is_about_challenge(&self) -> bool {
        matches!(self.kind, Kind::Challenge)
    }

    /// Adds the failure of another challenge.
    pub(super) fn add(&mut self, other: &Self) {
        self.why = format!("{}; {}", self.why, other.why);
        self.retry_after = self.retry_after.max(other.retry_after);
    }

    /// The pause after this failure, which is the `count`th one of its kind in a row.
    pub(super) fn pause(&self, count: u32) -> Duration {
        let (first, most) = match self.kind {
            Kind::Away => AWAY,
            Kind::Challenge | Kind::Refused | Kind::Local => REFUSED,
            Kind::RateLimited => LIMITED,
        };
        let doubled = first.saturating_mul(1 << count.saturating_sub(1).min(16)).min(most);
        doubled.max(self.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_respect_the_authority() {
        let minutes = |failure: &Failure, count| failure.pause(count).as_secs() / 60;
        let away = Failure::new(Kind::Away, "");
        assert_eq!([1, 2, 3, 7, 100].map(|count| minutes(&away, count)), [1, 2, 4, 60, 60]);
        let refused = Failure::new(Kind::Challenge, "");
        assert_eq!([1, 2, 100].map(|count| minutes(&refused, count)), [30, 60, 720]);
        let limited = Failure { retry_after: Some(Duration::from_hours(30)), ..Failure::new(Kind::RateLimited, "") };
        assert_eq!(minutes(&limited, 1), 30 * 60);
        let short = Failure { retry_after: Some(Duration::from_secs(1)), ..limited.clone() };
        assert_eq!(minutes(&short, 1), 60);
        let mistake = Failure { retry_after: Some(Duration::MAX), ..limited };
        assert_eq!(minutes(&mistake, 1), 7 * 24 * 60);
    }
}
