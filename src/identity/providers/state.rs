//! [`States`]: what binds the two halves of a sign-in to each other, to a provider, and to one browser.
//!
//! Nothing is stored for a sign-in under way: the browser keeps a signed cookie with a random id, and everything
//! secret about it (`state`, the nonce, PKCE's verifier) follows from the id by a keyed hash. What must hold: a
//! browser that does not have the cookie cannot finish; what was begun with one provider does not finish with
//! another, nor after its time, nor twice.

use std::fmt;
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

/// How long somebody may take to sign in at a provider.
pub(crate) const STATE_LIFETIME: Duration = Duration::from_mins(10);
/// As many ids of finished sign-ins are remembered. When there are more within [`STATE_LIFETIME`], further ones are
/// refused: what is forgotten could be used again.
const USED_MAX: usize = 50_000;

const ID_BYTES: usize = 16;
/// The longest cookie that is looked at: a target is the longest part.
const COOKIE_BYTES_MAX: usize = 8 * 1024;

/// What the browser keeps. Signed; nothing in it is secret.
#[derive(Debug, Serialize, Deserialize)]
struct PendingSignIn {
    id: [u8; ID_BYTES],
    provider: String,
    target: Target,
    expires: Timestamp,
}

/// A sign-in that was begun here.
#[derive(Debug)]
pub(super) struct StartedSignIn {
    pub(super) target: Target,
    pub(super) secrets: Secrets,
}

/// What is secret about one sign-in. Does not print.
pub(crate) struct Secrets {
    pub(super) state: String,
    pub(super) nonce: String,
    pub(super) verifier: String,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

/// Signs, verifies, and remembers what was used.
pub(super) struct States {
    signing: [u8; 32],
    deriving: [u8; 32],
    used: Mutex<BoundedMap<[u8; ID_BYTES], Timestamp, USED_MAX>>,
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("States")
    }
}

impl States {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self { signing: keyed(key, &[b"sign"]), deriving: keyed(key, &[b"derive"]), used: Mutex::default() }
    }

    /// What the browser is to keep, and what goes with it.
    pub(super) fn begin(&self, provider: &str, target: Target, now: Timestamp) -> (String, Secrets) {
        let id: [u8; ID_BYTES] = rand::random();
        let pending = PendingSignIn { id, provider: provider.to_owned(), target, expires: now.after(STATE_LIFETIME) };
        let bytes = postcard::to_stdvec(&pending).expect("texts and numbers can be written");
        let signature = keyed(&self.signing, &[&bytes]);
        let cookie = format!("{}.{}", URL_SAFE_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(signature));
        (cookie, self.secrets(&id, provider))
    }

    /// What was begun by the browser that has pending this, if `state` is the provider's answer to that. It is used then,
    /// whatever becomes of it.
    pub(super) fn finish(
        &self,
        provider: &str,
        cookie: Option<&str>,
        state: Option<&str>,
        now: Timestamp,
    ) -> Result<StartedSignIn, Error> {
        let cookie = cookie.ok_or(Error::NotBegun("this browser has not begun a sign-in, or keeps no cookies"))?;
        let foreign = Error::NotBegun("this browser has begun another sign-in, or none");
        let Some(pending) = self.pending(cookie) else { return Err(foreign) };
        let secrets = self.secrets(&pending.id, provider);
        let is_answer = state.is_some_and(|state| secrets.state.as_bytes().ct_eq(state.as_bytes()).into());
        if !is_answer || pending.provider != provider {
            return Err(foreign);
        }
        if now >= pending.expires {
            return Err(Error::NotBegun("the sign-in has taken too long"));
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
            return Err(Error::NotBegun("this sign-in was finished already"));
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

    fn states() -> States {
        States::new(&[7; 32])
    }

    fn refused(outcome: &Result<StartedSignIn, Error>) -> bool {
        matches!(outcome, Err(Error::NotBegun(_)))
    }

    #[test]
    fn a_sign_in_finishes_once_where_it_was_begun() {
        let states = states();
        let target = Target::Page("/home".to_owned());
        let (cookie, secrets) = states.begin("oidc", target.clone(), NOW);
        assert!(cookie.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{cookie}");
        let begun = states.finish("oidc", Some(&cookie), Some(&secrets.state), NOW).unwrap();
        assert_eq!(begun.target, target);
        assert_eq!((begun.secrets.nonce, begun.secrets.verifier), (secrets.nonce, secrets.verifier));
        assert!(refused(&states.finish("oidc", Some(&cookie), Some(&secrets.state), NOW)), "it is used");
        // All three are of the length that PKCE wants (RFC 7636, 4.1), and none tells another.
        let (_, other) = states.begin("oidc", Target::Nothing, NOW);
        let mut all = vec![secrets.state, other.state, other.nonce, other.verifier];
        assert!(all.iter().all(|secret| secret.len() == 43));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn nothing_finishes_that_belongs_to_another_browser_provider_or_time() {
        let states = states();
        let (cookie, secrets) = states.begin("oidc", Target::Nothing, NOW);
        let (of_another, of_another_secrets) = states.begin("oidc", Target::Nothing, NOW);
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
        let elsewhere = States::new(&[8; 32]);
        assert!(refused(&elsewhere.finish("oidc", Some(&cookie), state, NOW)), "another registry's cookie");
        // None of that has used it.
        let just = NOW.after(STATE_LIFETIME.saturating_sub(Duration::from_secs(1)));
        assert!(states.finish("oidc", Some(&cookie), state, just).is_ok());
    }

    #[test]
    fn no_changed_cookie_counts() {
        let states = states();
        let (cookie, secrets) = states.begin("oidc", Target::Page("/".to_owned()), NOW);
        for at in 0..cookie.len() {
            let mut bytes = cookie.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            let outcome = states.finish("oidc", Some(&changed), Some(&secrets.state), NOW);
            // The last letter of each half has bits that mean nothing.
            assert!(refused(&outcome), "{at} of {}", cookie.len());
        }
        for cookie in ["", ".", "a.b", &cookie[1..], &"A".repeat(COOKIE_BYTES_MAX + 1)] {
            assert!(refused(&states.finish("oidc", Some(cookie), Some(&secrets.state), NOW)));
        }
    }

    #[test]
    fn what_was_used_is_remembered_for_as_long_as_it_could_be_used_again_and_no_longer() {
        let states = states();
        for number in 0..USED_MAX {
            let mut id = [0; ID_BYTES];
            id[..8].copy_from_slice(&number.to_be_bytes());
            states.mark_used(id, NOW.after(STATE_LIFETIME), NOW).unwrap();
        }
        let (cookie, secrets) = states.begin("oidc", Target::Nothing, NOW);
        let full = states.finish("oidc", Some(&cookie), Some(&secrets.state), NOW);
        assert!(matches!(full, Err(Error::Busy { .. })), "nothing is forgotten that counts still");
        let later = NOW.after(STATE_LIFETIME);
        let (cookie, secrets) = states.begin("oidc", Target::Nothing, later);
        assert!(states.finish("oidc", Some(&cookie), Some(&secrets.state), later).is_ok());
        assert_eq!(states.used.lock().values().len(), 1);
    }
}
