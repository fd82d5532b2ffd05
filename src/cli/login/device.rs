//! Sign-in on another device (RFC 8628): the user opens the provider's page there and types a code.
//!
//! The registry asks the provider. This program asks the registry, at most as often as the registry allows.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::api::{Api, Failure, Provider};
use crate::kit::text::printable;

/// The default and the longest interval between two requests (RFC 8628, 3.2 and 3.5).
const INTERVAL: Duration = Duration::from_secs(5);
const INTERVAL_MAX: Duration = Duration::from_mins(1);
/// The longest time that the user has.
const WAIT_MAX: Duration = Duration::from_mins(30);

/// Starts a session through a provider.
pub(super) async fn sign_in(api: &mut Api, provider: &Provider) -> Result<(), Failure> {
    let begun = api.post("/api/v1/signin/device", &json!({ "provider": provider.name })).await?;
    let text = |name: &str| begun[name].as_str();
    let (Some(user_code), Some(page), Some(handle)) =
        (text("user_code"), text("verification_uri"), text("handle").map(str::to_owned))
    else {
        return Err(Failure::Other("the registry does not support sign-in on another device".to_owned()));
    };
    let complete = text("verification_uri_complete")
        .map(|page| format!("Or open this page and compare the code:\n\n  {}\n\n", printable(page)));
    let how = format!(
        "To sign in with {}, open this page on any device:\n\n  {}\n\nand type this code there:\n\n  {}\n\n{}",
        provider.title,
        printable(page),
        printable(user_code),
        complete.unwrap_or_default(),
    );
    // One write, so that another program reads it whole.
    eprint!("{how}");
    let seconds = |value: &Value| value.as_u64().map(Duration::from_secs);
    let mut interval = seconds(&begun["interval"]).unwrap_or(INTERVAL).min(INTERVAL_MAX);
    let deadline = Instant::now() + seconds(&begun["expires_in"]).unwrap_or(WAIT_MAX).min(WAIT_MAX);
    while Instant::now() < deadline {
        tokio::time::sleep(interval).await;
        let polled = match api.post("/api/v1/signin/device/token", &json!({ "handle": handle })).await {
            // The registry or a proxy may be unavailable for a moment.
            Err(Failure::NoResponse(_) | Failure::Refused { status: 429 | 502 | 503, .. }) => {
                interval = (interval * 2).min(INTERVAL_MAX);
                continue;
            }
            polled => polled?,
        };
        match polled["status"].as_str() {
            Some("done") => return Ok(()),
            Some("pending") => {}
            Some("slow_down") => interval = (interval + INTERVAL).min(INTERVAL_MAX),
            Some("denied") => return Err(Failure::Other("the sign-in was refused on the other device".to_owned())),
            Some("expired") => break,
            _ => return Err(Failure::Other("the registry is another version of coracle".to_owned())),
        }
    }
    Err(Failure::Other("the code expired before it was typed: run the command again".to_owned()))
}
