//! Manifests of mirrored repositories: when a stored one is used, compared or fetched.
//!
//! Invariants: a stored digest is never compared. Requests for one reference wait for each other, so the upstream gets one. A
//! pushed tag is neither compared nor replaced. Knows no schedule.

use std::time::{Duration, Instant};

use super::client::Login;
use super::signed::follows_image;
use super::upstream::{FETCH, Fetched, Upstream};
use super::{Error, Mirror};
use crate::content::repository::{Held, Repository, Version};
use crate::oci::{Reference, RepositoryName};

/// How long it is remembered that an upstream does not provide a manifest.
const REFUSED: Duration = Duration::from_secs(10);

/// Whether what is stored under a reference is up to date.
#[derive(Debug)]
pub(crate) enum Freshness {
    /// The repository mirrors nothing under this reference.
    Local,
    Current,
    /// The stored content may be outdated, because the upstream could not be asked, or has content that is not mirrored.
    Stale(Error),
}

/// The state of a reference at its upstream.
#[derive(Debug, Default)]
pub(super) struct Check {
    /// The stored content is used without a comparison until then.
    pub(super) current_until: Option<Instant>,
    /// The upstream does not have it until then, or has it in a form that is not mirrored.
    pub(super) refused: Option<(Instant, Error)>,
    /// A comparison is not repeated until then, because it failed for a reason that stays.
    stale: Option<(Instant, Error)>,
    /// When the upstream last failed to provide it, and why. `None` if it has provided it since.
    pub(super) failed: Option<(Instant, Error)>,
    /// The stored content, in this version of the database.
    held: Option<(Version, Held)>,
}

impl Check {
    /// Until when the upstream is not asked again for what it refused.
    pub(super) fn refused_until(&self) -> Option<Instant> {
        self.refused.as_ref().map(|(until, _)| *until)
    }

    /// Notes that the stored content is that of the upstream.
    fn succeed(&mut self, until: Instant) {
        self.current_until = Some(until);
        (self.stale, self.failed) = (None, None);
    }

    /// Notes that the upstream does not provide the content. `login` are the credentials of the client: the upstream
    /// may let others pull.
    fn fail(&mut self, error: &Error, login: Option<&Login>) {
        if login.is_none() || !error.is_refusal() {
            self.failed = Some((Instant::now(), error.clone()));
        }
    }

    /// The stored content. Reads it again only if the database has changed.
    fn held(&mut self, repository: &Repository, reference: &Reference) -> Result<Held, Error> {
        // Taken before the read, so that a later change invalidates the entry.
        let version = repository.version();
        if let (Some(version), Some((known, held))) = (version, self.held)
            && version == known
        {
            return Ok(held);
        }
        let held = repository.held(reference)?;
        self.held = version.map(|version| (version, held));
        Ok(held)
    }
}

impl Mirror {
    /// Notes that a tag was compared with its upstream a moment ago.
    pub(super) fn note_current(&self, upstream: &Upstream, name: &RepositoryName, reference: &Reference) {
        let check = Self::check(&self.checks, (name.clone(), reference.clone()));
        if let Ok(mut check) = check.try_lock() {
            check.succeed(Instant::now() + upstream.check_interval);
        }
    }

