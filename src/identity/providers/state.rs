//! [`SignInSignInStates`]: binds a callback to the sign-in that the same browser started at the same provider.
//!
//! The registry stores nothing for a pending sign-in. The browser keeps a signed cookie with a random id. A keyed hash
//! of the id gives the secrets of the sign-in: `state`, the nonce and the PKCE verifier. A sign-in cannot finish without
//! the cookie, at another provider, after its lifetime, or twice.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::seal::keyed;
use super::{Error, Target};
use crate::kit::bounded_map::BoundedMap;
use crate::kit::clock::Timestamp;
use crate::kit::opaque_debug::opaque_debug;

/// The lifetime of a pending sign-in.
pub(crate) const STATE_LIFETIME: Duration = Duration::from_mins(10);
/// The largest number of finished sign-ins within [`STATE_LIFETIME`]. Further ones are refused, because a forgotten id
/// could be used again.
const USED_MAX: usize = 50_000;

const ID_BYTES: usize = 16;
/// The longest cookie, in bytes. The target is its longest part.
const COOKIE_BYTES_MAX: usize = 8 * 1024;

/// The content of the cookie. It is signed but not secret.
#[derive(Debug, Serialize, Deserialize)]
struct PendingSignIn {
    id: [u8; ID_BYTES],
    provider: String,
    target: Target,
    expires: Timestamp,
}

/// A pending sign-in whose callback has arrived.
#[derive(Debug)]
pub(super) struct StartedSignIn {
    pub(super) target: Target,
    pub(super) secrets: Secrets,
}

/// The secrets of one sign-in. Does not print.
pub(crate) struct Secrets {
    pub(super) state: String,
    pub(super) nonce: String,
    pub(super) verifier: String,
}

opaque_debug!(Secrets, SignInStates);

/// Signs and verifies pending sign-ins, and rejects used ones.
pub(super) struct SignInStates {
    signing: [u8; 32],
    deriving: [u8; 32],
    used: Mutex<BoundedMap<[u8; ID_BYTES], Timestamp, USED_MAX>>,
}

