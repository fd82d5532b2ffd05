//! Imports of the stores of other registries, as those write them to the disk.

use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};

use super::written::{Distribution, Tagged, layout};
use super::{command, create, is_partial, pull, serve, succeeds};
use crate::support::content::{bytes, image, index, noise, sha256};

#[tokio::test]
async fn a_store_of_distribution_keeps_every_digest_and_its_damage_is_listed() {
    let place = tempfile::tempdir().unwrap();
    let (root, old) = (place.path().join("data"), place.path().join("old"));
    let store = Distribution::new(&old);
    let shared = noise(100_000, 1);
    let first = store.image("team/app", "1", &shared);
    let second = store.image("team/app", "2", &shared);
    let other = store.image("deep/er/path/of/app", "latest", &noise(5000, 2));
    let untagged = image(b"{\"name\":\"team/app:1\"}", &[b"untagged"]);
    store.blob(b"untagged");
    store.manifest("team/app", &untagged);
    let both = index(&[&first, &second]);
    let digest = store.manifest("team/app", &both);
    store.tag("team/app", "both", &digest);
    // The damage that crashes and hands leave.
    let lost = store.image("bad/lost", "1", b"a layer that is lost");
    std::fs::remove_file(store.data(lost["layers"][0]["digest"].as_str().unwrap())).unwrap();
    let altered = store.image("bad/altered", "1", b"a layer that is altered");
    std::fs::write(store.data(altered["layers"][0]["digest"].as_str().unwrap()), b"a layer that is not same").unwrap();
    let empty = store.image("bad/empty", "1", b"a layer");
    std::fs::write(store.data(&sha256(&bytes(&empty))), b"").unwrap();
    store.tag("team/app", "linkless", "");
    store.tag("team/app", ".invalid", &digest);
    store.image("team/app", "whole", b"the last");
    std::fs::create_dir_all(store.0.join("repositories/team/app/_uploads/1")).unwrap();

    // The first import makes the data directory, and a dry run does not.
    let dry = command("import", &root, &["--dry-run", old.to_str().unwrap()]);
    assert!(!root.exists());
    let dry: Value = serde_json::from_str(&dry.stdout).unwrap();
    let found = is_partial(&root, &[old.to_str().unwrap()]);
    let problems: Vec<&str> =
        found["problems"].as_array().unwrap().iter().map(|problem| problem["what"].as_str().unwrap()).collect();
    for expected in ["bad/lost:1", "bad/altered:1", "bad/empty:1", "team/app:linkless", "team/app:.invalid"] {
        assert!(problems.contains(&expected), "{expected}: {problems:?}");
    }
    assert_eq!((&found["tags"], &found["manifests"]), (&json!(5), &json!(6)), "{found}");
    // A dry run reads no bytes of blobs, so it does not see the altered one.
    assert_eq!(dry["tags"], json!(6), "{dry}");

    let running = serve(&root);
    let caller = running.anonymous();
    for (repository, tag, image) in
        [("team/app", "1", &first), ("team/app", "2", &second), ("deep/er/path/of/app", "latest", &other)]
    {
        pull(&caller, repository, tag, image).await;
    }
    pull(&caller, "team/app", &sha256(&bytes(&untagged)), &untagged).await;
    let answer = caller.get("/v2/team/app/manifests/both").send().await.status(200);
    assert_eq!(answer.body, bytes(&both));
    caller.get("/v2/bad/altered/manifests/1").send().await.status(404);
    running.stop();

    // On one file system the bytes are shared: by a link, where there are no reflinks.
    let blob = root.join("blobs/sha256").join(&sha256(&shared)[7..]);
    let is_linked = blob.metadata().unwrap().ino() == store.data(&sha256(&shared)).metadata().unwrap().ino();
    assert!(is_linked || found["linked_bytes"].as_u64() > Some(0), "{found}");
    let again = is_partial(&root, &[old.to_str().unwrap()]);
    assert_eq!((&again["tags"], &again["manifests"], &again["blobs"]), (&json!(0), &json!(0), &json!(0)), "{again}");
    // The old registry goes on, and a tag moves there.
    let third = store.image("team/app", "1", b"third");
    let kept = is_partial(&root, &[old.to_str().unwrap()]);
    assert_eq!(kept["kept_tags"], json!(["team/app:1"]));
    is_partial(&root, &["--overwrite", old.to_str().unwrap()]);
    let running = serve(&root);
    pull(&running.anonymous(), "team/app", "1", &third).await;
}

