//! Passwords. They are hashed with argon2id, off the async threads, and take as long for a user who does not exist.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use sha2::Sha256;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::hash_cost::HashCost;
use super::hash_queue::HashQueue;
use super::htpasswd::cost_of;
use super::user::StoredHash;
use super::{Account, Error, HashCaller, HashPermit, TooBusy};
use crate::kit::bounded_map::BoundedMap;
use crate::kit::clock::Timestamp;
use crate::kit::network::client_network;
use crate::kit::opaque_debug::opaque_debug;

/// The longest password, in characters. Longer ones only cost time.
pub(crate) const PASSWORD_MAX: usize = 1024;
/// The shortest password that a user may choose, in characters, as in Quay.
pub(crate) const PASSWORD_MIN: usize = 8;

/// How long a correct password is cached, so that a push of many layers costs one hash.
const CACHED_FOR: Duration = Duration::from_mins(5);
/// How long a remembered password is cached while its directory is away.
const AWAY_CACHED_FOR: Duration = Duration::from_secs(15);
/// How long a password that a directory has refused is known as wrong, in microseconds. Clients present one twice.
const MOMENT_MICROS: u64 = 10_000_000;
/// The largest number of cached passwords.
const CACHED_MAX: usize = 4096;
/// A wrong password of any user costs as much as the slowest hash of the htpasswd file, up to this cost. Response times
/// reveal users with a higher cost.
const COST_MAX: u32 = 15;
/// A refusal takes at least as long as the last wrong password, up to this.
const USUAL_MAX: Duration = Duration::from_secs(3);
/// The smallest allocation for a hash, in blocks of 1 KiB. A hash touches 19 MiB of it. glibc keeps freed allocations
/// of up to 32 MiB and returns larger ones to the system at once.
const ROOM_BLOCKS: usize = 33 * 1024;
/// A plain-text password. Does not print, and is wiped from memory when dropped.
#[derive(Clone)]
pub(crate) struct Password(Zeroizing<String>);

impl Password {
    pub(crate) fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// Checks a new password by the rule of the API, the command line and the environment.
    pub(crate) fn chosen(text: &str) -> Result<Self, InvalidPassword> {
        let blank = |c: char| c.is_whitespace() || c.is_control();
        if text.chars().count() < PASSWORD_MIN || text.chars().any(blank) {
            return Err(InvalidPassword("the password must have at least 8 characters and no whitespace"));
        }
        Ok(Self::new(text))
    }

    /// Generates 20 letters and digits (119 bits) from the system's random source.
    pub(crate) fn generate() -> Self {
        use rand::RngExt as _;
        let text = rand::rng().sample_iter(rand::distr::Alphanumeric).take(20).map(char::from).collect();
        Self(Zeroizing::new(text))
    }

    /// The text, for hashing and for showing a generated password once.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Rejects an invalid password.
    fn check(&self) -> Result<(), InvalidPassword> {
        if self.0.is_empty() {
            return Err(InvalidPassword("a password must not be empty"));
        }
        // No request can present a longer one.
        if self.0.chars().count() > PASSWORD_MAX {
            return Err(InvalidPassword("a password has at most 1024 characters"));
        }
        Ok(())
    }

    /// The argon2id hash as a PHC string. Blocks.
    fn hash(&self, cost: HashCost) -> Result<HashedPassword, InvalidPassword> {
        self.check()?;
        let salt: [u8; 16] = rand::random();
        let hashed = self.hash_with(&cost.argon2(), &salt, Params::DEFAULT_OUTPUT_LEN);
        let hashed = hashed.map_err(|_| InvalidPassword("the password cannot be hashed"))?;
        Ok(HashedPassword(hashed.to_string()))
    }

