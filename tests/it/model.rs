//! Random pushes, mounts, tags and deletions over a few repositories, held against a model: after each
//! step every list and every read must be what the model says.
//!
//! A failure prints the shortest sequence that fails and the seed to see it again with
//! (`PROPTEST_RNG_SEED`).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use coracle::{AccessPolicy, Registry};
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Request};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use serde_json::{Value, json};

use crate::support::content::{MANIFEST, bytes, descriptor, image, index, sha256};

const REPOSITORIES: [&str; 3] = ["a", "a/b", "b"];
const TAGS: [&str; 3] = ["1", "1.0", "latest"];
const BLOBS: [&[u8]; 4] = [b"{}", b"first layer", b"second layer", b"third layer"];
const CASES: u32 = 32;
const STEPS_MAX: usize = 40;

/// A manifest of the model: its bytes, and what it needs by number.
struct Content {
    media_type: String,
    bytes: Vec<u8>,
    digest: String,
    blobs: Vec<usize>,
    children: Vec<usize>,
    subject: Option<usize>,
}

/// Images, artifacts with a subject, an index, an index of an index, an index with a subject.
fn contents() -> Vec<Content> {
    let with_subject = |mut manifest: Value, subject: &Value, kind: &str| {
        manifest["subject"] = descriptor(MANIFEST, &bytes(subject));
        manifest["artifactType"] = kind.into();
        manifest
    };
    let first = image(BLOBS[0], &[BLOBS[1]]);
    let second = image(BLOBS[0], &[BLOBS[2], BLOBS[3], BLOBS[2]]);
    let signature = with_subject(image(BLOBS[0], &[]), &first, "application/signature");
    let sbom = with_subject(image(BLOBS[0], &[BLOBS[1]]), &second, "application/sbom");
    let both = index(&[&first, &second]);
    let nested = index(&[&both, &signature]);
    let notes = with_subject(index(&[&first]), &first, "application/notes");
    let content = |manifest: Value, blobs: &[usize], children: &[usize], subject| Content {
        media_type: manifest["mediaType"].as_str().unwrap().to_owned(),
        bytes: bytes(&manifest),
        digest: sha256(&bytes(&manifest)),
        blobs: blobs.to_vec(),
        children: children.to_vec(),
        subject,
    };
    vec![
        content(first, &[0, 1], &[], None),
        content(second, &[0, 2, 3], &[], None),
        content(signature, &[0], &[], Some(0)),
        content(sbom, &[0, 1], &[], Some(1)),
        content(both, &[], &[0, 1], None),
        content(nested, &[], &[4, 2], None),
        content(notes, &[], &[0], Some(0)),
    ]
}

const CONTENTS: usize = 7;

