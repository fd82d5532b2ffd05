//! [`State`]: when the certificate is due for renewal, and what happened before. Pure.

use std::time::Duration;

use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Settings;
use super::challenge::Challenge;
use super::failure::Failure;
use super::files::Held;
use crate::kit::clock::Timestamp;

/// The shortest time between two renewals, if the authority asks for them or issues certificates that are old at once.
const RENEWAL_INTERVAL_MIN: Duration = Duration::from_hours(1);
/// The bounds of the time between two questions to the authority about the renewal.
const INFO_INTERVAL_MIN: Duration = Duration::from_mins(1);
const INFO_INTERVAL_MAX: Duration = Duration::from_hours(24);
/// The time after which the authority is asked again if it did not answer.
const INFO_PAUSE: Duration = Duration::from_hours(1);

/// The pause after a crash during an attempt.
const CRASH_PAUSE: Duration = Duration::from_mins(1);

/// The next task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Obtain,
    AskInfo,
}

/// Everything that is known about the certificate. It outlives a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// A digest of the settings that the failures are about. After a change nothing has failed yet.
    settings: String,
    /// The directory that the certificate comes from.
    issuer: String,
    obtained: Option<Timestamp>,
    /// The challenge that worked last.
    pub(super) challenge: Option<String>,
    /// Failures in a row.
    failures: u32,
    pub(super) failure: Option<NotedFailure>,
    pub(super) next_attempt: Option<Timestamp>,
    /// When the authority wants the certificate to be renewed.
    window: Option<Window>,
    /// When the authority is asked about that again.
    next_question: Option<Timestamp>,
    /// Whether the last renewal was one that the authority wanted.
    is_wanted: bool,
    /// Whether someone asked for a renewal at once.
    #[serde(skip)]
    pub(super) is_asked: bool,
}

/// The last failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NotedFailure {
    pub(super) at: Timestamp,
    pub(super) why: String,
}

/// The answer of the authority about a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Info {
    /// Renew within this time, and ask again after `again`.
    Window { start: Timestamp, end: Timestamp, again: Duration },
    /// The authority has no such information.
    Unsupported,
}

/// A time in which the certificate is to be renewed, and the moment in it that was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Window {
    start: Timestamp,
    end: Timestamp,
    drawn: Timestamp,
}

impl State {
    /// The state for settings, which may have changed.
    pub(super) fn for_settings(self, settings: &Settings) -> Self {
        let digest = digest(settings);
        if self.settings == digest {
            return self;
        }
        Self { settings: digest, failures: 0, failure: None, next_attempt: None, next_question: None, ..self }
    }

    /// The next task, and when it is due. A time in the past means now.
    pub(super) fn next(&self, held: Option<&Held>, directory: &str) -> (Timestamp, Task) {
        let usable = held.filter(|held| held.covers && (self.issuer.is_empty() || self.issuer == directory));
        let now = Timestamp::from_micros(0);
        if self.is_asked {
            return (now, Task::Obtain);
        }
        let obtain = usable.map_or(now, |held| self.renewal(held));
        let obtain = if self.failures > 0 { obtain.max(self.next_attempt.unwrap_or(now)) } else { obtain };
        let question = usable.map(|_| self.next_question.unwrap_or(now));
        match question {
            // After a failure the authority is left alone.
            Some(question) if question < obtain && self.failures == 0 => (question, Task::AskInfo),
            _ => (obtain, Task::Obtain),
        }
    }

    /// When a certificate is due for renewal: when its authority wants it, or at two thirds of its lifetime.
    pub(super) fn renewal(&self, held: &Held) -> Timestamp {
        let validity = held.validity;
        let lifetime = validity.until.since(validity.from);
        let usual = validity.from.after(lifetime / 3 * 2);
        let floor = |obtained: Timestamp| obtained.after(RENEWAL_INTERVAL_MIN.min(lifetime / 3));
        let window = self.window.filter(|window| window.drawn < validity.until);
        match (window, self.obtained) {
            // The first wish is followed at once. More of them could be a loop.
            (Some(window), Some(obtained)) if self.is_wanted => window.drawn.max(floor(obtained)),
            (Some(window), _) => window.drawn,
            (None, Some(obtained)) => usual.max(floor(obtained)),
            (None, None) => usual,
        }
    }