    /// Whether a stored hash is this password's and its user may sign in. A refusal always does the same work: one
    /// argon2 hash and one bcrypt hash of the highest cost of all users. Blocks.
    fn verify(
        &self,
        stored: Option<&StoredHash>,
        may_sign_in: bool,
        hash_cost: HashCost,
        highest_cost: Option<u32>,
    ) -> bool {
        if stored.is_some_and(|stored| self.matches(stored)) && may_sign_in {
            return true;
        }
        let (argon2_is_done, cost) = match stored {
            Some(StoredHash::Argon2(_)) => (true, None),
            Some(StoredHash::Bcrypt(hash)) => (false, cost_of(hash)),
            None => (false, None),
        };
        if !argon2_is_done {
            let _ = self.matches_argon2(hash_cost.placeholder());
        }
        let Some(highest) = highest_cost.map(|cost| cost.min(COST_MAX)) else { return false };
        let waste = |cost| drop(bcrypt::hash_with_salt(self.0.as_bytes(), cost, [0; 16]));
        match cost {
            // Each step doubles the work: hashes of cost 10, 10, 11 and 12 cost as much as one of cost 13.
            Some(cost) => (cost..highest).for_each(waste),
            None => waste(highest),
        }
        false
    }

    /// Whether a stored hash is this password's. Blocks for tens of milliseconds.
    fn matches(&self, stored: &StoredHash) -> bool {
        match stored {
            StoredHash::Argon2(stored) => self.matches_argon2(stored).unwrap_or(false),
            StoredHash::Bcrypt(stored) => bcrypt::verify(self.0.as_bytes(), stored).unwrap_or(false),
        }
    }

    fn matches_argon2(&self, stored: &str) -> Result<bool, argon2::password_hash::Error> {
        let stored = PasswordHash::new(stored)?;
        let (Some(version), Some(salt), Some(output)) = (stored.version, &stored.salt, &stored.hash) else {
            return Ok(false);
        };
        let algorithm = Algorithm::try_from(stored.algorithm.as_str())?;
        let argon2 = Argon2::new(algorithm, Version::try_from(version)?, Params::try_from(&stored)?);
        // Outputs are compared in constant time.
        Ok(self.hash_with(&argon2, salt, output.len())?.hash.as_ref() == Some(output))
    }

    /// Hashes like argon2's own functions, but in memory that returns to the system, see [`ROOM_BLOCKS`].
    fn hash_with(
        &self,
        argon2: &Argon2<'_>,
        salt: &[u8],
        length: usize,
    ) -> Result<PasswordHash, argon2::password_hash::Error> {
        let blocks = argon2.params().block_count();
        let mut memory = Vec::with_capacity(blocks.max(ROOM_BLOCKS));
        memory.resize(blocks, Block::new());
        let mut output = vec![0; length];
        argon2.hash_password_into_with_memory(self.0.as_bytes(), salt, &mut output, &mut memory)?;
        Ok(PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(argon2.params())?,
            salt: Some(Salt::new(salt)?),
            hash: Some(Output::new(&output)?),
        })
    }
}

opaque_debug!(Password, HashedPassword, Verifier);

impl StoredHash {
    /// Whether the user has no password.
    pub(super) fn is_none(&self) -> bool {
        let (Self::Argon2(text) | Self::Bcrypt(text)) = self;
        text.is_empty()
    }
}

/// Why a text is not a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidPassword(&'static str);

/// The stored form of a new password. [`Verifier`] creates it with a permit of the queue.
#[derive(Clone)]
pub(crate) struct HashedPassword(String);

impl HashedPassword {
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// A keyed hash of stored hash, password and network. It identifies a password in caches. A changed password has a
/// different one. So has the same password from another network: otherwise guessing the password of an active user
/// would cost no hash and have no limit.
pub(crate) type PasswordFingerprint = [u8; 32];

/// Verifies passwords and caches the correct ones.
pub(super) struct Verifier {
    /// Keyed with a key that never leaves the process, so that fingerprints cannot be attacked elsewhere.
    keyed: Hmac<Sha256>,
    /// The correct passwords and when they leave the cache.
    verified: Mutex<BoundedMap<PasswordFingerprint, Instant, CACHED_MAX>>,
    /// The passwords that a directory has confirmed, and until when they count while it is away.
    remembered: Mutex<BoundedMap<PasswordFingerprint, Instant, CACHED_MAX>>,
    queue: Arc<HashQueue>,
    cost: HashCost,
    /// How long the last wrong password took, in milliseconds.
    usual: AtomicU64,
}

impl Verifier {
    pub(super) fn new(cost: HashCost) -> Self {
        let keyed = Hmac::new_from_slice(&rand::random::<[u8; 32]>()).expect("a key of any length is fine");
        Self {
            keyed,
            verified: Mutex::default(),
            remembered: Mutex::default(),
            queue: Arc::default(),
            cost,
            usual: AtomicU64::new(0),
        }
    }

