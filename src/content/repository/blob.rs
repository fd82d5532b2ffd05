//! Blobs of a repository.

use std::ops::ControlFlow;

use super::lease::Purpose;
use super::{Error, Repository};
use crate::content::rows::Unreferenced;
use crate::oci::{Digest, RepositoryName};

/// A mount checks at most this many repositories that link the blob.
const HOLDERS_MAX: usize = 1000;

impl Repository {
    /// The size of a blob in bytes. A lease keeps the blob for the client that asked, for the delay of garbage
    /// collection.
    pub(crate) fn blob_size(&self, digest: Digest) -> Result<u64, Error> {
        self.leased_blob_size(digest, Purpose::Push)
    }

    /// As [`Repository::blob_size`], with a lease for this purpose.
    pub(super) fn leased_blob_size(&self, digest: Digest, purpose: Purpose) -> Result<u64, Error> {
        self.take_lease(Unreferenced::Link, digest, purpose).ok_or(Error::BlobUnknown { digest })?;
        self.stores.database.read(|tx| {
            if tx.link(digest, &self.name)?.is_none() {
                return Err(Error::BlobUnknown { digest });
            }
            if tx.damage(digest)?.is_some() {
                return Err(Error::BlobDamaged { digest });
            }
            let row = tx.blob(digest)?.ok_or(Error::Corrupt { what: "a link without a blob", digest })?;
            Ok(row.size)
        })
    }

    /// Takes a lease. Returns `None` if the blob or manifest is being removed.
    pub(super) fn take_lease(&self, kind: Unreferenced, digest: Digest, purpose: Purpose) -> Option<()> {
        self.stores.leases.take(&self.name, kind, digest, self.stores.ages.steady(), purpose).then_some(())
    }

    /// Links a blob of another repository that is `readable` to the caller. Returns whether the repository has the blob
    /// now (distribution-spec, "Mounting a blob").
    pub(crate) fn mount(&self, digest: Digest, readable: impl Fn(&RepositoryName) -> bool) -> Result<bool, Error> {
        let found = self.stores.database.read(|tx| {
            let mut found = tx.link(digest, &self.name)?.is_some();
            let mut asked = 0;
            tx.each_linking_repository(digest, |holder| {
                asked += 1;
                found |= holder.parse().is_ok_and(|holder| readable(&holder));
                if found || asked == HOLDERS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            Ok::<_, Error>(found)
        })?;
        if !found {
            return Ok(false);
        }
        // If the link is being removed here, it is written again after that.
        let _ = self.take_lease(Unreferenced::Link, digest, Purpose::Push);
        let (name, now) = (self.name.clone(), self.stores.ages.now());
        let quotas = self.stores.rules.quotas.clone();
        self.stores.database.write(move |tx| {
            // The last link may have gone since the check, and the file with it. A damaged blob must be pushed.
            let row = if tx.damage(digest)?.is_none() { tx.blob(digest)? } else { None };
            let Some(row) = row else { return Ok(false) };
            quotas.check_blob(tx, &name, digest, row.size)?;
            tx.remove_mirror_use(&name, digest)?;
            tx.put_link(&name, digest, row.size, now)?;
            Ok(true)
        })
    }

    /// Removes a blob from the repository, and its bytes with the last link. Fails if a manifest references the blob.
    pub(crate) fn delete_blob(&self, digest: Digest) -> Result<(), Error> {
        let name = self.name.clone();
        let last = self.stores.database.write(move |tx| {
            let link = tx.link(digest, &name)?.ok_or(Error::BlobUnknown { digest })?;
            if link.references > 0 || tx.present_lister(&name, digest)?.is_some() {
                return Err(Error::BlobReferenced { digest });
            }
            Ok::<_, Error>(tx.remove_link(&name, digest)?)
        })?;
        if last {
            self.stores.remove_orphans(&[digest]);
        }
        Ok(())
    }
}
