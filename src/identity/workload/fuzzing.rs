//! Properties of all tokens: a token without the signature of the issuer is refused, and checked claims are those expected.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::claims::{Claims, Expected, Unverified};
use super::{CLOCK_SKEW, Workloads};
use crate::kit::clock::Timestamp;

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "here";
const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
const LIFETIME_MAX: Duration = Duration::from_hours(1);

/// Reads an arbitrary token, or checks claims as if they were signed.
pub(crate) fn token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(unverified) = Unverified::read(text) {
        assert_eq!(text.bytes().filter(|byte| *byte == b'.').count(), 2);
        let _ = unverified.algorithm();
    }
    assert!(!Workloads::default().issues(text));
    let encoded = format!("{}.{}.x", URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#), URL_SAFE_NO_PAD.encode(text));
    let issuer = Unverified::read(&encoded).ok().and_then(|unverified| unverified.issuer().map(str::to_owned));
    let Ok(claims) = serde_json::from_str::<Claims>(text) else { return };
    let expected = Expected { audiences: vec![AUDIENCE.to_owned()], lifetime_max: LIFETIME_MAX };
    let Ok(checked) = expected.check(ISSUER, &claims, NOW) else { return };
    assert!(issuer.is_none_or(|issuer| issuer == ISSUER), "the unverified issuer is the verified one");
    assert!(text.contains(AUDIENCE) || text.contains('\\'));
    assert!(NOW < checked.expires.after(CLOCK_SKEW) && checked.issued <= NOW.after(CLOCK_SKEW));
    assert!(checked.expires.since(checked.issued) <= LIFETIME_MAX);
    assert!(!checked.subject.is_empty() && !checked.subject.chars().any(|c| c.is_control() || c.is_whitespace()));
}
