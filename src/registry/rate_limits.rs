//! [`RateLimits`]: the limits of `http.ratelimit`, and how much of them is used.
//!
//! Callers who have signed in are counted by user, and all others by network. So a flood of anonymous requests takes
//! nothing from users behind the same address. All anonymous clients without an address, such as those of a unix socket
//! whose proxy names none, count as one. Of the limits for all clients together, half a window is kept for users.

mod quota;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Method;
use parking_lot::Mutex;
pub(crate) use quota::Quota;
use quota::{Left, UsedUp};

use crate::config::RateLimit;
use crate::kit::bounded_map::BoundedMap;
use crate::kit::network::client_network;

/// The most networks and users that are counted. Beyond it, those are forgotten that sent nothing for the longest time.
const CLIENTS_MAX: usize = 20_000;
/// The window of the limits for all clients together.
const SHARED_WINDOW: Duration = Duration::from_secs(1);

/// The limits, and how much of them is used.
#[derive(Debug)]
pub(crate) struct RateLimits {
    anonymous: Option<ClientLimit<Option<IpAddr>>>,
    user: Option<ClientLimit<Arc<str>>>,
    by_method: Vec<(Method, SharedLimit)>,
    all: Option<SharedLimit>,
}

/// The client of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LimitedClient<'a> {
    /// Without an address if none is known.
    Anonymous(Option<IpAddr>),
    User(&'a str),
}

/// A limit that a request was counted for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    pub(crate) quota: Quota,
    pub(crate) left: Left,
}

/// A limit that refuses a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exceeded {
    /// The key of the limit.
    pub(crate) key: &'static str,
    pub(crate) quota: Quota,
    pub(crate) used_up: UsedUp,
}

/// A limit of each client.
#[derive(Debug)]
struct ClientLimit<K> {
    quota: Quota,
    full_at: Mutex<BoundedMap<K, Instant, CLIENTS_MAX>>,
}

/// A limit of all clients together.
#[derive(Debug)]
struct SharedLimit {
    quota: Quota,
    full_at: Mutex<Instant>,
}

impl<K: Eq + std::hash::Hash> ClientLimit<K> {
    fn new(rate: u64, window: Duration) -> Option<Self> {
        // Programs can set any window, and headers have whole seconds.
        let window = Duration::from_secs((window.as_secs() + u64::from(window.subsec_nanos() > 0)).max(1));
        let quota = Quota { requests: rate.saturating_mul(window.as_secs()), window };
        (rate > 0).then(|| Self { quota, full_at: Mutex::default() })
    }

    fn take(&self, client: K, key: &'static str) -> Result<Counted, Exceeded> {
        let now = Instant::now();
        let mut clients = self.full_at.lock();
        let full_at = clients.get_or_insert_with(client, || now, |full_at| *full_at > now);
        counted(self.quota, self.quota.take(full_at, now, 0), key)
    }
}

impl SharedLimit {
    fn new(rate: u64) -> Option<Self> {
        let quota = Quota { requests: rate, window: SHARED_WINDOW };
        (rate > 0).then(|| Self { quota, full_at: Mutex::new(Instant::now()) })
    }

    fn take(&self, borrowed: bool, key: &'static str) -> Result<Counted, Exceeded> {
        let borrowed = if borrowed { self.quota.requests.div_ceil(2) } else { 0 };
        counted(self.quota, self.quota.take(&mut self.full_at.lock(), Instant::now(), borrowed), key)
    }
}

fn counted(quota: Quota, taken: Result<Left, UsedUp>, key: &'static str) -> Result<Counted, Exceeded> {
    match taken {
        Ok(left) => Ok(Counted { quota, left }),
        Err(used_up) => Err(Exceeded { key, quota, used_up }),
    }
}

impl RateLimits {
    /// Returns `None` if there is no limit, so that a request costs nothing.
    pub(super) fn new(config: &RateLimit) -> Option<Self> {
        let by_method = config.methods.iter().filter_map(|limit| {
            Some((Method::from_bytes(limit.method.as_bytes()).ok()?, SharedLimit::new(limit.rate)?))
        });
        let limits = Self {
            anonymous: ClientLimit::new(config.anonymous_rate, config.window),
            user: ClientLimit::new(config.user_rate, config.window),
            by_method: by_method.collect(),
            all: SharedLimit::new(config.rate),
        };
        let is_empty =
            limits.anonymous.is_none() && limits.user.is_none() && limits.by_method.is_empty() && limits.all.is_none();
        (!is_empty).then_some(limits)
    }

