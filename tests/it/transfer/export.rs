//! Exports, and imports of them elsewhere.

use std::path::Path;

use serde_json::{Value, json};

use super::{command, create, is_partial, pull, serve, succeeds};
use crate::support::content::{bytes, descriptor, image, index, noise, push_blob, put_manifest, sha256};
use crate::support::http::Caller;

/// Pushes an image with these layers.
async fn push(caller: &Caller, repository: &str, tag: &str, layers: &[&[u8]]) -> Value {
    push_blob(caller, repository, b"{}").await;
    for layer in layers {
        push_blob(caller, repository, layer).await;
    }
    let image = image(b"{}", layers);
    put_manifest(caller, repository, tag, &image).await.status(201);
    image
}

/// Pushes a signature of an image, as a referrer without a tag.
async fn sign(caller: &Caller, repository: &str, subject: &Value) -> Value {
    push_blob(caller, repository, b"signature").await;
    let mut signature = image(b"{}", &[b"signature"]);
    signature["artifactType"] = json!("application/vnd.test.signature");
    signature["subject"] = descriptor(subject["mediaType"].as_str().unwrap(), &bytes(subject));
    put_manifest(caller, repository, &sha256(&bytes(&signature)), &signature).await.status(201);
    signature
}

#[tokio::test]
async fn an_export_carries_everything_and_is_the_same_twice() {
    let place = tempfile::tempdir().unwrap();
    let (root, other) = (place.path().join("data"), place.path().join("other"));
    let running = serve(&root);
    let caller = running.anonymous();
    let one = push(&caller, "team/app", "1", &[&noise(50_000, 1)]).await;
    let two = push(&caller, "team/app", "2", &[&noise(50_000, 1), b"two"]).await;
    let both = index(&[&one, &two]);
    put_manifest(&caller, "team/app", "both", &both).await.status(201);
    let signature = sign(&caller, "team/app", &one).await;
    let last = push(&caller, "alone", "latest", &[b"alone"]).await;

    let paths = ["a.tar", "b.tar", "layout"].map(|name| place.path().join(name));
    let [first, second, layout] = paths.each_ref().map(|path| path.to_str().unwrap());
    let exported = succeeds("export", &root, &["--output", first]);
    assert_eq!(
        (&exported["tags"], &exported["manifests"], &exported["repositories"]),
        (&json!(4), &json!(5), &json!(2))
    );
    succeeds("export", &root, &["-o", layout]);
    running.stop();
    // Also without a running registry.
    succeeds("export", &root, &["-o", second]);
    assert_eq!(std::fs::read(first).unwrap(), std::fs::read(second).unwrap(), "the same content gives the same bytes");
    let exists = command("export", &root, &["-o", second]);
    assert!(exists.code == Some(1) && exists.stderr.contains("exists already"), "{exists:?}");

    for (number, source) in [first, layout].into_iter().enumerate() {
        let other = other.join(number.to_string());
        create(&other);
        let found = succeeds("import", &other, &[source]);
        assert_eq!((&found["tags"], &found["manifests"]), (&json!(4), &json!(5)), "{found}");
        let running = serve(&other);
        let caller = running.anonymous();
        pull(&caller, "team/app", "1", &one).await;
        pull(&caller, "team/app", "2", &two).await;
        pull(&caller, "alone", "latest", &last).await;
        let listed = caller.get(&format!("/v2/team/app/referrers/{}", sha256(&bytes(&one)))).send().await.status(200);
        assert_eq!(listed.json()["manifests"][0]["digest"], sha256(&bytes(&signature)));
    }
}

