//! [`Handovers`]: a sign-in that was done in a browser and is for a program on the same machine (RFC 8252).
//!
//! The person is asked first, on a page: whoever can make a browser follow a link must not get a sign-in by that. Then
//! the browser takes a code to the program, which exchanges it together with what its challenge was made of (RFC
//! 7636). What must hold: without the person's answer, from the browser that has signed in, there is no code; a code is
//! good for a minute and for once, whoever tries it; and for nobody who does not know the verifier.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Sealer;
use crate::kit::clock::Timestamp;

/// How long a person has to answer.
pub(crate) const QUESTION_LIFETIME: Duration = Duration::from_mins(5);
/// How long a code is good for: a browser takes it to a program on its own machine.
const CODE_LIFETIME: Duration = Duration::from_mins(1);
/// So many codes are waiting at the same time; when there are more, further people are told to come back.
const CODES_MAX: usize = 1000;

/// What is sealed for the page is for this.
const PURPOSE: &[&str] = &["hand over"];
/// The longest question that is looked at, in bytes; a target is the longest part.
const QUESTION_BYTES_MAX: usize = 8 * 1024;
/// The bounds of a verifier (RFC 7636, 4.1).
const VERIFIER_CHARS: std::ops::RangeInclusive<usize> = 43..=128;

/// The codes that wait for their programs.
#[derive(Default)]
pub(crate) struct Handovers(Mutex<HashMap<[u8; 32], Waiting>>);

struct Waiting {
    user: String,
    stamp: u64,
    challenge: String,
    expires: Timestamp,
}

/// Who is asked, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Question {
    /// The user who has signed in.
    pub(crate) user: String,
    /// The mark of that sign-in: another user of the same name is not meant.
    pub(crate) stamp: u64,
    /// Where the program listens.
    pub(crate) redirect: String,
    /// SHA-256 of what it knows, in base64url.
    pub(crate) challenge: String,
}

/// A question as the page has it, and what its browser keeps. Both are secret.
pub(crate) struct Asked {
    pub(crate) form: String,
    pub(crate) cookie: String,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    question: Question,
    /// The hash of what the browser keeps.
    browser: [u8; 32],
    expires: Timestamp,
}

/// Too many codes are waiting.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl fmt::Debug for Handovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handovers")
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asked")
    }
}

impl Handovers {
    /// What the page and the browser keep until the person has answered.
    pub(crate) fn ask(sealer: &Sealer, question: Question, now: Timestamp) -> Asked {
        let cookie = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let kept = Kept { question, browser: Sha256::digest(&cookie).into(), expires: now.after(QUESTION_LIFETIME) };
        let kept = serde_json::to_vec(&kept).expect("texts and numbers can be written");
        Asked { form: URL_SAFE_NO_PAD.encode(sealer.seal(PURPOSE, &kept)), cookie }
    }

    /// What was asked, if it was asked of this browser, and not too long ago.
    pub(crate) fn answered(sealer: &Sealer, form: &str, cookie: Option<&str>, now: Timestamp) -> Option<Question> {
        if form.len() > QUESTION_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(form).ok()?;
        let kept: Kept = serde_json::from_slice(&sealer.open(PURPOSE, &bytes)?).ok()?;
        let browser: [u8; 32] = Sha256::digest(cookie?).into();
        let same: bool = browser.ct_eq(&kept.browser).into();
        (same && now < kept.expires).then_some(kept.question)
    }

