//! Takeover of another registry: its content becomes content of this one, while clients use this one.
//!
//! Pulls are answered by the mirror, and what it fetches is a mirrored copy at first. Runs of synchronisation make tags and
//! their content our own. A last step does that for copies without a tag, such as those that clients pulled by digest.

use super::{BlobSource, Error, Mirror, Ownership, Upstream};
use crate::content::repository::Held;
use crate::oci::{Digest, Reference, RepositoryName};

/// The most blobs and manifests that are fetched for one pushed manifest.
const FETCHED_MAX: usize = 256;

impl Upstream {
    /// Whether its content becomes content of this registry.
    pub(super) const fn is_taken_over(&self) -> bool {
        matches!(self.sync_rules.ownership, Ownership::Own { .. })
    }

    fn has_client_for(&self, host: &str) -> bool {
        self.clients.iter().any(|client| client.host() == host)
    }
}

impl Mirror {
    /// Fetches blobs and manifests that a pushed manifest needs and the upstream has. The caller finds out which of them are
    /// here then. Returns why the upstream did not provide one that it may have.
    pub(crate) async fn bring(&self, name: &RepositoryName, digests: &[Digest]) -> Option<Error> {
        let mut failure = None;
        for digest in digests.iter().take(FETCHED_MAX) {
            if let Err(error) = self.bring_one(name, *digest).await {
                tracing::info!(%name, %digest, %error, "could not fetch a part of a pushed manifest");
                failure = failure.or_else(|| Some(error).filter(Error::is_inconclusive));
            }
        }
        failure
    }

    async fn bring_one(&self, name: &RepositoryName, digest: Digest) -> Result<(), Error> {
        let Some((upstream, remote)) = self.find_part(name, digest)? else { return Ok(()) };
        match self.blob_of(upstream, name, remote, digest).await {
            Ok(BlobSource::Local) => Ok(()),
            Ok(BlobSource::Growing(mut growing)) => growing.readable(u64::MAX).await.map(drop),
            // The index that is pushed lists a manifest.
            Err(Error::NotFound) => self.manifest(name, &Reference::Digest(digest), None).await.map(drop),
            Err(error) => Err(error),
        }
    }

    /// The repositories that still have mirrored copies from an upstream, with the digests of these.
    pub(super) fn copies(&self, upstream: &Upstream) -> Result<Vec<(RepositoryName, Vec<Digest>)>, Error> {
        let mut found = Vec::new();
        for name in self.stores.mirrored_repositories()? {
            if !self.find(&name).is_some_and(|(of, _)| std::ptr::eq(of, upstream)) {
                continue;
            }
            let repository = self.stores.repository(&name);
            let mut digests = Vec::new();
            for digest in repository.manifest_digests()? {
                let reference = Reference::Digest(digest);
                let host = || Ok::<_, Error>(repository.origin(&reference)?.and_then(|origin| origin.upstream));
                if matches!(repository.held(&reference)?, Held::Mirrored(_))
                    && host()?.is_some_and(|host| upstream.has_client_for(&host))
                {
                    digests.push(digest);
                }
            }
            if !digests.is_empty() {
                found.push((name, digests));
            }
        }
        Ok(found)
    }
}