    /// Makes sure that the repository has the manifest of a reference, and that it is up to date. `login` are the
    /// credentials of the client for the upstream.
    pub(crate) async fn manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
        login: Option<&Login>,
    ) -> Result<Freshness, Error> {
        let found = match reference {
            Reference::Digest(digest) => self.find_part(name, *digest)?,
            Reference::Tag(_) => self.find(name),
        };
        let Some((upstream, remote)) = found else { return Ok(Freshness::Local) };
        let upstream = self.passing.upstream(upstream, login);
        let destination = self.destination(&upstream, name);
        let repository = &destination.repository;
        let check = Self::check(&self.checks, (name.clone(), reference.clone()));
        // Others that want the same reference wait here.
        let mut check = check.lock().await;
        let now = Instant::now();
        let held = match check.held(repository, reference)? {
            Held::Pushed => return Ok(Freshness::Local),
            Held::Mirrored(digest) => {
                repository.note_use(digest);
                upstream.counters.hits.inc();
                Some(digest)
            }
            Held::Nothing => None,
        };
        let Some(held) = held else {
            upstream.counters.misses.inc();
            if let Some((until, error)) = &check.refused
                && *until > now
                && !may_come_now(repository, reference, error)?
            {
                return Err(error.clone());
            }
            let fetched = match upstream.fetch_permitted(repository, &remote, name, reference).await {
                Ok(fetched) => fetched,
                Err(error) => {
                    check.fail(&error, login);
                    if matches!(error, Error::NotFound | Error::Unsigned { .. }) {
                        check.refused = Some((now + REFUSED, error.clone()));
                    }
                    return Err(error);
                }
            };
            destination.store(reference, fetched).await?;
            check.succeed(now + upstream.check_interval);
            return Ok(Freshness::Current);
        };
        let Reference::Tag(tag) = reference else { return Ok(Freshness::Current) };
        if check.current_until.is_some_and(|until| until > now) {
            return Ok(Freshness::Current);
        }
        let rule = upstream.rule_of(name).map(|(rule, _)| rule);
        let is_mirrored = rule.is_some_and(|rule| rule.permits(tag)) || follows_image(repository, tag)?;
        if !is_mirrored || rule.is_some_and(|rule| rule.is_immutable(tag)) {
            return Ok(Freshness::Current);
        }
        if let Some((until, error)) = &check.stale
            && *until > now
        {
            upstream.counters.stale.inc();
            return Ok(Freshness::Stale(error.clone()));
        }
        let refreshed = async {
            if let Some(fetched) = upstream.refresh(&remote, reference, held).await? {
                upstream.check_signed(repository, &remote, reference, &fetched).await?;
                destination.store(reference, fetched).await?;
            }
            Ok(())
        };
        match refreshed.await {
            Ok(()) => {
                check.succeed(now + upstream.check_interval);
                Ok(Freshness::Current)
            }
            Err(error @ (Error::Store(_) | Error::Task(_))) => Err(error),
            Err(error) => {
                upstream.counters.stale.inc();
                check.fail(&error, login);
                // The upstream may let others pull.
                let is_of_client = login.is_some() && error.is_refusal();
                check.stale =
                    upstream.stale_for(&error).filter(|_| !is_of_client).map(|time| (now + time, error.clone()));
                Ok(Freshness::Stale(error))
            }
        }
    }
}

impl Upstream {
    /// How long a failed comparison is not repeated. `None` for a failure of the upstream itself, which the client leaves
    /// alone ([`super::client`]).
    fn stale_for(&self, error: &Error) -> Option<Duration> {
        match error {
            Error::Unsigned { .. } => Some(self.check_interval.max(REFUSED)),
            error if error.is_refusal() => Some(self.check_interval.max(REFUSED)),
            // The page of a hotel's network is there for a moment.
            Error::Upstream(error) if error.is_invalid() => Some(REFUSED),
            _ => None,
        }
    }

    /// Fetches a manifest, if the rules permit it.
    async fn fetch_permitted(
        &self,
        repository: &Repository,
        remote: &RepositoryName,
        local: &RepositoryName,
        reference: &Reference,
    ) -> Result<Fetched, Error> {
        if let Reference::Tag(tag) = reference
            && !self.rule_of(local).is_some_and(|(rule, _)| rule.permits(tag))
            && !follows_image(repository, tag)?
        {
            return Err(Error::Excluded { tag: tag.clone() });
        }
        let fetched = self.fetch(remote, reference, FETCH).await?;
        self.check_signed(repository, remote, reference, &fetched).await?;
        Ok(fetched)
    }
}

/// Whether a reference that was refused may be permitted now, because the image or index that it belongs to is stored.
fn may_come_now(repository: &Repository, reference: &Reference, refusal: &Error) -> Result<bool, Error> {
    match reference {
        Reference::Digest(digest) => Ok(repository.blob_state(*digest)?.is_listed),
        Reference::Tag(tag) => Ok(matches!(refusal, Error::Unsigned { .. }) && follows_image(repository, tag)?),
    }
}