#[tokio::test]
async fn a_store_of_zot_is_a_tree_of_layouts() {
    let place = tempfile::tempdir().unwrap();
    let (root, old) = (place.path().join("data"), place.path().join("old"));
    let one = image(b"{}", &[b"one"]);
    let two = image(b"{}", &[b"two"]);
    layout(&old.join("a"), &[(Some("1"), &one, &[b"{}", b"one"]), (None, &two, &[b"{}", b"two"])]);
    layout(&old.join("a/nested"), &[(Some("2"), &two, &[b"{}", b"two"])]);
    layout(&old.join("a/.sync/b"), &[(Some("3"), &two, &[b"{}", b"two"])]);
    for file in ["cache.db", "meta.db", "_trivy/db/trivy.db"] {
        Distribution::write(&old.join(file), b"");
    }
    std::fs::create_dir_all(old.join("broken")).unwrap();
    for file in ["broken/oci-layout", "broken/index.json"] {
        std::fs::write(old.join(file), b"").unwrap();
    }
    create(&root);
    let found = is_partial(&root, &["--into", "from/zot", old.to_str().unwrap()]);
    assert_eq!((&found["tags"], &found["manifests"]), (&json!(2), &json!(3)), "{found}");
    assert_eq!(found["problems"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found["problems"][0]["what"], "broken");
    let running = serve(&root);
    let caller = running.anonymous();
    pull(&caller, "from/zot/a", "1", &one).await;
    pull(&caller, "from/zot/a/nested", "2", &two).await;
    pull(&caller, "from/zot/a", &sha256(&bytes(&two)), &two).await;
    let listed = caller.get("/v2/_catalog").send().await.status(200).json();
    assert_eq!(listed["repositories"], json!(["from/zot/a", "from/zot/a/nested"]));
}

#[tokio::test]
async fn an_import_works_beside_clients_and_by_another_name() {
    let place = tempfile::tempdir().unwrap();
    let (root, one, unnamed) = (place.path().join("data"), place.path().join("one"), place.path().join("unnamed"));
    let first = image(b"{}", &[b"one"]);
    layout(&one, &[(Some("localhost:5000/team/app:1"), &first, &[b"{}", b"one"])]);
    layout(&unnamed, &[(Some("2"), &first, &[b"{}", b"one"])]);
    let running = serve(&root);
    let found = succeeds("import", &root, &[one.to_str().unwrap()]);
    assert_eq!(found["tags"], 1);
    pull(&running.anonymous(), "team/app", "1", &first).await;
    let refused = is_partial(&root, &[unnamed.to_str().unwrap()]);
    assert!(refused["problems"][0]["why"].as_str().unwrap().contains("--as"), "{refused}");
    succeeds("import", &root, &["--as", "other/name", unnamed.to_str().unwrap()]);
    pull(&running.anonymous(), "other/name", "2", &first).await;
    let own = command("import", &root, &[root.to_str().unwrap()]);
    assert!(own.code == Some(1) && own.stderr.contains("coracle backup"), "{own:?}");
    let missing = command("import", &root, &["/nonexistent"]);
    assert!(missing.code == Some(2) && missing.stderr.contains("No such file"), "{missing:?}");
    let none = tempfile::tempdir().unwrap();
    let none = command("import", &root, &[none.path().to_str().unwrap()]);
    assert!(none.code == Some(1) && none.stderr.contains("neither"), "{none:?}");
}

#[tokio::test]
async fn an_import_relies_on_no_other_file_and_verifies_what_is_here_already() {
    let place = tempfile::tempdir().unwrap();
    let (root, old, aside) = (place.path().join("data"), place.path().join("old"), place.path().join("aside"));
    let image = image(b"{}", &[b"one"]);
    layout(&old, &[(Some("1"), &image, &[b"{}", b"one"])]);
    std::fs::rename(old.join("blobs/sha256"), &aside).unwrap();
    std::fs::create_dir(old.join("blobs/sha256")).unwrap();
    for entry in std::fs::read_dir(&aside).unwrap() {
        let entry = entry.unwrap();
        std::os::unix::fs::symlink(entry.path(), old.join("blobs/sha256").join(entry.file_name())).unwrap();
    }
    create(&root);
    // An earlier attempt has left a file with other bytes.
    std::fs::write(root.join("blobs/sha256").join(&sha256(b"one")[7..]), b"two").unwrap();
    succeeds("import", &root, &["--as", "team/app", old.to_str().unwrap()]);
    std::fs::remove_dir_all(&aside).unwrap();
    let running = serve(&root);
    pull(&running.anonymous(), "team/app", "1", &image).await;
}

#[tokio::test]
async fn a_tag_that_a_source_names_twice_is_set_once() {
    let place = tempfile::tempdir().unwrap();
    let (root, old) = (place.path().join("data"), place.path().join("old"));
    let layers: Vec<Vec<u8>> = (0..12).map(|number| format!("layer {number}").into_bytes()).collect();
    let images: Vec<Value> = layers.iter().map(|layer| image(b"{}", &[layer])).collect();
    let blobs: Vec<[&[u8]; 2]> = layers.iter().map(|layer| [&b"{}"[..], layer]).collect();
    let tagged: Vec<Tagged<'_>> =
        images.iter().zip(&blobs).map(|(image, blobs)| (Some("1"), image, &blobs[..])).collect();
    layout(&old, &tagged);
    create(&root);
    let found = is_partial(&root, &["--as", "team/app", old.to_str().unwrap()]);
    assert_eq!((&found["tags"], &found["kept"]), (&json!(1), &json!(11)), "{found}");
}

/// Clients choose how long a chain of referrers is.
#[tokio::test]
async fn a_long_chain_of_referrers_is_exported() {
    const LENGTH: usize = 600;
    let place = tempfile::tempdir().unwrap();
    let (root, old) = (place.path().join("data"), place.path().join("old"));
    let mut images = vec![image(b"{}", &[b"one"])];
    for _ in 1..LENGTH {
        let mut referrer = image(b"{}", &[b"one"]);
        let subject = images.last().unwrap();
        referrer["subject"] =
            crate::support::content::descriptor(subject["mediaType"].as_str().unwrap(), &bytes(subject));
        images.push(referrer);
    }
    let blobs: [&[u8]; 2] = [b"{}", b"one"];
    let tagged: Vec<Tagged<'_>> =
        images.iter().enumerate().map(|(at, image)| ((at == 0).then_some("1"), image, &blobs[..])).collect();
    layout(&old, &tagged);
    create(&root);
    succeeds("import", &root, &["--as", "team/app", old.to_str().unwrap()]);
    let output = place.path().join("out.tar");
    let exported = succeeds("export", &root, &["-o", output.to_str().unwrap(), "team/app:1"]);
    assert_eq!(exported["manifests"], json!(LENGTH), "{exported}");
}
