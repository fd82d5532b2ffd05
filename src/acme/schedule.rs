//! [`State`]: when the certificate is due for renewal, and what happened before. Pure.

use std::time::Duration;

use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Settings;
use super::challenge::Challenge;
use super::failure::{Failure, Kind};
use super::files::StoredCertificate;
use crate::kit::clock::Timestamp;

/// The shortest time between two renewals, if the authority asks for them or issues certificates that are old at once.
const RENEWAL_INTERVAL_MIN: Duration = Duration::from_hours(1);
/// The bounds of the time between two questions to the authority about the renewal.
const INFO_INTERVAL_MIN: Duration = Duration::from_mins(1);
const INFO_INTERVAL_MAX: Duration = Duration::from_hours(24);
/// The time after which the authority is asked again if it did not answer.
const INFO_PAUSE: Duration = Duration::from_hours(1);

/// The pause after a crash during an attempt, and the shortest one between two renewals.
const CRASH_PAUSE: Duration = Duration::from_mins(1);

/// A time that is further in the future than this was written while the wall clock was ahead.
const CLOCK_SLACK: Duration = Duration::from_mins(1);

/// The last part of the lifetime of a certificate, as a divisor. The authority cannot delay a renewal into it.
const LAST_PART: u32 = 10;

/// Before everything: a task that is due at once.
const AT_ONCE: Timestamp = Timestamp::from_micros(0);

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
    /// Failures of one kind in a row.
    failures: u32,
    kind: Option<Kind>,
    pub(super) failure: Option<NotedFailure>,
    /// The begin and the end of the pause after the last failure.
    paused: Option<Timestamp>,
    next_attempt: Option<Timestamp>,
    /// When the authority wants the certificate to be renewed.
    window: Option<Window>,
    /// When the authority is asked about that again.
    next_question: Option<Timestamp>,
    /// Whether the last renewal was one that the authority wanted.
    is_wanted: bool,
    /// Whether an operator has asked for a renewal that has not succeeded yet.
    is_asked: bool,
    /// Whether the next attempt ignores the pause.
    #[serde(skip)]
    is_urgent: bool,
    /// When the wall clock was first found to be before the pause.
    #[serde(skip)]
    set_back: Option<Timestamp>,
}

/// The last failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NotedFailure {
    pub(super) at: Timestamp,
    pub(super) why: String,
}

