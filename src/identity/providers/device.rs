//! Sign-in with another device (RFC 8628): a code that is shown here is typed there, at the provider.
//!
//! The registry asks the provider, since it has what the client proves itself with; whoever waits polls the registry.
//! Nothing is stored of a sign-in under way: whoever waits keeps it, sealed. What must hold: nobody but who began a
//! sign-in finishes it; a provider is asked no more often than it wants, however often the registry is.

use std::fmt;
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
use super::{Error, Kind, Provider, Providers, SignedIn, is_text, shown_word};
use crate::kit::bounded_map::BoundedMap;
use crate::kit::clock::Timestamp;
use crate::kit::outgoing;

/// What is sealed for whoever waits is for this.
const PURPOSE: &[&str] = &["device"];
/// The longest handle that is looked at, in bytes, and the longest code of a device of a provider's.
const HANDLE_BYTES_MAX: usize = 8 * 1024;
const DEVICE_CODE_BYTES_MAX: usize = 4096;
/// How long a sign-in may take, whatever the provider says.
const LIFETIME_MAX: Duration = Duration::from_mins(30);
/// The bounds of how often a provider is asked, whatever it says; without its word every five seconds (RFC 8628, 3.2).
const INTERVAL_MIN: Duration = Duration::from_secs(1);
const INTERVAL_MAX: Duration = Duration::from_mins(1);
/// By how much whoever asks too often waits longer (RFC 8628, 3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// Of so many sign-ins it is known when they were last asked about. When there are more, what is due goes first.
const WAITING_MAX: usize = 10_000;

/// What a provider has said to a sign-in that was begun.
pub(super) type Authorization = StandardDeviceAuthorizationResponse;

/// A sign-in that was begun with another device.
pub(crate) struct DeviceSignIn {
    /// What a person types.
    pub(crate) user_code: String,
    /// Where they type it.
    pub(crate) verification_uri: String,
    /// The same with the code in it.
    pub(crate) verification_uri_complete: Option<String>,
    /// What whoever waits asks with. A secret: it signs them in.
    pub(crate) handle: String,
    /// How long they wait before they ask, and how long it is good for.
    pub(crate) interval: Duration,
    pub(crate) lifetime: Duration,
}

impl fmt::Debug for DeviceSignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceSignIn").field("verification_uri", &self.verification_uri).finish_non_exhaustive()
    }
}

/// What has become of a sign-in with another device.
#[derive(Debug)]
pub(crate) enum DevicePoll {
    /// Nobody has typed the code yet: ask again after this long.
    Pending {
        interval: Duration,
    },
    /// The same; and this was asked too early.
    SlowDown {
        interval: Duration,
    },
    /// The person has said no.
    Denied,
    /// It took too long.
    Expired,
    Done(Box<SignedIn>),
}

/// What whoever waits keeps. Sealed.
#[derive(Serialize, Deserialize)]
struct PendingDeviceSignIn {
    provider: String,
    device_code: String,
    interval_seconds: u64,
    expires: Timestamp,
}

/// When sign-ins may be asked about again, by the hash of their handle.
#[derive(Debug, Default)]
pub(super) struct PollSchedule(Mutex<BoundedMap<[u8; 32], NextPoll, WAITING_MAX>>);

#[derive(Clone, Copy, Debug)]
struct NextPoll {
    at: Timestamp,
    interval: Duration,
}

impl PollSchedule {
    /// A turn to ask; or how long to wait instead. Whoever comes too early waits longer from then on.
    fn admit(&self, handle: [u8; 32], interval: Duration, now: Timestamp) -> Result<(), Duration> {
        let mut known = self.0.lock();
        let next = known.entry(handle, |next| now < next.at).or_insert(NextPoll { at: now, interval });
        if now < next.at {
            next.interval = (next.interval + SLOWER).min(INTERVAL_MAX);
            next.at = now.after(next.interval);
            return Err(next.interval);
        }
        next.at = now.after(next.interval);
        Ok(())
    }