    /// Counts a request. Returns the limit that has least left. `is_shared` says whether the limits for all clients apply.
    pub(crate) fn take(
        &self,
        client: LimitedClient<'_>,
        method: &Method,
        is_shared: bool,
    ) -> Result<Option<Counted>, Exceeded> {
        let own = match (client, &self.anonymous, &self.user) {
            (LimitedClient::Anonymous(address), Some(limit), _) => {
                Some(limit.take(address.map(client_network), "http.ratelimit.anonymousRate")?)
            }
            (LimitedClient::User(name), _, Some(limit)) => Some(limit.take(name.into(), "http.ratelimit.userRate")?),
            _ => None,
        };
        if !is_shared {
            return Ok(own);
        }
        let is_user = matches!(client, LimitedClient::User(_));
        let by_method = self.by_method.iter().filter(|(limited, _)| limited == method);
        let by_method = by_method.map(|(_, limit)| (limit, "http.ratelimit.methods"));
        let all = self.all.iter().map(|limit| (limit, "http.ratelimit.rate"));
        let mut least = own;
        for (limit, key) in by_method.chain(all) {
            let counted = limit.take(is_user, key)?;
            least = least.filter(|least| least.left.requests <= counted.left.requests).or(Some(counted));
        }
        Ok(least)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::config::Config;

    fn limits(text: &str) -> Option<RateLimits> {
        let text = format!("[http.ratelimit]\n{text}");
        RateLimits::new(&Config::from_toml_str(&text).unwrap().config.http.rate_limit)
    }

    fn anonymous(address: &str) -> LimitedClient<'static> {
        LimitedClient::Anonymous(Some(address.parse().unwrap()))
    }

    fn passed(limits: &RateLimits, client: LimitedClient<'_>, method: &Method) -> usize {
        (0..100).filter(|_| limits.take(client, method, true).is_ok()).count()
    }

    #[test]
    fn without_a_limit_there_is_nothing_to_ask() {
        assert!(limits("").is_none());
        assert!(limits("window = '1m'").is_none());
        assert!(limits("rate = 1").is_some());
    }

    #[test]
    fn each_network_and_each_user_has_its_own_limit() {
        let limits = limits("anonymousRate = 2\nuserRate = 3\nwindow = '10s'").unwrap();
        assert_eq!(passed(&limits, anonymous("192.0.2.1"), &Method::GET), 20);
        assert_eq!(passed(&limits, anonymous("192.0.2.2"), &Method::GET), 20);
        assert_eq!(passed(&limits, anonymous("2001:db8::1"), &Method::GET), 20);
        assert_eq!(passed(&limits, anonymous("2001:db8::2"), &Method::GET), 0, "it is one network");
        assert_eq!(passed(&limits, LimitedClient::User("alice"), &Method::GET), 30);
        assert_eq!(passed(&limits, LimitedClient::User("bob"), &Method::PUT), 30);
        assert_eq!(passed(&limits, LimitedClient::Anonymous(None), &Method::GET), 20);
        assert_eq!(passed(&limits, LimitedClient::Anonymous(None), &Method::GET), 0, "all without an address are one");
    }

    #[test]
    fn limits_for_all_clients_keep_a_part_for_users() {
        let limits = limits("rate = 20\nmethods = [{method = 'put', rate = 4}]").unwrap();
        // A second may pass meanwhile on a slow machine, which refills the quota.
        assert!((20..40).contains(&passed(&limits, anonymous("192.0.2.1"), &Method::GET)));
        assert!((10..30).contains(&passed(&limits, LimitedClient::User("alice"), &Method::GET)));
        assert!(limits.take(anonymous("192.0.2.2"), &Method::GET, true).is_err());
        assert!(limits.take(anonymous("192.0.2.2"), &Method::GET, false).is_ok());
        let limits = super::tests::limits("methods = [{method = 'PUT', rate = 4}]").unwrap();
        assert!((4..40).contains(&passed(&limits, anonymous("192.0.2.1"), &Method::PUT)));
        assert_eq!(passed(&limits, anonymous("192.0.2.1"), &Method::GET), 100);
    }

    #[test]
    fn memory_is_bounded() {
        let limits = limits("anonymousRate = 1").unwrap();
        for number in 0..50_000_u32 {
            let client = LimitedClient::Anonymous(Some(IpAddr::from(number.to_be_bytes())));
            let _ = limits.take(client, &Method::GET, true);
        }
        assert!(limits.anonymous.unwrap().full_at.lock().values().len() <= CLIENTS_MAX);
    }
}
