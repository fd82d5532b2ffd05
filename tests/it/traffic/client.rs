//! [`Client`]: one that pushes, mounts, tags, reads and deletes, as its number and its steps have it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde_json::{Value, json};

use super::memory::{Manifest, Presence, Upload};
use super::{Memory, Pulse, SHARED};
use crate::support::content::{EMPTY, LAYER, MANIFEST, bytes, descriptor, image, noise, sha256};
use crate::support::http::{Answer, Caller, Request};

/// A client has at most this many tags, and blobs that nothing needs; then the oldest go.
const TAGS_MAX: usize = 6;
const BLOBS_MAX: usize = 8;

/// A manifest is pushed again this often after a collection without a delay took what it needs.
const ATTEMPTS: usize = 100;

/// One client, which alone writes to its repositories.
#[derive(Debug)]
pub struct Client {
    number: u64,
    step: u64,
    caller: Caller,
    pulse: Arc<Pulse>,
    /// The layer that everybody mounts, and its size.
    shared: (String, usize),
    pub memory: Memory,
}

/// The error of a client without a response.
type Heard = Option<()>;

impl Client {
    pub fn new(number: u64, caller: Caller, shared: (String, usize)) -> Self {
        let memory = Memory::new(format!("r{number}"));
        Self { number, step: 0, caller, pulse: Arc::default(), shared, memory }
    }

    /// Speaks to another process from now on.
    pub fn turn_to(&mut self, caller: Caller, pulse: Arc<Pulse>) {
        self.caller = caller;
        self.pulse = pulse;
    }

    /// Continues until the registry stops answering, or until it is stopped.
    pub async fn run(&mut self) {
        while !self.pulse.is_stopped() && self.next().await.is_some() {
            self.memory.prune();
            // Some steps have nothing to do, and wait for nothing.
            tokio::task::yield_now().await;
        }
    }

    /// A number that looks random, and is the same for the same step.
    fn choose(&self, salt: u64, below: u64) -> u64 {
        // SplitMix64.
        let mixed = (self.number << 48 ^ self.step << 8 ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ mixed >> 31) % below.max(1)
    }

    fn seed(&self, salt: u64) -> u64 {
        self.number << 50 | self.step << 4 | salt
    }

    fn size(&self) -> usize {
        [100, 3_000, 60_000, 400_000][usize::try_from(self.choose(1, 4)).unwrap()]
    }

    async fn next(&mut self) -> Heard {
        self.step += 1;
        if self.memory.tagged().count() > TAGS_MAX {
            return if self.choose(2, 2) == 0 { self.delete_tag().await } else { self.delete_manifest().await };
        }
        let blobs = self.memory.blobs.iter().filter(|(_, (_, presence))| *presence == Presence::There);
        let mut blobs = blobs.map(|(digest, _)| digest.clone());
        if let (Some(first), BLOBS_MAX..) = (blobs.next(), blobs.count()) {
            return self.delete_blob(first).await;
        }
        match self.choose(3, 16) {
            0..2 => self.blob().await,
            2..6 => self.chunked().await,
            6..9 => self.image().await,
            9..11 => self.referrer().await,
            11 => self.copy().await,
            12 => self.retag().await,
            13 => self.pull().await,
            14 => self.token().await,
            _ => self.guess().await,
        }
    }

    /// Sends a request. Returns `None` without a response.
    async fn send(&self, request: Request) -> Option<Answer> {
        let answer = request.try_send().await.ok()?;
        assert!(!answer.status.is_server_error(), "{}: {}", answer.status, answer.text());
        self.pulse.answered();
        Some(answer)
    }

    async fn push_blob(&mut self, repository: &str, content: &Bytes) -> Option<String> {
        let digest = sha256(content);
        self.memory.try_blob(&digest);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        self.send(self.caller.post(&path).body(content.clone())).await?.status(201);
        self.memory.blob_answered(&digest);
        Some(digest)
    }

    async fn blob(&mut self) -> Heard {
        let content = noise(self.size(), self.seed(0));
        let (home, digest) = (self.memory.home.clone(), sha256(&content));
        self.memory.blobs.insert(digest.clone(), (content.clone(), Presence::Open));
        self.push_blob(&home, &content).await?;
        self.memory.blobs.insert(digest, (content, Presence::There));
        Some(())
    }

