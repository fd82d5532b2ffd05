//! skopeo: the client that copies between registries and directories, and the only one of containers' that deletes.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::content;
use super::curl::Curl;
use super::home::{Home, Output, needs, says_unauthorized};
use super::image::{DOCKER_MANIFEST, Image, OCI_INDEX, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, compare};
use super::target::{Target, guarded, open, targets};

/// skopeo with its own home, signed in.
pub(crate) struct Skopeo<'a> {
    home: &'a Home,
    target: &'a Target,
}

impl<'a> Skopeo<'a> {
    /// Signs in, if the registry asks for it.
    pub(crate) fn signed_in(home: &'a Home, target: &'a Target) -> Self {
        home.sign_in("skopeo", target);
        Self { home, target }
    }

    /// The name of an image in the registry, for skopeo.
    fn at(&self, name: &str) -> String {
        format!("docker://{}", self.target.image(name))
    }

    /// Pushes an image as it is, with everything an index names.
    pub(crate) fn push(&self, image: &Image, name: &str) {
        self.copy(&["--all", "--preserve-digests"], &image.source(), &self.at(name));
    }

    /// Pulls an image with everything an index names into a new layout.
    pub(crate) fn pull(&self, name: &str) -> Image {
        let layout = self.home.fresh("layout");
        let place = format!("oci:{}:pulled", layout.display());
        self.copy(&["--all", "--preserve-digests"], &self.at(name), &place);
        Image::in_layout(&layout, "pulled")
    }

    fn copy(&self, options: &[&str], from: &str, to: &str) -> Output {
        let mut arguments = vec!["--debug", "copy", "--quiet"];
        arguments.extend(options);
        arguments.extend([from, to]);
        self.home.run("skopeo", &arguments)
    }

    /// The bytes of the manifest that the registry serves.
    pub(crate) fn manifest(&self, name: &str) -> Vec<u8> {
        self.home.run("skopeo", &["inspect", "--raw", &self.at(name)]).stdout
    }

    /// The tags of a repository, sorted.
    fn tags(&self, repository: &str) -> BTreeSet<String> {
        let listed = self.home.run("skopeo", &["list-tags", &self.at(repository)]).json()["Tags"].take();
        serde_json::from_value(listed).unwrap()
    }

    /// Deletes what this tag or digest names, and sees that it is gone.
    pub(crate) fn delete(&self, name: &str) {
        self.home.run("skopeo", &["delete", &self.at(name)]);
        let said = self.home.fails("skopeo", &["inspect", "--raw", &self.at(name)]).stderr;
        assert!(said.contains("manifest unknown"), "{said}");
    }
}

#[test]
fn an_image_is_pushed_listed_pulled_back_and_deleted() {
    needs!(SKOPEO, CURL, UMOCI, BUSYBOX);
    for target in targets() {
        let home = Home::beside(&target);
        let skopeo = Skopeo::signed_in(&home, &target);
        let (image, other) = (content::busybox(), content::busybox_arm64());
        skopeo.push(&image, "skopeo/box:one");
        skopeo.push(&other, "skopeo/box:two");
        assert_eq!(skopeo.tags("skopeo/box"), ["one", "two"].map(str::to_owned).into());
        assert_eq!(skopeo.manifest("skopeo/box:one"), image.manifest());
        let pulled = skopeo.pull("skopeo/box:one");
        assert_eq!(pulled.root.digest, image.root.digest);
        compare(&image, |part| pulled.store.get(part)).at_least(1, 3, 100_000);

        skopeo.delete("skopeo/box:one");
        let curl = Curl::of(&home, &target);
        curl.is_gone("skopeo/box", "one", &image.root);
        assert_eq!(skopeo.tags("skopeo/box"), ["two".to_owned()].into());
        // The two images share a layer, and the other one still has it.
        let pulled = skopeo.pull("skopeo/box:two");
        compare(&other, |part| pulled.store.get(part)).at_least(1, 3, 100_000);
    }
}

