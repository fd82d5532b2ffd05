//! [`Image`]: the content of one tag, fetched before the tag moves.
//!
//! Invariants: a tag moves when everything that it needs is stored. A pushed tag stays. Knows no other tag of the run.

use std::collections::BTreeSet;

use super::Ownership;
use super::run::Run;
use crate::content::repository::{self, Expected, Held, ManifestTarget, PutManifest};
use crate::mirror::client::{FetchedManifest, ManifestState};
use crate::mirror::destination::Destination;
use crate::mirror::platforms::Platforms;
use crate::mirror::{BlobSource, Error, Fetched, REFERRERS_MAX};
use crate::oci::{Digest, Manifest, Reference, RepositoryName, Tag};

/// The deepest nesting of indexes and referrers.
const DEPTH_MAX: usize = 4;

/// The tags of one repository.
pub(super) struct Image<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) destination: Destination,
    pub(super) local: &'a RepositoryName,
    pub(super) remote: &'a RepositoryName,
    pub(super) platforms: &'a Platforms,
    /// The tags that the upstream lists.
    pub(super) listed: &'a BTreeSet<Tag>,
}

/// The result for a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Unchanged,
    Fetched,
    WouldFetch,
    /// A client pushed the tag here.
    Pushed,
    Unsigned,
    /// The upstream does not have it.
    Missing,
    /// The run ends.
    Stopped,
}

