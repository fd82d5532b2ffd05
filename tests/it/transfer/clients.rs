//! Archives and layouts of other tools, and other tools with ours.

use std::path::Path;

use serde_json::Value;

use super::{create, docker_registry, serve, succeeds};
use crate::clients::home::{Home, needs};
use crate::support::content::{bytes, image, noise, push_blob, put_manifest, sha256};
use crate::support::http::Caller;
use crate::support::process::Program;

/// Pushes an image whose layer is an archive with one file, and whose config names it.
async fn push_runnable(caller: &Caller, repository: &str, tag: &str) -> Value {
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o644);
    layer.append_data(&mut header, "file", &b"abc"[..]).unwrap();
    let layer = layer.into_inner().unwrap();
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [sha256(&layer)] },
        "config": {},
    });
    let config = bytes(&config);
    push_blob(caller, repository, &config).await;
    push_blob(caller, repository, &layer).await;
    let mut image = image(&config, &[&layer]);
    image["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into();
    put_manifest(caller, repository, tag, &image).await.status(201);
    image
}

#[tokio::test]
async fn skopeo_reads_an_export_and_an_import_reads_what_skopeo_writes() {
    needs!(SKOPEO);
    let place = tempfile::tempdir().unwrap();
    let (root, other, home) = (place.path().join("data"), place.path().join("other"), Home::alone());
    let running = serve(&root);
    let image = push_runnable(&running.anonymous(), "team/app", "1").await;
    let archive = place.path().join("app.tar");
    succeeds("export", &root, &["-o", archive.to_str().unwrap()]);
    let raw = home.run("skopeo", &["inspect", "--raw", &format!("oci-archive:{}:1", archive.display())]);
    assert_eq!(raw.stdout, bytes(&image));
    create(&other);
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let from = format!("oci-archive:{}:1", archive.display());
    let copy = |to: &str| drop(home.run("skopeo", &["copy", "--quiet", "--preserve-digests", &from, to]));
    copy(&format!("oci-archive:{}:localhost/copied/archive:1", path("copied.tar")));
    copy(&format!("oci:{}:copied/layout:1", path("layout")));
    home.run("skopeo", &["copy", "--quiet", &from, &format!("docker-archive:{}:copied/docker:1", path("docker.tar"))]);
    for source in ["copied.tar", "layout", "docker.tar"] {
        succeeds("import", &other, &[&path(source)]);
    }
    let running = serve(&other);
    for repository in ["copied/archive", "copied/layout"] {
        super::pull(&running.anonymous(), repository, "1", &image).await;
    }
    // The archive of docker has no manifest. Ours is the same each time, and its layer has the same content.
    let made = running.anonymous().get("/v2/copied/docker/manifests/1").send().await.status(200);
    let manifest = made.json();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let layer = running.anonymous().get(&format!("/v2/copied/docker/blobs/{layer}")).send().await.status(200).body;
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&layer[..]), &mut plain).unwrap();
    assert_eq!(sha256(&plain), image["layers"][0]["digest"]);
    let again = succeeds("import", &other, &[&path("docker.tar")]);
    assert_eq!((again["tags"].as_u64(), again["known_tags"].as_u64()), (Some(0), Some(1)), "{again}");
    // Compressed, as people do it.
    home.run("gzip", &[&path("docker.tar")]);
    let again = succeeds("import", &other, &[&path("docker.tar.gz")]);
    assert_eq!(again["known_tags"].as_u64(), Some(1), "{again}");
}

/// An archive as `crane pull` writes it: images with one layer each, which is in the archive as it is. Each has a tag, the
/// digest of its uncompressed layer, and the layer.
fn crane_archive(path: &Path, images: &[(&str, &str, &[u8])]) {
    let (mut archive, mut list) = (tar::Builder::new(std::fs::File::create(path).unwrap()), Vec::new());
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content).unwrap();
    };
    for (tag, diff, layer) in images {
        let rootfs = serde_json::json!({ "type": "layers", "diff_ids": [diff] });
        let config = serde_json::json!({ "architecture": "amd64", "os": "linux", "rootfs": rootfs });
        add(&format!("sha256:{tag}"), &bytes(&config));
        add(&format!("{tag}.tar.gz"), layer);
        list.push(serde_json::json!({
            "Config": format!("sha256:{tag}"),
            "RepoTags": [format!("team/crane:{tag}")],
            "Layers": [format!("{tag}.tar.gz")],
        }));
    }
    add("manifest.json", &bytes(&list.into()));
    archive.finish().unwrap();
}