#[tokio::test]
async fn an_export_of_one_image_has_its_signature_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("data");
    let running = serve(&root);
    let caller = running.anonymous();
    let one = push(&caller, "team/app", "1", &[b"one"]).await;
    sign(&caller, "team/app", &one).await;
    push(&caller, "team/app", "2", &[b"two"]).await;
    push(&caller, "team/other", "1", &[b"three"]).await;
    let output = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let export = |name: &str, arguments: &[&str]| {
        let path = output(name);
        succeeds("export", &root, &[&["-o", &path], arguments].concat())
    };
    let counts = |found: &Value| ["repositories", "tags", "manifests", "blobs"].map(|key| found[key].as_u64().unwrap());
    assert_eq!(counts(&export("one.tar", &["team/app:1"])), [1, 1, 2, 3]);
    assert_eq!(counts(&export("bare.tar", &["--no-referrers", "team/app:1"])), [1, 1, 1, 2]);
    assert_eq!(counts(&export("digest.tar", &[&format!("team/app@{}", sha256(&bytes(&one)))])), [1, 0, 2, 3]);
    assert_eq!(counts(&export("ones.tar", &["team/*:1"])), [2, 2, 3, 4]);
    assert_eq!(counts(&export("all.tar", &["team/**"])), [2, 3, 4, 5]);
    let nothing = command("export", &root, &["-o", &output("none.tar"), "team/app:1", "team/absent"]);
    assert!(nothing.code == Some(1) && nothing.stderr.contains("team/absent"), "{nothing:?}");
    assert!(!Path::new(&output("none.tar")).exists());
    // A damaged blob is found before the output has its name.
    let layer = root.join("blobs/sha256").join(&sha256(b"one")[7..]);
    std::fs::write(&layer, b"eno").unwrap();
    let damaged = command("export", &root, &["-o", &output("damaged.tar"), "team/app:1"]);
    assert!(damaged.code == Some(1) && damaged.stderr.contains("damaged"), "{damaged:?}");
    let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("damaged")), "{left:?}");
}

#[tokio::test]
async fn a_delta_has_what_is_new_and_an_incomplete_one_moves_no_tag() {
    let place = tempfile::tempdir().unwrap();
    let (root, other, empty) = (place.path().join("data"), place.path().join("other"), place.path().join("empty"));
    let (base, changed) = (noise(300_000, 1), noise(20_000, 2));
    let running = serve(&root);
    let caller = running.anonymous();
    let one = push(&caller, "team/app", "1", &[&base]).await;
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    succeeds("export", &root, &["-o", &path("whole.tar")]);
    create(&other);
    succeeds("import", &other, &[&path("whole.tar")]);
    let two = push(&caller, "team/app", "1", &[&base, &changed]).await;
    let delta = succeeds("export", &root, &["-o", &path("delta.tar"), "--since", &path("whole.tar")]);
    assert_eq!((&delta["blobs"], &delta["omitted"]), (&json!(1), &json!(2)), "{delta}");
    let manifests = (bytes(&one).len() + bytes(&two).len()) as u64;
    assert_eq!(delta["bytes"], json!(changed.len() as u64 + manifests), "that layer and the manifests");
    let list = Path::new(&path("have")).to_owned();
    let inventory = crate::support::process::Program::new(["inventory", "--root"]).arg(&other).run();
    std::fs::write(&list, inventory.stdout).unwrap();
    let same = succeeds("export", &root, &["-o", &path("same.tar"), "--have", list.to_str().unwrap()]);
    assert_eq!(std::fs::read(path("delta.tar")).unwrap(), std::fs::read(path("same.tar")).unwrap(), "{same}");

    // Where the base is missing, nothing changes.
    create(&empty);
    let refused = is_partial(&empty, &[&path("delta.tar")]);
    assert_eq!((&refused["tags"], &refused["manifests"]), (&json!(0), &json!(0)), "{refused}");
    let found = succeeds("import", &other, &["--overwrite", &path("delta.tar")]);
    assert_eq!((&found["tags"], &found["blobs"]), (&json!(1), &json!(1)), "{found}");
    let running = serve(&other);
    pull(&running.anonymous(), "team/app", "1", &two).await;
    pull(&running.anonymous(), "team/app", &sha256(&bytes(&one)), &one).await;
}

#[tokio::test]
async fn a_cut_or_altered_archive_changes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let (root, other) = (place.path().join("data"), place.path().join("other"));
    let running = serve(&root);
    push(&running.anonymous(), "team/app", "1", &[&noise(100_000, 1)]).await;
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    succeeds("export", &root, &["-o", &path("whole.tar")]);
    let whole = std::fs::read(path("whole.tar")).unwrap();
    create(&other);
    for length in [0, 100, 600, 2000, whole.len() / 2, whole.len() - 2000] {
        std::fs::write(path("cut.tar"), &whole[..length]).unwrap();
        let done = command("import", &other, &[&path("cut.tar")]);
        assert_eq!(done.code, Some(1), "{length}: {done:?}");
    }
    let mut altered = whole.clone();
    let at = whole.len() - 50_000;
    altered[at] ^= 1;
    std::fs::write(path("altered.tar"), &altered).unwrap();
    let refused = is_partial(&other, &[&path("altered.tar")]);
    assert!(refused["problems"][0]["why"].as_str().unwrap().contains("damaged"), "{refused}");
    let running = serve(&other);
    let listed = running.anonymous().get("/v2/_catalog").send().await.status(200).json();
    assert_eq!(listed["repositories"], json!([]));
}
