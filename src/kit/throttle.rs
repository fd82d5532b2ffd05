//! [`Throttle`]: slows password guessing without locking other users out.
//!
//! Wrong passwords are counted by user and address, by user, and by address. After a few for one user at one address,
//! the user waits at this address. After many for one user, the user waits at all addresses without an earlier sign-in.
//! After many from one address, the address is slow: a few passwords a second are verified. Existing users and other
//! names have separate limits there, so that guessing unknown names does not lock users out. At an address where the user
//! has signed in before, the user does not wait but becomes slow in the same way, so that others behind this address cannot
//! lock the user out. A slow wrong password gets the response of an unverified one, so that it does not reveal which names
//! exist.
//!
//! Keys, sessions and cached passwords do not pass through here.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::network::client_network;

/// How many wrong passwords are free: for one user at one address, for one address, and for one user at all addresses.
pub(crate) const PAIR_FREE: u32 = 3;
const ADDRESS_FREE: u32 = 20;
const USER_FREE: u32 = 100;
/// The longest waits. They are short: a user with the right password waits as long at a new address.
const PAIR_WAIT_MAX: Duration = Duration::from_secs(30);
const USER_WAIT_MAX: Duration = Duration::from_secs(10);
/// The pause between two verified passwords of a slow address, and how many of them may arrive at once.
const SLOW_PAUSE: Duration = Duration::from_millis(250);
const SLOW_BURST: u32 = 4;
/// The `Retry-After` for a slow address.
const SLOW_RETRY_SECONDS: u64 = 2;
/// After this long without a wrong password, a count starts again.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(15);
/// The largest number of counts, and of sign-ins. If there are more, the older half is dropped.
const ENTRIES_MAX: usize = 20_000;

/// A keyed hash of a password.
type Fingerprint = [u8; 32];

/// Counts of wrong passwords.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// Names are stored as keyed hashes, which have a fixed size.
    keys: RandomState,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    wrong: HashMap<u64, Entry>,
    /// The last sign-ins of users at addresses.
    familiar: HashMap<u64, Instant>,
}

/// The user and the address of a password.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PasswordSource<'a> {
    pub(crate) user: &'a str,
    /// Whether the user exists.
    pub(crate) exists: bool,
    pub(crate) address: Option<IpAddr>,
}

/// The key of a count.
#[derive(Hash)]
enum CountKey<'a> {
    Pair(&'a str, Option<IpAddr>),
    Address(Option<IpAddr>),
    User(&'a str),
}

#[derive(Debug)]
struct Entry {
    count: u32,
    last: Instant,
    /// The last wrong password.
    wrong: Fingerprint,
    /// When a slow address or user gets the next password verified, for other names and for existing users.
    due: [Option<Instant>; 2],
}

/// A refusal because of too many wrong passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Throttled {
    /// The time to wait, at least one second.
    pub(crate) seconds: u64,
}

/// Whether a password is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PasswordCheck {
    Verify,
    /// Verify it. The address or the user is slow, so refuse a wrong password with [`Throttled::SLOW`].
    VerifySlowly,
    /// Refuse it. It was wrong just before, and does not count again, because clients present a password twice.
    KnownWrong,
}

impl Throttled {
    pub(crate) const SLOW: Self = Self { seconds: SLOW_RETRY_SECONDS };

    fn until(until: Instant, now: Instant) -> Self {
        Self { seconds: until.saturating_duration_since(now).as_secs() + 1 }
    }
}

