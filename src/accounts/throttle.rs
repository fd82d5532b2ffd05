//! [`Throttle`]: guessing passwords is slow, and locks nobody else out.
//!
//! Wrong passwords are counted by user and address together, so that whoever guesses from one place
//! does not keep the user from signing in at another, and by address, so that guessing many users
//! is no way around. Keys, sessions and passwords that were right lately never come here.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::PasswordMark;

/// So many wrong passwords of one user are anybody's mistake.
const USER_FREE: u32 = 3;
/// So many wrong passwords of one address are an office's mistakes.
const ADDRESS_FREE: u32 = 20;
/// The longest wait for one user at one address, and for one address.
const USER_WAIT_MAX: Duration = Duration::from_mins(5);
const ADDRESS_WAIT_MAX: Duration = Duration::from_secs(30);
/// After this long without a wrong password, the count begins anew.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(15);
/// At most this many counts are kept; when there are more, the forgotten and then all go.
const ENTRIES_MAX: usize = 20_000;

/// Counts of wrong passwords.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<HashMap<Source, Entry>>);

/// Where a wrong password came from. Without a user: anybody's at this address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Source {
    user: Option<String>,
    address: Option<IpAddr>,
}

#[derive(Debug)]
struct Entry {
    count: u32,
    last: Instant,
    /// What was wrong, as a keyed hash.
    wrong: PasswordMark,
}

/// No password is looked at for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Throttled {
    /// For so many seconds; at least one.
    pub(crate) seconds: u64,
}

impl Throttle {
    /// Whether a password may be looked at now. True, if it is the one that was wrong just before:
    /// then it need not be looked at, and does not count again. Clients present a password twice.
    pub(crate) fn check(
        &self,
        user: &str,
        address: Option<IpAddr>,
        password: &PasswordMark,
    ) -> Result<bool, Throttled> {
        let now = Instant::now();
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [of_user, of_address] = sources(user, address);
        let user_entry = entries.get(&of_user);
        if user_entry.is_some_and(|entry| entry.wrong == *password && now - entry.last < FORGOTTEN_AFTER) {
            return Ok(true);
        }
        let until = |entry: Option<&Entry>, free, longest| entry.and_then(|entry| entry.free_again(free, longest));
        let waits = [
            until(user_entry, USER_FREE, USER_WAIT_MAX),
            until(entries.get(&of_address), ADDRESS_FREE, ADDRESS_WAIT_MAX),
        ];
        match waits.into_iter().flatten().max().map(|until| until.saturating_duration_since(now)) {
            Some(wait) if !wait.is_zero() => Err(Throttled { seconds: wait.as_secs() + 1 }),
            _ => Ok(false),
        }
    }

    /// A password was wrong.
    pub(crate) fn failed(&self, user: &str, address: Option<IpAddr>, password: &PasswordMark) {
        let now = Instant::now();
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= ENTRIES_MAX {
            entries.retain(|_, entry| now - entry.last < FORGOTTEN_AFTER);
        }
        if entries.len() >= ENTRIES_MAX {
            entries.clear();
        }
        for source in sources(user, address) {
            let entry = entries.entry(source).or_insert(Entry { count: 0, last: now, wrong: *password });
            if now - entry.last >= FORGOTTEN_AFTER {
                entry.count = 0;
            }
            entry.count += 1;
            entry.last = now;
            entry.wrong = *password;
        }
    }

    /// A password was right: whoever it is at this address, it is not somebody guessing.
    pub(crate) fn succeeded(&self, user: &str, address: Option<IpAddr>) {
        let [of_user, _] = sources(user, address);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&of_user);
    }
}

impl Entry {
    /// When the next password is looked at: one second after the last free mistake, and twice as
    /// long after each further one.
    fn free_again(&self, free: u32, longest: Duration) -> Option<Instant> {
        let beyond = self.count.checked_sub(free)?;
        let wait = Duration::from_secs(1 << beyond.min(16)).min(longest);
        Some(self.last + wait)
    }
}

fn sources(user: &str, address: Option<IpAddr>) -> [Source; 2] {
    let address = address.map(client_network);
    [Source { user: Some(user.to_owned()), address }, Source { user: None, address }]
}

/// The network of one client: an IPv4 address, or 64 bits of an IPv6 address. A client can use each address of its
/// network.
pub(crate) fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (!0 << 64))),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const THERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

    #[test]
    fn the_fourth_mistake_waits_and_only_where_it_was_made() {
        let throttle = Throttle::default();
        for n in 0..3 {
            assert_eq!(throttle.check("alice", HERE, &[n; 32]), Ok(false));
            throttle.failed("alice", HERE, &[n; 32]);
        }
        assert!(throttle.check("alice", HERE, &[9; 32]).is_err());
        assert_eq!(throttle.check("alice", THERE, &[9; 32]), Ok(false));
        assert_eq!(throttle.check("bob", HERE, &[9; 32]), Ok(false));
        throttle.succeeded("alice", HERE);
        assert_eq!(throttle.check("alice", HERE, &[9; 32]), Ok(false));
    }

    #[test]
    fn the_same_mistake_twice_is_one() {
        let throttle = Throttle::default();
        throttle.failed("alice", HERE, &[1; 32]);
        for _ in 0..100 {
            assert_eq!(throttle.check("alice", HERE, &[1; 32]), Ok(true));
        }
        assert_eq!(throttle.check("alice", HERE, &[2; 32]), Ok(false));
    }

    #[test]
    fn guessing_many_users_waits_too_and_never_long() {
        let throttle = Throttle::default();
        for n in 0..200_u8 {
            throttle.failed(&format!("user{n}"), HERE, &[n; 32]);
        }
        let waits = throttle.check("somebody", HERE, &[9; 32]);
        assert!(matches!(waits, Err(Throttled { seconds: 1..=31 })), "{waits:?}");
        for n in 0..200_u8 {
            throttle.failed("alice", THERE, &[n; 32]);
        }
        let waits = throttle.check("alice", THERE, &[255; 32]);
        assert!(matches!(waits, Err(Throttled { seconds: 290..=301 })), "{waits:?}");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_mapped_ones_are_not() {
        let throttle = Throttle::default();
        let at = |text: &str| Some(text.parse().expect("an address"));
        for n in 0..3 {
            throttle.failed("alice", at(&format!("2001:db8:1:2::{n}")), &[n; 32]);
            throttle.failed("bob", at("::ffff:192.0.2.1"), &[n; 32]);
        }
        for (user, address, waits) in [
            ("alice", "2001:db8:1:2:ffff::1", true),
            ("alice", "2001:db8:1:3::1", false),
            ("bob", "192.0.2.1", true),
            ("bob", "::ffff:192.0.2.2", false),
        ] {
            assert_eq!(throttle.check(user, at(address), &[9; 32]).is_err(), waits, "{user} at {address}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::default();
        for n in 0..30_000_u32 {
            throttle.failed(&n.to_string(), HERE, &[0; 32]);
        }
        assert!(throttle.0.lock().unwrap_or_else(PoisonError::into_inner).len() <= ENTRIES_MAX + 2);
    }
}
