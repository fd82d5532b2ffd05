//! [`Plan`]: the manifests and blobs of an export, found before anything is written.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Export, ExportError, Exported, Selection};
use crate::content::repository::{Error, ReferrerCursor, Repository, SearchScope};
use crate::oci::layout::{ANNOTATION_IMAGE_NAME, ANNOTATION_REF_NAME};
use crate::oci::{Digest, Manifest, Reference, RepositoryName, Tag};

/// Names and tags that are read at once.
const PAGE: usize = 1000;

/// Something to write.
#[derive(Debug)]
pub(super) enum Piece {
    /// A manifest, and a repository that has it.
    Manifest {
        name: RepositoryName,
        size: u64,
    },
    Blob {
        size: u64,
    },
}

/// A manifest that `index.json` lists.
#[derive(Debug)]
struct Root {
    digest: Digest,
    media_type: String,
    size: u64,
}

/// The content of an export.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) pieces: BTreeMap<Digest, Piece>,
    pub(super) summary: Exported,
    /// By repository and tag. A manifest without a tag has its digest instead.
    roots: BTreeMap<(RepositoryName, String), Root>,
}

/// The used fields of a descriptor in a list of referrers.
#[derive(Deserialize)]
struct Listed {
    digest: String,
}

impl Plan {
    pub(super) fn make(export: &Export<'_>) -> Result<Self, ExportError> {
        let (mut plan, mut unused) = (Self::default(), (0..export.selections.len()).collect::<BTreeSet<_>>());
        let mut last = String::new();
        loop {
            let page = export.stores.catalog(("", &last), PAGE, &SearchScope::All, |_| true)?;
            for name in &page.names {
                // Every stored name is valid.
                let Ok(name) = name.parse::<RepositoryName>() else { continue };
                let mut walk = Walk::new(&mut plan, export, &name);
                if export.selections.is_empty() {
                    walk.everything()?;
                }
                for (at, selection) in export.selections.iter().enumerate() {
                    if selection.matches(&name) && walk.select(selection)? {
                        unused.remove(&at);
                    }
                }
                walk.end();
            }
            match page.next {
                Some(next) => last = next,
                None => break,
            }
        }
        if let Some(at) = unused.first() {
            return Err(ExportError::Nothing { selection: export.selections[*at].to_string() });
        }
        if plan.roots.is_empty() {
            return Err(ExportError::Empty);
        }
        plan.summary.repositories =
            plan.roots.keys().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>().len() as u64;
        Ok(plan)
    }

    /// The index of the layout. Images have full names, and in an export of one repository their tag as well, by which some
    /// tools find them.
    pub(super) fn index(&self) -> Vec<u8> {
        let is_one = self.summary.repositories == 1;
        let manifests: Vec<Value> =
            self.roots.iter().map(|((name, tag), root)| descriptor(name, tag, root, is_one)).collect();
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        })
        .to_string()
        .into_bytes()
    }
}

fn descriptor(name: &RepositoryName, tag: &str, root: &Root, is_one: bool) -> Value {
    let mut annotations = Map::new();
    if tag.parse::<Tag>().is_ok() {
        let full = format!("{name}:{tag}");
        annotations.insert(ANNOTATION_REF_NAME.to_owned(), json!(if is_one { tag } else { &full }));
        annotations.insert(ANNOTATION_IMAGE_NAME.to_owned(), json!(full));
    } else {
        annotations.insert(ANNOTATION_IMAGE_NAME.to_owned(), json!(format!("{name}@{tag}")));
    }
    json!({
        "mediaType": root.media_type,
        "digest": root.digest.to_string(),
        "size": root.size,
        "annotations": annotations,
    })
}

/// Adds what one repository contributes.
struct Walk<'a> {
    plan: &'a mut Plan,
    export: &'a Export<'a>,
    repository: Repository,
    name: RepositoryName,
    /// The manifests that were added, and those among them that an index lists.
    seen: BTreeSet<Digest>,
    children: BTreeSet<Digest>,
    /// Added manifests that have no tag.
    untagged: Vec<(Digest, String, u64)>,
}

impl<'a> Walk<'a> {
    fn new(plan: &'a mut Plan, export: &'a Export<'a>, name: &RepositoryName) -> Self {
        Self {
            plan,
            export,
            repository: export.stores.repository(name),
            name: name.clone(),
            seen: BTreeSet::new(),
            children: BTreeSet::new(),
            untagged: Vec::new(),
        }
    }

    /// Adds what a selection names. Returns whether there is anything.
    fn select(&mut self, selection: &Selection) -> Result<bool, ExportError> {
        match &selection.reference {
            None => self.everything(),
            Some(Reference::Tag(tag)) => self.tag(tag),
            Some(Reference::Digest(digest)) => {
                let is_here = self.repository.manifest_bytes(*digest)?.is_some();
                if is_here {
                    self.manifest(*digest)?;
                }
                Ok(is_here)
            }
        }
    }

