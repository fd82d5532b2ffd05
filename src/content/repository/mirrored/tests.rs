//! Mirrored manifests, their tags and their blobs.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use crate::content::repository::scene::{Scene, image, rules};
use crate::content::rows::Findings;
use crate::oci::Algorithm;

fn put(repository: &Repository, manifest: &str, tag: &str) -> Digest {
    let digest = Digest::of(Algorithm::Sha256, manifest.as_bytes());
    let put = PutMirrored {
        digest,
        tag: Some(tag.parse().unwrap()),
        media_type: MediaType::OCI_MANIFEST.parse().unwrap(),
        bytes: Bytes::from(manifest.to_owned()),
        upstream: "a.example".to_owned(),
    };
    repository.put_mirrored(put).unwrap();
    digest
}

fn assert_rows_agree(repository: &Repository) {
    let mut findings = Findings::default();
    let database = &repository.stores.database;
    database.read(|rows| rows.verify_repository(&repository.name, &mut findings)).unwrap();
    assert!(findings.lost.is_empty() && findings.derived.is_empty(), "{findings:?}");
}

#[test]
fn a_mirrored_manifest_may_lack_its_blobs_and_a_push_makes_it_an_ordinary_one() {
    let scene = Scene::new(rules());
    let repository = scene.repository("a");
    let config = Digest::of(Algorithm::Sha256, b"{}");
    let manifest = image(&[config], None, "x");
    let tag = Reference::Tag("1".parse().unwrap());
    assert_eq!(repository.held(&tag).unwrap(), Held::Nothing);
    let digest = put(&repository, &manifest, "1");
    assert_eq!(repository.held(&tag).unwrap(), Held::Mirrored(digest));
    let state = repository.blob_state(config).unwrap();
    assert_eq!(state, BlobState { is_held: false, is_listed: true, size: None });
    assert_eq!(repository.listed_size(config).unwrap(), Some(1));
    assert_rows_agree(&repository);
    assert!(matches!(
        repository.push_manifest(&manifest, &["1"]),
        Err(Error::ManifestContentMissing { missing }) if missing == [config]
    ));
    assert_eq!(repository.held(&tag).unwrap(), Held::Mirrored(digest));
    repository.push_blob(b"{}");
    assert_rows_agree(&repository);
    repository.push_manifest(&manifest, &["2"]).unwrap();
    let of_client = Reference::Tag("2".parse().unwrap());
    assert_eq!(repository.held(&of_client).unwrap(), Held::Pushed);
    assert_eq!(repository.held(&tag).unwrap(), Held::Mirrored(digest), "each tag has its own origin");
    assert_rows_agree(&repository);
    repository.push_manifest(&manifest, &["1"]).unwrap();
    assert_eq!(repository.held(&tag).unwrap(), Held::Pushed);
    put(&repository, &manifest, "1");
    assert_eq!(repository.held(&tag).unwrap(), Held::Pushed, "an upstream replaces no pushed tag");
    put(&repository, &manifest, "3");
    assert_eq!(repository.held(&Reference::Tag("3".parse().unwrap())).unwrap(), Held::Mirrored(digest));
    assert!(!repository.is_pushed_manifest(&Reference::Digest(digest)).unwrap());
    assert_rows_agree(&repository);
    repository.delete_manifest(&Reference::Digest(digest), false).unwrap();
    assert_rows_agree(&repository);
}

#[test]
fn a_mirrored_manifest_is_deleted_restored_and_removed_like_others() {
    let scene = Scene::new(rules());
    let repository = scene.repository("a");
    let config = repository.push_blob(b"{}");
    let other = repository.push_manifest(&image(&[config], None, "other"), &["2"]).unwrap();
    let digest = put(&repository, &image(&[config], None, "x"), "1");
    assert_rows_agree(&repository);
    repository.delete_manifest(&Reference::Digest(digest), false).unwrap();
    assert_rows_agree(&repository);
    repository.restore_manifest(digest).unwrap();
    assert_eq!(repository.held(&Reference::Digest(digest)).unwrap(), Held::Mirrored(digest));
    assert_rows_agree(&repository);
    repository.delete_manifest(&Reference::Digest(other), false).unwrap();
    assert!(matches!(repository.delete_blob(config), Err(Error::BlobReferenced { .. })));
    repository.remove().unwrap();
    assert_eq!(repository.held(&Reference::Digest(digest)).unwrap(), Held::Nothing);
}

#[test]
fn a_blob_of_several_repositories_counts_once_for_each_upstream() {
    let scene = Scene::new(rules());
    let config = Digest::of(Algorithm::Sha256, b"{}");
    let manifest = image(&[config], None, "x");
    let names = ["a/one", "a/two", "b/one", "own"];
    for name in names {
        put(&scene.repository(name), &manifest, "1");
    }
    let blob = scene.repository("own").push_blob(b"{}");
    for name in &names[..3] {
        assert!(scene.repository(name).link_mirrored(blob).unwrap());
    }
    let group_of = |name: &RepositoryName| match name.as_str().split_once('/')?.0 {
        "a" => Some(0),
        _ => Some(1),
    };
    let stores = &scene.repository("own").stores;
    let manifest = manifest.len() as u64;
    assert_eq!(
        stores.mirror_holdings(2, &group_of).unwrap(),
        [
            MirrorHolding { repositories: 2, bytes: 2 * manifest + 2 },
            MirrorHolding { repositories: 1, bytes: manifest + 2 }
        ]
    );
}
