//! Sign-in on another device (RFC 8628): the user enters a code at the provider.
//!
//! The client polls the registry, and the registry polls the provider, because only the registry has the client
//! secret. The client keeps the sealed state of the pending sign-in, so the registry stores nothing. Only the client
//! that started a sign-in can finish it. The provider is not polled more often than it allows.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oauth2::{
    AsyncHttpClient, DeviceAccessTokenRequest, DeviceCodeErrorResponse, DeviceCodeErrorResponseType,
    EmptyExtraDeviceAuthorizationFields, RequestTokenError, StandardDeviceAuthorizationResponse, TokenResponse,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::client::ProviderClient;
use super::{Error, Kind, Provider, ProviderSignIn, Providers, is_text, shown_word};
use crate::kit::bounded_map::BoundedMap;
use crate::kit::clock::Timestamp;
use crate::kit::opaque_debug::opaque_debug;
use crate::kit::outgoing;

/// The purpose of the sealed state.
const PURPOSE: &[&str] = &["device"];
/// The longest handle, in bytes, and the longest device code of a provider.
const HANDLE_BYTES_MAX: usize = 8 * 1024;
const DEVICE_CODE_BYTES_MAX: usize = 4096;
/// The longest lifetime of a sign-in.
const LIFETIME_MAX: Duration = Duration::from_mins(30);
/// The bounds of the interval between two polls. The default is five seconds (RFC 8628, 3.2).
const INTERVAL_MIN: Duration = Duration::from_secs(1);
const INTERVAL_MAX: Duration = Duration::from_mins(1);
/// The extension of the interval for a client that polls too often (RFC 8628, 3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// The largest number of sign-ins with a known poll time. If there are more, those that are due go first.
const WAITING_MAX: usize = 10_000;

/// The provider's response to the start of a sign-in.
pub(super) type Authorization = StandardDeviceAuthorizationResponse;

/// A started sign-in on another device.
pub(crate) struct DeviceSignIn {
    /// The code that the user enters.
    pub(crate) user_code: String,
    /// The page at which the user enters it.
    pub(crate) verification_uri: String,
    /// The same page with the code.
    pub(crate) verification_uri_complete: Option<String>,
    /// The secret with which the client polls.
    pub(crate) handle: String,
    /// The time between two polls.
    pub(crate) interval: Duration,
    /// How long the sign-in is valid.
    pub(crate) lifetime: Duration,
}

opaque_debug!(DeviceSignIn { verification_uri });

/// The state of a sign-in on another device.
#[derive(Debug)]
pub(crate) enum DevicePoll {
    /// The user has not entered the code. Poll again after this time.
    Pending {
        interval: Duration,
    },
    /// Like `Pending`, but the client polled too early.
    SlowDown {
        interval: Duration,
    },
    /// The user refused.
    Denied,
    Expired,
    Done(Box<ProviderSignIn>),
}

/// The state that the client keeps, sealed.
#[derive(Serialize, Deserialize)]
struct PendingDeviceSignIn {
    provider: String,
    device_code: String,
    interval_seconds: u64,
    expires: Timestamp,
}

/// The next poll times by the hash of the handle.
#[derive(Debug, Default)]
pub(super) struct PollSchedule(Mutex<BoundedMap<[u8; 32], NextPoll, WAITING_MAX>>);

#[derive(Clone, Copy, Debug)]
struct NextPoll {
    at: Timestamp,
    interval: Duration,
}

impl PollSchedule {
    /// Permits a poll, or returns how long to wait. A client that polls too early waits longer from then on.
    fn admit(&self, handle: [u8; 32], interval: Duration, now: Timestamp) -> Result<(), Duration> {
        let mut known = self.0.lock();
        let next = known.get_or_insert_with(handle, || NextPoll { at: now, interval }, |next| now < next.at);
        if now < next.at {
            next.interval = (next.interval + SLOWER).min(INTERVAL_MAX);
            next.at = now.after(next.interval);
            return Err(next.interval);
        }
        next.at = now.after(next.interval);
        Ok(())
    }

    /// Sets the interval that the provider asks for.
    fn slow(&self, handle: [u8; 32], interval: Duration, now: Timestamp) {
        let mut known = self.0.lock();
        if let Some(next) = known.get_mut(&handle) {
            *next = NextPoll { at: now.after(interval), interval };
        }
    }

    fn forget(&self, handle: [u8; 32]) {
        self.0.lock().remove(&handle);
    }
}

