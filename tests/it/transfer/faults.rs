//! Sources that are damaged or hostile, and imports that are interrupted.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::written::{Distribution, layout};
use super::{command, create, is_partial, pull, serve, succeeds};
use crate::support::content::{bytes, image, noise, push_blob, put_manifest, sha256};
use crate::support::process::{Program, Running};

/// The digest of 1 GiB of zeros.
const ZEROS: &str = "sha256:49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14";
const ZEROS_BYTES: u64 = 1 << 30;

/// The items that an import skipped.
fn skipped(found: &Value) -> Vec<String> {
    let problems = found["problems"].as_array().unwrap();
    problems.iter().map(|problem| problem["what"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn is_skipped(found: &Value, item: &str) {
    assert!(skipped(found).iter().any(|skipped| skipped.ends_with(item)), "{item}: {found}");
}

/// An open registry with the image `team/app:1`.
async fn serve_image(root: &Path) -> Running {
    let running = serve(root);
    push_blob(&running.anonymous(), "team/app", b"{}").await;
    put_manifest(&running.anonymous(), "team/app", "1", &image(b"{}", &[])).await.status(201);
    running
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[tokio::test]
async fn an_unreadable_directory_leaves_the_rest_of_a_store() {
    let place = tempfile::tempdir().unwrap();
    let (root, old) = (place.path().join("data"), place.path().join("old"));
    let store = Distribution::new(&old);
    let good = store.image("team/app", "1", b"good");
    for bad in ["a/tags", "z/revisions"] {
        store.image(bad, "1", b"bad");
        let directory = store.0.join("repositories").join(bad).join("_manifests").join(&bad[2..]);
        std::fs::rename(&directory, place.path().join(&bad[2..])).unwrap();
        std::fs::write(&directory, b"a file where a directory belongs").unwrap();
    }
    std::os::unix::fs::symlink("/", store.0.join("repositories/elsewhere")).unwrap();
    pipe(&store.0.join("repositories/team/app/_manifests/tags/pipe"));
    std::fs::create_dir_all(store.0.join("repositories/team/app/_manifests/tags/2/current")).unwrap();
    pipe(&store.0.join("repositories/team/app/_manifests/tags/2/current/link"));
    store.image("Upper/Case", "1", b"good");
    create(&root);
    let found = is_partial(&root, &[old.to_str().unwrap()]);
    for item in ["a/tags/_manifests/tags", "z/revisions/_manifests/revisions", "repositories/elsewhere", "Upper/Case:1"]
    {
        is_skipped(&found, item);
    }
    let running = serve(&root);
    pull(&running.anonymous(), "team/app", "1", &good).await;
    running.anonymous().get("/v2/z/revisions/manifests/1").send().await.status(200);
    // A running registry reads the source by another path, which it does not print.
    let found = is_partial(&root, &[old.to_str().unwrap()]);
    let listed = skipped(&found);
    assert!(listed.iter().any(|item| item.starts_with(old.to_str().unwrap())), "{listed:?}");
    assert!(!found.to_string().contains("/proc/"), "{found}");
}

#[tokio::test]
async fn a_pipe_or_a_directory_in_place_of_a_file_is_listed_as_that() {
    let place = tempfile::tempdir().unwrap();
    let (root, old) = (place.path().join("data"), place.path().join("old"));
    let store = Distribution::new(&old);
    let good = store.image("team/app", "1", b"good");
    let tag = |tag: &str| store.0.join("repositories/team/app/_manifests/tags").join(tag).join("current");
    for name in ["pipe", "directory", "dangling", "deleted"] {
        std::fs::create_dir_all(tag(name)).unwrap();
    }
    pipe(&tag("pipe").join("link"));
    std::fs::create_dir(tag("directory").join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", tag("dangling").join("link")).unwrap();
    for (repository, is_manifest) in [("bad/manifest", true), ("bad/layer", false)] {
        let image = store.image(repository, "1", repository.as_bytes());
        let layer = image["layers"][0]["digest"].as_str().unwrap().to_owned();
        let data = store.data(&if is_manifest { sha256(&bytes(&image)) } else { layer });
        std::fs::remove_file(&data).unwrap();
        pipe(&data);
    }
    std::fs::create_dir_all(store.0.join("repositories/bad/repository")).unwrap();
    pipe(&store.0.join("repositories/bad/repository/_manifests"));
    // An image whose bytes are a directory, in a store of zot.
    let zot = place.path().join("zot");
    layout(&zot.join("app"), &[(Some("1"), &good, &[])]);
    let manifest = zot.join("app/blobs/sha256").join(&sha256(&bytes(&good))[7..]);
    std::fs::remove_file(&manifest).unwrap();
    std::fs::create_dir(&manifest).unwrap();

    create(&root);
    let found = is_partial(&root, &[old.to_str().unwrap()]);
    let listed = found["problems"].as_array().unwrap();
    for (item, why) in [
        ("team/app:pipe", "its link is a pipe, not a file"),
        ("team/app:directory", "its link is a directory, not a file"),
        ("team/app:dangling", "its link is a symbolic link that leads nowhere, not a file"),
        ("bad/manifest:1", "cannot be read: it is a pipe, not a file"),
        ("bad/layer:1", "cannot be read: it is a pipe, not a file"),
        ("bad/repository/_manifests", "it is not a directory"),
    ] {
        let text = |problem: &Value, key: &str| problem[key].as_str().unwrap().to_owned();
        let is_it = |problem: &Value| text(problem, "what").ends_with(item) && text(problem, "why").ends_with(why);
        assert!(listed.iter().any(is_it), "{item}: {found}");
    }
    assert_eq!(found["skipped"], json!(6), "{found}");
    let running = serve(&root);
    pull(&running.anonymous(), "team/app", "1", &good).await;
    running.stop();
    let found = is_partial(&root, &[zot.to_str().unwrap()]);
    assert!(found["problems"][0]["why"].as_str().unwrap().ends_with("it is a directory, not a file"), "{found}");
}

#[tokio::test]
async fn a_bad_entry_leaves_the_rest_of_a_layout_and_a_lost_tag_is_listed() {
    let place = tempfile::tempdir().unwrap();
    let (root, old) = (place.path().join("data"), place.path().join("old"));
    let good = image(b"{}", &[b"one"]);
    let other = image(b"{}", &[b"two"]);
    let blobs: [&[u8]; 3] = [b"{}", b"one", b"two"];
    layout(&old.join("a"), &[(Some("1"), &good, &blobs), (Some("not a tag"), &other, &blobs)]);
    let index = old.join("a/index.json");
    let mut changed: Value = serde_json::from_slice(&std::fs::read(&index).unwrap()).unwrap();
    changed["manifests"].as_array_mut().unwrap().splice(0..0, [json!(null), json!({ "digest": "sha256:1" })]);
    std::fs::write(&index, changed.to_string()).unwrap();
    layout(&old.join("b"), &[(Some("1"), &good, &blobs)]);
    std::fs::remove_file(old.join("b/index.json")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", old.join("b/index.json")).unwrap();
    layout(&old.join("c"), &[(Some("1"), &good, &blobs)]);
    create(&root);
    let found = is_partial(&root, &[old.to_str().unwrap()]);
    assert_eq!((&found["tags"], &found["manifests"]), (&json!(2), &json!(3)), "{found}");
    assert_eq!(found["skipped"], json!(4), "two entries, a tag and a layout: {found}");
    assert!(found.to_string().contains("not a tag"), "{found}");
    let running = serve(&root);
    pull(&running.anonymous(), "a", "1", &good).await;
    pull(&running.anonymous(), "a", &sha256(&serde_json::to_vec(&other).unwrap()), &other).await;
    pull(&running.anonymous(), "c", "1", &good).await;
}

#[test]
fn a_pipe_and_a_device_are_refused_and_not_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("data");
    create(&root);
    pipe(&place.path().join("pipe"));
    let _running = serve(&root);
    for source in [place.path().join("pipe").to_str().unwrap(), "/dev/zero"] {
        let done = command("import", &root, &[source]);
        assert!(done.code == Some(1) && done.stderr.contains("regular file"), "{done:?}");
    }
}

#[test]
fn decompression_leaves_the_minimum_free() {
    let place = tempfile::tempdir().unwrap();
    let (root, archive) = (place.path().join("data"), place.path().join("zeros.tar.gz"));
    create(&root);
    let mut file = flate2::write::GzEncoder::new(std::fs::File::create(&archive).unwrap(), flate2::Compression::fast());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 1 << 26), &mut file).unwrap();
    file.finish().unwrap();
    let config = place.path().join("coracle.toml");
    std::fs::write(&config, "storage.minFreeSpace = \"1000TiB\"\n").unwrap();
    let done = command("import", &root, &["--config", config.to_str().unwrap(), archive.to_str().unwrap()]);
    assert!(done.code == Some(1) && done.stderr.contains("minFreeSpace"), "{done:?}");
}

#[tokio::test]
async fn a_full_disk_ends_an_import_with_one_reason() {
    let place = tempfile::tempdir().unwrap();
    let (root, old) = (place.path().join("data"), place.path().join("old"));
    let store = Distribution::new(&old);
    for number in 0..200 {
        store.image("team/app", &number.to_string(), format!("layer {number}").as_bytes());
    }
    create(&root);
    let config = place.path().join("coracle.toml");
    std::fs::write(&config, "storage.minFreeSpace = \"1000TiB\"\n").unwrap();
    let found = is_partial(&root, &["--config", config.to_str().unwrap(), old.to_str().unwrap()]);
    assert!(found["stopped"].as_str().unwrap().contains("minFreeSpace"), "{found}");
    assert_eq!((&found["skipped"], &found["tags"]), (&json!(0), &json!(0)), "{found}");
}

#[tokio::test]
async fn an_export_stays_out_of_the_data_and_replaces_what_a_killed_one_left() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("data");
    let _running = serve_image(&root).await;
    for inside in ["out.tar", "blobs/out", "uploads/deep/out.tar"] {
        let done = command("export", &root, &["-o", root.join(inside).to_str().unwrap()]);
        assert!(done.code == Some(1) && done.stderr.contains("data directory"), "{inside}: {done:?}");
    }
    assert!(!root.join("uploads/deep").exists());
    let (archive, directory) = (place.path().join("out.tar"), place.path().join("out"));
    std::fs::write(place.path().join("out.tar.unfinished"), b"half").unwrap();
    std::fs::create_dir_all(place.path().join("out.unfinished/blobs/sha256")).unwrap();
    for output in [&archive, &directory] {
        succeeds("export", &root, &["-o", output.to_str().unwrap()]);
        assert!(!place.path().join(format!("{}.unfinished", output.display())).exists());
    }
    let other = place.path().join("other.unfinished");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("notes"), b"mine").unwrap();
    let done = command("export", &root, &["-o", place.path().join("other").to_str().unwrap()]);
    assert!(done.code == Some(1) && other.join("notes").exists(), "{done:?}");
    // One that another export writes.
    let busy = std::fs::File::create(place.path().join("busy.tar.unfinished")).unwrap();
    busy.lock().unwrap();
    let done = command("export", &root, &["-o", place.path().join("busy.tar").to_str().unwrap()]);
    assert!(done.code == Some(1) && done.stderr.contains("another export"), "{done:?}");
}

/// The registry has another working directory and may have fewer rights than the person who runs the command.
#[tokio::test]
async fn the_command_reads_the_files_of_an_earlier_export() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("data");
    let _running = serve_image(&root).await;
    let here = place.path().join("here");
    std::fs::create_dir(&here).unwrap();
    succeeds("export", &root, &["-o", here.join("base.tar").to_str().unwrap()]);
    std::fs::write(here.join("have.txt"), sha256(b"{}")).unwrap();
    for (name, option) in [("base.tar", "--since"), ("have.txt", "--have")] {
        let output = place.path().join(format!("{name}.delta.tar"));
        let done = Program::of("/bin/sh", ["-c", "cd \"$1\" && shift && exec \"$@\"", "sh"])
            .arg(&here)
            .arg(env!("CARGO_BIN_EXE_coracle"))
            .arg("export")
            .arg("--json")
            .arg("--root")
            .arg(&root)
            .arg("-o")
            .arg(&output)
            .arg(option)
            .arg(name)
            .run();
        let found: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
        assert_eq!((&found["omitted"], &found["blobs"]), (&json!(1), &json!(0)), "{option}");
    }
}

