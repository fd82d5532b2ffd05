//! The clock: certificates, access tokens and the expiry of keys depend on it.

use std::path::Path;
use std::time::Duration;

use super::Check;
use crate::admin::Status;
use crate::kit::clock::{Clock, Timestamp};

pub(super) const NAME: &str = "clock";
/// The clock cannot be earlier than this version: 2026-11-01.
const RELEASED: Timestamp = Timestamp::from_micros(1_793_491_200_000_000);
/// The difference that clocks may have.
pub(super) const TOLERANCE: Duration = Duration::from_mins(2);

/// How to set the clock.
const SET: &str = "set the clock, and keep it right: `timedatectl set-ntp true`";

/// The time now.
pub(super) fn now() -> Timestamp {
    Clock::default().now()
}

/// Compares the clock with this version, with the files of the registry, and with the running registry.
pub(super) fn check(root: &Path, status: Option<&Status>) -> Check {
    let now = now();
    if now < RELEASED {
        let found = format!("the clock says {now}, which is before this version was made");
        return Check::problem(NAME, found, SET);
    }
    for name in ["manifests.log", "coracle.redb", "coracle.wal"] {
        let Ok(modified) = std::fs::metadata(root.join(name)).and_then(|found| found.modified()) else { continue };
        let modified = Timestamp::from(modified);
        if modified > now.after(TOLERANCE) {
            let found = format!("the clock says {now}, and {name} was written at {modified}: one of them is wrong");
            return Check::problem(NAME, found, SET);
        }
    }
    if let Some(other) = status.and_then(|status| Timestamp::from_rfc3339(&status.now)) {
        return compare(now, other, "the running registry").unwrap_or_else(|| Check::ok(NAME, now.to_string()));
    }
    Check::ok(NAME, now.to_string())
}

/// Compares the clock with another one.
pub(super) fn compare(now: Timestamp, other: Timestamp, whose: &str) -> Option<Check> {
    let difference = now.since(other).max(other.since(now));
    (difference > TOLERANCE).then(|| {
        let found = format!("the clock says {now}, and that of {whose} says {other}: one of them is wrong");
        Check::problem(NAME, found, SET)
    })
}