impl Throttle {
    /// Decides whether a password is verified now. A slow address or user takes one of the few slots, unless `before`
    /// shows that an earlier call took it.
    pub(crate) fn check(
        &self,
        source: PasswordSource<'_>,
        password: &Fingerprint,
        before: Option<PasswordCheck>,
    ) -> Result<PasswordCheck, Throttled> {
        let now = Instant::now();
        let [pair, address, user] = self.keys_of(source);
        let mut state = self.state.lock();
        let is_recent = |entry: &&Entry| now - entry.last < FORGOTTEN_AFTER;
        let pair_entry = state.wrong.get(&pair).filter(is_recent);
        let is_familiar = state.familiar.contains_key(&pair);
        let address_entry = state.wrong.get(&address).filter(is_recent);
        let (slow, slow_entry, free) =
            if is_familiar { (pair, pair_entry, PAIR_FREE) } else { (address, address_entry, ADDRESS_FREE) };
        let is_slow = slow_entry.is_some_and(|entry| entry.count >= free);
        if pair_entry.is_some_and(|entry| entry.wrong == *password) {
            return if is_slow { Err(Throttled::SLOW) } else { Ok(PasswordCheck::KnownWrong) };
        }
        let waits = [
            pair_entry.filter(|_| !is_familiar).and_then(|entry| entry.free_again(PAIR_FREE, PAIR_WAIT_MAX)),
            state
                .wrong
                .get(&user)
                .filter(|entry| !is_familiar && is_recent(entry))
                .and_then(|entry| entry.free_again(USER_FREE, USER_WAIT_MAX)),
        ];
        if let Some(until) = waits.into_iter().flatten().filter(|until| now < *until).max() {
            return Err(if is_slow { Throttled::SLOW } else { Throttled::until(until, now) });
        }
        let Some(entry) = state.wrong.get_mut(&slow).filter(|_| is_slow) else { return Ok(PasswordCheck::Verify) };
        let is_due = before == Some(PasswordCheck::VerifySlowly) || entry.is_due(source.exists, now);
        if is_due { Ok(PasswordCheck::VerifySlowly) } else { Err(Throttled::SLOW) }
    }

    /// How many further wrong passwords of a user at an address are free. At least one.
    pub(crate) fn free_mistakes(&self, source: PasswordSource<'_>) -> u32 {
        let [pair, ..] = self.keys_of(source);
        let state = self.state.lock();
        let entry = state.wrong.get(&pair).filter(|entry| entry.last.elapsed() < FORGOTTEN_AFTER);
        PAIR_FREE.saturating_sub(entry.map_or(0, |entry| entry.count)).max(1)
    }

    /// Counts a wrong password.
    pub(crate) fn failed(&self, source: PasswordSource<'_>, password: &Fingerprint) {
        let now = Instant::now();
        let keys = self.keys_of(source);
        let mut state = self.state.lock();
        forget_older_half(&mut state.wrong, |entry| entry.last);
        for key in keys {
            let new = Entry { count: 0, last: now, wrong: *password, due: [None; 2] };
            let entry = state.wrong.entry(key).or_insert(new);
            if now - entry.last >= FORGOTTEN_AFTER {
                entry.count = 0;
            }
            entry.count += 1;
            entry.last = now;
            entry.wrong = *password;
        }
    }

    /// Records a sign-in at an address.
    pub(crate) fn succeeded(&self, source: PasswordSource<'_>) {
        let [pair, ..] = self.keys_of(source);
        let mut state = self.state.lock();
        state.wrong.remove(&pair);
        forget_older_half(&mut state.familiar, |last| *last);
        state.familiar.insert(pair, Instant::now());
    }

    fn keys_of(&self, source: PasswordSource<'_>) -> [u64; 3] {
        let address = source.address.map(client_network);
        let counted = [CountKey::Pair(source.user, address), CountKey::Address(address), CountKey::User(source.user)];
        counted.map(|counted| self.keys.hash_one(counted))
    }
}

impl Entry {
    /// When the next password is verified: one second after the last free mistake, and twice that after each further
    /// one.
    fn free_again(&self, free: u32, longest: Duration) -> Option<Instant> {
        let beyond = self.count.checked_sub(free)?;
        let wait = Duration::from_secs(1 << beyond.min(16)).min(longest);
        Some(self.last + wait)
    }

