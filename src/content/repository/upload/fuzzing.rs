//! Fuzzing of uploads. After any sequence of operations an upload has the bytes that were appended and not rewound. It
//! becomes a blob only under their digest, and is unknown afterwards.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Runtime;

use super::{Sessions, Upload};
use crate::content::blobs::{Blobs, SystemDisk, Tree};
use crate::content::repository::{
    Delays, Error, ImmutableTags, MandatoryAnnotations, ManifestTarget, PutManifest, Quotas, Repository, Retention,
    Rules, Stores,
};
use crate::content::rows::Database;
use crate::kit::clock::Clock;
use crate::oci::{Algorithm, ChunkRange, Digest, UploadId};

/// Operations of one input.
const OPERATIONS_MAX: usize = 64;

struct Bench {
    runtime: Runtime,
    stores: Arc<Stores>,
    root: tempfile::TempDir,
}

thread_local! {
    /// Shared by all inputs, because opening a database takes longer than everything else.
    static BENCH: Bench = Bench::new();
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let blobs = Blobs::open(root.path(), Arc::new(SystemDisk), false).expect("a new directory");
        let database = Database::open(&Tree::new(root.path()), Arc::new(SystemDisk), false).expect("a new database");
        let day = Duration::from_hours(24);
        let rules = Rules {
            sparse_indexes: false,
            upload_expiry: day,
            tag_history: day,
            delays: Delays::all(day),
            retention: Retention::default(),
            immutable: ImmutableTags::default(),
            quotas: Quotas::default(),
            mandatory_annotations: MandatoryAnnotations::default(),
        };
        let stores = Stores::new(blobs, Arc::new(database), Clock::default(), rules).expect("new stores");
        let index = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        let digest = Digest::of(Algorithm::Sha256, index);
        let target = ManifestTarget::Digest { digest, tags: vec!["1".parse().expect("a tag")] };
        let manifest = PutManifest::new(target, Bytes::from_static(index));
        let stores = Arc::new(stores);
        stores.repository(&"search/app".parse().expect("a name")).put_manifest(manifest).expect("a valid index");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        Self { runtime, stores, root }
    }
}

/// Calls a function with stores that have one tag, and that fuzzed uploads may have written to.
pub(crate) fn with_stores(look: impl FnOnce(&Stores)) {
    BENCH.with(|bench| look(&bench.stores));
}

/// An upload and its expected content.
struct Model<'a> {
    bench: &'a Bench,
    repository: Repository,
    id: UploadId,
    bytes: Vec<u8>,
}

/// An operation is a byte that selects it and a byte as its parameter. The first byte of the input is the algorithm.
pub(crate) fn upload(input: &[u8]) {
    let Some((first, operations)) = input.split_first() else { return };
    BENCH.with(|bench| {
        let repository = bench.stores.repository(&"a/b".parse().expect("a name"));
        let algorithm = if first % 2 == 0 { Algorithm::Sha256 } else { Algorithm::Sha512 };
        let id = repository.start_upload(algorithm).expect("the disk works");
        let mut model = Model { bench, repository, id, bytes: Vec::new() };
        for operation in operations.chunks_exact(2).take(OPERATIONS_MAX) {
            if model.step(operation[0], operation[1]) {
                return;
            }
        }
        model.take_up().cancel().expect("the disk works");
        model.is_over();
    });
}