    async fn chunked(&mut self) -> Heard {
        let content = noise(self.size(), self.seed(0));
        let (home, digest) = (self.memory.home.clone(), sha256(&content));
        let start = self.send(self.caller.post(&format!("/v2/{home}/blobs/uploads/"))).await?;
        let location = start.status(202).location();
        let upload = Upload { location: location.clone(), content: content.clone(), reached: 0, is_finishing: false };
        self.memory.uploads.push(upload);
        let place = self.memory.uploads.len() - 1;
        let third = content.len() / 3;
        for end in [third, 2 * third] {
            let piece = content.slice(self.memory.uploads[place].reached..end);
            self.send(self.caller.patch(&location).body(piece)).await?.status(202);
            self.memory.uploads[place].reached = end;
        }
        self.memory.try_blob(&digest);
        self.memory.blobs.insert(digest.clone(), (content.clone(), Presence::Open));
        self.memory.uploads[place].is_finishing = true;
        let last = self.caller.put(&format!("{location}?digest={digest}")).body(content.slice(2 * third..));
        self.send(last).await?.status(201);
        self.memory.uploads.remove(place);
        self.memory.blob_answered(&digest);
        self.memory.blobs.insert(digest, (content, Presence::There));
        Some(())
    }

    /// An image of a configuration, a layer, and a layer that everybody has.
    async fn image(&mut self) -> Heard {
        let (config, layer) = (noise(300, self.seed(1)), noise(self.size(), self.seed(2)));
        let mut manifest = image(&config, &[&layer]);
        let shared = json!({ "mediaType": LAYER, "digest": self.shared.0, "size": self.shared.1 });
        manifest["layers"].as_array_mut().unwrap().push(shared);
        let (home, tag) = (self.memory.home.clone(), format!("t{}", self.step));
        self.push(&home, Some(&tag), manifest, &[config, layer], None).await
    }

    /// A small artifact that refers to an image.
    async fn referrer(&mut self) -> Heard {
        let home = self.memory.home.clone();
        let subjects: Vec<String> = self.images().into_iter().map(|(_, digest)| digest).collect();
        let Some(subject) = subjects.get(usize::try_from(self.choose(4, subjects.len() as u64)).unwrap()) else {
            return Some(());
        };
        let (config, layer) = (Bytes::from_static(b"{}"), noise(500, self.seed(3)));
        let mut manifest = image(&config, &[&layer]);
        manifest["config"]["mediaType"] = EMPTY.into();
        manifest["artifactType"] = "application/vnd.example.note".into();
        let body = &self.memory.manifests[&(home.clone(), subject.clone())].body;
        manifest["subject"] = descriptor(MANIFEST, body);
        self.push(&home, None, manifest, &[config, layer], Some(subject.clone())).await
    }

    /// Images that are surely there, by tag.
    fn images(&self) -> Vec<(String, String)> {
        let home = self.memory.tagged().filter(|((repository, _), _)| *repository == self.memory.home);
        home.map(|((_, tag), digest)| (tag.clone(), digest.clone())).collect()
    }

