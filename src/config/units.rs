//! Reads durations in Go's syntax, and sizes in bytes. No text causes a panic or an overflow.

/// The units of Go's `time.ParseDuration`, in nanoseconds. Both micro signs are in use.
const DURATION_UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// How many digits of a fraction are used. More cannot change a nanosecond, and could overflow.
const FRACTION_DIGITS_MAX: usize = 18;

const SIZE_UNITS: [(&str, u64); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// Nanoseconds of a duration such as `1h30m`, `1.5h`, `300ms`, `-2s` or `0`. `None` if the text is not a duration, or
/// does not fit in 64 bits, as in Go.
pub(super) fn duration_nanoseconds(text: &str) -> Option<i64> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if unsigned == "0" {
        return Some(0);
    }
    if unsigned.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let (number, after_number) = split_while(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after_unit) = split_while(after_number, |c| !c.is_ascii_digit() && c != '.');
        let (_, scale) = DURATION_UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(decimal(number, *scale)?)?;
        rest = after_unit;
    }
    i64::try_from(sign * total).ok()
}

/// Bytes of a size such as `4MiB`, `512 KiB` or `100`; `None` if the text is not a size.
pub(crate) fn size_bytes(text: &str) -> Option<u64> {
    let (digits, after_digits) = split_while(text.trim(), |c| c.is_ascii_digit());
    let unit = after_digits.trim_start();
    let scale = if unit.is_empty() { 1 } else { SIZE_UNITS.iter().find(|(name, _)| *name == unit)?.1 };
    digits.parse::<u64>().ok()?.checked_mul(scale)
}

/// A size in the largest unit that leaves no remainder.
pub(super) fn size_text(bytes: u64) -> String {
    let (name, scale) = SIZE_UNITS
        .iter()
        .rev()
        .find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale))
        .unwrap_or(&SIZE_UNITS[0]);
    format!("{}{name}", bytes / scale)
}

/// A decimal number times `scale`, rounded down.
fn decimal(number: &str, scale: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { i128::from(whole.parse::<u64>().ok()?) };
    let kept = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    let part = if kept.is_empty() {
        0
    } else {
        let divisor = 10_i128.pow(u32::try_from(kept.len()).ok()?);
        i128::from(kept.parse::<u64>().ok()?) * scale / divisor
    };
    Some(whole * scale + part)
}

fn split_while(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::{duration_nanoseconds, size_bytes, size_text};

    #[test]
    fn durations_read_as_go_reads_them() {
        const SECOND: i64 = 1_000_000_000;
        let cases = [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("+5s", Some(5 * SECOND)),
            ("5s", Some(5 * SECOND)),
            ("30m", Some(1800 * SECOND)),
            ("24h", Some(86_400 * SECOND)),
            ("1h30m", Some(5400 * SECOND)),
            ("1.5h", Some(5400 * SECOND)),
            ("1h15m30.918273645s", Some(4_530_918_273_645)),
            (".5s", Some(SECOND / 2)),
            ("1.s", Some(SECOND)),
            ("300ms", Some(300_000_000)),
            ("10us", Some(10_000)),
            ("10\u{b5}s", Some(10_000)),
            ("10\u{3bc}s", Some(10_000)),
            ("15ns", Some(15)),
            ("-2m3.4s", Some(-123_400_000_000)),
            ("0.3333333333333333333h", Some(1_199_999_999_999)),
            ("0.100000000000000000000h", Some(360 * SECOND)),
            ("9223372036854775807ns", Some(i64::MAX)),
            ("-9223372036854775808ns", Some(i64::MIN)),
            ("2562047h47m16.854775807s", Some(i64::MAX)),
            ("9223372036854775808ns", None),
            ("3000000h", None),
            ("99999999999999999999999s", None),
            ("", None),
            ("-", None),
            ("3", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("1d", None),
            ("1 h", None),
            ("1H", None),
            ("--1s", None),
            ("1h-5m", None),
            ("1e3s", None),
            ("\u{661}s", None),
        ];
        for (text, expected) in cases {
            assert_eq!(duration_nanoseconds(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes_have_binary_units_only() {
        let cases = [
            ("0", Some(0)),
            ("100", Some(100)),
            ("100B", Some(100)),
            ("4MiB", Some(4 << 20)),
            (" 512 KiB ", Some(512 << 10)),
            ("1GiB", Some(1 << 30)),
            ("16777216TiB", None),
            ("4MB", None),
            ("4mib", None),
            ("1.5MiB", None),
            ("-1", None),
            ("MiB", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(size_bytes(text), expected, "{text:?}");
        }
        for (bytes, expected) in [(0, "0B"), (1000, "1000B"), (1 << 20, "1MiB"), (64 << 20, "64MiB"), (1536, "1536B")] {
            assert_eq!(size_text(bytes), expected);
            assert_eq!(size_bytes(expected), Some(bytes));
        }
    }
}
