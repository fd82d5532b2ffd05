//! When an upload is thrown away.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use crate::blobs::{Blobs, SystemDisk, Tree};
use crate::clock::Clock;
use crate::repository::Rules;

const EXPIRY: Duration = Duration::from_hours(1);

/// Both stores of a new data directory, and the clock that they go by.
fn stores(root: &std::path::Path) -> (Arc<Stores>, Clock) {
    let clock = Clock::default();
    let blobs = Blobs::open(root, Arc::new(SystemDisk), false).unwrap();
    let meta = Arc::new(Meta::open(&Tree::new(root), Arc::new(SystemDisk), false).unwrap());
    let rules = Rules { sparse_indexes: false, upload_expiry: EXPIRY, tag_history: EXPIRY };
    (Arc::new(Stores::new(blobs, meta, clock.clone(), rules).unwrap()), clock)
}

#[tokio::test]
async fn an_upload_that_nobody_continues_expires_and_others_do_not() {
    let root = tempfile::tempdir().unwrap();
    let (stores, clock) = stores(root.path());
    let repository = stores.repository(&"a".parse().unwrap());
    let left = repository.start_upload(Algorithm::Sha256).unwrap();
    let mut written = repository.open_upload(Algorithm::Sha256).unwrap();
    written.append(&[Bytes::from_static(b"x")]).unwrap();
    assert_eq!(stores.expire_uploads().unwrap(), 0);

    clock.advance(EXPIRY / 2);
    assert_eq!(stores.expire_uploads().unwrap(), 0);

    // The files are both older than the limit now; but one of them is in somebody's hands.
    clock.advance(EXPIRY);
    assert_eq!(stores.expire_uploads().unwrap(), 1);
    assert!(matches!(repository.upload_offset(left), Err(Error::UploadUnknown { .. })));
    assert!(matches!(repository.upload(left).await, Err(Error::UploadUnknown { .. })));
    assert_eq!(repository.upload_offset(written.id()).unwrap(), 1);

    let digest = Digest::of(Algorithm::Sha256, b"x");
    written.verify(digest).unwrap();
    written.finish(digest).unwrap();
    assert_eq!(repository.blob_size(digest).unwrap(), 1);
    assert_eq!(stores.expire_uploads().unwrap(), 0);
}

#[test]
fn an_upload_that_was_let_go_of_expires_too() {
    let root = tempfile::tempdir().unwrap();
    let (stores, clock) = stores(root.path());
    let repository = stores.repository(&"a".parse().unwrap());
    let upload = repository.open_upload(Algorithm::Sha512).unwrap();
    let id = upload.id();
    drop(upload);
    clock.advance(EXPIRY + Duration::from_secs(1));
    assert_eq!(stores.expire_uploads().unwrap(), 1);
    assert_eq!(stores.expire_uploads().unwrap(), 0);
    assert!(matches!(repository.upload_offset(id), Err(Error::UploadUnknown { .. })));
}