    /// The fingerprint of a password for this account, from this address. A password in a directory has no stored hash,
    /// and belongs to the user.
    pub(super) fn fingerprint(
        &self,
        password: &Password,
        account: Option<&Account>,
        address: Option<IpAddr>,
    ) -> PasswordFingerprint {
        let mut mac = self.keyed.clone();
        match account.map(|account| &account.hash) {
            Some(stored) if stored.is_none() => {
                let owner = account.map_or(("", 0), |account| (account.name.as_str(), account.incarnation));
                mac.update(owner.0.as_bytes());
                mac.update(&[0]);
                mac.update(&owner.1.to_be_bytes());
            }
            Some(StoredHash::Argon2(stored) | StoredHash::Bcrypt(stored)) => mac.update(stored.as_bytes()),
            None => mac.update(self.cost.placeholder().as_bytes()),
        }
        mac.update(&[0]);
        match address.map(client_network) {
            None => mac.update(&[0]),
            Some(IpAddr::V4(address)) => mac.update(&address.to_bits().to_be_bytes()),
            Some(IpAddr::V6(address)) => mac.update(&address.to_bits().to_be_bytes()),
        }
        mac.update(&[0]);
        mac.update(password.reveal().as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Waits for a permit to hash one password.
    pub(super) async fn permit(&self, caller: HashCaller) -> Result<HashPermit, TooBusy> {
        self.queue.take(caller).await
    }

    /// Hashes a new password, after waiting for a permit.
    pub(super) async fn hash(&self, password: Password, caller: HashCaller) -> Result<HashedPassword, Error> {
        password.check()?;
        let (permit, cost) = (self.queue.take(caller).await?, self.cost);
        // The thread holds the permit until the hash is done, even if the caller goes away.
        let hashed = on_a_thread(move || {
            let hashed = password.hash(cost);
            drop(permit);
            hashed
        });
        Ok(hashed.await??)
    }

    /// Hashes a new password on this thread.
    pub(super) fn hash_blocking(&self, password: &Password) -> Result<HashedPassword, Error> {
        password.check()?;
        let _permit = self.queue.take_blocking(HashCaller::Operator)?;
        Ok(password.hash(self.cost)?)
    }

    /// Whether the password is that of the stored hash and its user may sign in. Caches a correct password. A wrong one
    /// takes the same time for every kind of user.
    pub(super) async fn verify(
        &self,
        _permit: &HashPermit,
        password: Password,
        stored: Option<StoredHash>,
        may_sign_in: bool,
        highest_cost: Option<u32>,
        fingerprint: PasswordFingerprint,
    ) -> Result<bool, TooBusy> {
        let (begun, cost) = (Instant::now(), self.cost);
        let verified = on_a_thread(move || password.verify(stored.as_ref(), may_sign_in, cost, highest_cost));
        let right = verified.await?;
        if right {
            self.cache(fingerprint);
        } else {
            let taken = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.usual.store(taken, Ordering::Relaxed);
        }
        Ok(right)
    }

    /// How long a wrong password takes at the moment. A refusal without verification must not be faster.
    pub(super) fn usual(&self) -> Duration {
        let usual = Duration::from_millis(self.usual.load(Ordering::Relaxed));
        (usual * 5 / 4).min(USUAL_MAX)
    }

    /// Whether a password is cached as correct.
    pub(super) fn is_cached(&self, fingerprint: &PasswordFingerprint) -> bool {
        let verified = self.verified.lock();
        verified.get(fingerprint).is_some_and(|until| Instant::now() < *until)
    }

    fn cache(&self, fingerprint: PasswordFingerprint) {
        self.cache_for(fingerprint, CACHED_FOR);
    }

    fn cache_for(&self, fingerprint: PasswordFingerprint, lifetime: Duration) {
        let now = Instant::now();
        self.verified.lock().insert(fingerprint, now + lifetime, |until| now < *until);
    }

    /// Caches a password that a directory has confirmed, and remembers it for the time when the directory is away.
    pub(super) fn confirmed(&self, fingerprint: PasswordFingerprint, remembered_for: Duration) {
        self.cache(fingerprint);
        let now = Instant::now();
        self.remembered.lock().insert(fingerprint, now + remembered_for, |until| now < *until);
    }

    /// Whether a password is remembered. If so, caches it for a moment, so that not every request asks the directory.
    pub(super) fn is_remembered(&self, fingerprint: &PasswordFingerprint) -> bool {
        let is_remembered = self.remembered.lock().get(fingerprint).is_some_and(|until| Instant::now() < *until);
        if is_remembered {
            self.cache_for(*fingerprint, AWAY_CACHED_FOR);
        }
        is_remembered
    }

    /// Whether a stored hash has other parameters than new ones.
    pub(super) fn is_outdated(&self, stored: &StoredHash) -> bool {
        self.cost.is_outdated(stored)
    }

    #[cfg(test)]
    pub(super) const fn cost(&self) -> HashCost {
        self.cost
    }

    /// Ends the cache of a correct password, as time does.
    #[cfg(test)]
    pub(super) fn end_cached(&self, fingerprint: &PasswordFingerprint) {
        self.verified.lock().remove(fingerprint);
    }

    /// Forgets a password that a directory no longer confirms.
    pub(super) fn forget(&self, fingerprint: &PasswordFingerprint) {
        self.verified.lock().remove(fingerprint);
        self.remembered.lock().remove(fingerprint);
    }

    /// A fingerprint that changes after some seconds. A password that a directory has refused may be right later, and
    /// nothing here changes with it.
    pub(super) fn for_a_moment(&self, fingerprint: &PasswordFingerprint, now: Timestamp) -> PasswordFingerprint {
        let mut mac = self.keyed.clone();
        mac.update(b"moment");
        mac.update(&(now.micros() / MOMENT_MICROS).to_be_bytes());
        mac.update(fingerprint);
        mac.finalize().into_bytes().into()
    }
}

/// Hashes on a new thread, so that hashing never takes the threads that uploads need.
async fn on_a_thread<T: Send + 'static>(hash: impl FnOnce() -> T + Send + 'static) -> Result<T, TooBusy> {
    let (sender, outcome) = oneshot::channel();
    let hashing = std::thread::Builder::new().name("password".to_owned()).spawn(move || {
        let _ = sender.send(hash());
    });
    hashing.map_err(|_| TooBusy)?;
    outcome.await.map_err(|_| TooBusy)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::content::rows::AccountRole;

    fn hashed(password: &str) -> String {
        Password::new(password).hash(HashCost::Usual).unwrap().into_text()
    }

    /// The processor time of this thread so far. Other processes do not add to it.
    fn processor_time() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(u64::try_from(time.tv_sec).unwrap(), u32::try_from(time.tv_nsec).unwrap())
    }

