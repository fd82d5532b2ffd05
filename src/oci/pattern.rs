//! [`RepositoryPattern`]: patterns of repository names, with a bound on the work of one comparison.
//!
//! The grammar is that of doublestar, which zot uses. `*` matches any characters within one part of a name, `?` one
//! character, `[a-z]` and `[!a-z]` one of a class, `{a,b}` either text. `**` stands alone between slashes and matches any
//! number of parts. A trailing `/**` also matches nothing: `team/**` matches `team`.
//!
//! A pattern is compiled once into a row of states, one bit each. State `n` of an alternative means: its first `n`
//! characters have matched. A comparison reads the name once and uses each word of states once for each character. So it
//! takes at most [`STATES_MAX`] / 64 × [`NAME_LENGTH_MAX`] = 4080 steps.

mod alternative;
mod common;
mod parser;

use std::fmt;
use std::str::FromStr;

use alternative::Alternative;
pub(crate) use common::CommonName;

use super::{NAME_LENGTH_MAX, RepositoryName};

/// The longest pattern, in bytes.
pub(crate) const PATTERN_LENGTH_MAX: usize = 1000;
/// The largest number of alternatives that the braces of a pattern may stand for.
pub(crate) const ALTERNATIVES_MAX: usize = 64;
/// The largest number of characters in all alternatives together.
pub(crate) const STATES_MAX: usize = 1024;
/// The deepest nesting of braces.
const DEPTH_MAX: usize = 16;

/// The words that hold the states of the largest pattern.
const WORDS_MAX: usize = STATES_MAX / 64;

/// The states that are reached, one bit each.
type States = [u64; WORDS_MAX];

/// The characters of repository names and the slash, by number.
const SYMBOLS: &[u8; 40] = b"abcdefghijklmnopqrstuvwxyz0123456789._-/";
const SLASH: usize = SYMBOLS.len() - 1;

/// A pattern of repository names. Two patterns are equal if their texts are.
#[derive(Clone)]
pub struct RepositoryPattern {
    text: String,
    alternatives: Vec<Alternative>,
    words: Vec<Word>,
}

/// 64 states.
#[derive(Clone, Debug)]
struct Word {
    /// The states that each symbol takes one further.
    advance: [u64; SYMBOLS.len()],
    /// The states that are left only where a part of a name begins.
    boundary: u64,
    /// The states that any symbol but the slash keeps.
    stays_in_part: u64,
    /// The states that any symbol keeps.
    stays: u64,
    /// The states before the first symbol.
    start: u64,
    /// The states that are a match after the last symbol.
    accept: u64,
}

/// The number of a character, if repository names may have it.
fn symbol(byte: u8) -> Option<usize> {
    match byte {
        b'a'..=b'z' => Some(usize::from(byte - b'a')),
        b'0'..=b'9' => Some(26 + usize::from(byte - b'0')),
        b'.' => Some(36),
        b'_' => Some(37),
        b'-' => Some(38),
        b'/' => Some(SLASH),
        _ => None,
    }
}

impl RepositoryPattern {
    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches a name.
    pub fn matches(&self, name: &RepositoryName) -> bool {
        self.matches_in_steps(name.as_str()).0
    }

    /// Whether the pattern matches, and the number of words of states that were touched to find out.
    pub(crate) fn matches_in_steps(&self, name: &str) -> (bool, usize) {
        let (mut states, mut steps) = (self.start(), 0);
        let mut at_boundary = true;
        for byte in name.bytes() {
            let Some(symbol) = symbol(byte) else { return (false, steps) };
            steps += self.words.len();
            if !self.step(&mut states, symbol, at_boundary) {
                return (false, steps);
            }
            at_boundary = symbol == SLASH;
        }
        (self.accepts(&states), steps)
    }

    fn start(&self) -> States {
        let mut states = [0; WORDS_MAX];
        for (state, word) in states.iter_mut().zip(&self.words) {
            *state = word.start;
        }
        states
    }

    fn accepts(&self, states: &States) -> bool {
        self.words.iter().zip(states).any(|(word, states)| word.accept & states != 0)
    }

