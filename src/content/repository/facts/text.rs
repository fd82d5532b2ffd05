//! [`Room`]: texts of clients, cleaned and shortened to the room that a row has for them.

/// The room that is left for texts.
#[derive(Debug)]
pub(super) struct Room {
    bytes: usize,
    /// Whether anything was shortened or left out.
    pub(super) is_truncated: bool,
}

/// The most bytes that a text needs besides its own.
const OVERHEAD_BYTES: usize = 8;

impl Room {
    pub(super) const fn new(bytes: usize) -> Self {
        Self { bytes, is_truncated: false }
    }

    /// A text of at most `max` bytes. `None` if there is no room for it.
    pub(super) fn text(&mut self, text: &str, max: usize) -> Option<String> {
        let (text, is_whole) = cleaned(text, max);
        self.is_truncated |= !is_whole;
        let Some(left) = self.bytes.checked_sub(text.len() + OVERHEAD_BYTES) else {
            self.is_truncated = true;
            return None;
        };
        self.bytes = left;
        Some(text)
    }

    /// The texts that there is room for. `total` is their number before they were limited.
    pub(super) fn texts<'a>(
        &mut self,
        texts: impl IntoIterator<Item = &'a str>,
        max: usize,
        total: usize,
    ) -> Vec<String> {
        let kept: Vec<_> = texts.into_iter().map_while(|text| self.text(text, max)).collect();
        self.is_truncated |= kept.len() < total;
        kept
    }

    /// The pairs that there is room for.
    pub(super) fn pairs<'a>(
        &mut self,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        max: usize,
        total: usize,
    ) -> Vec<(String, String)> {
        let pairs = pairs.into_iter();
        let kept: Vec<_> =
            pairs.map_while(|(key, value)| Some((self.text(key, max)?, self.text(value, max)?))).collect();
        self.is_truncated |= kept.len() < total;
        kept
    }
}

/// The first bytes of a text without control characters, and whether that is all of it. Line breaks and tabs become
/// spaces.
pub(super) fn cleaned(text: &str, max: usize) -> (String, bool) {
    let mut kept = String::with_capacity(text.len().min(max));
    for character in text.chars() {
        let character = match character {
            '\n' | '\r' | '\t' => ' ',
            other if is_harmful(other) => continue,
            other => other,
        };
        if kept.len() + character.len_utf8() > max {
            return (kept, false);
        }
        kept.push(character);
    }
    (kept, true)
}

/// Whether a character could change how the text around it is shown: control characters, and those that reverse the
/// direction.
fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(character, '\u{feff}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_changes_of_direction_are_removed() {
        let cases = [
            ("plain ä 漢字 🦀", "plain ä 漢字 🦀"),
            ("a\nb\tc\r\nd", "a b c  d"),
            ("\u{1b}[31mred\u{7}\0\u{7f}\u{9b}", "[31mred"),
            ("user\u{202e}gpj.exe\u{2066}x\u{200f}", "usergpj.exex"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(cleaned(text, 100), (expected.to_owned(), true), "{text:?}");
        }
    }

    #[test]
    fn a_long_text_ends_between_two_characters() {
        assert_eq!(cleaned("äöü", 5), ("äö".to_owned(), false));
        assert_eq!(cleaned("abc", 3), ("abc".to_owned(), true));
    }

    #[test]
    fn texts_without_room_are_left_out() {
        let mut room = Room::new(2 * OVERHEAD_BYTES + 5);
        assert_eq!(room.texts(["abc", "de", "f"], 10, 3), ["abc", "de"]);
        assert!(room.is_truncated);
        let mut room = Room::new(100);
        assert_eq!(room.pairs([("a", "b")], 10, 1), [("a".to_owned(), "b".to_owned())]);
        assert!(!room.is_truncated);
        assert!(room.texts(["a"], 10, 2).len() == 1 && room.is_truncated, "one was left out before");
    }
}
