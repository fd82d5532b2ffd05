//! A store of docker's registry with many images, many shared layers and some damage, imported in place.
//! `CORACLE_FULL=1` makes it 400 images.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use super::written::Distribution;
use super::{create, docker_registry, serve};
use crate::clients::home::needs;
use crate::support::content::{MANIFEST, bytes, image, noise, sha256};
use crate::support::http::Caller;
use crate::support::is_long_form;

/// The layers that images share, and their size.
const SHARED: u64 = 20;
const SHARED_BYTES: usize = 256 * 1024;

/// The damage of an image, by its number.
fn damage(number: usize) -> Option<&'static str> {
    match number % 50 {
        7 => Some("lost layer"),
        17 => Some("empty manifest"),
        27 => Some("empty link"),
        37 => Some("altered layer"),
        _ => None,
    }
}

/// The bytes that the blobs of a data directory add to the disk: those of files that are not links.
fn added(root: &Path) -> u64 {
    let files = std::fs::read_dir(root.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
    files.filter(|file| file.nlink() == 1).map(|file| file.blocks() * 512).sum()
}

/// A manifest of another registry, whose responses are not examined.
fn theirs(address: &str, repository: &str, tag: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    let request =
        format!("GET /v2/{repository}/manifests/{tag} HTTP/1.0\r\nHost: {address}\r\nAccept: {MANIFEST}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let end = response.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    response.split_off(end + 4)
}

async fn manifest(caller: &Caller, repository: &str, reference: &str) -> Vec<u8> {
    caller.get(&format!("/v2/{repository}/manifests/{reference}")).send().await.status(200).body.to_vec()
}

#[tokio::test]
async fn many_images_are_imported_in_place_with_every_digest_and_their_damage_is_listed() {
    let count = if is_long_form() { 400 } else { 100 };
    let place = tempfile::tempdir().unwrap();
    let (root, old) = (place.path().join("data"), place.path().join("old"));
    let store = Distribution::new(&old);
    let shared: Vec<_> = (0..SHARED).map(|seed| noise(SHARED_BYTES, seed)).collect();
    for layer in &shared {
        store.blob(layer);
    }
    let (mut whole, mut bad) = (BTreeMap::new(), Vec::new());
    for number in 0..count {
        let (repository, tag) = (format!("team{}/app{}", number % 7, number % 40), format!("v{number}"));
        let (own, config) = (noise(4096, 1000 + number as u64), format!("{{\"number\":{number}}}"));
        store.blob(&own);
        store.blob(config.as_bytes());
        let layers: Vec<&[u8]> =
            (0..3).map(|at| &shared[(number * 3 + at) % shared.len()][..]).chain([&own[..]]).collect();
        let image = image(config.as_bytes(), &layers);
        let digest = store.manifest(&repository, &image);
        store.tag(&repository, &tag, &digest);
        let own = store.data(&sha256(&own));
        match damage(number) {
            None => drop(whole.insert((repository, tag), image)),
            Some(kind) => {
                match kind {
                    "lost layer" => std::fs::remove_file(own).unwrap(),
                    "altered layer" => std::fs::write(own, b"other bytes").unwrap(),
                    "empty manifest" => std::fs::write(store.data(&digest), b"").unwrap(),
                    _ => store.tag(&repository, &tag, ""),
                }
                bad.push(format!("{repository}:{tag}"));
            }
        }
    }
    create(&root);
    let began = Instant::now();
    // Without the time limit of other tests.
    let mut import = Command::new(env!("CARGO_BIN_EXE_coracle"));
    let done = import.args(["import", "--json", "--root"]).arg(&root).arg(&old).output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let imported: Value = serde_json::from_slice(&done.stdout).unwrap();
    let took = began.elapsed();
    let named: Vec<&str> =
        imported["problems"].as_array().unwrap().iter().map(|problem| problem["what"].as_str().unwrap()).collect();
    for bad in &bad {
        assert!(named.contains(&bad.as_str()), "{bad}: {named:?}");
    }
    assert_eq!(imported["tags"], json!(whole.len()), "{imported}");
    assert_eq!(imported["linked_bytes"], imported["bytes"], "no blob was copied: {imported}");
    let added = added(&root);
    println!(
        "{count} images, {} damaged: {} tags, {} blobs, {} bytes, {added} bytes added, {took:?}",
        bad.len(),
        imported["tags"],
        imported["blobs"],
        imported["bytes"],
    );
    assert_eq!(added, 0, "on one file system");

    let running = serve(&root);
    let caller = running.anonymous();
    for ((repository, tag), image) in &whole {
        assert_eq!(manifest(&caller, repository, tag).await, bytes(image), "{repository}:{tag}");
        let digest = sha256(&bytes(image));
        assert_eq!(manifest(&caller, repository, &digest).await, bytes(image), "{repository}@{digest}");
    }
    // The old registry says the same about every tag.
    needs!(DOCKER_REGISTRY);
    let (_registry, address) = docker_registry(place.path(), "old");
    for (repository, tag) in whole.keys() {
        assert_eq!(manifest(&caller, repository, tag).await, theirs(&address, repository, tag), "{repository}:{tag}");
    }
}