/// A step; numbers stand for repositories, blobs, manifests and tags.
#[derive(Clone, Debug)]
enum Step {
    PushBlob { repository: usize, blob: usize },
    PushBlobInParts { repository: usize, blob: usize },
    Mount { repository: usize, blob: usize, from: usize },
    PutByTag { repository: usize, manifest: usize, tag: usize },
    PutByDigest { repository: usize, manifest: usize, tags: Vec<usize> },
    DeleteTag { repository: usize, tag: usize },
    DeleteManifest { repository: usize, manifest: usize },
    DeleteBlob { repository: usize, blob: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (repository, blob) = (0..REPOSITORIES.len(), 0..BLOBS.len());
    let (manifest, tag) = (0..CONTENTS, 0..TAGS.len());
    let of_blob = (repository.clone(), blob);
    let of_manifest = (repository.clone(), manifest);
    let tags = prop::collection::vec(tag.clone(), 0..3);
    prop_oneof![
        6 => of_blob.clone().prop_map(|(repository, blob)| Step::PushBlob { repository, blob }),
        2 => of_blob.clone().prop_map(|(repository, blob)| Step::PushBlobInParts { repository, blob }),
        3 => (of_blob.clone(), repository.clone())
            .prop_map(|((repository, blob), from)| Step::Mount { repository, blob, from }),
        6 => (of_manifest.clone(), tag.clone())
            .prop_map(|((repository, manifest), tag)| Step::PutByTag { repository, manifest, tag }),
        5 => (of_manifest.clone(), tags)
            .prop_map(|((repository, manifest), tags)| Step::PutByDigest { repository, manifest, tags }),
        2 => (repository, tag).prop_map(|(repository, tag)| Step::DeleteTag { repository, tag }),
        3 => of_manifest.prop_map(|(repository, manifest)| Step::DeleteManifest { repository, manifest }),
        3 => of_blob.prop_map(|(repository, blob)| Step::DeleteBlob { repository, blob }),
    ]
}

/// The expected content of a repository.
#[derive(Clone, Debug, Default)]
struct Repository {
    blobs: BTreeSet<usize>,
    manifests: BTreeSet<usize>,
    tags: BTreeMap<&'static str, usize>,
}

impl Repository {
    fn put(&mut self, contents: &[Content], manifest: usize, tags: impl IntoIterator<Item = usize>) -> u16 {
        let Content { blobs, children, .. } = &contents[manifest];
        let complete = blobs.iter().all(|blob| self.blobs.contains(blob))
            && children.iter().all(|child| self.manifests.contains(child));
        if !complete {
            return 400;
        }
        self.manifests.insert(manifest);
        self.tags.extend(tags.into_iter().map(|tag| (TAGS[tag], manifest)));
        201
    }

    fn delete_manifest(&mut self, contents: &[Content], manifest: usize) -> u16 {
        if !self.manifests.contains(&manifest) {
            return 404;
        }
        if self.manifests.iter().any(|index| contents[*index].children.contains(&manifest)) {
            return 405;
        }
        self.manifests.remove(&manifest);
        self.tags.retain(|_, tagged| *tagged != manifest);
        202
    }

    fn delete_blob(&mut self, contents: &[Content], blob: usize) -> u16 {
        if !self.blobs.contains(&blob) {
            return 404;
        }
        if self.manifests.iter().any(|manifest| contents[*manifest].blobs.contains(&blob)) {
            return 405;
        }
        self.blobs.remove(&blob);
        202
    }

    fn exists(&self) -> bool {
        !self.blobs.is_empty() || !self.manifests.is_empty()
    }
}

/// A registry and what it should contain.
struct Pair {
    registry: Registry,
    model: BTreeMap<&'static str, Repository>,
    contents: Vec<Content>,
}

impl Pair {
    fn new() -> Self {
        let registry = Registry::builder().policy(AccessPolicy::Open).temporary().open().unwrap();
        let model = REPOSITORIES.map(|name| (name, Repository::default())).into();
        Self { registry, model, contents: contents() }
    }

    async fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, HeaderMap, Bytes) {
        let request = Request::builder().method(method).uri(path).header("content-type", kind);
        let request = request.body(Full::from(Bytes::copy_from_slice(body))).unwrap();
        let (head, body) = self.registry.answer(request).await.into_parts();
        (head.status.as_u16(), head.headers, body.collect().await.unwrap().to_bytes())
    }

    async fn get(&self, path: &str) -> (u16, HeaderMap, Bytes) {
        self.send("GET", path, "", b"").await
    }

    async fn start(&self, query: String) -> (u16, String) {
        let (status, headers, _) = self.send("POST", &query, "", b"").await;
        (status, headers["location"].to_str().unwrap().to_owned())
    }

