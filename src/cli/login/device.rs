//! Signing in with another device: the provider's page is opened there, and a code typed that is shown here
//! (RFC 8628). The registry asks the provider; this asks the registry, no more often than it is told to.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::api::{Api, Failure, Provider};
use crate::cli::printable;

/// How often is asked, whatever the registry says (RFC 8628, 3.2 and 3.5).
const INTERVAL: Duration = Duration::from_secs(5);
const INTERVAL_MAX: Duration = Duration::from_mins(1);
/// How long somebody has for it, whatever the registry says.
const WAIT_MAX: Duration = Duration::from_mins(30);

/// Begins a session through a provider.
pub(super) async fn sign_in(api: &mut Api, provider: &Provider) -> Result<(), Failure> {
    let begun = api.post("/api/v1/signin/device", &json!({ "provider": provider.name })).await?;
    let text = |name: &str| begun[name].as_str();
    let (Some(user_code), Some(page), Some(handle)) =
        (text("user_code"), text("verification_uri"), text("handle").map(str::to_owned))
    else {
        return Err(Failure::Other("the registry does not say how to sign in with another device".to_owned()));
    };
    let complete = text("verification_uri_complete")
        .map(|page| format!("Or open this one, and compare the code:\n\n  {}\n\n", printable(page)));
    let how = format!(
        "To sign in with {}, open this page on any device:\n\n  {}\n\nand type this code there:\n\n  {}\n\n{}",
        provider.title,
        printable(page),
        printable(user_code),
        complete.unwrap_or_default(),
    );
    // In one piece, for whoever reads it as it comes.
    eprint!("{how}");
    let seconds = |value: &Value| value.as_u64().map(Duration::from_secs);
    let mut interval = seconds(&begun["interval"]).unwrap_or(INTERVAL).min(INTERVAL_MAX);
    let deadline = Instant::now() + seconds(&begun["expires_in"]).unwrap_or(WAIT_MAX).min(WAIT_MAX);
    while Instant::now() < deadline {
        tokio::time::sleep(interval).await;
        let polled = match api.post("/api/v1/signin/device/token", &json!({ "handle": handle })).await {
            // Somebody in between may be away for a moment.
            Err(Failure::Away(_) | Failure::Refused { status: 429 | 502 | 503, .. }) => {
                interval = (interval * 2).min(INTERVAL_MAX);
                continue;
            }
            polled => polled?,
        };
        match polled["status"].as_str() {
            Some("done") => return Ok(()),
            Some("pending") => {}
            Some("slow_down") => interval = (interval + INTERVAL).min(INTERVAL_MAX),
            Some("denied") => return Err(Failure::Other("it was refused on the other device".to_owned())),
            Some("expired") => break,
            _ => return Err(Failure::Other("the registry does not answer as this version does".to_owned())),
        }
    }
    Err(Failure::Other("the code was not typed in time: begin again".to_owned()))
}
