//! When an upload is thrown away, and what becomes of it when the disk fails at its end.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use rustix::io::Errno;

use super::*;
use crate::content::blobs::{Blobs, Disk, FaultyDisk, Operation, SystemDisk, Tree};
use crate::content::repository::scene::rules;
use crate::content::repository::{Opened, Rules};
use crate::kit::clock::Clock;

const EXPIRY: Duration = Duration::from_hours(1);

/// Both stores of a new data directory, and the clock that they go by.
fn stores(root: &std::path::Path) -> (Arc<Stores>, Clock) {
    stores_on(root, Arc::new(SystemDisk), Arc::new(SystemDisk), false)
}

/// The same with a disk for each store.
fn stores_on(
    root: &std::path::Path,
    files: Arc<dyn Disk>,
    database: Arc<dyn Disk>,
    sync: bool,
) -> (Arc<Stores>, Clock) {
    let clock = Clock::default();
    let blobs = Blobs::open(root, files, sync).unwrap();
    let database = Arc::new(Database::open(&Tree::new(root), database, sync).unwrap());
    let rules = Rules { upload_expiry: EXPIRY, ..rules() };
    (Arc::new(Stores::new(blobs, database, clock.clone(), rules).unwrap()), clock)
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

    // Both files are older than the limit now, but a request holds one of them.
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
fn a_brief_upload_is_gone_when_it_is_dropped_and_not_when_it_is_finished() {
    let root = tempfile::tempdir().unwrap();
    let (stores, _) = stores(root.path());
    let repository = stores.repository(&"a".parse().unwrap());
    let digest = Digest::of(Algorithm::Sha256, b"x");
    for is_finished in [false, true] {
        let mut upload = repository.open_brief_upload(Algorithm::Sha256).unwrap();
        let id = upload.id();
        upload.append(&[Bytes::from_static(b"x")]).unwrap();
        if is_finished {
            upload.verify(digest).unwrap();
            upload.finish(digest).unwrap();
        } else {
            drop(upload);
        }
        assert!(matches!(repository.upload_offset(id), Err(Error::UploadUnknown { .. })));
        assert_eq!(repository.blob_size(digest).is_ok(), is_finished);
    }
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

#[test]
fn space_is_reserved_for_no_more_than_has_come_and_what_is_not_used_is_given_back() {
    use std::os::unix::fs::MetadataExt as _;
    let root = tempfile::tempdir().unwrap();
    let (stores, _) = stores(root.path());
    let repository = stores.repository(&"a".parse().unwrap());
    let mut upload = repository.open_upload(Algorithm::Sha256).unwrap();
    let part = Bytes::from(vec![7; 300_000]);
    let parts: Vec<_> = std::iter::repeat_n(part, 19).collect();
    for part in &parts {
        upload.append(std::slice::from_ref(part)).unwrap();
    }
    let size = parts.len() as u64 * 300_000;
    let taken = |path| std::fs::metadata(path).unwrap().blocks() * 512;
    let tree = Tree::new(root.path());
    assert_eq!(std::fs::metadata(tree.upload(upload.id())).unwrap().len(), size);
    assert!(taken(tree.upload(upload.id())) <= 2 * size + 65_536);

    let digest = Digest::of(Algorithm::Sha256, &parts.concat());
    upload.verify(digest).unwrap();
    upload.finish(digest).unwrap();
    assert!(taken(tree.blob(&digest)) <= size + 65_536);
}

/// How many bytes of a file are in memory: those that can be read without waiting.
#[cfg(target_os = "linux")]
fn in_memory(path: &std::path::Path) -> u64 {
    use rustix::io::{ReadWriteFlags, preadv2};
    use std::io::IoSliceMut;
    let (file, page) = (std::fs::File::open(path).unwrap(), 4096);
    let there =
        |offset| preadv2(&file, &mut [IoSliceMut::new(&mut [0])], offset, ReadWriteFlags::NOWAIT) != Err(Errno::AGAIN);
    (0..file.metadata().unwrap().len()).step_by(page).filter(|offset| there(*offset)).count() as u64 * page as u64
}

#[test]
#[cfg(target_os = "linux")]
fn a_blob_that_was_just_pushed_stays_in_memory() {
    const MIB: u64 = 1024 * 1024;
    // In the directory of the program, which is on a disk: a file system in memory would prove nothing.
    let program = std::env::current_exe().unwrap();
    let root = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
    let (stores, _) = stores_on(root.path(), Arc::new(SystemDisk), Arc::new(SystemDisk), true);
    let repository = stores.repository(&"a".parse().unwrap());
    let part = Bytes::from(vec![7; 1024 * 1024]);
    for size in [20, 80] {
        let mut upload = repository.open_upload(Algorithm::Sha256).unwrap();
        for _ in 0..size {
            upload.append(std::slice::from_ref(&part)).unwrap();
        }
        let digest = Digest::of(Algorithm::Sha256, &part.repeat(size));
        upload.verify(digest).unwrap();
        upload.finish(digest).unwrap();
        let found = in_memory(&Tree::new(root.path()).blob(&digest));
        // The kernel may need some of the memory for other tests.
        assert!(found >= size as u64 * MIB * 9 / 10, "{found} bytes of {size} MiB are in memory");
    }
}

const CONTENT: &[u8] = b"a layer";

/// Stores on disks that fail, with an upload that only has to be finished.
struct Failing {
    files: Arc<FaultyDisk>,
    database: Arc<FaultyDisk>,
    repository: Repository,
    id: UploadId,
    digest: Digest,
    root: tempfile::TempDir,
}

impl Failing {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (files, database) = (Arc::new(FaultyDisk::default()), Arc::new(FaultyDisk::default()));
        let (stores, _) = stores_on(root.path(), files.clone(), database.clone(), true);
        let repository = stores.repository(&"a".parse().unwrap());
        let mut upload = repository.open_upload(Algorithm::Sha256).unwrap();
        upload.append(&[Bytes::from_static(CONTENT)]).unwrap();
        let (id, digest) = (upload.id(), Digest::of(Algorithm::Sha256, CONTENT));
        Self { files, database, repository, id, digest, root }
    }

    async fn finish(&self) -> Result<(), Error> {
        let mut upload = self.repository.upload(self.id).await?;
        upload.verify(self.digest)?;
        upload.finish(self.digest)
    }

    /// The last request once more, when nothing fails any more.
    async fn finish_again(&self) {
        for _ in 0..200 {
            if self.finish().await.is_ok() {
                assert_eq!(self.repository.blob_size(self.digest).unwrap(), CONTENT.len() as u64);
                assert!(matches!(self.repository.open_blob(self.digest), Ok(Opened::Whole(_))));
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the fault is gone, and the upload cannot be finished");
    }

    /// The names of the files in a directory.
    fn files_in(&self, directory: &str) -> usize {
        std::fs::read_dir(self.root.path().join(directory)).unwrap().count()
    }

    /// The blob is not there, no file of it is, and the upload is as it was.
    fn assert_as_before(&self) {
        assert!(matches!(self.repository.blob_size(self.digest), Err(Error::BlobUnknown { .. })));
        assert_eq!(self.files_in("blobs/sha256"), 0, "a file without a row");
        assert_eq!(self.repository.upload_offset(self.id).unwrap(), CONTENT.len() as u64);
    }
}

#[tokio::test]
async fn an_upload_that_cannot_be_finished_stays_and_can_be_finished_later() {
    for operation in [Operation::Rename, Operation::SyncDir] {
        let it = Failing::new();
        // Once: what was done is undone by the same operation.
        it.files.fail_times(operation, 0, 1, Errno::IO);
        assert!(matches!(it.finish().await, Err(Error::Blobs(_))), "{operation:?}");
        it.assert_as_before();
        it.finish_again().await;
    }
    let it = Failing::new();
    it.database.fail(&[Operation::Write, Operation::Truncate], Errno::NOSPC);
    assert!(matches!(it.finish().await, Err(Error::Database(_))));
    it.assert_as_before();
    it.database.heal();
    it.finish_again().await;
}

#[tokio::test]
async fn wherever_a_commit_fails_the_blob_is_linked_or_an_upload_and_never_neither() {
    let mut failures = 0;
    for operation in [Operation::Write, Operation::Sync] {
        for after in 0..100 {
            let it = Failing::new();
            it.database.fail_times(operation, after, 1, Errno::IO);
            let done = it.finish().await.is_ok();
            if !it.database.heal() {
                assert!(done);
                break;
            }
            if done {
                continue;
            }
            failures += 1;
            match it.repository.open_blob(it.digest) {
                Ok(opened) => assert!(matches!(opened, Opened::Whole(blob) if blob.size == CONTENT.len() as u64)),
                Err(_) => it.assert_as_before(),
            }
        }
    }
    assert!(failures >= 2, "only {failures} failures");
}

/// The system may have dropped what it could not write, and would call the next attempt a success.
#[tokio::test]
async fn an_upload_whose_bytes_could_not_be_made_durable_is_not_tried_again() {
    let it = Failing::new();
    it.files.fail_times(Operation::Sync, 0, 1, Errno::IO);
    assert!(matches!(it.finish().await, Err(Error::Blobs(_))));
    assert!(matches!(it.finish().await, Err(Error::UploadUnknown { .. })));
    assert_eq!((it.files_in("uploads"), it.files_in("blobs/sha256")), (0, 0));
}

#[tokio::test]
async fn a_blob_whose_file_cannot_be_removed_is_deleted_all_the_same() {
    let it = Failing::new();
    it.finish().await.unwrap();
    it.files.fail(&[Operation::Remove], Errno::IO);
    it.repository.delete_blob(it.digest).unwrap();
    assert!(matches!(it.repository.blob_size(it.digest), Err(Error::BlobUnknown { .. })));
}
