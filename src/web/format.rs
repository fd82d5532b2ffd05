//! Times, sizes and digests as pages show them.

use std::fmt;

use askama::filters::HtmlSafe;

use crate::kit::clock::Timestamp;
use crate::kit::text;
use crate::oci::Digest;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;
const MONTH: u64 = YEAR / 12;

/// A time, such as `3 days ago`. Its title has the exact time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    at: Timestamp,
    now: Timestamp,
}

impl Time {
    pub(crate) const fn new(at: Timestamp, now: Timestamp) -> Self {
        Self { at, now }
    }

    /// The exact time, such as `2026-11-30 06:10 UTC`.
    pub(super) fn exact(self) -> String {
        self.at.to_minute()
    }

    /// The time relative to now, rounded.
    fn relative(self) -> String {
        let is_past = self.at <= self.now;
        let seconds = if is_past { self.now.since(self.at) } else { self.at.since(self.now) }.as_secs();
        let counted = match seconds {
            // The clock goes on while a page is made.
            0 => return "just now".to_owned(),
            1..MINUTE => return if is_past { "just now" } else { "in a moment" }.to_owned(),
            _ => rounded(seconds),
        };
        if is_past { format!("{counted} ago") } else { format!("in {counted}") }
    }
}

/// A duration of at least a minute in words, rounded to the nearest number. So a new key for 90 days ends in 90 days, and
/// not in 2 months.
fn rounded(seconds: u64) -> String {
    let nearest = |unit: u64| (seconds + unit / 2) / unit;
    match [MINUTE, HOUR, DAY, MONTH].map(nearest) {
        [minutes @ 0..60, ..] => text::counted(minutes, "minute", "minutes"),
        [_, hours @ 0..48, ..] => text::counted(hours, "hour", "hours"),
        [_, _, days @ 0..=90, _] => text::counted(days, "day", "days"),
        [_, _, _, months @ 0..24] if months != 12 => text::counted(months, "month", "months"),
        _ => text::counted(nearest(YEAR), "year", "years"),
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<span title=\"{}\">{}</span>", self.exact(), self.relative())
    }
}

/// Digits, letters and signs of a fixed set only.
impl HtmlSafe for Time {}

/// A number of bytes with a binary unit, such as `49.5 GiB`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<span title=\"{} bytes\">{}</span>", self.0, text::size(self.0))
    }
}

/// Digits and units only.
impl HtmlSafe for Bytes {}

/// The beginning of a digest. Its title has the whole digest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShortDigest(pub(crate) Digest);

impl ShortDigest {
    /// The number of hexadecimal digits, as in the output of docker.
    const DIGITS: usize = 12;

    /// The digits alone, for long lists.
    pub(super) fn digits(&self) -> String {
        let whole = self.0.to_string();
        let digits = whole.split_once(':').map_or(&*whole, |(_, digits)| digits);
        digits[..Self::DIGITS.min(digits.len())].to_owned()
    }
}

impl fmt::Display for ShortDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<code class=\"digest\" title=\"{}\">{}</code>", self.0, self.digits())
    }
}

/// A digest is letters, digits and a colon.
impl HtmlSafe for ShortDigest {}

