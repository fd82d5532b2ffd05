//! A random history of steps of clients, with the content after each step. The same seed gives the same names and content.
//!
//! To add a kind of step, add a row to [`KINDS`] and its function.

mod upload;
mod users;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::power::{Operation, Random};
use super::record::Recorder;
use crate::content::blobs::{Blobs, Disk, Tree};
use crate::content::repository::{
    self, Delays, Expiry, ManifestTarget, Opened, PutManifest, Repository, Retention, Rules, SearchScope, Stores,
    TagChange, WorkProgress,
};
use crate::content::rows::{Database, Dump};
use crate::identity::accounts::{self, Accounts};
use crate::kit::clock::Clock;
use crate::oci::{Algorithm, Digest, Reference, RepositoryName, Tag, UploadId};

const REPOSITORIES: [&str; 4] = ["a", "a/b", "team/app", "z"];
const TAGS: [&str; 4] = ["1", "2", "latest", "next"];
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// Takes a step and notes it. Returns `false` if the step is not possible now.
type Act = fn(&mut Client) -> bool;

/// The kinds of steps, and how often they occur.
const KINDS: &[(&str, u32, Act)] = &[
    ("push a blob", 8, Client::push_blob),
    ("leave an upload", 3, Client::leave_upload),
    ("go on with an upload", 3, Client::continue_upload),
    ("finish an upload", 3, Client::finish_upload),
    ("cancel an upload", 1, Client::cancel_upload),
    ("push an image", 7, Client::push_image),
    ("push an index", 2, Client::push_index),
    ("push a referrer", 3, Client::push_referrer),
    ("mount a blob", 3, Client::mount),
    ("move a tag", 2, Client::move_tag),
    ("let a tag expire", 1, Client::expire_tag),
    ("tidy tags", 1, Client::tidy),
    ("delete a tag", 2, Client::delete_tag),
    ("delete a manifest", 4, Client::delete_manifest),
    ("restore a manifest", 3, Client::restore_manifest),
    ("delete a blob", 4, Client::delete_blob),
    ("remove a repository", 1, Client::remove_repository),
    ("collect", 3, Client::collect),
    ("remove leftover files", 2, Client::remove_leftover_files),
    ("make a user", 1, Client::add_user),
    ("make a key", 2, Client::add_key),
    ("revoke a key", 1, Client::revoke_key),
    ("pull", 3, Client::pull),
    ("begin a session", 2, Client::begin_session),
    ("end sessions", 1, Client::end_sessions),
    ("give a role", 2, Client::give_role),
];

/// A step, and the content after it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) what: String,
    /// Whether the step is one transaction.
    pub(super) is_one: bool,
    /// The number of disk operations at its response.
    pub(super) end: usize,
    pub(super) dump: Dump,
    pub(super) uploads: BTreeMap<UploadId, Staged>,
}

/// An unfinished upload.
#[derive(Clone, Debug)]
pub(super) struct Staged {
    pub(super) name: RepositoryName,
    pub(super) bytes: Vec<u8>,
    /// The complete content.
    pub(super) content: Bytes,
}

/// The content of a repository, as its clients know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    blobs: BTreeSet<Digest>,
    manifests: BTreeMap<Digest, Bytes>,
    tags: BTreeMap<String, Digest>,
}

/// All steps, and all operations of the disk.
#[derive(Debug)]
pub(super) struct History {
    pub(super) operations: Vec<Operation>,
    pub(super) steps: Vec<Step>,
    /// The number of steps of each kind.
    pub(super) kinds: BTreeMap<&'static str, usize>,
}

fn rules() -> Rules {
    let day = Duration::from_hours(24);
    Rules {
        sparse_indexes: false,
        upload_expiry: day,
        delays: Delays::all(day),
        retention: Retention::default(),
        immutable: repository::ImmutableTags::default(),
        quotas: repository::Quotas::default(),
        mandatory_annotations: repository::MandatoryAnnotations::default(),
        tag_history: day,
    }
}

