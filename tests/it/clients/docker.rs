//! docker: the command line with an engine, which pushes and pulls. Each test has its own engine with its own images, state and
//! socket.
//!
//! An engine needs root. It verifies no certificate of a registry at a loopback address. docker lists no repositories and
//! deletes nothing in a registry, so curl does that.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::content;
use super::curl::Curl;
use super::daemon::Daemon;
use super::home::{Home, Output, needs, says_unauthorized, skipped};
use super::image::{DOCKER_MANIFEST, Image, compare};
use super::target::{Target, guarded, open, targets};

/// A running engine and the docker that talks to it.
pub(super) struct Engine<'a> {
    home: &'a Home,
    target: &'a Target,
    host: String,
    _daemon: Daemon,
}

/// Whether an engine can run here. Reports if not.
pub(super) fn may_run(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skipped(test, "dockerd needs root");
    }
    is_root
}

/// Ends a test if docker or its engine cannot run.
macro_rules! needs_engine {
    () => {{
        use super::home::{around, needs};
        fn here() {}
        needs!(DOCKER, DOCKERD, CONTAINERD, SKOPEO, CURL, UMOCI, BUSYBOX);
        let test = around(std::any::type_name_of_val(&here));
        if !$crate::clients::docker::may_run(test) {
            return;
        }
    }};
}
pub(super) use needs_engine;

impl<'a> Engine<'a> {
    pub(super) fn start(home: &'a Home, target: &'a Target) -> Self {
        Self::start_with(home, target, &json!({}))
    }

    /// Starts an engine with a configuration.
    pub(super) fn start_with(home: &'a Home, target: &'a Target, config: &Value) -> Self {
        let at = |name: &str| home.path(name).display().to_string();
        let host = format!("unix://{}", at("docker.sock"));
        // No networks, which only containers need, and nothing of the machine's own engine.
        let config = home.write("dockerd.json", config.to_string());
        let mut command = home.command("dockerd");
        command
            .args(["--config-file", config.to_str().unwrap(), "--host", &host, "--data-root", &at("engine")])
            .args(["--exec-root", &at("run/engine"), "--pidfile", &at("run/engine.pid"), "--storage-driver=vfs"])
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]);
        Self { home, target, host, _daemon: Daemon::start(&mut command, "API listen on") }
    }

    /// Starts an engine and signs in, if the registry needs it.
    pub(super) fn signed_in(home: &'a Home, target: &'a Target) -> Self {
        let engine = Self::start(home, target);
        if let Some((user, password)) = &target.credentials {
            let said = engine.sign_in(user, password).unwrap();
            assert!(said.text().contains("Login Succeeded"), "{said:?}");
        }
        engine
    }

    pub(super) fn sign_in(&self, user: &str, password: &str) -> Result<Output, String> {
        let login = ["--host", &self.host, "login", "--username", user, "--password-stdin", &self.target.host_port];
        self.home.attempt("docker", &login, password)
    }

    /// Stores credentials without trying them.
    pub(super) fn remember(&self, user: &str, password: &str) {
        let auth = STANDARD.encode(format!("{user}:{password}"));
        let config = json!({ "auths": { &*self.target.host_port: { "auth": auth } } });
        self.home.write("docker/config.json", config.to_string());
    }

    /// Runs docker, which must succeed.
    pub(super) fn say(&self, arguments: &[&str]) -> String {
        self.attempt(arguments).unwrap_or_else(|said| panic!("docker {} failed:\n{said}", arguments.join(" ")))
    }

    /// Runs docker, which may fail. The error is its output.
    pub(super) fn attempt(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.home.attempt("docker", &[&["--host", &*self.host], arguments].concat(), "")?;
        Ok(output.text().trim().to_owned())
    }

    /// Loads an image, and names it as one of the registry.
    pub(super) fn load(&self, image: &Image, name: &str) {
        let archive = self.home.fresh("archive.tar");
        let name = self.target.image(name);
        let target = format!("docker-archive:{}:{name}", archive.display());
        self.home.run("skopeo", &["copy", "--quiet", &image.source(), &target]);
        self.say(&["load", "--quiet", "--input", archive.to_str().unwrap()]);
        fs::remove_file(archive).unwrap();
    }

    /// Gives an image of the registry another name.
    fn tag(&self, from: &str, to: &str) {
        self.say(&["tag", &self.target.image(from), &self.target.image(to)]);
    }

    /// Pushes an image that has its name already. Returns what docker says.
    pub(super) fn push(&self, name: &str) -> String {
        self.say(&["push", &self.target.image(name)])
    }

    pub(super) fn pull(&self, name: &str) {
        self.say(&["pull", "--quiet", &self.target.image(name)]);
    }

    /// Removes every image.
    fn empty(&self) {
        self.say(&["image", "prune", "--all", "--force"]);
        assert_eq!(self.say(&["images", "--quiet"]), "");
    }

    /// Checks that the engine has this image of the registry under a name.
    pub(super) fn has(&self, name: &str, image: &Image) {
        self.has_as(&self.target.image(name), image);
    }

    /// Checks that the engine has this image under a full name: its config, and the content of its layers.
    pub(super) fn has_as(&self, name: &str, image: &Image) {
        let format = "--format={{.Id}} {{json .RootFS.Layers}}";
        let said = self.say(&["image", "inspect", format, name]);
        let (identity, layers) = said.split_once(' ').unwrap();
        assert_eq!(identity, image.config().digest);
        assert_eq!(serde_json::from_str::<Vec<String>>(layers).unwrap(), image.uncompressed());
    }
}

