//! [`SignInCodes`]: signs in a program through a browser on the same machine (RFC 8252).
//!
//! After the sign-in, a page asks the user for confirmation, so that a link alone cannot sign in a program. Then the
//! browser passes a code to the program. The program exchanges it together with the PKCE verifier (RFC 7636). Only the
//! browser that signed in can confirm. A code is valid for one minute and one attempt.

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
use crate::kit::opaque_debug::opaque_debug;

/// How long the user may take to confirm.
pub(crate) const CONFIRM_LIFETIME: Duration = Duration::from_mins(5);
/// The lifetime of a code. The browser passes it to a program on the same machine.
const CODE_LIFETIME: Duration = Duration::from_mins(1);
/// The largest number of unused codes.
const CODES_MAX: usize = 1000;

/// The purpose of the sealed form.
const PURPOSE: &[&str] = &["hand over"];
/// The longest form field, in bytes. The redirect URL is its longest part.
const FORM_BYTES_MAX: usize = 8 * 1024;
/// The lengths of a verifier (RFC 7636, 4.1).
const VERIFIER_CHARS: std::ops::RangeInclusive<usize> = 43..=128;

/// The unused codes.
#[derive(Default)]
pub(crate) struct SignInCodes(Mutex<BoundedMap<[u8; 32], IssuedCode, CODES_MAX>>);

struct IssuedCode {
    user: String,
    stamp: u64,
    challenge: String,
    expires: Timestamp,
}

/// A program's request to be signed in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProgramRequest {
    /// The user who has signed in.
    pub(crate) user: String,
    /// The stamp of the sign-in, which a later user of the same name does not have.
    pub(crate) stamp: u64,
    /// The URL at which the program listens.
    pub(crate) redirect: String,
    /// The SHA-256 of the verifier in base64url.
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
    /// The hash of the browser's cookie.
    browser: [u8; 32],
    expires: Timestamp,
}

/// There are too many unused codes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

opaque_debug!(SignInCodes, ConfirmForm);

impl SignInCodes {
    /// Creates the form field and the cookie for a confirmation.
    pub(crate) fn confirm_form(sealer: &Sealer, request: ProgramRequest, now: Timestamp) -> ConfirmForm {
        let cookie = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let content =
            SealedRequest { request, browser: Sha256::digest(&cookie).into(), expires: now.after(CONFIRM_LIFETIME) };
        let content = serde_json::to_vec(&content).expect("texts and numbers can be written");
        ConfirmForm { form: URL_SAFE_NO_PAD.encode(sealer.seal(PURPOSE, &content)), cookie }
    }

    /// The confirmed request, if the form was made for this browser and has not expired.
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
        let content: SealedRequest = serde_json::from_slice(&sealer.open(PURPOSE, &bytes)?).ok()?;
        let browser: [u8; 32] = Sha256::digest(cookie?).into();
        let same: bool = browser.ct_eq(&content.browser).into();
        (same && now < content.expires).then_some(content.request)
    }

    /// Issues a code for a confirmed request.
    pub(crate) fn issue(&self, request: ProgramRequest, now: Timestamp) -> Result<String, TooMany> {
        let code = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let ProgramRequest { user, stamp, challenge, .. } = request;
        let issued = IssuedCode { user, stamp, challenge, expires: now.after(CODE_LIFETIME) };
        let has_room = self.0.lock().try_insert(Sha256::digest(&code).into(), issued, |issued| now < issued.expires);
        if has_room { Ok(code) } else { Err(TooMany) }
    }

    /// Exchanges a code for the user and the stamp of the sign-in. A wrong verifier uses up the code too, so that there
    /// is one guess.
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

    /// The values of RFC 7636, appendix B.
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
    fn only_the_browser_of_the_form_confirms_and_in_time() {
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
        // The form is encrypted.
        let bytes = URL_SAFE_NO_PAD.decode(&asked.form).unwrap();
        assert!(!bytes.windows(5).any(|part| part == b"alice"));
    }

    #[test]
    fn a_code_is_valid_once_for_a_minute_and_with_its_verifier() {
        let sign_in_codes = SignInCodes::default();
        let issue = || sign_in_codes.issue(request(), at(0)).unwrap();
        let alice = || Some(("alice".to_owned(), 7));
        let code = issue();
        assert_eq!(sign_in_codes.exchange(&code, VERIFIER, at(59)), alice());
        assert_eq!(sign_in_codes.exchange(&code, VERIFIER, at(59)), None, "it was used");
        assert_eq!(sign_in_codes.exchange(&issue(), VERIFIER, at(60)), None, "it has expired");
        let code = issue();
        assert_eq!(sign_in_codes.exchange(&code, &VERIFIER.replace('d', "e"), at(0)), None);
        assert_eq!(sign_in_codes.exchange(&code, VERIFIER, at(0)), None, "it was tried");
        for verifier in ["", CHALLENGE] {
            assert_eq!(sign_in_codes.exchange(&issue(), verifier, at(0)), None, "{verifier:?}");
        }
        assert_eq!(sign_in_codes.exchange("", VERIFIER, at(0)), None);
    }

    #[test]
    fn a_short_verifier_is_refused() {
        let sign_in_codes = SignInCodes::default();
        let short = "a".repeat(42);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&short));
        let code = sign_in_codes.issue(ProgramRequest { challenge, ..request() }, at(0)).unwrap();
        assert_eq!(sign_in_codes.exchange(&code, &short, at(0)), None);
    }

    #[test]
    fn unused_codes_are_bounded() {
        let sign_in_codes = SignInCodes::default();
        for _ in 0..CODES_MAX {
            assert!(sign_in_codes.issue(request(), at(0)).is_ok());
        }
        assert_eq!(sign_in_codes.issue(request(), at(59)), Err(TooMany));
        assert!(sign_in_codes.issue(request(), at(60)).is_ok(), "expired codes make room");
    }
}
