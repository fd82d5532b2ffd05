//! The programs in `examples/`, run as a user would run them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::support::content::{bytes, descriptor, image, index, noise};
use crate::support::http::Caller;

/// No example takes this long, however busy the machine is.
const WAIT: Duration = Duration::from_mins(1);

/// The program of an example, from the build directory of the tests.
fn example(name: &str) -> Command {
    let tests: PathBuf = std::env::current_exe().unwrap();
    let path = tests.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is not built: `cargo test` does, with --test it builds only this", path.display());
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

/// A registry that the example `preload` serves, from its own layout or a given one.
async fn preload(layout: Option<&Path>) -> (Child, Caller) {
    let mut child = example("preload").args(layout).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let url = timeout(WAIT, lines.next_line()).await.unwrap().unwrap().expect("it prints where it is");
    let address = url.strip_prefix("http://").unwrap().parse().unwrap();
    (child, Caller::new(address, None))
}

/// Presses ctrl-c.
async fn interrupt(mut child: Child) {
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert!(timeout(WAIT, child.wait()).await.unwrap().unwrap().success());
}

#[tokio::test]
async fn embed_pushes_and_pulls() {
    let mut child = example("embed").spawn().unwrap();
    let mut said = String::new();
    timeout(WAIT, child.stdout.take().unwrap().read_to_string(&mut said)).await.unwrap().unwrap();
    assert!(timeout(WAIT, child.wait()).await.unwrap().unwrap().success());
    assert!(said.starts_with("pushed and pulled 127.0.0.1:"), "{said}");
}

#[tokio::test]
async fn preload_has_a_sample() {
    let (child, caller) = preload(None).await;
    let tags = caller.get("/v2/preloaded/tags/list").send().await.status(200).json();
    assert_eq!(tags, json!({ "name": "preloaded", "tags": ["1"] }));
    let manifest = caller.get("/v2/preloaded/manifests/1").send().await.status(200).json();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let blob = caller.get(&format!("/v2/preloaded/blobs/{layer}")).send().await.status(200);
    assert_eq!(blob.text(), "Hello!");
    interrupt(child).await;
}

#[tokio::test]
async fn preload_serves_the_layout_it_is_given() {
    let (config, layer) = (b"{}".to_vec(), noise(100_000, 1));
    let manifest = image(&config, &[&layer]);
    let all = index(&[&manifest]);
    let mut entry = descriptor(all["mediaType"].as_str().unwrap(), &bytes(&all));
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "example.invalid/hello:2.0" });

    let layout = tempfile::tempdir().unwrap();
    let blobs = layout.path().join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    for content in [&config, &layer[..], &bytes(&manifest), &bytes(&all)] {
        let digest = crate::support::content::sha256(content);
        std::fs::write(blobs.join(digest.strip_prefix("sha256:").unwrap()), content).unwrap();
    }
    let root = json!({ "schemaVersion": 2, "manifests": [entry] });
    std::fs::write(layout.path().join("index.json"), bytes(&root)).unwrap();
    std::fs::write(layout.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();

    let (child, caller) = preload(Some(layout.path())).await;
    let served = caller.get("/v2/preloaded/manifests/2.0").send().await.status(200);
    assert_eq!(served.body, bytes(&all));
    let of_index = served.json()["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let served = caller.get(&format!("/v2/preloaded/manifests/{of_index}")).send().await.status(200);
    assert_eq!(served.body, bytes(&manifest));
    let of_layer = manifest["layers"][0]["digest"].as_str().unwrap();
    assert_eq!(caller.get(&format!("/v2/preloaded/blobs/{of_layer}")).send().await.status(200).body, layer);
    interrupt(child).await;
}
