//! `kill -9` in the middle of pushes: what was answered with 2xx is there, nothing is torn, and what
//! was half done goes on.
//!
//! Several clients push to the real program over sockets and remember every answer. At some answer the
//! program is killed, with whatever the others have under way; then it is started again, and everything
//! that was ever answered or tried is looked at.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::Notify;

use crate::support::content::{MANIFEST, bytes, image, noise, push_blob, push_image, put_manifest, sha256};
use crate::support::http::Caller;
use crate::support::process::{ADMIN, Program};

const ROUNDS: u64 = 20;
const PUSHERS: u64 = 4;

/// What the clients remember, over all rounds.
#[derive(Debug, Default)]
struct Memory {
    /// Blob → whether it was answered for.
    blobs: HashMap<String, (Bytes, bool)>,
    /// Tag → manifest, and whether it was answered for.
    manifests: HashMap<String, (Value, bool)>,
    /// Uploads that were begun and not known to be finished.
    uploads: Vec<Upload>,
}

/// An upload that was begun.
#[derive(Clone, Debug)]
struct Upload {
    location: String,
    content: Bytes,
    /// So many bytes were answered for.
    reached: usize,
    /// The last request may have been carried out although no answer came.
    finishing: bool,
}

impl Memory {
    fn merge(&mut self, other: Self) {
        self.blobs.extend(other.blobs);
        self.manifests.extend(other.manifests);
        self.uploads.extend(other.uploads);
    }
}

/// Counts answers, and says when there are enough of them for a crash.
#[derive(Debug)]
struct Trigger {
    left: AtomicUsize,
    enough: Notify,
}

impl Trigger {
    fn answered(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.enough.notify_one();
        }
    }
}

/// One client: pushes until nobody answers any more, and says what it knows.
struct Pusher {
    caller: Caller,
    repository: String,
    trigger: Arc<Trigger>,
    memory: Memory,
}

impl Pusher {
    async fn run(mut self, seed: u64) -> Memory {
        for step in 0.. {
            let seed = seed + step;
            let size = [100, 3_000, 60_000, 400_000][usize::try_from(seed % 4).unwrap()];
            let content = noise(size, seed);
            let answered = match step % 3 {
                0 => self.monolithic(content).await,
                1 => self.chunked(content).await,
                _ => self.image(seed).await,
            };
            if answered.is_none() {
                break;
            }
        }
        self.memory
    }

    /// None if the registry has gone.
    async fn monolithic(&mut self, content: Bytes) -> Option<()> {
        let digest = sha256(&content);
        self.memory.blobs.insert(digest.clone(), (content.clone(), false));
        let path = format!("/v2/{}/blobs/uploads/?digest={digest}", self.repository);
        self.caller.post(&path).body(content.clone()).try_send().await.ok()?.status(201);
        self.trigger.answered();
        self.memory.blobs.insert(digest, (content, true));
        Some(())
    }

    async fn chunked(&mut self, content: Bytes) -> Option<()> {
        let digest = sha256(&content);
        let start = self.caller.post(&format!("/v2/{}/blobs/uploads/", self.repository));
        let location = start.try_send().await.ok()?.status(202).location();
        self.trigger.answered();
        let upload = Upload { location: location.clone(), content: content.clone(), reached: 0, finishing: false };
        self.memory.uploads.push(upload);
        let place = self.memory.uploads.len() - 1;
        let third = content.len() / 3;
        for end in [third, 2 * third] {
            let piece = content.slice(self.memory.uploads[place].reached..end);
            self.caller.patch(&location).body(piece).try_send().await.ok()?.status(202);
            self.trigger.answered();
            self.memory.uploads[place].reached = end;
        }
        self.memory.blobs.insert(digest.clone(), (content.clone(), false));
        self.memory.uploads[place].finishing = true;
        let last = self.caller.put(&format!("{location}?digest={digest}")).body(content.slice(2 * third..));
        last.try_send().await.ok()?.status(201);
        self.trigger.answered();
        self.memory.uploads.remove(place);
        self.memory.blobs.insert(digest, (content, true));
        Some(())
    }

    async fn image(&mut self, seed: u64) -> Option<()> {
        let (config, layer) = (noise(300, seed ^ 1 << 40), noise(5_000, seed ^ 1 << 41));
        self.monolithic(config.clone()).await?;
        self.monolithic(layer.clone()).await?;
        let manifest = image(&config, &[&layer]);
        let tag = format!("t{seed}");
        let path = format!("{}/manifests/{tag}", self.repository);
        self.memory.manifests.insert(path.clone(), (manifest.clone(), false));
        let put = self.caller.put(&format!("/v2/{path}")).header("content-type", MANIFEST).body(bytes(&manifest));
        put.try_send().await.ok()?.status(201);
        self.trigger.answered();
        self.memory.manifests.insert(path, (manifest, true));
        Some(())
    }
}

