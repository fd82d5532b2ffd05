//! Random histories, and after each collection the two things that must hold: what is needed, or was not
//! long enough ago, is there; what was not needed for long enough is not.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::{DELAY, collect};
use crate::content::repository::scene::{Scene, image, index, rules};
use crate::content::repository::{Repository, Rules};
use crate::content::rows::Findings;
use crate::oci::Digest;

const HISTORIES: u64 = 60;
const OPERATIONS: usize = 80;
const REPOSITORIES: [&str; 2] = ["a", "b/c"];
const TAGS: [&str; 3] = ["one", "two", "three"];

/// The expected content of one repository, as clients see it.
#[derive(Default)]
struct Model {
    tags: BTreeMap<&'static str, Digest>,
    manifests: BTreeMap<Digest, Content>,
    blobs: BTreeSet<Digest>,
    /// Since when something is unreferenced, in minutes.
    unreferenced: BTreeMap<Digest, u64>,
    /// When a client was told of something last.
    told: BTreeMap<Digest, u64>,
    /// Deleted manifests and previous targets of tags, with their latest end.
    past: BTreeMap<Digest, u64>,
    deleted: BTreeMap<Digest, Content>,
}

#[derive(Clone, Default)]
struct Content {
    blobs: Vec<Digest>,
    manifests: Vec<Digest>,
    subject: Option<Digest>,
}

impl Model {
    fn is_needed(&self, digest: Digest) -> bool {
        let named = self.tags.values().any(|tagged| *tagged == digest) || self.past.contains_key(&digest);
        let used = self
            .manifests
            .values()
            .chain(self.deleted.values())
            .any(|content| content.blobs.contains(&digest) || content.manifests.contains(&digest));
        // A referrer may stay for longer; that has cases of its own.
        let refers = self.manifests.get(&digest).is_some_and(|content| content.subject.is_some());
        named || used || refers
    }

    /// Whether clients may not delete it: something that is there references it.
    fn is_referenced(&self, digest: Digest) -> bool {
        let references = |content: &Content| content.blobs.contains(&digest) || content.manifests.contains(&digest);
        self.manifests.values().any(references)
    }

    /// Notes that something ceased to be named at a time, if there is a history.
    fn remember(&mut self, digest: Option<Digest>, now: u64, history: u64) {
        if let Some(digest) = digest.filter(|_| history > 0) {
            self.past.insert(digest, now);
        }
    }

    /// Forgets what ended too long ago, as the registry does when it tidies.
    fn tidy(&mut self, now: u64, history: u64) {
        self.past.retain(|_, ended| now - *ended < history);
        self.review(now);
    }

    /// Notes what has become unreferenced at a time, or in a collection of what was so since then.
    fn review(&mut self, since: u64) {
        let all: Vec<Digest> = self.manifests.keys().chain(self.deleted.keys()).chain(&self.blobs).copied().collect();
        for digest in all {
            if self.is_needed(digest) {
                self.unreferenced.remove(&digest);
            } else {
                self.unreferenced.entry(digest).or_insert(since);
            }
        }
        let (manifests, deleted, blobs) = (&self.manifests, &self.deleted, &self.blobs);
        let is_there =
            |digest: &Digest| manifests.contains_key(digest) || deleted.contains_key(digest) || blobs.contains(digest);
        self.unreferenced.retain(|digest, _| is_there(digest));
    }

    /// Something was pushed or asked for: it counts from now.
    fn touch(&mut self, digest: Digest, now: u64) {
        self.told.insert(digest, now);
        self.review(now);
    }

    fn due(&self, now: u64) -> Option<(Digest, u64)> {
        let told = |digest: &Digest| self.told.get(digest).copied().unwrap_or_default();
        let is_due = |(digest, since): &(&Digest, &u64)| now - told(digest).max(**since) >= DELAY.as_secs() / 60;
        self.unreferenced.iter().find(is_due).map(|(digest, since)| (*digest, *since))
    }

    fn collect(&mut self, now: u64) {
        while let Some((digest, since)) = self.due(now) {
            self.manifests.remove(&digest);
            self.deleted.remove(&digest);
            self.blobs.remove(&digest);
            self.review(since);
        }
    }
}

struct History {
    scene: Scene,
    models: BTreeMap<&'static str, Model>,
    random: StdRng,
    now: u64,
    /// How long the history is kept, in minutes.
    kept: u64,
}

impl History {
    fn pick<T: Copy>(&mut self, from: impl IntoIterator<Item = T>) -> Option<T> {
        from.into_iter().collect::<Vec<_>>().choose(&mut self.random).copied()
    }

