//! Reads a pattern and expands its braces into alternatives.

use std::iter::Peekable;
use std::str::Chars;

use super::{ALTERNATIVES_MAX, DEPTH_MAX, InvalidPattern, SLASH, STATES_MAX, SYMBOLS, symbol};

/// An element of a pattern without braces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// One of these symbols, one bit each.
    One(u64),
    Star,
}

/// All symbols but the slash.
pub(super) const IN_PART: u64 = (1 << SLASH) - 1;

impl Token {
    pub(super) const SLASH: Self = Self::One(1 << SLASH);
}

/// The alternatives of a pattern.
pub(super) fn alternatives(text: &str) -> Result<Vec<Vec<Token>>, InvalidPattern> {
    match text.chars().next() {
        None => return Err(InvalidPattern::Empty),
        Some('!') => return Err(InvalidPattern::Negated),
        Some(_) => {}
    }
    Parser { rest: text.chars().peekable() }.sequence(0)
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Parser<'_> {
    /// Reads up to the end, or within braces up to a comma or the closing brace.
    fn sequence(&mut self, depth: usize) -> Result<Vec<Vec<Token>>, InvalidPattern> {
        let mut read = vec![Vec::new()];
        while let Some(next) = self.rest.next_if(|c| depth == 0 || !matches!(c, ',' | '}')) {
            let token = match next {
                '{' => {
                    read = product(&read, &self.choices(depth + 1)?)?;
                    continue;
                }
                '[' => Token::One(self.class()?),
                '*' => Token::Star,
                '?' => Token::One(IN_PART),
                ']' | '}' => return Err(InvalidPattern::Unopened(next)),
                _ => Token::One(literal(next)?),
            };
            for alternative in &mut read {
                alternative.push(token);
            }
        }
        Ok(read)
    }

    /// Reads the content of braces, after the opening one.
    fn choices(&mut self, depth: usize) -> Result<Vec<Vec<Token>>, InvalidPattern> {
        if depth > DEPTH_MAX {
            return Err(InvalidPattern::TooManyAlternatives);
        }
        let mut choices = Vec::new();
        loop {
            choices.extend(self.sequence(depth)?);
            if choices.len() > ALTERNATIVES_MAX {
                return Err(InvalidPattern::TooManyAlternatives);
            }
            match self.rest.next() {
                Some(',') => {}
                Some(_) => return Ok(choices),
                None => return Err(InvalidPattern::UnclosedBrace),
            }
        }
    }

    /// Reads a class, after its opening bracket.
    fn class(&mut self) -> Result<u64, InvalidPattern> {
        let is_negated = self.rest.next_if(|c| matches!(c, '!' | '^')).is_some();
        let (mut class, mut is_empty) = (0, true);
        loop {
            let first = self.rest.next().ok_or(InvalidPattern::UnclosedBracket)?;
            if first == ']' {
                break;
            }
            is_empty = false;
            let mut ahead = self.rest.clone();
            if ahead.next() == Some('-')
                && let Some(last) = ahead.next().filter(|c| *c != ']')
            {
                self.rest = ahead;
                literal(first)?;
                literal(last)?;
                let within = |byte: &u8| (first..=last).contains(&char::from(*byte));
                class |=
                    SYMBOLS.iter().filter(|byte| within(byte)).filter_map(|byte| symbol(*byte)).map(bit).sum::<u64>();
            } else {
                class |= literal(first)?;
            }
        }
        let class = if is_negated { !class } else { class } & IN_PART;
        if is_empty || class == 0 { Err(InvalidPattern::EmptyClass) } else { Ok(class) }
    }
}

fn bit(symbol: usize) -> u64 {
    1 << symbol
}

/// Reads a character that is not a wildcard.
fn literal(c: char) -> Result<u64, InvalidPattern> {
    let known = u8::try_from(c).ok().and_then(symbol);
    known.map(bit).ok_or(InvalidPattern::Character(c))
}

/// Every text of one list followed by every text of the other.
fn product(heads: &[Vec<Token>], tails: &[Vec<Token>]) -> Result<Vec<Vec<Token>>, InvalidPattern> {
    let length = |list: &[Vec<Token>]| list.iter().map(Vec::len).sum::<usize>();
    let tokens = length(heads) * tails.len() + length(tails) * heads.len();
    if heads.len() * tails.len() > ALTERNATIVES_MAX || tokens > STATES_MAX {
        return Err(InvalidPattern::TooManyAlternatives);
    }
    let both = |head: &Vec<Token>, tail: &Vec<Token>| head.iter().chain(tail).copied().collect();
    Ok(heads.iter().flat_map(|head| tails.iter().map(move |tail| both(head, tail))).collect())
}
