//! A failed sync may have lost data, although the data can still be read and the next sync succeeds. Changes that are
//! acknowledged after that must be durable.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::history::open;
use super::power::{Operation, Power, Random, Survives};
use super::record::Recorder;
use super::{block_on, scratch};
use crate::content::blobs::{Disk, SystemDisk};
use crate::content::repository::{Error, Opened, Repository};
use crate::kit::clock::Clock;
use crate::oci::{Algorithm, Digest};

const ROUNDS: usize = 24;

/// Pushes a blob like a client that retries, and continues the upload if it still exists. Returns the number of failures.
fn push(repository: &Repository, content: &Bytes) -> usize {
    let digest = Digest::of(Algorithm::Sha256, content);
    let mut id = None;
    for failures in 0..100 {
        let mut attempt = || {
            let mut upload = match id {
                Some(id) => block_on(repository.upload(id))?,
                None => repository.open_upload(Algorithm::Sha256)?,
            };
            id = Some(upload.id());
            let from = usize::try_from(upload.offset()).unwrap();
            upload.append(&[content.slice(from..)])?;
            upload.verify(digest)?;
            upload.finish(digest)
        };
        match attempt() {
            Ok(()) => return failures,
            Err(Error::UploadUnknown { .. }) => id = None,
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    panic!("pushes fail after a failed sync");
}

#[test]
fn acknowledged_changes_after_a_failed_sync_are_durable() {
    let (root, found) = (scratch(), scratch());
    let recorder = Arc::new(Recorder::new(root.path()));
    let (clock, mut random) = (Clock::default(), Random::new(5));
    let (stores, _) = open(root.path(), &(Arc::clone(&recorder) as Arc<dyn Disk>), &clock).unwrap();
    let repository = stores.repository(&"a".parse().unwrap());
    let (mut pushed, mut failures) = (Vec::new(), 0);
    for round in 0..ROUNDS {
        // Fails the sync of the upload, or one of the two syncs of a commit, and syncs when the database is reopened.
        recorder.fail_syncs(round % 3, 1 + round / 3 % 3);
        let content = Bytes::from(format!("content {round}").repeat(round * 40 + 1));
        failures += push(&repository, &content);
        pushed.push((recorder.len(), Digest::of(Algorithm::Sha256, &content), content.len() as u64));
    }
    let operations = recorder.operations();
    let failed = operations.iter().filter(|done| matches!(done, Operation::SyncFailed(_))).count();

    let (mut power, mut done, mut images) = (Power::default(), 0, 0);
    for (answered, (end, ..)) in pushed.iter().enumerate() {
        operations[done..*end].iter().for_each(|operation| power.apply(operation));
        done = *end;
        for survives in [Survives::Nothing, Survives::TornEnd, Survives::Anything, Survives::Anything] {
            let path = found.path().join("data");
            power.image(survives, &mut random).build(&path).unwrap();
            let (stores, database) = open(&path, &(Arc::new(SystemDisk) as Arc<dyn Disk>), &clock).unwrap();
            let repository = stores.repository(&"a".parse().unwrap());
            for (_, digest, size) in &pushed[..=answered] {
                stores.check_blob(*digest, |_| std::ops::ControlFlow::Continue(())).unwrap();
                let opened = repository.open_blob(*digest);
                let is_whole = matches!(&opened, Ok(Opened::Whole(blob)) if blob.size == *size);
                assert!(is_whole, "{survives:?} survives after {answered} pushes: {digest} is {opened:?}");
            }
            assert_eq!(database.inconsistencies().unwrap(), [""; 0]);
            images += 1;
        }
    }
    println!("{failed} syncs failed, {failures} attempts to push, {images} images checked");
    assert!(failed >= ROUNDS && failures >= ROUNDS);
}