#[test]
fn nobody_gets_in_with_a_wrong_password_or_without_one() {
    needs!(SKOPEO, UMOCI, BUSYBOX);
    let target = guarded();
    let home = Home::beside(&target);
    Skopeo::signed_in(&home, &target).push(&content::busybox(), "skopeo/mine:one");
    let stranger = Home::beside(&target);
    stranger.cannot_sign_in("skopeo", &target);
    let skopeo = Skopeo { home: &stranger, target: &target };
    let mine = skopeo.at("skopeo/mine:one");
    let source = content::busybox().source();
    let attempts: [&[&str]; 5] = [
        &["inspect", "--raw", &mine],
        &["list-tags", &skopeo.at("skopeo/mine")],
        &["copy", "--quiet", &source, &skopeo.at("skopeo/theirs:one")],
        &["copy", "--quiet", "--dest-creds", "alice:wrong", &source, &skopeo.at("skopeo/theirs:one")],
        &["delete", &mine],
    ];
    for attempt in attempts {
        let said = stranger.fails("skopeo", attempt).stderr;
        assert!(says_unauthorized(&said), "{attempt:?}: {said}");
    }
}

#[test]
fn signing_out_forgets_the_password() {
    needs!(SKOPEO, UMOCI, BUSYBOX);
    let target = guarded();
    let home = Home::beside(&target);
    let skopeo = Skopeo::signed_in(&home, &target);
    skopeo.push(&content::busybox(), "skopeo/out:one");
    home.run("skopeo", &["logout", &target.host_port]);
    home.fails("skopeo", &["inspect", "--raw", &skopeo.at("skopeo/out:one")]);
    Skopeo::signed_in(&home, &target).manifest("skopeo/out:one");
}

#[test]
fn a_docker_schema_2_image_stays_one() {
    needs!(SKOPEO, CURL, UMOCI, BUSYBOX);
    for target in targets() {
        let home = Home::beside(&target);
        let skopeo = Skopeo::signed_in(&home, &target);
        let image = content::docker();
        assert_eq!(image.root.media_type, DOCKER_MANIFEST);
        skopeo.push(&image, "skopeo/docker:one");
        assert_eq!(skopeo.manifest("skopeo/docker:one"), image.manifest());
        let served = Curl::of(&home, &target).manifest("skopeo/docker", "one").is(200);
        assert_eq!(served.header("Content-Type"), Some(DOCKER_MANIFEST));
        let directory = home.path("pulled");
        skopeo.copy(&["--preserve-digests"], &skopeo.at("skopeo/docker:one"), &format!("dir:{}", directory.display()));
        let pulled = Image::in_directory(&directory);
        compare(&image, |part| pulled.store.get(part)).at_least(1, 3, 100_000);
    }
}

#[test]
fn an_index_is_copied_with_all_its_platforms() {
    needs!(SKOPEO, CURL, UMOCI, BUSYBOX);
    for target in targets() {
        let home = Home::beside(&target);
        let skopeo = Skopeo::signed_in(&home, &target);
        let index = content::index();
        assert_eq!(index.root.media_type, OCI_INDEX);
        skopeo.push(&index, "skopeo/index:one");
        assert_eq!(skopeo.manifest("skopeo/index:one"), index.manifest());
        let pulled = skopeo.pull("skopeo/index:one");
        // Three manifests; two configurations, a layer for each platform and one for both.
        compare(&index, |part| pulled.store.get(part)).at_least(3, 5, 100_000);

        for (platform, image) in [("amd64", content::busybox()), ("arm64", content::busybox_arm64())] {
            let layout = home.fresh("platform");
            let to = format!("oci:{}:one", layout.display());
            let from = skopeo.at("skopeo/index:one");
            home.run("skopeo", &["--override-arch", platform, "copy", "--quiet", &from, &to]);
            assert_eq!(Image::in_layout(&layout, "one").root.digest, image.root.digest, "{platform}");
        }
        // Deleting the index leaves what it names.
        skopeo.delete("skopeo/index:one");
        let image = content::busybox();
        assert_eq!(skopeo.manifest(&format!("skopeo/index@{}", image.root.digest)), image.manifest());
    }
}