/// How often something was seen, so that a test that sees nothing does not pass.
#[derive(Debug, Default)]
struct Seen {
    kept: usize,
    lost: usize,
    continued: usize,
    ended_unheard: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_kill_9_and_nothing_is_torn() {
    let root = tempfile::tempdir().unwrap();
    let repository = |pusher: u64| format!("r{pusher}");
    let mut seen = Seen::default();
    let mut running = Program::serve(root.path()).arg("--open").start();
    for round in 0..ROUNDS {
        // Every round crashes at another answer, counted over all clients.
        let left = usize::try_from(3 + round * 7 % 31).unwrap();
        let trigger = Arc::new(Trigger { left: AtomicUsize::new(left), enough: Notify::new() });
        let pushers: Vec<_> = (0..PUSHERS)
            .map(|pusher| {
                let caller = running.anonymous();
                let trigger = Arc::clone(&trigger);
                let pusher_of = Pusher { caller, repository: repository(pusher), trigger, memory: Memory::default() };
                tokio::spawn(pusher_of.run((round * PUSHERS + pusher) * 1000))
            })
            .collect();
        trigger.enough.notified().await;
        running.kill();
        let mut memory = Memory::default();
        for pusher in pushers {
            memory.merge(pusher.await.unwrap());
        }

        running = Program::serve(root.path()).arg("--open").start();
        let caller = running.anonymous();
        for upload in std::mem::take(&mut memory.uploads) {
            go_on(&caller, upload, &mut memory, &mut seen).await;
        }
        look(&caller, &memory, PUSHERS, &mut seen).await;
    }
    running.stop();
    assert!(seen.kept > 50 && seen.lost > 0 && seen.continued > 5, "the test has seen too little: {seen:?}");
    assert_eq!(torn(root.path()), 0);
}

/// Goes on with an upload from the status after the restart, and finishes it.
async fn go_on(caller: &Caller, upload: Upload, memory: &mut Memory, seen: &mut Seen) {
    let digest = sha256(&upload.content);
    let status = caller.get(&upload.location).send().await;
    if upload.finishing && status.status == 404 {
        // The last request was cut off behind the point of no return, or carried out and not answered.
        seen.ended_unheard += 1;
        return;
    }
    let status = status.status(204);
    let range = status.header("range").unwrap().strip_prefix("0-").unwrap().parse::<usize>().unwrap();
    let reached = if range == 0 { 0 } else { range + 1 };
    assert!(reached >= upload.reached, "{} bytes were answered for, {reached} are there", upload.reached);
    let rest = upload.content.slice(reached..);
    let last = caller.put(&format!("{}?digest={digest}", upload.location)).body(rest);
    last.send().await.status(201).has("docker-content-digest", &digest);
    memory.blobs.insert(digest, (upload.content, true));
    seen.continued += 1;
}

/// Looks at everything that was answered or tried.
async fn look(caller: &Caller, memory: &Memory, repositories: u64, seen: &mut Seen) {
    for (digest, (content, answered)) in &memory.blobs {
        let mut found = false;
        for repository in 0..repositories {
            let answer = caller.get(&format!("/v2/r{repository}/blobs/{digest}")).send().await;
            if answer.status == 200 {
                assert_eq!(answer.body, content, "{digest} is torn");
                found = true;
                break;
            }
            answer.status(404);
        }
        assert!(found || !answered, "{digest} was answered for, and is gone");
        *if found { &mut seen.kept } else { &mut seen.lost } += 1;
    }
    for (path, (manifest, answered)) in &memory.manifests {
        let answer = caller.get(&format!("/v2/{path}")).send().await;
        if answer.status == 404 {
            assert!(!answered, "{path} was answered for, and is gone");
            continue;
        }
        assert_eq!(answer.status(200).body, bytes(manifest), "{path} is torn");
        let (name, _) = path.split_once('/').unwrap();
        for blob in [&manifest["config"], &manifest["layers"][0]] {
            let digest = blob["digest"].as_str().unwrap();
            caller.head(&format!("/v2/{name}/blobs/{digest}")).send().await.status(200);
        }
    }
}

/// How many files are not what their name says.
fn torn(root: &Path) -> usize {
    let blobs = std::fs::read_dir(root.join("blobs/sha256")).unwrap();
    let wrong =
        |path: &Path| sha256(&std::fs::read(path).unwrap())[7..] != *path.file_name().unwrap().to_string_lossy();
    blobs.filter(|blob| wrong(&blob.as_ref().unwrap().path())).count()
}

/// Where pushes are not durable when they are answered (`storage.commit`), they are a moment later.
#[tokio::test]
async fn without_commit_a_kill_loses_a_moment_and_not_everything() {
    let data = tempfile::tempdir().unwrap();
    let running = Program::serve_with(data.path(), "storage.commit = false").with_admin().start();
    let admin = running.user(ADMIN);
    let written = || std::fs::metadata(data.path().join("coracle.redb")).unwrap().modified().unwrap();
    let mut number = 0;
    // Until one is not durable at once.
    let (manifest, before) = loop {
        number += 1;
        assert!(number < 1000, "every push is durable at once");
        push_image(&admin, "app", "latest", number).await;
        let before = written();
        let manifest = image(b"{}", &[b"a layer", number.to_string().as_bytes()]);
        for blob in [&b"{}"[..], b"a layer", number.to_string().as_bytes()] {
            push_blob(&admin, "app", blob).await;
        }
        put_manifest(&admin, "app", "last", &manifest).await.status(201);
        if written() == before {
            break (manifest, before);
        }
    };
    let patience = Instant::now() + Duration::from_secs(30);
    while written() == before {
        assert!(Instant::now() < patience, "nothing is made durable");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Until the transaction has ended in whose middle this is.
    tokio::time::sleep(Duration::from_millis(500)).await;
    running.kill();
    let again = Program::serve(data.path()).start();
    let served = again.user(ADMIN).get("/v2/app/manifests/last").send().await.status(200);
    assert_eq!(served.body, bytes(&manifest));
}
