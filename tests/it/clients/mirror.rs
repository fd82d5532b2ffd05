//! Real clients pull through a mirror, each with the configuration that docs/mirror.md shows. Another registry has the
//! content of Docker Hub.

use std::fs;

use serde_json::json;

use super::content;
use super::ctr::Containerd;
use super::curl::Curl;
use super::docker::{Engine, needs_engine};
use super::home::{Home, needs};
use super::image::{Image, compare, digest};
use super::skopeo::Skopeo;
use super::storage::Storage;
use super::target::{Target, guarded, guarded_as, open, open_with};

/// Docker Hub with `library/busybox`, and a mirror of it whose configuration has five lines.
fn hub(image: &Image) -> (Target, Target) {
    let upstream = open();
    let home = Home::beside(&upstream);
    Skopeo::signed_in(&home, &upstream).push(image, &format!("library/busybox:{}", image.tag));
    let config = format!(
        "[extensions.sync]\nbareNames = 'docker.io'\n[[extensions.sync.registries]]\nhost = 'docker.io'\n\
         urls = ['{}']\nonDemand = true\n",
        upstream.url("")
    );
    (upstream, open_with(&config))
}

/// A home whose podman, skopeo and buildah ask the mirror for images of Docker Hub.
fn with_mirror(mirror: &Target) -> Home {
    let home = Home::alone();
    let config = format!(
        "unqualified-search-registries = []\n[[registry]]\nprefix = \"docker.io\"\nlocation = \"docker.io\"\n\
         [[registry.mirror]]\nlocation = \"{}/docker.io\"\ninsecure = true\n",
        mirror.host_port
    );
    home.write(".config/containers/registries.conf", config);
    home
}

#[test]
fn skopeo_podman_and_buildah_pull_names_of_docker_hub() {
    needs!(SKOPEO, PODMAN, BUILDAH, UMOCI, BUSYBOX);
    let image = content::busybox();
    let (_hub, mirror) = hub(&image);
    let home = with_mirror(&mirror);
    let name = format!("docker.io/library/busybox:{}", image.tag);
    let raw = home.run("skopeo", &["inspect", "--raw", &format!("docker://{name}")]).stdout;
    assert_eq!(digest(&raw), image.root.digest);
    let layout = home.fresh("layout");
    let place = format!("oci:{}:pulled", layout.display());
    home.run("skopeo", &["copy", "--quiet", "--all", "--preserve-digests", &format!("docker://{name}"), &place]);
    let pulled = Image::in_layout(&layout, "pulled");
    compare(&image, |part| pulled.store.get(part)).at_least(1, 2, 100_000);
    for client in ["podman", "buildah"] {
        let home = with_mirror(&mirror);
        let storage = Storage::signed_in(client, &home, &mirror);
        let identity = storage.say(&["pull", "--quiet", &name]);
        storage.has(identity.trim(), &image);
    }
}

#[test]
fn containerd_names_the_registry_that_it_means() {
    needs!(CTR, CONTAINERD, SKOPEO, UMOCI, BUSYBOX);
    let image = content::busybox();
    let (_hub, mirror) = hub(&image);
    let home = Home::alone();
    let hosts = home.path("certs.d");
    fs::create_dir_all(hosts.join("_default")).unwrap();
    let text = format!("[host.\"{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n", mirror.url(""));
    fs::write(hosts.join("_default/hosts.toml"), text).unwrap();
    let containerd = Containerd::start(&home, &mirror);
    let name = format!("docker.io/library/busybox:{}", image.tag);
    containerd.say(&["content", "fetch", "--hosts-dir", hosts.to_str().unwrap(), &name]);
    let stored = containerd.store();
    compare(&image, |part| stored.get(part)).at_least(1, 2, 100_000);
}

#[test]
fn docker_pulls_names_of_docker_hub() {
    needs_engine!();
    let image = content::busybox();
    let (_hub, mirror) = hub(&image);
    let home = Home::beside(&mirror);
    let docker = Engine::start_with(&home, &mirror, &json!({ "registry-mirrors": [mirror.url("")] }));
    let name = format!("busybox:{}", image.tag);
    docker.say(&["pull", "--quiet", &name]);
    docker.has_as(&name, &image);
    assert_eq!(Curl::of(&home, &mirror).tags("docker.io/library/busybox"), [&*image.tag], "its name here");
}

#[test]
fn skopeo_and_containerd_pull_with_their_credentials_for_the_upstream() {
    needs!(SKOPEO, CTR, CONTAINERD, CURL, UMOCI, BUSYBOX);
    let image = content::busybox();
    let upstream = guarded();
    let home = Home::beside(&upstream);
    Skopeo::signed_in(&home, &upstream).push(&image, &format!("private/box:{}", image.tag));
    let (user, password) = upstream.credentials.clone().unwrap();
    let mirror = guarded_as(&format!(
        "[[extensions.sync.registries]]\nhost = 'hub.example'\nurls = ['{}']\nonDemand = true\n\
         credentials = 'client'\n",
        upstream.url("")
    ));
    let home = Home::beside(&mirror);
    let name = mirror.image(&format!("hub.example/private/box:{}", image.tag));
    let source = format!("docker://{name}");
    let creds = format!("{user}:{password}");
    for wrong in [&["--no-creds"][..], &["--creds", "mallory:wrong"]] {
        home.fails("skopeo", &[&["inspect", "--raw"], wrong, &[&source]].concat());
    }
    let raw = home.run("skopeo", &["inspect", "--raw", "--creds", &creds, &source]).stdout;
    assert_eq!(digest(&raw), image.root.digest);
    let place = format!("oci:{}:pulled", home.fresh("layout").display());
    home.run("skopeo", &["copy", "--quiet", "--src-creds", &creds, &source, &place]);

    let containerd = Containerd::start(&home, &mirror);
    containerd.fails(&["content", "fetch"], Some("mallory:wrong"), &[&name]);
    containerd.say(&["content", "fetch", "--plain-http", "--user", &creds, &name]);
    let stored = containerd.store();
    compare(&image, |part| stored.get(part)).at_least(1, 2, 100_000);
}