#[test]
fn many_layers_go_up_and_down() {
    needs!(SKOPEO);
    let target = guarded();
    let home = Home::beside(&target);
    let skopeo = Skopeo::signed_in(&home, &target);
    let image = content::many_layers();
    skopeo.push(&image, "skopeo/many:one");
    let pulled = skopeo.pull("skopeo/many:one");
    compare(&image, |part| pulled.store.get(part)).at_least(1, content::layers() + 1, 0);
}

#[test]
fn a_layer_of_64_mib_goes_up_and_down() {
    needs!(SKOPEO);
    for target in targets() {
        let home = Home::beside(&target);
        let skopeo = Skopeo::signed_in(&home, &target);
        let image = content::heavy();
        skopeo.push(&image, "skopeo/heavy:one");
        let pulled = skopeo.pull("skopeo/heavy:one");
        compare(&image, |part| pulled.store.get(part)).at_least(1, 2, content::HEAVY_BYTES as u64);
    }
}

#[test]
fn an_image_is_pulled_by_its_digest_alone() {
    needs!(SKOPEO, UMOCI, BUSYBOX);
    let target = open();
    let home = Home::beside(&target);
    let skopeo = Skopeo::signed_in(&home, &target);
    let (old, new) = (content::busybox(), content::busybox_arm64());
    skopeo.push(&old, "skopeo/pin:latest");
    skopeo.push(&new, "skopeo/pin:latest");
    assert_eq!(skopeo.manifest("skopeo/pin:latest"), new.manifest());
    let pulled = skopeo.pull(&format!("skopeo/pin@{}", old.root.digest));
    compare(&old, |part| pulled.store.get(part)).at_least(1, 3, 100_000);
}

#[test]
fn a_copy_between_two_repositories_mounts_every_blob() {
    needs!(SKOPEO, UMOCI, BUSYBOX);
    for target in targets() {
        let home = Home::beside(&target);
        let skopeo = Skopeo::signed_in(&home, &target);
        let image = content::busybox();
        skopeo.push(&image, "skopeo/from:one");
        // On a busy machine skopeo 1.9 sometimes forgets where it has seen a blob, and uploads it without asking for a
        // mount. It learns the place with each copy, so a later copy asks for every mount.
        let copy = |to: &str| {
            let said = skopeo.copy(&["--preserve-digests"], &skopeo.at("skopeo/from:one"), &skopeo.at(to)).stderr;
            let [asked, mounted] = ["Trying to mount ", "... mount OK"].map(|line| said.matches(line).count());
            assert_eq!(asked, mounted, "every mount that was asked for is granted:\n{said}");
            mounted >= image.layers().len()
        };
        let names = ["skopeo/deep/er/to:one", "skopeo/deep/er/still:one", "skopeo/deep/est:one"];
        let to = names.into_iter().find(|to| copy(to)).expect("every layer is mounted in one of the copies");
        let pulled = skopeo.pull(to);
        compare(&image, |part| pulled.store.get(part)).at_least(1, 3, 100_000);
        // A mounted blob does not depend on its source.
        skopeo.delete("skopeo/from:one");
        let pulled = skopeo.pull(to);
        compare(&image, |part| pulled.store.get(part)).at_least(1, 3, 100_000);
    }
}

#[test]
fn a_second_push_sends_no_blob_again() {
    needs!(SKOPEO, UMOCI, BUSYBOX);
    let target = guarded();
    let home = Home::beside(&target);
    Skopeo::signed_in(&home, &target).push(&content::busybox(), "skopeo/again:one");
    // In another home, where skopeo does not remember what it pushed, and has to ask.
    let home = Home::beside(&target);
    let skopeo = Skopeo::signed_in(&home, &target);
    let image = content::busybox();
    let said = skopeo.copy(&["--preserve-digests"], &image.source(), &skopeo.at("skopeo/again:two")).stderr;
    assert_eq!(said.matches("... already exists").count(), image.layers().len() + 1, "{said}");
    assert_eq!(skopeo.manifest("skopeo/again:two"), image.manifest());
}