    /// Pushes what a manifest needs, and the manifest.
    async fn push(
        &mut self,
        repository: &str,
        tag: Option<&str>,
        manifest: Value,
        contents: &[Bytes],
        subject: Option<String>,
    ) -> Heard {
        let body = Bytes::from(bytes(&manifest));
        let digest = sha256(&body);
        let place = (repository.to_owned(), digest.clone());
        let mut blobs: Vec<String> = contents.iter().map(|content| sha256(content)).collect();
        let is_image = subject.is_none();
        blobs.extend(is_image.then(|| self.shared.0.clone()));
        for _ in 0..ATTEMPTS {
            for content in contents {
                // A client that hears of a blob does not send it.
                let head = self.caller.head(&format!("/v2/{repository}/blobs/{}", sha256(content)));
                if self.send(head).await?.status != 200 {
                    self.push_blob(repository, content).await?;
                }
            }
            if is_image {
                let mount = format!("/v2/{repository}/blobs/uploads/?mount={}&from={SHARED}", self.shared.0);
                self.send(self.caller.post(&mount)).await?.status(201);
            }
            let known = self.memory.manifests.entry(place.clone()).or_insert_with(|| Manifest {
                body: body.clone(),
                blobs: blobs.clone(),
                subject: subject.clone(),
                presence: Presence::Open,
            });
            let before = known.presence;
            if let Some(tag) = tag {
                self.may(repository, tag, Some(digest.clone()));
            }
            let path = format!("/v2/{repository}/manifests/{}", tag.unwrap_or(&digest));
            let answer = self.send(self.caller.put(&path).header("content-type", MANIFEST).body(body.clone())).await?;
            if answer.status == 201 {
                self.memory.manifests.get_mut(&place).unwrap().presence = Presence::There;
                self.settle(repository, tag, 1);
                return Some(());
            }
            assert_eq!(answer.status(400).json()["errors"][0]["code"], "MANIFEST_BLOB_UNKNOWN");
            self.pulse.collected_before_use.fetch_add(1, Ordering::Relaxed);
            self.memory.manifests.get_mut(&place).unwrap().presence = before;
            self.settle(repository, tag, 0);
        }
        panic!("{repository}: a collection has taken the blobs of a manifest {ATTEMPTS} times");
    }

    /// A tag may name something else from now on.
    fn may(&mut self, repository: &str, tag: &str, digest: Option<String>) {
        let may = self.memory.tags.entry((repository.to_owned(), tag.to_owned())).or_insert_with(|| vec![None]);
        may.push(digest);
    }

    /// The tag names this one of two possible manifests.
    fn settle(&mut self, repository: &str, tag: Option<&str>, which: usize) {
        let Some(tag) = tag else { return };
        let place = (repository.to_owned(), tag.to_owned());
        let named = self.memory.tags[&place][which].clone();
        // One that names nothing for sure is looked at once more, and then forgotten.
        self.memory.tags.insert(place, vec![named]);
    }

    /// Another repository with an image of this one, whose blobs are mounted.
    async fn copy(&mut self) -> Heard {
        let (home, copy) = (self.memory.home.clone(), format!("{}/copy", self.memory.home));
        let images = self.images();
        let Some((tag, digest)) = images.get(usize::try_from(self.choose(5, images.len() as u64)).unwrap()) else {
            return Some(());
        };
        let manifest = self.memory.manifests[&(home.clone(), digest.clone())].clone();
        for blob in &manifest.blobs {
            let mount = format!("/v2/{copy}/blobs/uploads/?mount={blob}&from={home}");
            self.send(self.caller.post(&mount)).await?.status(201);
        }
        let place = (copy.clone(), digest.clone());
        self.memory.manifests.entry(place.clone()).or_insert(Manifest { presence: Presence::Open, ..manifest.clone() });
        self.may(&copy, tag, Some(digest.clone()));
        let put = self.caller.put(&format!("/v2/{copy}/manifests/{tag}")).header("content-type", MANIFEST);
        let answer = self.send(put.body(manifest.body)).await?;
        if answer.status == 201 {
            self.memory.manifests.get_mut(&place).unwrap().presence = Presence::There;
            self.settle(&copy, Some(tag), 1);
        } else {
            assert_eq!(answer.status(400).json()["errors"][0]["code"], "MANIFEST_BLOB_UNKNOWN");
            self.pulse.collected_before_use.fetch_add(1, Ordering::Relaxed);
            self.settle(&copy, Some(tag), 0);
        }
        Some(())
    }

    /// Moves a tag to an image.
    async fn retag(&mut self) -> Heard {
        let home = self.memory.home.clone();
        let images = self.images();
        let Some((_, digest)) = images.get(usize::try_from(self.choose(6, images.len() as u64)).unwrap()) else {
            return Some(());
        };
        let body = self.memory.manifests[&(home.clone(), digest.clone())].body.clone();
        self.may(&home, "latest", Some(digest.clone()));
        let put = self.caller.put(&format!("/v2/{home}/manifests/latest")).header("content-type", MANIFEST);
        self.send(put.body(body)).await?.status(201);
        self.settle(&home, Some("latest"), 1);
        Some(())
    }