    /// A correct password needs only its own hash.
    #[test]
    fn a_wrong_password_takes_the_same_time_for_every_kind_of_user() {
        const HIGHEST: u32 = 11;
        const ROUNDS: usize = 8;
        let password = Password::new("wrong");
        let bcrypt = |cost| StoredHash::Bcrypt(bcrypt::hash("right", cost).unwrap());
        let kinds = [None, Some(StoredHash::Argon2(hashed("right"))), Some(bcrypt(8)), Some(bcrypt(HIGHEST))];
        let time = |stored: Option<&StoredHash>, may_sign_in, password: &Password| {
            let begun = processor_time();
            let right = password.verify(stored, may_sign_in, HashCost::Usual, Some(HIGHEST));
            assert_eq!(right, may_sign_in && password.reveal() == "right");
            processor_time().saturating_sub(begun)
        };
        let fastest = |stored: Option<&StoredHash>, may_sign_in, password: &Password| {
            (0..ROUNDS).map(|_| time(stored, may_sign_in, password)).min().unwrap()
        };
        // Alternating, so that other work on the machine slows each kind alike.
        let rounds: Vec<_> =
            (0..ROUNDS).map(|_| kinds.each_ref().map(|stored| time(stored.as_ref(), true, &password))).collect();
        let times: Vec<_> =
            (0..kinds.len()).map(|kind| rounds.iter().map(|round| round[kind]).min().unwrap()).collect();
        let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        assert!(*most < *least * 8 / 5, "{times:?}");
        let right = Password::new("right");
        let disabled = fastest(kinds[1].as_ref(), false, &right);
        assert!(disabled > *least * 5 / 8, "the right password of a disabled user takes {disabled:?}, {times:?}");
        assert!(fastest(kinds[2].as_ref(), true, &right) < *least, "a correct password pays for others");
    }

