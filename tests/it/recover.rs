//! A registry whose database is lost, without a backup: what comes back of it, by the real program.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::content::{
    EMPTY, MANIFEST, bytes, descriptor, image, index, noise, push_blob, push_image, put_manifest, sha256,
};
use crate::support::http::Caller;
use crate::support::process::{ADMIN, Finished, Program, Running};

fn recover(root: &Path, more: &[&str]) -> Finished {
    let program = Program::new(["recover", "--json", "--root"]).arg(root);
    more.iter().fold(program, Program::arg).run()
}

#[track_caller]
fn recovered(root: &Path, more: &[&str]) -> Value {
    let done = recover(root, more);
    assert_eq!(done.code, Some(0), "{done:?}");
    serde_json::from_str(&done.stdout).unwrap()
}

/// Serves, and waits until there is a journal.
fn serve(root: &Path) -> Running {
    let running = Program::serve(root).with_admin().start();
    if !root.join("manifests.log").exists() {
        running.wait_for("created a new manifests.log");
    }
    running
}

fn admin(running: &Running) -> Caller {
    running.user(ADMIN)
}

fn blob(root: &Path, digest: &str) -> std::path::PathBuf {
    root.join("blobs/sha256").join(&digest[7..])
}

async fn assert_serves(caller: &Caller, repository: &str, reference: &str, manifest: &Value) {
    let path = format!("/v2/{repository}/manifests/{reference}");
    assert_eq!(caller.get(&path).send().await.status(200).body, bytes(manifest), "{path}");
    for descriptor in manifest["layers"].as_array().into_iter().flatten().chain(manifest.get("config")) {
        let digest = descriptor["digest"].as_str().unwrap();
        let body = caller.get(&format!("/v2/{repository}/blobs/{digest}")).send().await.status(200).body;
        assert_eq!(sha256(&body), digest);
    }
}

/// Content of a registry in use: images, an index, a referrer, moved and deleted tags.
struct Content {
    first: Value,
    second: Value,
    all: Value,
    referrer: Value,
    /// Was pushed and deleted.
    gone: Value,
    /// A blob that no manifest names.
    lonely: String,
}

async fn fill(caller: &Caller) -> Content {
    let first = push_image(caller, "team/app", "moved", 1).await;
    let second = push_image(caller, "team/app", "moved", 100).await;
    let all = index(&[&first, &second]);
    put_manifest(caller, "team/app", "all", &all).await.status(201);
    put_manifest(caller, "team/app", "untagged-again", &second).await.status(201);
    caller.delete("/v2/team/app/manifests/untagged-again").send().await.status(202);
    push_blob(caller, "team/app", b"{}").await;
    let mut referrer = image(b"{}", &[b"{}"]);
    referrer["config"] = descriptor(EMPTY, b"{}");
    referrer["subject"] = descriptor(MANIFEST, &bytes(&first));
    put_manifest(caller, "team/app", &sha256(&bytes(&referrer)), &referrer).await.status(201);
    push_image(caller, "other", "same", 1).await;
    let gone = push_image(caller, "team/app", "gone", 300).await;
    caller.delete(&format!("/v2/team/app/manifests/{}", sha256(&bytes(&gone)))).send().await.status(202);
    let lonely = push_blob(caller, "team/app", &noise(700, 7)).await;
    Content { first, second, all, referrer, gone, lonely }
}

