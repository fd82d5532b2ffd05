//! [`SignInCodes`]: a sign-in that was done in a browser and is for a program on the same machine (RFC 8252).
//!
//! The person is asked first, on a page: whoever can make a browser follow a link must not get a sign-in by that. Then
//! the browser takes a code to the program, which exchanges it together with what its challenge was made of (RFC
//! 7636). What must hold: without the person's answer, from the browser that has signed in, there is no code; a code is
//! good for a minute and for once, whoever tries it; and for nobody who does not know the verifier.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::Sealer;
use crate::kit::bounded_map::BoundedMap;
use crate::kit::clock::Timestamp;

/// How long a person has to answer.
pub(crate) const CONFIRM_LIFETIME: Duration = Duration::from_mins(5);
/// How long a code is good for: a browser takes it to a program on its own machine.
const CODE_LIFETIME: Duration = Duration::from_mins(1);
/// So many codes are issued at the same time; when there are more, further people are told to come back.
const CODES_MAX: usize = 1000;

/// What is sealed for the page is for this.
const PURPOSE: &[&str] = &["hand over"];
/// The longest request that is looked at, in bytes; a target is the longest part.
const FORM_BYTES_MAX: usize = 8 * 1024;
/// The bounds of a verifier (RFC 7636, 4.1).
const VERIFIER_CHARS: std::ops::RangeInclusive<usize> = 43..=128;

/// The codes that wait for their programs.
#[derive(Default)]
pub(crate) struct SignInCodes(Mutex<BoundedMap<[u8; 32], IssuedCode, CODES_MAX>>);

struct IssuedCode {
    user: String,
    stamp: u64,
    challenge: String,
    expires: Timestamp,
}

/// Who is asked, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProgramRequest {
    /// The user who has signed in.
    pub(crate) user: String,
    /// The mark of that sign-in: another user of the same name is not meant.
    pub(crate) stamp: u64,
    /// Where the program listens.
    pub(crate) redirect: String,
    /// SHA-256 of what it knows, in base64url.
    pub(crate) challenge: String,
}

/// A request as the page has it, and what its browser keeps. Both are secret.
pub(crate) struct ConfirmForm {
    pub(crate) form: String,
    pub(crate) cookie: String,
}

#[derive(Serialize, Deserialize)]
struct SealedRequest {
    request: ProgramRequest,
    /// The hash of what the browser keeps.
    browser: [u8; 32],
    expires: Timestamp,
}

/// Too many codes are issued.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl fmt::Debug for SignInCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignInCodes")
    }
}

impl fmt::Debug for ConfirmForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConfirmForm")
    }
}

impl SignInCodes {
    /// What the page and the browser keep until the person has answered.
    pub(crate) fn confirm_form(sealer: &Sealer, request: ProgramRequest, now: Timestamp) -> ConfirmForm {
        let cookie = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let sealed =
            SealedRequest { request, browser: Sha256::digest(&cookie).into(), expires: now.after(CONFIRM_LIFETIME) };
        let sealed = serde_json::to_vec(&sealed).expect("texts and numbers can be written");
        ConfirmForm { form: URL_SAFE_NO_PAD.encode(sealer.seal(PURPOSE, &sealed)), cookie }
    }

    /// What was asked, if it was asked of this browser, and not too long ago.
    pub(crate) fn confirmed(
        sealer: &Sealer,
        form: &str,
        cookie: Option<&str>,
        now: Timestamp,
    ) -> Option<ProgramRequest> {
        if form.len() > FORM_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(form).ok()?;
        let sealed: SealedRequest = serde_json::from_slice(&sealer.open(PURPOSE, &bytes)?).ok()?;
        let browser: [u8; 32] = Sha256::digest(cookie?).into();
        let same: bool = browser.ct_eq(&sealed.browser).into();
        (same && now < sealed.expires).then_some(sealed.request)
    }

    /// A code for the program of a request that was answered with yes.
    pub(crate) fn issue(&self, request: ProgramRequest, now: Timestamp) -> Result<String, TooMany> {
        let code = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let ProgramRequest { user, stamp, challenge, .. } = request;
        let issued = IssuedCode { user, stamp, challenge, expires: now.after(CODE_LIFETIME) };
        let has_room = self.0.lock().try_insert(Sha256::digest(&code).into(), issued, |issued| now < issued.expires);
        if has_room { Ok(code) } else { Err(TooMany) }
    }

