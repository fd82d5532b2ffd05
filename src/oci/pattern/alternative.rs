//! [`Alternative`]: a pattern without braces.

use super::parser::{IN_PART, Token};
use super::{InvalidPattern, NAME_LENGTH_MAX, SLASH, SYMBOLS, Word};

/// Replaces a star in a sample. It is unlikely to be in another pattern.
const ANYTHING: &str = "xq";
/// Replace two stars in samples.
const SAMPLE_PARTS: [&str; 2] = ["xq", "xq/xq"];

/// A pattern without braces, split at its slashes.
#[derive(Clone, Debug)]
pub(super) struct Alternative {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    /// Any number of parts.
    Any,
    /// One part of a name.
    Tokens(Vec<Token>),
}

impl Alternative {
    /// Checks that at least one repository name matches.
    pub(super) fn new(tokens: &[Token]) -> Result<Self, InvalidPattern> {
        let mut parts: Vec<Part> = Vec::new();
        for part in tokens.split(|token| *token == Token::SLASH) {
            let part = match part {
                [] => return Err(InvalidPattern::EmptyPart),
                // Two in a row are equivalent to one.
                [Token::Star, Token::Star] if matches!(parts.last(), Some(Part::Any)) => continue,
                [Token::Star, Token::Star] => Part::Any,
                _ if part.windows(2).any(|two| two == [Token::Star, Token::Star]) => {
                    return Err(InvalidPattern::DoubleStar);
                }
                _ if !admits_component(part) => return Err(InvalidPattern::NoName),
                _ => Part::Tokens(part.to_vec()),
            };
            parts.push(part);
        }
        let alternative = Self { parts };
        if alternative.elements().iter().filter(|element| element.advance != 0).count() > NAME_LENGTH_MAX {
            return Err(InvalidPattern::NoName);
        }
        Ok(alternative)
    }

    /// The number of states.
    pub(super) fn states(&self) -> usize {
        self.elements().len()
    }

    /// The transitions of each state. Nothing leaves the last state.
    fn elements(&self) -> Vec<Element> {
        let mut elements = vec![Element::default()];
        let last = |elements: &mut Vec<Element>, set: &dyn Fn(&mut Element)| {
            elements.last_mut().into_iter().for_each(set);
        };
        for (at, part) in self.parts.iter().enumerate() {
            let is_last = at + 1 == self.parts.len();
            match part {
                Part::Any => {
                    // `/**` at the end may match nothing, slash included.
                    if is_last && elements.len() > 1 {
                        let before = elements.len() - 2;
                        elements[before].accept = true;
                    }
                    // The next element begins at a boundary.
                    last(&mut elements, &|element| (element.keeps, element.boundary) = (Keeps::Any, true));
                }
                Part::Tokens(tokens) => {
                    for token in tokens {
                        match token {
                            Token::Star => last(&mut elements, &|element| {
                                element.keeps = element.keeps.max(Keeps::InPart);
                                element.boundary = false;
                            }),
                            Token::One(set) => {
                                last(&mut elements, &|element| element.advance = *set);
                                elements.push(Element::default());
                            }
                        }
                    }
                    if !is_last {
                        last(&mut elements, &|element| element.advance = 1 << SLASH);
                        elements.push(Element::default());
                    }
                }
            }
        }
        last(&mut elements, &|element| element.accept = true);
        elements
    }

    /// Sets the bits of the states, starting with this number.
    pub(super) fn compile(&self, words: &mut [Word], first: usize) {
        words[first / 64].start |= 1 << (first % 64);
        for (state, element) in (first..).zip(self.elements()) {
            let (word, bit) = (&mut words[state / 64], 1 << (state % 64));
            let when = |is_set: bool| if is_set { bit } else { 0 };
            for (symbol, advance) in word.advance.iter_mut().enumerate() {
                *advance |= when(element.advance >> symbol & 1 == 1);
            }
            word.boundary |= when(element.boundary);
            word.stays_in_part |= when(element.keeps == Keeps::InPart);
            word.stays |= when(element.keeps == Keeps::Any);
            word.accept |= when(element.accept);
        }
    }

    /// The only text that matches, if there is only one.
    pub(super) fn literal(&self) -> Option<String> {
        let (beginning, _) = self.literal_ends();
        let wild = |part: &Part| match part {
            Part::Any => true,
            Part::Tokens(tokens) => !tokens.iter().all(|token| single(*token).is_some()),
        };
        (!self.parts.iter().any(wild)).then_some(beginning)
    }

