//! A certificate from an ACME authority (RFC 8555), such as Let's Encrypt, and its renewal.
//!
//! [`Acme::run`] obtains a certificate, writes it to the data directory, and renews it. The server reads the file when it
//! changes, so that open connections stay. Until the first certificate arrives, the server uses a self-signed one.
//!
//! `schedule` decides when something is due, and is pure. `order` speaks to the authority, through `kit::outgoing`.
//! `challenge` has what the authority asks for meanwhile: the server and the handler of HTTP-01 look there. `files` is the
//! directory `acme` of the data directory.
//!
//! Invariants: no answer of the authority causes an attempt sooner than the pause after a failure, also after a restart.
//! Private keys are in files that only the registry's own user may read, and in no backup. Knows no socket and no request.

mod challenge;
mod failure;
mod files;
mod made;
mod order;
mod report;
mod schedule;
mod transport;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustls::sign::CertifiedKey;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use challenge::Pending;
pub(crate) use challenge::{ALPN, Challenge};
use failure::Failure;
use files::{Files, Held};
pub(crate) use report::Report;
use schedule::{State, Task};

use crate::content::blobs::{Disk, Tree};
use crate::kit::certificate::Validity;
use crate::kit::clock::Clock;
use crate::kit::opaque_debug::opaque_debug;

/// The longest sleep. The wall clock may be set meanwhile, and another process may replace the file.
const CHECK_INTERVAL: Duration = Duration::from_mins(1);

/// The operator's settings.
#[derive(Clone)]
pub(crate) struct Settings {
    /// In lower case, at least one.
    pub(crate) domains: Vec<String>,
    /// The URL of the directory.
    pub(crate) directory: String,
    pub(crate) email: Option<String>,
    /// A file of authorities to trust at the directory.
    pub(crate) ca: Option<PathBuf>,
    /// In the order in which they are tried, at least one.
    pub(crate) challenges: Vec<Challenge>,
    pub(crate) external_account: Option<ExternalAccount>,
}

opaque_debug!(Settings { domains });

/// An account that the authority knows otherwise (RFC 8555, 7.3.4).
#[derive(Clone)]
pub(crate) struct ExternalAccount {
    pub(crate) id: String,
    pub(crate) key: zeroize::Zeroizing<Vec<u8>>,
}

/// The certificate of a registry, which an authority issues.
pub(crate) struct Acme {
    settings: Settings,
    files: Files,
    clock: Clock,
    pending: Pending,
    state: Mutex<State>,
    /// Attempts that failed since the start.
    failures: AtomicU64,
    /// Notified when something is due at once.
    wake: Notify,
    /// The number of attempts that have ended.
    ended: watch::Sender<u64>,
    /// Held while something is done, because a registry may have several servers.
    working: tokio::sync::Mutex<()>,
    /// The certificate until the first one arrives. Made when it is first needed.
    stand_in: Mutex<Option<Arc<CertifiedKey>>>,
}

opaque_debug!(Acme { settings });

impl Acme {
    /// Reads what is in the data directory. Sends no request.
    pub(crate) fn open(settings: Settings, tree: &Tree, disk: Arc<dyn Disk>, clock: Clock) -> Self {
        let files = Files::new(tree, disk);
        let state = files.state().for_settings(&settings);
        Self {
            settings,
            files,
            clock,
            pending: Pending::default(),
            state: Mutex::new(state),
            failures: AtomicU64::new(0),
            wake: Notify::new(),
            ended: watch::Sender::new(0),
            working: tokio::sync::Mutex::default(),
            stand_in: Mutex::default(),
        }
    }

    /// The file with the private key and the certificate chain. It may not exist yet.
    pub(crate) fn certificate_file(&self) -> PathBuf {
        self.files.certificate()
    }

    /// The certificate until the first one arrives: self-signed, for the same names.
    pub(crate) fn stand_in(&self) -> Result<Arc<CertifiedKey>, String> {
        let mut made = self.stand_in.lock();
        if let Some(made) = &*made {
            return Ok(Arc::clone(made));
        }
        Ok(Arc::clone(made.insert(made::self_signed(&self.settings.domains)?)))
    }