    async fn delete_tag(&mut self) -> Heard {
        let tagged: Vec<_> = self.memory.tagged().map(|(place, _)| place.clone()).collect();
        let Some((repository, tag)) = tagged.get(usize::try_from(self.choose(7, tagged.len() as u64)).unwrap()) else {
            return Some(());
        };
        self.may(repository, tag, None);
        self.send(self.caller.delete(&format!("/v2/{repository}/manifests/{tag}"))).await?.status(202);
        self.settle(repository, Some(tag), 1);
        Some(())
    }

    /// Deletes a manifest, with all of its tags.
    async fn delete_manifest(&mut self) -> Heard {
        let tagged: Vec<_> = self.memory.tagged().map(|(place, digest)| (place.0.clone(), digest.clone())).collect();
        let Some(place) = tagged.get(usize::try_from(self.choose(8, tagged.len() as u64)).unwrap()) else {
            return Some(());
        };
        let named = |may: &Vec<Option<String>>| *may == [Some(place.1.clone())];
        let tags = self.memory.tags.iter().filter(|((repository, _), may)| *repository == place.0 && named(may));
        let tags: Vec<String> = tags.map(|((_, tag), _)| tag.clone()).collect();
        self.memory.manifests.get_mut(place).unwrap().presence = Presence::Open;
        for tag in &tags {
            self.may(&place.0, tag, None);
        }
        self.send(self.caller.delete(&format!("/v2/{}/manifests/{}", place.0, place.1))).await?.status(202);
        self.memory.manifests.get_mut(place).unwrap().presence = Presence::Gone;
        for tag in &tags {
            self.settle(&place.0, Some(tag), 1);
        }
        self.send(self.caller.get(&format!("/v2/{}/manifests/{}", place.0, place.1))).await?.status(404);
        Some(())
    }

    async fn delete_blob(&mut self, digest: String) -> Heard {
        let content = self.memory.blobs[&digest].0.clone();
        self.memory.blobs.insert(digest.clone(), (content.clone(), Presence::Open));
        let delete = self.caller.delete(&format!("/v2/{}/blobs/{digest}", self.memory.home));
        let answer = self.send(delete).await?;
        // It may have been collected before.
        assert!(matches!(answer.status.as_u16(), 202 | 404), "{}", answer.text());
        self.memory.blobs.insert(digest, (content, Presence::Gone));
        Some(())
    }

    /// Pulls an image, whole.
    async fn pull(&mut self) -> Heard {
        let images = self.images();
        let Some((tag, digest)) = images.get(usize::try_from(self.choose(9, images.len() as u64)).unwrap()) else {
            return Some(());
        };
        let home = &self.memory.home;
        let answer = self.send(self.caller.get(&format!("/v2/{home}/manifests/{tag}"))).await?.status(200);
        assert_eq!(sha256(&answer.body), *digest, "{home}:{tag}");
        for blob in &self.memory.manifests[&(home.clone(), digest.clone())].blobs {
            let answer = self.send(self.caller.get(&format!("/v2/{home}/blobs/{blob}"))).await?.status(200);
            assert_eq!(sha256(&answer.body), *blob, "torn");
        }
        Some(())
    }

    /// Gets a token, and reads with it.
    async fn token(&mut self) -> Heard {
        let home = &self.memory.home;
        let path = format!("/v2/auth?service={}&scope=repository:{home}:pull", self.caller.address());
        let token = self.send(self.caller.get(&path)).await?.status(200).json()["token"].as_str().unwrap().to_owned();
        let anonymous = Caller::new(self.caller.address(), None);
        let list = anonymous.get(&format!("/v2/{home}/tags/list")).header("authorization", format!("Bearer {token}"));
        let answer = self.send(list).await?;
        assert!(matches!(answer.status.as_u16(), 200 | 404), "{}: {}", answer.status, answer.text());
        Some(())
    }

    /// Guesses a password.
    async fn guess(&mut self) -> Heard {
        let password = format!("guess {}", self.step);
        let guess = Caller::new(self.caller.address(), Some(("mallory", &password))).get("/v2/");
        let answer = self.send(guess).await?;
        assert!(matches!(answer.status.as_u16(), 401 | 429), "{}", answer.status);
        Some(())
    }
}
