//! Garbage collection and scrub, by command and by maintenance: the real program with its clients.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::content::{assert_blob, descriptor, image, noise, push_blob, push_image, put_manifest, sha256};
use crate::support::process::{ADMIN, Finished, Program, Running};

const WAIT: Duration = Duration::from_secs(30);

fn coracle(root: &Path, arguments: &[&str]) -> Finished {
    Program::new(arguments).arg("--root").arg(root).run()
}

fn printed(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{}{}", finished.stdout, finished.stderr))
}

fn start(config: &str) -> (TempDir, Running) {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve_with(root.path(), config).with_admin().start();
    (root, running)
}

fn blob_file(root: &Path, digest: &str) -> std::path::PathBuf {
    root.join("blobs").join(digest.replace(':', "/"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_needs_is_collected_by_hand_beside_clients() {
    let (root, running) = start("storage.tagHistory = '0s'");
    let admin = running.user(ADMIN);
    push_image(&admin, "team/app", "kept", 1).await;
    let gone = push_image(&admin, "team/app", "gone", 2).await;
    let alone = push_blob(&admin, "team/app", &noise(1000, 3)).await;
    admin.delete("/v2/team/app/manifests/gone").send().await.status(202);

    let said = printed(&coracle(root.path(), &["gc", "--dry-run", "--delay", "0s", "--json"]));
    assert_eq!((&said["manifests"], &said["blobs"]), (&1.into(), &2.into()), "{said}");
    assert!(blob_file(root.path(), &alone).exists(), "a rehearsal removes nothing");

    let default = printed(&coracle(root.path(), &["gc", "--json"]));
    assert_eq!((&default["manifests"], &default["blobs"]), (&0.into(), &0.into()), "nothing is a day old");

    let done = coracle(root.path(), &["gc", "--delay", "0s"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.contains("1 manifest removed"), "{}", done.stdout);
    let layer = gone["layers"][0]["digest"].as_str().unwrap();
    for digest in [layer, &alone] {
        assert!(!blob_file(root.path(), digest).exists());
        admin.head(&format!("/v2/team/app/blobs/{digest}")).send().await.status(404);
    }
    let kept = admin.get("/v2/team/app/manifests/kept").send().await.status(200).json();
    for blob in [&kept["config"], &kept["layers"][0]] {
        let digest = blob["digest"].as_str().unwrap();
        admin.get(&format!("/v2/team/app/blobs/{digest}")).send().await.status(200);
    }
    running.stop();

    // The same without a running registry.
    let rests = printed(&coracle(root.path(), &["gc", "--delay", "0s", "--json"]));
    assert_eq!(rests["blobs"], 0, "{rests}");
}

async fn until_removed(file: &Path) {
    let began = Instant::now();
    while file.exists() {
        assert!(began.elapsed() < WAIT, "nothing was collected");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_collects_by_itself_and_says_so() {
    let (root, running) = start("storage.tagHistory = '0s'\nstorage.gcDelay = '1s'\nstorage.gcInterval = '1s'");
    let admin = running.user(ADMIN);
    push_image(&admin, "app", "latest", 1).await;
    let alone = push_blob(&admin, "app", &noise(1000, 3)).await;
    let file = blob_file(root.path(), &alone);
    until_removed(&file).await;
    running.wait_for("collected unreferenced manifests and blobs");
    admin.get("/v2/app/manifests/latest").send().await.status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_garbage_collection_keeps_everything() {
    let config = "[storage]\ntagHistory = '0s'\ngcDelay = '0s'\ngcInterval = '1s'\n";
    let (_root, running) = start(&format!("{config}gc = false"));
    let admin = running.user(ADMIN);
    let content = noise(1000, 3);
    let alone = push_blob(&admin, "app", &content).await;
    // Another registry, which collects, gets the same blob later and removes it.
    let (root, collecting) = start(config);
    push_blob(&collecting.user(ADMIN), "app", &content).await;
    until_removed(&blob_file(root.path(), &alone)).await;
    assert_blob(&admin, "app", &alone, &content).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_blob_is_never_served_and_heals_when_it_is_pushed_again() {
    let (root, running) = start("");
    let admin = running.user(ADMIN);
    let content = noise(100_000, 7);
    let layer = push_blob(&admin, "app", &content).await;
    let config = push_blob(&admin, "app", b"{}").await;
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": content.len()}],
    });
    put_manifest(&admin, "app", "latest", &manifest).await.status(201);
    assert_eq!(coracle(root.path(), &["scrub"]).code, Some(0));

    let mut altered = content.to_vec();
    altered[50_000] ^= 1;
    std::fs::write(blob_file(root.path(), &layer), altered).unwrap();
    let path = format!("/v2/app/blobs/{layer}");
    let refused = admin.get(&path).send().await.error(404, "BLOB_UNKNOWN");
    assert!(refused.text().contains("damaged") && refused.text().contains("push it again"), "{}", refused.text());
    running.wait_for("a blob is damaged");
    admin.head(&path).send().await.status(404);
    // The log names the affected tag.
    running.wait_for("app:latest");
    let found = coracle(root.path(), &["scrub", "--rate", "1GiB"]);
    assert_eq!(found.code, Some(1), "{}", found.stdout);
    assert!(found.stdout.contains(&layer) && found.stdout.contains("app:latest"), "{}", found.stdout);
    let found = printed(&coracle(root.path(), &["scrub", "--json"]));
    assert_eq!((&found["clean"], &found["damaged"][0]["digest"]), (&false.into(), &layer.clone().into()), "{found}");

    // A client that pushes the image again sends the blob that HEAD reports missing.
    assert_eq!(push_blob(&admin, "app", &content).await, sha256(&content));
    assert_blob(&admin, "app", &layer, &content).await;
    assert_eq!(coracle(root.path(), &["scrub"]).code, Some(0));
    running.stop();
    assert_eq!(coracle(root.path(), &["scrub"]).code, Some(0), "the same without a running registry");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_command_keeps_nobody_waiting_and_ends_with_the_registry() {
    let (root, running) = start("");
    let admin = running.user(ADMIN);
    for seed in 0..4 {
        push_blob(&admin, "app", &noise(1_000_000, seed)).await;
    }
    // A minute, if it is let.
    let scrub = Program::new(["scrub", "--rate", "64KiB", "--json"]).arg("--root").arg(root.path()).spawn();
    let others = coracle(root.path(), &["user", "list"]);
    assert_eq!(others.code, Some(0), "{}", others.stderr);
    admin.get("/v2/").send().await.status(200);
    let began = Instant::now();
    running.stop();
    assert!(began.elapsed() < WAIT, "the registry has waited for the scrub");
    drop(scrub.finish());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_layer_that_was_pushed_is_kept_served_and_recovered() {
    let (root, running) = start("storage.gcDelay = '1s'");
    let admin = running.user(ADMIN);
    let kinds = [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ];
    let config = push_blob(&admin, "win/app", b"{}").await;
    let mut layers = Vec::new();
    for (number, kind) in kinds.iter().enumerate() {
        let content = noise(2000, number as u64);
        let mut manifest = image(b"{}", &[]);
        let mut layer = descriptor(kind, &content);
        layer["urls"] = json!(["https://example.invalid/layer"]);
        manifest["layers"] = json!([layer]);
        if number == 0 {
            push_blob(&admin, "win/app", &content).await;
        }
        put_manifest(&admin, "win/app", &number.to_string(), &manifest).await.status(201);
        // The order of pushes does not matter.
        layers.push((push_blob(&admin, "win/app", &content).await, content));
    }
    let collected = printed(&coracle(root.path(), &["gc", "--delay", "0s", "--json"]));
    assert_eq!((&collected["manifests"], &collected["links"]), (&0.into(), &0.into()), "{collected}");
    for (digest, content) in &layers {
        admin.delete(&format!("/v2/win/app/blobs/{digest}")).send().await.error(405, "DENIED");
        assert_blob(&admin, "win/app", digest, content).await;
    }
    running.wait_for("created a new manifests.log");
    running.stop();
    std::fs::remove_file(root.path().join("coracle.redb")).unwrap();
    let recovered = coracle(root.path(), &["recover", "--prune", "--json"]);
    assert_eq!(recovered.code, Some(0), "{}", recovered.stderr);
    let running = Program::serve(root.path()).with_admin().start();
    let admin = running.user(ADMIN);
    for (digest, content) in &layers {
        assert_blob(&admin, "win/app", digest, content).await;
    }
    admin.get(&format!("/v2/win/app/blobs/{config}")).send().await.status(200);
}

/// A file that says what a process takes for the time, and the library that reads it.
struct WallClock {
    directory: TempDir,
    library: String,
}

impl WallClock {
    fn new(at: &str) -> Option<Self> {
        let found =
            std::process::Command::new("faketime").args(["-m", "2001-01-01", "printenv", "LD_PRELOAD"]).output();
        let Ok(found) = found else {
            assert!(std::env::var_os("CI").is_none(), "faketime is missing");
            eprintln!("skipped: faketime is missing");
            return None;
        };
        let library = String::from_utf8(found.stdout).unwrap();
        let library = library.trim().rsplit(':').next().unwrap().to_owned();
        let clock = Self { directory: tempfile::tempdir().unwrap(), library };
        clock.set(at);
        Some(clock)
    }

    fn file(&self) -> std::path::PathBuf {
        self.directory.path().join("time")
    }

    fn set(&self, at: &str) {
        let new = self.directory.path().join("new");
        std::fs::write(&new, format!("@{at}\n")).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    fn start(&self, program: Program) -> Running {
        let program = program.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", self.file());
        let program = program.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        program.env("DONT_FAKE_MONOTONIC", "1").with_admin().start()
    }
}

/// A board without a battery starts in 1970, and the network sets its clock while a client pushes, or between two starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_jumps_makes_nothing_old_enough_to_be_collected() {
    let Some(clock) = WallClock::new("1970-01-01 00:00:30") else { return };
    let root = tempfile::tempdir().unwrap();
    let config = "storage.gcInterval = '1s'\nstorage.uploadExpiry = '24h'";
    let mut running = clock.start(Program::serve_with(root.path(), config));
    let admin = running.user(ADMIN);
    let pinned = push_image(&admin, "edge/pinned", "1", 1).await;
    let first = sha256(&crate::support::content::bytes(&pinned));
    push_image(&admin, "edge/pinned", "1", 5).await;
    let layer = push_blob(&admin, "edge/app", &noise(3000, 9)).await;
    let upload = crate::support::content::start_upload(&admin, "edge/app").await;
    let orphan = push_blob(&admin, "edge/orphan", &noise(3000, 11)).await;
    for (time, starts_again) in
        [("2026-11-29 12:00:00", false), ("1975-01-01 00:00:00", true), ("2031-01-01 00:00:00", true)]
    {
        clock.set(time);
        if starts_again {
            running.stop();
            running = clock.start(Program::serve_with(root.path(), config));
        }
        let admin = running.user(ADMIN);
        assert_eq!(printed(&coracle(root.path(), &["gc", "--json"]))["links"], 0, "{time}");
        for (repository, blob) in [("edge/app", &layer), ("edge/orphan", &orphan)] {
            admin.head(&format!("/v2/{repository}/blobs/{blob}")).send().await.status(200);
        }
        // The tag can still be restored.
        let restored = coracle(root.path(), &["tag", "restore", "edge/pinned:1", "--digest", &first]);
        assert_eq!(restored.code, Some(0), "{}", restored.stderr);
        push_image(&admin, "edge/pinned", "1", 5).await;
        admin.get(&upload).send().await.status(204);
    }
    running.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_by_digest_is_restored_by_the_command_line_and_by_quays_api() {
    let (root, running) = start("storage.gcDelay = '1s'");
    let admin = running.user(ADMIN);
    let digest_of = |manifest: &Value| sha256(&crate::support::content::bytes(manifest));
    let tagged = digest_of(&push_image(&admin, "app", "1", 1).await);
    let untagged = {
        let digest = digest_of(&push_image(&admin, "app", "moved", 5).await);
        admin.delete("/v2/app/manifests/moved").send().await.status(202);
        digest
    };
    let path = |digest: &str| format!("/v2/app/manifests/{digest}");
    for digest in [&tagged, &untagged] {
        admin.delete(&path(digest)).send().await.status(202);
        admin.get(&path(digest)).send().await.error(404, "MANIFEST_UNKNOWN");
        admin.delete(&path(digest)).send().await.error(404, "MANIFEST_UNKNOWN");
    }
    admin.get(&path("1")).send().await.status(404);
    assert_eq!(printed(&coracle(root.path(), &["gc", "--delay", "0s", "--json"]))["links"], 0);
    let history = printed(&coracle(root.path(), &["tag", "history", "app", "--json"]));
    assert_eq!(history["deleted"].as_array().unwrap().len(), 2, "{history}");

    let restored = coracle(root.path(), &["tag", "restore", "app:1"]);
    assert_eq!(restored.code, Some(0), "{}", restored.stderr);
    assert!(restored.stdout.contains(&format!("app:1 points at {tagged}")), "{}", restored.stdout);
    admin.get(&path("1")).send().await.status(200).has("docker-content-digest", &tagged);
    let restored = coracle(root.path(), &["tag", "restore", &format!("app@{untagged}")]);
    assert_eq!(restored.code, Some(0), "{}", restored.stderr);
    let manifest = admin.get(&path(&untagged)).send().await.status(200).json();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    admin.get(&format!("/v2/app/blobs/{layer}")).send().await.status(200);

    // By Quay's API, with any tag.
    admin.delete(&path(&untagged)).send().await.status(202);
    let body = json!({"manifest_digest": untagged}).to_string();
    let key = admin.post("/zot/auth/apikey").body(r#"{"label": "restore"}"#).send().await.status(201).json();
    let bearer = format!("Bearer {}", key["apiKey"].as_str().unwrap());
    let restore = running.anonymous().post("/api/v1/repository/app/tag/again/restore");
    restore.header("authorization", bearer).body(body).send().await.status(200);
    admin.get(&path("again")).send().await.status(200).has("docker-content-digest", &untagged);
    let nothing = coracle(root.path(), &["tag", "restore", "app:none"]);
    assert_eq!(nothing.code, Some(1), "{}", nothing.stdout);
    running.stop();
    let alone = coracle(root.path(), &["tag", "history", "app"]);
    assert!(alone.stdout.contains(&untagged), "{}{}", alone.stdout, alone.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_purged_to_free_the_disk() {
    let (root, running) = start("");
    let admin = running.user(ADMIN);
    for repository in ["app", "other"] {
        for seed in [1, 5] {
            push_image(&admin, repository, "latest", seed + repository.len() as u64).await;
        }
    }
    let gc = |more: &[&str]| {
        let arguments = [&["gc", "--delay", "0s", "--json", "--purge-history"], more].concat();
        printed(&coracle(root.path(), &arguments))
    };
    let rehearsed = gc(&["app", "--dry-run"]);
    assert_eq!((&rehearsed["purged"], &rehearsed["manifests"]), (&1.into(), &1.into()), "{rehearsed}");
    let purged = gc(&["app"]);
    assert_eq!((&purged["purged"], &purged["bytes"]), (&1.into(), &rehearsed["bytes"]), "{purged}");
    assert!(purged["bytes"].as_u64().unwrap() > 0);
    assert_eq!(gc(&["app"])["purged"], 0);
    let unknown = coracle(root.path(), &["gc", "--purge-history", "nowhere"]);
    assert_eq!(unknown.code, Some(1), "{}", unknown.stdout);
    running.stop();
    let alone = coracle(root.path(), &["gc", "--delay", "0s", "--purge-history"]);
    assert!(alone.stdout.contains("1 entry of the tag history removed"), "{}{}", alone.stdout, alone.stderr);
    assert!(alone.stdout.contains("1 manifest removed"), "{}", alone.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_go_with_the_image_they_are_of() {
    let (root, running) = start("storage.tagHistory = '0s'");
    let admin = running.user(ADMIN);
    let signed = sha256(&crate::support::content::bytes(&push_image(&admin, "app", "1", 1).await));
    let companion = |suffix: &str| format!("{}{suffix}", signed.replace(':', "-"));
    for (seed, suffix) in [".sig", ".att", ".sbom"].iter().enumerate() {
        push_image(&admin, "app", &companion(suffix), 10 * (seed as u64 + 1)).await;
    }
    put_manifest(&admin, "app", &companion(""), &crate::support::content::index(&[])).await.status(201);
    let gc = || printed(&coracle(root.path(), &["gc", "--delay", "0s", "--json"]));
    assert_eq!(gc()["tags"], 0);
    admin.delete(&format!("/v2/app/manifests/{signed}")).send().await.status(202);
    let collected = gc();
    assert_eq!((&collected["tags"], &collected["manifests"]), (&4.into(), &4.into()), "{collected}");
    admin.get("/v2/app/tags/list").send().await.status(404);
    running.stop();
}
