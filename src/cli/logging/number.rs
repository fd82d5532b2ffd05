//! Numbers in log lines: the text of `Display`, without its formatter. Each request logs several, and formatting was most
//! of the cost of the access log.

use std::io::Write as _;

/// The nanoseconds of a second.
const NANOS: u64 = 1_000_000_000;
/// Seconds below this are exact in nanoseconds: they have at most fifteen digits, which `f64` tells apart.
const EXACT_BELOW: f64 = 1e6;

/// Appends an integer.
pub(super) fn push_integer(line: &mut Vec<u8>, value: u64) {
    line.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends the microseconds of a second, below 10⁶, as six digits.
pub(super) fn push_micros(line: &mut Vec<u8>, micros: u32) {
    // The digit before them keeps their zeros.
    line.extend_from_slice(&itoa::Buffer::new().format(1_000_000 + micros).as_bytes()[1..]);
}

/// Appends a plain decimal: `0.000031`, not `3.1e-5`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "exact by the checks"
)]
#[expect(clippy::float_cmp, reason = "only an exact result has the digits of Display")]
pub(super) fn push_decimal(line: &mut Vec<u8>, value: f64) {
    if value.is_sign_positive() && value < EXACT_BELOW {
        let nanos = (value * NANOS as f64).round() as u64;
        if nanos as f64 / NANOS as f64 == value {
            push_integer(line, nanos / NANOS);
            if !nanos.is_multiple_of(NANOS) {
                line.push(b'.');
                let mut buffer = itoa::Buffer::new();
                // As in `push_micros`.
                let fraction = &buffer.format(NANOS + nanos % NANOS).as_bytes()[1..];
                let zeros = fraction.iter().rev().take_while(|digit| **digit == b'0').count();
                line.extend_from_slice(&fraction[..9 - zeros]);
            }
            return;
        }
    }
    // Writing to memory cannot fail.
    let _ = write!(line, "{value}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(value: f64) -> String {
        let mut line = Vec::new();
        push_decimal(&mut line, value);
        String::from_utf8(line).expect("digits are ASCII")
    }

    proptest! {
        #[test]
        fn numbers_have_the_text_of_display(integer: u64, any: f64, nanos in 0..u64::from(u32::MAX), micros in 0..1_000_000_u32) {
            let mut line = Vec::new();
            push_integer(&mut line, integer);
            push_micros(&mut line, micros);
            prop_assert_eq!(line, format!("{integer}{micros:06}").into_bytes());
            for value in [any, std::time::Duration::from_nanos(nanos * 40).as_secs_f64(), 1e-9 * any.fract()] {
                prop_assert_eq!(decimal(value), value.to_string());
            }
        }
    }

    #[test]
    fn unusual_numbers_have_the_text_of_display() {
        for value in [
            0.0,
            -0.0,
            1.0,
            10.0,
            0.5,
            1e-9,
            1.5e-9,
            1e-10,
            999_999.999_999_999,
            1e6,
            1e300,
            -3.5,
            f64::NAN,
            f64::INFINITY,
        ] {
            assert_eq!(decimal(value), value.to_string());
        }
        assert_eq!(decimal(3.1e-5), "0.000031");
    }
}
