//! Every wrong derived row is found and rebuilt.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use super::*;
use crate::content::blobs::{SystemDisk, Tree};
use crate::content::rows::schema::{BLOBS, LINKS, MANIFEST_BYTES, REPOSITORY_ORDER, UNREFERENCED_SINCE};
use crate::content::rows::{Database, Details, Kind, codec};
use crate::kit::clock::Timestamp;
use crate::oci::{Algorithm, Tag};

const NOW: Timestamp = Timestamp::from_micros(1_000_000);

fn name() -> RepositoryName {
    "a/b".parse().unwrap()
}

fn digest(text: &str) -> Digest {
    Digest::of(Algorithm::Sha256, text.as_bytes())
}

fn descriptor(kind: &str, digest: Digest) -> String {
    format!(r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":1}}"#)
}

/// A database with two blobs, one of them referenced; an image with a tag and one with a subject; an index; and a past
/// tag.
fn filled(root: &std::path::Path) -> Database {
    let database = Database::open(&Tree::new(root), Arc::new(SystemDisk), false).unwrap();
    database
        .write(|tx| {
            let name = name();
            for blob in ["referenced", "unreferenced"] {
                tx.put_link(&name, digest(blob), 1, NOW)?;
            }
            let config = descriptor("config.v1+json", digest("referenced"));
            let kind = "application/vnd.oci.image.manifest.v1+json";
            let image = format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{config},"layers":[]}}"#);
            let subject = descriptor("manifest.v1+json", digest(&image));
            let referrer = image.replace("\"layers\"", &format!(r#""subject":{subject},"layers""#));
            let untagged =
                image.replace("}]", "}],\"annotations\":{}").replace("[]}", "[],\"annotations\":{\"a\":\"b\"}}");
            let index_kind = "application/vnd.oci.image.index.v1+json";
            let index = format!(r#"{{"schemaVersion":2,"mediaType":"{index_kind}","manifests":[{subject}]}}"#);
            for (bytes, kind) in [(&image, kind), (&referrer, kind), (&untagged, kind), (&index, index_kind)] {
                let of = digest(bytes);
                let row = ManifestRow { media_type: kind.to_owned(), size: bytes.len() as u64, created: NOW };
                tx.put_manifest(&name, of, &row, bytes.as_bytes())?;
                let manifest = Manifest::read(bytes.as_bytes(), None).unwrap();
                for blob in manifest.blobs() {
                    tx.add_blob_reference(&name, *blob)?;
                }
                for child in manifest.manifests() {
                    tx.put_listing(&name, child.digest, of)?;
                }
                if let Some(subject) = manifest.subject() {
                    let kind = manifest.artifact_type().unwrap_or_default();
                    tx.put_referrer(&name, subject, kind, of, &manifest.referrer_descriptor(of, row.size))?;
                }
                tx.recheck_manifest(&name, of, NOW)?;
                let size = tx.image_size(&name, &manifest, row.size)?;
                tx.put_facts(&name, of, &facts(size), &Details::default())?;
            }
            let tag: Tag = "latest".parse().unwrap();
            tx.put_tag(&name, &tag, digest(&index), NOW, true)?;
            tx.put_tag(&name, &tag, digest(&image), Timestamp::from_micros(2_000_000), true)?;
            Ok::<_, Error>(())
        })
        .unwrap();
    database
}

fn facts(size: u64) -> Facts {
    Facts {
        kind: Kind::Image,
        artifact_type: None,
        platform: None,
        platforms: Vec::new(),
        created: None,
        size,
        layers: 0,
        pushed: NOW,
        pushed_by: Some("alice".to_owned()),
    }
}

fn findings(database: &Database) -> Findings {
    let mut findings = Findings::default();
    database
        .read(|tx| {
            for name in tx.named_repositories("", 10)? {
                tx.verify_repository(&name.parse().unwrap(), &mut findings)?;
            }
            for (digest, _) in tx.blobs(None, 10)? {
                tx.verify_blob(digest, &mut findings)?;
            }
            Ok::<_, Error>(())
        })
        .unwrap();
    findings
}

/// Removes the first row of a table.
macro_rules! drop_first {
    ($table:expr) => {
        |tx: &mut WriteTx| {
            tx.changed = true;
            let popped = tx.unlogged().open_table(*$table)?.pop_first()?.is_some();
            assert!(popped, "the table is empty");
            Ok(())
        }
    };
}

type Break = fn(&mut WriteTx) -> Result<(), Error>;

fn change_repository(tx: &mut WriteTx, change: fn(&mut RepositoryRow)) -> Result<(), Error> {
    tx.change_repository(&name(), NOW, |row, _| change(row))
}

#[test]
fn rows_written_step_by_step_are_those_that_are_derived_at_once() {
    let root = tempfile::tempdir().unwrap();
    let found = findings(&filled(root.path()));
    assert!(found.derived.is_empty() && found.lost.is_empty(), "{found:?}");
}

#[test]
fn every_wrong_derived_row_is_found_and_rebuilt() {
    let breaks: [(&str, Break); 18] = [
        ("a place in an order is missing", drop_first!(REPOSITORY_ORDER)),
        ("a total is too large", |tx| tx.change_repository(&name(), NOW, |_, counted| counted.size += 1)),
        ("a tag is not counted", |tx| tx.change_repository(&name(), NOW, |_, counted| counted.tags -= 1)),
        ("the size of an image is wrong", |tx| {
            let of = tx.contents(&name())?.manifests[0];
            tx.put_facts(&name(), of, &facts(7), &Details::default())
        }),
        ("a listing is missing", drop_first!(LISTINGS)),
        ("a referrer is missing", drop_first!(REFERRERS)),
        ("a tag of a manifest is missing", drop_first!(TAGS_OF)),
        ("a past tag of a manifest is missing", drop_first!(PAST_OF)),
        ("an unreferenced object is missing", drop_first!(UNREFERENCED)),
        ("an unreferenced object is missing in the order of time", drop_first!(UNREFERENCED_SINCE)),
        ("the link of a repository is missing", drop_first!(LINKS_OF)),
        ("the row of the repository is missing", drop_first!(REPOSITORIES)),
        ("one manifest too many", |tx| change_repository(tx, |row| row.manifests += 1)),
        ("one blob too few", |tx| change_repository(tx, |row| row.links -= 1)),
        ("one reference too many", |tx| tx.add_blob_reference(&name(), digest("referenced"))),
        ("no references", |tx| {
            let row = LinkRow { references: 0, created: NOW };
            tx.set_link(&name(), digest("referenced"), &row)
        }),
        ("one listing too many", |tx| tx.put_listing(&name(), digest("child"), digest("index"))),
        ("one link of a blob too many", |tx| {
            let row = codec::encode(&BlobRow { size: 1, links: 2 });
            tx.table_mut(BLOBS)?.insert(digest("unreferenced").key(), row.as_slice())?;
            Ok(())
        }),
    ];
    for (what, damage) in breaks {
        let root = tempfile::tempdir().unwrap();
        let database = filled(root.path());
        database.write(damage).expect(what);
        let found = findings(&database);
        assert!(!found.derived.is_empty(), "{what}: not found");
        database
            .write(|tx| {
                for (digest, _) in tx.blobs(None, 10)? {
                    tx.rebuild_blob(digest)?;
                }
                tx.rebuild_repository(&name(), NOW)
            })
            .unwrap();
        let found = findings(&database);
        assert!(found.derived.is_empty() && found.lost.is_empty(), "{what}: {found:?}");
    }
}

#[test]
fn lost_content_is_named() {
    let losses: [(&str, Break); 3] = [
        ("the bytes of the manifest", drop_first!(MANIFEST_BYTES)),
        ("which the tag latest names", |tx| {
            let tag = tx.tag(&name(), &"latest".parse().unwrap())?.unwrap();
            tx.table_mut(MANIFESTS)?.remove(("a/b", tag.digest.key()))?;
            Ok(())
        }),
        ("the row of the blob", drop_first!(LINKS)),
    ];
    for (what, damage) in losses {
        let root = tempfile::tempdir().unwrap();
        let database = filled(root.path());
        database.write(damage).unwrap();
        let found = findings(&database);
        assert!(found.lost.iter().any(|lost| lost.contains(what)), "{what}: {found:?}");
    }
}