#[tokio::test]
async fn compressed_layers_of_an_archive_stay_as_they_are_if_they_are_whole() {
    let place = tempfile::tempdir().unwrap();
    let (root, archive) = (place.path().join("data"), place.path().join("image.tar"));
    create(&root);
    let plain = noise(2000, 1);
    let compress = |content: &[u8]| {
        let mut layer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut layer, content).unwrap();
        layer.finish().unwrap()
    };
    let layer = compress(&plain);
    let [diff, other] = [sha256(&plain), sha256(b"other")];
    let (twice, trailing) = (compress(&layer), [&layer[..], b"and more"].concat());
    let mut checksum = layer.clone();
    *checksum.iter_mut().rev().nth(5).unwrap() ^= 1;
    let images: [(&str, &str, &[u8]); 8] = [
        ("short", &diff, &layer[..layer.len() - 1]),
        ("half", &diff, &layer[..layer.len() / 2]),
        ("checksum", &diff, &checksum),
        ("trailing", &diff, &trailing),
        ("twice", &diff, &twice),
        ("other", &other, &layer),
        ("zstd", &diff, b"\x28\xb5\x2f\xfd and more"),
        ("good", &diff, &layer),
    ];
    crane_archive(&archive, &images);
    let done = Program::new(["import", "--root"]).arg(&root).arg(&archive).run();
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stdout.contains("imported: 1 tag") && done.stdout.contains("skipped: 7 items"), "{done:?}");
    for (tag, why) in [("half", "is damaged"), ("other", "and the config names"), ("zstd", "is compressed with zstd")] {
        let line = done.stdout.lines().find(|line| line.contains(&format!("team/crane:{tag}: ")));
        assert!(line.is_some_and(|line| line.contains(why)), "{done:?}");
    }
    let running = serve(&root);
    let manifest = running.anonymous().get("/v2/team/crane/manifests/good").send().await.status(200).json();
    assert_eq!(manifest["layers"][0]["digest"], sha256(&layer));
    let tags = running.anonymous().get("/v2/team/crane/tags/list").send().await.status(200).json();
    assert_eq!(tags["tags"], serde_json::json!(["good"]));
}

#[tokio::test]
async fn podman_loads_an_export_and_an_import_reads_what_podman_saves() {
    needs!(PODMAN);
    let place = tempfile::tempdir().unwrap();
    let (root, other, home) = (place.path().join("data"), place.path().join("other"), Home::alone());
    let running = serve(&root);
    push_runnable(&running.anonymous(), "team/app", "1").await;
    let archive = place.path().join("app.tar");
    succeeds("export", &root, &["-o", archive.to_str().unwrap(), "team/app"]);
    let loaded = home.run("podman", &["load", "--quiet", "--input", archive.to_str().unwrap()]);
    let name = loaded.text().trim().rsplit(' ').next().unwrap().to_owned();
    home.run("podman", &["tag", &name, "localhost/saved/app:2"]);
    create(&other);
    for format in ["oci-archive", "docker-archive"] {
        let saved = place.path().join(format!("{format}.tar"));
        let saved = saved.to_str().unwrap();
        home.run("podman", &["save", "--quiet", "--format", format, "--output", saved, "localhost/saved/app:2"]);
        succeeds("import", &other, &["--overwrite", saved]);
        let running = serve(&other);
        running.anonymous().get("/v2/saved/app/manifests/2").send().await.status(200);
    }
}

#[tokio::test]
async fn a_store_of_docker_registry_is_imported() {
    needs!(SKOPEO, DOCKER_REGISTRY);
    let place = tempfile::tempdir().unwrap();
    let (root, source, old) = (place.path().join("data"), place.path().join("source"), place.path().join("old"));
    let home = Home::alone();
    let running = serve(&source);
    let image = push_runnable(&running.anonymous(), "team/app", "1").await;
    push_blob(&running.anonymous(), "team/app", &noise(100, 1)).await;
    let (registry, address) = docker_registry(place.path(), "old");
    let from = format!("docker://{}/team/app:1", running.address());
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    for repository in ["old/app", "old/deep/app"] {
        let to = format!("docker://{address}/{repository}:1");
        home.run("skopeo", &[&["copy", "--quiet", "--preserve-digests"][..], &insecure, &[&from, &to]].concat());
    }
    registry.kill();
    create(&root);
    let found = succeeds("import", &root, &[old.to_str().unwrap()]);
    assert_eq!(found["tags"].as_u64(), Some(2), "{found}");
    let running = serve(&root);
    for repository in ["old/app", "old/deep/app"] {
        super::pull(&running.anonymous(), repository, "1", &image).await;
    }
}
