//! [`Run`]: one run of synchronisation. Finds the repositories and tags, and fetches several images at a time.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::image::{Image, Outcome};
use super::{
    ATTEMPTS, EFFORT, HASTY_ATTEMPTS, HASTY_EFFORT, IMAGES, Ownership, PAUSE, PAUSE_MAX, Patience, QUOTA_FLOOR,
    QUOTA_PAUSE, QUOTA_WAITS, SyncReport, SyncScope,
};
use crate::mirror::client::{self, Allowance, Catalog, Client, Effort, Presented};
use crate::mirror::{Attempts, Error, Mirror, NameRule, Upstream, is_hub};
use crate::oci::{Digest, Reference, RepositoryName, Tag};

/// A run ends after this many items in a row for which the upstream failed.
const FAILED_IN_ROW_MAX: u32 = 10;

pub(super) struct Run<'a> {
    pub(super) mirror: &'a Mirror,
    pub(super) upstream: &'a Upstream,
    /// Whether nothing is fetched.
    pub(super) only_reports: bool,
    patience: Patience,
    /// Whether the upstream has responded.
    has_begun: AtomicBool,
    /// The items in a row for which the upstream failed.
    failed_in_row: AtomicU32,
}

/// A repository of the run.
#[derive(Clone, Debug)]
struct Place<'a> {
    local: RepositoryName,
    remote: RepositoryName,
    rule: &'a NameRule,
}

impl<'a> Run<'a> {
    pub(super) fn new(mirror: &'a Mirror, upstream: &'a Upstream, patience: Patience, dry_run: bool) -> Self {
        upstream.sync.update(|running| running.is_dry_run = dry_run);
        Self {
            mirror,
            upstream,
            only_reports: dry_run,
            patience,
            has_begun: AtomicBool::new(false),
            failed_in_row: AtomicU32::new(0),
        }
    }

    /// Whether a person waits for an upstream that has not responded yet.
    fn is_hasty(&self) -> bool {
        self.patience == Patience::Command && !self.has_begun.load(Ordering::Relaxed)
    }

    /// The effort for a request.
    pub(super) fn effort(&self) -> Effort {
        if self.is_hasty() { HASTY_EFFORT } else { EFFORT }
    }

    /// The requests that the upstream allows, if these are left for clients.
    fn left_for_clients(&self) -> Option<Allowance> {
        self.upstream.allowance().filter(|allowance| allowance.is_below(QUOTA_FLOOR))
    }

    /// Waits for a limit of the upstream that begins again soon, if only the requests that are left for clients remain.
    pub(super) async fn wait_for_limit(&self) {
        for _ in 0..QUOTA_WAITS {
            let Some((again, left)) = self.left_for_clients().and_then(|few| Some((few.begins_again?, few.left)))
            else {
                return;
            };
            let why = format!("{} allows only {left} more requests now", self.upstream.label());
            self.pause(why, again.saturating_duration_since(Instant::now()) + QUOTA_PAUSE).await;
        }
    }

    /// Waits for a limit that begins again soon. Ends the run, and returns false, if too few requests are left.
    pub(super) async fn has_allowance(&self) -> bool {
        self.wait_for_limit().await;
        let Some(Allowance { left, .. }) = self.left_for_clients() else { return true };
        self.stop(format!("{} allows only {left} more requests, which are left for clients", self.upstream.label()));
        false
    }

    /// Waits, and shows why.
    async fn pause(&self, why: String, pause: Duration) {
        let until = Instant::now() + pause;
        self.upstream.sync.update(|running| running.waits = Some((until, why)));
        sleep(pause).await;
        self.upstream.sync.update(|running| running.waits = running.waits.take().filter(|(at, _)| *at > until));
    }

    /// The owner of the content that it fetches.
    pub(super) fn ownership(&self) -> Ownership {
        self.upstream.sync_rules.ownership
    }

    /// The result so far.
    pub(super) fn report(&self) -> SyncReport {
        self.upstream.sync.running().map(|running| running.report).unwrap_or_default()
    }

