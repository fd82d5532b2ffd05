//! Content in and out as files: `coracle import`, `coracle export` and `coracle inventory`.

mod clients;
mod distribution;
mod export;
mod faults;
mod large;
mod registry;
mod stores;
mod takeover;
mod written;
mod zot;

use std::path::Path;

use serde_json::Value;

use crate::support::content::{bytes, sha256};
use crate::support::http::Caller;
use crate::support::process::{Finished, Program, Running};

/// Runs a command on a data directory, which prints JSON.
fn command(name: &str, root: &Path, arguments: &[&str]) -> Finished {
    let program = Program::new([name, "--json", "--root"]).arg(root);
    arguments.iter().fold(program, Program::arg).run()
}

/// Runs a command that must succeed, and returns its result.
#[track_caller]
fn succeeds(name: &str, root: &Path, arguments: &[&str]) -> Value {
    let done = command(name, root, arguments);
    assert_eq!(done.code, Some(0), "{done:?}");
    serde_json::from_str(&done.stdout).unwrap()
}

/// Runs an import that must skip something, and returns its result.
#[track_caller]
fn is_partial(root: &Path, arguments: &[&str]) -> Value {
    let done = command("import", root, arguments);
    assert_eq!(done.code, Some(1), "{done:?}");
    serde_json::from_str(&done.stdout).unwrap()
}

fn serve(root: &Path) -> Running {
    Program::serve(root).arg("--open").start()
}

/// Makes an empty registry.
fn create(root: &Path) {
    drop(serve(root).stop());
}

/// Makes a repository public. The caller is a superuser.
async fn publish(caller: &Caller, repository: &str) {
    let key = caller.post("/zot/auth/apikey").body("{}").send().await.status(201).json();
    let request =
        Caller::new(caller.address(), None).post(&format!("/api/v1/repository/{repository}/changevisibility"));
    let request = request.header("authorization", format!("Bearer {}", key["apiKey"].as_str().unwrap()));
    request.body(r#"{"visibility": "public"}"#).send().await.status(200);
}

/// Pulls an image with its blobs, and compares every byte.
async fn pull(caller: &Caller, repository: &str, reference: &str, image: &Value) {
    let manifest = caller.get(&format!("/v2/{repository}/manifests/{reference}")).send().await.status(200);
    assert_eq!(manifest.body, bytes(image), "{repository} {reference}");
    for descriptor in image["layers"].as_array().unwrap().iter().chain([&image["config"]]) {
        let digest = descriptor["digest"].as_str().unwrap();
        let blob = caller.get(&format!("/v2/{repository}/blobs/{digest}")).send().await.status(200);
        assert_eq!(sha256(&blob.body), digest, "a blob of {repository} {reference}");
    }
}

/// Debian's docker-registry on a store.
fn docker_registry(place: &Path, name: &str) -> (Running, String) {
    let config = place.join(format!("{name}.yml"));
    let store = place.join(name);
    let text = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
         http: {{addr: '127.0.0.1:0'}}\nlog: {{level: info}}\n",
        store.display()
    );
    std::fs::write(&config, text).unwrap();
    let registry = Program::of("docker-registry", ["serve"]).arg(config).spawn();
    let line = registry.wait_for("listening on ");
    let address = line.split("listening on ").nth(1).unwrap().split(['"', ' ', ',']).next().unwrap().to_owned();
    (registry, address)
}