    /// Takes one symbol; returns whether any state is left.
    fn step(&self, states: &mut States, symbol: usize, at_boundary: bool) -> bool {
        let (mut carry, mut left) = (0, 0);
        for (word, states) in self.words.iter().zip(states) {
            let gate = if at_boundary { u64::MAX } else { !word.boundary };
            let advancing = *states & word.advance[symbol] & gate;
            let staying = *states & if symbol == SLASH { word.stays } else { word.stays | word.stays_in_part };
            *states = (advancing << 1) | carry | staying;
            // The last state of an alternative is never left, so none leads into the next alternative.
            carry = advancing >> 63;
            left |= *states;
        }
        left != 0
    }

    /// The cost of a comparison, in steps for each character of the name.
    pub(crate) fn cost(&self) -> usize {
        self.words.len()
    }

    /// The only names that the pattern matches; `None` if it has wildcards.
    pub(crate) fn literals(&self) -> Option<Vec<RepositoryName>> {
        self.alternatives.iter().map(|alternative| alternative.literal()?.parse().ok()).collect()
    }

    /// Per alternative, the text that all names it matches begin with, and the text they end with.
    pub(crate) fn literal_ends(&self) -> impl Iterator<Item = (String, String)> {
        self.alternatives.iter().map(Alternative::literal_ends)
    }

    /// Some names that the pattern matches.
    pub(crate) fn samples(&self) -> Vec<RepositoryName> {
        let samples = self.alternatives.iter().flat_map(Alternative::samples);
        samples.filter_map(|sample| sample.parse().ok()).filter(|name| self.matches(name)).collect()
    }
}

impl FromStr for RepositoryPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        if text.len() > PATTERN_LENGTH_MAX {
            return Err(InvalidPattern::TooLong);
        }
        let alternatives: Vec<Alternative> =
            parser::alternatives(text)?.iter().map(|tokens| Alternative::new(tokens)).collect::<Result<_, _>>()?;
        let count: usize = alternatives.iter().map(Alternative::states).sum();
        if count > STATES_MAX {
            return Err(InvalidPattern::TooManyAlternatives);
        }
        let mut words = vec![Word::EMPTY; count.div_ceil(64)];
        let mut first = 0;
        for alternative in &alternatives {
            alternative.compile(&mut words, first);
            first += alternative.states();
        }
        Ok(Self { text: text.to_owned(), alternatives, words })
    }
}

impl Word {
    const EMPTY: Self =
        Self { advance: [0; SYMBOLS.len()], boundary: 0, stays_in_part: 0, stays: 0, start: 0, accept: 0 };
}

impl PartialEq for RepositoryPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for RepositoryPattern {}

impl fmt::Debug for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// A text is not a [`RepositoryPattern`]. The message continues a sentence that begins with the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// There is no character.
    #[error("is empty; use ** for all repositories")]
    Empty,
    /// The text is longer than a pattern may be.
    #[error("is longer than {PATTERN_LENGTH_MAX} characters")]
    TooLong,
    /// It begins with `!`.
    #[error("begins with !, which is not supported; name what is allowed")]
    Negated,
    /// A brace is not closed.
    #[error("has an unclosed brace")]
    UnclosedBrace,
    /// A bracket is not closed.
    #[error("has an unclosed bracket")]
    UnclosedBracket,
    /// A brace or a bracket is closed that was not opened.
    #[error("has {0} without its counterpart before it")]
    Unopened(char),
    /// A bracket has no characters, or a range without any.
    #[error("has brackets that no character matches")]
    EmptyClass,
    /// No repository name has this character.
    #[error("has the character {0:?}, which no repository name has")]
    Character(char),
    /// There is nothing before, behind or between slashes.
    #[error("has an empty part, which no repository name has; remove the extra slash")]
    EmptyPart,
    /// `**` is next to other characters.
    #[error(
        "has ** next to other characters; use * within a part of a name, and ** alone between slashes, as in team/**"
    )]
    DoubleStar,
    /// The grammar of repository names admits no name that matches.
    #[error("matches no valid repository name")]
    NoName,
    /// The braces stand for too many alternatives, or for too long ones.
    #[error("has braces that stand for more than {ALTERNATIVES_MAX} alternatives or {STATES_MAX} characters")]
    TooManyAlternatives,
}

#[cfg(test)]
mod tests;