    fn step(&mut self) {
        let name = self.pick(REPOSITORIES).unwrap();
        let repository = self.scene.repository(name);
        let (now, history) = (self.now, self.kept);
        match self.random.random_range(0..100) {
            0..25 => {
                let number = self.random.random_range(0..8);
                let digest = repository.push_blob(format!("blob {number}").as_bytes());
                let model = self.models.get_mut(name).unwrap();
                model.blobs.insert(digest);
                model.touch(digest, now);
            }
            25..50 => self.push_manifest(name, &repository),
            50..60 => {
                let tag = self.pick(TAGS).unwrap();
                let deleted = repository.delete(tag).is_ok();
                let model = self.models.get_mut(name).unwrap();
                let before = model.tags.remove(tag);
                assert_eq!(deleted, before.is_some());
                model.remember(before, now, history);
                model.review(now);
            }
            60..65 => {
                let Some(digest) = self.pick(self.models[name].manifests.keys().copied().collect::<Vec<_>>()) else {
                    return;
                };
                let deleted = repository.delete(&digest.to_string()).is_ok();
                let model = self.models.get_mut(name).unwrap();
                let listed = model.manifests.values().any(|content| content.manifests.contains(&digest));
                assert_eq!(deleted, !listed);
                if deleted {
                    let content = model.manifests.remove(&digest).unwrap();
                    if history > 0 {
                        // A referrer that was deleted refers to nothing.
                        model.deleted.insert(digest, Content { subject: None, ..content });
                    }
                    model.tags.retain(|_, tagged| *tagged != digest);
                    model.remember(Some(digest), now, history);
                    model.review(now);
                }
            }
            65..70 => {
                let Some(digest) = self.pick(self.models[name].blobs.iter().copied().collect::<Vec<_>>()) else {
                    return;
                };
                let deleted = repository.delete_blob(digest).is_ok();
                let model = self.models.get_mut(name).unwrap();
                assert_eq!(deleted, !model.is_referenced(digest), "a blob can be deleted unless it is referenced");
                if deleted {
                    model.blobs.remove(&digest);
                    model.review(now);
                }
            }
            70..78 => {
                let other = self.pick(REPOSITORIES).unwrap();
                let Some(digest) = self.pick(self.models[other].blobs.iter().copied().collect::<Vec<_>>()) else {
                    return;
                };
                assert!(repository.mount(digest, |_| true).unwrap());
                let model = self.models.get_mut(name).unwrap();
                model.blobs.insert(digest);
                model.touch(digest, now);
            }
            78..83 => {
                let Some(digest) = self.pick(self.models[name].blobs.iter().copied().collect::<Vec<_>>()) else {
                    return;
                };
                repository.blob_size(digest).unwrap();
                self.models.get_mut(name).unwrap().touch(digest, now);
            }
            83..86 if history > 0 => self.restore(name, &repository),
            83..93 => {
                let minutes = self.random.random_range(1..80);
                self.now += minutes;
                self.scene.clock.advance(std::time::Duration::from_secs(60 * minutes));
            }
            _ => {
                self.scene.stores.tidy_tags().unwrap();
                for model in self.models.values_mut() {
                    model.tidy(now, history);
                }
                collect(&self.scene);
                for model in self.models.values_mut() {
                    model.collect(now);
                }
                self.compare();
            }
        }
    }

    fn restore(&mut self, name: &'static str, repository: &Repository) {
        let (now, history) = (self.now, self.kept);
        let Some(digest) = self.pick(self.models[name].deleted.keys().copied().collect::<Vec<_>>()) else { return };
        let tag = if self.random.random_bool(0.5) { self.pick(TAGS) } else { None };
        let restored = match tag {
            Some(tag) => repository.restore_tag(&tag.parse().unwrap(), digest).map(drop),
            None => repository.restore_manifest(digest),
        };
        let model = self.models.get_mut(name).unwrap();
        let (mut whole, mut next) = (Vec::new(), vec![digest]);
        while let Some(digest) = next.pop() {
            let Some(content) = model.deleted.get(&digest).filter(|_| !whole.contains(&digest)) else { continue };
            next.extend(&content.manifests);
            whole.push(digest);
        }
        let has_blobs = |digest: &Digest| model.deleted[digest].blobs.iter().all(|blob| model.blobs.contains(blob));
        let is_kept = model.past.get(&digest).is_some_and(|ended| now - *ended < history);
        assert_eq!(restored.is_ok(), is_kept && whole.iter().all(has_blobs), "{restored:?}");
        if restored.is_err() {
            return;
        }
        for digest in whole {
            let content = model.deleted.remove(&digest).unwrap();
            model.manifests.insert(digest, content);
        }
        if let Some(tag) = tag {
            let before = model.tags.insert(tag, digest).filter(|before| *before != digest);
            model.remember(before, now, history);
        }
        model.review(now);
    }