    /// The text that all matching names begin with, and the text that they end with.
    pub(super) fn literal_ends(&self) -> (String, String) {
        let mut parts = self.parts.as_slice();
        // `team/**` matches `team` as well.
        if let [before @ .., Part::Any] = parts {
            parts = before;
        }
        let mut texts: Vec<Option<u8>> = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            // `**/` may match nothing, slash included.
            if at > 0 && !matches!(parts[at - 1], Part::Any) {
                texts.push(Some(b'/'));
            }
            match part {
                Part::Any => texts.push(None),
                Part::Tokens(tokens) => texts.extend(tokens.iter().map(|token| single(*token))),
            }
        }
        let text = |bytes: Vec<u8>| bytes.into_iter().map(char::from).collect::<String>();
        let beginning: Vec<u8> = texts.iter().map_while(|byte| *byte).collect();
        let mut ending: Vec<u8> = texts.iter().rev().map_while(|byte| *byte).collect();
        ending.reverse();
        let ends_open = parts.len() < self.parts.len();
        (text(beginning), if ends_open { String::new() } else { text(ending) })
    }

    /// Texts that may match, with samples in place of stars.
    pub(super) fn samples(&self) -> impl Iterator<Item = String> {
        SAMPLE_PARTS.into_iter().map(|anything| {
            let element = |token: &Token| match token {
                Token::Star => ANYTHING.to_owned(),
                Token::One(IN_PART) => "x".to_owned(),
                Token::One(set) => char::from(SYMBOLS[(set.trailing_zeros() as usize).min(SLASH)]).to_string(),
            };
            let part = |part: &Part| match part {
                Part::Any => anything.to_owned(),
                Part::Tokens(tokens) => tokens.iter().map(element).collect(),
            };
            self.parts.iter().map(part).reduce(|begun, part| format!("{begun}/{part}")).unwrap_or_default()
        })
    }
}

/// The transitions of a state.
#[derive(Clone, Debug, Default)]
struct Element {
    /// The symbols that lead to the next state, one bit each.
    advance: u64,
    keeps: Keeps,
    /// Whether the state is left only where a part of a name begins.
    boundary: bool,
    /// Whether the state is a match after the last symbol.
    accept: bool,
}

/// The symbols that keep a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Keeps {
    #[default]
    None,
    InPart,
    Any,
}

/// The character, if it can be only one.
fn single(token: Token) -> Option<u8> {
    match token {
        Token::One(set) if set.is_power_of_two() => Some(SYMBOLS[set.trailing_zeros() as usize]),
        Token::One(_) | Token::Star => None,
    }
}

/// Whether a component of a repository name matches: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn admits_component(tokens: &[Token]) -> bool {
    let mut states = Component::START;
    for token in tokens {
        states = match token {
            Token::One(set) => states.after(*set),
            Token::Star => {
                let mut all = states;
                // Each round reaches one state further, of which there are six.
                for _ in 0..6 {
                    all = Component(all.0 | all.after(IN_PART).0);
                }
                all
            }
        };
    }
    states.0 & Component::WORD != 0
}

/// The states in which a component may be: a set of six.
#[derive(Clone, Copy)]
struct Component(u8);

impl Component {
    const START: Self = Self(1);
    const WORD: u8 = 2;
    const DOT: u8 = 4;
    const UNDERSCORE: u8 = 8;
    const UNDERSCORES: u8 = 16;
    const DASH: u8 = 32;

    /// The states after one of some symbols.
    fn after(self, set: u64) -> Self {
        let has = |byte: u8| super::symbol(byte).is_some_and(|symbol| set >> symbol & 1 == 1);
        let is_in = |states: u8| self.0 & states != 0;
        let when = |is_reached: bool, state: u8| if is_reached { state } else { 0 };
        // Letters and digits are the first 36 symbols.
        Self(
            when(self.0 != 0 && set & ((1 << 36) - 1) != 0, Self::WORD)
                | when(is_in(Self::WORD) && has(b'.'), Self::DOT)
                | when(is_in(Self::WORD) && has(b'_'), Self::UNDERSCORE)
                | when(is_in(Self::UNDERSCORE) && has(b'_'), Self::UNDERSCORES)
                | when(is_in(Self::WORD | Self::DASH) && has(b'-'), Self::DASH),
        )
    }
}