#[test]
fn layers_are_compressed_anew_on_their_way() {
    needs!(SKOPEO, UMOCI, BUSYBOX);
    let target = guarded();
    let home = Home::beside(&target);
    let other = Skopeo::signed_in(&home, &target);
    let diff_ids = |image: &Image| {
        let config: Value = serde_json::from_slice(&image.store.get(&image.config())).unwrap();
        config["rootfs"]["diff_ids"].clone()
    };
    let mut image = content::busybox();
    for (format, media_type) in [("zstd", OCI_LAYER_ZSTD), ("gzip", OCI_LAYER_GZIP)] {
        // A client that has not pushed these layers before cannot reuse them unchanged.
        let home = Home::beside(&target);
        let pusher = Skopeo::signed_in(&home, &target);
        let name = format!("skopeo/{format}:one");
        pusher.copy(&["--dest-compress-format", format, "--format=oci"], &image.source(), &pusher.at(&name));
        let pulled = other.pull(&name);
        assert_eq!(pulled.manifest(), pusher.manifest(&name));
        compare(&pulled, |part| pulled.store.get(part)).at_least(1, 3, 100_000);
        assert!(pulled.layers().iter().all(|layer| layer.media_type == media_type), "{:?}", pulled.layers());
        assert_eq!((pulled.layers().len(), diff_ids(&pulled)), (image.layers().len(), diff_ids(&image)));
        image = pulled;
    }
    assert_eq!(image.uncompressed(), content::busybox().uncompressed(), "the same files came through both");
}

#[test]
fn a_directory_of_images_is_synced_up_and_down() {
    needs!(SKOPEO, UMOCI, BUSYBOX);
    for target in targets() {
        let home = Home::beside(&target);
        let skopeo = Skopeo::signed_in(&home, &target);
        let images = [("one", content::busybox()), ("two", content::busybox_arm64()), ("index", content::index())];
        let up = home.path("up");
        for (tag, image) in &images {
            let directory = up.join(format!("sync:{tag}"));
            std::fs::create_dir_all(&directory).unwrap();
            skopeo.copy(&["--all"], &image.source(), &format!("dir:{}", directory.display()));
        }
        let sync =
            |arguments: &[&str]| home.run("skopeo", &[&["sync", "--all", "--preserve-digests"], arguments].concat());
        sync(&["--src", "dir", "--dest", "docker", up.to_str().unwrap(), &target.image("skopeo")]);
        assert_eq!(skopeo.tags("skopeo/sync"), images.iter().map(|(tag, _)| (*tag).to_owned()).collect());

        let down = home.path("down");
        sync(&["--src", "docker", "--dest", "dir", &target.image("skopeo/sync"), down.to_str().unwrap()]);
        for (tag, image) in &images {
            let synced = Image::in_directory(&down.join(Path::new(&format!("sync:{tag}"))));
            assert_eq!(synced.root.digest, image.root.digest);
            compare(image, |part| synced.store.get(part)).at_least(1, 3, 100_000);
        }
    }
}

#[test]
fn an_artifact_that_is_no_image_is_pushed_and_pulled_back() {
    needs!(SKOPEO, UMOCI, BUSYBOX);
    for target in targets() {
        let home = Home::beside(&target);
        let skopeo = Skopeo::signed_in(&home, &target);
        let subject = content::busybox();
        skopeo.push(&subject, "skopeo/artifact:image");
        let artifact = content::artifact(&home, &subject.root);
        skopeo.push(&artifact, "skopeo/artifact:note");
        assert_eq!(skopeo.manifest("skopeo/artifact:note"), artifact.manifest());
        let pulled = skopeo.pull("skopeo/artifact:note");
        compare(&artifact, |part| pulled.store.get(part)).at_least(1, 2, 500);
    }
}