/// The files that an interrupted import leaves under temporary names.
fn temporary(root: &Path) -> usize {
    let names = std::fs::read_dir(root.join("uploads")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".part")).count()
}

#[tokio::test]
async fn a_killed_import_continues_and_ends_equal() {
    let place = tempfile::tempdir().unwrap();
    let (root, old) = (place.path().join("data"), place.path().join("old"));
    let store = Distribution::new(&old);
    let shared = noise(1 << 20, 7);
    let images: Vec<Value> = (0..40)
        .map(|number| {
            let own = noise(1 << 20, 100 + number);
            store.blob(&own);
            store.blob(&shared);
            let config = format!("{{\"number\":{number}}}");
            store.blob(config.as_bytes());
            let image = image(config.as_bytes(), &[&shared, &own]);
            let digest = store.manifest("team/app", &image);
            store.tag("team/app", &number.to_string(), &digest);
            image
        })
        .collect();
    create(&root);
    let blobs = || std::fs::read_dir(root.join("blobs/sha256")).unwrap().count();
    for enough in [3, 20] {
        let import = Program::new(["import", "--copy", "--root"]).arg(&root).arg(&old).spawn();
        let deadline = Instant::now() + Duration::from_secs(30);
        while blobs() < enough {
            assert!(Instant::now() < deadline, "the import stores nothing");
            std::thread::sleep(Duration::from_millis(1));
        }
        import.kill();
    }
    let before = blobs();
    assert!(before < 81, "it was killed in the middle: {before}");
    let found = succeeds("import", &root, &["--copy", old.to_str().unwrap()]);
    assert!(found["blobs"].as_u64() < Some(81) && found["blobs"].as_u64() > Some(0), "it continues: {found}");
    assert_eq!(blobs(), 81, "a shared layer, and a layer and a config of each image");
    assert_eq!(temporary(&root), 0);
    let running = serve(&root);
    for (number, image) in images.iter().enumerate() {
        pull(&running.anonymous(), "team/app", &number.to_string(), image).await;
    }
    running.stop();
    succeeds("scrub", &root, &[]);
    let again = succeeds("import", &root, &[old.to_str().unwrap()]);
    assert_eq!((&again["blobs"], &again["manifests"], &again["tags"]), (&json!(0), &json!(0), &json!(0)), "{again}");
}

