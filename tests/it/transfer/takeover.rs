//! The takeover of a running registry.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::registry::{push, stored};
use super::written::Distribution;
use super::{docker_registry, publish, pull, serve, succeeds};
use crate::clients::home::needs;
use crate::support::content::{bytes, descriptor, image, noise, push_blob, put_manifest, sha256};
use crate::support::http::Caller;
use crate::support::process::{ADMIN, Program};

/// How long clients pull and push during the takeover.
fn load_time() -> Duration {
    let seconds = std::env::var("CORACLE_TAKEOVER_SECONDS");
    Duration::from_secs(seconds.map_or(6, |seconds| seconds.parse().unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pull_fails_and_nothing_is_lost_while_a_registry_is_taken_over() {
    needs!(DOCKER_REGISTRY);
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("data");
    let store = Distribution::new(&place.path().join("old"));
    let shared = noise(300_000, 1);
    let mut images = BTreeMap::new();
    for number in 0..30_u64 {
        let (repository, tag) = (format!("team/app{}", number % 5), number.to_string());
        let image = stored(&store, &repository, &tag, &[&shared, &noise(50_000, 100 + number)]);
        images.insert((repository, tag), image);
    }
    let untagged = stored(&store, "team/app0", "moved", &[b"before"]);
    let moved = stored(&store, "team/app0", "moved", &[b"after"]);
    images.insert(("team/app0".to_owned(), "moved".to_owned()), moved);
    let (registry, address) = docker_registry(place.path(), "old");

    let running = Program::serve(&root).arg("--open").arg("--takeover-from").arg(format!("http://{address}")).start();
    // By its digest, so that it has no tag.
    pull(&running.anonymous(), "team/app0", &sha256(&bytes(&untagged)), &untagged).await;
    let (stop, pulls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let images = Arc::new(images);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..3 {
        let (caller, images, stop, pulls) =
            (running.anonymous(), Arc::clone(&images), Arc::clone(&stop), Arc::clone(&pulls));
        clients.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                for ((repository, tag), image) in images.iter().skip(client) {
                    pull(&caller, repository, tag, image).await;
                    pulls.fetch_add(1, Ordering::Relaxed);
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
            Vec::new()
        });
    }
    let (caller, stopping, base) = (running.anonymous(), Arc::clone(&stop), shared.clone());
    clients.spawn(async move {
        let mut pushed = Vec::new();
        while !stopping.load(Ordering::Relaxed) {
            let number = pushed.len();
            // A layer that only the old registry may have, new ones, and a tag of the old registry that moves.
            let tag = if number == 3 { "7".to_owned() } else { format!("new{number}") };
            let image = push(&caller, "team/new", &tag, &[&base, format!("own {number}").as_bytes()]).await;
            pushed.push(("team/new".to_owned(), tag, image));
            let image = push(&caller, "team/app1", &format!("n{number}"), &[&base, b"x"]).await;
            pushed.push(("team/app1".to_owned(), format!("n{number}"), image));
        }
        pushed
    });
    let began = Instant::now();
    let deadline = began + load_time() + Duration::from_mins(1);
    loop {
        let state = takeover(&root);
        if state["done"] == json!(true) && began.elapsed() >= load_time() {
            break;
        }
        assert!(Instant::now() < deadline, "the takeover does not end: {state} {}", running.stderr());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut pushed = Vec::new();
    while let Some(done) = clients.join_next().await {
        pushed.extend(done.unwrap());
    }
    let shown = Program::new(["import", "--status", "--root"]).arg(&root).run();
    assert!(shown.stdout.contains("done at"), "{shown:?}");
    // The old registry ends, and everything is here.
    registry.kill();
    running.stop();
    let running = serve(&root);
    let caller = running.anonymous();
    for ((repository, tag), image) in images.iter() {
        pull(&caller, repository, tag, image).await;
    }
    for (repository, tag, image) in &pushed {
        pull(&caller, repository, tag, image).await;
    }
    pull(&caller, "team/app0", &sha256(&bytes(&untagged)), &untagged).await;
    println!("{} pulls and {} pushes in {:?}", pulls.load(Ordering::Relaxed), pushed.len(), began.elapsed());
    assert!(pulls.load(Ordering::Relaxed) > 30 && !pushed.is_empty());
    running.stop();
    succeeds("scrub", &root, &[]);
}

#[test]
fn a_takeover_is_from_a_registry() {
    let place = tempfile::tempdir().unwrap();
    for wrong in ["old:5000", "http://old/team/app", "http://user:secret@old"] {
        let done = Program::serve(place.path()).arg("--takeover-from").arg(wrong).run();
        assert!(done.code == Some(2) && !done.stdout.contains("listening"), "{done:?}");
    }
}

/// The state of the takeover.
fn takeover(root: &Path) -> Value {
    succeeds("import", root, &["--status"])["takeover"].clone()
}

/// Waits until everything is here.
async fn done(root: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while takeover(root)["done"] != json!(true) {
        assert!(Instant::now() < deadline, "{}", takeover(root));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// All repositories that a caller sees, in pages of `limit`, and whether each page had a warning.
async fn listed(caller: &Caller, limit: usize) -> (Vec<String>, bool) {
    let (mut names, mut next, mut is_stale) = (Vec::new(), Some(format!("/v2/_catalog?n={limit}")), true);
    while let Some(path) = next {
        let page = caller.get(&path).send().await.status(200);
        let page_names: Vec<String> = serde_json::from_value(page.json()["repositories"].clone()).unwrap();
        assert!(page_names.len() <= limit && (page.next().is_none() || page_names.len() == limit), "{path}");
        names.extend(page_names);
        is_stale &= page.header("warning").is_some();
        next = page.next();
    }
    (names, is_stale)
}

#[tokio::test]
async fn the_catalog_has_what_is_not_here_yet_for_those_who_may_see_it() {
    needs!(DOCKER_REGISTRY);
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("data");
    let store = Distribution::new(&place.path().join("old"));
    for repository in ["alice/a", "team/app", "zoo"] {
        stored(&store, repository, "1", &[b"layer"]);
    }
    // The manifests are lost, so that these never arrive.
    for repository in ["alice/a-b", "alice/late", "bob/late", "team/late"] {
        let lost = stored(&store, repository, "1", &[repository.as_bytes()]);
        std::fs::remove_file(store.data(&sha256(&bytes(&lost)))).unwrap();
    }
    let (registry, address) = docker_registry(place.path(), "old");
    let start = || {
        let from = format!("http://{address}");
        Program::serve(&root).with_admin().arg("--takeover-from").arg(from).start()
    };
    // A user owns a namespace only if it was empty before.
    Program::serve(&root).with_admin().start().stop();
    let added =
        Program::new(["user", "add", "alice", "--password-stdin", "--root"]).arg(&root).input("alice's-password");
    assert_eq!(added.run().code, Some(0));
    let running = start();
    let alice = ("alice", "alice's-password");
    push(&running.user(alice), "alice/own", "1", &[b"own"]).await;
    done(&root).await;
    let everything = ["alice/a", "alice/a-b", "alice/late", "alice/own", "bob/late", "team/app", "team/late", "zoo"];
    for limit in [1, 2, 3, 7, 8, 100] {
        assert_eq!(
            listed(&running.user(ADMIN), limit).await,
            (everything.map(str::to_owned).to_vec(), false),
            "{limit}"
        );
        let hers = everything[..4].iter().map(|&name| name.to_owned()).collect();
        assert_eq!(listed(&running.user(alice), limit).await, (hers, false), "{limit}");
    }
    running.anonymous().get("/v2/_catalog").send().await.error(401, "UNAUTHORIZED");
    // The old registry is away: what is here, and a warning.
    registry.kill();
    running.stop();
    let running = start();
    let here = ["alice/a", "alice/own", "team/app", "zoo"].map(str::to_owned).to_vec();
    assert_eq!(listed(&running.user(ADMIN), 2).await, (here, true));
    assert_eq!(listed(&running.user(alice), 2).await, (vec!["alice/a".to_owned(), "alice/own".to_owned()], true));
}

#[tokio::test]
async fn tags_and_referrers_that_clients_push_to_the_old_registry_are_listed() {
    let place = tempfile::tempdir().unwrap();
    let (old, root) = (place.path().join("old"), place.path().join("data"));
    let source = serve(&old);
    let caller = source.anonymous();
    let one = push(&caller, "team/app", "1", &[b"one"]).await;
    let running = Program::serve(&root).arg("--open").arg("--takeover-from").arg(source.url()).start();
    done(&root).await;
    push(&caller, "team/app", "0", &[b"zero"]).await;
    let mut signature = image(b"{}", &[b"signature"]);
    push_blob(&caller, "team/app", b"{}").await;
    push_blob(&caller, "team/app", b"signature").await;
    signature["subject"] = descriptor(one["mediaType"].as_str().unwrap(), &bytes(&one));
    put_manifest(&caller, "team/app", &sha256(&bytes(&signature)), &signature).await.status(201);
    // The image is content of the new registry already.
    let referrers = format!("/v2/team/app/referrers/{}", sha256(&bytes(&one)));
    let found = running.anonymous().get(&referrers).send().await.status(200);
    assert_eq!(found.json()["manifests"][0]["digest"], sha256(&bytes(&signature)));
    let tags = running.anonymous().get("/v2/team/app/tags/list?n=1").send().await.status(200);
    assert_eq!((&tags.json()["tags"], tags.next().is_some()), (&json!(["0"]), true));
    // The old registry is away.
    source.kill();
    running.stop();
    let running = Program::serve(&root).arg("--open").arg("--takeover-from").arg("http://127.0.0.1:9").start();
    let found = running.anonymous().get(&referrers).send().await.status(200);
    assert_eq!(found.json()["manifests"].as_array().unwrap().len(), 1);
    assert!(found.header("warning").is_some());
    let tags = running.anonymous().get("/v2/team/app/tags/list").send().await.status(200);
    assert!(tags.json()["tags"].as_array().unwrap().contains(&json!("1")) && tags.header("warning").is_some());
}

#[tokio::test]
async fn a_takeover_that_finds_nothing_is_not_done_and_names_the_credentials() {
    let place = tempfile::tempdir().unwrap();
    let (old, root) = (place.path().join("old"), place.path().join("data"));
    let source = Program::serve(&old).with_admin().start();
    let image = push(&source.user(ADMIN), "team/app", "1", &[b"one"]).await;
    let running = Program::serve(&root).arg("--open").arg("--takeover-from").arg(source.url()).start();
    running.wait_for("the takeover has found nothing, and asks again later");
    // Further runs fail in the same way, and the log says so once.
    let runs = || source.stderr().matches("/v2/_catalog").count();
    let deadline = Instant::now() + Duration::from_secs(30);
    while runs() < 4 {
        assert!(Instant::now() < deadline, "{}", source.stderr());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(running.stderr().matches("the takeover has found nothing").count(), 1);
    let state = takeover(&root);
    assert_eq!((&state["done"], &state["found_nothing"]), (&json!(false), &json!(true)), "{state}");
    let shown = Program::new(["import", "--status", "--root"]).arg(&root).run();
    let credentials =
        format!("name a file with credentials for {} in extensions.sync.credentialsFile", source.address());
    let note = format!("without credentials, only public repositories were listed; {credentials}");
    for part in ["not done: nothing was found there", &note] {
        assert!(shown.stdout.contains(part), "{part:?} is not in {shown:?}");
    }
    assert!(running.stderr().contains(&credentials) && !running.stderr().contains("the takeover is done"));
    // It is asked again, and the note stays.
    publish(&source.user(ADMIN), "team/app").await;
    done(&root).await;
    pull(&running.anonymous(), "team/app", "1", &image).await;
    let shown = Program::new(["import", "--status", "--root"]).arg(&root).run();
    assert!(shown.stdout.contains("done at") && shown.stdout.contains(&note), "{shown:?}");
    running.wait_for("the takeover may lack content of the other registry");
}
