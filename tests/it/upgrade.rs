//! Databases of earlier schema versions, each made by the program of its time (`tests/fixtures`). They are migrated to the
//! current version, and everything in them is served.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::content::{CONFIG, LAYER, MANIFEST, bytes, descriptor, image, index, sha256};
use crate::support::process::{Program, Running};

/// carol's and the superuser's password at this version. Before version 7 they are from before the rule that a password
/// has no whitespace.
const fn people(version: u32) -> [(&'static str, &'static str); 2] {
    if version < 7 {
        [("carol", "carol's password"), ("admin", "admin's password")]
    } else {
        [("carol", "carol's-password"), ("admin", "admin's-password")]
    }
}

/// The schema versions that there are fixtures of.
const VERSIONS: [u32; 7] = [1, 2, 3, 4, 5, 6, 7];
/// The one that this program writes.
const PRESENT: u32 = 7;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The bytes of a database of this version.
fn database(version: u32) -> Vec<u8> {
    let packed = std::fs::File::open(fixture(&format!("schema-{version}.redb.gz"))).unwrap();
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut unpacked).unwrap();
    unpacked
}

/// carol's API key in the database of this version.
fn key(version: u32) -> String {
    let text = std::fs::read_to_string(fixture(&format!("schema-{version}.txt"))).unwrap();
    text.split("API key: ").nth(1).unwrap().trim().to_owned()
}

/// An image as the fixtures have it: its two blobs, and its manifest.
fn pushed(name: &str, subject: Option<&Value>) -> ([Vec<u8>; 2], Value) {
    let blobs = ["config", "layer"].map(|kind| format!("{kind} of {name}").into_bytes());
    let mut manifest = image(&blobs[0], &[&blobs[1]]);
    if let Some(subject) = subject {
        manifest["subject"] = descriptor(MANIFEST, &bytes(subject));
    }
    (blobs, manifest)
}

/// A data directory as the program of this version has left it.
fn data_directory(root: &Path, version: u32) {
    std::fs::create_dir_all(root.join("blobs/sha256")).unwrap();
    std::fs::write(root.join("coracle.redb"), database(version)).unwrap();
    for name in ["one", "two", "signature"] {
        for blob in pushed(name, None).0 {
            std::fs::write(root.join("blobs/sha256").join(&sha256(&blob)[7..]), blob).unwrap();
        }
    }
}

/// Asks for everything that was pushed.
async fn assert_serves_everything(running: &Running, version: u32) {
    let [carol, admin] = people(version).map(|person| running.user(person));
    let (_, first) = pushed("one", None);
    let (_, second) = pushed("two", None);
    let (_, signature) = pushed("signature", Some(&first));
    let all = index(&[&first, &second]);
    let get = |path: String| {
        let request = carol.get(&format!("/v2/{path}"));
        async move { request.send().await.status(200) }
    };
    assert_eq!(get("carol/app/manifests/moved".to_owned()).await.body, bytes(&second));
    assert_eq!(get("carol/app/manifests/all".to_owned()).await.body, bytes(&all));
    assert_eq!(get("carol/other/manifests/same".to_owned()).await.body, bytes(&first));
    for manifest in [&first, &second, &signature, &all] {
        let digest = sha256(&bytes(manifest));
        assert_eq!(get(format!("carol/app/manifests/{digest}")).await.body, bytes(manifest));
    }
    for (name, subject) in [("one", None), ("two", None), ("signature", Some(&first))] {
        for blob in pushed(name, subject).0 {
            assert_eq!(get(format!("carol/app/blobs/{}", sha256(&blob))).await.body, blob);
        }
    }
    carol.get("/v2/carol/app/manifests/gone").send().await.status(404);
    let tags = get("carol/app/tags/list".to_owned()).await.json();
    assert_eq!(tags["tags"], json!(["all", "moved"]));
    let referrers = get(format!("carol/app/referrers/{}", sha256(&bytes(&first)))).await.json();
    assert_eq!(referrers["manifests"][0]["digest"], sha256(&bytes(&signature)));
    // A key with its scope, and the superuser.
    let bearer = |path: &str| running.anonymous().get(path).header("authorization", format!("Bearer {}", key(version)));
    bearer("/v2/carol/app/manifests/moved").send().await.status(200);
    let sneaky = running.anonymous().delete("/v2/carol/app/manifests/moved");
    sneaky.header("authorization", format!("Bearer {}", key(version))).send().await.status(403);
    admin.get("/v2/carol/app/manifests/moved").send().await.status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_every_version_is_served_and_the_one_before_is_kept() {
    // They were made of this.
    assert_eq!(pushed("one", None).1["layers"][0], descriptor(LAYER, b"layer of one"));
    assert_eq!(pushed("one", None).1["config"], descriptor(CONFIG, b"config of one"));
    for version in VERSIONS {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("data");
        data_directory(&root, version);
        let running = Program::serve(&root).start();
        let [carol, _] = people(version);
        assert_serves_everything(&running, version).await;
        // It is a registry like any other: what was kept for a tag's sake goes when that is taken away.
        let tag = "/v2/carol/app/manifests/moved";
        running.user(carol).delete(tag).send().await.status(202);
        let ended = running.stop();
        assert!(!root.join("coracle.redb.new").exists());
        let kept = root.join(format!("coracle.redb.{version}"));
        assert_eq!(kept.exists(), version < PRESENT, "version {version}");
        assert_eq!(ended.stderr.contains("rename the kept file"), version < PRESENT, "{}", ended.stderr);
        // Upgraded once, and not again.
        let running = Program::serve(&root).start();
        running.user(carol).get(tag).send().await.status(404);
        assert!(!running.stop().stderr.contains("newer schema version"));
        if version < PRESENT {
            // The kept file is whole: a downgrade with it works, as the log says.
            std::fs::rename(&kept, root.join("coracle.redb")).unwrap();
            let running = Program::serve(&root).start();
            assert_serves_everything(&running, version).await;
            running.stop();
        }
    }
}

#[test]
fn there_is_a_fixture_of_every_version() {
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/src/content/rows/schema.rs");
    let schema = std::fs::read_to_string(schema).unwrap();
    let present = schema.split("const VERSION: u32 = ").nth(1).unwrap().split(';').next().unwrap();
    assert_eq!(present, PRESENT.to_string(), "a new version needs a fixture of it: tests/fixtures/make.py");
    assert_eq!(VERSIONS.to_vec(), (1..=PRESENT).collect::<Vec<_>>());
}
