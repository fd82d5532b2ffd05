//! [`Memory`]: what a client knows of its repositories.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Seen;
use crate::support::content::sha256;
use crate::support::http::Caller;

/// Whether something is there, by the last answer about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    There,
    Gone,
    /// There was no answer.
    Open,
}

/// A repository, and a tag or digest in it.
pub type Place = (String, String);

/// A manifest that was pushed.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub body: Bytes,
    pub blobs: Vec<String>,
    /// The manifest it refers to, by which alone it is kept; one that has no subject is kept by its tags.
    pub subject: Option<String>,
    pub presence: Presence,
}

/// An upload that was begun.
#[derive(Clone, Debug)]
pub struct Upload {
    pub location: String,
    pub content: Bytes,
    /// So many bytes were answered for.
    pub reached: usize,
    /// The last request may have been carried out although no answer came.
    pub is_finishing: bool,
}

#[derive(Debug, Default)]
pub struct Memory {
    /// The client's first repository.
    pub home: String,
    /// The manifests that a tag may name: one, unless a request got no response.
    pub tags: BTreeMap<Place, Vec<Option<String>>>,
    pub manifests: BTreeMap<Place, Manifest>,
    /// Blobs of the client's first repository that no manifest needs.
    pub blobs: BTreeMap<String, (Bytes, Presence)>,
    /// Uploads that are not known to be finished.
    pub uploads: Vec<Upload>,
    /// Blobs whose push was not answered, ever.
    tried: BTreeSet<String>,
}

impl Memory {
    pub fn new(home: String) -> Self {
        Self { home, ..Self::default() }
    }

    /// The last request about a blob may have no answer.
    pub fn try_blob(&mut self, digest: &str) {
        self.tried.insert(digest.to_owned());
    }

    /// It has one.
    pub fn blob_answered(&mut self, digest: &str) {
        self.tried.remove(digest);
    }

    /// Whether the push of a blob was never answered.
    pub fn has_tried(&self, digest: &str) -> bool {
        self.tried.contains(digest)
    }

    /// Tags that surely name something, and what.
    pub fn tagged(&self) -> impl Iterator<Item = (&Place, &String)> {
        self.tags.iter().filter_map(|(place, may)| match &may[..] {
            [Some(digest)] => Some((place, digest)),
            _ => None,
        })
    }

    /// Forgets what no tag names and what refers to nothing.
    pub fn prune(&mut self) {
        let named: BTreeSet<Place> = self
            .tags
            .iter()
            .flat_map(|((repository, _), may)| may.iter().flatten().map(|digest| (repository.clone(), digest.clone())))
            .collect();
        self.manifests.retain(|place, manifest| manifest.subject.is_some() || named.contains(place));
        let there: BTreeSet<Place> = self
            .manifests
            .iter()
            .filter(|(_, manifest)| manifest.presence == Presence::There)
            .map(|(place, _)| place.clone())
            .collect();
        self.manifests.retain(|(repository, _), manifest| {
            manifest.subject.as_ref().is_none_or(|subject| there.contains(&(repository.clone(), subject.clone())))
        });
    }

    /// Goes on with every upload that is open, from where the registry says it is.
    pub async fn go_on(&mut self, caller: &Caller, seen: &mut Seen) {
        for upload in std::mem::take(&mut self.uploads) {
            let digest = sha256(&upload.content);
            let status = caller.get(&upload.location).send().await;
            if upload.is_finishing && status.status == 404 {
                // Cut off behind the point of no return, or carried out and not answered.
                seen.ended += 1;
                continue;
            }
            let status = status.status(204);
            let range = status.header("range").unwrap().strip_prefix("0-").unwrap().parse::<usize>().unwrap();
            let reached = if range == 0 { 0 } else { range + 1 };
            assert!(reached >= upload.reached, "{} bytes were answered for, {reached} are there", upload.reached);
            let last = caller.put(&format!("{}?digest={digest}", upload.location));
            let last = last.body(upload.content.slice(reached..)).send().await;
            last.status(201).has("docker-content-digest", &digest);
            self.blob_answered(&digest);
            self.blobs.insert(digest, (upload.content, Presence::There));
            seen.continued += 1;
        }
    }

    /// Looks at everything: what was answered for is as it was answered, nothing is torn, and what was left open
    /// is one or the other. Blobs that nothing needs may have been collected, if `collected`.
    pub async fn check(&mut self, caller: &Caller, collected: bool, seen: &mut Seen) {
        self.check_tags(caller, seen).await;
        self.check_manifests(caller, seen).await;
        if collected {
            self.blobs.clear();
        }
        for (digest, (content, presence)) in &mut self.blobs {
            let answer = caller.get(&format!("/v2/{}/blobs/{digest}", self.home)).send().await;
            let is_there = answer.status == 200;
            if is_there {
                assert!(answer.body == *content, "{digest} is torn");
            } else {
                answer.status(404);
            }
            *presence = close(*presence, is_there, digest, seen);
        }
        self.blobs.retain(|_, (_, presence)| *presence == Presence::There);
        self.prune();
    }

