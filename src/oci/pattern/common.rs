//! Finds a name that two patterns match.

use std::collections::{HashSet, VecDeque};

use super::{NAME_LENGTH_MAX, RepositoryPattern, SLASH, SYMBOLS, States};
use crate::oci::RepositoryName;

/// The result of a search for a common name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommonName {
    /// The shortest name that both match.
    Name(RepositoryName),
    Nothing,
    /// The search ended at its limit.
    Unknown,
}

/// A beginning of a name.
struct Prefix {
    states: (States, States),
    text: String,
}

impl RepositoryPattern {
    /// Finds a name that both patterns match. Each examined beginning of a name takes one from the budget. Stops when the
    /// budget is used up.
    pub(crate) fn common_name(&self, other: &Self, budget: &mut usize) -> CommonName {
        let mut queue = VecDeque::from([Prefix { states: (self.start(), other.start()), text: String::new() }]);
        let mut seen = HashSet::new();
        while let Some(Prefix { states, text }) = queue.pop_front() {
            if self.accepts(&states.0)
                && other.accepts(&states.1)
                && let Ok(name) = text.parse()
            {
                return CommonName::Name(name);
            }
            let Some(left) = budget.checked_sub(1) else { return CommonName::Unknown };
            *budget = left;
            let at_boundary = text.is_empty() || text.ends_with('/');
            for (symbol, byte) in SYMBOLS.iter().enumerate() {
                let next = char::from(*byte);
                if text.len() == NAME_LENGTH_MAX || !may_follow(&text, next) {
                    continue;
                }
                let (mut one, mut two) = states;
                let both = self.step(&mut one, symbol, at_boundary) && other.step(&mut two, symbol, at_boundary);
                // The next character depends on the last two characters. Letters and digits are equivalent.
                let tail = if symbol < SLASH - 3 { "a".to_owned() } else { tail(&text, next) };
                if both && seen.insert((one, two, tail)) {
                    queue.push_back(Prefix { states: (one, two), text: format!("{text}{next}") });
                }
            }
        }
        CommonName::Nothing
    }
}

/// Whether a character may follow the beginning of a name.
fn may_follow(text: &str, next: char) -> bool {
    let ends_in_word = text.ends_with(|c: char| c.is_ascii_alphanumeric());
    match next {
        '-' => ends_in_word || text.ends_with('-'),
        '_' => ends_in_word || text.ends_with('_') && !text.ends_with("__"),
        '.' | '/' => ends_in_word,
        _ => true,
    }
}

fn tail(text: &str, next: char) -> String {
    let doubled = next == '_' && text.ends_with('_');
    if doubled { "__".to_owned() } else { next.to_string() }
}