    /// A code for the program of a question that was answered with yes.
    pub(crate) fn give(&self, question: Question, now: Timestamp) -> Result<String, TooMany> {
        let code = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let Question { user, stamp, challenge, .. } = question;
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|_, waiting| now < waiting.expires);
        if codes.len() >= CODES_MAX {
            return Err(TooMany);
        }
        let waiting = Waiting { user, stamp, challenge, expires: now.after(CODE_LIFETIME) };
        codes.insert(Sha256::digest(&code).into(), waiting);
        Ok(code)
    }

    /// The user whom a code signs in, and the mark of the sign-in. It is used then, whether or not the verifier is right: who guesses, guesses once.
    pub(crate) fn exchange(&self, code: &str, verifier: &str, now: Timestamp) -> Option<(String, u64)> {
        let hash: [u8; 32] = Sha256::digest(code).into();
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash)?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
        let knows: bool = challenge.as_bytes().ct_eq(waiting.challenge.as_bytes()).into();
        (knows && VERIFIER_CHARS.contains(&verifier.len()) && now < waiting.expires)
            .then_some((waiting.user, waiting.stamp))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    /// Those of RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    fn question() -> Question {
        Question {
            user: "alice".to_owned(),
            stamp: 7,
            redirect: "http://127.0.0.1:5000/x".to_owned(),
            challenge: CHALLENGE.to_owned(),
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn only_the_browser_that_was_asked_answers_and_in_time() {
        let sealer = Sealer::new(&[1; 32]);
        let asked = Handovers::ask(&sealer, question(), at(0));
        let other = Handovers::ask(&sealer, question(), at(0));
        let answered = |form: &str, cookie: Option<&str>, now| Handovers::answered(&sealer, form, cookie, now);
        assert_eq!(answered(&asked.form, Some(&asked.cookie), at(299)), Some(question()));
        assert_eq!(answered(&asked.form, Some(&asked.cookie), at(300)), None);
        assert_eq!(answered(&asked.form, Some(&other.cookie), at(0)), None);
        assert_eq!(answered(&asked.form, None, at(0)), None);
        assert_eq!(answered("", Some(&asked.cookie), at(0)), None);
        assert_eq!(answered(&asked.form[1..], Some(&asked.cookie), at(0)), None);
        let elsewhere = Sealer::new(&[2; 32]);
        assert_eq!(Handovers::answered(&elsewhere, &asked.form, Some(&asked.cookie), at(0)), None);
        // Who it is about, and where it goes, is not to be read off the page or changed.
        let bytes = URL_SAFE_NO_PAD.decode(&asked.form).unwrap();
        assert!(!bytes.windows(5).any(|part| part == b"alice"));
    }

    #[test]
    fn a_code_is_good_once_for_a_minute_and_for_whoever_knows_the_verifier() {
        let handovers = Handovers::default();
        let give = || handovers.give(question(), at(0)).unwrap();
        let alice = || Some(("alice".to_owned(), 7));
        let code = give();
        assert_eq!(handovers.exchange(&code, VERIFIER, at(59)), alice());
        assert_eq!(handovers.exchange(&code, VERIFIER, at(59)), None, "it was used");
        assert_eq!(handovers.exchange(&give(), VERIFIER, at(60)), None, "its time is over");
        let code = give();
        assert_eq!(handovers.exchange(&code, &VERIFIER.replace('d', "e"), at(0)), None);
        assert_eq!(handovers.exchange(&code, VERIFIER, at(0)), None, "it was tried");
        for verifier in ["", CHALLENGE] {
            assert_eq!(handovers.exchange(&give(), verifier, at(0)), None, "{verifier:?}");
        }
        assert_eq!(handovers.exchange("", VERIFIER, at(0)), None);
    }

    #[test]
    fn a_verifier_is_too_long_to_be_guessed() {
        let handovers = Handovers::default();
        let short = "a".repeat(42);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&short));
        let code = handovers.give(Question { challenge, ..question() }, at(0)).unwrap();
        assert_eq!(handovers.exchange(&code, &short, at(0)), None);
    }

    #[test]
    fn codes_that_wait_are_bounded() {
        let handovers = Handovers::default();
        for _ in 0..CODES_MAX {
            assert!(handovers.give(question(), at(0)).is_ok());
        }
        assert_eq!(handovers.give(question(), at(59)), Err(TooMany));
        assert!(handovers.give(question(), at(60)).is_ok(), "those whose time is over make room");
    }
}
