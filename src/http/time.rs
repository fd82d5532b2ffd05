//! The time formats of clients.

use jiff::fmt::temporal::Pieces;
use jiff::tz::TimeZone;

use crate::kit::clock::Timestamp;

/// Go's text for "no time", which zot's clients look for.
pub(super) const NEVER: &str = "0001-01-01T00:00:00Z";

/// Formats a time as Go does (RFC 3339).
pub(super) fn rfc3339(time: Timestamp) -> String {
    time.to_string()
}

/// Reads RFC 3339. Returns `None` for another format. Times before 1970 become the beginning of 1970. Times after
/// [`Timestamp::LATEST`] become that, such as the end of year 9999, which users write for "never".
pub(super) fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let pieces = Pieces::parse(text).ok()?;
    let offset = pieces.to_numeric_offset().filter(|_| pieces.time_zone_annotation().is_none())?;
    let time = pieces.date().to_datetime(pieces.time()?);
    let micros = match offset.to_timestamp(time) {
        Ok(stamp) => u64::try_from(stamp.as_microsecond()).unwrap_or(0),
        // Only the first and the last days of the calendar have no timestamp.
        Err(_) if time.year() > 1970 => u64::MAX,
        Err(_) => 0,
    };
    Some(Timestamp::from_micros(micros).min(Timestamp::LATEST))
}

/// Reads `MM/DD/YYYY` as the beginning of that day in UTC. Quay's logs use this format.
pub(super) fn parse_day(text: &str) -> Option<Timestamp> {
    let date = jiff::civil::Date::strptime("%m/%d/%Y", text).ok()?;
    let stamp = date.to_zoned(TimeZone::UTC).ok()?.timestamp();
    u64::try_from(stamp.as_microsecond()).ok().map(Timestamp::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_formatted_as_by_go_and_python() {
        let time = Timestamp::from_micros(1_795_311_390_250_000);
        assert_eq!(rfc3339(time), "2026-11-22T01:36:30.25Z");
        assert_eq!(time.rfc2822(), "Sun, 22 Nov 2026 01:36:30 -0000");
        for text in ["2026-11-22T01:36:30.25Z", "2026-11-22T04:36:30.25+03:00", "2026-11-21T20:36:30.250-05:00"] {
            assert_eq!(parse_rfc3339(text), Some(time), "{text}");
        }
        for text in
            ["", "never", "2026-11-22", "2026-11-22T01:36:30", "22.11.2026", "2026-11-22T01:36:30Z[Europe/Paris]"]
        {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
        for text in ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999999999-12:00", "9999-12-30T23:00:00Z"] {
            assert_eq!(parse_rfc3339(text), Some(Timestamp::LATEST), "{text}");
        }
        assert_eq!(rfc3339(Timestamp::LATEST), "9999-12-30T22:00:00Z");
        for text in ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:00", "1969-01-01T00:00:00Z"] {
            assert_eq!(parse_rfc3339(text), Some(Timestamp::from_micros(0)), "{text}");
        }
        assert_eq!(parse_day("11/22/2026").map(rfc3339).as_deref(), Some("2026-11-22T00:00:00Z"));
        assert_eq!(parse_day("22/11/2026"), None);
    }
}
