//! buildah: it makes images and pushes them. Its listing is `pull --all-tags`; it has no command that deletes from a
//! registry, and skopeo does that for it.

use std::collections::BTreeSet;

use super::content;
use super::curl::Curl;
use super::home::{Home, find, needs, says_unauthorized};
use super::image::{DOCKER_MANIFEST, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST, compare};
use super::skopeo::Skopeo;
use super::storage::Storage;
use super::target::{guarded, targets};

/// Makes an image from nothing but busybox and a greeting, and gives its identity.
fn build(buildah: &Storage, home: &Home, greeting: &str) -> String {
    let container = buildah.say(&["from", "scratch"]);
    let busybox = find("busybox").unwrap();
    buildah.say(&["copy", "--quiet", &container, busybox.to_str().unwrap(), "/bin/busybox"]);
    let motd = home.fresh("motd");
    std::fs::write(&motd, greeting).unwrap();
    buildah.say(&["copy", "--quiet", &container, motd.to_str().unwrap(), "/etc/motd"]);
    buildah.say(&["config", "--entrypoint", "[\"/bin/busybox\"]", "--label", "made=by buildah", &container]);
    buildah.say(&["commit", "--quiet", "--rm", &container])
}

#[test]
fn an_image_is_built_pushed_listed_pulled_back_and_deleted() {
    needs!(BUILDAH, SKOPEO, CURL, BUSYBOX);
    for target in targets() {
        let home = Home::beside(&target);
        let buildah = Storage::signed_in("buildah", &home, &target);
        let identity = build(&buildah, &home, "hello from a coracle\n");
        let layers = buildah.layers(&identity);
        let formats = [("docker", DOCKER_MANIFEST), ("oci", OCI_MANIFEST)];
        for (tag, media_type) in formats {
            let format = if tag == "docker" { "v2s2" } else { tag };
            let made = buildah.push(&identity, &format!("buildah/box:{tag}"), &["--format", format]);
            let served = Curl::of(&home, &target).manifest("buildah/box", tag).is(200);
            assert_eq!(served.header("Docker-Content-Digest"), Some(&*made));
            assert_eq!(served.header("Content-Type"), Some(media_type));
        }

        // Another client pulls all tags at once, and then each of them.
        let other = Home::beside(&target);
        let puller = Storage::signed_in("buildah", &other, &target);
        puller.say(&["pull", "--quiet", "--all-tags", &target.image("buildah/box")]);
        let listed = puller.say(&["images", "--noheading", "--format={{.Name}}:{{.Tag}}"]);
        let listed: BTreeSet<String> = listed.split_whitespace().map(str::to_owned).collect();
        assert_eq!(listed, formats.map(|(tag, _)| target.image(&format!("buildah/box:{tag}"))).into());
        puller.empty();
        let curl = Curl::of(&home, &target);
        for (tag, _) in formats {
            let name = format!("buildah/box:{tag}");
            let pushed = curl.download("buildah/box", tag);
            compare(&pushed, |part| pushed.store.get(part)).at_least(1, 2, 100_000);
            assert_eq!(pushed.uncompressed(), layers);
            puller.has(&puller.pull(&name), &pushed);
            puller.empty();
            Skopeo::signed_in(&home, &target).delete(&name);
            curl.is_gone("buildah/box", tag, &pushed.root);
            let said = puller.fails(&["pull", "--quiet", &target.image(&name)]).stderr;
            assert!(said.contains("manifest unknown"), "{said}");
        }
    }
}

#[test]
fn nobody_gets_in_with_a_wrong_password_or_without_one() {
    needs!(BUILDAH, UMOCI, BUSYBOX);
    let target = guarded();
    let home = Home::beside(&target);
    let buildah = Storage::signed_in("buildah", &home, &target);
    let identity = buildah.load(&content::busybox());
    buildah.push(&identity, "buildah/mine:one", &[]);
    buildah.say(&["logout", &target.host_port]);
    home.cannot_sign_in("buildah", &target);
    let theirs = buildah.at("buildah/theirs:one");
    let attempts: [&[&str]; 3] = [
        &["pull", "--quiet", "--policy=always", &target.image("buildah/mine:one")],
        &["push", "--quiet", &identity, &theirs],
        &["push", "--quiet", "--creds=alice:wrong", &identity, &theirs],
    ];
    for attempt in attempts {
        let said = buildah.fails(attempt).stderr;
        assert!(says_unauthorized(&said), "{attempt:?}: {said}");
    }
}