    async fn check_tags(&mut self, caller: &Caller, seen: &mut Seen) {
        // The deletion of a manifest removes all of its tags or none.
        let is_open = |(_, manifest): &(&Place, &Manifest)| manifest.presence == Presence::Open;
        let open: BTreeSet<Place> = self.manifests.iter().filter(is_open).map(|(place, _)| place.clone()).collect();
        let mut deleted: BTreeMap<Place, BTreeSet<bool>> = BTreeMap::new();
        for ((repository, tag), may) in &mut self.tags {
            let answer = caller.get(&format!("/v2/{repository}/manifests/{tag}")).send().await;
            let named = if answer.status == 200 {
                Some(sha256(&answer.body))
            } else {
                answer.status(404);
                None
            };
            assert!(may.contains(&named), "{repository}:{tag} is {named:?}, and may be {may:?}");
            if let [Some(digest), None] = &may[..] {
                deleted.entry((repository.clone(), digest.clone())).or_default().insert(named.is_some());
            }
            if may.len() > 1 {
                *(if named == may[0] { &mut seen.unheard_undone } else { &mut seen.unheard_done }) += 1;
            } else if named.is_none() {
                seen.gone += 1;
            }
            *may = vec![named.clone()];
            let Some(digest) = named else { continue };
            seen.kept += 1;
            let manifest = self.manifests.get_mut(&(repository.clone(), digest)).expect("a manifest that was pushed");
            manifest.presence = Presence::There;
            for digest in &manifest.blobs {
                let blob = caller.get(&format!("/v2/{repository}/blobs/{digest}")).send().await.status(200);
                assert_eq!(sha256(&blob.body), *digest, "torn");
            }
        }
        for (place, presences) in deleted {
            assert!(!open.contains(&place) || presences.len() == 1, "half of the tags of {place:?} are gone");
        }
        let mut listed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for ((repository, tag), may) in &self.tags {
            listed.entry(repository).or_default().extend(may[0].is_some().then_some(tag.as_str()));
        }
        for (repository, tags) in listed {
            let answer = caller.get(&format!("/v2/{repository}/tags/list")).send().await;
            if answer.status == 404 {
                assert!(tags.is_empty(), "{repository} is gone");
                continue;
            }
            let shown = answer.status(200).json()["tags"].as_array().cloned().unwrap_or_default();
            assert!(shown.iter().map(|tag| tag.as_str().unwrap()).eq(tags), "{repository}: {shown:?}");
        }
        self.tags.retain(|_, may| may[0].is_some());
    }

    async fn check_manifests(&mut self, caller: &Caller, seen: &mut Seen) {
        let there: BTreeSet<Place> =
            self.tagged().map(|((repository, _), digest)| (repository.clone(), digest.clone())).collect();
        for ((repository, digest), manifest) in &mut self.manifests {
            let Some(subject) = &manifest.subject else { continue };
            // The referrer of a missing subject may be collected at any time.
            if !there.contains(&(repository.clone(), subject.clone())) {
                continue;
            }
            let answer = caller.get(&format!("/v2/{repository}/manifests/{digest}")).send().await;
            let is_there = answer.status == 200;
            assert!(!is_there || answer.body == manifest.body, "{repository}@{digest} is torn");
            let list = caller.get(&format!("/v2/{repository}/referrers/{subject}")).send().await.status(200).json();
            let mut referrers = list["manifests"].as_array().unwrap().iter();
            assert_eq!(is_there, referrers.any(|one| one["digest"] == digest.as_str()), "{repository}@{digest}");
            manifest.presence = close(manifest.presence, is_there, digest, seen);
            for digest in manifest.blobs.iter().filter(|_| is_there) {
                caller.head(&format!("/v2/{repository}/blobs/{digest}")).send().await.status(200);
            }
        }
        self.manifests.retain(|_, manifest| manifest.presence == Presence::There);
    }
}

/// Compares the known state with the observed one.
pub fn close(known: Presence, is_there: bool, what: &str, seen: &mut Seen) -> Presence {
    match (known, is_there) {
        (Presence::There, false) => panic!("{what} was answered for, and is gone"),
        (Presence::Gone, true) => panic!("{what} was answered for as gone, and is there"),
        (Presence::There, true) => seen.kept += 1,
        (Presence::Gone, false) => seen.gone += 1,
        (Presence::Open, true) => seen.unheard_done += 1,
        (Presence::Open, false) => seen.unheard_undone += 1,
    }
    if is_there { Presence::There } else { Presence::Gone }
}