    /// Takes a step on both sides; says what the registry answered and what it should have.
    async fn take(&mut self, step: &Step) -> (u16, u16) {
        match step {
            Step::PushBlob { repository, blob } => {
                let (name, content) = (REPOSITORIES[*repository], BLOBS[*blob]);
                let path = format!("/v2/{name}/blobs/uploads/?digest={}", sha256(content));
                self.model.get_mut(name).unwrap().blobs.insert(*blob);
                (self.send("POST", &path, "", content).await.0, 201)
            }
            Step::PushBlobInParts { repository, blob } => {
                let (name, content) = (REPOSITORIES[*repository], BLOBS[*blob]);
                let (_, location) = self.start(format!("/v2/{name}/blobs/uploads/")).await;
                let (first, rest) = content.split_at(1);
                assert_eq!(self.send("PATCH", &location, "", first).await.0, 202);
                self.model.get_mut(name).unwrap().blobs.insert(*blob);
                let put = format!("{location}?digest={}", sha256(content));
                (self.send("PUT", &put, "", rest).await.0, 201)
            }
            Step::Mount { repository, blob, from } => {
                let (name, from, digest) = (REPOSITORIES[*repository], REPOSITORIES[*from], sha256(BLOBS[*blob]));
                let found = self.model.values().any(|repository| repository.blobs.contains(blob));
                let path = format!("/v2/{name}/blobs/uploads/?mount={digest}&from={from}");
                let (status, location) = self.start(path).await;
                if found {
                    self.model.get_mut(name).unwrap().blobs.insert(*blob);
                } else {
                    assert_eq!(self.send("DELETE", &location, "", b"").await.0, 204);
                }
                (status, if found { 201 } else { 202 })
            }
            Step::PutByTag { repository, manifest, tag } => {
                let (name, content) = (REPOSITORIES[*repository], &self.contents[*manifest]);
                let path = format!("/v2/{name}/manifests/{}", TAGS[*tag]);
                let expected = self.model.get_mut(name).unwrap().put(&self.contents, *manifest, [*tag]);
                (self.send("PUT", &path, &content.media_type, &content.bytes).await.0, expected)
            }
            Step::PutByDigest { repository, manifest, tags } => {
                let (name, content) = (REPOSITORIES[*repository], &self.contents[*manifest]);
                let query: Vec<String> = tags.iter().map(|tag| format!("tag={}", TAGS[*tag])).collect();
                let path = format!("/v2/{name}/manifests/{}?{}", content.digest, query.join("&"));
                let tags = tags.iter().copied();
                let expected = self.model.get_mut(name).unwrap().put(&self.contents, *manifest, tags);
                (self.send("PUT", &path, &content.media_type, &content.bytes).await.0, expected)
            }
            Step::DeleteTag { repository, tag } => {
                let (name, tag) = (REPOSITORIES[*repository], TAGS[*tag]);
                let there = self.model.get_mut(name).unwrap().tags.remove(tag).is_some();
                let path = format!("/v2/{name}/manifests/{tag}");
                (self.send("DELETE", &path, "", b"").await.0, if there { 202 } else { 404 })
            }
            Step::DeleteManifest { repository, manifest } => {
                let name = REPOSITORIES[*repository];
                let expected = self.model.get_mut(name).unwrap().delete_manifest(&self.contents, *manifest);
                let path = format!("/v2/{name}/manifests/{}", self.contents[*manifest].digest);
                (self.send("DELETE", &path, "", b"").await.0, expected)
            }
            Step::DeleteBlob { repository, blob } => {
                let name = REPOSITORIES[*repository];
                let expected = self.model.get_mut(name).unwrap().delete_blob(&self.contents, *blob);
                let path = format!("/v2/{name}/blobs/{}", sha256(BLOBS[*blob]));
                (self.send("DELETE", &path, "", b"").await.0, expected)
            }
        }
    }