    /// The certificate of a pending TLS-ALPN-01 challenge for a name.
    pub(crate) fn challenge_certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.pending.certificate(name)
    }

    /// The response to a pending HTTP-01 challenge with a token.
    pub(crate) fn challenge_response(&self, token: &str) -> Option<String> {
        self.pending.response(token)
    }

    /// The state of the certificate.
    pub(crate) fn report(&self) -> Report {
        let held = self.held();
        let state = self.state.lock().clone();
        let is_usable = |held: &&Held| held.covers;
        Report {
            domains: self.settings.domains.clone(),
            directory: self.settings.directory.clone(),
            file: self.files.certificate(),
            validity: held.as_ref().filter(is_usable).map(|held| held.validity),
            renewal: held.as_ref().filter(is_usable).map(|held| state.renewal(held)),
            next_attempt: state.failure.as_ref().and(state.next_attempt),
            failure: state.failure.map(|failure| (failure.at, failure.why)),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }

    /// Obtains and renews the certificate. Returns never.
    pub(crate) async fn run(self: Arc<Self>, work: TaskTracker) {
        self.announce();
        loop {
            let now = self.clock.now();
            let working = self.working.lock().await;
            let (at, task) = self.state.lock().next(self.held().as_ref(), &self.settings.directory);
            let wait = at.since(now);
            if wait.is_zero() {
                match task {
                    Task::Obtain => {
                        Box::pin(self.obtain(&work)).await;
                        self.ended.send_modify(|ended| *ended += 1);
                    }
                    Task::AskInfo => Box::pin(self.ask_info(&work)).await,
                }
                continue;
            }
            drop(working);
            tokio::select! {
                () = tokio::time::sleep(wait.min(CHECK_INTERVAL)) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Makes the certificate due for renewal at once, also after a failure, and waits until the attempt has ended.
    pub(crate) async fn renew(&self) {
        let mut ended = self.ended.subscribe();
        // An attempt that runs may have begun with another certificate.
        let running = self.working.lock().await;
        ended.mark_unchanged();
        self.state.lock().is_asked = true;
        drop(running);
        self.wake.notify_one();
        let _ = ended.changed().await;
    }

    /// The certificate in the file, if it can be read.
    fn held(&self) -> Option<Held> {
        self.files.held(&self.settings.domains)
    }

    /// Logs the state at the start.
    fn announce(&self) {
        let Report { domains, directory, validity, renewal, .. } = self.report();
        let domains = domains.join(", ");
        if let (Some(validity), Some(renewal)) = (validity, renewal) {
            let until = validity.until;
            tracing::info!(domains, %until, %renewal, "the certificate comes from an ACME authority");
        } else {
            tracing::warn!(
                domains,
                directory,
                "there is no certificate yet: clients get a self-signed one until the authority issues one"
            );
        }
    }

    async fn obtain(&self, work: &TaskTracker) {
        let domains = self.settings.domains.join(", ");
        let is_renewal = self.held().is_some_and(|held| held.covers);
        match self.try_obtain(work).await {
            Ok((validity, challenge)) => {
                let what = if is_renewal { "renewed" } else { "obtained" };
                tracing::info!(domains, challenge, until = %validity.until, "{what} the certificate");
            }
            Err(failure) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                let now = self.clock.now();
                let (next, noted) = {
                    let mut state = self.state.lock();
                    let next = state.note_failure(&failure, now, &mut rand::rng());
                    (next, state.clone())
                };
                let directory = &self.settings.directory;
                let still = if is_renewal { "the old one stays in use" } else { "clients get a self-signed one" };
                tracing::error!(
                    domains, directory, error = failure.why, next = %next,
                    "the authority issued no certificate: {still}"
                );
                self.write_state(noted, work).await;
            }
        }
    }

    async fn try_obtain(&self, work: &TaskTracker) -> Result<(Validity, String), Failure> {
        // An authority limits how often it issues a certificate, so that it must be possible to write it. And a registry that
        // ends in the middle again and again must not order as often.
        let begun = self.state.lock().begun(self.clock.now());
        self.in_background(work, move |files| files.write_state(&begun)).await?;
        let last = self.state.lock().challenge.clone();
        let mut challenges = self.settings.challenges.clone();
        challenges.sort_by_key(|challenge| Some(challenge.word()) != last.as_deref());
        let replaced = self.held().filter(|held| held.covers);
        let mut refused: Option<Failure> = None;
        for challenge in challenges {
            match order::Attempt::new(self, challenge, replaced.as_ref()).run(work).await {
                Ok(issued) => return self.take(issued, challenge, work).await,
                // Another challenge may work.
                Err(failure) if failure.is_about_challenge() => match &mut refused {
                    None => refused = Some(failure),
                    Some(first) => first.add(&failure),
                },
                Err(failure) => return Err(failure),
            }
        }
        Err(refused.unwrap_or_else(|| Failure::local("no challenge is configured")))
    }

    /// Stores a certificate, so that the server uses it.
    async fn take(
        &self,
        issued: order::Issued,
        challenge: Challenge,
        work: &TaskTracker,
    ) -> Result<(Validity, String), Failure> {
        let now = self.clock.now();
        let held = issued.check(&self.settings.domains, now)?;
        let text = issued.into_pem();
        self.in_background(work, move |files| files.write_certificate(&text)).await?;
        let noted = {
            let mut state = self.state.lock();
            state.note_success(&self.settings.directory, challenge, now);
            state.clone()
        };
        self.write_state(noted, work).await;
        Ok((held.validity, challenge.word().to_owned()))
    }

    /// Asks the authority when it wants the certificate to be renewed (RFC 9773).
    async fn ask_info(&self, work: &TaskTracker) {
        let now = self.clock.now();
        let Some(held) = self.held() else { return };
        let asked = order::ask_info(self, &held, work).await;
        let noted = {
            let mut state = self.state.lock();
            match asked {
                Ok(info) => state.note_info(info, &held, now, &mut rand::rng()),
                Err(failure) => {
                    tracing::debug!(error = failure.why, "the authority does not say when to renew");
                    state.note_no_answer(now);
                }
            }
            state.clone()
        };
        self.write_state(noted, work).await;
    }

    async fn write_state(&self, state: State, work: &TaskTracker) {
        if let Err(failure) = self.in_background(work, move |files| files.write_state(&state)).await {
            tracing::error!(error = failure.why, "the state of the certificate cannot be written");
        }
    }

    /// Writes a file on a thread for blocking work. It runs to its end.
    async fn in_background(
        &self,
        work: &TaskTracker,
        write: impl FnOnce(&Files) -> Result<(), crate::kit::file::PathError> + Send + 'static,
    ) -> Result<(), Failure> {
        let files = self.files.clone();
        match work.spawn_blocking(move || write(&files)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::local(&error.to_string())),
            Err(error) => Err(Failure::local(&error.to_string())),
        }
    }
}