#[tokio::test]
async fn clients_push_the_same_blobs_while_an_import_reads_them() {
    let place = tempfile::tempdir().unwrap();
    let (root, old) = (place.path().join("data"), place.path().join("old"));
    let store = Distribution::new(&old);
    let small = b"a layer that a client pushes meanwhile";
    store.blob(small);
    store.blob(b"{}");
    let zeros = store.data(ZEROS);
    std::fs::create_dir_all(zeros.parent().unwrap()).unwrap();
    std::fs::File::create(&zeros).unwrap().set_len(ZEROS_BYTES).unwrap();
    let mut image = image(b"{}", &[small, b""]);
    image["layers"][1]["digest"] = json!(ZEROS);
    image["layers"][1]["size"] = json!(ZEROS_BYTES);
    let digest = store.manifest("team/app", &image);
    store.tag("team/app", "1", &digest);

    let running = serve(&root);
    let import = Program::new(["import", "--json", "--root"]).arg(&root).arg(&old).spawn();
    let read = || {
        let found = succeeds("import", &root, &["--status"]);
        found["running"][0]["read_bytes"].as_u64()
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while read().is_none_or(|read| read < 1 << 20) {
        assert!(Instant::now() < deadline, "the import is not shown");
    }
    push_blob(&running.anonymous(), "team/app", small).await;
    push_blob(&running.anonymous(), "other/app", b"{}").await;
    let meanwhile = read();
    assert!(meanwhile.is_some_and(|read| read < ZEROS_BYTES), "the import ended before the pushes: {meanwhile:?}");
    let done = import.finish();
    assert_eq!(done.code, Some(0), "{done:?}");
    let found: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&found["blobs"], &found["tags"]), (&json!(1), &json!(1)), "the client pushed the others: {found}");
    let head = running.anonymous().head(&format!("/v2/team/app/blobs/{ZEROS}")).send().await.status(200);
    assert_eq!(head.header("content-length"), Some(ZEROS_BYTES.to_string().as_str()));
}

