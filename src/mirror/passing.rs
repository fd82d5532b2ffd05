//! [`Passing`]: upstreams that get the credentials of each client, and decide who may pull.
//!
//! Such an upstream is asked before anything is served, also what is stored, whether these credentials may pull from the
//! repository. Its verdict is used for some minutes. Without a verdict nothing is served.
//!
//! A client that wants a token for its credentials gets a ticket, if the upstream accepts the credentials. It is a text that
//! names them in memory. Nothing is written anywhere, and a restart ends all tickets.
//!
//! Invariants: credentials go to one upstream only, also those of a ticket. Wrong passwords are limited for each client and
//! user, as those of this registry are, so that the mirror is no way around the limits of the upstream.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::client::{self, Client, Login};
use super::{Error, FETCH, Upstream};
use crate::kit::bounded_map::BoundedMap;
use crate::kit::throttle::{PAIR_FREE, PasswordCheck, PasswordSource, Throttle};
use crate::oci::{Digest, Reference, RepositoryName};

/// How long the permission of an upstream is used.
const PERMITTED: Duration = Duration::from_mins(5);
/// How long a refusal is used, so that repetitions do not reach the upstream.
const REFUSED: Duration = Duration::from_secs(10);
/// How long a ticket is used.
pub(crate) const TICKET: Duration = Duration::from_mins(5);
/// The most verdicts, credentials and tickets that are remembered.
const VERDICTS_MAX: usize = 16 * 1024;
const LOGINS_MAX: usize = 1024;
const TICKETS_MAX: usize = 16 * 1024;
/// The permits for the passwords that are tried at once. Each of `PAIR_FREE`, or of fewer, takes an equal share.
const TRIAL_PERMITS: u32 = 2 * PAIR_FREE;
/// Two dots, as in the tokens that clients know.
const TICKET_PREFIX: &str = "coracle.pass.";

/// A keyed hash of an upstream with credentials.
type Fingerprint = [u8; 32];

/// The verdict of an upstream, and until when it is used.
type Verdict = Option<(Instant, Result<(), Error>)>;

/// The content that a client wants to pull.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pulled<'a> {
    Manifest(&'a Reference),
    Blob(Digest),
}

/// The verdicts of an upstream, each locked while it is asked for.
type Verdicts = BoundedMap<(Fingerprint, RepositoryName), Arc<tokio::sync::Mutex<Verdict>>, VERDICTS_MAX>;
/// Passwords that are being tried, by user and address.
type Trials = BoundedMap<(String, Option<IpAddr>), Arc<Semaphore>, LOGINS_MAX>;

/// An upstream for credentials.
#[derive(Debug)]
struct Known {
    clients: Vec<Client>,
    used: Instant,
    /// Whether the upstream has accepted the credentials.
    is_accepted: bool,
}

/// The credentials that a ticket names, and the upstream that they are for.
#[derive(Debug)]
struct Ticket {
    login: Login,
    upstream: String,
    until: Instant,
}

#[derive(Debug)]
pub(super) struct Passing {
    /// Makes fingerprints and tickets that are of no use elsewhere.
    key: [u8; 32],
    clients: Mutex<BoundedMap<Fingerprint, Known, LOGINS_MAX>>,
    verdicts: Mutex<Verdicts>,
    tickets: Mutex<BoundedMap<[u8; 32], Ticket, TICKETS_MAX>>,
    throttle: Throttle,
    trials: Mutex<Trials>,
}

impl Default for Passing {
    fn default() -> Self {
        Self {
            key: rand::random(),
            clients: Mutex::default(),
            verdicts: Mutex::default(),
            tickets: Mutex::default(),
            throttle: Throttle::default(),
            trials: Mutex::default(),
        }
    }
}

