//! Numbers in log lines: the text of `Display`, without its formatter. Each request logs several, and formatting was most
//! of the cost of the access log.

use std::fmt::Write as _;

/// The nanoseconds of a second.
const NANOS: u64 = 1_000_000_000;
/// Seconds below this are exact in nanoseconds: they have at most fifteen digits, which `f64` tells apart.
const EXACT_BELOW: f64 = 1e6;

/// Appends an integer.
pub(super) fn push_integer(line: &mut String, value: u64) {
    line.push_str(itoa::Buffer::new().format(value));
}

/// Appends an integer below 10⁹, with zeros before it up to a number of digits, at most nine.
pub(super) fn push_padded(line: &mut String, value: u32, digits: usize) {
    let text = nine_digits(value);
    let zeros = text.iter().take_while(|digit| **digit == b'0').count();
    push_digits(line, &text[zeros.min(9 - digits)..]);
}

/// The last nine digits of an integer.
fn nine_digits(mut value: u32) -> [u8; 9] {
    let mut text = [b'0'; 9];
    for digit in text.iter_mut().rev() {
        *digit += u8::try_from(value % 10).expect("it is one digit");
        value /= 10;
    }
    text
}

fn push_digits(line: &mut String, digits: &[u8]) {
    line.push_str(str::from_utf8(digits).expect("digits are ASCII"));
}

/// Appends a plain decimal: `0.000031`, not `3.1e-5`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "exact by the checks"
)]
#[expect(clippy::float_cmp, reason = "only an exact result has the digits of Display")]
pub(super) fn push_decimal(line: &mut String, value: f64) {
    if value.is_sign_positive() && value < EXACT_BELOW {
        let nanos = (value * NANOS as f64).round() as u64;
        if nanos as f64 / NANOS as f64 == value {
            push_integer(line, nanos / NANOS);
            if !nanos.is_multiple_of(NANOS) {
                let fraction = nine_digits((nanos % NANOS) as u32);
                let zeros = fraction.iter().rev().take_while(|digit| **digit == b'0').count();
                line.push('.');
                push_digits(line, &fraction[..9 - zeros]);
            }
            return;
        }
    }
    // Writing to a string cannot fail.
    let _ = write!(line, "{value}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(value: f64) -> String {
        let mut line = String::new();
        push_decimal(&mut line, value);
        line
    }

    proptest! {
        #[test]
        fn numbers_have_the_text_of_display(integer: u64, any: f64, nanos in 0..u64::from(u32::MAX), small in 0..10_000_000_u32) {
            let mut line = String::new();
            push_integer(&mut line, integer);
            push_padded(&mut line, small, 6);
            prop_assert_eq!(line, format!("{integer}{small:06}"));
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