/// The program behind a `User-Agent` in short, such as `Firefox on Linux` or `docker/24.0`.
pub(crate) fn program(agent: &str) -> String {
    /// The longest name of a program that is no browser, in characters.
    const NAME_MAX: usize = 40;
    /// Browsers contain the words of others, so the order matters.
    const BROWSERS: [(&str, &str); 5] =
        [("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari")];
    const SYSTEMS: [(&str, &str); 6] = [
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ];
    let find =
        |table: &[(&str, &'static str)]| table.iter().find(|(word, _)| agent.contains(word)).map(|(_, name)| *name);
    let browser = find(&BROWSERS).filter(|_| agent.starts_with("Mozilla/"));
    match (browser, find(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.to_owned(),
        (None, _) if agent.trim().is_empty() => "unknown program".to_owned(),
        // The program calls itself so, with its version; the rest is about libraries.
        (None, _) => {
            let words: Vec<&str> = agent.split_whitespace().collect();
            let is_named = words.first().is_some_and(|word| word.contains('/'));
            let name = if is_named { words[0].to_owned() } else { agent.trim().to_owned() };
            name.chars().take(NAME_MAX).collect()
        }
    }
}

/// A message as a sentence: with a capital letter and a full stop.
pub(crate) fn sentence(message: &str) -> String {
    let mut characters = message.chars();
    let Some(first) = characters.next() else { return String::new() };
    let mut sentence: String = first.to_uppercase().chain(characters).collect();
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_relative_and_have_the_exact_time_as_title() {
        let now = Timestamp::from_micros(1_795_311_390_250_000);
        for (seconds, past, future) in [
            (0, "just now", "just now"),
            (1, "just now", "in a moment"),
            (59, "just now", "in a moment"),
            (60, "1 minute ago", "in 1 minute"),
            (89, "1 minute ago", "in 1 minute"),
            (90, "2 minutes ago", "in 2 minutes"),
            (59 * MINUTE + 29, "59 minutes ago", "in 59 minutes"),
            (59 * MINUTE + 30, "1 hour ago", "in 1 hour"),
            (7199, "2 hours ago", "in 2 hours"),
            (DAY - 5, "24 hours ago", "in 24 hours"),
            (2 * DAY - HOUR, "47 hours ago", "in 47 hours"),
            (2 * DAY - 5, "2 days ago", "in 2 days"),
            (7 * DAY - 5, "7 days ago", "in 7 days"),
            (29 * DAY, "29 days ago", "in 29 days"),
            (65 * DAY, "65 days ago", "in 65 days"),
            (90 * DAY - 5, "90 days ago", "in 90 days"),
            (91 * DAY, "3 months ago", "in 3 months"),
            (180 * DAY - 5, "6 months ago", "in 6 months"),
            (330 * DAY, "11 months ago", "in 11 months"),
            (365 * DAY - 5, "1 year ago", "in 1 year"),
            (547 * DAY, "18 months ago", "in 18 months"),
            (2 * YEAR - 5, "2 years ago", "in 2 years"),
            (800 * DAY, "2 years ago", "in 2 years"),
            (1825 * DAY - 5, "5 years ago", "in 5 years"),
        ] {
            let by = Duration::from_secs(seconds);
            assert_eq!(Time::new(now.before(by), now).relative(), past);
            assert_eq!(Time::new(now.after(by), now).relative(), future);
        }
        assert_eq!(Time::new(now.after(Duration::from_millis(3)), now).relative(), "just now");
        let shown = Time::new(now, now).to_string();
        assert_eq!(shown, "<span title=\"2026-11-22 01:36 UTC\">just now</span>");
    }

    #[test]
    fn digests_are_short_and_sizes_have_units() {
        let digest: Digest =
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse().expect("a digest");
        assert!(ShortDigest(digest).to_string().ends_with(">e3b0c44298fc</code>"));
        assert_eq!(Bytes(1536).to_string(), "<span title=\"1536 bytes\">1.5 KiB</span>");
    }

    #[test]
    fn programs_are_named_in_short() {
        for (agent, expected) in [
            ("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "Firefox on Linux"),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36 Edg/126.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1 Version/17.5 Safari/604.1",
                "Safari on iPhone",
            ),
            ("docker/24.0.7 go/go1.20.10 git-commit/311b9ff kernel/6.1", "docker/24.0.7"),
            ("coracle command line", "coracle command line"),
            ("", "unknown program"),
        ] {
            assert_eq!(program(agent), expected, "{agent}");
        }
    }

    #[test]
    fn messages_become_sentences() {
        for (message, expected) in [("the key is unknown", "The key is unknown."), ("", ""), ("Done.", "Done.")] {
            assert_eq!(sentence(message), expected);
        }
    }
}
