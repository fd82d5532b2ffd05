//! A certificate from an ACME authority (RFC 8555), such as Let's Encrypt, and its renewal.
//!
//! [`Acme::run`] obtains a certificate, writes it to the data directory, and renews it. The server reads the file when it
//! changes, so that open connections stay. Until the first certificate arrives, the server uses a self-signed one.
//!
//! `schedule` decides when something is due, and is pure. `order` speaks to the authority, through `kit::outgoing`.
//! `challenge` has what the authority asks for meanwhile: the server and the handler of HTTP-01 look there. `files` is the
//! directory `acme` of the data directory.
//!
//! Invariants: no response of the authority causes an attempt sooner than the pause after a failure, also after a restart.
//! Private keys are in files that only the registry's own user may read, and in no backup. Knows no socket and no request.

mod challenge;
mod failure;
mod files;
mod made;
mod order;
mod report;
mod schedule;
mod transport;

#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::sign::CertifiedKey;
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

pub(crate) use challenge::Challenge;
use challenge::Pending;
use failure::{Failure, Kind};
use files::{Files, StoredCertificate};
pub(crate) use report::{ALPN, NoCertificate, Report};
use schedule::{State, Task};

use crate::content::blobs::{Disk, Tree};
use crate::kit::certificate::Validity;
use crate::kit::clock::{Clock, Timestamp};
use crate::kit::file::PathError;
use crate::kit::opaque_debug::opaque_debug;
use crate::kit::text::printable;

/// The longest sleep. The wall clock may be set meanwhile, and another process may replace the file.
const CHECK_INTERVAL: Duration = Duration::from_mins(1);

/// The longest time of an attempt, with all its challenges. An authority could add requests without end.
const ATTEMPT_MAX: Duration = Duration::from_mins(20);

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

/// An account that exists at the authority outside ACME (RFC 8555, 7.3.4).
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
    progress: watch::Sender<Progress>,
    /// Held while something is done, because a registry may have several servers.
    working: tokio::sync::Mutex<()>,
    /// The certificate until the first one arrives. Made when it is first needed.
    stand_in: Mutex<Option<Arc<CertifiedKey>>>,
}

opaque_debug!(Acme { settings });

/// The progress that [`Acme::renew`] waits for.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// The number of attempts that have ended.
    attempts: u64,
    /// The number of servers that run. Without one, no attempt will be made.
    servers: usize,
}

/// Counts a server while it runs.
struct Running(Arc<Acme>);