impl Passing {
    /// The upstream with the credentials of a client. They are used only if it passes them.
    pub(super) fn upstream<'a>(&self, upstream: &'a Upstream, login: Option<&Login>) -> Cow<'a, Upstream> {
        let Some(login) = login.filter(|_| upstream.passes_logins) else { return Cow::Borrowed(upstream) };
        let now = Instant::now();
        let mut clients = self.clients.lock();
        let make = || Known {
            clients: upstream.clients.iter().map(|client| client.with_login(login.clone())).collect(),
            used: now,
            is_accepted: false,
        };
        let fingerprint = self.fingerprint(upstream, Some(login));
        let known = clients.get_or_insert_with(fingerprint, make, |known| known.used.elapsed() < PERMITTED);
        known.used = now;
        Cow::Owned(Upstream { clients: known.clients.clone(), ..upstream.clone() })
    }

    /// Fails unless the upstream permits the pull. Requests with the same credentials wait for one verdict. `address` is
    /// that of the client.
    pub(super) async fn permit(
        &self,
        upstream: &Upstream,
        remote: &RepositoryName,
        login: Option<&Login>,
        address: Option<IpAddr>,
        pulled: Pulled<'_>,
    ) -> Result<(), Error> {
        let key = (self.fingerprint(upstream, login), remote.clone());
        let verdict = Arc::clone(self.verdicts.lock().get_or_insert_with(key, Arc::default, |_| true));
        let mut verdict = verdict.lock().await;
        if let Some((until, result)) = &*verdict
            && *until > Instant::now()
        {
            return result.clone();
        }
        let ask = async |upstream: &Upstream| upstream.permits(remote, pulled).await;
        let result = self.ask(upstream, login, address, ask).await;
        let lifetime = match &result {
            Ok(()) => PERMITTED,
            // A missing manifest or blob says nothing about others of the repository.
            Err(error) if error.is_refusal() && !matches!(error, Error::NotFound) => REFUSED,
            // The upstream has not decided.
            Err(_) => {
                *verdict = None;
                return result;
            }
        };
        *verdict = Some((Instant::now() + lifetime, result.clone()));
        result
    }

    /// Asks the upstream with the credentials of a client, unless too many passwords of the client were wrong.
    async fn ask(
        &self,
        upstream: &Upstream,
        login: Option<&Login>,
        address: Option<IpAddr>,
        ask: impl AsyncFnOnce(&Upstream) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let own = self.upstream(upstream, login);
        let fingerprint = self.fingerprint(upstream, login);
        let is_accepted = self.clients.lock().get(&fingerprint).is_some_and(|known| known.is_accepted);
        let Some(Login::Password { user, .. }) = login.filter(|_| !is_accepted) else { return ask(&own).await };
        let user = format!("{}/{user}", upstream.label());
        let source = PasswordSource { user: &user, exists: true, address };
        let _trial = self.trial(source).await;
        let check = self.throttle.check(source, &fingerprint, None);
        let check = check.map_err(|throttled| Error::Throttled { seconds: throttled.seconds })?;
        let result = ask(&own).await;
        match &result {
            Ok(()) => {
                self.throttle.succeeded(source);
                if let Some(known) = self.clients.lock().get_mut(&fingerprint) {
                    known.is_accepted = true;
                }
            }
            // The same password counts once. It may be right, and not be enough for this repository.
            Err(Error::Upstream(client::Error::Unauthorized { .. })) if check != PasswordCheck::KnownWrong => {
                tracing::info!(user, address = address.map(tracing::field::display), "an upstream refused a password");
                self.throttle.failed(source, &fingerprint);
            }
            Err(_) => {}
        }
        result
    }

    /// Waits until a password may be tried. At most as many are tried at once as may still be wrong. Otherwise simultaneous
    /// guesses would evade the limit. Many machines that use one name with different passwords do not wait for each other's
    /// slow upstream.
    async fn trial(&self, source: PasswordSource<'_>) -> OwnedSemaphorePermit {
        let key = (source.user.to_owned(), source.address);
        let make = || Arc::new(Semaphore::new(TRIAL_PERMITS as usize));
        let in_use = |trial: &Arc<Semaphore>| Arc::strong_count(trial) > 1;
        let trial = Arc::clone(self.trials.lock().get_or_insert_with(key, make, in_use));
        loop {
            let share = |throttle: &Throttle| TRIAL_PERMITS / throttle.free_mistakes(source);
            let taken = share(&self.throttle);
            let permit = Arc::clone(&trial).acquire_many_owned(taken).await.expect("nothing closes it");
            // Others may have been wrong meanwhile.
            if share(&self.throttle) <= taken {
                return permit;
            }
        }
    }

    /// Creates a ticket for credentials that the upstream accepts. The same credentials get the same ticket for a while.
    pub(super) async fn ticket(
        &self,
        upstream: &Upstream,
        remote: &RepositoryName,
        login: Login,
        address: Option<IpAddr>,
    ) -> Result<String, Error> {
        self.ask(upstream, Some(&login), address, async |upstream| upstream.accepts(remote).await).await?;
        Ok(self.issue(upstream, login))
    }

    fn issue(&self, upstream: &Upstream, login: Login) -> String {
        let mut keyed = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        keyed.update(b"ticket ");
        keyed.update(&self.fingerprint(upstream, Some(&login)));
        let ticket = format!("{TICKET_PREFIX}{}", hex::encode(keyed.finalize().into_bytes()));
        let now = Instant::now();
        let entry = Ticket { login, upstream: upstream.label().to_owned(), until: now + TICKET };
        self.tickets.lock().insert(hash(&ticket), entry, |ticket| ticket.until > now);
        ticket
    }

    /// The credentials that a ticket names, if they are for this upstream.
    pub(super) fn login(&self, upstream: &Upstream, ticket: &str) -> Option<Login> {
        let hash = is_ticket(ticket).then(|| hash(ticket))?;
        let tickets = self.tickets.lock();
        let ticket = tickets.get(&hash).filter(|ticket| ticket.until > Instant::now())?;
        (ticket.upstream == upstream.label()).then(|| ticket.login.clone())
    }

    fn fingerprint(&self, upstream: &Upstream, login: Option<&Login>) -> Fingerprint {
        let mut hasher = Sha256::new_with_prefix(self.key);
        for host in upstream.clients.iter().map(Client::host) {
            hasher.update([host.as_bytes(), b"\0"].concat());
        }
        if let Some(Login::Password { user, password }) = login {
            // The length keeps a:bc apart from ab:c.
            hasher.update(user.len().to_be_bytes());
            hasher.update(user.as_bytes());
            hasher.update(password.as_bytes());
        }
        hasher.finalize().into()
    }
}

