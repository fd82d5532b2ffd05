//! The order of tags as versions: `v1.9` comes before `v1.10`, and `1.0.0-rc1` before `1.0.0`.
//!
//! Pure. The order is total: two tags are equal only if they are the same text. Runs of digits have any length.

use crate::oci::Tag;

/// A shorter run of hex digits may be a version or a date.
const COMMIT_MIN: usize = 7;

/// Words after a number that mean a version before it, such as `1.0rc1`.
const BEFORE_RELEASE: [&str; 9] = ["a", "alpha", "b", "beta", "dev", "pre", "preview", "rc", "snapshot"];

/// The groups of tags, the last one first in a list with the newest version on top.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Group {
    /// A tag that belongs to the signature of another manifest.
    Companion,
    /// A word, a branch, or a commit.
    Name,
    /// It begins with a number, or with `v` and a number.
    Version,
    /// `latest`
    Latest,
}

/// The parts of a tag in ascending order, as bytes of a key.
const DASH: u8 = 1;
const BEFORE_RELEASE_WORD: u8 = 2;
const END: u8 = 3;
const DOT: u8 = 4;
const UNDERSCORE: u8 = 5;
const NUMBER: u8 = 6;
const WORD: u8 = 7;

/// Writes a key whose bytes are ordered as the tags: a long list makes one key for each tag, and compares only bytes.
pub(in crate::content::repository) fn write_key(tag: &str, key: &mut Vec<u8>) {
    key.clear();
    key.push(group(tag) as u8);
    let (mut rest, mut after_number) = (without_v(tag).as_bytes(), false);
    while let Some(first) = rest.first() {
        let was_after_number = std::mem::replace(&mut after_number, first.is_ascii_digit());
        let length = rest.iter().take_while(|byte| belongs(**byte, *first)).count().max(1);
        let (part, left) = rest.split_at(length);
        rest = left;
        match first {
            b'-' => key.push(DASH),
            b'.' => key.push(DOT),
            b'_' => key.push(UNDERSCORE),
            b'0'..=b'9' => {
                let digits = &part[part.iter().take_while(|digit| **digit == b'0').count()..];
                // More digits are a larger number.
                key.extend([NUMBER, u8::try_from(digits.len()).unwrap_or(u8::MAX)]);
                key.extend(digits);
            }
            _ => {
                let is_early =
                    was_after_number && BEFORE_RELEASE.iter().any(|word| word.as_bytes().eq_ignore_ascii_case(part));
                key.push(if is_early { BEFORE_RELEASE_WORD } else { WORD });
                key.extend(part.iter().map(u8::to_ascii_lowercase));
                // A word comes after its beginnings.
                key.push(0);
            }
        }
    }
    key.push(END);
    // Tags that differ only in case or in leading zeros.
    key.extend(tag.as_bytes());
}

/// Whether a byte belongs to the same part of a tag as the first byte of the part.
const fn belongs(byte: u8, first: u8) -> bool {
    let is_separator = matches!(byte, b'-' | b'.' | b'_');
    !is_separator && !matches!(first, b'-' | b'.' | b'_') && byte.is_ascii_digit() == first.is_ascii_digit()
}

/// Compares two tags, the older version first.
#[cfg(test)]
pub(super) fn compare(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    write_key(a, &mut left);
    write_key(b, &mut right);
    left.cmp(&right)
}

/// Whether a tag is a version: a number, or `v` and a number, and no commit.
pub(in crate::content::repository) fn is_version(tag: &str) -> bool {
    matches!(group(tag), Group::Version)
}

/// Whether a tag only belongs to another manifest, such as the tag of a signature.
pub(super) fn is_companion(tag: &str) -> bool {
    // Few tags begin so, and the check is made for each tag of a long list.
    tag.starts_with("sha256-") && tag.parse::<Tag>().is_ok_and(|tag| tag.companion_of().is_some())
}

fn group(tag: &str) -> Group {
    if tag == "latest" {
        return Group::Latest;
    }
    if !without_v(tag).as_bytes().first().is_some_and(u8::is_ascii_digit) {
        return if is_companion(tag) { Group::Companion } else { Group::Name };
    }
    let hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    let is_commit =
        tag.len() >= COMMIT_MIN && tag.bytes().all(hex) && tag.bytes().any(|byte| byte.is_ascii_lowercase());
    if is_commit { Group::Name } else { Group::Version }
}

/// The tag without a `v` before a digit.
fn without_v(tag: &str) -> &str {
    match tag.as_bytes() {
        [b'v' | b'V', digit, ..] if digit.is_ascii_digit() => &tag[1..],
        _ => tag,
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::*;

    /// Asserts that the tags are in ascending order.
    fn ascend(tags: &[&str]) {
        for (number, older) in tags.iter().enumerate() {
            for newer in &tags[number + 1..] {
                assert_eq!(compare(older, newer), Ordering::Less, "{older} before {newer}");
                assert_eq!(compare(newer, older), Ordering::Greater, "{newer} after {older}");
            }
        }
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        ascend(&["v1.8", "v1.9", "v1.10", "1.11", "v2"]);
        ascend(&["1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc1", "1.0.0", "1.0.1"]);
        ascend(&["1.0a1", "1.0b2", "1.0rc1", "1.0RC2", "1.0", "1.0.1"]);
        ascend(&["1", "1.2", "1.2.3", "1.2.3.1", "1.3"]);
        ascend(&["2024.02.29", "2024.03.01", "20240301"]);
        ascend(&["release-1.9", "release-1.10"]);
    }

    #[test]
    fn words_and_commits_come_before_versions_and_latest_is_the_newest() {
        let signature = format!("sha256-{}.sig", "a".repeat(64));
        ascend(&[&signature, "3f2a91c", "main", "0.1", "latest"]);
        ascend(&["1234567", "12345678"]);
    }

    #[test]
    fn long_runs_of_digits_do_not_overflow() {
        let long = "9".repeat(100);
        ascend(&["18446744073709551615", "18446744073709551616", &long]);
        ascend(&["01", "1", "2"]);
    }

    proptest! {
        #[test]
        fn the_order_is_total(tags in proptest::collection::vec("(v|V)?[0-9a-cA-C._-]{0,6}(rc|beta)?[0-9]{0,3}", 3)) {
            let [a, b, c] = tags.as_slice() else { unreachable!("three were asked for") };
            prop_assert_eq!(compare(a, b), compare(b, a).reverse());
            prop_assert_eq!(compare(a, b) == Ordering::Equal, a == b);
            let ab = compare(a, b);
            if ab == compare(b, c) {
                prop_assert_eq!(compare(a, c), ab);
            }
        }

        #[test]
        fn a_larger_number_is_newer(a in 0_u64.., b in 0_u64.., prefix in "(v|[a-z]{2,5}-)?") {
            prop_assert_eq!(compare(&format!("{prefix}{a}.0"), &format!("{prefix}{b}.0")), a.cmp(&b));
        }
    }
}
