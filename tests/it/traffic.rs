//! Clients that send every kind of request, one after the other, and remember every response.
//!
//! Each client has its own repositories and so knows their state, except for the request that was in flight when the registry
//! was killed. [`Memory::check`] finds out what became of that request.

mod client;
mod memory;
mod people;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;

pub use client::Client;
pub use memory::Memory;
pub use people::{People, admin_key};

use crate::support::content::push_image;
use crate::support::http::Caller;
use crate::support::process::Program;

/// A repository from which all clients mount a layer, and which none changes.
pub const SHARED: &str = "shared";

/// State shared by the clients and the observer.
#[derive(Debug, Default)]
pub struct Pulse {
    answers: AtomicU64,
    /// The number of responses after which the observer is notified.
    awaited: AtomicU64,
    reached: Notify,
    stopped: AtomicBool,
    /// How often a manifest was refused because its blobs were collected before it came.
    pub collected_before_use: AtomicU64,
}

impl Pulse {
    pub fn answered(&self) {
        if self.answers.fetch_add(1, Ordering::Relaxed) + 1 == self.awaited.load(Ordering::Relaxed) {
            self.reached.notify_one();
        }
    }

    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Waits for so many more answers.
    pub async fn wait_for(&self, more: u64) {
        self.awaited.store(self.answers() + more, Ordering::Relaxed);
        tokio::time::timeout(Duration::from_mins(1), self.reached.notified()).await.expect("clients are answered");
    }

    /// Whether clients are to end after the present request.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    pub fn stop(&self, stop: bool) {
        self.stopped.store(stop, Ordering::Relaxed);
    }
}

/// Stops the clients when a test ends before it says so: what runs on a thread of its own would hold it up.
#[derive(Debug)]
pub struct StopsAtTheEnd(pub Arc<Pulse>);

impl Drop for StopsAtTheEnd {
    fn drop(&mut self) {
        self.0.stop(true);
    }
}

/// Statistics, so that a test without any traffic fails. Printed at the end.
#[derive(Debug, Default)]
pub struct Seen {
    /// Tags and what they need, blobs, referrers and accounts that were answered for, and are there.
    pub kept: u64,
    /// Deletions that were acknowledged and confirmed.
    pub gone: u64,
    /// Requests without an answer that were carried out, and that were not.
    pub unheard_done: u64,
    pub unheard_undone: u64,
    /// Uploads that were continued, and that had ended with a request without an answer.
    pub continued: u64,
    pub ended: u64,
    /// Files that no row speaks of.
    pub strays: u64,
}

/// Pushes what everybody mounts a layer from, and says the layer's digest and size.
pub async fn push_shared(caller: &Caller) -> (String, usize) {
    let manifest = push_image(caller, SHARED, "1", 1).await;
    let layer = &manifest["layers"][0];
    (layer["digest"].as_str().unwrap().to_owned(), usize::try_from(layer["size"].as_u64().unwrap()).unwrap())
}

/// Runs a command while the registry may be killed. Returns `None` if it fails.
pub fn administer(root: &Path, arguments: &[&str]) -> Option<Value> {
    let program = Program::new(arguments).arg("--json").arg("--root").arg(root);
    let finished = program.run();
    (finished.code == Some(0)).then(|| serde_json::from_str(&finished.stdout).unwrap())
}

/// Collects without a delay, or with one, again and again until the clients are stopped. Says how many manifests and
/// blobs of repositories that has removed. Blocks.
pub fn keep_collecting(root: &Path, pulse: &Pulse, delay: &str, pause: Duration) -> u64 {
    let mut removed = 0;
    while !pulse.is_stopped() {
        let collected = administer(root, &["gc", "--delay", delay]);
        let count = |collected: &Value, name: &str| collected[name].as_u64().unwrap();
        removed += collected.map_or(0, |collected| count(&collected, "manifests") + count(&collected, "links"));
        std::thread::sleep(pause);
    }
    removed
}

/// Looks through everything that is stored: nothing may be damaged, lost, or not what follows from the rest.
/// Gives the files that no row speaks of. Blocks.
pub fn scrub(root: &Path, repair: bool) -> Vec<String> {
    let mut arguments = vec!["scrub", "--rate", "10GiB"];
    arguments.extend(repair.then_some("--repair"));
    let finished = Program::new(arguments).arg("--json").arg("--root").arg(root).run();
    let found: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{}", finished.stderr));
    for name in ["damaged", "unreadable", "derived", "lost"] {
        assert_eq!(found[name], Value::Array(Vec::new()), "{name}: {found}");
    }
    found["strays"].as_array().unwrap().iter().map(|stray| stray.as_str().unwrap().to_owned()).collect()
}

/// Scrubs when no client is at work: a file that no row speaks of can only be a blob whose push was not answered,
/// at most one for each client, and it can be removed. Says how many there were. Blocks.
pub fn scrub_strays(root: &Path, clients: &[Client]) -> u64 {
    let strays = scrub(root, false);
    for stray in &strays {
        assert!(clients.iter().any(|client| client.memory.has_tried(stray)), "no client left {stray}");
    }
    assert!(strays.len() <= clients.len(), "one request of each client leaves {strays:?}");
    if !strays.is_empty() {
        scrub(root, true);
        assert_eq!(scrub(root, false), Vec::<String>::new(), "removed");
    }
    strays.len() as u64
}

/// Runs every client until the registry stops answering, or the client is stopped.
pub fn run(clients: Vec<Client>, caller: &Caller, pulse: &Arc<Pulse>) -> tokio::task::JoinHandle<Vec<Client>> {
    let running: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            client.turn_to(caller.clone(), Arc::clone(pulse));
            tokio::spawn(async move {
                client.run().await;
                client
            })
        })
        .collect();
    tokio::spawn(async move {
        let mut clients = Vec::new();
        for client in running {
            clients.push(client.await.unwrap());
        }
        clients
    })
}
