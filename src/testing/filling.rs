//! Fills a store with hundreds of thousands of rows, for `benches/scale`. Pushing them would take too long.
//!
//! Compiled only with the feature `filling`. Writes the rows that pushes would write, through the same functions. The blobs
//! have no files. No other process may have the data directory open.

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::content::blobs::{SystemDisk, Tree};
use crate::content::rows::{AccountRole, Database, Details, Error, Facts, KeyRow, Kind, ManifestRow, UserRow, WriteTx};
use crate::kit::clock::{Clock, Moment};
use crate::oci::{Algorithm, Digest, RepositoryName};

/// The number of additions in one transaction.
const AT_ONCE: usize = 20_000;

/// How many rows of each kind are written.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Repositories `many/000000`…, each with an image tagged `latest`.
    pub repositories: usize,
    /// Blobs, referenced by these repositories.
    pub blobs: usize,
    /// Tags `tag-000000`… of the one image in `large/tags`.
    pub tags: usize,
    /// Referrers of the image in `large/referrers`.
    pub referrers: usize,
    /// Users `user-000000`….
    pub users: usize,
    /// API keys of each user; see [`key`].
    pub keys: usize,
}

/// The name of a part of the store, its number of rows, and by how many bytes the database has grown.
pub type Filled = (&'static str, usize, u64);

/// An API key of a user.
#[must_use]
pub fn key(user: usize, number: usize) -> String {
    format!("zak_{:016x}{number:016x}", user + 1)
}

/// The digest of the image in `large/referrers`.
#[must_use]
pub fn subject() -> String {
    Digest::of(Algorithm::Sha256, image("subject").as_bytes()).to_string()
}

/// Fills the stores of a data directory that a registry has created and closed.
///
/// # Errors
///
/// If the database cannot be opened or written.
pub fn fill(root: &Path, extent: Extent) -> Result<Vec<Filled>, Box<dyn std::error::Error>> {
    let filling = Filling {
        database: Database::open(&Tree::new(root), Arc::new(SystemDisk), true)?,
        now: Moment::beginning(Clock::default().now()),
        repositories: extent.repositories,
    };
    let parts = [
        ("repositories with an image", extent.repositories, repository as One),
        ("blobs", extent.blobs, blob),
        ("tags", extent.tags, tag),
        ("referrers", extent.referrers, referrer),
        ("users", extent.users, user),
    ];
    let mut filled = Vec::new();
    for (what, count, one) in parts {
        filled.push((what, count, filling.add(count, one)?));
    }
    let keys = extent.users * extent.keys;
    let each = extent.keys;
    let size = filling.add(keys, move |tx, at, number| add_key(tx, at, number / each, number % each))?;
    filled.push(("keys", keys, size));
    Ok(filled)
}

struct Filling {
    database: Database,
    now: Moment,
    repositories: usize,
}

/// The arguments of all additions.
#[derive(Clone, Copy)]
struct At {
    now: Moment,
    repositories: usize,
}

/// Adds the rows with a number.
type One = fn(&mut WriteTx, At, usize) -> Result<(), Error>;

impl Filling {
    /// Adds rows. Returns by how many bytes the database has grown.
    fn add(
        &self,
        count: usize,
        one: impl Fn(&mut WriteTx, At, usize) -> Result<(), Error> + Copy + Send + 'static,
    ) -> Result<u64, Error> {
        let at = At { now: self.now, repositories: self.repositories };
        let before = self.size()?;
        for from in (0..count).step_by(AT_ONCE) {
            self.database
                .write(move |tx| (from..count.min(from + AT_ONCE)).try_for_each(|number| one(tx, at, number)))?;
        }
        Ok(self.size()?.saturating_sub(before))
    }

    /// The size of the database. Writes a row first, because a commit frees the pages that the one before replaced.
    fn size(&self) -> Result<u64, Error> {
        self.database.write(|tx| tx.set_setting("filling", b""))?;
        self.database.allocated_bytes()
    }
}

fn name(text: &str) -> RepositoryName {
    text.parse().expect("the name is valid")
}

fn digest(text: &str) -> Digest {
    Digest::of(Algorithm::Sha256, text.as_bytes())
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image of one empty blob.
fn image(note: &str) -> String {
    let config = r#"{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}"#;
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","artifactType":"a/b","config":{config},"layers":[{config}],"annotations":{{"note":"{note}"}}}}"#
    )
}

/// Adds an image and returns its digest.
fn put_image(tx: &mut WriteTx, at: At, repository: &RepositoryName, note: &str) -> Result<Digest, Error> {
    let (bytes, empty) = (image(note), digest("{}"));
    let digest = digest(&bytes);
    tx.put_link(repository, empty, 2, at.now)?;
    tx.add_blob_reference(repository, empty)?;
    let row = ManifestRow { media_type: MANIFEST.to_owned(), size: bytes.len() as u64, created: at.now.wall };
    tx.put_manifest(repository, digest, &row, bytes.as_bytes())?;
    let facts = Facts {
        kind: Kind::Artifact,
        artifact_type: Some("a/b".to_owned()),
        platform: None,
        platforms: Vec::new(),
        created: None,
        size: row.size + 2,
        layers: 1,
        pushed: row.created,
        pushed_by: None,
    };
    tx.put_facts(repository, digest, &facts, &Details::default())?;
    Ok(digest)
}

fn put_tag(tx: &mut WriteTx, at: At, repository: &RepositoryName, tag: &str, digest: Digest) -> Result<(), Error> {
    let tag = tag.parse().expect("the tag is valid");
    tx.put_tag(repository, &tag, digest, at.now, false)?;
    Ok(())
}

fn repository(tx: &mut WriteTx, at: At, number: usize) -> Result<(), Error> {
    let repository = name(&format!("many/{number:06}"));
    let digest = put_image(tx, at, &repository, &number.to_string())?;
    put_tag(tx, at, &repository, "latest", digest)
}

fn blob(tx: &mut WriteTx, at: At, number: usize) -> Result<(), Error> {
    let repository = name(&format!("many/{:06}", number % at.repositories));
    let digest = digest(&format!("blob {number}"));
    tx.put_link(&repository, digest, 1, at.now)?;
    tx.add_blob_reference(&repository, digest)
}

fn tag(tx: &mut WriteTx, at: At, number: usize) -> Result<(), Error> {
    let repository = name("large/tags");
    let digest = if number == 0 { put_image(tx, at, &repository, "tags")? } else { digest(&image("tags")) };
    put_tag(tx, at, &repository, &format!("tag-{number:06}"), digest)
}

fn referrer(tx: &mut WriteTx, at: At, number: usize) -> Result<(), Error> {
    let repository = name("large/referrers");
    let subject = if number == 0 { put_image(tx, at, &repository, "subject")? } else { digest(&image("subject")) };
    let bytes = image(&format!("referrer {number}"));
    let of = put_image(tx, at, &repository, &format!("referrer {number}"))?;
    let kind = if number.is_multiple_of(2) { "application/x-even" } else { "application/x-odd" };
    let size = bytes.len();
    let descriptor = format!(r#"{{"mediaType":"{MANIFEST}","digest":"{of}","size":{size},"artifactType":"{kind}"}}"#);
    tx.put_referrer(&repository, subject, kind, of, descriptor.as_bytes())
}

fn user(tx: &mut WriteTx, at: At, number: usize) -> Result<(), Error> {
    let row = UserRow {
        // As long as a real hash. It is not used.
        password: format!("$argon2id$v=19$m=19456,t=2,p=1${}${}", "x".repeat(22), "x".repeat(43)),
        role: AccountRole::Ordinary,
        disabled: false,
        groups: vec!["everybody".to_owned()],
        email: None,
        created: at.now.wall,
    };
    let name = user_name(number);
    tx.set_namespace(&name, Some(&name))?;
    tx.put_user(&name, &row)
}

fn user_name(number: usize) -> String {
    format!("user-{number:06}")
}

fn add_key(tx: &mut WriteTx, at: At, user: usize, number: usize) -> Result<(), Error> {
    let row = KeyRow {
        id: Uuid::from_u64_pair(user as u64, number as u64),
        owner: user_name(user),
        label: format!("key {number}"),
        scopes: None,
        created: at.now.wall,
        expires: None,
        creator_agent: "filling".to_owned(),
        last_used: None,
        incarnation: Some(at.now.wall.micros()),
    };
    let digits = key(user, number);
    tx.put_key(&Sha256::digest(&digits["zak_".len()..]).into(), &row)
}