    #[tokio::test]
    async fn a_correct_password_is_cached_until_it_changes() {
        let verifier = Verifier::new(HashCost::Usual);
        let [here, there] = ["192.0.2.1", "192.0.2.2"].map(|address| Some(address.parse().unwrap()));
        let check = async |password: &str, stored: Option<&StoredHash>| {
            let password = Password::new(password);
            let account =
                stored.map(|hash| Account { hash: hash.clone(), ..Account::test("ann", AccountRole::Ordinary) });
            let fingerprint = verifier.fingerprint(&password, account.as_ref(), here);
            let elsewhere = verifier.fingerprint(&password, account.as_ref(), there);
            assert!(!verifier.is_cached(&elsewhere), "it was not presented there");
            let permit = verifier.permit(HashCaller::Network(here)).await.unwrap();
            let right = verifier.verify(&permit, password, stored.cloned(), true, None, fingerprint).await.unwrap();
            assert_eq!(right, verifier.is_cached(&fingerprint));
            right
        };
        let hash = hashed("secret");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let stored = StoredHash::Argon2(hash);
        assert!(check("secret", Some(&stored)).await);
        assert!(check("secret", Some(&stored)).await);
        assert!(!check("Secret", Some(&stored)).await);
        assert!(!check("secret", None).await);
        let changed = StoredHash::Argon2(hashed("other"));
        assert!(!check("secret", Some(&changed)).await);
        let bcrypt = StoredHash::Bcrypt(bcrypt::hash("secret", 4).unwrap());
        assert!(check("secret", Some(&bcrypt)).await);
        assert!(!check("other", Some(&bcrypt)).await);
    }

    #[test]
    fn an_unknown_user_costs_what_a_known_one_does() {
        let parameters = |hash: &str| PasswordHash::new(hash).unwrap().params.to_string();
        for cost in [HashCost::Usual, HashCost::Light] {
            let new = Password::new("x").hash(cost).unwrap().into_text();
            assert_eq!(parameters(cost.placeholder()), parameters(&new));
            assert!(Password::new("x").matches_argon2(cost.placeholder()).is_ok_and(|matches| !matches));
            assert!(!cost.is_outdated(&StoredHash::Argon2(new)));
        }
    }

    #[test]
    fn hashes_are_those_of_argon2_itself() {
        use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
        let password = Password::new("secret");
        let ours = hashed("secret");
        let ours = PasswordHash::new(&ours).unwrap();
        Argon2::default().verify_password(b"secret", &ours).unwrap();
        let theirs = Argon2::default().hash_password(b"secret").unwrap().to_string();
        let argon2 = |text: &str| StoredHash::Argon2(text.to_owned());
        assert!(password.matches(&argon2(&theirs)));
        assert!(!Password::new("Secret").matches(&argon2(&theirs)));
        for damaged in ["", "secret", "$argon2id$", "$2b$12$abcdefghijklmnopqrstuv", &theirs[..theirs.len() - 1]] {
            assert!(!password.matches(&argon2(damaged)), "{damaged}");
        }
    }

    #[test]
    fn generated_passwords_are_long_and_differ() {
        let (a, b) = (Password::generate(), Password::generate());
        assert_eq!(a.reveal().len(), 20);
        assert_ne!(a.reveal(), b.reveal());
    }
}