/// The response of the authority about a renewal.
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
        Self {
            settings: digest,
            failures: 0,
            kind: None,
            failure: None,
            paused: None,
            next_attempt: None,
            next_question: None,
            ..self
        }
    }

    /// The next task, and when it is due. A time in the past means now.
    pub(super) fn next(
        &self,
        stored: Option<&StoredCertificate>,
        directory: &str,
        now: Timestamp,
    ) -> (Timestamp, Task) {
        let attempt = self.attempt(stored, directory, now);
        // A later time was written while the wall clock was ahead.
        let question = self.next_question.filter(|at| *at <= now.after(INFO_INTERVAL_MAX)).unwrap_or(AT_ONCE);
        let question = question.max(self.pause_end(now));
        if self.usable(stored, directory).is_some() && question < attempt {
            (question, Task::AskInfo)
        } else {
            (attempt, Task::Obtain)
        }
    }

    /// When the next attempt is due to obtain a certificate. A time in the past means now.
    pub(super) fn attempt(&self, stored: Option<&StoredCertificate>, directory: &str, now: Timestamp) -> Timestamp {
        if self.is_urgent {
            return AT_ONCE;
        }
        let usable = self.usable(stored, directory).filter(|_| !self.is_asked);
        let due = usable.map_or(AT_ONCE, |stored| self.renewal(stored, now));
        due.max(self.pause_end(now))
    }

    /// The certificate, if it is for all names and of this authority.
    fn usable<'a>(&self, stored: Option<&'a StoredCertificate>, directory: &str) -> Option<&'a StoredCertificate> {
        stored.filter(|stored| stored.covers && (self.issuer.is_empty() || self.issuer == directory))
    }

    /// When a certificate is due for renewal: when its authority wants it, or at two thirds of its lifetime.
    pub(super) fn renewal(&self, stored: &StoredCertificate, now: Timestamp) -> Timestamp {
        let validity = stored.validity;
        let lifetime = validity.until.since(validity.from);
        let usual = validity.from.after(lifetime / 3 * 2);
        let pause = RENEWAL_INTERVAL_MIN.min(lifetime / 3).max(CRASH_PAUSE);
        let obtained = self.obtained.filter(|obtained| *obtained <= now.after(CLOCK_SLACK));
        let earliest = obtained.map_or(AT_ONCE, |obtained| obtained.after(pause));
        match self.window.filter(|window| window.drawn < validity.until) {
            // The authority can ask for one renewal at once. Between further ones is a pause, because they may be a loop.
            Some(window) if self.is_wanted => window.drawn.max(earliest),
            Some(window) => window.drawn,
            None => usual.max(earliest),
        }
    }

    /// When the pause after a failure ends. [`AT_ONCE`] without one.
    ///
    /// If the wall clock was ahead at the failure and has been set back, the pause begins when that is found. It does not
    /// last until the clock has reached the old time again. Nor is it shorter: a machine without a battery has an early
    /// time after each start.
    fn pause_end(&self, now: Timestamp) -> Timestamp {
        let Some(end) = self.next_attempt.filter(|_| self.failures > 0) else { return AT_ONCE };
        let begin = self.paused.unwrap_or(end.before(Failure::PAUSE_MAX));
        if begin <= now.after(CLOCK_SLACK) {
            return end;
        }
        self.set_back.unwrap_or(now).after(end.since(begin))
    }

    /// Finds out whether the wall clock has been set back to a time before the pause.
    pub(super) fn note_clock(&mut self, now: Timestamp) {
        let is_before = self.paused.is_some_and(|begin| begin > now.after(CLOCK_SLACK));
        let known = self.set_back.filter(|set_back| *set_back <= now);
        self.set_back = is_before.then(|| known.unwrap_or(now));
    }

    /// The state on the disk during an attempt: after a crash, the next attempt is a little later.
    pub(super) fn begun(&self, now: Timestamp) -> Self {
        let next = now.after(CRASH_PAUSE).max(self.pause_end(now));
        Self { failures: self.failures.max(1), paused: Some(now), next_attempt: Some(next), ..self.clone() }
    }

    /// Makes the certificate due for renewal until a renewal succeeds. The first attempt is at once, also after a failure.
    pub(super) const fn ask(&mut self) {
        self.is_asked = true;
        self.is_urgent = true;
    }

    /// Whether [`State::ask`] was called since the last attempt.
    pub(super) const fn is_urgent(&self) -> bool {
        self.is_urgent
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
        self.is_urgent = false;
        let earlier = if self.kind == Some(failure.kind) { self.failures } else { 0 };
        self.failures = earlier.saturating_add(1);
        self.kind = Some(failure.kind);
        self.failure = Some(NotedFailure { at: now, why: failure.why.clone() });
        // Up to a tenth longer, so that many registries do not return together.
        let pause = failure.pause(self.failures).mul_f64(1.0 + random.random::<f64>() / 10.0);
        let next = now.after(pause);
        (self.paused, self.next_attempt, self.set_back) = (Some(now), Some(next), None);
        next
    }

    pub(super) fn note_info(
        &mut self,
        info: Info,
        stored: &StoredCertificate,
        now: Timestamp,
        random: &mut impl rand::Rng,
    ) {
        // A renewal shortly before the end, or after it, would leave clients without a certificate if it failed.
        let validity = stored.validity;
        let latest = validity.until.before(validity.until.since(validity.from) / LAST_PART);
        let (window, again) = match info {
            Info::Unsupported => (None, INFO_INTERVAL_MAX),
            Info::Window { start, end, again } if start < end && start < latest => {
                let is_same = |window: &Window| (window.start, window.end) == (start, end) && window.drawn <= latest;
                let draw = || {
                    let drawn = random.random_range(start.micros()..=end.min(latest).micros());
                    Window { start, end, drawn: Timestamp::from_micros(drawn) }
                };
                (Some(self.window.filter(is_same).unwrap_or_else(draw)), again)
            }
            Info::Window { again, .. } => (None, again),
        };
        self.window = window;
        self.next_question = Some(now.after(again.clamp(INFO_INTERVAL_MIN, INFO_INTERVAL_MAX)));
    }

    /// Notes that the authority did not say when to renew. The last window stays in force.
    pub(super) fn note_no_answer(&mut self, now: Timestamp, retry_after: Option<Duration>) {
        self.next_question = Some(now.after(retry_after.unwrap_or_default().clamp(INFO_PAUSE, INFO_INTERVAL_MAX)));
    }
}