    /// The state on the disk during an attempt: after a crash, the next attempt is a little later.
    pub(super) fn begun(&self, now: Timestamp) -> Self {
        let next = now.after(CRASH_PAUSE).max(self.next_attempt.unwrap_or(now));
        Self { failures: self.failures.max(1), next_attempt: Some(next), ..self.clone() }
    }

    pub(super) fn note_success(&mut self, directory: &str, challenge: Challenge, now: Timestamp) {
        let is_wanted = self.window.is_some_and(|window| window.drawn <= now);
        *self = Self {
            settings: std::mem::take(&mut self.settings),
            issuer: directory.to_owned(),
            obtained: Some(now),
            challenge: Some(challenge.word().to_owned()),
            is_wanted,
            ..Self::default()
        };
    }

    /// Notes a failure, and returns when to try again.
    pub(super) fn note_failure(&mut self, failure: &Failure, now: Timestamp, random: &mut impl rand::Rng) -> Timestamp {
        self.is_asked = false;
        self.failures = self.failures.saturating_add(1);
        self.failure = Some(NotedFailure { at: now, why: failure.why.clone() });
        // Up to a tenth longer, so that many registries do not return together.
        let pause = failure.pause(self.failures).mul_f64(1.0 + random.random::<f64>() / 10.0);
        let next = now.after(pause);
        self.next_attempt = Some(next);
        next
    }

    pub(super) fn note_info(&mut self, info: Info, held: &Held, now: Timestamp, random: &mut impl rand::Rng) {
        let (window, again) = match info {
            Info::Unsupported => (None, INFO_INTERVAL_MAX),
            // A window after the end would leave clients without a certificate.
            Info::Window { start, end, again } if start < end && start < held.validity.until => {
                let is_same = |window: &Window| (window.start, window.end) == (start, end);
                let draw = || {
                    let drawn = random.random_range(start.micros()..=end.micros());
                    Window { start, end, drawn: Timestamp::from_micros(drawn) }
                };
                (Some(self.window.filter(is_same).unwrap_or_else(draw)), again)
            }
            Info::Window { again, .. } => (None, again),
        };
        self.window = window;
        self.next_question = Some(now.after(again.clamp(INFO_INTERVAL_MIN, INFO_INTERVAL_MAX)));
    }

    /// Notes that the authority did not say when to renew. What it said before counts.
    pub(super) fn note_no_answer(&mut self, now: Timestamp) {
        self.next_question = Some(now.after(INFO_PAUSE));
    }
}

