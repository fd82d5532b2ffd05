//! Text for people: sizes, counts, times, tables and words of commands.

use std::borrow::Cow;
use std::time::Duration;

/// A text as one word of a command for a shell.
pub(crate) fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-+@/:=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
}

/// A size with a binary unit and one decimal, such as `49.5 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut whole, mut rest, mut unit) = (bytes, 0, 0);
    while whole >= 1024 {
        (whole, rest, unit) = (whole / 1024, whole % 1024, unit + 1);
    }
    match rest * 10 / 1024 {
        0 => format!("{whole} {}", UNITS[unit]),
        tenths => format!("{whole}.{tenths} {}", UNITS[unit]),
    }
}

/// A number and its noun, such as `1 blob` or `2 blobs`.
pub(crate) fn counted(number: u64, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

/// The first items of a list, and the number of the others: `a, b, c and 29 more`.
pub(crate) fn some_of(items: &[String], most: usize) -> String {
    let shown = items.iter().take(most).map(String::as_str).collect::<Vec<_>>().join(", ");
    match items.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A time in seconds since 1970, such as `2027-02-27 19:27 UTC`.
pub(crate) fn minute(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "-".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

/// A duration in its two largest units, such as `3 days 4 h`.
pub(crate) fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (1.., ..) => format!("{} {hours} h", counted(days, "day", "days")),
        (0, 1.., _) => format!("{hours} h {minutes} min"),
        (0, 0, 1..) => format!("{minutes} min {} s", seconds % 60),
        _ => format!("{seconds} s"),
    }
}

/// A duration with its largest whole unit, such as `30s` or `24h`.
pub(crate) fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        _ if millis == 0 => "0s".to_owned(),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    }
}

/// Text from another program or host, without control characters, at most 1000 characters.
pub(crate) fn printable(text: &str) -> String {
    const CHARACTERS_MAX: usize = 1000;
    let visible = |character: char| if character.is_control() { ' ' } else { character };
    text.trim().chars().take(CHARACTERS_MAX).map(visible).collect()
}

/// Rows under a header, in columns of equal width.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut lines = vec![header.map(str::to_owned)];
    lines.extend(rows);
    let length = |cell: &String| cell.chars().count();
    let widths: [usize; N] =
        std::array::from_fn(|at| lines.iter().map(|line| length(&line[at])).max().unwrap_or_default());
    let mut table = String::new();
    for line in lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        table.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_a_command_is_quoted_if_a_shell_would_change_it() {
        for (text, word) in
            [("alice", "alice"), ("a.b@c+d", "a.b@c+d"), ("$HOME", "'$HOME'"), ("a'b", r"'a'\''b'"), ("", "''")]
        {
            assert_eq!(shell_word(text), word);
        }
    }

    #[test]
    fn a_long_list_is_cut() {
        let items: Vec<_> = ["a", "b", "c", "d"].map(str::to_owned).into();
        assert_eq!((some_of(&items, 3), some_of(&items, 4)), ("a, b, c and 1 more".into(), "a, b, c, d".into()));
    }

    #[test]
    fn sizes_have_a_unit_and_at_most_one_decimal() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (53_153_570_816, "49.5 GiB"),
            (10 << 40, "10 TiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!((counted(1, "blob", "blobs"), counted(0, "blob", "blobs")), ("1 blob".into(), "0 blobs".into()));
        assert_eq!(minute(1_803_756_478), "2027-02-27 19:27 UTC");
        for (seconds, text) in
            [(7, "7 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90_000, "1 day 1 h"), (400_000, "4 days 15 h")]
        {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn durations_have_their_largest_whole_unit() {
        for (millis, text) in [(0, "0s"), (1500, "1500ms"), (90_000, "90s"), (120_000, "2m"), (86_400_000, "24h")] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let rows = [["alice".to_owned(), "a".to_owned()], ["b…".to_owned(), String::new()]];
        assert_eq!(table(["NAME", "X"], rows), "NAME   X\nalice  a\nb…\n");
    }
}
