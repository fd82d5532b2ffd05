//! Databases that bbolt has written, whole and damaged.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use proptest::prelude::*;

use super::*;

/// A database that bbolt itself has written: see `tests/fixtures/zot-meta.go`.
fn fixture() -> Vec<u8> {
    let mut bytes = Vec::new();
    let packed = &include_bytes!("../../../../tests/fixtures/zot-meta.db.gz")[..];
    flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
    bytes
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn bucket(bolt: &Bolt, name: &str) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, BoltError> {
    let mut found = BTreeMap::new();
    bolt.each(name, |key, value| {
        found.insert(key.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

type Bucket = BTreeMap<Vec<u8>, Vec<u8>>;

fn buckets(bytes: &[u8]) -> Result<Vec<Bucket>, BoltError> {
    let Some(bolt) = Bolt::open(file(bytes))? else { return Ok(Vec::new()) };
    ["Version", "RepoMeta", "UserData", "UserAPIKeys", "absent"].iter().map(|name| bucket(&bolt, name)).collect()
}

#[test]
fn every_entry_of_a_real_database_is_read() {
    let found = buckets(&fixture()).unwrap();
    // One page within the bucket, trees with branches, and a value of several pages.
    assert_eq!(found[0], BTreeMap::from([(b"DBVersion".to_vec(), b"V1".to_vec())]));
    let lengths: Vec<usize> = found.iter().map(BTreeMap::len).collect();
    assert_eq!(lengths, [1, 200, 4, 155, 0]);
    assert!(found[2][&b"carol".to_vec()].len() > 3 * 4096);
    assert!(found[3].iter().all(|(hash, _)| hash.len() == 64));
}

#[test]
fn the_other_meta_page_counts_if_one_is_damaged_or_torn() {
    let whole = fixture();
    for at in [0, 4096] {
        let mut bytes = whole.clone();
        bytes[at + 16 + 50] ^= 1;
        assert!(Bolt::open(file(&bytes)).unwrap().is_some(), "{at}");
        bytes[4096 - at + 16 + 50] ^= 1;
        assert!(matches!(buckets(&bytes), Err(BoltError::Unknown)), "{at}");
    }
    assert!(buckets(b"").unwrap().is_empty());
    for bytes in [&b"short"[..], &[0; 5000]] {
        assert!(matches!(buckets(bytes), Err(BoltError::Unknown)));
    }
}

#[test]
fn a_database_that_a_process_writes_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("meta.db");
    std::fs::write(&path, fixture()).unwrap();
    let writer = File::open(&path).unwrap();
    flock(&writer, FlockOperation::LockExclusive).unwrap();
    assert!(matches!(Bolt::open(File::open(&path).unwrap()), Err(BoltError::InUse)));
    drop(writer);
    assert!(Bolt::open(File::open(&path).unwrap()).unwrap().is_some());
}

/// Sets the checksums of both meta pages, so that damage in them is not found at once.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    for at in [16, 4096 + 16] {
        if let Some(meta) = bytes.get(at..at + META_BYTES) {
            let sum = checksum(meta).to_le_bytes();
            if let Some(place) = bytes.get_mut(at + META_BYTES..at + META_BYTES + 8) {
                place.copy_from_slice(&sum);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Each page is read at most once for each walk, so that a walk ends. A panic would fail the test.
    #[test]
    fn a_damaged_database_is_an_error_or_has_other_entries(
        changes in proptest::collection::vec((any::<usize>(), any::<[u8; 4]>()), 1..12),
        in_headers in any::<bool>(),
        length in prop_oneof![Just(usize::MAX), 0_usize..170_000],
        is_sealed in any::<bool>(),
    ) {
        let mut bytes = fixture();
        bytes.truncate(length);
        for (place, change) in changes {
            // Most of a page is values. Headers and elements are at its beginning.
            let place = if in_headers { place / 64 % 40 * 4096 + place % 64 } else { place % bytes.len().max(1) };
            if let Some(part) = bytes.get_mut(place..place + 4) {
                part.copy_from_slice(&change);
            }
        }
        let bytes = if is_sealed { sealed(bytes) } else { bytes };
        if let Ok(found) = buckets(&bytes) {
            let size: usize = found.iter().flatten().map(|(key, value)| key.len() + value.len()).sum();
            prop_assert!(size <= found.len() * bytes.len(), "{size}");
        }
    }

    /// Numbers in pages that are small, such as those of other pages.
    #[test]
    fn pages_that_name_each_other_are_an_error(
        pages in proptest::collection::vec((2_u64..40, 0_u64..42), 1..8),
    ) {
        let mut bytes = fixture();
        for (page, child) in pages {
            let at = usize::try_from(page).unwrap() * 4096;
            bytes[at + 8] = 1;
            bytes[at + 24..at + 32].copy_from_slice(&child.to_le_bytes());
        }
        let _ = buckets(&bytes);
    }
}