    /// Holds every list and every read against the model.
    async fn compare(&self) {
        let listed: Value = serde_json::from_slice(&self.get("/v2/_catalog").await.2).unwrap();
        let existing = self.model.iter().filter(|(_, repository)| repository.exists()).map(|(name, _)| *name);
        assert_eq!(listed, json!({ "repositories": existing.collect::<Vec<_>>() }));
        for (name, repository) in &self.model {
            let (status, _, body) = self.get(&format!("/v2/{name}/tags/list")).await;
            assert_eq!(status, if repository.exists() { 200 } else { 404 }, "{name}");
            if repository.exists() {
                let tags: Vec<&str> = repository.tags.keys().copied().collect();
                assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), json!({ "name": name, "tags": tags }));
            }
            for tag in TAGS {
                self.compare_manifest(name, tag, repository.tags.get(tag).copied()).await;
            }
            for (number, content) in self.contents.iter().enumerate() {
                let expected = repository.manifests.contains(&number).then_some(number);
                self.compare_manifest(name, &content.digest, expected).await;
                self.compare_referrers(name, repository, number).await;
            }
            for (number, content) in BLOBS.iter().enumerate() {
                let (status, _, body) = self.get(&format!("/v2/{name}/blobs/{}", sha256(content))).await;
                let there = repository.blobs.contains(&number);
                assert_eq!(status, if there { 200 } else { 404 }, "{name}: blob {number}");
                assert!(!there || body == *content, "{name}: blob {number}");
            }
        }
    }

    async fn compare_manifest(&self, name: &str, reference: &str, expected: Option<usize>) {
        let (status, headers, body) = self.get(&format!("/v2/{name}/manifests/{reference}")).await;
        let Some(expected) = expected.map(|number| &self.contents[number]) else {
            return assert_eq!(status, 404, "{name}: {reference}");
        };
        assert_eq!(status, 200, "{name}: {reference}");
        assert_eq!(body, expected.bytes, "{name}: {reference}");
        assert_eq!(headers["docker-content-digest"], expected.digest.as_str());
        assert_eq!(headers["content-type"], expected.media_type.as_str());
    }

    async fn compare_referrers(&self, name: &str, repository: &Repository, subject: usize) {
        let path = format!("/v2/{name}/referrers/{}", self.contents[subject].digest);
        let listed: Value = serde_json::from_slice(&self.get(&path).await.2).unwrap();
        let listed = listed["manifests"].as_array().unwrap().iter();
        let mut listed: Vec<String> = listed.map(|one| one["digest"].as_str().unwrap().to_owned()).collect();
        let expected = repository.manifests.iter().map(|number| &self.contents[*number]);
        let expected =
            expected.filter(|content| content.subject == Some(subject)).map(|content| content.digest.clone());
        let mut expected: Vec<String> = expected.collect();
        listed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(listed, expected, "{name}: referrers of {subject}");
    }
}

#[test]
fn every_list_and_read_is_what_the_model_says() {
    let mut config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    if let RngSeed::Random = config.rng_seed {
        config.rng_seed = RngSeed::Fixed(rand::random());
    }
    println!("PROPTEST_RNG_SEED={}", config.rng_seed);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let seen: RefCell<BTreeMap<u16, usize>> = RefCell::default();
    let steps = prop::collection::vec(step(), 10..STEPS_MAX);
    let outcome = TestRunner::new(config).run(&steps, |steps: Vec<Step>| {
        runtime.block_on(async {
            let mut pair = Pair::new();
            // Most of what a manifest needs is there from the beginning, so that many are taken.
            let whole = (0..BLOBS.len()).map(|blob| Step::PushBlob { repository: 0, blob });
            let begun = (0..2).map(|blob| Step::PushBlob { repository: 1, blob });
            let images = (0..2).map(|manifest| Step::PutByTag { repository: 0, manifest, tag: manifest });
            for step in whole.chain(begun).chain(images).chain(steps.iter().cloned()).collect::<Vec<_>>() {
                let (answered, expected) = pair.take(&step).await;
                assert_eq!(answered, expected, "{step:?}");
                *seen.borrow_mut().entry(answered).or_default() += 1;
                pair.compare().await;
            }
        });
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    println!("answers by status: {:?}", seen.borrow());
    // A test without a response tests nothing.
    for (status, least) in [(201, 300), (202, 20), (400, 50), (404, 30), (405, 10)] {
        let count = seen.borrow().get(&status).copied().unwrap_or_default();
        assert!(count >= least, "{status} was answered {count} times only");
    }
}
