//! A soak: mixed traffic with garbage collections, scrubs and restarts. No tagged content is lost, and neither memory nor
//! the number of open files grows.
//!
//! `CORACLE_SOAK_MINUTES=60 cargo test --test it soak -- --nocapture` takes an hour and prints the figures. Without the
//! variable it takes nine seconds and its restarts. In the first half the program is stopped eight times, in turn with SIGTERM and
//! SIGKILL. The second half is one process. Its memory in the last third is compared with that in the second third.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::support::process::{Program, Running};
use crate::traffic::{self, Client, Pulse, Seen, StopsAtTheEnd};

const MINUTES: f64 = 0.15;
const CLIENTS: u64 = 4;
const RESTARTS: u32 = 8;

/// The delay of garbage collection, longer than any push here takes.
const DELAY: &str = "2s";
const CONFIG: &str = "[storage]\ntagHistory = '0s'\ngcDelay = '2s'\nuploadExpiry = '60s'\n[log]\nlevel = 'warn'\n";

/// Memory may be this much more than it was: what an allocator does with pieces of many sizes.
const GROWTH_KIB: u64 = 4 * 1024;

/// The clients and their knowledge.
struct Soak {
    root: tempfile::TempDir,
    key: String,
    clients: Vec<Client>,
    pulse: Arc<Pulse>,
    seen: Seen,
    collected: u64,
    scrubs: u64,
}

/// Resources of a process at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    resident: u64,
    handles: u64,
}

/// How a process is ended.
#[derive(Clone, Copy, Debug)]
enum End {
    Asked,
    Killed,
}

impl Soak {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let running = start(root.path());
        let key = traffic::admin_key(root.path());
        let caller = running.user(("admin", &key));
        let shared = traffic::push_shared(&caller).await;
        let clients = (0..CLIENTS).map(|n| Client::new(n, caller.clone(), shared.clone())).collect();
        running.stop();
        Self { root, key, clients, pulse: Arc::default(), seen: Seen::default(), collected: 0, scrubs: 0 }
    }

    /// The life of one process: all clients work for a time, the process ends, and the next process checks the data.
    /// Returns its resources over time.
    async fn life(&mut self, time: Duration, end: End) -> Vec<Sample> {
        let (begun, root) = (Instant::now(), self.root.path().to_owned());
        let running = start(&root);
        let caller = running.user(("admin", &self.key));
        self.pulse.stop(false);
        let working = traffic::run(std::mem::take(&mut self.clients), &caller, &self.pulse);
        let (path, pulse) = (root.clone(), Arc::clone(&self.pulse));
        let pause = Duration::from_millis(500);
        let collecting = tokio::task::spawn_blocking(move || traffic::keep_collecting(&path, &pulse, DELAY, pause));
        let (mut samples, mut scrubbed) = (Vec::new(), Instant::now());
        let scrub_every = (time / 4).min(Duration::from_mins(1));
        while begun.elapsed() < time {
            tokio::time::sleep(Duration::from_millis(100)).await;
            samples.push(sample(&running));
            if scrubbed.elapsed() >= scrub_every {
                let path = root.clone();
                let strays = tokio::task::spawn_blocking(move || traffic::scrub(&path, false)).await.unwrap();
                assert_eq!(strays, Vec::<String>::new(), "while no client disconnects");
                self.scrubs += 1;
                scrubbed = Instant::now();
            }
        }
        match end {
            End::Asked => assert_eq!(tokio::task::block_in_place(|| running.stop()).code, Some(0)),
            End::Killed => running.kill(),
        }
        self.pulse.stop(true);
        self.clients = working.await.unwrap();
        self.collected += collecting.await.unwrap();
        self.look().await;
        samples
    }

    /// Checks everything while the registry is idle.
    async fn look(&mut self) {
        let running = start(self.root.path());
        self.seen.strays += tokio::task::block_in_place(|| traffic::scrub_strays(self.root.path(), &self.clients));
        let caller = running.user(("admin", &self.key));
        for client in &mut self.clients {
            client.memory.go_on(&caller, &mut self.seen).await;
            client.memory.check(&caller, true, &mut self.seen).await;
        }
        running.stop();
    }
}

fn start(root: &Path) -> Running {
    Program::serve_with(root, CONFIG).with_admin().start()
}

#[cfg(target_os = "linux")]
fn sample(running: &Running) -> Sample {
    Sample { resident: running.resident(), handles: running.handles() }
}

#[cfg(not(target_os = "linux"))]
fn sample(_: &Running) -> Sample {
    Sample::default()
}

/// The median and the maximum of a resource.
fn summary(samples: &[Sample], of: impl Fn(&Sample) -> u64) -> (u64, u64) {
    let mut values: Vec<u64> = samples.iter().map(of).collect();
    values.sort_unstable();
    (values[values.len() / 2], values[values.len() - 1])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixed_traffic_for_a_long_time_loses_nothing_and_does_not_grow() {
    let minutes = std::env::var("CORACLE_SOAK_MINUTES").map_or(MINUTES, |text| text.parse().expect("minutes"));
    let half = Duration::from_secs_f64(minutes * 30.0);
    let mut soak = Soak::new().await;
    let _stops = StopsAtTheEnd(Arc::clone(&soak.pulse));
    for restart in 0..RESTARTS {
        soak.life(half / RESTARTS, if restart % 2 == 0 { End::Asked } else { End::Killed }).await;
    }
    let before_use = soak.pulse.collected_before_use.load(Ordering::Relaxed);
    let samples = soak.life(half, End::Killed).await;
    assert_eq!(
        soak.pulse.collected_before_use.load(Ordering::Relaxed),
        before_use,
        "what a client was told is there was collected before it could use it"
    );

    let (answers, seen) = (soak.pulse.answers(), &soak.seen);
    println!(
        "{minutes} minutes, {answers} answers, {RESTARTS} restarts, {} manifests and blobs collected, {} scrubs: {seen:?}",
        soak.collected, soak.scrubs
    );
    let third = samples.len() / 3;
    let (second, last) = (&samples[third..2 * third], &samples[2 * third..]);
    for (name, of) in [("KiB resident", (|s| s.resident) as fn(&Sample) -> u64), ("open files", |s| s.handles)] {
        println!("{name}, median and most: {:?}, and then {:?}", summary(second, of), summary(last, of));
    }
    let (before, after) = (summary(second, |s| s.resident).0, summary(last, |s| s.resident).0);
    assert!(after < before + before / 10 + GROWTH_KIB, "resident memory grows from {before} to {after} KiB");
    let (before, after) = (summary(second, |s| s.handles).0, summary(last, |s| s.handles).0);
    assert!(after <= before + CLIENTS, "open files grow from {before} to {after}");
    assert!(answers > 200 && seen.kept > 100 && soak.collected > 0 && soak.scrubs > 2, "too little was seen: {seen:?}");
}