impl Running {
    fn new(acme: Arc<Acme>) -> Self {
        acme.progress.send_modify(|progress| progress.servers += 1);
        Self(acme)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.progress.send_modify(|progress| progress.servers -= 1);
    }
}

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
            progress: watch::Sender::default(),
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

    /// The names of the registry, in lower case.
    pub(crate) fn domains(&self) -> &[String] {
        &self.settings.domains
    }

    /// The state of the certificate. Reads its file.
    pub(crate) fn report(&self) -> Report {
        let (stored, now) = (self.stored(), self.clock.now());
        let state = self.state.lock().clone();
        let usable = match &stored {
            Ok(Some(stored)) if stored.covers => Ok(stored),
            Ok(Some(_)) => Err(NoCertificate::OtherNames),
            Ok(None) => Err(NoCertificate::Missing),
            Err(error) => Err(NoCertificate::Unreadable(error.to_string())),
        };
        let attempt = || state.attempt(usable.as_ref().ok().copied(), &self.settings.directory, now);
        Report {
            domains: self.settings.domains.clone(),
            directory: self.settings.directory.clone(),
            file: self.files.certificate(),
            renewal: usable.as_ref().ok().map(|stored| state.renewal(stored, now)),
            next_attempt: state.failure.as_ref().map(|_| attempt().max(now)),
            validity: usable.map(|stored| stored.validity),
            failure: state.failure.map(|failure| (failure.at, failure.why)),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }

    /// Obtains and renews the certificate. Never returns.
    pub(crate) fn run(self: Arc<Self>, work: TaskTracker) -> impl Future<Output = ()> + Send {
        let running = Running::new(Arc::clone(&self));
        async move {
            let _running = running;
            self.announce();
            let mut unreadable = None;
            loop {
                let working = self.working.lock().await;
                let now = self.clock.now();
                let (at, task) = self.next(now, &mut unreadable);
                let wait = at.since(now);
                if wait.is_zero() {
                    match task {
                        Task::Obtain => {
                            Box::pin(self.obtain(&work)).await;
                            self.progress.send_modify(|progress| progress.attempts += 1);
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
    }

    /// The next task, and when it is due. If the certificate cannot be read, nothing is ordered until it can, because it may
    /// be good. `unreadable` is the last error that was logged.
    fn next(&self, now: Timestamp, unreadable: &mut Option<String>) -> (Timestamp, Task) {
        let stored = self.stored();
        let mut state = self.state.lock();
        state.note_clock(now);
        match stored {
            Ok(stored) => {
                *unreadable = None;
                state.next(stored.as_ref(), &self.settings.directory, now)
            }
            // The attempt fails with this error.
            Err(_) if state.is_urgent() => (now, Task::Obtain),
            Err(error) => {
                let error = error.to_string();
                if unreadable.as_ref() != Some(&error) {
                    tracing::error!(error, "the certificate cannot be read: it is not renewed until it can be read");
                    *unreadable = Some(error);
                }
                (now.after(CHECK_INTERVAL), Task::Obtain)
            }
        }
    }

    /// Makes the certificate due for renewal, the first time at once, also after a failure, and waits until an attempt has
    /// ended. Returns `false` if the server stops before that.
    pub(crate) async fn renew(&self) -> bool {
        let mut progress = self.progress.subscribe();
        // An attempt that runs may have begun with another certificate.
        let running = self.working.lock().await;
        let before = self.progress.borrow().attempts;
        self.state.lock().ask();
        drop(running);
        self.wake.notify_one();
        let ended = progress.wait_for(|progress| progress.attempts != before || progress.servers == 0).await;
        ended.is_ok_and(|progress| progress.attempts != before)
    }

    /// The certificate in the file. `None` if there is no certificate that TLS can use.
    fn stored(&self) -> Result<Option<StoredCertificate>, PathError> {
        self.files.stored(&self.settings.domains)
    }

    /// Logs the state at the start.
    fn announce(&self) {
        let Report { domains, directory, validity, renewal, .. } = self.report();
        let domains = domains.join(", ");
        match validity {
            Ok(validity) => {
                let (until, renewal) = (validity.until, renewal.map(tracing::field::display));
                tracing::info!(domains, %until, renewal, "the certificate comes from an ACME authority");
            }
            Err(NoCertificate::Missing) => tracing::warn!(
                domains,
                directory,
                "there is no certificate yet: clients get a self-signed one until the authority issues one"
            ),
            Err(why) => tracing::warn!(domains, directory, "{why}"),
        }
    }

    async fn obtain(&self, work: &TaskTracker) {
        let domains = self.settings.domains.join(", ");
        let before = self.stored();
        let is_renewal = matches!(&before, Ok(Some(stored)) if stored.covers);
        let attempt = unwound(self.try_obtain(&before, work)).await;
        match attempt.unwrap_or_else(|why| Err(Failure::local(&why))) {
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
                let still = match before {
                    Ok(Some(stored)) if !stored.covers => "clients get one that is not for all names",
                    Ok(None) => "clients get a self-signed one",
                    Ok(Some(_)) | Err(_) => "the old one stays in use",
                };
                tracing::error!(
                    domains, directory, error = failure.why, next = %next,
                    "the authority issued no certificate: {still}"
                );
                self.write_state(noted, work).await;
            }
        }
    }

    /// `before` is the certificate in the file.
    async fn try_obtain(
        &self,
        before: &Result<Option<StoredCertificate>, PathError>,
        work: &TaskTracker,
    ) -> Result<(Validity, String), Failure> {
        let stored = before.as_ref().map_err(|error| Failure::local(&error.to_string()))?;
        // Check that the files can be written before the order, because authorities limit orders. After a crash during the
        // attempt, the file causes a pause.
        let begun = self.state.lock().begun(self.clock.now());
        self.in_background(work, move |files| files.write_state(&begun)).await?;
        let replaced = stored.as_ref().filter(|stored| stored.covers);
        let ordered = tokio::time::timeout(ATTEMPT_MAX, self.order(replaced, work)).await;
        let late = |_| Failure::new(Kind::Away, "the authority did not finish in time");
        let (issued, challenge) = ordered.map_err(late)??;
        self.take(issued, challenge, work).await
    }

    /// Orders a certificate, with one challenge after the other.
    async fn order(
        &self,
        replaced: Option<&StoredCertificate>,
        work: &TaskTracker,
    ) -> Result<(order::Issued, Challenge), Failure> {
        let last = self.state.lock().challenge.clone();
        let mut challenges = self.settings.challenges.clone();
        challenges.sort_by_key(|challenge| Some(challenge.word()) != last.as_deref());
        let mut refused: Option<Failure> = None;
        for challenge in challenges {
            match order::Attempt::new(self, challenge, replaced).run(work).await {
                Ok(issued) => return Ok((issued, challenge)),
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
        let Ok(Some(stored)) = self.stored() else { return };
        let asked = unwound(order::ask_info(self, &stored, work)).await;
        let noted = {
            let mut state = self.state.lock();
            match asked.unwrap_or_else(|why| Err(Failure::local(&why))) {
                Ok(info) => state.note_info(info, &stored, now, &mut rand::rng()),
                Err(failure) => {
                    tracing::debug!(error = failure.why, "the authority does not say when to renew");
                    state.note_no_answer(now, failure.retry_after);
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
        write: impl FnOnce(&Files) -> Result<(), PathError> + Send + 'static,
    ) -> Result<(), Failure> {
        let files = self.files.clone();
        match work.spawn_blocking(move || write(&files)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::local(&error.to_string())),
            Err(error) => Err(Failure::local(&error.to_string())),
        }
    }
}

/// Runs work, and returns the message of a panic. An error of the ACME client must not end renewals.
async fn unwound<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let mut work = Box::pin(work);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            Poll::Ready(Err(format!("the ACME client panicked, which is a bug of coracle: {}", printable(text))))
        }
    })
    .await
}