/// Whether a token has the form of a ticket.
pub(crate) fn is_ticket(token: &str) -> bool {
    token.starts_with(TICKET_PREFIX)
}

/// A ticket cannot be guessed, so that its hash needs no key.
fn hash(ticket: &str) -> [u8; 32] {
    Sha256::digest(ticket).into()
}

impl Upstream {
    /// Fails unless the upstream permits a pull.
    async fn permits(&self, remote: &RepositoryName, pulled: Pulled<'_>) -> Result<(), Error> {
        let permitted = self.first(|client| async move {
            match pulled {
                Pulled::Manifest(reference) => client.has_manifest(remote, reference, FETCH).await,
                Pulled::Blob(digest) => client.blob_size(remote, digest, FETCH).await.map(|size| size.map(drop)),
            }
        });
        permitted.await?.ok_or(Error::NotFound)
    }

    /// Fails unless the upstream accepts the credentials.
    async fn accepts(&self, remote: &RepositoryName) -> Result<(), Error> {
        let accepted = self.first(|client| async move { client.check_login(remote, FETCH).await.map(Some) });
        accepted.await?.ok_or(Error::NotFound)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::kit::metrics::UpstreamCounters;
    use crate::mirror::{Ownership, SyncRules};

    fn login(user: &str, password: &str) -> Login {
        Login::Password { user: user.to_owned(), password: password.to_owned().into() }
    }

    fn upstream(host: &str) -> Upstream {
        let sync_rules = SyncRules {
            interval: None,
            only_signed: false,
            signature_tags: false,
            timeout: Duration::ZERO,
            ownership: Ownership::Mirrored,
        };
        Upstream {
            hosts: vec![host.to_owned()],
            clients: Vec::new(),
            rules: Vec::new(),
            check_interval: Duration::ZERO,
            on_demand: true,
            sync_rules,
            sync: Arc::default(),
            limit: Arc::default(),
            counters: UpstreamCounters::default(),
            passes_logins: true,
            advice: crate::mirror::Advice::default(),
        }
    }

    #[test]
    fn a_ticket_names_its_credentials_for_their_upstream_only() {
        let (passing, here) = (Passing::default(), upstream("a.example"));
        let (alice, bob) = (login("alice", "a"), login("bob", "b"));
        let (first, second) = (passing.issue(&here, alice.clone()), passing.issue(&here, bob.clone()));
        assert_eq!(first.bytes().filter(|byte| *byte == b'.').count(), 2, "the form of an access token");
        assert!(passing.login(&here, &first) == Some(alice.clone()) && passing.login(&here, &second) == Some(bob));
        assert!(passing.login(&here, "").is_none() && passing.login(&here, &first[..first.len() - 1]).is_none());
        assert!(passing.login(&upstream("b.example"), &first).is_none());
        assert_eq!(passing.issue(&here, alice), first, "repeated requests take no further room");
        assert!(Passing::default().login(&here, &first).is_none());
    }

    #[test]
    fn many_tickets_displace_the_oldest_ones_only() {
        let (passing, here) = (Passing::default(), upstream("a.example"));
        let first = passing.issue(&here, login("alice", "a"));
        for number in 0..TICKETS_MAX / 2 {
            passing.issue(&here, login(&number.to_string(), "x"));
        }
        let middle = passing.issue(&here, login("bob", "b"));
        for number in 0..TICKETS_MAX * 3 / 4 {
            passing.issue(&here, login(&number.to_string(), "y"));
        }
        assert!(passing.login(&here, &first).is_none() && passing.login(&here, &middle).is_some());
    }

    #[tokio::test]
    async fn wrong_passwords_of_a_client_for_a_user_are_limited() {
        let (passing, here) = (Passing::default(), upstream("a.example"));
        let try_password = async |user: &str, password: &str, from: u8, is_right: bool| {
            let login = login(user, password);
            let ask = async |_: &Upstream| if is_right { Ok(()) } else { Err(refusal()) };
            passing.ask(&here, Some(&login), Some([192, 0, 2, from].into()), ask).await
        };
        try_password("alice", "right", 1, true).await.unwrap();
        // A client repeats its requests, and one password counts once.
        for _ in 0..20 {
            let error = try_password("carol", "the same", 2, false).await.unwrap_err();
            assert!(!matches!(error, Error::Throttled { .. }));
        }
        let guess = async |number: usize| try_password("bob", &number.to_string(), 2, false).await;
        let mut asked = 0;
        for number in 0..10 {
            asked += usize::from(!matches!(guess(number).await, Err(Error::Throttled { .. })));
        }
        assert_eq!(asked, 3, "the upstream is asked for the first ones only");
        try_password("bob", "right", 3, true).await.unwrap();
        try_password("alice", "right", 1, true).await.unwrap();
    }

    fn refusal() -> Error {
        let presented = client::Presented::Credentials;
        Error::Upstream(client::Error::Unauthorized { host: "a.example".to_owned(), presented, message: String::new() })
    }

    #[tokio::test]
    async fn logins_with_one_name_do_not_wait_for_each_other_and_guesses_at_once_stay_limited() {
        let (passing, here) = (Passing::default(), upstream("a.example"));
        let address = Some([192, 0, 2, 1].into());
        // None of them ends before all have begun.
        let all = tokio::sync::Barrier::new(PAIR_FREE as usize);
        let at_once = (0..PAIR_FREE).map(|number| {
            let (login, passing, here, all) = (login("robot", &number.to_string()), &passing, &here, &all);
            async move {
                let ask = async |_: &Upstream| {
                    all.wait().await;
                    Ok(())
                };
                passing.ask(here, Some(&login), address, ask).await
            }
        });
        let at_once = tokio::time::timeout(Duration::from_mins(1), futures_util::future::join_all(at_once)).await;
        assert!(at_once.expect("they wait for each other").iter().all(Result::is_ok));
        let (asked, running, most) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        let guesses = (0..20).map(|number| {
            let (login, passing, here) = (login("bob", &number.to_string()), &passing, &here);
            let (asked, running, most) = (&asked, &running, &most);
            async move {
                let ask = async |_: &Upstream| {
                    asked.fetch_add(1, Ordering::Relaxed);
                    most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, Ordering::Relaxed);
                    Err(refusal())
                };
                passing.ask(here, Some(&login), address, ask).await
            }
        });
        futures_util::future::join_all(guesses).await;
        assert_eq!((asked.into_inner(), most.into_inner()), (PAIR_FREE, PAIR_FREE));
    }

    #[test]
    fn fingerprints_differ_by_user_password_and_upstream() {
        let passing = Passing::default();
        let upstream = upstream("a.example");
        let of = |login: Option<&Login>| passing.fingerprint(&upstream, login);
        let prints = [None, Some(&login("a", "bc")), Some(&login("ab", "c")), Some(&login("a", "bd"))].map(of);
        for (index, one) in prints.iter().enumerate() {
            assert!(!prints[index + 1..].contains(one), "{index}");
        }
        assert_eq!(of(Some(&login("a", "bc"))), prints[1]);
        assert_ne!(Passing::default().fingerprint(&upstream, None), prints[0]);
    }
}