impl Image<'_> {
    /// Brings a tag up to date, with its signatures.
    pub(super) async fn synchronise(&self, tag: &Tag) -> Result<Outcome, Error> {
        let (outcome, digest) = self.bring(tag, tag.companion_of().is_some()).await?;
        let Some(digest) = digest else { return Ok(outcome) };
        let mut has_more = false;
        if self.run.upstream.sync_rules.signature_tags {
            for part in self.parts(digest)? {
                for signature in Tag::companions(part).filter(|tag| self.listed.contains(tag)) {
                    let (signature, _) = self.bring(&signature, true).await?;
                    has_more |= matches!(signature, Outcome::Fetched | Outcome::WouldFetch);
                }
            }
        }
        let state = &self.run.upstream.sync;
        if !self.run.only_reports && (outcome == Outcome::Fetched || state.is_listing_due(self.local, digest)) {
            has_more |= self.referrers(digest).await?;
            state.listed(self.local, digest);
        }
        Ok(match outcome {
            Outcome::Unchanged if has_more && self.run.only_reports => Outcome::WouldFetch,
            Outcome::Unchanged if has_more => Outcome::Fetched,
            outcome => outcome,
        })
    }

    /// Brings a tag up to date. Returns its manifest, if the run has to do with it. `is_companion` says whether the tag belongs
    /// to an image, as a signature does.
    async fn bring(&self, tag: &Tag, is_companion: bool) -> Result<(Outcome, Option<Digest>), Error> {
        let only_signed = self.run.upstream.sync_rules.only_signed && !is_companion;
        let reference = Reference::Tag(tag.clone());
        let held = self.destination.repository.held(&reference)?;
        let known = match held {
            Held::Pushed if self.run.ownership() == Ownership::Mirrored => return Ok((Outcome::Pushed, None)),
            Held::Pushed => self.destination.repository.tag_target(tag)?,
            Held::Mirrored(digest) => Some(digest),
            Held::Nothing => None,
        };
        // The manifest at the upstream, if it must not replace the one that a client pushed here.
        let is_kept = |digest: Digest| {
            let overwrites = self.run.ownership() == Ownership::Own { overwrite: true };
            held == Held::Pushed && known != Some(digest) && !overwrites
        };
        let state = self.run.state(self.remote, &reference, known).await?;
        let digest = match state {
            Some(ManifestState::Unchanged) => known,
            Some(ManifestState::Changed(digest)) => digest,
            // Some registries answer 404 to HEAD although they have the manifest.
            None => None,
        };
        if digest.is_some_and(is_kept) {
            return Ok((Outcome::Pushed, None));
        }
        if let Some(digest) = digest.filter(|digest| known == Some(*digest)) {
            self.run.mirror.note_current(self.run.upstream, self.local, &reference);
            let is_complete = self.is_complete(digest, 0)?;
            if is_complete && (held == Held::Pushed || self.run.ownership() == Ownership::Mirrored) {
                return Ok((Outcome::Unchanged, Some(digest)));
            }
            if self.run.only_reports {
                return Ok((Outcome::WouldFetch, Some(digest)));
            }
            self.complete(digest, 0).await?;
            return Ok((self.own(digest, Some(tag), known).await?, Some(digest)));
        }
        if self.run.only_reports {
            if let (true, Some(digest)) = (only_signed, digest)
                && !self.is_signed(digest).await?
            {
                return Ok((Outcome::Unsigned, None));
            }
            let is_there = state.is_some();
            return Ok((if is_there { Outcome::WouldFetch } else { Outcome::Missing }, None));
        }
        // It may be stored under another tag.
        let stored = match digest {
            Some(digest) => self.stored(digest)?,
            None => None,
        };
        let fetched = match stored {
            Some(stored) => stored,
            None => match self.fetch(&reference).await {
                Ok(Some(fetched)) => fetched,
                Ok(None) => return Ok((Outcome::Stopped, None)),
                Err(Error::NotFound) => return Ok((Outcome::Missing, None)),
                Err(error) => return Err(error),
            },
        };
        let digest = fetched.manifest.digest;
        if is_kept(digest) {
            return Ok((Outcome::Pushed, None));
        }
        let is_left_out =
            if is_companion { !self.takes_companion(&fetched) } else { only_signed && !self.is_signed(digest).await? };
        if is_left_out {
            return Ok((Outcome::Unsigned, None));
        }
        self.put(&fetched).await?;
        self.complete(digest, 0).await?;
        let outcome = if self.run.ownership() == Ownership::Mirrored {
            self.destination.store(&reference, fetched).await?;
            Outcome::Fetched
        } else {
            self.own(digest, Some(tag), known).await?
        };
        self.run.mirror.note_current(self.run.upstream, self.local, &reference);
        Ok((outcome, Some(digest)))
    }

    /// Completes a mirrored manifest, and makes it content of this registry.
    pub(super) async fn make_own(&self, digest: Digest) -> Result<(), Error> {
        // It may have been deleted or pushed since it was listed.
        if matches!(self.destination.repository.held(&Reference::Digest(digest))?, Held::Mirrored(_)) {
            self.complete(digest, 0).await?;
            self.own(digest, None, None).await?;
        }
        Ok(())
    }

    /// Makes a complete manifest content of this registry, with those that it lists, and sets the tag. The tag may point at
    /// `known` now. Does nothing for content that stays a mirrored copy.
    async fn own(&self, digest: Digest, tag: Option<&Tag>, known: Option<Digest>) -> Result<Outcome, Error> {
        let Ownership::Own { overwrite } = self.run.ownership() else { return Ok(Outcome::Fetched) };
        let Some(stored) = self.stored(digest)? else { return Err(Error::NotFound) };
        // Several tags may point at it.
        let is_new = self.destination.repository.held(&Reference::Digest(digest))? != Held::Pushed;
        for child in stored.read().iter().flat_map(Manifest::manifests).filter(|child| child.is_manifest) {
            if matches!(self.destination.repository.held(&Reference::Digest(child.digest))?, Held::Mirrored(_)) {
                Box::pin(self.own(child.digest, None, None)).await?;
            }
        }
        let expected = tag.filter(|_| !overwrite).map(|_| match known {
            Some(known) => Expected::OneOf(vec![known, digest]),
            None => Expected::Absent,
        });
        let target = ManifestTarget::Digest { digest, tags: tag.cloned().into_iter().collect() };
        let FetchedManifest { media_type, bytes, .. } = stored.manifest;
        let put =
            PutManifest { sparse: true, expected, content_type: Some(media_type), ..PutManifest::new(target, bytes) };
        let repository = self.destination.repository.clone();
        match self.destination.spawn(move || repository.put_manifest(put)).await? {
            Ok(_) => {
                self.run.count(|report| report.manifests += u64::from(is_new));
                Ok(Outcome::Fetched)
            }
            // A client has pushed the tag meanwhile.
            Err(repository::Error::TagMoved { .. }) => Ok(Outcome::Pushed),
            Err(error) => Err(error.into()),
        }
    }

    /// Fetches everything that a stored manifest needs and the repository lacks.
    async fn complete(&self, digest: Digest, depth: usize) -> Result<(), Error> {
        let stored = if let Some(stored) = self.stored(digest)? {
            stored
        } else {
            let Some(fetched) = self.fetch(&Reference::Digest(digest)).await? else { return Err(Error::Stopped) };
            self.put(&fetched).await?;
            fetched
        };
        let Some(manifest) = stored.read() else { return Ok(()) };
        for blob in manifest.blobs() {
            self.blob(*blob).await?;
        }
        let selected = self.platforms.select(&stored.manifest.bytes);
        for child in manifest.manifests().iter().filter(|child| selected.has(child.digest)) {
            if !child.is_manifest {
                self.blob(child.digest).await?;
            } else if depth < DEPTH_MAX {
                Box::pin(self.complete(child.digest, depth + 1)).await?;
            }
        }
        Ok(())
    }

    /// Whether the repository has everything that a manifest needs.
    fn is_complete(&self, digest: Digest, depth: usize) -> Result<bool, Error> {
        let Some(stored) = self.stored(digest)? else { return Ok(false) };
        let Some(manifest) = stored.read() else { return Ok(true) };
        for blob in manifest.blobs() {
            if !self.destination.repository.blob_state(*blob)?.is_held {
                return Ok(false);
            }
        }
        let selected = self.platforms.select(&stored.manifest.bytes);
        for child in manifest.manifests().iter().filter(|child| selected.has(child.digest)) {
            let is_there = if child.is_manifest {
                depth >= DEPTH_MAX || self.is_complete(child.digest, depth + 1)?
            } else {
                self.destination.repository.blob_state(child.digest)?.is_held
            };
            if !is_there {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A manifest and its stored children. Each may be signed.
    fn parts(&self, digest: Digest) -> Result<Vec<Digest>, Error> {
        let mut parts = vec![digest];
        if let Some(manifest) = self.stored(digest)?.and_then(|stored| stored.read()) {
            parts.extend(manifest.manifests().iter().filter(|child| child.is_manifest).map(|child| child.digest));
        }
        Ok(parts)
    }

    async fn blob(&self, digest: Digest) -> Result<(), Error> {
        let Run { mirror, upstream, .. } = self.run;
        self.run.wait_for_limit().await;
        match mirror.blob_of(upstream, self.local, self.remote.clone(), digest).await? {
            BlobSource::Local => {}
            BlobSource::Growing(mut growing) => {
                let size = growing.readable(u64::MAX).await?;
                self.run.count(|report| {
                    report.bytes += size;
                    report.blobs += 1;
                });
            }
        }
        Ok(())
    }

    /// Fetches the referrers that the repository lacks. Returns whether there was one.
    async fn referrers(&self, subject: Digest) -> Result<bool, Error> {
        let mut has_new = false;
        self.run.wait_for_limit().await;
        let referrers = self.run.upstream.referrers(self.remote, subject, self.run.effort()).await?;
        for digest in referrers.into_iter().take(REFERRERS_MAX) {
            let held = self.destination.repository.held(&Reference::Digest(digest))?;
            let is_copy = self.run.ownership() == Ownership::Mirrored;
            if held == Held::Pushed || is_copy && self.is_complete(digest, 0)? {
                continue;
            }
            let stored = match self.stored(digest)? {
                Some(stored) => Ok(Some(stored)),
                None => self.fetch(&Reference::Digest(digest)).await,
            };
            let referrer = match stored {
                Ok(Some(referrer)) if self.takes_companion(&referrer) => referrer,
                Ok(Some(_)) | Err(Error::NotFound) => continue,
                Ok(None) => return Err(Error::Stopped),
                Err(error) => return Err(error),
            };
            self.put(&referrer).await?;
            match self.complete(digest, 0).await {
                Ok(()) => {
                    self.own(digest, None, None).await?;
                    has_new = true;
                }
                Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(has_new)
    }

    /// Whether a companion of an image comes along, such as its signature.
    fn takes_companion(&self, companion: &Fetched) -> bool {
        !self.run.upstream.sync_rules.only_signed || companion.accompanies()
    }

    /// Whether the upstream has a signature of a manifest. The signature itself is not verified.
    async fn is_signed(&self, digest: Digest) -> Result<bool, Error> {
        if Tag::companions(digest).any(|tag| tag.is_signature() && self.listed.contains(&tag)) {
            return Ok(true);
        }
        let referrers = self.run.upstream.referrers(self.remote, digest, self.run.effort()).await?;
        for referrer in referrers.into_iter().take(REFERRERS_MAX) {
            let stored = match self.stored(referrer)? {
                Some(stored) => Some(stored),
                None => self.fetch(&Reference::Digest(referrer)).await?,
            };
            if stored.is_some_and(|stored| stored.signature().is_some()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A manifest of the repository.
    fn stored(&self, digest: Digest) -> Result<Option<Fetched>, Error> {
        let found = self.destination.repository.stored_bytes(digest)?;
        Ok(found.map(|(media_type, bytes)| Fetched {
            manifest: FetchedManifest { digest, media_type, bytes },
            host: self.run.upstream.label().to_owned(),
        }))
    }

    /// Fetches a manifest. Returns `None` if the run ends, because the upstream allows too few further requests.
    async fn fetch(&self, reference: &Reference) -> Result<Option<Fetched>, Error> {
        if !self.run.has_allowance().await {
            return Ok(None);
        }
        self.run.upstream.fetch(self.remote, reference, self.run.effort()).await.map(Some)
    }

    /// Stores a manifest without a tag.
    async fn put(&self, fetched: &Fetched) -> Result<(), Error> {
        self.destination.store(&Reference::Digest(fetched.manifest.digest), fetched.clone()).await
    }
}