    /// The user whom a code signs in, and the mark of the sign-in. It is used then, whether or not the verifier is right: who guesses, guesses once.
    pub(crate) fn exchange(&self, code: &str, verifier: &str, now: Timestamp) -> Option<(String, u64)> {
        let hash: [u8; 32] = Sha256::digest(code).into();
        let issued = self.0.lock().remove(&hash)?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
        let knows: bool = challenge.as_bytes().ct_eq(issued.challenge.as_bytes()).into();
        (knows && VERIFIER_CHARS.contains(&verifier.len()) && now < issued.expires)
            .then_some((issued.user, issued.stamp))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    /// Those of RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    fn request() -> ProgramRequest {
        ProgramRequest {
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
        let asked = SignInCodes::confirm_form(&sealer, request(), at(0));
        let other = SignInCodes::confirm_form(&sealer, request(), at(0));
        let confirmed = |form: &str, cookie: Option<&str>, now| SignInCodes::confirmed(&sealer, form, cookie, now);
        assert_eq!(confirmed(&asked.form, Some(&asked.cookie), at(299)), Some(request()));
        assert_eq!(confirmed(&asked.form, Some(&asked.cookie), at(300)), None);
        assert_eq!(confirmed(&asked.form, Some(&other.cookie), at(0)), None);
        assert_eq!(confirmed(&asked.form, None, at(0)), None);
        assert_eq!(confirmed("", Some(&asked.cookie), at(0)), None);
        assert_eq!(confirmed(&asked.form[1..], Some(&asked.cookie), at(0)), None);
        let elsewhere = Sealer::new(&[2; 32]);
        assert_eq!(SignInCodes::confirmed(&elsewhere, &asked.form, Some(&asked.cookie), at(0)), None);
        // Who it is about, and where it goes, is not to be read off the page or changed.
        let bytes = URL_SAFE_NO_PAD.decode(&asked.form).unwrap();
        assert!(!bytes.windows(5).any(|part| part == b"alice"));
    }

    #[test]
    fn a_code_is_good_once_for_a_minute_and_for_whoever_knows_the_verifier() {
        let sign_in_codes = SignInCodes::default();
        let issue = || sign_in_codes.issue(request(), at(0)).unwrap();
        let alice = || Some(("alice".to_owned(), 7));
        let code = issue();
        assert_eq!(sign_in_codes.exchange(&code, VERIFIER, at(59)), alice());
        assert_eq!(sign_in_codes.exchange(&code, VERIFIER, at(59)), None, "it was used");
        assert_eq!(sign_in_codes.exchange(&issue(), VERIFIER, at(60)), None, "its time is over");
        let code = issue();
        assert_eq!(sign_in_codes.exchange(&code, &VERIFIER.replace('d', "e"), at(0)), None);
        assert_eq!(sign_in_codes.exchange(&code, VERIFIER, at(0)), None, "it was tried");
        for verifier in ["", CHALLENGE] {
            assert_eq!(sign_in_codes.exchange(&issue(), verifier, at(0)), None, "{verifier:?}");
        }
        assert_eq!(sign_in_codes.exchange("", VERIFIER, at(0)), None);
    }

    #[test]
    fn a_verifier_is_too_long_to_be_guessed() {
        let sign_in_codes = SignInCodes::default();
        let short = "a".repeat(42);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&short));
        let code = sign_in_codes.issue(ProgramRequest { challenge, ..request() }, at(0)).unwrap();
        assert_eq!(sign_in_codes.exchange(&code, &short, at(0)), None);
    }

    #[test]
    fn codes_that_wait_are_bounded() {
        let sign_in_codes = SignInCodes::default();
        for _ in 0..CODES_MAX {
            assert!(sign_in_codes.issue(request(), at(0)).is_ok());
        }
        assert_eq!(sign_in_codes.issue(request(), at(59)), Err(TooMany));
        assert!(sign_in_codes.issue(request(), at(60)).is_ok(), "those whose time is over make room");
    }
}
