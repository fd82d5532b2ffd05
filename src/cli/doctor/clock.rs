//! The clock: certificates, access tokens and the expiry of keys depend on it.

use std::path::Path;

use super::Check;
use crate::admin::{SET_CLOCK, Status, different_clock, shown_time, wrong_clock};
use crate::kit::clock::{Clock, Timestamp};

pub(super) const NAME: &str = "clock";

/// The files that a registry writes.
const FILES: [&str; 3] = ["manifests.log", "coracle.redb", "coracle.wal"];

/// The time now.
pub(super) fn now() -> Timestamp {
    Clock::default().now()
}

/// Compares the clock with this version, with the files of the registry, and with the running registry.
pub(super) fn check(root: Option<&Path>, status: Option<&Status>) -> Check {
    let now = now();
    let files = root.into_iter().flat_map(|root| FILES.map(|name| root.join(name)));
    let found = wrong_clock(now, files);
    let found = found.or_else(|| {
        let other = status.and_then(|status| Timestamp::from_rfc3339(&status.now))?;
        different_clock(now, other, "the running registry")
    });
    found.map_or_else(|| Check::ok(NAME, shown_time(now)), problem)
}

/// Compares the clock with that of a server.
pub(super) fn compare(other: Timestamp, whose: &str) -> Option<Check> {
    different_clock(now(), other, whose).map(problem)
}

fn problem(found: String) -> Check {
    Check::problem(NAME, found, SET_CLOCK)
}
