//! ctr and containerd: the client below Kubernetes. Each test has its own daemon with its own configuration, content, state
//! and sockets.
//!
//! ctr has no command that lists or deletes in a registry, so curl does both.

use std::fs::{self, File};

use super::content::{self, HEAVY_BYTES};
use super::curl::Curl;
use super::daemon::Daemon;
use super::home::{Home, Output, needs, says_unauthorized};
use super::image::{Image, Store, compare};
use super::target::{Target, guarded, open, targets};

/// A running containerd and the ctr that talks to it.
pub(crate) struct Containerd<'a> {
    home: &'a Home,
    target: &'a Target,
    socket: String,
    _daemon: Daemon,
}

impl<'a> Containerd<'a> {
    pub(crate) fn start(home: &'a Home, target: &'a Target) -> Self {
        let root = home.path("containerd").display().to_string();
        let socket = format!("{root}.sock");
        let (uid, gid) = home.owner();
        // Only the plugins for images: no Kubernetes, no drivers that need the kernel, nothing in /opt.
        let config = format!(
            "version = 2\nroot = \"{root}/root\"\nstate = \"{root}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\", \
             \"io.containerd.internal.v1.restart\", \"io.containerd.snapshotter.v1.aufs\", \
             \"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.devmapper\", \
             \"io.containerd.snapshotter.v1.overlayfs\", \"io.containerd.snapshotter.v1.zfs\"]\n\
             [grpc]\naddress = \"{socket}\"\nuid = {uid}\ngid = {gid}\n\
             [ttrpc]\naddress = \"{socket}.ttrpc\"\nuid = {uid}\ngid = {gid}\n[debug]\nlevel = \"info\"\n"
        );
        let config = home.write("containerd.toml", config);
        let mut command = home.command("containerd");
        command.arg("--config").arg(config);
        let daemon = Daemon::start(&mut command, "containerd successfully booted");
        Self { home, target, socket, _daemon: daemon }
    }

    /// Runs ctr, which must succeed.
    pub(crate) fn say(&self, arguments: &[&str]) -> Output {
        self.home.run("ctr", &[&["--address", &*self.socket], arguments].concat())
    }

    /// Runs a command on the registry as a permitted user.
    pub(crate) fn reach(&self, command: &[&str], rest: &[&str]) -> Output {
        self.say(&strs(&self.with_registry(command, self.user().as_deref(), rest)))
    }

    /// Runs a command on the registry as this user, or anonymously. It must fail.
    pub(crate) fn fails(&self, command: &[&str], user: Option<&str>, rest: &[&str]) -> String {
        let arguments = self.with_registry(command, user, rest);
        self.home.fails("ctr", &[&["--address", &*self.socket], &*strs(&arguments)].concat()).stderr
    }

    /// Runs a command that may fail. The error is the output of ctr.
    pub(crate) fn attempt(&self, command: &[&str], user: Option<&str>, rest: &[&str]) -> Result<(), String> {
        let arguments = self.with_registry(command, user, rest);
        self.home.attempt("ctr", &[&["--address", &*self.socket], &*strs(&arguments)].concat(), "").map(drop)
    }

    /// A command with the flags for this registry.
    fn with_registry(&self, command: &[&str], user: Option<&str>, rest: &[&str]) -> Vec<String> {
        let mut arguments: Vec<String> = command.iter().map(ToString::to_string).collect();
        if self.target.is_https() {
            arguments.extend(["--hosts-dir".to_owned(), self.home.certificates().display().to_string()]);
        } else {
            arguments.push("--plain-http".to_owned());
        }
        arguments.extend(user.into_iter().flat_map(|user| ["--user", user]).map(str::to_owned));
        arguments.extend(rest.iter().map(ToString::to_string));
        arguments
    }

    /// The permitted user in the form that ctr expects.
    fn user(&self) -> Option<String> {
        self.target.credentials.as_ref().map(|(user, password)| format!("{user}:{password}"))
    }

    /// Imports the images of a layout into containerd under their later name `repository:tag`.
    pub(crate) fn import(&self, image: &Image, repository: &str) {
        let Store::Layout(layout) = &image.store else { panic!("ctr imports layouts") };
        let archive = self.home.fresh("archive.tar");
        let mut tar = tar::Builder::new(File::create(&archive).unwrap());
        tar.append_dir_all(".", layout).unwrap();
        tar.finish().unwrap();
        let base = self.target.image(repository);
        let flags = ["images", "import", "--all-platforms", "--no-unpack", "--base-name", &base];
        self.say(&[&flags[..], &[archive.to_str().unwrap()]].concat());
    }

    pub(crate) fn push(&self, name: &str) {
        self.reach(&["images", "push"], &[&self.target.image(name)]);
    }

    /// Pulls an image as for a container. containerd mounts to unpack it. Without the right to mount, it only fetches.
    pub(crate) fn pull(&self, name: &str) {
        if may_mount() {
            self.reach(&["images", "pull"], &["--snapshotter=native", &self.target.image(name)]);
            let checked = self.say(&["images", "check", "--snapshotter=native"]);
            let words = checked.words();
            assert!(words.contains(&"complete") && words.ends_with(&["true"]), "{}", checked.text());
        } else {
            self.fetch(name);
        }
    }

    /// Fetches an image with all platforms without unpacking it.
    fn fetch(&self, name: &str) {
        self.reach(&["content", "fetch"], &["--all-platforms", &self.target.image(name)]);
    }

    /// The names of the images that containerd has.
    fn images(&self) -> Vec<String> {
        self.say(&["images", "ls", "--quiet"]).words().into_iter().map(str::to_owned).collect()
    }

    /// containerd's own store of content.
    pub(crate) fn store(&self) -> Store {
        Store::Layout(self.home.path("containerd/root/io.containerd.content.v1.content"))
    }
}

