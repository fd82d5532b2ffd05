//! Backups of a running registry, and registries made from them: the real program with real clients.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::support::content::{bytes, noise, push_blob, push_image, put_manifest, sha256};
use crate::support::http::Caller;
use crate::support::process::{ADMIN, Finished, Program, Running};

/// `coracle backup --json`, and what it says.
#[track_caller]
fn back_up(root: &Path, to: &Path, more: &[&str]) -> Value {
    let program = Program::new(["backup", "--json", "--root"]).arg(root).arg(to);
    let done = more.iter().fold(program, Program::arg).run();
    assert_eq!(done.code, Some(0), "{done:?}");
    serde_json::from_str(&done.stdout).unwrap()
}

fn restore(backup: &Path, root: &Path, more: &[&str]) -> Finished {
    let program = Program::new(["restore", "--json", "--root"]).arg(root).arg(backup);
    more.iter().fold(program, Program::arg).run()
}

fn serve(root: &Path) -> Running {
    Program::serve(root).arg("--open").start()
}

/// The files of blobs in a data directory.
fn files(root: &Path) -> BTreeSet<String> {
    let blobs = std::fs::read_dir(root.join("blobs/sha256")).unwrap();
    blobs.map(|blob| format!("sha256:{}", blob.unwrap().file_name().to_str().unwrap())).collect()
}

fn blob(root: &Path, digest: &str) -> std::path::PathBuf {
    root.join("blobs/sha256").join(&digest[7..])
}

/// Pulls an image by a tag, with every blob, and says what it is; nothing if the tag is not there.
async fn pull(caller: &Caller, repository: &str, tag: &str) -> Option<Value> {
    let answer = caller.get(&format!("/v2/{repository}/manifests/{tag}")).send().await;
    if answer.status == 404 {
        return None;
    }
    let manifest: Value = serde_json::from_slice(&answer.status(200).body).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    for descriptor in layers.iter().chain([&manifest["config"]]) {
        let digest = descriptor["digest"].as_str().unwrap();
        let body = caller.get(&format!("/v2/{repository}/blobs/{digest}")).send().await.status(200).body;
        assert_eq!(sha256(&body), digest, "a blob of {repository}:{tag}");
    }
    Some(manifest)
}

