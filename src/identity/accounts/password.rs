//! Passwords: argon2id, off the async threads, as slow for a user who does not exist.

use std::fmt;
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

use super::hash_queue::HashQueue;
use super::htpasswd::cost_of;
use super::user::StoredHash;
use super::{Error, HashCaller, HashPermit, TooBusy};
use crate::kit::bounded_map::BoundedMap;
use crate::kit::network::client_network;

/// The longest password, in characters; more than that only makes work.
pub(crate) const PASSWORD_MAX: usize = 1024;
/// The shortest password that somebody may choose, in characters, as in Quay.
pub(crate) const PASSWORD_MIN: usize = 8;

/// A right password is remembered this long, so that a push of many layers costs one hash.
const REMEMBERED_FOR: Duration = Duration::from_mins(5);
/// At most this many are remembered.
const REMEMBERED_MAX: usize = 4096;
/// A wrong password of any user costs as much as the slowest hash of the htpasswd file, up to this cost. A user with
/// a higher cost can be told from others by the time of the answer.
const COST_MAX: u32 = 15;
/// A refusal takes at least as long as the last wrong password, up to this.
const USUAL_MAX: Duration = Duration::from_secs(3);
/// The memory of a hash is at least this many blocks of 1 KiB, of which only what is needed is touched.
/// glibc keeps freed memory of up to 32 MiB for itself, which would be 19 MiB for good; what is larger
/// goes back to the system at once.
const ROOM_BLOCKS: usize = 33 * 1024;
/// What is verified in place of the hash of a user who does not exist: a hash with the parameters of
/// [`Password::hash`], of a password that nobody knows.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$w3hP5x++p1zs87Yp+DvG0A$exLl1fDwt2hOqJR2N8wzUsvkRUugn/iahzOhXtr62AI";

/// A password as the user typed it. Does not print, and is wiped from memory when dropped.
#[derive(Clone)]
pub(crate) struct Password(Zeroizing<String>);

impl Password {
    pub(crate) fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// A password that somebody chose, by the one rule of the API, the command line and the environment.
    pub(crate) fn chosen(text: &str) -> Result<Self, InvalidPassword> {
        let blank = |c: char| c.is_whitespace() || c.is_control();
        if text.chars().count() < PASSWORD_MIN || text.chars().any(blank) {
            return Err(InvalidPassword("a password has at least 8 characters and no whitespace"));
        }
        Ok(Self::new(text))
    }

    /// A password of 20 letters and digits from the system's random source: 103 bits.
    pub(crate) fn generate() -> Self {
        use rand::RngExt as _;
        let text = rand::rng().sample_iter(rand::distr::Alphanumeric).take(20).map(char::from).collect();
        Self(Zeroizing::new(text))
    }

    /// The text. Only for hashing, and for showing a generated password once.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Refuses what cannot be a password.
    fn check(&self) -> Result<(), InvalidPassword> {
        if self.0.is_empty() {
            return Err(InvalidPassword("a password must not be empty"));
        }
        // What no request can bring is not to be somebody's password.
        if self.0.chars().count() > PASSWORD_MAX {
            return Err(InvalidPassword("a password has at most 1024 characters"));
        }
        Ok(())
    }

    /// The argon2id hash to store, as a PHC string; with the parameters OWASP recommends (19 MiB,
    /// two passes, one lane), which are the crate's defaults. Blocks for tens of milliseconds.
    fn hash(&self) -> Result<HashedPassword, InvalidPassword> {
        self.check()?;
        let salt: [u8; 16] = rand::random();
        let hashed = self.hash_with(&Argon2::default(), &salt, Params::DEFAULT_OUTPUT_LEN);
        let hashed = hashed.map_err(|_| InvalidPassword("the password cannot be hashed"))?;
        Ok(HashedPassword(hashed.to_string()))
    }