/// Identifies settings, without showing them.
fn digest(settings: &Settings) -> String {
    let mut hash = Sha256::new();
    let challenges = settings.challenges.iter().map(|challenge| challenge.word());
    let external = settings.external_account.iter().map(|account| account.id.as_str());
    let ca = settings.ca.iter().map(|path| path.to_str().unwrap_or_default());
    let domains = settings.domains.iter().map(String::as_str);
    for text in [settings.directory.as_str()].into_iter().chain(domains).chain(challenges).chain(external).chain(ca) {
        hash.update(text.as_bytes());
        hash.update([0]);
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::super::failure::Kind;
    use super::*;

    const DIRECTORY: &str = "https://acme.example/directory";
    const DAY: Duration = Duration::from_hours(24);

    fn day(number: u32) -> Timestamp {
        Timestamp::from_micros(0).after(DAY * (19_000 + number))
    }

    fn settings() -> Settings {
        Settings {
            domains: vec!["registry.example".to_owned()],
            directory: DIRECTORY.to_owned(),
            email: None,
            ca: None,
            challenges: vec![Challenge::TlsAlpn01],
            external_account: None,
        }
    }

    /// A certificate of 90 days.
    fn held() -> Held {
        let der = rustls::pki_types::CertificateDer::from(Vec::new());
        let validity = crate::kit::certificate::Validity { from: day(0), until: day(90) };
        Held { certificate: der, validity, covers: true }
    }

    fn obtained() -> State {
        let mut state = State::default().for_settings(&settings());
        state.note_success(DIRECTORY, Challenge::TlsAlpn01, day(0));
        state.note_info(Info::Unsupported, &held(), day(60), &mut rand::rng());
        state
    }

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_lifetime() {
        let state = obtained();
        assert_eq!(state.renewal(&held()), day(60));
        assert_eq!(state.next(Some(&held()), DIRECTORY), (day(60), Task::Obtain));
        let now = Timestamp::from_micros(0);
        assert_eq!(state.next(None, DIRECTORY), (now, Task::Obtain), "no certificate");
        let other = Held { covers: false, ..held() };
        assert_eq!(state.next(Some(&other), DIRECTORY), (now, Task::Obtain), "it is for other names");
        assert_eq!(state.next(Some(&held()), "https://other.example"), (now, Task::Obtain), "of another authority");
    }

    #[test]
    fn the_authority_may_want_a_renewal_earlier_but_not_in_a_loop() {
        let mut state = obtained();
        let info = Info::Window { start: day(10), end: day(12), again: DAY };
        state.note_info(info, &held(), day(3), &mut rand::rng());
        let drawn = state.renewal(&held());
        assert!(drawn >= day(10) && drawn <= day(12));
        state.note_info(info, &held(), day(4), &mut rand::rng());
        assert_eq!(state.renewal(&held()), drawn, "the moment is drawn once");
        assert_eq!(state.next(Some(&held()), DIRECTORY), (day(5), Task::AskInfo));
        // A window in the past: at once, then at most once an hour.
        state.note_info(Info::Window { start: day(1), end: day(2), again: DAY }, &held(), day(5), &mut rand::rng());
        assert!(state.renewal(&held()) <= day(2));
        state.note_success(DIRECTORY, Challenge::TlsAlpn01, day(5));
        state.note_info(Info::Window { start: day(1), end: day(2), again: DAY }, &held(), day(5), &mut rand::rng());
        assert_eq!(state.renewal(&held()), day(5).after(RENEWAL_INTERVAL_MIN));
        // A window after the end is a mistake.
        state.note_info(Info::Window { start: day(91), end: day(92), again: DAY }, &held(), day(5), &mut rand::rng());
        assert_eq!(state.renewal(&held()), day(60));
    }

    #[test]
    fn a_failure_causes_a_pause_that_a_restart_does_not_shorten() {
        let mut state = obtained();
        let failure = Failure::new(Kind::Challenge, "it leads elsewhere");
        let next = state.note_failure(&failure, day(60), &mut rand::rng());
        let pause = next.since(day(60));
        assert!(pause >= Duration::from_mins(30) && pause <= Duration::from_mins(33), "{pause:?}");
        let text = serde_json::to_string(&state).unwrap();
        let read = serde_json::from_str::<State>(&text).unwrap().for_settings(&settings());
        assert_eq!(read.next(None, DIRECTORY), (next, Task::Obtain));
        assert_eq!(read.next(Some(&held()), DIRECTORY), (next, Task::Obtain));
        let begun = State::default().for_settings(&settings()).begun(day(60));
        assert_eq!(begun.next(None, DIRECTORY), (day(60).after(CRASH_PAUSE), Task::Obtain), "after a crash");
        // Other settings have not failed yet, and someone may ask.
        let other = Settings { domains: vec!["other.example".to_owned()], ..settings() };
        assert_eq!(read.clone().for_settings(&other).next(None, DIRECTORY).0, Timestamp::from_micros(0));
        let mut asked = read;
        asked.is_asked = true;
        assert_eq!(asked.next(Some(&held()), DIRECTORY), (Timestamp::from_micros(0), Task::Obtain));
    }

    #[test]
    fn a_certificate_that_is_old_when_it_arrives_causes_no_loop() {
        let mut state = State::default();
        let short = crate::kit::certificate::Validity { from: day(0), until: day(3) };
        let old = Held { validity: short, ..held() };
        state.note_success(DIRECTORY, Challenge::Http01, day(2).after(DAY / 2));
        assert_eq!(state.renewal(&old), day(2).after(DAY / 2 + RENEWAL_INTERVAL_MIN));
    }
}