    fn push_manifest(&mut self, name: &'static str, repository: &Repository) {
        let (now, history) = (self.now, self.kept);
        let note = self.random.random_range(0..3).to_string();
        let mut content = Content::default();
        let children: Vec<_> = self.models[name].manifests.keys().copied().collect();
        let bytes = if self.random.random_bool(0.3) && !children.is_empty() {
            content.manifests = children.sample(&mut self.random, 2).copied().collect();
            index(&content.manifests, &note)
        } else {
            let blobs: Vec<_> = self.models[name].blobs.iter().copied().collect();
            if blobs.is_empty() {
                return;
            }
            content.blobs = blobs.sample(&mut self.random, 2).copied().collect();
            content.subject = if self.random.random_bool(0.2) { self.pick(children) } else { None };
            image(&content.blobs, content.subject, &note)
        };
        let tags: Vec<_> =
            if self.random.random_bool(0.5) { self.pick(TAGS).into_iter().collect() } else { Vec::new() };
        let digest = repository.push_manifest(&bytes, &tags).unwrap();
        let model = self.models.get_mut(name).unwrap();
        model.deleted.remove(&digest);
        model.manifests.insert(digest, content);
        for tag in tags {
            let before = model.tags.insert(tag, digest).filter(|before| *before != digest);
            model.remember(before, now, history);
        }
        model.touch(digest, now);
    }

    /// Everything the model has must be there; what it has not must be gone, but for referrers.
    fn compare(&mut self) {
        let unreferenced = self.scene.stores.disk_use().unwrap().unreferenced;
        let removed = self.scene.stores.dry_run_everything().unwrap();
        assert!(unreferenced == 0 || removed.manifests + removed.blobs > 0, "{unreferenced} B are counted, and stay");
        let mut findings = Findings::default();
        for name in REPOSITORIES {
            let name = name.parse().unwrap();
            self.scene.stores.database.read(|tx| tx.verify_repository(&name, &mut findings)).unwrap();
        }
        assert!(findings.derived.is_empty() && findings.lost.is_empty(), "{findings:?}");
        for (name, model) in &mut self.models {
            let repository = self.scene.repository(name);
            let contents = { self.scene.stores.database.read(|tx| tx.contents(&name.parse().unwrap())).unwrap() };
            for (digest, content) in model.manifests.clone() {
                let there = repository.has_manifest(digest);
                if !there && content.subject.is_some() {
                    // It went with its subject.
                    model.manifests.remove(&digest);
                    continue;
                }
                assert!(there, "{name} has lost the manifest {digest}");
            }
            // Blobs of removed referrers became unreferenced with them. The model does not know when that was.
            model.review(0);
            model.collect(self.now);
            for digest in model.deleted.keys() {
                assert!(contents.deleted.contains(digest) && !repository.has_manifest(*digest), "{name}: {digest}");
            }
            for digest in &contents.deleted {
                assert!(model.deleted.contains_key(digest), "{name} can restore the manifest {digest}");
            }
            for digest in &contents.manifests {
                assert!(model.manifests.contains_key(digest), "{name} keeps the manifest {digest}");
            }
            for digest in &model.blobs {
                let is_there = repository.has_blob(*digest) && self.scene.has_file(*digest);
                assert!(is_there, "{name} has lost the blob {digest}");
            }
            let extra: Vec<_> = contents.blobs.iter().filter(|blob| !model.blobs.contains(blob)).collect();
            assert!(extra.is_empty(), "{name} keeps the blobs {extra:?}");
        }
    }
}

/// Random histories, with what tags pointed at kept for so many minutes.
fn try_histories(minutes: u64) {
    for seed in 0..HISTORIES {
        let tag_history = std::time::Duration::from_secs(60 * minutes);
        let mut history = History {
            scene: Scene::new(Rules { tag_history, ..rules() }),
            models: REPOSITORIES.map(|name| (name, Model::default())).into(),
            random: StdRng::seed_from_u64(seed),
            now: 0,
            kept: minutes,
        };
        for _ in 0..OPERATIONS {
            history.step();
        }
    }
}

#[test]
fn after_any_history_what_is_needed_is_there_and_what_is_not_is_gone() {
    try_histories(0);
}

#[test]
fn after_any_history_what_was_deleted_by_digest_can_be_restored_or_is_gone() {
    try_histories(100);
}
