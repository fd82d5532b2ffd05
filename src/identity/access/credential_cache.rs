//! [`CredentialCache`]: the key, token, session or password that a connection presented last, and whose it is.
//!
//! A client sends the same one with each of many requests on a connection. To decode, hash and look it up
//! again says nothing new as long as no account and no key has changed; and costs, of the smallest request,
//! a tenth. What must hold: nothing is taken from here that would not be found again otherwise.

use std::fmt;

use hyper::HeaderMap;
use hyper::header::{self, HeaderValue};
use parking_lot::Mutex;
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use super::{Caller, Credential, Credentials, Surface};
use crate::identity::accounts::PasswordFingerprint;

/// What one connection presented last.
#[derive(Default)]
pub(crate) struct CredentialCache(Mutex<Option<Entry>>);

struct Entry {
    /// The value of the header; wiped when there is another, or the connection ends.
    bytes: Zeroizing<Vec<u8>>,
    sent_by: SentBy,
    surface: Surface,
    /// The number of the last change when it was looked up.
    generation: u64,
    known: CachedCaller,
}

/// How it is said who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SentBy {
    /// By a cookie, where there is no `Authorization`.
    by_cookie: bool,
    /// What is said is worth something else where zot's web page says that it sends it.
    from_page: bool,
}

/// Who was found.
#[derive(Clone, Debug)]
pub(super) struct CachedCaller {
    pub(super) caller: Caller,
    /// Of a password: by what it is remembered.
    pub(super) mark: Option<PasswordFingerprint>,
}

impl From<Caller> for CachedCaller {
    fn from(caller: Caller) -> Self {
        Self { caller, mark: None }
    }
}

impl CachedCaller {
    /// Whether it is found in this way each time. A password from a page begins a session each time.
    fn is_by(&self, sent_by: SentBy) -> bool {
        match self.caller.credential {
            Credential::Key(_) | Credential::Token(_) => !sent_by.by_cookie,
            Credential::Password => !sent_by.by_cookie && !sent_by.from_page,
            Credential::Session(_) => sent_by.by_cookie,
            Credential::None => false,
        }
    }
}

impl CredentialCache {
    /// Who presented what these headers do, if it is what was presented last and nothing has changed.
    pub(super) fn get(&self, headers: &HeaderMap, surface: Surface, generation: u64) -> Option<CachedCaller> {
        let (sent_by, presented) = presented(headers)?;
        let last = self.0.lock();
        let same = |last: &&Entry| {
            (last.generation, last.surface, last.sent_by) == (generation, surface, sent_by)
                && is_same(&last.bytes, presented.as_bytes())
        };
        last.as_ref().filter(same).map(|last| last.known.clone())
    }

    /// Keeps who presented these headers, who was looked up when this was the number of the last change.
    pub(super) fn put(&self, headers: &HeaderMap, surface: Surface, generation: u64, known: CachedCaller) {
        let Some((sent_by, presented)) = presented(headers).filter(|(sent_by, _)| known.is_by(*sent_by)) else {
            return;
        };
        let bytes = Zeroizing::new(presented.as_bytes().to_vec());
        let last = Entry { bytes, sent_by, surface, generation, known };
        *self.0.lock() = Some(last);
    }
}

/// In the same time wherever they differ: a proxy may send the requests of several clients on one connection.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let word = |bytes: &[u8]| match bytes.try_into() {
        Ok(word) => u64::from_be_bytes(word),
        Err(_) => bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    let words = one.chunks(8).zip(other.chunks(8)).map(|(one, other)| word(one).ct_eq(&word(other)));
    one.len() == other.len() && words.fold(Choice::from(1), |same, next| same & next).into()
}

/// What is presented, if it is one thing. Cookies count only where nothing else is said.
fn presented(headers: &HeaderMap) -> Option<(SentBy, &HeaderValue)> {
    let by_cookie = !headers.contains_key(header::AUTHORIZATION);
    let name = if by_cookie { header::COOKIE } else { header::AUTHORIZATION };
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    Some((SentBy { by_cookie, from_page: Credentials::from_page(headers) }, value))
}

impl fmt::Debug for CredentialCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialCache")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::content::rows::AccountRole;
    use crate::identity::access::Identity;
    use crate::identity::accounts::{Account, KeyGrant, SessionGrant};
    use crate::kit::clock::Timestamp;

    type HeaderList<'a> = &'a [(&'a str, &'a str)];

    fn headers(given: HeaderList<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn known(credential: Credential) -> CachedCaller {
        let identity = Identity::User(Arc::new(Account::test("alice", AccountRole::Ordinary)));
        Caller { identity, credential }.into()
    }

    #[test]
    fn it_finds_whom_the_same_headers_would_find() {
        let session = || Credential::Session(Arc::new(SessionGrant::test("alice", Timestamp::from_micros(0))));
        let key = || Credential::Key(Arc::new(KeyGrant::test("alice", None)));
        let page = ("x-zot-api-client", "zot-ui");
        let basic = ("authorization", "Basic YTpi");
        let (cookie, other, bearer) = (("cookie", "session=a"), ("cookie", "session=b"), ("authorization", "Bearer k"));
        let cases: [(Credential, HeaderList<'_>, HeaderList<'_>, bool); 15] = [
            (session(), &[cookie], &[cookie], true),
            (session(), &[cookie, page], &[page, cookie], true),
            (session(), &[cookie], &[cookie, page], false),
            (session(), &[cookie, page], &[cookie], false),
            (session(), &[cookie], &[other], false),
            (session(), &[cookie], &[cookie, other], false),
            (session(), &[cookie, other], &[cookie, other], false),
            (session(), &[cookie], &[cookie, bearer], false),
            // A session by a request that says something else too, which does not count there.
            (session(), &[cookie, bearer], &[cookie, bearer], false),
            (session(), &[cookie, bearer], &[other, bearer], false),
            (key(), &[bearer], &[bearer], true),
            (key(), &[bearer], &[bearer, cookie], true),
            (Credential::Password, &[basic], &[basic], true),
            (Credential::Password, &[basic], &[basic, page], false),
            (Credential::Password, &[basic, page], &[basic, page], false),
        ];
        for (number, (credential, first, then, found)) in cases.into_iter().enumerate() {
            let memo = CredentialCache::default();
            memo.put(&headers(first), Surface::ApiV1, 7, known(credential));
            assert_eq!(memo.get(&headers(then), Surface::ApiV1, 7).is_some(), found, "case {number}");
            assert!(memo.get(&headers(then), Surface::ApiV1, 8).is_none(), "case {number}, after a change");
            assert!(memo.get(&headers(then), Surface::Registry, 7).is_none(), "case {number}, elsewhere");
        }
    }

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