/// Opens both stores of a data directory.
pub(super) fn open(root: &Path, disk: &Arc<dyn Disk>, clock: &Clock) -> Result<(Arc<Stores>, Arc<Database>), String> {
    let blobs = Blobs::open(root, Arc::clone(disk), true).map_err(|error| error.to_string())?;
    let database = Database::open(&Tree::new(root), Arc::clone(disk), true).map_err(|error| error.to_string())?;
    let database = Arc::new(database);
    let stores =
        Stores::new(blobs, Arc::clone(&database), clock.clone(), rules()).map_err(|error| error.to_string())?;
    Ok((Arc::new(stores), database))
}

impl History {
    /// Lets clients take steps in a new data directory.
    pub(super) fn new(root: &Path, seed: u64, steps: usize) -> Self {
        let recorder = Arc::new(Recorder::new(root));
        let (clock, disk) = (Clock::default(), Arc::clone(&recorder) as Arc<dyn Disk>);
        let (stores, database) = open(root, &disk, &clock).unwrap();
        let accounts =
            Accounts::open(Arc::clone(&database), clock.clone(), accounts::Rules::default(), None, None).unwrap();
        let random = Random::new(seed);
        let mut client = Client {
            recorder,
            stores,
            database,
            accounts,
            clock,
            random,
            contents: BTreeMap::new(),
            known: BTreeMap::new(),
            uploads: BTreeMap::new(),
            users: 0,
            steps: Vec::new(),
            number: 0,
        };
        client.note("open".to_owned());
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        let total = KINDS.iter().map(|(_, weight, _)| weight).sum::<u32>();
        while client.steps.len() < steps {
            let mut at = u32::try_from(client.random.below(total as usize)).unwrap();
            let (kind, _, act) = KINDS
                .iter()
                .find(|(_, weight, _)| {
                    let found = at < *weight;
                    at = at.saturating_sub(*weight);
                    found
                })
                .unwrap();
            *kinds.entry(kind).or_default() += usize::from(act(&mut client));
        }
        // Kinds that did not occur.
        for (kind, _, act) in KINDS {
            if kinds.get(kind).is_none_or(|count| *count == 0) {
                *kinds.entry(kind).or_default() += usize::from(act(&mut client));
            }
        }
        let Client { recorder, steps, .. } = client;
        Self { operations: recorder.operations(), steps, kinds }
    }
}

struct Client {
    recorder: Arc<Recorder>,
    stores: Arc<Stores>,
    database: Arc<Database>,
    accounts: Accounts,
    clock: Clock,
    random: Random,
    contents: BTreeMap<String, Content>,
    /// The bytes of every blob there ever was.
    known: BTreeMap<Digest, Bytes>,
    uploads: BTreeMap<UploadId, Staged>,
    users: usize,
    steps: Vec<Step>,
    /// Makes content differ.
    number: u64,
}

impl Client {
    /// Records a response, and checks that the content is what clients expect.
    fn note(&mut self, what: String) {
        self.note_as(what, true);
    }

    fn note_as(&mut self, what: String, is_one: bool) {
        self.contents.retain(|_, content| *content != Content::default());
        for (name, content) in &self.contents {
            let repository = self.repository(name);
            for digest in &content.blobs {
                let opened = repository.open_blob(*digest).unwrap();
                let length = self.known[digest].len() as u64;
                assert!(matches!(opened, Opened::Whole(blob) if blob.size == length), "{digest} after {what}");
            }
            for (digest, bytes) in &content.manifests {
                assert_eq!(repository.manifest(&Reference::Digest(*digest)).unwrap().bytes, bytes, "after {what}");
            }
            let tags = repository.tagged(usize::MAX).unwrap();
            let tags: BTreeMap<String, Digest> = tags.into_iter().map(|tag| (tag.tag, tag.digest)).collect();
            assert_eq!(tags, content.tags, "{name} after {what}");
        }
        let there = self.stores.catalog(("", ""), usize::MAX, &SearchScope::All, |_| true).unwrap().names;
        assert!(there.iter().eq(self.contents.keys()), "{there:?} after {what}");
        assert_eq!(self.database.inconsistencies().unwrap(), [""; 0], "after {what}");
        self.steps.push(Step {
            what,
            is_one,
            end: self.recorder.len(),
            dump: self.database.dump().unwrap(),
            uploads: self.uploads.clone(),
        });
    }

