//! [`Memo`]: the key or token that a connection presented last, and whose it is.
//!
//! A client sends the same one with each of many requests on a connection. To decode, hash and look it up
//! again says nothing new as long as no account and no key has changed; and costs, of the smallest request,
//! a tenth. What must hold: nothing is taken from here that would not be found again otherwise.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use hyper::HeaderMap;
use hyper::header::{self, HeaderValue};
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use super::{Caller, Surface};
use crate::meta::SecretHash;

/// What one connection presented last.
#[derive(Default)]
pub(crate) struct Memo(Mutex<Option<Presented>>);

struct Presented {
    /// The value of the header; wiped when there is another, or the connection ends.
    bytes: Zeroizing<Vec<u8>>,
    surface: Surface,
    /// The number of the last change when it was looked up.
    generation: u64,
    known: Known,
}

/// Who was found.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) caller: Caller,
    /// Of a key: by what its last use is noted.
    pub(super) hash: Option<SecretHash>,
}

impl Memo {
    /// Who presented what these headers do, if it is what was presented last and nothing has changed.
    pub(super) fn get(&self, headers: &HeaderMap, surface: Surface, generation: u64) -> Option<Known> {
        let presented = presented(headers)?;
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |last: &&Presented| {
            last.generation == generation && last.surface == surface && is_same(&last.bytes, presented.as_bytes())
        };
        last.as_ref().filter(same).map(|last| last.known.clone())
    }

    /// Keeps who presented these headers, who was looked up when this was the number of the last change.
    pub(super) fn put(&self, headers: &HeaderMap, surface: Surface, generation: u64, known: Known) {
        let Some(presented) = presented(headers) else { return };
        let bytes = Zeroizing::new(presented.as_bytes().to_vec());
        let last = Presented { bytes, surface, generation, known };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }
}

/// In the same time wherever they differ: a proxy may send the requests of several clients on one connection.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let word = |bytes: &[u8]| bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    let words = one.chunks(8).zip(other.chunks(8)).map(|(one, other)| word(one).ct_eq(&word(other)));
    one.len() == other.len() && words.fold(Choice::from(1), |same, next| same & next).into()
}

/// What is presented, if it is one thing.
fn presented(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    values.next().filter(|_| values.next().is_none())
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_bytes_are_the_same() {
        let text = b"Basic YWxpY2U6emFrX2FiYw==";
        assert!(is_same(text, text) && is_same(b"", b""));
        for at in 0..text.len() {
            assert!(!is_same(text, &text[..at]) && !is_same(&text[..at], text));
            for bit in 0..8 {
                let mut other = text.to_vec();
                other[at] ^= 1 << bit;
                assert!(!is_same(text, &other), "{at} {bit}");
            }
        }
    }
}