    /// Takes one of the few slots of a slow address or user, if one is free.
    fn is_due(&mut self, exists: bool, now: Instant) -> bool {
        let due = &mut self.due[usize::from(exists)];
        let next = due.unwrap_or(now).max(now);
        let is_due = next - now <= SLOW_PAUSE * (SLOW_BURST - 1);
        if is_due {
            *due = Some(next + SLOW_PAUSE);
        }
        is_due
    }
}

fn forget_older_half<T>(entries: &mut HashMap<u64, T>, last: impl Fn(&T) -> Instant) {
    if entries.len() < ENTRIES_MAX {
        return;
    }
    let mut times: Vec<Instant> = entries.values().map(&last).collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    let median = *median;
    entries.retain(|_, entry| last(entry) > median);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const THERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

    fn known(user: &str, address: Option<IpAddr>) -> PasswordSource<'_> {
        PasswordSource { user, exists: true, address }
    }

    fn unknown(user: &str, address: Option<IpAddr>) -> PasswordSource<'_> {
        PasswordSource { user, exists: false, address }
    }

    fn check(throttle: &Throttle, source: PasswordSource<'_>) -> Result<PasswordCheck, Throttled> {
        throttle.check(source, &[9; 32], None)
    }

    #[test]
    fn the_fourth_mistake_of_a_user_waits_at_its_address_only() {
        let throttle = Throttle::default();
        for n in 0..3 {
            assert_eq!(throttle.check(known("alice", HERE), &[n; 32], None), Ok(PasswordCheck::Verify));
            throttle.failed(known("alice", HERE), &[n; 32]);
        }
        assert!(check(&throttle, known("alice", HERE)).is_err());
        assert_eq!(check(&throttle, known("alice", THERE)), Ok(PasswordCheck::Verify));
        assert_eq!(check(&throttle, known("bob", HERE)), Ok(PasswordCheck::Verify));
        throttle.succeeded(known("alice", HERE));
        assert_eq!(check(&throttle, known("alice", HERE)), Ok(PasswordCheck::Verify));
    }

    #[test]
    fn a_repeated_mistake_counts_once() {
        let throttle = Throttle::default();
        throttle.failed(known("alice", HERE), &[1; 32]);
        for _ in 0..100 {
            assert_eq!(throttle.check(known("alice", HERE), &[1; 32], None), Ok(PasswordCheck::KnownWrong));
        }
        assert_eq!(throttle.check(known("alice", HERE), &[2; 32], None), Ok(PasswordCheck::Verify));
    }

    #[test]
    fn guessing_one_user_has_short_waits() {
        let throttle = Throttle::default();
        // Fewer than make the address slow.
        for n in 0..15_u8 {
            throttle.failed(known("alice", THERE), &[n; 32]);
        }
        let waits = throttle.check(known("alice", THERE), &[255; 32], None);
        assert!(matches!(waits, Err(Throttled { seconds: 29..=31 })), "{waits:?}");
    }

    #[test]
    fn guessing_unknown_names_is_slow_and_does_not_lock_out_users_at_the_address() {
        let throttle = Throttle::default();
        let names: Vec<String> = (0..200).map(|n| format!("user{n}")).collect();
        let verified = |n: &usize| {
            let source = unknown(&names[*n], HERE);
            let is_verified = check(&throttle, source).is_ok();
            if is_verified {
                throttle.failed(source, &[1; 32]);
            }
            is_verified
        };
        let verified = (0..names.len()).filter(verified).count();
        assert!((20..30).contains(&verified), "{verified} of 200 guesses at once were verified");
        assert_eq!(check(&throttle, unknown("another", HERE)), Err(Throttled::SLOW));
        assert_eq!(check(&throttle, known("alice", HERE)), Ok(PasswordCheck::VerifySlowly));
        // The second check of a password takes no slot.
        let again = throttle.check(known("alice", HERE), &[9; 32], Some(PasswordCheck::VerifySlowly));
        assert_eq!(again, Ok(PasswordCheck::VerifySlowly));
        assert_eq!(check(&throttle, unknown("another", THERE)), Ok(PasswordCheck::Verify));
    }

    #[test]
    fn guessing_many_users_is_slow_at_addresses_where_they_have_not_signed_in() {
        let throttle = Throttle::default();
        throttle.succeeded(known("alice", HERE));
        let names: Vec<String> = (0..200).map(|n| format!("user{n}")).collect();
        for name in &names {
            throttle.failed(known(name, HERE), &[1; 32]);
        }
        let verified = (0..100).filter(|n| check(&throttle, known(&names[*n], HERE)).is_ok()).count();
        assert!(verified < 10, "{verified} of 100 at once");
        assert_eq!(check(&throttle, known("alice", HERE)), Ok(PasswordCheck::Verify));
    }

    #[test]
    fn guessing_one_user_from_many_addresses_waits_except_where_the_user_signed_in() {
        let throttle = Throttle::default();
        throttle.succeeded(known("alice", HERE));
        for n in 0..200_u8 {
            let address = Some(IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, n)));
            throttle.failed(known("alice", address), &[n; 32]);
        }
        let elsewhere = check(&throttle, known("alice", THERE));
        assert!(matches!(elsewhere, Err(Throttled { seconds: 9..=11 })), "{elsewhere:?}");
        assert_eq!(check(&throttle, known("alice", HERE)), Ok(PasswordCheck::Verify));
        assert_eq!(check(&throttle, known("bob", THERE)), Ok(PasswordCheck::Verify));
    }

    /// Behind one address there may be many people, and one of them guesses the password of another.
    #[test]
    fn guessing_a_user_is_slow_and_does_not_lock_the_user_out_where_the_user_signed_in() {
        let throttle = Throttle::default();
        throttle.succeeded(known("alice", HERE));
        let guess = |n: &u8| {
            let is_verified = throttle.check(known("alice", HERE), &[*n; 32], None).is_ok();
            if is_verified {
                throttle.failed(known("alice", HERE), &[*n; 32]);
            }
            is_verified
        };
        let verified = (10..210).filter(guess).count();
        assert!((3..10).contains(&verified), "{verified} of 200 guesses at once were verified");
        // A moment later a right password is verified, however many guesses there were.
        std::thread::sleep(2 * SLOW_PAUSE);
        assert_eq!(check(&throttle, known("alice", HERE)), Ok(PasswordCheck::VerifySlowly));
        assert_eq!(check(&throttle, known("bob", HERE)), Ok(PasswordCheck::Verify));
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address_and_mapped_ipv4_addresses_do_not() {
        let throttle = Throttle::default();
        let at = |text: &str| Some(text.parse().expect("an address"));
        for n in 0..3 {
            throttle.failed(known("alice", at(&format!("2001:db8:1:12{n:02}::{n}"))), &[n; 32]);
            throttle.failed(known("bob", at("::ffff:192.0.2.1")), &[n; 32]);
        }
        for (user, address, waits) in [
            ("alice", "2001:db8:1:12ff:ffff::1", true),
            ("alice", "2001:db8:1:1300::1", false),
            ("bob", "192.0.2.1", true),
            ("bob", "::ffff:192.0.2.2", false),
        ] {
            assert_eq!(check(&throttle, known(user, at(address))).is_err(), waits, "{user} at {address}");
        }
    }

    #[test]
    fn memory_is_bounded_and_the_newest_counts_stay() {
        let throttle = Throttle::default();
        for n in 0..30_000_u32 {
            let name = n.to_string();
            throttle.failed(unknown(&name, HERE), &[0; 32]);
            throttle.succeeded(known(&name, HERE));
            if n % 5_000 == 0 {
                throttle.failed(known("alice", THERE), &[0; 32]);
            }
        }
        let state = throttle.state.lock();
        assert!(state.wrong.len() <= ENTRIES_MAX + 3 && state.familiar.len() <= ENTRIES_MAX + 1);
        drop(state);
        assert!(check(&throttle, known("alice", THERE)).is_err(), "the count of alice was forgotten");
    }
}