    fn repository(&self, name: &str) -> Repository {
        self.stores.repository(&name.parse().unwrap())
    }

    fn any_name(&mut self) -> &'static str {
        REPOSITORIES[self.random.below(REPOSITORIES.len())]
    }

    fn any_tag(&mut self) -> Tag {
        TAGS[self.random.below(TAGS.len())].parse().unwrap()
    }

    /// A random item of a repository, of the given kind.
    fn any<T: Clone>(&mut self, of: impl Fn(&Content) -> Vec<T>) -> Option<(String, T)> {
        let all: Vec<(String, T)> = self
            .contents
            .iter()
            .flat_map(|(name, content)| of(content).into_iter().map(|one| (name.clone(), one)))
            .collect();
        if all.is_empty() { None } else { Some(all[self.random.below(all.len())].clone()) }
    }

    fn any_upload(&mut self) -> Option<UploadId> {
        let ids: Vec<UploadId> = self.uploads.keys().copied().collect();
        if ids.is_empty() { None } else { Some(ids[self.random.below(ids.len())]) }
    }

    /// Random content, new or pushed before.
    fn content(&mut self) -> Bytes {
        if self.random.below(5) == 0 && !self.known.is_empty() {
            let nth = self.random.below(self.known.len());
            return self.known.values().nth(nth).unwrap().clone();
        }
        self.number += 1;
        let length = [0, 1, 511, 1300, 4096, 9000][self.random.below(6)];
        let mut bytes = format!("content {}", self.number).into_bytes();
        bytes.resize(bytes.len() + length, b'.');
        bytes.into()
    }

    fn put_manifest(&mut self, name: &str, manifest: &serde_json::Value) {
        let bytes = Bytes::from(serde_json::to_vec(manifest).unwrap());
        let digest = Digest::of(Algorithm::Sha256, &bytes);
        let mut tags = vec![self.any_tag(), self.any_tag()];
        tags.truncate(self.random.below(3));
        let target = match &tags[..] {
            [tag] => ManifestTarget::Tag(tag.clone()),
            _ => ManifestTarget::Digest { digest, tags: tags.clone() },
        };
        let push = PutManifest::new(target, bytes.clone());
        self.repository(name).put_manifest(push).unwrap();
        let content = self.contents.entry(name.to_owned()).or_default();
        content.manifests.insert(digest, bytes);
        content.tags.extend(tags.iter().map(|tag| (tag.to_string(), digest)));
        self.note(format!("push the manifest {digest} to {name}, tags {tags:?}"));
    }

    fn image(&mut self, name: &str) -> Option<serde_json::Value> {
        let blobs: Vec<Digest> = self.contents.get(name)?.blobs.iter().copied().collect();
        if blobs.is_empty() {
            return None;
        }
        let mut descriptor = |kind: &str| {
            let digest = blobs[self.random.below(blobs.len())];
            let kind = format!("application/vnd.oci.image.{kind}");
            serde_json::json!({ "mediaType": kind, "digest": digest.to_string(), "size": self.known[&digest].len() })
        };
        let (config, layers) = (descriptor("config.v1+json"), [descriptor("layer.v1.tar"), descriptor("layer.v1.tar")]);
        self.number += 1;
        Some(serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers,
            "annotations": { "n": self.number.to_string() },
        }))
    }

    fn push_image(&mut self) -> bool {
        let name = self.any_name();
        let Some(image) = self.image(name) else { return false };
        self.put_manifest(name, &image);
        true
    }

    fn described(digest: Digest, bytes: &Bytes) -> serde_json::Value {
        serde_json::json!({ "mediaType": MANIFEST_TYPE, "digest": digest.to_string(), "size": bytes.len() })
    }

    fn push_index(&mut self) -> bool {
        let images = |content: &Content| {
            let is_image = |bytes: &Bytes| bytes.windows(8).any(|part| part == b"\"layers\"");
            content.manifests.iter().filter(|(_, bytes)| is_image(bytes)).map(|(d, b)| (*d, b.clone())).collect()
        };
        let Some((name, (digest, bytes))) = self.any(images) else { return false };
        self.number += 1;
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [Self::described(digest, &bytes)],
            "annotations": { "n": self.number.to_string() },
        });
        self.put_manifest(&name, &index);
        true
    }

    fn push_referrer(&mut self) -> bool {
        let manifests = |content: &Content| content.manifests.iter().map(|(d, b)| (*d, b.clone())).collect();
        let Some((name, (digest, bytes))) = self.any(manifests) else { return false };
        let Some(mut image) = self.image(&name) else { return false };
        image["subject"] = Self::described(digest, &bytes);
        image["artifactType"] = format!("application/example.{}", self.random.below(2)).into();
        self.put_manifest(&name, &image);
        true
    }

    fn mount(&mut self) -> bool {
        let Some((_, digest)) = self.any(|content| content.blobs.iter().copied().collect()) else { return false };
        let name = self.any_name();
        assert!(self.repository(name).mount(digest, |_| true).unwrap());
        self.contents.entry(name.to_owned()).or_default().blobs.insert(digest);
        self.note(format!("mount {digest} in {name}"));
        true
    }

    fn move_tag(&mut self) -> bool {
        let Some((name, digest)) = self.any(|content| content.manifests.keys().copied().collect()) else {
            return false;
        };
        let tag = self.any_tag();
        let change = TagChange { digest: Some(digest), may_create: true, may_move: true, ..TagChange::default() };
        self.repository(&name).change_tag(&tag, change).unwrap();
        self.contents.get_mut(&name).unwrap().tags.insert(tag.to_string(), digest);
        self.note(format!("point {name}:{tag} at {digest}"));
        true
    }

    fn any_tagged(&mut self) -> Option<(String, Tag)> {
        let (name, tag) = self.any(|content| content.tags.keys().cloned().collect())?;
        Some((name, tag.parse().unwrap()))
    }

    fn expire_tag(&mut self) -> bool {
        let Some((name, tag)) = self.any_tagged() else { return false };
        let expires = Expiry::At(self.clock.now().after(Duration::from_mins(10)));
        let change = TagChange { expires, may_delete: true, ..TagChange::default() };
        self.repository(&name).change_tag(&tag, change).unwrap();
        self.note(format!("let {name}:{tag} go later"));
        true
    }

    fn tidy(&mut self) -> bool {
        self.clock.advance(Duration::from_mins(11));
        self.stores.tidy_tags().unwrap();
        for (name, content) in &mut self.contents {
            let there = self.stores.repository(&name.parse().unwrap()).tagged(usize::MAX).unwrap();
            content.tags.retain(|tag, _| there.iter().any(|left| left.tag == *tag));
        }
        self.note("tidy tags".to_owned());
        true
    }

    fn delete_tag(&mut self) -> bool {
        let Some((name, tag)) = self.any_tagged() else { return false };
        self.repository(&name).delete_manifest(&Reference::Tag(tag.clone()), false).unwrap();
        self.contents.get_mut(&name).unwrap().tags.remove(tag.as_str());
        self.note(format!("delete {name}:{tag}"));
        true
    }

    fn delete_manifest(&mut self) -> bool {
        let Some((name, digest)) = self.any(|content| content.manifests.keys().copied().collect()) else {
            return false;
        };
        let deleted = self.repository(&name).delete_manifest(&Reference::Digest(digest), false);
        match deleted {
            Ok(()) => {
                let content = self.contents.get_mut(&name).unwrap();
                content.manifests.remove(&digest);
                content.tags.retain(|_, tagged| *tagged != digest);
            }
            Err(repository::Error::ManifestReferenced { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        self.note(format!("delete {name}@{digest}"));
        true
    }

    fn restore_manifest(&mut self) -> bool {
        let mut deleted = Vec::new();
        for name in REPOSITORIES {
            let (found, _) = self.repository(name).deleted(None, usize::MAX - 1).unwrap();
            deleted.extend(found.into_iter().map(|manifest| (name, manifest.digest)));
        }
        if deleted.is_empty() {
            return false;
        }
        let (name, digest) = deleted[self.random.below(deleted.len())];
        let repository = self.repository(name);
        let tag = if self.random.below(2) == 0 { Some(self.any_tag()) } else { None };
        let restored = match &tag {
            Some(tag) => repository.restore_tag(tag, digest).map(drop),
            None => repository.restore_manifest(digest),
        };
        match restored {
            Ok(()) => {
                let content = self.contents.entry(name.to_owned()).or_default();
                // Restoring an index also restores its manifests.
                for (_, digest) in deleted.iter().filter(|(of, _)| *of == name) {
                    if let Ok(manifest) = repository.manifest(&Reference::Digest(*digest)) {
                        content.manifests.insert(*digest, manifest.bytes);
                    }
                }
                content.tags.extend(tag.iter().map(|tag| (tag.to_string(), digest)));
            }
            Err(repository::Error::ManifestContentMissing { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        self.note(format!("restore {name}@{digest}, tag {tag:?}"));
        true
    }

    fn delete_blob(&mut self) -> bool {
        let Some((name, digest)) = self.any(|content| content.blobs.iter().copied().collect()) else { return false };
        match self.repository(&name).delete_blob(digest) {
            Ok(()) => drop(self.contents.get_mut(&name).unwrap().blobs.remove(&digest)),
            Err(repository::Error::BlobReferenced { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        self.note(format!("delete the blob {digest} in {name}"));
        true
    }

    fn pull(&mut self) -> bool {
        let Some((name, digest)) = self.any(|content| content.manifests.keys().copied().collect()) else {
            return false;
        };
        self.repository(&name).count_pull(digest);
        self.stores.write_pulls().unwrap();
        self.note(format!("pull {digest} from {name}"));
        true
    }

    fn remove_repository(&mut self) -> bool {
        let Some((name, _)) = self.any(|content| content.blobs.iter().copied().collect()) else { return false };
        self.repository(&name).remove().unwrap();
        self.contents.remove(&name);
        self.note(format!("remove {name}"));
        true
    }

    /// Garbage collection. If it removed referenced content, rows would disagree.
    fn collect(&mut self) -> bool {
        self.clock.advance(Duration::from_hours(1));
        let collected = self
            .stores
            .collect(None, Delays::all(Duration::ZERO), &WorkProgress::default(), |_| ControlFlow::Continue(()))
            .unwrap();
        for (name, content) in &mut self.contents {
            let repository = self.stores.repository(&name.parse().unwrap());
            content.manifests.retain(|digest, _| repository.manifest(&Reference::Digest(*digest)).is_ok());
            content.blobs.retain(|digest| repository.blob_size(*digest).is_ok());
        }
        self.note_as(format!("collect: {collected:?}"), false);
        true
    }

    fn remove_leftover_files(&mut self) -> bool {
        self.stores.remove_leftover_files().unwrap();
        self.note("remove leftover files".to_owned());
        true
    }
}