impl Providers {
    /// Starts a sign-in on another device for a client at this address.
    pub(crate) async fn start_device(
        &self,
        name: &str,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<DeviceSignIn, Error> {
        let provider = self.get(name).ok_or(Error::UnknownProvider)?;
        let _permit = self.permit(address)?;
        let response = match &provider.kind {
            Kind::OpenId(openid) => openid.start_device(now).await?,
            Kind::GitHub(github) => github.start_device().await?,
        };
        let invalid = |what: &str| Error::Unavailable { cause: format!("the device authorization has {what}") };
        let (device_code, user_code) = (response.device_code().secret(), response.user_code().secret());
        if device_code.len() > DEVICE_CODE_BYTES_MAX || !is_text(user_code) {
            return Err(invalid("an invalid code"));
        }
        let is_page = |url: &str| url.starts_with("https://") || url.starts_with("http://");
        let complete = response.verification_uri_complete().map(|url| url.secret().clone());
        if !is_page(response.verification_uri()) || !is_text(response.verification_uri()) {
            return Err(invalid("an invalid verification URL"));
        }
        let interval = response.interval().clamp(INTERVAL_MIN, INTERVAL_MAX);
        let lifetime = response.expires_in().min(LIFETIME_MAX);
        let pending = PendingDeviceSignIn {
            provider: name.to_owned(),
            device_code: device_code.clone(),
            interval_seconds: interval.as_secs(),
            expires: now.after(lifetime),
        };
        let pending = serde_json::to_vec(&pending).expect("texts and numbers can be written");
        Ok(DeviceSignIn {
            user_code: user_code.clone(),
            verification_uri: response.verification_uri().to_string(),
            verification_uri_complete: complete.filter(|url| is_page(url) && !url.contains(char::is_control)),
            handle: URL_SAFE_NO_PAD.encode(self.sealer.seal(PURPOSE, &pending)),
            interval,
            lifetime,
        })
    }

    /// Polls the state of the sign-in with this handle.
    pub(crate) async fn poll_device(&self, handle: &str, now: Timestamp) -> Result<DevicePoll, Error> {
        let pending =
            self.pending(handle).ok_or(Error::InvalidSignIn("no sign-in was started here with this handle"))?;
        let provider = self.get(&pending.provider).ok_or(Error::UnknownProvider)?;
        if now >= pending.expires {
            return Ok(DevicePoll::Expired);
        }
        let (this, interval) = (Sha256::digest(handle).into(), Duration::from_secs(pending.interval_seconds));
        if let Err(interval) = self.polls.admit(this, interval, now) {
            return Ok(DevicePoll::SlowDown { interval });
        }
        let _permit = self.permit_without_rate_limit()?;
        let authorization = authorization(&pending, pending.expires.since(now));
        let polled = match &provider.kind {
            Kind::OpenId(openid) => openid.poll_device(&authorization, now).await,
            Kind::GitHub(github) => github.poll_device(&authorization).await,
        };
        match polled {
            Ok(DevicePoll::Pending { interval: wanted }) => {
                let wanted = wanted.clamp(INTERVAL_MIN, INTERVAL_MAX);
                if wanted > interval {
                    self.polls.slow(this, wanted, now);
                }
                Ok(DevicePoll::Pending { interval: wanted })
            }
            Ok(DevicePoll::Done(mut signed_in)) => {
                self.polls.forget(this);
                signed_in.user.provider.clone_from(&provider.name);
                Ok(DevicePoll::Done(signed_in))
            }
            polled => polled,
        }
    }

    fn pending(&self, handle: &str) -> Option<PendingDeviceSignIn> {
        if handle.len() > HANDLE_BYTES_MAX {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(handle).ok()?;
        serde_json::from_slice(&self.sealer.open(PURPOSE, &sealed)?).ok()
    }
}

impl Provider {
    /// Whether the provider supports sign-in on another device. `false` if it is unavailable.
    pub(crate) async fn offers_device(&self) -> bool {
        match &self.kind {
            Kind::OpenId(openid) => openid.offers_device().await,
            Kind::GitHub(github) => github.offers_device(),
        }
    }
}

/// Rebuilds the provider's response for the library from the kept state.
fn authorization(pending: &PendingDeviceSignIn, left: Duration) -> Authorization {
    let document = json!({
        "device_code": pending.device_code,
        "user_code": "-",
        "verification_uri": "https://localhost/",
        "expires_in": left.as_secs() + 1,
        "interval": pending.interval_seconds,
    });
    serde_json::from_value(document).expect("the document is a valid response (RFC 8628, 3.2)")
}

/// The result of one poll.
pub(super) enum Polled<T> {
    Tokens(T),
    Not(DevicePoll),
}

/// Polls once. The library polls until there is a decision, so this stops it when it starts to wait.
pub(super) async fn poll_once<T: TokenResponse + Send>(
    request: DeviceAccessTokenRequest<'_, '_, T, EmptyExtraDeviceAuthorizationFields>,
    http: &ProviderClient,
) -> Result<Polled<T>, Error>
where
    for<'c> ProviderClient: AsyncHttpClient<'c, Error = outgoing::Error>,
{
    let (sender, mut waits) = mpsc::unbounded_channel();
    let wait = move |interval| {
        let _ = sender.send(interval);
        std::future::pending::<()>()
    };
    let response = tokio::select! {
        response = request.request_async(http, wait, None) => response,
        Some(interval) = waits.recv() => return Ok(Polled::Not(DevicePoll::Pending { interval })),
    };
    match response {
        Ok(tokens) => Ok(Polled::Tokens(tokens)),
        Err(error) => refusal(&error).map(Polled::Not),
    }
}

/// The state of a sign-in without tokens.
fn refusal(error: &RequestTokenError<outgoing::Error, DeviceCodeErrorResponse>) -> Result<DevicePoll, Error> {
    /// GitHub's refusal, which has the status 200.
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
        interval: Option<u64>,
    }
    let (word, interval) = match error {
        RequestTokenError::ServerResponse(response) => match response.error() {
            DeviceCodeErrorResponseType::ExpiredToken => return Ok(DevicePoll::Expired),
            DeviceCodeErrorResponseType::AccessDenied => return Ok(DevicePoll::Denied),
            other => (other.as_ref().to_owned(), None),
        },
        RequestTokenError::Parse(error, body) => match serde_json::from_slice::<Refusal>(body) {
            Ok(Refusal { error, interval }) => (error, interval),
            Err(_) => {
                return Err(Error::Unavailable { cause: format!("invalid token response at {}", error.path()) });
            }
        },
        RequestTokenError::Request(error) => return Err(Error::Unavailable { cause: error.to_string() }),
        RequestTokenError::Other(_) => {
            return Err(Error::Unavailable { cause: "invalid token response".to_owned() });
        }
    };
    match word.as_str() {
        "authorization_pending" => Ok(DevicePoll::Pending { interval: Duration::ZERO }),
        "slow_down" => {
            let interval = interval.map_or(2 * SLOWER, Duration::from_secs);
            Ok(DevicePoll::Pending { interval })
        }
        "access_denied" => Ok(DevicePoll::Denied),
        // All of them mean that the code is no longer valid.
        "expired_token" | "token_expired" | "invalid_grant" | "incorrect_device_code" => Ok(DevicePoll::Expired),
        word => Err(Error::Refused { word: shown_word(word) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_client_that_polls_too_early_is_refused_and_waits_longer() {
        let (polls, five) = (PollSchedule::default(), Duration::from_secs(5));
        assert_eq!(polls.admit([1; 32], five, at(0)), Ok(()));
        assert_eq!(polls.admit([2; 32], five, at(0)), Ok(()), "they do not wait for each other");
        assert_eq!(polls.admit([1; 32], five, at(4)), Err(Duration::from_secs(10)));
        assert_eq!(polls.admit([1; 32], five, at(13)), Err(Duration::from_secs(15)), "the wait started again at 4");
        assert_eq!(polls.admit([2; 32], five, at(5)), Ok(()));
        assert_eq!(polls.admit([1; 32], five, at(28)), Ok(()));
        assert_eq!(polls.admit([1; 32], five, at(42)), Err(Duration::from_secs(20)));
        for n in 0..20 {
            assert!(polls.admit([1; 32], five, at(43 + n)).is_err_and(|interval| interval <= INTERVAL_MAX));
        }
        polls.slow([2; 32], Duration::from_secs(30), at(5));
        assert!(polls.admit([2; 32], five, at(34)).is_err());
    }

    #[test]
    fn memory_is_bounded_and_pending_waits_are_kept_longest() {
        let polls = PollSchedule::default();
        for n in 0..3 * WAITING_MAX as u64 {
            let mut handle = [0; 32];
            handle[..8].copy_from_slice(&n.to_be_bytes());
            assert_eq!(polls.admit(handle, Duration::from_secs(5), at(n)), Ok(()));
        }
        let known = polls.0.lock();
        assert!(known.values().len() <= WAITING_MAX);
        assert!(known.values().any(|next| next.at > at(3 * WAITING_MAX as u64)));
    }
}
