//! podman: the client of most Linux desktops. It lists and searches a registry, and has no command that deletes
//! from one; skopeo does that for it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::content;
use super::curl::Curl;
use super::home::{Home, needs, says_unauthorized};
use super::image::{DOCKER_MANIFEST, Descriptor, OCI_LAYER_ZSTD, OCI_MANIFEST, compare, digest};
use super::skopeo::Skopeo;
use super::storage::Storage;
use super::target::{guarded, open, targets};

#[test]
fn an_image_is_pushed_listed_pulled_back_and_deleted() {
    needs!(PODMAN, SKOPEO, CURL, UMOCI, BUSYBOX);
    for target in targets() {
        let home = Home::beside(&target);
        let podman = Storage::signed_in("podman", &home, &target);
        let image = content::busybox();
        let identity = podman.load(&image);
        let formats = [("oci", "oci", OCI_MANIFEST), ("docker", "v2s2", DOCKER_MANIFEST)];
        for (tag, format, _) in formats {
            let made = podman.push(&identity, &format!("podman/box:{tag}"), &["--format", format]);
            let served = Curl::of(&home, &target).manifest("podman/box", tag).is(200);
            assert_eq!(served.header("Docker-Content-Digest"), Some(&*made));
        }
        let repository = target.image("podman/box");
        let listed = home.run("podman", &["search", "--list-tags", "--format=json", &repository]).json();
        let tags: BTreeSet<&str> = listed[0]["Tags"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!((&listed[0]["Name"], tags), (&json!(repository), ["docker", "oci"].into()));

        // Another client pulls both, and skopeo deletes them.
        let other = Home::beside(&target);
        let puller = Storage::signed_in("podman", &other, &target);
        let skopeo = Skopeo::signed_in(&home, &target);
        let curl = Curl::of(&home, &target);
        for (tag, _, media_type) in formats {
            let name = format!("podman/box:{tag}");
            let pushed = curl.download("podman/box", tag);
            assert_eq!(pushed.root.media_type, media_type);
            assert_eq!(pushed.uncompressed(), image.uncompressed());
            puller.has(&puller.pull(&name), &pushed);
            puller.empty();
            skopeo.delete(&name);
            curl.is_gone("podman/box", tag, &pushed.root);
            let said = puller.fails(&["pull", "--quiet", &target.image(&name)]).stderr;
            assert!(said.contains("manifest unknown"), "{said}");
        }
    }
}

#[test]
fn nobody_gets_in_with_a_wrong_password_or_without_one() {
    needs!(PODMAN, UMOCI, BUSYBOX);
    let target = guarded();
    let home = Home::beside(&target);
    let podman = Storage::signed_in("podman", &home, &target);
    let identity = podman.load(&content::busybox());
    podman.push(&identity, "podman/mine:one", &[]);
    podman.say(&["logout", &target.host_port]);
    home.cannot_sign_in("podman", &target);
    let theirs = podman.at("podman/theirs:one");
    let attempts: [&[&str]; 4] = [
        &["pull", "--quiet", &target.image("podman/mine:one")],
        &["push", "--quiet", &identity, &theirs],
        &["push", "--quiet", "--creds=alice:wrong", &identity, &theirs],
        &["search", "--list-tags", &target.image("podman/mine")],
    ];
    for attempt in attempts {
        let said = podman.fails(attempt).stderr;
        assert!(says_unauthorized(&said), "{attempt:?}: {said}");
    }
}

#[test]
fn a_manifest_list_is_pushed_with_all_its_platforms() {
    needs!(PODMAN, CURL, UMOCI, BUSYBOX);
    for target in targets() {
        let home = Home::beside(&target);
        let podman = Storage::signed_in("podman", &home, &target);
        let images = [content::busybox(), content::busybox_arm64()];
        podman.say(&["manifest", "create", "both"]);
        for image in &images {
            podman.say(&["manifest", "add", "both", &image.source()]);
        }
        let to = podman.at("podman/list:one");
        podman.say(&["manifest", "push", "--all", "--quiet", "--format=oci", "both", &to]);

        let pushed = Curl::of(&home, &target).download("podman/list", "one");
        compare(&pushed, |part| pushed.store.get(part)).at_least(3, 5, 100_000);
        let named: BTreeSet<String> = pushed.parts().into_iter().map(|part| part.digest).collect();
        let other = Home::beside(&target);
        let puller = Storage::signed_in("podman", &other, &target);
        for (platform, image) in content::PLATFORMS.into_iter().zip(&images) {
            assert!(named.contains(&image.root.digest), "the list does not name the image for {platform}");
            let name = target.image("podman/list:one");
            let identity = puller.say(&["pull", "--quiet", "--arch", platform, &name]);
            puller.has(&identity, image);
        }
    }
}

#[test]
fn layers_go_as_zstd_and_come_back_with_the_same_files() {
    needs!(PODMAN, CURL, UMOCI, BUSYBOX);
    let target = guarded();
    let home = Home::beside(&target);
    let podman = Storage::signed_in("podman", &home, &target);
    let image = content::busybox();
    let identity = podman.load(&image);
    let made = podman.push(&identity, "podman/zstd:one", &["--format=oci", "--compression-format=zstd"]);
    let pushed = Curl::of(&home, &target).download("podman/zstd", "one");
    assert_eq!(pushed.root.digest, made);
    compare(&pushed, |part| pushed.store.get(part)).at_least(1, 3, 100_000);
    assert!(pushed.layers().iter().all(|layer| layer.media_type == OCI_LAYER_ZSTD), "{:?}", pushed.layers());
    let other = Home::beside(&target);
    let puller = Storage::signed_in("podman", &other, &target);
    assert_eq!(puller.layers(&puller.pull("podman/zstd:one")), image.uncompressed());
}

#[test]
fn every_tag_is_pulled_at_once() {
    needs!(PODMAN, CURL, UMOCI, BUSYBOX);
    for target in targets() {
        let home = Home::beside(&target);
        let tags = ["one", "two", "three"];
        for tag in tags {
            Curl::of(&home, &target).push(&content::busybox(), "podman/every", tag);
        }
        let podman = Storage::signed_in("podman", &home, &target);
        podman.say(&["pull", "--quiet", "--all-tags", &target.image("podman/every")]);
        let listed = podman.say(&["images", "--format={{.Repository}}:{{.Tag}}"]);
        let listed: BTreeSet<String> = listed.split_whitespace().map(str::to_owned).collect();
        assert_eq!(listed, tags.map(|tag| target.image(&format!("podman/every:{tag}"))).into());
    }
}

#[test]
fn an_image_is_pulled_by_its_digest_alone() {
    needs!(PODMAN, CURL, UMOCI, BUSYBOX);
    let target = open();
    let home = Home::beside(&target);
    let curl = Curl::of(&home, &target);
    let old = content::busybox();
    curl.push(&old, "podman/pin", "latest");
    curl.push(&content::busybox_arm64(), "podman/pin", "latest");
    let podman = Storage::signed_in("podman", &home, &target);
    podman.has(&podman.pull(&format!("podman/pin@{}", old.root.digest)), &old);
    let absent = Descriptor::of(OCI_MANIFEST, b"nothing has this digest").digest;
    podman.fails(&["pull", "--quiet", &target.image(&format!("podman/pin@{absent}"))]);
}

#[test]
fn a_docker_image_is_pulled_as_it_was_pushed() {
    needs!(PODMAN, SKOPEO, CURL, UMOCI, BUSYBOX);
    let target = guarded();
    let home = Home::beside(&target);
    let image = content::docker();
    Curl::of(&home, &target).push(&image, "podman/docker", "one");
    let podman = Storage::signed_in("podman", &home, &target);
    podman.has(&podman.pull("podman/docker:one"), &image);
    assert!(podman.kept().contains(&digest(&image.manifest())));
}

#[test]
fn repositories_are_searched() {
    needs!(PODMAN, CURL, UMOCI, BUSYBOX);
    for target in targets() {
        let home = Home::beside(&target);
        for repository in ["podman/apple", "podman/pear", "other/apple"] {
            Curl::of(&home, &target).push(&content::busybox(), repository, "one");
        }
        let podman = Storage::signed_in("podman", &home, &target);
        let found = podman.say(&["search", "--format={{.Name}}", &target.image("apple")]);
        let found: BTreeSet<&str> = found.split_whitespace().collect();
        assert_eq!(found, [&*target.image("podman/apple"), &target.image("other/apple")].into());
    }
}
