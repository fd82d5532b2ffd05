//! `kill -9` under load: acknowledged changes survive, nothing is torn, and unfinished work continues or is gone.
//!
//! Clients push, mount, tag and delete, users come and go, and garbage is collected without a delay. After some response
//! the program is killed. Then the test compares the stored data with itself, restarts the program, and checks everything
//! that was ever acknowledged or tried.
//!
//! `CORACLE_KILLS` sets the number of kills; `cargo test --test it crash -- --nocapture` prints the details.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::content::{bytes, image, push_blob, push_image, put_manifest};
use crate::support::process::{ADMIN, Program, Running};
use crate::traffic::{self, Client, People, Pulse, Seen, StopsAtTheEnd};

/// The default of `CORACLE_KILLS`.
const KILLS: u64 = 10;
const CLIENTS: u64 = 4;

/// Without the tag history, garbage collection removes what was deleted.
const CONFIG: &str = "[storage]\ntagHistory = '0s'\n[log]\nlevel = 'warn'\n";

fn start(root: &std::path::Path) -> Running {
    Program::serve_with(root, CONFIG).with_admin().start()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_kill_9_and_nothing_is_torn() {
    let kills = std::env::var("CORACLE_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"));
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let (begun, pulse, mut seen) = (Instant::now(), Arc::new(Pulse::default()), Seen::default());
    let _stops = StopsAtTheEnd(Arc::clone(&pulse));
    let mut running = start(root);
    let key = traffic::admin_key(root);
    let caller_of = |running: &Running| running.user(("admin", &key));
    let mut caller = caller_of(&running);
    let shared = traffic::push_shared(&caller).await;
    let mut clients: Vec<Client> = (0..CLIENTS).map(|n| Client::new(n, caller.clone(), shared.clone())).collect();
    let (mut people, mut collected) = (People::default(), 0);

    for round in 0..kills {
        // Unreferenced blobs stay exactly if garbage collection is off.
        let collects = round % 2 == 1;
        pulse.stop(false);
        let working = traffic::run(clients, &caller, &pulse);
        let collector = collects.then(|| {
            let (root, pulse) = (root.to_owned(), Arc::clone(&pulse));
            tokio::task::spawn_blocking(move || {
                traffic::keep_collecting(&root, &pulse, "0s", Duration::from_millis(20))
            })
        });
        let administration = {
            let (root, pulse, caller) = (root.to_owned(), Arc::clone(&pulse), caller.clone());
            tokio::task::spawn_blocking(move || {
                people.run(&root, &caller, &pulse, &tokio::runtime::Handle::current());
                people
            })
        };
        // Every round crashes at another answer, and at another moment after it.
        pulse.wait_for(5 + round * 37 % 191).await;
        tokio::time::sleep(Duration::from_micros(round * 619 % 4000)).await;
        running.kill();
        pulse.stop(true);
        clients = working.await.unwrap();
        people = administration.await.unwrap();
        if let Some(collector) = collector {
            collected += collector.await.unwrap();
        }

        // Before any repair, and while the registry is repairing.
        let scrub = || tokio::task::block_in_place(|| traffic::scrub_strays(root, &clients));
        if round % 4 < 2 {
            seen.strays += scrub();
            running = start(root);
        } else {
            running = start(root);
            seen.strays += scrub();
        }
        caller = caller_of(&running);
        for client in &mut clients {
            client.memory.go_on(&caller, &mut seen).await;
            client.memory.check(&caller, collects, &mut seen).await;
        }
        people.check(root, &caller, &mut seen).await;
    }
    running.stop();
    println!(
        "{kills} kills in {:?}, {} answers, {collected} manifests and blobs collected, {} manifests pushed again for it: {seen:?}",
        begun.elapsed(),
        pulse.answers(),
        pulse.collected_before_use.load(std::sync::atomic::Ordering::Relaxed),
    );
    let enough = seen.kept > 100 && seen.gone > 0 && seen.continued > 0 && collected > 0;
    assert!(enough && seen.unheard_undone > 0, "the test has seen too little: {seen:?}");
}

/// A damaged last record of the write-ahead log cannot be told from one that a power cut has interrupted.
#[tokio::test]
async fn a_damaged_last_record_is_reported_and_the_journal_that_has_its_change_is_kept() {
    let data = tempfile::tempdir().unwrap();
    let running = Program::serve(data.path()).with_admin().start();
    running.wait_for("created a new manifests.log");
    push_image(&running.user(ADMIN), "app", "kept", 1).await;
    running.stop();
    // The log begins again, and ends with the record of the last push.
    let running = Program::serve(data.path()).start();
    push_image(&running.user(ADMIN), "app", "lost", 2).await;
    running.kill();
    let (log, journal) = (data.path().join("coracle.wal"), data.path().join("manifests.log"));
    let mut damaged = std::fs::read(&log).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&log, damaged).unwrap();
    let before = std::fs::read(&journal).unwrap();

    let running = Program::serve(data.path()).start();
    let log = running.wait_for("created a new manifests.log");
    let line = |text: &str| log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}: {log}"));
    line("ignored the last record of the write-ahead log");
    let line = line("the database lacks the last changes of manifests.log");
    assert!(line.contains("app:lost") && line.contains("missing=1") && !line.contains("app:kept"), "{line}");
    assert!(std::fs::read(data.path().join("manifests.log.old")).unwrap() == before, "it is kept");
    let caller = running.user(ADMIN);
    caller.get("/v2/app/manifests/kept").send().await.status(200);
    caller.get("/v2/app/manifests/lost").send().await.status(404);
    push_image(&caller, "app", "lost", 2).await;
    running.stop();
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