/// util-linux's `script` runs a command on a terminal.
#[test]
fn a_terminal_shows_how_far_an_import_is() {
    let place = tempfile::tempdir().unwrap();
    let (root, old) = (place.path().join("data"), place.path().join("old"));
    let store = Distribution::new(&old);
    store.blob(b"{}");
    let zeros = store.data(ZEROS);
    std::fs::create_dir_all(zeros.parent().unwrap()).unwrap();
    std::fs::File::create(&zeros).unwrap().set_len(ZEROS_BYTES).unwrap();
    let mut image = image(b"{}", &[b""]);
    image["layers"][0]["digest"] = json!(ZEROS);
    image["layers"][0]["size"] = json!(ZEROS_BYTES);
    let digest = store.manifest("team/app", &image);
    store.tag("team/app", "1", &digest);
    create(&root);
    let import = format!("{} import --root {} {}", env!("CARGO_BIN_EXE_coracle"), root.display(), old.display());
    let Ok(shown) = Command::new("script").args(["-qec", &import, "/dev/null"]).output() else { return };
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success() && text.contains("iB read") && text.contains("imported: 1 tag"), "{text}");
}

#[test]
fn the_audit_says_from_where_content_was_imported() {
    let place = tempfile::tempdir().unwrap();
    let (root, old) = (place.path().join("data"), place.path().join("old"));
    layout(&old, &[(Some("1"), &image(b"{}", &[]), &[b"{}"])]);
    create(&root);
    let (config, audit) = (place.path().join("coracle.toml"), place.path().join("audit.log"));
    std::fs::write(&config, format!("log.audit = {:?}\n", audit.to_str().unwrap())).unwrap();
    let config = config.to_str().unwrap();
    succeeds("import", &root, &["--config", config, "--as", "team/app", old.to_str().unwrap()]);
    let text = std::fs::read_to_string(&audit).unwrap();
    let line = text.lines().find(|line| line.contains("import")).unwrap();
    let row: Value = serde_json::from_str(line).unwrap();
    assert!(row["metadata"]["source"] == old.to_str().unwrap() && row["account"] != old.to_str().unwrap(), "{row}");
}