    /// Adds all tags and all other manifests.
    fn everything(&mut self) -> Result<bool, ExportError> {
        let mut last = String::new();
        loop {
            let page = self.repository.tags(&last, PAGE)?;
            for tag in &page.tags {
                if let Ok(tag) = tag.parse() {
                    self.tag(&tag)?;
                }
            }
            match page.tags.last() {
                Some(tag) if page.more => last.clone_from(tag),
                _ => break,
            }
        }
        for digest in self.repository.manifest_digests()? {
            self.manifest(digest)?;
        }
        Ok(!self.seen.is_empty())
    }

    fn tag(&mut self, tag: &Tag) -> Result<bool, ExportError> {
        let mut waiting = vec![tag.clone()];
        let mut is_here = false;
        while let Some(tag) = waiting.pop() {
            let Some(digest) = self.repository.tag_target(&tag)? else { continue };
            let key = (self.name.clone(), tag.to_string());
            if self.plan.roots.contains_key(&key) {
                is_here = true;
                continue;
            }
            let Some((media_type, size)) = self.manifest(digest)? else { continue };
            is_here = true;
            self.plan.roots.insert(key, Root { digest, media_type, size });
            self.plan.summary.tags += 1;
            if self.export.referrers {
                waiting.extend(Tag::companions(digest));
            }
        }
        Ok(is_here)
    }

    /// Adds a manifest with everything that it needs, and its referrers. Returns its media type and size, or `None` if it is
    /// not here. Clients choose how deep manifests are nested, so they are a list and not a recursion.
    fn manifest(&mut self, digest: Digest) -> Result<Option<(String, u64)>, ExportError> {
        let mut waiting = vec![digest];
        let mut first = None;
        while let Some(next) = waiting.pop() {
            let Some(bytes) = self.repository.manifest_bytes(next)? else { continue };
            let damaged = |_| Error::Corrupt { what: "the manifest cannot be read", digest: next };
            let manifest = Manifest::read(&bytes, None).map_err(damaged)?;
            let (media_type, size) = (manifest.media_type().to_string(), bytes.len() as u64);
            if next == digest && first.is_none() {
                first = Some((media_type.clone(), size));
            }
            if !self.seen.insert(next) {
                continue;
            }
            self.parts(next, &manifest, &mut waiting)?;
            let piece = Piece::Manifest { name: self.name.clone(), size };
            if self.plan.pieces.insert(next, piece).is_none() {
                self.plan.summary.manifests += 1;
            }
            self.untagged.push((next, media_type, size));
            if self.export.referrers {
                self.referrers(next, &mut waiting)?;
            }
        }
        Ok(first)
    }

    /// Adds the blobs of a manifest, and lists its manifests.
    fn parts(&mut self, digest: Digest, manifest: &Manifest, waiting: &mut Vec<Digest>) -> Result<(), ExportError> {
        for blob in manifest.blobs() {
            self.blob(digest, *blob, true)?;
        }
        for layer in manifest.optional_blobs() {
            self.blob(digest, *layer, false)?;
        }
        let mut is_sparse = false;
        for child in manifest.manifests() {
            if child.is_manifest {
                self.children.insert(child.digest);
                is_sparse |= self.repository.manifest_bytes(child.digest)?.is_none();
                waiting.push(child.digest);
            } else {
                self.blob(digest, child.digest, true)?;
            }
        }
        self.plan.summary.sparse += u64::from(is_sparse);
        Ok(())
    }

    fn blob(&mut self, manifest: Digest, blob: Digest, is_needed: bool) -> Result<(), ExportError> {
        match self.repository.linked_size(blob)? {
            Some(size) => {
                self.plan.pieces.entry(blob).or_insert(Piece::Blob { size });
            }
            None if is_needed => {
                let (manifest, blob) = (Box::new(manifest), Box::new(blob));
                return Err(ExportError::Incomplete { name: self.name.clone(), manifest, blob });
            }
            None => {}
        }
        Ok(())
    }

    /// Lists the referrers of a manifest.
    fn referrers(&self, subject: Digest, waiting: &mut Vec<Digest>) -> Result<(), ExportError> {
        let mut after = ReferrerCursor::default();
        loop {
            let page = self.repository.referrers(subject, &[], after, None)?;
            let list = [b"[", &page.descriptors[..], b"]"].concat();
            let listed: Vec<Listed> = serde_json::from_slice(&list).unwrap_or_default();
            waiting.extend(listed.iter().filter_map(|descriptor| descriptor.digest.parse::<Digest>().ok()));
            match page.next {
                Some(next) => after = next,
                None => return Ok(()),
            }
        }
    }

    /// Lists the manifests that neither a tag nor an index names.
    fn end(self) {
        let tagged: BTreeSet<Digest> = self
            .plan
            .roots
            .range((self.name.clone(), String::new())..)
            .take_while(|((name, _), _)| *name == self.name)
            .map(|(_, root)| root.digest)
            .collect();
        for (digest, media_type, size) in self.untagged {
            if !tagged.contains(&digest) && !self.children.contains(&digest) {
                let key = (self.name.clone(), digest.to_string());
                self.plan.roots.insert(key, Root { digest, media_type, size });
            }
        }
    }
}