#[test]
fn a_manifest_list_is_pushed_with_all_its_platforms() {
    needs!(BUILDAH, CURL, UMOCI, BUSYBOX);
    for target in targets() {
        let home = Home::beside(&target);
        let buildah = Storage::signed_in("buildah", &home, &target);
        let images = [content::busybox(), content::busybox_arm64()];
        buildah.say(&["manifest", "create", "both"]);
        for image in &images {
            buildah.say(&["manifest", "add", "both", &image.source()]);
        }
        let to = buildah.at("buildah/list:one");
        buildah.say(&["manifest", "push", "--all", "--quiet", "--format=v2s2", "both", &to]);
        let as_docker = Curl::of(&home, &target).download("buildah/list", "one");
        compare(&as_docker, |part| as_docker.store.get(part)).at_least(3, 5, 100_000);
        assert!(as_docker.parts().iter().any(|part| part.media_type == DOCKER_MANIFEST));

        let to = buildah.at("buildah/list:two");
        buildah.say(&["manifest", "push", "--all", "--quiet", "--format=oci", "both", &to]);
        let other = Home::beside(&target);
        let puller = Storage::signed_in("buildah", &other, &target);
        for (platform, image) in content::PLATFORMS.into_iter().zip(&images) {
            let name = target.image("buildah/list:two");
            puller.has(&puller.say(&["pull", "--quiet", "--arch", platform, &name]), image);
        }
    }
}

#[test]
fn layers_go_as_zstd_and_as_gzip_and_come_back_with_the_same_files() {
    needs!(BUILDAH, CURL, UMOCI, BUSYBOX);
    let target = guarded();
    let image = content::busybox();
    let ways: [(&str, &[&str], &str); 2] = [
        ("zstd", &["--compression-format=zstd"], OCI_LAYER_ZSTD),
        ("gzip", &["--compression-format=gzip", "--compression-level=1"], OCI_LAYER_GZIP),
    ];
    for (name, options, media_type) in ways {
        // In a home of its own each, or buildah would reuse what it remembers to have pushed in another form.
        let home = Home::beside(&target);
        let buildah = Storage::signed_in("buildah", &home, &target);
        let identity = buildah.load(&image);
        let made = buildah.push(&identity, &format!("buildah/{name}:one"), &[&["--format=oci"], options].concat());
        let pushed = Curl::of(&home, &target).download(&format!("buildah/{name}"), "one");
        assert_eq!(pushed.root.digest, made);
        compare(&pushed, |part| pushed.store.get(part)).at_least(1, 3, 100_000);
        assert!(pushed.layers().iter().all(|layer| layer.media_type == media_type), "{:?}", pushed.layers());

        let other = Home::beside(&target);
        let puller = Storage::signed_in("buildah", &other, &target);
        assert_eq!(puller.layers(&puller.pull(&format!("buildah/{name}:one"))), image.uncompressed());
    }
}

#[test]
fn a_build_on_an_image_of_the_registry_mounts_the_layers_it_has() {
    needs!(BUILDAH, CURL, UMOCI, BUSYBOX);
    for target in targets() {
        let home = Home::beside(&target);
        let curl = Curl::of(&home, &target);
        let base = content::busybox();
        curl.push(&base, "buildah/base", "one");
        let buildah = Storage::signed_in("buildah", &home, &target);
        let container = buildah.say(&["from", &target.image("buildah/base:one")]);
        let motd = home.write("motd", "on top of it\n");
        buildah.say(&["copy", "--quiet", &container, motd.to_str().unwrap(), "/etc/motd"]);
        let identity = buildah.say(&["commit", "--quiet", "--format=oci", &container]);
        buildah.push(&identity, "buildah/top", &[]);
        let pushed = curl.download("buildah/top", "latest");
        assert_eq!(pushed.layers()[..2], base.layers(), "the layers of the base are those that were pulled");
        assert_eq!(pushed.layers().len(), 3);
        compare(&pushed, |part| pushed.store.get(part)).at_least(1, 4, 100_000);
    }
}