impl SignInStates {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self { signing: keyed(key, &[b"sign"]), deriving: keyed(key, &[b"derive"]), used: Mutex::default() }
    }

    /// Starts a sign-in. Returns the cookie and the secrets.
    pub(super) fn start(&self, provider: &str, target: Target, now: Timestamp) -> (String, Secrets) {
        let id: [u8; ID_BYTES] = rand::random();
        let pending = PendingSignIn { id, provider: provider.to_owned(), target, expires: now.after(STATE_LIFETIME) };
        let bytes = postcard::to_stdvec(&pending).expect("texts and numbers can be written");
        let signature = keyed(&self.signing, &[&bytes]);
        let cookie = format!("{}.{}", URL_SAFE_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(signature));
        (cookie, self.secrets(&id, provider))
    }

    /// Finds the pending sign-in of a cookie if `state` belongs to it. It cannot be used again, even if the sign-in fails
    /// later.
    pub(super) fn finish(
        &self,
        provider: &str,
        cookie: Option<&str>,
        state: Option<&str>,
        now: Timestamp,
    ) -> Result<StartedSignIn, Error> {
        let cookie = cookie.ok_or(Error::InvalidSignIn("this browser has not started a sign-in or blocks cookies"))?;
        let foreign = Error::InvalidSignIn("this browser has not started this sign-in");
        let Some(pending) = self.pending(cookie) else { return Err(foreign) };
        let secrets = self.secrets(&pending.id, provider);
        let is_answer = state.is_some_and(|state| secrets.state.as_bytes().ct_eq(state.as_bytes()).into());
        if !is_answer || pending.provider != provider {
            return Err(foreign);
        }
        if now >= pending.expires {
            return Err(Error::InvalidSignIn("this sign-in has expired"));
        }
        self.mark_used(pending.id, pending.expires, now)?;
        Ok(StartedSignIn { target: pending.target, secrets })
    }

    fn pending(&self, cookie: &str) -> Option<PendingSignIn> {
        if cookie.len() > COOKIE_BYTES_MAX {
            return None;
        }
        let (pending, signature) = cookie.split_once('.')?;
        let [pending, signature] = [pending, signature].map(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let (pending, signature) = (pending?, signature?);
        let is_ours: bool = keyed(&self.signing, &[&pending]).ct_eq(signature.as_slice()).into();
        if is_ours { postcard::from_bytes(&pending).ok() } else { None }
    }

    fn mark_used(&self, id: [u8; ID_BYTES], expires: Timestamp, now: Timestamp) -> Result<(), Error> {
        let mut used = self.used.lock();
        if used.contains_key(&id) {
            return Err(Error::InvalidSignIn("this sign-in is already finished"));
        }
        if used.try_insert(id, expires, |expires| now < *expires) { Ok(()) } else { Err(Error::Busy { seconds: 60 }) }
    }

    fn secrets(&self, id: &[u8; ID_BYTES], provider: &str) -> Secrets {
        let secret =
            |what: &str| URL_SAFE_NO_PAD.encode(keyed(&self.deriving, &[what.as_bytes(), provider.as_bytes(), id]));
        Secrets { state: secret("state"), nonce: secret("nonce"), verifier: secret("verifier") }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);

    fn states() -> SignInStates {
        SignInStates::new(&[7; 32])
    }

    fn refused(outcome: &Result<StartedSignIn, Error>) -> bool {
        matches!(outcome, Err(Error::InvalidSignIn(_)))
    }

    #[test]
    fn a_sign_in_finishes_once_in_the_browser_that_started_it() {
        let states = states();
        let target = Target::Page("/home".to_owned());
        let (cookie, secrets) = states.start("oidc", target.clone(), NOW);
        assert!(cookie.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{cookie}");
        let started = states.finish("oidc", Some(&cookie), Some(&secrets.state), NOW).unwrap();
        assert_eq!(started.target, target);
        assert_eq!((started.secrets.nonce, started.secrets.verifier), (secrets.nonce, secrets.verifier));
        assert!(refused(&states.finish("oidc", Some(&cookie), Some(&secrets.state), NOW)), "it is used");
        // All three have the length that PKCE requires (RFC 7636, 4.1), and all differ.
        let (_, other) = states.start("oidc", Target::Nothing, NOW);
        let mut all = vec![secrets.state, other.state, other.nonce, other.verifier];
        assert!(all.iter().all(|secret| secret.len() == 43));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn a_sign_in_of_another_browser_provider_or_time_is_refused() {
        let states = states();
        let (cookie, secrets) = states.start("oidc", Target::Nothing, NOW);
        let (of_another, of_another_secrets) = states.start("oidc", Target::Nothing, NOW);
        let state = Some(secrets.state.as_str());
        for (provider, cookie, state, now, why) in [
            ("oidc", None, state, NOW, "no cookie"),
            ("oidc", Some(of_another.as_str()), state, NOW, "another browser's cookie"),
            ("oidc", Some(cookie.as_str()), Some(of_another_secrets.state.as_str()), NOW, "another's state"),
            ("oidc", Some(cookie.as_str()), None, NOW, "no state"),
            ("oidc", Some(cookie.as_str()), Some(""), NOW, "an empty state"),
            ("google", Some(cookie.as_str()), state, NOW, "another provider"),
            ("oidc", Some(cookie.as_str()), state, NOW.after(STATE_LIFETIME), "too late"),
        ] {
            assert!(refused(&states.finish(provider, cookie, state, now)), "{why}");
        }
        let elsewhere = SignInStates::new(&[8; 32]);
        assert!(refused(&elsewhere.finish("oidc", Some(&cookie), state, NOW)), "another registry's cookie");
        // The failed attempts have not used it.
        let just = NOW.after(STATE_LIFETIME.saturating_sub(Duration::from_secs(1)));
        assert!(states.finish("oidc", Some(&cookie), state, just).is_ok());
    }

    #[test]
    fn a_changed_cookie_is_refused() {
        let states = states();
        let (cookie, secrets) = states.start("oidc", Target::Page("/".to_owned()), NOW);
        for at in 0..cookie.len() {
            let mut bytes = cookie.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            let outcome = states.finish("oidc", Some(&changed), Some(&secrets.state), NOW);
            assert!(refused(&outcome), "{at} of {}", cookie.len());
        }
        for cookie in ["", ".", "a.b", &cookie[1..], &"A".repeat(COOKIE_BYTES_MAX + 1)] {
            assert!(refused(&states.finish("oidc", Some(cookie), Some(&secrets.state), NOW)));
        }
    }

    #[test]
    fn used_ids_are_kept_for_the_lifetime_of_a_sign_in() {
        let states = states();
        for number in 0..USED_MAX {
            let mut id = [0; ID_BYTES];
            id[..8].copy_from_slice(&number.to_be_bytes());
            states.mark_used(id, NOW.after(STATE_LIFETIME), NOW).unwrap();
        }
        let (cookie, secrets) = states.start("oidc", Target::Nothing, NOW);
        let full = states.finish("oidc", Some(&cookie), Some(&secrets.state), NOW);
        assert!(matches!(full, Err(Error::Busy { .. })), "ids are kept until they expire");
        let later = NOW.after(STATE_LIFETIME);
        let (cookie, secrets) = states.start("oidc", Target::Nothing, later);
        assert!(states.finish("oidc", Some(&cookie), Some(&secrets.state), later).is_ok());
        assert_eq!(states.used.lock().values().len(), 1);
    }
}