fn strs(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// Whether this process may mount file systems. root may, unless a container forbids it.
fn may_mount() -> bool {
    const SYS_ADMIN: u32 = 21; // capabilities(7)
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(effective.trim(), 16).unwrap() >> SYS_ADMIN & 1 == 1
}

#[test]
fn an_image_is_pushed_listed_pulled_back_and_deleted() {
    needs!(CTR, CONTAINERD, CURL, UMOCI, BUSYBOX);
    for target in targets() {
        let image = content::busybox();
        let home = Home::beside(&target);
        let pusher = Containerd::start(&home, &target);
        pusher.import(&image, "ctr/box");
        pusher.push("ctr/box:amd64");
        pusher.push("ctr/box:arm64");
        let curl = Curl::of(&home, &target);
        assert_eq!(curl.tags("ctr/box"), ["amd64", "arm64"]);
        assert_eq!(curl.manifest("ctr/box", "amd64").is(200).body, image.manifest());

        // Another containerd pulls and unpacks it.
        let other = Home::beside(&target);
        let puller = Containerd::start(&other, &target);
        let name = target.image("ctr/box:amd64");
        puller.pull("ctr/box:amd64");
        assert_eq!(puller.images(), [&*name]);
        let stored = puller.store();
        compare(&image, |part| stored.get(part)).at_least(1, 3, 100_000);
        assert_eq!(puller.say(&["content", "get", &image.root.digest]).stdout, image.manifest());

        puller.say(&["images", "rm", "--sync", &name]);
        assert!(puller.images().is_empty());
        curl.delete(&format!("/v2/ctr/box/manifests/{}", image.root.digest)).is(202);
        curl.is_gone("ctr/box", "amd64", &image.root);
        let said = puller.fails(&["images", "pull"], puller.user().as_deref(), &["--snapshotter=native", &name]);
        assert!(said.contains("not found"), "{said}");
    }
}

#[test]
fn nobody_gets_in_with_a_wrong_password_or_without_one() {
    needs!(CTR, CONTAINERD, UMOCI, BUSYBOX);
    let target = guarded();
    let home = Home::beside(&target);
    let ctr = Containerd::start(&home, &target);
    ctr.import(&content::busybox(), "ctr/mine");
    ctr.push("ctr/mine:amd64");
    let name = target.image("ctr/mine:amd64");
    for user in [None, Some("alice:wrong"), Some("mallory:a coracle floats")] {
        for command in [["images", "push"], ["content", "fetch"]] {
            let said = ctr.fails(&command, user, &[&name]);
            assert!(says_unauthorized(&said), "{command:?} {user:?}: {said}");
        }
    }
}

#[test]
fn an_index_is_pushed_with_all_its_platforms() {
    needs!(CTR, CONTAINERD, UMOCI, BUSYBOX);
    for target in targets() {
        let index = content::index();
        let home = Home::beside(&target);
        let pusher = Containerd::start(&home, &target);
        pusher.import(&index, "ctr/index");
        pusher.push("ctr/index:index");
        let other = Home::beside(&target);
        let puller = Containerd::start(&other, &target);
        puller.fetch("ctr/index:index");
        let stored = puller.store();
        compare(&index, |part| stored.get(part)).at_least(3, 5, 100_000);
    }
}

#[test]
fn many_layers_and_a_layer_of_64_mib_go_up_and_down() {
    needs!(CTR, CONTAINERD);
    let target = guarded();
    let home = Home::beside(&target);
    let pusher = Containerd::start(&home, &target);
    let images = [(content::many_layers(), content::layers() + 1, 0), (content::heavy(), 2, HEAVY_BYTES as u64)];
    for (image, _, _) in &images {
        pusher.import(image, "ctr/large");
        pusher.push(&format!("ctr/large:{}", image.tag));
    }
    let other = Home::beside(&target);
    let puller = Containerd::start(&other, &target);
    for (image, blobs, bytes) in &images {
        puller.fetch(&format!("ctr/large:{}", image.tag));
        let stored = puller.store();
        compare(image, |part| stored.get(part)).at_least(1, *blobs, *bytes);
    }
}

#[test]
fn an_image_is_pulled_by_its_digest_and_pushed_on_to_another_repository() {
    needs!(CTR, CONTAINERD, CURL, UMOCI, BUSYBOX);
    let target = open();
    let home = Home::beside(&target);
    let image = content::busybox();
    let curl = Curl::of(&home, &target);
    curl.push(&image, "ctr/pin", "latest");
    curl.push(&content::busybox_arm64(), "ctr/pin", "latest");
    let ctr = Containerd::start(&home, &target);
    let pinned = format!("ctr/pin@{}", image.root.digest);
    ctr.pull(&pinned);
    let stored = ctr.store();
    compare(&image, |part| stored.get(part)).at_least(1, 3, 100_000);

    ctr.reach(&["images", "push"], &[&target.image("ctr/onward:one"), &target.image(&pinned)]);
    compare(&image, |part| curl.fetch("ctr/onward", part).is(200).body).at_least(1, 3, 100_000);
}

#[test]
fn an_artifact_that_is_no_image_is_fetched() {
    needs!(CTR, CONTAINERD, CURL, UMOCI, BUSYBOX);
    let target = guarded();
    let home = Home::beside(&target);
    let curl = Curl::of(&home, &target);
    let subject = content::busybox();
    curl.push(&subject, "ctr/artifact", "image");
    let artifact = content::artifact(&home, &subject.root);
    curl.push(&artifact, "ctr/artifact", "note");
    let ctr = Containerd::start(&home, &target);
    ctr.fetch("ctr/artifact:note");
    let stored = ctr.store();
    compare(&artifact, |part| stored.get(part)).at_least(1, 2, 500);
}
