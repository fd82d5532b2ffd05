//! [`CredentialCache`]: the credentials that a connection presented last, and their caller.
//!
//! Clients send the same credentials with many requests on a connection. Decoding, hashing and looking them up again
//! costs a tenth of the smallest request. The cache returns only what another look-up would find.

use hyper::HeaderMap;
use hyper::header::{self, HeaderValue};
use parking_lot::Mutex;
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use super::{Caller, Credential, Credentials, Surface};
use crate::identity::accounts::PasswordFingerprint;
use crate::kit::opaque_debug::opaque_debug;

/// The credentials that one connection presented last.
#[derive(Default)]
pub(crate) struct CredentialCache(Mutex<Option<Entry>>);

struct Entry {
    /// The value of the header. Wiped on replacement and at the end of the connection.
    bytes: Zeroizing<Vec<u8>>,
    sent_by: SentBy,
    surface: Surface,
    /// The generation of the accounts at the look-up.
    generation: u64,
    caller: CachedCaller,
}

/// How the credentials were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SentBy {
    /// In a cookie, without an `Authorization` header.
    by_cookie: bool,
    /// By zot's web page, for which credentials have another meaning.
    from_page: bool,
}

/// The caller that was found for credentials.
#[derive(Clone, Debug)]
pub(super) struct CachedCaller {
    pub(super) caller: Caller,
    /// Set for a password.
    pub(super) fingerprint: Option<PasswordFingerprint>,
}

impl From<Caller> for CachedCaller {
    fn from(caller: Caller) -> Self {
        Self { caller, fingerprint: None }
    }
}

impl CachedCaller {
    /// Whether credentials that are sent like this always find this caller. A password from a page starts a session.
    fn is_cacheable(&self, sent_by: SentBy) -> bool {
        match self.caller.credential {
            Credential::Key(_) | Credential::Token(_) => !sent_by.by_cookie,
            Credential::Password => !sent_by.by_cookie && !sent_by.from_page,
            Credential::Session(_) => sent_by.by_cookie,
            Credential::None | Credential::IdToken | Credential::Certificate => false,
        }
    }
}

impl CredentialCache {
    /// Returns the caller if these headers have the cached credentials and no account has changed.
    pub(super) fn get(&self, headers: &HeaderMap, surface: Surface, generation: u64) -> Option<CachedCaller> {
        let (sent_by, presented) = presented(headers)?;
        let last = self.0.lock();
        let same = |last: &&Entry| {
            (last.generation, last.surface, last.sent_by) == (generation, surface, sent_by)
                && is_same(&last.bytes, presented.as_bytes())
        };
        last.as_ref().filter(same).map(|last| last.caller.clone())
    }

    /// Caches the caller who was found for these headers in this generation.
    pub(super) fn put(&self, headers: &HeaderMap, surface: Surface, generation: u64, caller: CachedCaller) {
        let Some((sent_by, presented)) = presented(headers).filter(|(sent_by, _)| caller.is_cacheable(*sent_by)) else {
            return;
        };
        let bytes = Zeroizing::new(presented.as_bytes().to_vec());
        let last = Entry { bytes, sent_by, surface, generation, caller };
        *self.0.lock() = Some(last);
    }
}

/// Compares in constant time, because a proxy may send requests of several clients on one connection.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let word = |bytes: &[u8]| match bytes.try_into() {
        Ok(word) => u64::from_be_bytes(word),
        Err(_) => bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    let words = one.chunks(8).zip(other.chunks(8)).map(|(one, other)| word(one).ct_eq(&word(other)));
    one.len() == other.len() && words.fold(Choice::from(1), |same, next| same & next).into()
}

/// The credentials of the headers, if there is exactly one value. Cookies count only without `Authorization`.
fn presented(headers: &HeaderMap) -> Option<(SentBy, &HeaderValue)> {
    let by_cookie = !headers.contains_key(header::AUTHORIZATION);
    let name = if by_cookie { header::COOKIE } else { header::AUTHORIZATION };
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    Some((SentBy { by_cookie, from_page: Credentials::from_page(headers) }, value))
}

opaque_debug!(CredentialCache);

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
    fn only_the_same_headers_find_the_cached_caller() {
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
            // A session of a request with an `Authorization` header, which is ignored there.
            (session(), &[cookie, bearer], &[cookie, bearer], false),
            (session(), &[cookie, bearer], &[other, bearer], false),
            (key(), &[bearer], &[bearer], true),
            (key(), &[bearer], &[bearer, cookie], true),
            (Credential::Password, &[basic], &[basic], true),
            (Credential::Password, &[basic], &[basic, page], false),
            (Credential::Password, &[basic, page], &[basic, page], false),
        ];
        for (number, (credential, first, then, found)) in cases.into_iter().enumerate() {
            let cache = CredentialCache::default();
            cache.put(&headers(first), Surface::ApiV1, 7, known(credential));
            assert_eq!(cache.get(&headers(then), Surface::ApiV1, 7).is_some(), found, "case {number}");
            assert!(cache.get(&headers(then), Surface::ApiV1, 8).is_none(), "case {number}, after a change");
            assert!(cache.get(&headers(then), Surface::Registry, 7).is_none(), "case {number}, elsewhere");
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