    /// Whether a stored hash is this password's and its user may sign in. If not, the work is the same whatever is
    /// stored: one argon2 hash, and one bcrypt hash of the highest cost that a user has. Blocks.
    fn verify(&self, stored: Option<&StoredHash>, may_sign_in: bool, highest_cost: Option<u32>) -> bool {
        if stored.is_some_and(|stored| self.matches(stored)) && may_sign_in {
            return true;
        }
        let (argon2_is_done, cost) = match stored {
            Some(StoredHash::Argon2(_)) => (true, None),
            Some(StoredHash::Bcrypt(hash)) => (false, cost_of(hash)),
            None => (false, None),
        };
        if !argon2_is_done {
            let _ = self.matches_argon2(NOBODY);
        }
        let Some(highest) = highest_cost.map(|cost| cost.min(COST_MAX)) else { return false };
        let waste = |cost| drop(bcrypt::hash_with_salt(self.0.as_bytes(), cost, [0; 16]));
        match cost {
            // Each step doubles the work: a hash of cost 10 and those of 10, 11 and 12 are one of cost 13.
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

    /// As argon2's own functions hash, but in memory that goes back to the system: see [`ROOM_BLOCKS`].
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

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

impl StoredHash {
    /// Whether it stands for no password at all.
    pub(super) fn is_none(&self) -> bool {
        let (Self::Argon2(text) | Self::Bcrypt(text)) = self;
        text.is_empty()
    }

    /// Whether the hash was made with other parameters than those that [`Password::hash`] takes now. A file
    /// that others write is theirs to renew.
    pub(super) fn is_outdated(&self) -> bool {
        let Self::Argon2(text) = self else { return false };
        let current = ParamsString::try_from(Argon2::default().params());
        let stored = PasswordHash::new(text);
        match (stored, current) {
            (Ok(stored), Ok(current)) => stored.algorithm != Algorithm::Argon2id.ident() || stored.params != current,
            _ => false,
        }
    }
}

/// Why a text cannot be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidPassword(&'static str);

impl fmt::Display for InvalidPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidPassword {}

/// The hash of a new password, as it is stored. Only [`Verifier`] makes one, when it is its turn.
#[derive(Clone)]
pub(crate) struct HashedPassword(String);

impl HashedPassword {
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

impl fmt::Debug for HashedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashedPassword")
    }
}

/// A keyed hash of stored hash, password and network, by which a password is remembered, right or wrong. A changed
/// password has another stored hash, and so is not found. One that was right elsewhere is not found either: otherwise
/// guessing the password of a user who is active would cost no hash and have no limit.
pub(crate) type PasswordFingerprint = [u8; 32];

/// Verifies passwords, and remembers the right ones for a while.
pub(super) struct Verifier {
    /// What has taken in a key that never leaves the process: what is remembered cannot be tried out elsewhere.
    keyed: Hmac<Sha256>,
    /// The right ones, and until when they are remembered.
    remembered: Mutex<BoundedMap<PasswordFingerprint, Instant, REMEMBERED_MAX>>,
    turns: Arc<HashQueue>,
    /// How long the last wrong password took, in milliseconds.
    usual: AtomicU64,
}

impl Verifier {
    pub(super) fn new() -> Self {
        let keyed = Hmac::new_from_slice(&rand::random::<[u8; 32]>()).expect("a key of any length is fine");
        Self { keyed, remembered: Mutex::default(), turns: Arc::default(), usual: AtomicU64::new(0) }
    }

    /// The mark of a password for this stored hash, from this address.
    pub(super) fn mark(
        &self,
        password: &Password,
        stored: Option<&StoredHash>,
        address: Option<IpAddr>,
    ) -> PasswordFingerprint {
        let stored = match stored {
            Some(StoredHash::Argon2(stored) | StoredHash::Bcrypt(stored)) => stored.as_str(),
            None => NOBODY,
        };
        let mut mac = self.keyed.clone();
        mac.update(stored.as_bytes());
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

    /// Waits for the turn of one password. Whoever goes away meanwhile has lost it.
    pub(super) async fn turn(&self, caller: HashCaller) -> Result<HashPermit, TooBusy> {
        self.turns.take(caller).await
    }

    /// Hashes a new password when it is the caller's turn.
    pub(super) async fn hash(&self, password: Password, caller: HashCaller) -> Result<HashedPassword, Error> {
        password.check()?;
        let turn = self.turns.take(caller).await?;
        // The turn ends with the hash, also if nobody waits for it any more.
        let hashed = on_a_thread(move || {
            let hashed = password.hash();
            drop(turn);
            hashed
        });
        Ok(hashed.await??)
    }

    /// The same on this thread.
    pub(super) fn hash_blocking(&self, password: &Password) -> Result<HashedPassword, Error> {
        password.check()?;
        let _turn = self.turns.take_blocking(HashCaller::Operator)?;
        Ok(password.hash()?)
    }

    /// Whether `password` is that of the stored hash and the user may sign in. A wrong one takes as long whatever is
    /// stored. Remembers a right one.
    pub(super) async fn verify(
        &self,
        _permit: &HashPermit,
        password: Password,
        stored: Option<StoredHash>,
        may_sign_in: bool,
        highest_cost: Option<u32>,
        mark: PasswordFingerprint,
    ) -> Result<bool, TooBusy> {
        let begun = Instant::now();
        let verified = on_a_thread(move || password.verify(stored.as_ref(), may_sign_in, highest_cost));
        let right = verified.await?;
        if right {
            self.remember(mark);
        } else {
            let taken = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.usual.store(taken, Ordering::Relaxed);
        }
        Ok(right)
    }

    /// How long a wrong password takes at the moment. A refusal without a look must not come sooner.
    pub(super) fn usual(&self) -> Duration {
        let usual = Duration::from_millis(self.usual.load(Ordering::Relaxed));
        (usual * 5 / 4).min(USUAL_MAX)
    }

    /// Whether a password was right lately.
    pub(super) fn remembers(&self, mark: &PasswordFingerprint) -> bool {
        let remembered = self.remembered.lock();
        remembered.get(mark).is_some_and(|until| Instant::now() < *until)
    }

    fn remember(&self, mark: PasswordFingerprint) {
        let now = Instant::now();
        self.remembered.lock().entry(mark, |until| now < *until).insert_entry(now + REMEMBERED_FOR);
    }
}

/// Hashes on a thread of its own, so that hashing never uses the threads that uploads need.
async fn on_a_thread<T: Send + 'static>(hash: impl FnOnce() -> T + Send + 'static) -> Result<T, TooBusy> {
    let (sender, outcome) = oneshot::channel();
    let hashing = std::thread::Builder::new().name("password".to_owned()).spawn(move || {
        let _ = sender.send(hash());
    });
    hashing.map_err(|_| TooBusy)?;
    outcome.await.map_err(|_| TooBusy)
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn hashed(password: &str) -> String {
        Password::new(password).hash().unwrap().into_text()
    }

    /// The work of a wrong password is the same for every kind of user, and a right one needs only its own hash.
    #[test]
    fn a_wrong_password_takes_as_long_whoever_it_is_for() {
        const HIGHEST: u32 = 11;
        const ROUNDS: usize = 8;
        let password = Password::new("wrong");
        let bcrypt = |cost| StoredHash::Bcrypt(bcrypt::hash("right", cost).unwrap());
        let kinds = [None, Some(StoredHash::Argon2(hashed("right"))), Some(bcrypt(8)), Some(bcrypt(HIGHEST))];
        let time = |stored: Option<&StoredHash>, may_sign_in, password: &Password| {
            let begun = Instant::now();
            let right = password.verify(stored, may_sign_in, Some(HIGHEST));
            assert_eq!(right, may_sign_in && password.reveal() == "right");
            begun.elapsed()
        };
        let fastest = |stored: Option<&StoredHash>, may_sign_in, password: &Password| {
            (0..ROUNDS).map(|_| time(stored, may_sign_in, password)).min().unwrap()
        };
        // In turns, so that other work on the machine delays each kind alike.
        let rounds: Vec<_> =
            (0..ROUNDS).map(|_| kinds.each_ref().map(|stored| time(stored.as_ref(), true, &password))).collect();
        let times: Vec<_> =
            (0..kinds.len()).map(|kind| rounds.iter().map(|round| round[kind]).min().unwrap()).collect();
        let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        assert!(*most < *least * 8 / 5, "{times:?}");
        let right = Password::new("right");
        let disabled = fastest(kinds[1].as_ref(), false, &right);
        assert!(disabled > *least * 5 / 8, "the right password of a disabled user takes {disabled:?}, {times:?}");
        assert!(fastest(kinds[2].as_ref(), true, &right) < *least, "a right password pays for others");
    }

    #[tokio::test]
    async fn a_right_password_is_remembered_until_it_changes() {
        let verifier = Verifier::new();
        let [here, there] = ["192.0.2.1", "192.0.2.2"].map(|address| Some(address.parse().unwrap()));
        let check = async |password: &str, stored: Option<&StoredHash>| {
            let password = Password::new(password);
            let mark = verifier.mark(&password, stored, here);
            assert!(!verifier.remembers(&verifier.mark(&password, stored, there)), "it was not presented there");
            let turn = verifier.turn(HashCaller::Network(here)).await.unwrap();
            let right = verifier.verify(&turn, password, stored.cloned(), true, None, mark).await.unwrap();
            assert_eq!(right, verifier.remembers(&mark));
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
        assert_eq!(parameters(NOBODY), parameters(&hashed("x")));
        assert!(Password::new("x").matches_argon2(NOBODY).is_ok_and(|matches| !matches));
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