#[test]
fn an_image_is_pushed_pulled_back_and_deleted() {
    needs_engine!();
    for target in targets() {
        let home = Home::beside(&target);
        let docker = Engine::signed_in(&home, &target);
        let image = content::docker();
        docker.load(&image, "docker/box:one");
        let said = docker.push("docker/box:one");
        let curl = Curl::of(&home, &target);
        let pushed = curl.download("docker/box", "one");
        assert!(said.contains(&format!("one: digest: {}", pushed.root.digest)), "{said}");
        assert_eq!(pushed.root.media_type, DOCKER_MANIFEST);
        compare(&pushed, |part| pushed.store.get(part)).at_least(1, 3, 100_000);
        assert_eq!(pushed.uncompressed(), image.uncompressed());

        docker.empty();
        docker.pull("docker/box:one");
        docker.has("docker/box:one", &pushed);
        docker.empty();
        docker.pull(&format!("docker/box@{}", pushed.root.digest));

        curl.delete(&format!("/v2/docker/box/manifests/{}", pushed.root.digest)).is(202);
        curl.is_gone("docker/box", "one", &pushed.root);
        let said = docker.attempt(&["pull", &target.image("docker/box:one")]).unwrap_err();
        assert!(said.contains("manifest unknown"), "{said}");
    }
}

#[test]
fn images_of_other_clients_are_pulled_also_all_tags_at_once() {
    needs_engine!();
    let target = guarded();
    let home = Home::beside(&target);
    let curl = Curl::of(&home, &target);
    // An OCI image, one of Docker, and an index.
    let images = [("oci", content::busybox()), ("v2s2", content::docker())];
    for (tag, image) in &images {
        curl.push(image, "docker/every", tag);
    }
    curl.push(&content::index(), "docker/every", "index");
    let docker = Engine::signed_in(&home, &target);
    docker.say(&["pull", "--quiet", "--all-tags", &target.image("docker/every")]);
    for (tag, image) in &images {
        docker.has(&format!("docker/every:{tag}"), image);
    }
    docker.has("docker/every:index", &content::busybox());
}

#[test]
fn layers_of_one_repository_are_mounted_in_another_and_not_sent_twice() {
    needs_engine!();
    let target = guarded();
    let home = Home::beside(&target);
    let docker = Engine::signed_in(&home, &target);
    docker.load(&content::docker(), "docker/one:1");
    docker.push("docker/one:1");
    let said = docker.push("docker/one:1");
    assert!(said.contains("Layer already exists") && !said.contains("Pushed"), "{said}");
    docker.tag("docker/one:1", "docker/two:1");
    let said = docker.push("docker/two:1");
    assert!(said.contains("Mounted from docker/one") && !said.contains("Pushed"), "{said}");
}

#[test]
fn nobody_gets_in_with_a_wrong_password_or_without_one() {
    needs_engine!();
    let target = guarded();
    let home = Home::beside(&target);
    let docker = Engine::signed_in(&home, &target);
    docker.load(&content::docker(), "docker/mine:one");
    docker.push("docker/mine:one");
    docker.say(&["logout", &target.host_port]);
    let (user, password) = target.credentials.clone().unwrap();
    for (user, password) in [(&*user, "wrong"), ("mallory", &*password)] {
        let said = docker.sign_in(user, password).unwrap_err();
        assert!(says_unauthorized(&said), "{said}");
    }
    docker.tag("docker/mine:one", "docker/theirs:one");
    for sign_in in [None, Some("wrong")] {
        if let Some(password) = sign_in {
            docker.remember(&user, password);
        }
        for attempt in [["push", "docker/theirs:one"], ["pull", "docker/mine:one"]] {
            // Without a password, the engine calls a refused push denied.
            let said = docker.attempt(&[attempt[0], &target.image(attempt[1])]).unwrap_err();
            assert!(says_unauthorized(&said) || said.contains("denied"), "{attempt:?}: {said}");
        }
    }
    Curl::of(&home, &target).manifest("docker/theirs", "one").is(404);
}

#[test]
fn the_command_line_alone_makes_and_reads_a_manifest_list() {
    needs!(DOCKER, CURL, SKOPEO, UMOCI, BUSYBOX);
    let target = open();
    let home = Home::beside(&target);
    let curl = Curl::of(&home, &target);
    let image = content::docker();
    curl.push(&image, "docker/parts", "one");
    let (part, list) = (target.image("docker/parts:one"), target.image("docker/parts:list"));
    let docker = |arguments: &[&str]| home.run("docker", &[&["manifest"], arguments].concat());
    docker(&["create", "--insecure", &list, &part]);
    docker(&["annotate", "--arch=arm64", "--variant=v8", &list, &part]);
    docker(&["push", "--insecure", &list]);
    let read = docker(&["inspect", "--insecure", &list]).json();
    assert_eq!(read["manifests"][0]["digest"], image.root.digest);
    assert_eq!(read["manifests"][0]["platform"]["architecture"], "arm64");
    assert_eq!(curl.manifest("docker/parts", "list").is(200).json(), read);
}

#[test]
fn a_layer_of_64_mib_goes_up_and_down() {
    needs_engine!();
    let target = guarded();
    let home = Home::beside(&target);
    let docker = Engine::signed_in(&home, &target);
    let image = content::heavy();
    docker.load(&image, "docker/heavy:one");
    docker.push("docker/heavy:one");
    docker.empty();
    docker.pull("docker/heavy:one");
    docker.has("docker/heavy:one", &Curl::of(&home, &target).download("docker/heavy", "one"));
}
