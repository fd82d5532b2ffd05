//! Layers of types that a repository need not have: those that were pushed are referenced.

use super::*;
use crate::content::repository::Scrubbing;
use crate::content::rows::SETTING_OPTIONAL_LISTED;

const TYPES: [&str; 4] = [
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

fn foreign_image(config: Digest, layers: &[(&str, Digest)]) -> String {
    let layers: Vec<_> = layers
        .iter()
        .map(|(kind, layer)| {
            format!(r#"{{"mediaType":"{kind}","digest":"{layer}","size":1,"urls":["https://example.invalid/layer"]}}"#)
        })
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":1}},"layers":[{}]}}"#,
        layers.join(",")
    )
}

fn assert_rows_agree(scene: &Scene) {
    let mut findings = crate::content::rows::Findings::default();
    scene.stores.database.read(|tx| tx.verify_repository(&"a".parse().unwrap(), &mut findings)).unwrap();
    assert!(findings.derived.is_empty() && findings.lost.is_empty(), "{findings:?}");
}

#[test]
fn a_foreign_layer_is_referenced_whether_it_comes_before_its_manifest_or_after_it() {
    let scene = scene();
    let repository = scene.repository("a");
    let config = repository.push_blob(b"config");
    let named = TYPES.map(|kind| (kind, Digest::of(crate::oci::Algorithm::Sha256, kind.as_bytes())));
    repository.push_blob(TYPES[0].as_bytes());
    repository.push_blob(TYPES[3].as_bytes());
    let manifest = repository.push_manifest(&foreign_image(config, &named), &["latest"]).unwrap();
    repository.push_blob(TYPES[1].as_bytes());
    scene.clock.advance(2 * DELAY);
    assert_eq!(collect(&scene), Collected::default());
    // One that comes when the others were looked at already.
    repository.push_blob(TYPES[2].as_bytes());
    scene.clock.advance(2 * DELAY);
    assert_eq!(collect(&scene), Collected::default());
    for (_, layer) in named {
        assert!(scene.has_file(layer));
        let refused = repository.delete_blob(layer);
        assert!(matches!(refused, Err(Error::BlobReferenced { .. })), "{refused:?}");
    }
    assert_rows_agree(&scene);

    // It goes with the last manifest that names it.
    let second = repository.push_manifest(&foreign_image(config, &named[..1]), &["second"]).unwrap();
    repository.delete(&manifest.to_string()).unwrap();
    scene.clock.advance(2 * DELAY);
    assert_eq!(collect(&scene).blobs, 3);
    assert!(scene.has_file(named[0].1));
    repository.delete(&second.to_string()).unwrap();
    repository.delete_blob(named[0].1).unwrap();
    assert!(!scene.has_file(named[0].1));
}

#[test]
fn foreign_layers_that_an_earlier_program_stored_are_referenced_before_the_first_collection() {
    let scene = scene();
    let repository = scene.repository("a");
    let config = repository.push_blob(b"config");
    let layer = repository.push_blob(TYPES[3].as_bytes());
    let manifest = repository.push_manifest(&foreign_image(config, &[(TYPES[3], layer)]), &["latest"]).unwrap();
    unlist(&scene, layer, manifest);
    scene.clock.advance(2 * DELAY);
    let broken_off = scene
        .stores
        .collect(None, scene.stores.delays(), &WorkProgress::default(), |_| ControlFlow::Break(()))
        .unwrap();
    assert_eq!(broken_off, Collected::default());
    assert!(scene.stores.has_unlisted_layers().unwrap());
    assert_eq!(scene.stores.dry_run_collection(scene.stores.delays(), None).unwrap().collected, Collected::default());
    assert_eq!(collect(&scene), Collected::default());
    assert!(scene.has_file(layer) && !scene.stores.has_unlisted_layers().unwrap());
    assert!(matches!(repository.delete_blob(layer), Err(Error::BlobReferenced { .. })));
    assert_rows_agree(&scene);
}

#[test]
fn a_scrub_finds_nothing_wrong_with_foreign_layers_that_an_earlier_program_stored() {
    let scene = scene();
    let repository = scene.repository("a");
    let config = repository.push_blob(b"config");
    let layer = repository.push_blob(TYPES[3].as_bytes());
    let manifest = repository.push_manifest(&foreign_image(config, &[(TYPES[3], layer)]), &["latest"]).unwrap();
    unlist(&scene, layer, manifest);
    let scrubbing = Scrubbing { repair: false, rate: u64::MAX, unless_since: None };
    let scrubbed = scene.stores.scrub(scrubbing, &WorkProgress::default(), |_| ControlFlow::Continue(())).unwrap();
    assert!(scrubbed.is_clean(), "{scrubbed:?}");
    assert!(!scene.stores.has_unlisted_layers().unwrap());
}

/// Makes the database one of an earlier program, which kept no row of this layer.
fn unlist(scene: &Scene, layer: Digest, manifest: Digest) {
    let (name, since) = ("a".parse().unwrap(), scene.clock.now());
    let as_before = scene.stores.database.write(move |tx| {
        tx.remove_listing(&name, layer, manifest, since)?;
        tx.set_setting(SETTING_OPTIONAL_LISTED, &[0])
    });
    as_before.unwrap();
}