async fn assert_has(caller: &Caller, content: &Content) {
    let Content { first, second, all, referrer, gone, lonely } = content;
    assert_serves(caller, "team/app", "moved", second).await;
    assert_serves(caller, "team/app", "all", all).await;
    assert_serves(caller, "other", "same", first).await;
    for manifest in [first, second, referrer, all] {
        assert_serves(caller, "team/app", &sha256(&bytes(manifest)), manifest).await;
    }
    let tags = caller.get("/v2/team/app/tags/list").send().await.status(200).json();
    assert_eq!(tags["tags"], json!(["all", "moved"]));
    let referrers = format!("/v2/team/app/referrers/{}", sha256(&bytes(first)));
    let referrers = caller.get(&referrers).send().await.status(200).json();
    assert_eq!(referrers["manifests"][0]["digest"], sha256(&bytes(referrer)));
    caller.get(&format!("/v2/team/app/manifests/{}", sha256(&bytes(gone)))).send().await.status(404);
    caller.head(&format!("/v2/team/app/blobs/{lonely}")).send().await.status(404);
    // A repository has the blobs of its own manifests, and no others.
    let foreign = second["layers"][0]["digest"].as_str().unwrap();
    caller.head(&format!("/v2/other/blobs/{foreign}")).send().await.status(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests_tags_and_blobs_come_back_when_the_database_is_gone() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("data");
    let running = serve(&root);
    let content = fill(&admin(&running)).await;
    Program::new(["user", "add", "carol", "--root"]).arg(&root).run();
    let done = recover(&root, &[]);
    assert!(done.code == Some(1) && done.stderr.contains("a registry runs"), "{done:?}");
    running.stop();
    let done = recover(&root, &[]);
    assert!(done.code == Some(1) && done.stderr.contains("is intact"), "{done:?}");

    std::fs::remove_file(root.join("coracle.redb")).unwrap();
    let done = Program::serve(&root).run();
    assert!(done.code == Some(1) && done.stderr.contains("`coracle recover`"), "{done:?}");
    assert!(!root.join("coracle.redb").exists(), "a start must not make an empty one in its place");
    let told = recovered(&root, &["--dry-run"]);
    assert!(!root.join("coracle.redb").exists());
    let said = recovered(&root, &[]);
    let numbers = |told: &Value| {
        ["repositories", "manifests", "tags", "blobs", "lost_manifests", "unnamed", "unnamed_bytes", "damaged"]
            .map(|name| told[name].as_u64().unwrap())
    };
    // The blobs of the deleted image, and the one of none.
    let gone: u64 =
        [&content.gone["config"], &content.gone["layers"][0]].map(|d| d["size"].as_u64().unwrap()).iter().sum();
    assert_eq!(numbers(&said), [2, 5, 3, 5, 0, 3, 700 + gone, 0]);
    assert_eq!((numbers(&told), &said["torn"]), (numbers(&said), &json!(false)));

    let running = serve(&root);
    running.wait_for("first start");
    assert_has(&admin(&running), &content).await;
    let users = Program::new(["user", "list", "--json", "--root"]).arg(&root).run();
    assert!(!users.stdout.contains("carol"), "{users:?}");
    // `scrub` compares all counts and lists.
    let scrubbed = Program::new(["scrub", "--json", "--root"]).arg(&root).run();
    let scrubbed: Value = serde_json::from_str(&scrubbed.stdout).unwrap();
    assert_eq!((&scrubbed["damaged"], &scrubbed["lost"], &scrubbed["derived"]), (&json!([]), &json!([]), &json!([])));
    assert_eq!(scrubbed["strays"].as_array().unwrap().len(), 3);
    // Blobs without a repository save bytes in a later push.
    push_image(&admin(&running), "team/app", "gone", 300).await;
    running.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_database_is_kept_and_replaced_once_and_again() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("data");
    let running = serve(&root);
    let content = fill(&admin(&running)).await;
    running.stop();
    let database = root.join("coracle.redb");
    // All of it; then from a page on that is not seen before it is read. What a small database has is at the
    // beginning of its file, the rest is room.
    for (round, page) in [0, 8, 16].into_iter().enumerate() {
        let mut damaged = std::fs::read(&database).unwrap();
        let from = page * 4096;
        let length = damaged.len() - from;
        damaged[from..].copy_from_slice(&noise(length, 5));
        std::fs::write(&database, &damaged).unwrap();
        if round == 0 {
            let done = Program::serve(&root).run();
            assert!(done.code == Some(1) && done.stderr.contains("`coracle recover --dry-run`"), "{done:?}");
        }
        let said = recovered(&root, &["--prune"]);
        assert_eq!(said["manifests"], 5, "round {round}: {said}");
        let aside = said["set_aside"].as_str().unwrap();
        assert!(aside.ends_with(&format!("damaged-{}", round + 1)), "{aside}");
        assert!(std::fs::read(aside).unwrap() == damaged, "it is kept as it was");
        assert!(!blob(&root, &content.lonely).exists(), "--prune");
        let running = Program::serve(&root).with_admin().start();
        running.wait_for("created a new manifests.log");
        assert_has(&admin(&running), &content).await;
        assert!(root.join("manifests.log.old").exists());
        running.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_before_kill_9_comes_back_without_the_database() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("data");
    let running = serve(&root);
    let caller = admin(&running);
    let pushing: Vec<_> = (0..4_u64)
        .map(|client| {
            let caller = caller.clone();
            tokio::spawn(async move {
                let mut pushed = Vec::new();
                for number in 0..8 {
                    let (repository, tag) = (format!("c{client}"), format!("t{number}"));
                    pushed.push((
                        push_image(&caller, &repository, &tag, (client << 32) | (number * 10)).await,
                        repository,
                        tag,
                    ));
                }
                pushed
            })
        })
        .collect();
    let mut pushed = Vec::new();
    for client in pushing {
        pushed.extend(client.await.unwrap());
    }
    running.kill();
    std::fs::remove_file(root.join("coracle.redb")).unwrap();
    assert_eq!(recovered(&root, &[])["manifests"], 32);
    let running = serve(&root);
    for (manifest, repository, tag) in &pushed {
        assert_serves(&admin(&running), repository, tag, manifest).await;
    }
    running.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_come_back_is_said_and_the_rest_comes_back() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("data");
    let running = serve(&root);
    let caller = admin(&running);
    let whole = push_image(&caller, "a", "whole", 1).await;
    let without = push_image(&caller, "a", "without", 100).await;
    let altered = push_image(&caller, "a", "altered", 200).await;
    let all = index(&[&whole, &without]);
    put_manifest(&caller, "a", "all", &all).await.status(201);
    let last = push_image(&caller, "a", "last", 300).await;
    running.stop();

    let layer = |manifest: &Value| manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    std::fs::remove_file(blob(&root, &layer(&without))).unwrap();
    std::fs::write(blob(&root, &layer(&altered)), noise(1000, 9)).unwrap();
    std::fs::remove_file(root.join("coracle.redb")).unwrap();
    // The last push is half written.
    let journal = root.join("manifests.log");
    let length = std::fs::metadata(&journal).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&journal).unwrap().set_len(length - 300).unwrap();
    let said = recovered(&root, &[]);
    assert_eq!((&said["torn"], &said["damaged"]), (&json!(true), &json!(1)));
    assert_eq!((&said["lost_manifests"], &said["lost_tags"]), (&json!(2), &json!(2)));
    let named = said["lost"].to_string();
    for (manifest, tag) in [(&without, "without"), (&altered, "altered")] {
        let (digest, layer) = (sha256(&bytes(manifest)), layer(manifest));
        assert!(named.contains(&format!("a@{digest}: the blob {layer} is missing")), "{named}");
        assert!(named.contains(&format!("a:{tag}")), "{named}");
    }
    // In words too.
    let done = Program::new(["recover", "--force", "--root"]).arg(&root).run();
    assert!(
        done.stdout.contains("lost: 2 manifests, 2 tags") && done.stdout.contains("the end of manifests.log"),
        "{done:?}"
    );

    let running = serve(&root);
    let caller = admin(&running);
    assert_serves(&caller, "a", "whole", &whole).await;
    assert_serves(&caller, "a", "all", &all).await;
    for manifest in [&without, &altered, &last] {
        caller.get(&format!("/v2/a/manifests/{}", sha256(&bytes(manifest)))).send().await.status(404);
    }
    // Pushing them again mends everything.
    push_image(&caller, "a", "altered", 200).await;
    assert_serves(&caller, "a", "altered", &altered).await;
    running.stop();
}

/// Changes the byte at a third of the journal.
fn damage_journal(root: &Path) {
    let journal = root.join("manifests.log");
    let mut damaged = std::fs::read(&journal).unwrap();
    let third = damaged.len() / 3;
    damaged[third] ^= 1;
    std::fs::write(&journal, damaged).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_the_middle_of_the_journal_is_found_and_costs_only_what_was_recorded_there() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("data");
    let running = serve(&root);
    for number in 0..6 {
        push_image(&admin(&running), &format!("r{number}"), "1", number * 10).await;
    }
    running.stop();
    damage_journal(&root);
    let scrub = |more: &[&str]| Program::new(["scrub", "--root"]).arg(&root).args(more).run();
    let done = scrub(&[]);
    let told = done.stdout.contains("inconsistent: manifests.log: damaged at byte ");
    assert!(done.code == Some(1) && told && done.stdout.contains("--repair repairs it"), "{done:?}");
    // Without a repair, at most one record is lost.
    std::fs::copy(root.join("coracle.redb"), place.path().join("kept.redb")).unwrap();
    std::fs::remove_file(root.join("coracle.redb")).unwrap();
    let said = recovered(&root, &["--dry-run"]);
    assert_eq!((&said["torn"], &said["journal_damage"]), (&json!(false), &json!(1)), "{said}");
    assert!(said["manifests"].as_u64() >= Some(5) && said["tags"].as_u64() >= Some(5), "{said}");
    let done = Program::new(["recover", "--dry-run", "--root"]).arg(&root).run();
    assert!(done.stdout.contains("manifests.log is damaged in 1 place: "), "{done:?}");

    std::fs::rename(place.path().join("kept.redb"), root.join("coracle.redb")).unwrap();
    let done = scrub(&["--repair"]);
    assert!(done.code == Some(0) && done.stdout.contains("manifests.log: damaged at byte "), "{done:?}");
    assert_eq!(scrub(&[]).code, Some(0));
    // A running registry rewrites it without being asked to.
    let running = serve(&root);
    damage_journal(&root);
    assert_eq!(scrub(&[]).code, Some(1));
    running.wait_for("created a new manifests.log");
    running.stop();
    std::fs::remove_file(root.join("coracle.redb")).unwrap();
    let said = recovered(&root, &[]);
    assert_eq!((&said["manifests"], &said["tags"], &said["journal_damage"]), (&json!(6), &json!(6), &json!(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_while_the_journal_cannot_be_opened_come_back() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("data");
    let (journal, kept) = (root.join("manifests.log"), place.path().join("kept"));
    let running = serve(&root);
    push_image(&admin(&running), "a", "1", 1).await;
    running.stop();
    std::fs::rename(&journal, &kept).unwrap();
    std::fs::create_dir(&journal).unwrap();
    let running = Program::serve(&root).with_admin().start();
    running.wait_for("cannot open the journal of manifests");
    push_image(&admin(&running), "a", "2", 2).await;
    running.wait_for("created a new manifests.log");
    running.stop();
    // The file that was there before lacks the second push.
    std::fs::rename(&kept, &journal).unwrap();
    let running = Program::serve(&root).with_admin().start();
    running.wait_for("created a new manifests.log");
    running.stop();
    std::fs::remove_file(root.join("coracle.redb")).unwrap();
    assert_eq!(recovered(&root, &[])["manifests"], 2);
}

#[test]
fn without_a_journal_nothing_is_made_and_nothing_is_lost() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("data");
    serve(&root).stop();
    std::fs::remove_file(root.join("coracle.redb")).unwrap();
    std::fs::remove_file(root.join("manifests.log")).unwrap();
    let stray = blob(&root, &sha256(b"left"));
    std::fs::write(&stray, b"left").unwrap();
    let done = recover(&root, &["--prune"]);
    assert!(done.code == Some(1) && done.stderr.contains("manifests.log is missing"), "{done:?}");
    assert!(stray.exists() && !root.join("coracle.redb").exists());
}

/// The section of the documents about backups.
fn section() -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).unwrap();
    let section = page.split("\n## Backup and restore\n").nth(1).expect("the section");
    section.split("\n## ").next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_commands_work_as_they_are_written() {
    let place = tempfile::tempdir().unwrap();
    let section = section();
    let blocks = section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let commands: Vec<&str> = blocks.flat_map(str::lines).collect();
    let data = place.path().join("coracle");
    let run = |arguments: Vec<String>| Program::new(arguments).env("XDG_DATA_HOME", place.path());
    let serve = |root: &Path| {
        let arguments = ["serve", "--port", "0", "--root"].map(str::to_owned);
        run(arguments.to_vec()).arg(root).with_admin().start()
    };
    let running = serve(&data);
    let image = push_image(&admin(&running), "a", "1", 1).await;
    running.wait_for("created a new manifests.log");
    running.stop();
    let (mut served, mut lost) = (0, false);
    for command in &commands {
        // Only where it is, is put in.
        let here = |word: &str| word.replacen("/srv/", &place.path().join("srv").join("").to_string_lossy(), 1);
        let here = |word: &str| here(word).replacen("/mnt/", &place.path().join("mnt").join("").to_string_lossy(), 1);
        let mut words = command.split(' ').map(here);
        assert_eq!(words.next().as_deref(), Some("coracle"), "{command}");
        let mut arguments: Vec<String> = words.collect();
        if arguments[0] == "serve" {
            let root = arguments.last().filter(|_| arguments.len() > 1).map_or(data.clone(), Into::into);
            let running = serve(&root);
            assert_serves(&admin(&running), "a", "1", &image).await;
            running.stop();
            served += 1;
            continue;
        }
        if arguments[0] == "recover" && !std::mem::replace(&mut lost, true) {
            std::fs::remove_file(data.join("coracle.redb")).unwrap();
        }
        let done = run(std::mem::take(&mut arguments)).run();
        assert_eq!(done.code, Some(0), "{command}: {done:?}");
    }
    assert!(served == 2 && lost && commands.len() >= 7, "{commands:?}");
}