    /// What the provider wants.
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
    /// Begins a sign-in with another device, for somebody at this address.
    pub(crate) async fn begin_device(
        &self,
        name: &str,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<DeviceSignIn, Error> {
        let provider = self.get(name).ok_or(Error::Unknown)?;
        let _turn = self.turn(address)?;
        let said = match &provider.kind {
            Kind::OpenId(openid) => openid.begin_device(now).await?,
            Kind::GitHub(github) => github.begin_device().await?,
        };
        let odd = |cause: &str| Error::Away { cause: format!("what it says of another device {cause}") };
        let (device_code, user_code) = (said.device_code().secret(), said.user_code().secret());
        if device_code.len() > DEVICE_CODE_BYTES_MAX || !is_text(user_code) {
            return Err(odd("has a code that is none"));
        }
        let page = |url: &str| url.starts_with("https://") || url.starts_with("http://");
        let complete = said.verification_uri_complete().map(|url| url.secret().clone());
        if !page(said.verification_uri()) || !is_text(said.verification_uri()) {
            return Err(odd("names no page"));
        }
        let interval = said.interval().clamp(INTERVAL_MIN, INTERVAL_MAX);
        let lifetime = said.expires_in().min(LIFETIME_MAX);
        let pending = PendingDeviceSignIn {
            provider: name.to_owned(),
            device_code: device_code.clone(),
            interval_seconds: interval.as_secs(),
            expires: now.after(lifetime),
        };
        let pending = serde_json::to_vec(&pending).expect("texts and numbers can be written");
        Ok(DeviceSignIn {
            user_code: user_code.clone(),
            verification_uri: said.verification_uri().to_string(),
            verification_uri_complete: complete.filter(|url| page(url) && !url.contains(char::is_control)),
            handle: URL_SAFE_NO_PAD.encode(self.sealer.seal(PURPOSE, &pending)),
            interval,
            lifetime,
        })
    }

    /// Asks what has become of a sign-in, for whoever has its handle.
    pub(crate) async fn poll_device(&self, handle: &str, now: Timestamp) -> Result<DevicePoll, Error> {
        let pending = self.pending(handle).ok_or(Error::NotBegun("no sign-in was begun here with this handle"))?;
        // Its name may have gone from the configuration meanwhile.
        let provider = self.get(&pending.provider).ok_or(Error::Unknown)?;
        if now >= pending.expires {
            return Ok(DevicePoll::Expired);
        }
        let (this, interval) = (Sha256::digest(handle).into(), Duration::from_secs(pending.interval_seconds));
        if let Err(interval) = self.polls.admit(this, interval, now) {
            return Ok(DevicePoll::SlowDown { interval });
        }
        let _turn = self.permits.try_acquire().map_err(|_| Error::Busy { seconds: 5 })?;
        let said = authorization(&pending, pending.expires.since(now));
        let polled = match &provider.kind {
            Kind::OpenId(openid) => openid.poll_device(&said, now).await,
            Kind::GitHub(github) => github.poll_device(&said).await,
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
    /// Whether people can sign in with another device; not, if the provider cannot be asked now.
    pub(crate) async fn offers_device(&self) -> bool {
        match &self.kind {
            Kind::OpenId(openid) => openid.offers_device().await,
            Kind::GitHub(github) => github.offers_device(),
        }
    }
}

/// What the library asks with, out of what was pending of the provider's answer.
fn authorization(pending: &PendingDeviceSignIn, left: Duration) -> Authorization {
    let document = json!({
        "device_code": pending.device_code,
        "user_code": "-",
        "verification_uri": "https://localhost/",
        "expires_in": left.as_secs() + 1,
        "interval": pending.interval_seconds,
    });
    serde_json::from_value(document).expect("it has the form of an answer (RFC 8628, 3.2)")
}

/// What one question has brought: tokens, or why there are none.
pub(super) enum Polled<T> {
    Tokens(T),
    Not(DevicePoll),
}

/// Asks once. The library would go on asking until something is decided: where it wants to wait, this stops it.
pub(super) async fn poll_once<T: TokenResponse + Send>(
    request: DeviceAccessTokenRequest<'_, '_, T, EmptyExtraDeviceAuthorizationFields>,
    http: &ProviderClient,
) -> Result<Polled<T>, Error>
where
    for<'c> ProviderClient: AsyncHttpClient<'c, Error = outgoing::Error>,
{
    let (told, mut waits) = mpsc::unbounded_channel();
    let wait = move |interval| {
        let _ = told.send(interval);
        std::future::pending::<()>()
    };
    let asked = tokio::select! {
        asked = request.request_async(http, wait, None) => asked,
        Some(interval) = waits.recv() => return Ok(Polled::Not(DevicePoll::Pending { interval })),
    };
    match asked {
        Ok(tokens) => Ok(Polled::Tokens(tokens)),
        Err(error) => refusal(&error).map(Polled::Not),
    }
}

/// Why there are no tokens.
fn refusal(error: &RequestTokenError<outgoing::Error, DeviceCodeErrorResponse>) -> Result<DevicePoll, Error> {
    /// GitHub says it with 200.
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
        interval: Option<u64>,
    }
    let (word, interval) = match error {
        RequestTokenError::ServerResponse(answer) => match answer.error() {
            DeviceCodeErrorResponseType::ExpiredToken => return Ok(DevicePoll::Expired),
            DeviceCodeErrorResponseType::AccessDenied => return Ok(DevicePoll::Denied),
            other => (other.as_ref().to_owned(), None),
        },
        RequestTokenError::Parse(error, body) => match serde_json::from_slice::<Refusal>(body) {
            Ok(Refusal { error, interval }) => (error, interval),
            Err(_) => return Err(Error::Away { cause: format!("its tokens: at {}", error.path()) }),
        },
        RequestTokenError::Request(error) => return Err(Error::Away { cause: error.to_string() }),
        RequestTokenError::Other(_) => {
            return Err(Error::Away { cause: "its answer to a request for tokens is none".to_owned() });
        }
    };
    match word.as_str() {
        "authorization_pending" => Ok(DevicePoll::Pending { interval: Duration::ZERO }),
        "slow_down" => {
            let interval = interval.map_or(2 * SLOWER, Duration::from_secs);
            Ok(DevicePoll::Pending { interval })
        }
        "access_denied" => Ok(DevicePoll::Denied),
        // Whoever waits cannot tell these from each other: the code is good for nothing any more.
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
    fn whoever_asks_too_early_is_not_heard_and_waits_longer() {
        let (polls, five) = (PollSchedule::default(), Duration::from_secs(5));
        assert_eq!(polls.admit([1; 32], five, at(0)), Ok(()));
        assert_eq!(polls.admit([2; 32], five, at(0)), Ok(()), "they do not wait for each other");
        assert_eq!(polls.admit([1; 32], five, at(4)), Err(Duration::from_secs(10)));
        assert_eq!(polls.admit([1; 32], five, at(13)), Err(Duration::from_secs(15)), "it has begun anew at 4");
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
    fn memory_is_bounded_and_those_who_wait_are_kept_the_longest() {
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