impl Model<'_> {
    fn sessions(&self) -> &Sessions {
        &self.bench.stores.uploads
    }

    fn take_up(&self) -> Upload {
        let upload = self.bench.runtime.block_on(self.repository.upload(self.id)).expect("the upload goes on");
        assert_eq!(upload.offset(), self.bytes.len() as u64);
        upload
    }

    fn is_over(&self) {
        assert!(matches!(self.repository.upload_offset(self.id), Err(Error::UploadUnknown { .. })));
        let taken_up = self.bench.runtime.block_on(self.repository.upload(self.id));
        assert!(matches!(taken_up, Err(Error::UploadUnknown { .. })));
    }

    /// Runs one operation. Returns whether the upload has ended.
    fn step(&mut self, operation: u8, value: u8) -> bool {
        let piece = |times: usize| vec![value; usize::from(value) * times];
        match operation % 10 {
            0 => self.append(&piece(1)),
            // Several buffers, longer than one read.
            1 => self.append(&piece(300)),
            2 => self.chunk(self.bytes.len() as u64 + u64::from(value) % 3),
            3 => self.chunk(u64::from(value)),
            // The state after a restart.
            4 => self.sessions().forget(self.id),
            5 => {
                let mut upload = self.take_up();
                let checkpoint = upload.checkpoint();
                upload.append(&[Bytes::from(piece(1))]).expect("the disk works");
                upload.rewind(checkpoint).expect("the disk works");
                assert_eq!(upload.offset(), self.bytes.len() as u64);
            }
            6 => self.finish_as_another(value),
            7 => self.elsewhere(value),
            8 if value > 200 => {
                self.take_up().cancel().expect("the disk works");
                self.is_over();
                return true;
            }
            9 if value > 128 => {
                self.finish(if value.is_multiple_of(2) { Algorithm::Sha256 } else { Algorithm::Sha512 });
                return true;
            }
            _ => assert_eq!(self.repository.upload_offset(self.id).ok(), Some(self.bytes.len() as u64)),
        }
        false
    }

    fn append(&mut self, piece: &[u8]) {
        let mut upload = self.take_up();
        let parts: Vec<Bytes> = piece.chunks(1000).map(Bytes::copy_from_slice).collect();
        upload.append(&parts).expect("the disk works");
        self.bytes.extend_from_slice(piece);
        assert_eq!(upload.offset(), self.bytes.len() as u64);
    }

    /// A chunk with its range.
    fn chunk(&mut self, first: u64) {
        let upload = self.take_up();
        let range = ChunkRange::parse(&format!("{first}-{}", first + 9)).expect("a range");
        let (reached, expected) = (self.bytes.len() as u64, upload.expect(range));
        drop(upload);
        match expected {
            Ok(()) => {
                assert_eq!(first, reached);
                self.append(b"0123456789");
            }
            Err(Error::UploadOutOfOrder { reached: said }) => assert!(first != reached && said == reached),
            Err(error) => panic!("{error}"),
        }
    }

    fn finish_as_another(&mut self, value: u8) {
        let algorithm = if value.is_multiple_of(2) { Algorithm::Sha256 } else { Algorithm::Sha512 };
        let mut other = self.bytes.clone();
        other.push(value);
        let verified = self.take_up().verify(Digest::of(algorithm, &other));
        assert!(matches!(verified, Err(Error::DigestMismatch { .. })), "{verified:?}");
    }

    /// Ids of another repository and invented ids are unknown.
    fn elsewhere(&self, value: u8) {
        let other = self.bench.stores.repository(&"a/c".parse().expect("a name"));
        assert!(matches!(other.upload_offset(self.id), Err(Error::UploadUnknown { .. })));
        let mut bytes = *self.id.bytes();
        bytes[usize::from(value) % 16] ^= 1 << (value / 16 % 6);
        let forged = UploadId::new(bytes);
        assert!(forged == self.id || matches!(self.repository.upload_offset(forged), Err(Error::UploadUnknown { .. })));
    }

    fn finish(&self, algorithm: Algorithm) {
        let digest = Digest::of(algorithm, &self.bytes);
        let mut upload = self.take_up();
        upload.verify(digest).expect("it has these bytes");
        upload.finish(digest).expect("the disk works");
        self.is_over();
        assert_eq!(self.repository.blob_size(digest).ok(), Some(self.bytes.len() as u64));
        let path = Tree::new(self.bench.root.path()).blob(&digest);
        assert_eq!(std::fs::read(path).expect("a file"), self.bytes);
        self.repository.delete_blob(digest).expect("no manifest references it");
    }
}