/// Identifies settings, without showing them.
fn digest(settings: &Settings) -> String {
    let mut hash = Sha256::new();
    let mut add = |name: &str, value: &[u8]| {
        for part in [name.as_bytes(), value] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    };
    add("directory", settings.directory.as_bytes());
    settings.domains.iter().for_each(|domain| add("domain", domain.as_bytes()));
    settings.challenges.iter().for_each(|challenge| add("challenge", challenge.word().as_bytes()));
    settings.email.iter().for_each(|email| add("email", email.as_bytes()));
    settings.ca.iter().for_each(|ca| add("ca", ca.as_os_str().as_encoded_bytes()));
    if let Some(account) = &settings.external_account {
        add("external account", account.id.as_bytes());
        add("external key", &account.key);
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::acme::tests::{DIRECTORY, settings};

    const DAY: Duration = Duration::from_hours(24);
    const HOUR: Duration = Duration::from_hours(1);

    fn day(number: u32) -> Timestamp {
        AT_ONCE.after(DAY * (19_000 + number))
    }

    /// A certificate of 90 days.
    fn stored() -> StoredCertificate {
        stored_for(DAY * 90)
    }

    fn stored_for(lifetime: Duration) -> StoredCertificate {
        let certificate = rustls::pki_types::CertificateDer::from(Vec::new());
        let validity = crate::kit::certificate::Validity { from: day(0), until: day(0).after(lifetime) };
        StoredCertificate { certificate, validity, covers: true }
    }

    fn obtained() -> State {
        let mut state = State::default().for_settings(&settings());
        state.note_success(DIRECTORY, Challenge::TlsAlpn01, day(0));
        state.note_info(Info::Unsupported, &stored(), day(60), &mut rand::rng());
        state
    }

    fn refused() -> Failure {
        Failure::new(Kind::Challenge, "it leads elsewhere")
    }

    /// The state as the next process reads it.
    fn read(state: &State) -> State {
        serde_json::from_str::<State>(&serde_json::to_string(state).unwrap()).unwrap().for_settings(&settings())
    }

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_lifetime() {
        let state = obtained();
        assert_eq!(state.renewal(&stored(), day(1)), day(60));
        assert_eq!(state.next(Some(&stored()), DIRECTORY, day(60)), (day(60), Task::Obtain));
        assert_eq!(state.next(None, DIRECTORY, day(1)), (AT_ONCE, Task::Obtain), "no certificate");
        let other = StoredCertificate { covers: false, ..stored() };
        assert_eq!(state.next(Some(&other), DIRECTORY, day(1)), (AT_ONCE, Task::Obtain), "it is for other names");
        let next = state.next(Some(&stored()), "https://other.example", day(1));
        assert_eq!(next, (AT_ONCE, Task::Obtain), "the certificate of another authority is replaced");
    }

    #[test]
    fn the_authority_may_want_a_renewal_earlier_but_not_in_a_loop() {
        let (mut state, random) = (obtained(), &mut rand::rng());
        let info = Info::Window { start: day(10), end: day(12), again: DAY };
        state.note_info(info, &stored(), day(3), random);
        let drawn = state.renewal(&stored(), day(3));
        assert!(drawn >= day(10) && drawn <= day(12));
        state.note_info(info, &stored(), day(4), random);
        assert_eq!(state.renewal(&stored(), day(4)), drawn, "the moment is drawn once");
        assert_eq!(state.next(Some(&stored()), DIRECTORY, day(4)), (day(5), Task::AskInfo));
        // A window in the past: at once, then at most once an hour.
        let past = Info::Window { start: day(1), end: day(2), again: DAY };
        state.note_info(past, &stored(), day(5), random);
        assert!(state.renewal(&stored(), day(5)) <= day(2));
        state.note_success(DIRECTORY, Challenge::TlsAlpn01, day(5));
        state.note_info(past, &stored(), day(5), random);
        assert_eq!(state.renewal(&stored(), day(5)), day(5).after(RENEWAL_INTERVAL_MIN));
        // A window after the end is a mistake.
        state.note_info(Info::Window { start: day(91), end: day(92), again: DAY }, &stored(), day(5), random);
        assert_eq!(state.renewal(&stored(), day(5)), day(60));
    }

    #[test]
    fn the_authority_cannot_delay_a_renewal_until_the_end() {
        let mut state = obtained();
        for start in [day(20), day(80), day(82), day(89)] {
            for _ in 0..50 {
                state.window = None;
                let info = Info::Window { start, end: day(90), again: DAY };
                state.note_info(info, &stored(), day(3), &mut rand::rng());
                assert!(state.renewal(&stored(), day(3)) <= day(81), "{state:?}");
            }
        }
    }

    #[test]
    fn a_failure_causes_a_pause_that_a_restart_does_not_shorten() {
        let mut state = obtained();
        let next = state.note_failure(&refused(), day(60), &mut rand::rng());
        let pause = next.since(day(60));
        assert!(pause >= Duration::from_mins(30) && pause <= Duration::from_mins(33), "{pause:?}");
        let read = read(&state);
        assert_eq!(read.next(None, DIRECTORY, day(60)), (next, Task::Obtain));
        assert_eq!(read.next(Some(&stored()), DIRECTORY, day(60)), (next, Task::Obtain));
        let begun = State::default().for_settings(&settings()).begun(day(60));
        let after_crash = (day(60).after(CRASH_PAUSE), Task::Obtain);
        assert_eq!(begun.next(None, DIRECTORY, day(60)), after_crash);
        // An operator may ask at once. A crash then causes a pause as well.
        let mut asked = read;
        asked.ask();
        assert_eq!(asked.next(Some(&stored()), DIRECTORY, day(60)), (AT_ONCE, Task::Obtain));
    }

    #[test]
    fn other_settings_have_not_failed_yet() {
        let mut state = obtained();
        state.note_failure(&refused(), day(60), &mut rand::rng());
        let key = |key: &str| crate::acme::ExternalAccount { id: "id".to_owned(), key: key.as_bytes().to_vec().into() };
        let with_key = Settings { external_account: Some(key("one")), ..settings() };
        let changes = [
            Settings { domains: vec!["other.example".to_owned()], ..settings() },
            Settings { email: Some("ops@registry.example".to_owned()), ..settings() },
            with_key.clone(),
        ];
        for changed in changes {
            let next = state.clone().for_settings(&changed).next(None, DIRECTORY, day(60));
            assert_eq!(next, (AT_ONCE, Task::Obtain));
        }
        let mut state = State::default().for_settings(&with_key);
        let next = state.note_failure(&refused(), day(60), &mut rand::rng());
        assert_eq!(state.clone().for_settings(&with_key).next(None, DIRECTORY, day(60)).0, next);
        let corrected = Settings { external_account: Some(key("two")), ..settings() };
        assert_eq!(state.for_settings(&corrected).next(None, DIRECTORY, day(60)).0, AT_ONCE);
    }

    #[test]
    fn a_renewal_that_was_asked_for_is_tried_until_it_succeeds() {
        let (mut state, now) = (obtained(), day(3));
        state.ask();
        // The registry stops during the attempt.
        let crashed = read(&state.begun(now));
        assert_eq!(crashed.next(Some(&stored()), DIRECTORY, now), (now.after(CRASH_PAUSE), Task::Obtain));
        let next = state.note_failure(&Failure::new(Kind::Away, "away"), now, &mut rand::rng());
        assert_eq!(read(&state).next(Some(&stored()), DIRECTORY, now), (next, Task::Obtain));
        assert_eq!(state.attempt(Some(&stored()), DIRECTORY, now), next);
        state.note_success(DIRECTORY, Challenge::TlsAlpn01, next);
        assert_eq!(state.attempt(Some(&stored()), DIRECTORY, next), day(60));
    }

    #[test]
    fn the_authority_is_asked_after_a_failure_if_no_renewal_is_due() {
        let mut state = obtained();
        let next = state.note_failure(&Failure::new(Kind::Away, "away"), day(1), &mut rand::rng());
        state.next_question = None;
        // The certificate has been replaced by hand, for example.
        assert_eq!(state.next(Some(&stored()), DIRECTORY, day(1)), (next, Task::AskInfo));
        assert_eq!(state.attempt(Some(&stored()), DIRECTORY, day(1)), day(60));
    }

    #[test]
    fn a_clock_that_was_ahead_does_not_block_renewals() {
        let (mut state, ahead, now) = (obtained(), day(4000), day(60));
        let length = state.note_failure(&refused(), ahead, &mut rand::rng()).since(ahead);
        state.next_question = Some(ahead);
        let mut state = read(&state);
        // The pause lasts as long as it would have, from when the clock is found to be set back.
        for later in [Duration::ZERO, Duration::from_mins(1), length] {
            state.note_clock(now.after(later));
            let next = state.next(Some(&stored()), DIRECTORY, now.after(later));
            assert_eq!(next, (now.after(length), Task::Obtain));
        }
        // A machine without a battery starts in 1970. When it has the time, the whole pause is still in force.
        state.note_clock(AT_ONCE.after(HOUR));
        state.note_clock(ahead);
        assert_eq!(state.next(None, DIRECTORY, ahead).0, ahead.after(length));

        let mut state = obtained();
        state.note_success(DIRECTORY, Challenge::TlsAlpn01, ahead);
        state.next_question = Some(ahead);
        assert_eq!(state.renewal(&stored(), now), day(60));
        assert_eq!(state.next(Some(&stored()), DIRECTORY, day(1)), (AT_ONCE, Task::AskInfo));
    }

    #[test]
    fn pauses_grow_with_failures_of_the_same_kind() {
        let (mut state, random) = (obtained(), &mut rand::rng());
        let mut minutes = |failure: &Failure| state.note_failure(failure, day(1), random).since(day(1)).as_secs() / 66;
        let away = Failure::new(Kind::Away, "away");
        let pauses = [&away, &away, &away, &away, &away].map(&mut minutes);
        assert!(pauses[4] >= 14, "{pauses:?}");
        let pauses = [refused(), refused(), away].map(|failure| minutes(&failure));
        assert!((27..=30).contains(&pauses[0]) && (54..=60).contains(&pauses[1]) && pauses[2] <= 1, "{pauses:?}");
    }

    #[test]
    fn the_authority_is_not_asked_before_the_time_it_names() {
        let mut state = obtained();
        for (pause, next) in [(None, HOUR), (Some(HOUR * 3), HOUR * 3), (Some(DAY * 7), INFO_INTERVAL_MAX)] {
            state.note_no_answer(day(1), pause);
            assert_eq!(state.next(Some(&stored()), DIRECTORY, day(1)), (day(1).after(next), Task::AskInfo));
        }
    }

    #[test]
    fn a_certificate_that_is_old_when_it_arrives_causes_no_loop() {
        let mut state = State::default();
        let now = day(2).after(DAY / 2);
        state.note_success(DIRECTORY, Challenge::Http01, now);
        assert_eq!(state.renewal(&stored_for(DAY * 3), now), now.after(RENEWAL_INTERVAL_MIN));
        state.note_success(DIRECTORY, Challenge::Http01, day(0));
        for seconds in [0, 1, 30] {
            let short = stored_for(Duration::from_secs(seconds));
            assert_eq!(state.renewal(&short, day(0)), day(0).after(CRASH_PAUSE), "{seconds} s");
        }
    }
}
