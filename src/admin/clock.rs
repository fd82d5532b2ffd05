//! The clock: how commands print times, and how a wrong clock is found. Certificates, access tokens and the expiry of
//! keys depend on it.

use std::path::PathBuf;
use std::time::Duration;

use crate::kit::clock::Timestamp;

/// The clock cannot be earlier than this version: 2026-11-01.
const RELEASED: Timestamp = Timestamp::from_micros(1_793_491_200_000_000);
/// The difference that clocks may have.
const TOLERANCE: Duration = Duration::from_mins(2);

/// How to set the clock.
pub(crate) const SET_CLOCK: &str = "set the clock, and keep it right: `timedatectl set-ntp true`";

/// A time as commands print it, such as `2026-12-01 22:16 UTC`.
pub(crate) fn shown_time(time: Timestamp) -> String {
    time.to_minute()
}

/// A time in RFC 3339 as commands print it. Returns another text as it is.
pub(crate) fn shown_rfc3339(text: &str) -> String {
    Timestamp::from_rfc3339(text).map_or_else(|| text.to_owned(), shown_time)
}

/// Compares the clock with this version, and with files that the registry writes. `None` if it may be right.
pub(crate) fn wrong_clock(now: Timestamp, files: impl IntoIterator<Item = PathBuf>) -> Option<String> {
    let shown = shown_time(now);
    if now < RELEASED {
        return Some(format!("the clock says {shown}, which is before this version was made"));
    }
    files.into_iter().find_map(|file| {
        let modified = Timestamp::from(std::fs::metadata(&file).and_then(|found| found.modified()).ok()?);
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let is_later = modified > now.after(TOLERANCE);
        let modified = shown_time(modified);
        is_later.then(|| format!("the clock says {shown}, and {name} was written at {modified}: one of them is wrong"))
    })
}

/// Compares the clock with another one. `None` if both agree.
pub(crate) fn different_clock(now: Timestamp, other: Timestamp, whose: &str) -> Option<String> {
    let difference = now.since(other).max(other.since(now));
    let (now, other) = (shown_time(now), shown_time(other));
    (difference > TOLERANCE)
        .then(|| format!("the clock says {now}, and that of {whose} says {other}: one of them is wrong"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_to_the_minute() {
        assert_eq!(shown_rfc3339("2026-12-01T22:16:59.056572Z"), "2026-12-01 22:16 UTC");
        assert_eq!(shown_rfc3339("never"), "never");
    }

    #[test]
    fn a_clock_before_the_release_or_before_the_newest_file_is_wrong() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("coracle.wal");
        let wrong = |now| wrong_clock(now, [path.clone()]);
        let time = |text: &str| Timestamp::from_rfc3339(text).unwrap();
        let now = time("2027-01-01T00:00:00Z");
        assert_eq!(wrong(now), None, "the file does not exist");
        assert!(wrong(time("2020-01-01T00:00:00Z")).unwrap().contains("before this version"));
        let file = std::fs::File::create(&path).unwrap();
        let at = |seconds: u64| std::time::UNIX_EPOCH + Duration::from_secs(1_798_761_600 + seconds);
        file.set_modified(at(100)).unwrap();
        assert_eq!(wrong(now), None, "a small difference is no fault");
        file.set_modified(at(200)).unwrap();
        assert!(wrong(now).unwrap().contains("coracle.wal was written at 2027-01-01 00:03 UTC"));
        assert_eq!(different_clock(now, now.after(TOLERANCE), "the other"), None);
        assert!(
            different_clock(now.after(TOLERANCE * 2), now, "the other").unwrap().contains("that of the other says")
        );
    }
}