/// Deletes an image, its tags and its blobs.
async fn delete_image(caller: &Caller, repository: &str, manifest: &Value) {
    let digest = sha256(&bytes(manifest));
    caller.delete(&format!("/v2/{repository}/manifests/{digest}")).send().await.status(202);
    for descriptor in [&manifest["config"], &manifest["layers"][0]] {
        let digest = descriptor["digest"].as_str().unwrap();
        caller.delete(&format!("/v2/{repository}/blobs/{digest}")).send().await.status(202);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_beside_clients_has_what_was_answered_before_it_and_nothing_half() {
    let place = tempfile::tempdir().unwrap();
    let (root, backup, again) = (place.path().join("data"), place.path().join("backup"), place.path().join("again"));
    let running = serve(&root);
    let mut before = Vec::new();
    for number in 0..20 {
        let repository = format!("before/r{number}");
        before.push((push_image(&running.anonymous(), &repository, "t", number * 10).await, repository));
    }
    // Others push, and delete again with every blob half of what they have pushed.
    let enough = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..3_u64)
        .map(|client| {
            let (caller, enough) = (running.anonymous(), Arc::clone(&enough));
            tokio::spawn(async move {
                let mut number = 0;
                while !enough.load(Ordering::Relaxed) {
                    number += 1;
                    let name = format!("during/c{client}");
                    let image = push_image(&caller, &name, &format!("t{number}"), (client << 32) | (number * 10)).await;
                    if number % 2 == 0 {
                        delete_image(&caller, &name, &image).await;
                    }
                }
                number
            })
        })
        .collect();
    let (from, to) = (root.clone(), backup.clone());
    let said = tokio::task::spawn_blocking(move || (0..4).map(|_| back_up(&from, &to, &[])).collect::<Vec<_>>());
    let said = said.await.unwrap();
    enough.store(true, Ordering::Relaxed);
    let mut pushed = 0;
    for client in clients {
        pushed += client.await.unwrap();
    }
    running.stop();
    assert!(pushed > 6, "the clients have pushed {pushed} images only");
    assert!(said[0]["linked"].as_u64().unwrap() >= 40, "{said:?}");

    // Exactly the blobs that its rows speak of, each right.
    let done = restore(&backup, &again, &["--verify"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(files(&again), files(&backup));
    let running = serve(&again);
    let caller = running.anonymous();
    for (manifest, repository) in &before {
        assert_eq!(pull(&caller, repository, "t").await.as_ref(), Some(manifest), "{repository}");
    }
    let mut seen = 0;
    for client in 0..3 {
        let name = format!("during/c{client}");
        let answer = caller.get(&format!("/v2/{name}/tags/list")).send().await;
        if answer.status == 200 {
            for tag in answer.json()["tags"].as_array().unwrap() {
                assert!(pull(&caller, &name, tag.as_str().unwrap()).await.is_some());
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "the last of four backups has nothing that was pushed meanwhile");
    running.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_backup_brings_what_is_new_and_takes_away_what_is_gone() {
    let place = tempfile::tempdir().unwrap();
    let (root, backup, copies) = (place.path().join("data"), place.path().join("backup"), place.path().join("copies"));
    let running = serve(&root);
    let caller = running.anonymous();
    let first = push_image(&caller, "a", "1", 1).await;
    let said = back_up(&root, &backup, &[]);
    assert_eq!((&said["linked"], &said["copied"], &said["removed"]), (&2.into(), &0.into(), &0.into()));
    let layer = first["layers"][0]["digest"].as_str().unwrap();
    let inode = |root: &Path| std::fs::metadata(blob(root, layer)).unwrap().ino();
    assert_eq!(inode(&root), inode(&backup));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&backup), mode(&backup.join("blobs/sha256"))), (0o700, 0o700));
    assert_eq!((mode(&backup.join("coracle.redb")), mode(&blob(&backup, layer))), (0o600, 0o600));

    // A copy shares nothing, and is as old as what it was made of.
    let said = back_up(&root, &copies, &["--copy"]);
    assert_eq!((&said["linked"], &said["copied"], &said["copied_bytes"]), (&0.into(), &2.into(), &said["bytes"]));
    assert_ne!(inode(&root), inode(&copies));
    let modified = |root: &Path| std::fs::metadata(blob(root, layer)).unwrap().modified().unwrap();
    assert_eq!(modified(&root), modified(&copies));

    delete_image(&caller, "a", &first).await;
    push_image(&caller, "b", "1", 100).await;
    for directory in [&backup, &copies] {
        let said = back_up(&root, directory, &[]);
        assert_eq!((&said["linked"], &said["removed"], &said["blobs"]), (&2.into(), &2.into(), &2.into()));
        assert_eq!(files(directory), files(&root));
    }
    // The registry is stopped, and nothing is new.
    running.stop();
    let said = back_up(&root, &backup, &[]);
    assert_eq!((&said["linked"], &said["removed"], &said["blobs"]), (&0.into(), &0.into(), &2.into()));
    assert!(!backup.join("uploads").read_dir().unwrap().any(|_| true), "uploads are not part of a backup");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_broken_off_leaves_the_last_one() {
    let place = tempfile::tempdir().unwrap();
    let (root, backup, again) = (place.path().join("data"), place.path().join("backup"), place.path().join("again"));
    let running = serve(&root);
    let first = push_image(&running.anonymous(), "a", "1", 1).await;
    back_up(&root, &backup, &[]);
    let second = push_image(&running.anonymous(), "a", "2", 100).await;
    delete_image(&running.anonymous(), "a", &first).await;
    running.stop();

    // A blob that cannot be copied, because a directory has its name. The backup stops there as if it were killed.
    let layer = second["layers"][0]["digest"].as_str().unwrap();
    let in_the_way = blob(&backup, layer);
    std::fs::create_dir(&in_the_way).unwrap();
    let done = Program::new(["backup", "--root"]).arg(&root).arg(&backup).run();
    assert_eq!(done.code, Some(1), "{done:?}");
    std::fs::remove_dir(&in_the_way).unwrap();
    // The remains of a kill during a copy.
    std::fs::write(backup.join("uploads/9d6a8bd4-5a2d-4b8d-8d2c-0d8a2f3b4c5d"), b"half").unwrap();

    let done = restore(&backup, &again, &["--verify"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let restored = serve(&again);
    assert_eq!(pull(&restored.anonymous(), "a", "1").await, Some(first));
    assert_eq!(pull(&restored.anonymous(), "a", "2").await, None);
    restored.stop();

    back_up(&root, &backup, &[]);
    assert_eq!(files(&backup), files(&root));
    assert!(!backup.join("uploads").read_dir().unwrap().any(|_| true));
    std::fs::remove_dir_all(&again).unwrap();
    assert_eq!(restore(&backup, &again, &["--verify"]).code, Some(0));
    let last = serve(&again);
    assert_eq!(pull(&last.anonymous(), "a", "2").await, Some(second));
    last.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_with_something_else_in_it_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let (root, backup) = (place.path().join("data"), place.path().join("backup"));
    let running = serve(&root);
    push_image(&running.anonymous(), "a", "1", 1).await;
    let refused = |to: &Path, why: &str| {
        let done = Program::new(["backup", "--root"]).arg(&root).arg(to).run();
        assert!(done.code == Some(1) && done.stderr.contains(why), "{}: {done:?}", to.display());
    };
    let other = place.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("letter.txt"), "dear").unwrap();
    refused(&other, "choose another directory");
    refused(&root, "overlaps the directory to copy from");
    refused(&root.join("inside/of/it"), "overlaps the directory to copy from");
    refused(place.path(), "overlaps the directory to copy from");
    std::os::unix::fs::symlink(&root, place.path().join("by another name")).unwrap();
    refused(&place.path().join("by another name"), "overlaps the directory to copy from");
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 1);
    assert!(!root.join("inside").exists() && !root.join("backup.txt").exists());

    // A backup is not served from, so that it can be updated.
    back_up(&root, &backup, &[]);
    for program in [Program::serve(&backup), Program::new(["user", "list", "--root"]).arg(&backup)] {
        let done = program.run();
        assert!(done.code == Some(1) && done.stderr.contains("`coracle restore "), "{done:?}");
    }
    back_up(&root, &backup, &[]);
    // A registry is not overwritten.
    let served = place.path().join("served");
    assert_eq!(restore(&backup, &served, &[]).code, Some(0));
    let restored = serve(&served);
    let pushed = push_image(&restored.anonymous(), "b", "1", 1000).await;
    refused(&served, "is neither empty nor a backup: choose another directory");
    restored.stop();
    refused(&served, "is neither empty nor a backup: choose another directory");
    let other_backup = place.path().join("other backup");
    back_up(&root, &other_backup, &[]);
    for (from, to) in [(&served, &root), (&backup, &served), (&backup, &other_backup)] {
        let done = restore(from, to, &[]);
        let why = format!("{} is not empty: choose another directory", to.display());
        assert!(done.code == Some(1) && done.stderr.contains(&why), "{done:?}");
    }
    let restored = serve(&served);
    assert_eq!(pull(&restored.anonymous(), "b", "1").await, Some(pushed));
    // A registry that runs is not restored from.
    let done = restore(&served, &place.path().join("new"), &[]);
    assert!(done.code == Some(1) && done.stderr.contains("in use"), "{done:?}");
    restored.stop();
    running.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_registry_has_its_people_but_nobody_is_signed_in() {
    let place = tempfile::tempdir().unwrap();
    let (root, backup, again) = (place.path().join("data"), place.path().join("backup"), place.path().join("again"));
    let running = Program::serve(&root).with_admin().start();
    let admin = running.user(ADMIN);
    push_image(&admin, "a", "1", 1).await;
    let key =
        Program::new(["apikey", "create", "--json", "--user", "admin", "--label", "ci", "--root"]).arg(&root).run();
    let key: Value = serde_json::from_str(&key.stdout).unwrap();
    let token = admin.get("/v2/auth?scope=repository:a:pull").send().await.status(200).json();
    let bearer = |running: &Running, token: &str| {
        running.anonymous().get("/v2/a/manifests/1").header("authorization", format!("Bearer {token}"))
    };
    let token = token["token"].as_str().unwrap();
    bearer(&running, token).send().await.status(200);
    back_up(&root, &backup, &[]);
    running.stop();

    assert_eq!(restore(&backup, &again, &[]).code, Some(0));
    assert!(!again.join("backup.txt").exists());
    let running = Program::serve(&again).start();
    assert!(!running.stderr().contains("first start"), "{}", running.stderr());
    running.user(ADMIN).get("/v2/a/manifests/1").send().await.status(200);
    bearer(&running, key["key"].as_str().unwrap()).send().await.status(200);
    bearer(&running, token).send().await.status(401);
    running.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_blobs_are_named_and_everything_else_is_brought() {
    let place = tempfile::tempdir().unwrap();
    let (root, backup, again) = (place.path().join("data"), place.path().join("backup"), place.path().join("again"));
    let running = serve(&root);
    let caller = running.anonymous();
    let (short, altered) =
        (push_blob(&caller, "a", &noise(500, 1)).await, push_blob(&caller, "a", &noise(500, 2)).await);
    let image = push_image(&caller, "a", "1", 100).await;
    put_manifest(&caller, "a", "2", &image).await.status(201);
    std::fs::write(blob(&root, &short), b"cut").unwrap();
    let done = Program::new(["backup", "--root"]).arg(&root).arg(&backup).run();
    assert!(done.code == Some(1) && done.stderr.contains(&short), "{done:?}");
    assert_eq!(files(&backup).len(), 3);

    // Copies are hashed without being asked to be.
    std::fs::write(blob(&root, &altered), noise(500, 3)).unwrap();
    let done = Program::new(["backup", "--copy", "--root"]).arg(&root).arg(place.path().join("copies")).run();
    assert!(done.code == Some(1) && done.stderr.contains(&altered), "{done:?}");
    running.stop();

    // The link is the same file, altered too: what is not hashed is not found.
    let done = restore(&backup, &place.path().join("unverified"), &[]);
    assert!(done.code == Some(1) && !done.stderr.contains(&altered), "{done:?}");
    let done = restore(&backup, &again, &["--verify"]);
    assert!(done.code == Some(1) && done.stderr.contains(&altered) && done.stderr.contains(&short), "{done:?}");
    let running = serve(&again);
    assert_eq!(pull(&running.anonymous(), "a", "2").await, Some(image));
    running.stop();
}
