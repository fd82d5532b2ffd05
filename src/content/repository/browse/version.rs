//! The order of tags as versions: `v1.9` comes before `v1.10`, and `1.0.0-rc1` before `1.0.0`.
//!
//! Pure. The order is total: two tags are equal only if they are the same text. Runs of digits have any length.

use std::cmp::Ordering;

use crate::oci::Tag;

/// A shorter run of hex digits may be a version or a date.
const COMMIT_MIN: usize = 7;

/// Words after a number that mean a version before it, such as `1.0rc1`.
const BEFORE_RELEASE: [&str; 9] = ["a", "alpha", "b", "beta", "dev", "pre", "preview", "rc", "snapshot"];

/// The groups of tags, the last one first in a list with the newest version on top.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

/// A part of a tag, in ascending order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Dash,
    BeforeRelease(Word<'a>),
    End,
    Dot,
    Underscore,
    Number(Number<'a>),
    Word(Word<'a>),
}

/// Digits without leading zeros.
#[derive(PartialEq, Eq)]
struct Number<'a>(&'a [u8]);

impl Ord for Number<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(other.0))
    }
}

impl PartialOrd for Number<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Letters, compared without their case.
struct Word<'a>(&'a [u8]);

impl Ord for Word<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let lower = |word: &Self| word.0.iter().map(u8::to_ascii_lowercase).collect::<Vec<_>>();
        if self.0 == other.0 { Ordering::Equal } else { lower(self).cmp(&lower(other)) }
    }
}

impl PartialOrd for Word<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Word<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Word<'_> {}

/// The rest of a tag that is read.
struct Parts<'a> {
    rest: &'a [u8],
    after_number: bool,
}

impl<'a> Parts<'a> {
    fn new(tag: &'a str) -> Self {
        Self { rest: without_v(tag).as_bytes(), after_number: false }
    }

    fn next(&mut self) -> Part<'a> {
        let Some(first) = self.rest.first() else { return Part::End };
        let after_number = std::mem::replace(&mut self.after_number, first.is_ascii_digit());
        if first.is_ascii_digit() {
            let digits = self.take(u8::is_ascii_digit);
            let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
            return Part::Number(Number(&digits[zeros..]));
        }
        if !matches!(first, b'-' | b'.' | b'_') {
            let word = self.take(|byte| !byte.is_ascii_digit() && !matches!(byte, b'-' | b'.' | b'_'));
            let is_early =
                after_number && BEFORE_RELEASE.iter().any(|early| early.as_bytes().eq_ignore_ascii_case(word));
            return if is_early { Part::BeforeRelease(Word(word)) } else { Part::Word(Word(word)) };
        }
        let part = match first {
            b'-' => Part::Dash,
            b'.' => Part::Dot,
            _ => Part::Underscore,
        };
        self.rest = &self.rest[1..];
        part
    }

    fn take(&mut self, belongs: impl Fn(&u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().take_while(|byte| belongs(byte)).count();
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }
}

/// Compares two tags, the older version first.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let groups = group(a).cmp(&group(b));
    if groups != Ordering::Equal {
        return groups;
    }
    let (mut left, mut right) = (Parts::new(a), Parts::new(b));
    loop {
        let (one, other) = (left.next(), right.next());
        match one.cmp(&other) {
            Ordering::Equal if one == Part::End => return a.cmp(b),
            Ordering::Equal => {}
            different => return different,
        }
    }
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
