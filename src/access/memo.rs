//! [`Memo`]: the key that a connection presented last, and whose it is.
//!
//! A client sends the same key with each of many requests on a connection. To decode, hash and look it up
//! again says nothing new as long as no account and no key has changed; and costs, of the smallest request,
//! a tenth. What must hold: nothing is taken from here that would not be found again otherwise.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::HeaderMap;
use hyper::header::{self, HeaderValue};
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use super::Surface;
use crate::accounts::{Account, KeyGrant};
use crate::meta::SecretHash;

/// What one connection presented last.
#[derive(Default)]
pub(crate) struct Memo(Mutex<Option<Known>>);

struct Known {
    /// The value of the header; wiped when there is another, or the connection ends.
    presented: Zeroizing<Vec<u8>>,
    surface: Surface,
    /// The number of the last change when it was looked up.
    generation: u64,
    key: KnownKey,
}

/// A key that was looked up.
#[derive(Clone, Debug)]
pub(super) struct KnownKey {
    pub(super) hash: SecretHash,
    pub(super) account: Arc<Account>,
    pub(super) grant: Arc<KeyGrant>,
}

impl Memo {
    /// The key in these headers, if it is the one that was presented last and nothing has changed.
    pub(super) fn get(&self, headers: &HeaderMap, surface: Surface, generation: u64) -> Option<KnownKey> {
        let presented = presented(headers)?;
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &&Known| {
            known.generation == generation
                && known.surface == surface
                && is_same(&known.presented, presented.as_bytes())
        };
        known.as_ref().filter(same).map(|known| known.key.clone())
    }

    /// Keeps the key in these headers, which was looked up when this was the number of the last change.
    pub(super) fn put(&self, headers: &HeaderMap, surface: Surface, generation: u64, key: KnownKey) {
        let Some(presented) = presented(headers) else { return };
        let presented = Zeroizing::new(presented.as_bytes().to_vec());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Known { presented, surface, generation, key });
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