    /// Counts an item for which the upstream did not fail.
    fn succeed(&self, change: impl FnOnce(&mut SyncReport)) {
        self.failed_in_row.store(0, Ordering::Relaxed);
        self.count(change);
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut SyncReport)) {
        self.upstream.sync.update(|running| change(&mut running.report));
    }

    /// Ends the run. The first reason is reported.
    pub(super) fn stop(&self, why: String) {
        self.count(|report| {
            report.stopped.get_or_insert(why);
        });
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.report_is(|report| report.stopped.is_some())
    }

    fn report_is(&self, check: impl FnOnce(&SyncReport) -> bool) -> bool {
        self.upstream.sync.running.lock().as_ref().is_some_and(|running| check(&running.report))
    }

    pub(super) async fn run(&self, scope: &SyncScope) {
        let places = self.places(scope).await;
        self.upstream.sync.update(|running| running.repositories = places.len() as u64);
        for place in places {
            if self.is_stopped() {
                return;
            }
            self.repository(&place, scope).await;
            self.count(|report| report.repositories += 1);
        }
        if self.upstream.is_taken_over() && !self.only_reports && *scope == SyncScope::All {
            self.copies().await;
        }
    }

    /// Makes mirrored copies without a tag content of this registry.
    async fn copies(&self) {
        let copies = match self.mirror.copies(self.upstream) {
            Ok(copies) => copies,
            Err(error) => return self.stop(error.to_string()),
        };
        for (local, digests) in copies {
            let Some((rule, remote)) = self.upstream.rule_of(&local) else { continue };
            let image = Image {
                run: self,
                destination: self.mirror.destination(self.upstream, &local),
                local: &local,
                remote: &remote,
                platforms: rule.platforms(),
                listed: &BTreeSet::new(),
            };
            for digest in digests {
                if self.is_stopped() {
                    return;
                }
                if let Err(error) = self.patiently(|| image.make_own(digest)).await {
                    if matches!(error, Error::Stopped) {
                        return self.stop(error.to_string());
                    }
                    self.fail(format!("{local}@{digest}: {error}"), &error).await;
                }
            }
        }
    }

    /// The repositories in the scope.
    async fn places(&self, scope: &SyncScope) -> Vec<Place<'a>> {
        let place = |local: RepositoryName| {
            let (rule, remote) = self.upstream.rule_of(&local)?;
            Some(Place { local, remote, rule })
        };
        if let SyncScope::Repository(local) | SyncScope::Tag(local, _) = scope {
            return place(local.clone()).into_iter().collect();
        }
        if !self.upstream.sync_rules.covers_everything() {
            return match self.mirror.stores.mirrored_repositories() {
                Ok(names) => names.into_iter().filter_map(place).collect(),
                Err(error) => {
                    self.stop(error.to_string());
                    Vec::new()
                }
            };
        }
        let mut places = Vec::new();
        let mut listed: Option<Vec<RepositoryName>> = None;
        for rule in &self.upstream.rules {
            let remotes = if let Some(names) = rule.fixed_names() {
                names
            } else {
                let names = match listed.take() {
                    Some(names) => names,
                    None => self.catalog().await,
                };
                let matching: Vec<_> = names.iter().filter(|name| rule.local(name).is_some()).cloned().collect();
                listed = Some(names);
                // Without a list, the run ends for another reason.
                if matching.is_empty() && !self.is_stopped() {
                    let (pattern, host) = (rule.pattern(), self.upstream.label());
                    let why = format!("{pattern}: no repository of {host} matches this pattern");
                    // A scheduled run does not fail, because the repository may be created later.
                    let is_awaited = self.patience == Patience::Schedule && self.ownership() == Ownership::Mirrored;
                    self.count(|report| if is_awaited { report.note(why) } else { report.fail(why) });
                }
                matching
            };
            for remote in remotes {
                if let Some(local) = rule.local(&remote) {
                    places.push(Place { local, remote, rule });
                }
            }
        }
        // The first rule that names a repository counts.
        let mut seen = BTreeSet::new();
        places.retain(|place| seen.insert(place.local.clone()));
        places
    }

    /// The repositories of the upstream. Some registries, such as Docker Hub and GitHub, do not list them.
    async fn catalog(&self) -> Vec<RepositoryName> {
        let mut failure = None;
        for client in &self.upstream.clients {
            match self.patiently(|| async { Ok(client.repositories(self.effort()).await?) }).await {
                Ok(Some(Catalog { names, is_public })) => {
                    if is_public {
                        self.count(|report| report.note(self.upstream.advice.about_public_list()));
                    }
                    return names;
                }
                Ok(None) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let host = self.upstream.label();
        let why = match failure {
            None => "it has no such list".to_owned(),
            Some(error) if lacks_list(&error, is_hub(host)) => error.to_string(),
            Some(error) => {
                self.advise(&error);
                self.stop(error.to_string());
                return Vec::new();
            }
        };
        self.stop(format!("{host} does not list its repositories ({why}): name them without wildcards, one by one"));
        Vec::new()
    }

    /// Brings the tags of a repository up to date.
    async fn repository(&self, place: &Place<'_>, scope: &SyncScope) {
        let is_single = matches!(scope, SyncScope::Tag(..));
        let listed = match self.tags(place).await {
            Ok(Some(tags)) => tags,
            // A single tag is fetched also from a registry that does not list its tags. Its signatures are not known then.
            Ok(None) if is_single => BTreeSet::new(),
            Err(error @ Error::Upstream(_)) if is_single && !is_down(&error) => BTreeSet::new(),
            // docker's registry lists repositories whose tags were all deleted.
            Ok(None) if self.ownership() != Ownership::Mirrored && place.rule.fixed_names().is_none() => return,
            Ok(None) => {
                self.count(|report| {
                    report.fail(format!("{}: the upstream does not have {}", place.local, place.remote));
                });
                return;
            }
            Err(error @ Error::Stopped) => return self.stop(error.to_string()),
            Err(error) => {
                self.fail(format!("{}: cannot list the tags: {error}", place.local), &error).await;
                return;
            }
        };
        let wanted: VecDeque<Tag> = match scope {
            SyncScope::Tag(_, tag) => [tag.clone()].into(),
            _ if !self.upstream.sync_rules.covers_everything() => {
                match self.mirror.stores.repository(&place.local).mirrored_tags() {
                    Ok(tags) => tags.into_iter().filter(|tag| listed.contains(tag)).collect(),
                    Err(error) => return self.stop(error.to_string()),
                }
            }
            // Signatures come with their images.
            _ => listed.iter().filter(|tag| tag.companion_of().is_none() && place.rule.permits(tag)).cloned().collect(),
        };
        self.upstream.sync.update(|running| running.tags += wanted.len() as u64);
        let queue = Mutex::new(wanted);
        let image = Image {
            run: self,
            destination: self.mirror.destination(self.upstream, &place.local),
            local: &place.local,
            remote: &place.remote,
            platforms: place.rule.platforms(),
            listed: &listed,
        };
        let worker = || async {
            loop {
                let tag = queue.lock().pop_front();
                let Some(tag) = tag.filter(|_| !self.is_stopped()) else { return };
                self.tag(&image, &tag, is_single).await;
            }
        };
        const { assert!(IMAGES == 3, "the number of workers") };
        tokio::join!(worker(), worker(), worker());
    }

    /// Brings a tag up to date, and counts the result.
    async fn tag(&self, image: &Image<'_>, tag: &Tag, is_single: bool) {
        let name = format!("{}:{tag}", image.local);
        self.upstream.sync.update(|running| running.current.clone_from(&name));
        let limit = self.upstream.sync_rules.timeout;
        let done = timeout(limit, self.patiently(|| image.synchronise(tag))).await;
        self.count(|report| report.tags += 1);
        match done {
            Ok(Ok(outcome)) => self.succeed(|report| match outcome {
                Outcome::Unchanged => report.unchanged += 1,
                Outcome::Fetched => report.fetched += 1,
                Outcome::WouldFetch => report.would_fetch(name),
                Outcome::Pushed => report.keep(name),
                Outcome::Unsigned => report.unsigned += 1,
                Outcome::Missing if is_single || self.ownership() != Ownership::Mirrored => {
                    report.fail(format!("{name}: the upstream does not have it"));
                }
                Outcome::Missing => report.missing += 1,
                Outcome::Stopped => report.tags -= 1,
            }),
            // The run ends, which says nothing about the tag.
            Ok(Err(error @ Error::Stopped)) => {
                self.count(|report| report.tags -= 1);
                self.stop(error.to_string());
            }
            Ok(Err(error)) => {
                tracing::warn!(%name, %error, "could not synchronise a tag");
                self.fail(format!("{name}: {error}"), &error).await;
            }
            Err(_) => self.count(|report| {
                report.fail(format!("{name}: not complete after {} s (syncTimeout)", limit.as_secs()));
            }),
        }
    }

    /// Counts a failure. Ends the run if the whole upstream has failed, so that not every tag waits for it.
    async fn fail(&self, failure: String, error: &Error) {
        self.count(|report| report.fail(failure));
        self.advise(error);
        if is_down(error) && !self.has_failed_alone(error).await {
            self.stop(error.to_string());
        }
    }

    /// Counts a failed item. Returns whether the upstream fails for this one only, such as a damaged manifest, and works
    /// otherwise.
    async fn has_failed_alone(&self, error: &Error) -> bool {
        let is_status = matches!(error, Error::Upstream(error) if error.has_server_status());
        if !is_status || self.failed_in_row.fetch_add(1, Ordering::Relaxed) >= FAILED_IN_ROW_MAX {
            return false;
        }
        for client in &self.upstream.clients {
            if client.responds(self.effort()).await {
                return true;
            }
        }
        false
    }

    /// Notes the next step after an error.
    fn advise(&self, error: &Error) {
        if let Some(advice) = self.upstream.advice.about(error) {
            self.count(|report| report.note(advice.to_owned()));
        }
    }

    async fn tags(&self, place: &Place<'_>) -> Result<Option<BTreeSet<Tag>>, Error> {
        let mut attempts = Attempts::default();
        for client in &self.upstream.clients {
            let listing = self.patiently(|| async { Ok(client.tags(&place.remote, self.effort()).await?) }).await;
            match listing {
                Ok(Some(tags)) => return Ok(Some(tags.into_iter().collect())),
                Ok(None) | Err(Error::NotFound) => {}
                Err(Error::Upstream(error)) => {
                    attempts.note::<()>(Err(error));
                }
                Err(error) => return Err(error),
            }
        }
        attempts.nothing().map(|()| None)
    }

    /// The state of a tag at the upstream, by HEAD. `None` if no client has it, according to HEAD.
    pub(super) async fn state(
        &self,
        remote: &RepositoryName,
        reference: &Reference,
        known: Option<Digest>,
    ) -> Result<Option<client::ManifestState>, Error> {
        let effort = self.effort();
        let ask = |client: Client| async move { client.manifest_state(remote, reference, known, effort).await };
        self.upstream.first(ask).await
    }

    /// Tries again while the upstream fails for a reason that may pass.
    async fn patiently<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (mut tried, mut limited) = (1, 0);
        loop {
            self.wait_for_limit().await;
            let done = attempt().await;
            let is_unreachable = matches!(&done, Err(Error::Upstream(error)) if error.is_unreachable());
            if !is_unreachable {
                self.has_begun.store(true, Ordering::Relaxed);
            }
            let attempts = match &done {
                // It has taken seconds already.
                Err(Error::Upstream(error)) if self.is_hasty() && error.is_timeout() => 1,
                Err(Error::Upstream(error)) if self.is_hasty() && error.is_unreachable() => HASTY_ATTEMPTS,
                _ => ATTEMPTS,
            };
            match done {
                Err(error) if error.is_transient() && tried < attempts && !self.is_stopped() => {
                    let usual = PAUSE.saturating_mul(1 << (tried - 1));
                    let pause = match &error {
                        Error::Upstream(client::Error::BackedOff { left, .. }) => *left + PAUSE / 10,
                        Error::Upstream(error) => error.retry_after().unwrap_or(usual),
                        _ => usual,
                    };
                    // A limit that begins again soon is no failure.
                    let is_limited = matches!(&error, Error::Upstream(error) if error.is_limited_shortly());
                    if is_limited && limited < QUOTA_WAITS {
                        limited += 1;
                    } else {
                        tried += 1;
                    }
                    let pause = if self.is_hasty() { pause.min(PAUSE) } else { pause.min(PAUSE_MAX) };
                    self.pause(error.to_string(), pause).await;
                }
                done => return done,
            }
        }
    }
}

/// Whether the whole upstream has failed.
fn is_down(error: &Error) -> bool {
    match error {
        Error::Upstream(error) => error.is_of_host() || matches!(error, client::Error::BackedOff { .. }),
        Error::Stopped => true,
        _ => false,
    }
}

/// Whether an upstream has no list of its repositories, or none for credentials that it accepts. Docker Hub refuses its
/// list as if other credentials would help.
fn lacks_list(error: &Error, is_hub: bool) -> bool {
    let Error::Upstream(error) = error else { return false };
    match error {
        client::Error::Unauthorized { presented, .. } => match presented {
            Presented::Nothing => is_hub,
            Presented::Credentials => false,
            Presented::Token => true,
        },
        client::Error::Denied { presented, .. } => is_hub || *presented != Presented::Nothing,
        error => error.is_method(),
    }
}
