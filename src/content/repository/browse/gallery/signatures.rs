//! Referrers of a manifest, and its signatures.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;

use serde::Deserialize;

use super::kept::ENTRY_BYTES;
use super::{Gallery, Stop, reads_of};
use crate::content::repository::Error;
use crate::content::rows::Kind;
use crate::oci::{Digest, RepositoryName, Tag};

/// The most referrers of one manifest.
const REFERRERS_MAX: usize = 1_000;
/// The most referrers of one manifest that are looked at for signatures.
const SIGNATURES_LOOKED_AT_MAX: usize = 50;
/// The artifact type of notation's signatures.
const NOTATION: &str = "application/vnd.cncf.notary.signature";

/// The program that has signed a manifest. Signatures are not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignatureTool {
    Cosign,
    Notation,
}

/// A manifest that refers to another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Referrer {
    pub(crate) media_type: String,
    pub(crate) artifact_type: String,
    pub(crate) size: u64,
    pub(crate) digest: String,
    pub(crate) annotations: Vec<(String, String)>,
}

/// A descriptor as the list of referrers has it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Descriptor {
    media_type: String,
    size: u64,
    annotations: BTreeMap<String, String>,
}

/// Selects referrers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ReferrerQuery {
    /// The artifact types. Empty for all.
    pub(crate) types: Vec<String>,
    pub(crate) with_annotations: bool,
}

impl Referrer {
    fn read(artifact_type: &str, digest: Digest, descriptor: &[u8], with_annotations: bool) -> Self {
        let read: Descriptor = serde_json::from_slice(descriptor).unwrap_or_default();
        let annotations = if with_annotations { read.annotations } else { BTreeMap::new() };
        Self {
            media_type: read.media_type,
            artifact_type: artifact_type.to_owned(),
            size: read.size,
            digest: digest.to_string(),
            annotations: annotations.into_iter().collect(),
        }
    }

    fn bytes(&self) -> usize {
        let texts = self.media_type.len() + self.artifact_type.len() + self.digest.len();
        let annotations =
            self.annotations.iter().map(|(key, value)| size_of::<(String, String)>() + key.len() + value.len());
        size_of::<Self>() + texts + annotations.sum::<usize>()
    }
}

impl Gallery<'_> {
    /// The manifests that refer to a manifest. Reads them once in a request.
    pub(crate) fn referrers(
        &self,
        name: &RepositoryName,
        subject: Digest,
        query: &ReferrerQuery,
    ) -> Result<Rc<[Referrer]>, Error> {
        let key = (name.clone(), subject, query.clone());
        if let Some(known) = self.kept.referrers.borrow().get(&key) {
            return Ok(Rc::clone(known));
        }
        let mut referrers = Vec::new();
        self.read().each_referrer(name, subject, ("", &[]), |artifact_type, digest, descriptor| {
            if !self.count_reads(reads_of(descriptor.len())) {
                return ControlFlow::Break(());
            }
            if query.types.is_empty() || query.types.iter().any(|wanted| wanted == artifact_type) {
                let referrer = Referrer::read(artifact_type, digest, descriptor, query.with_annotations);
                if !self.kept.has_room_for(referrer.bytes()) {
                    self.stop(Stop::Bytes);
                    return ControlFlow::Break(());
                }
                referrers.push(referrer);
            }
            if referrers.len() == REFERRERS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let referrers: Rc<[Referrer]> = referrers.into();
        let texts = name.as_str().len() + query.types.iter().map(String::len).sum::<usize>();
        if self.kept.has_room_for(texts + ENTRY_BYTES) {
            self.kept.referrers.borrow_mut().insert(key, Rc::clone(&referrers));
        }
        Ok(referrers)
    }

    /// The programs that have signed a manifest: one entry for each signature. Reads them once in a request.
    pub(crate) fn signatures(&self, name: &RepositoryName, digest: Digest) -> Result<Rc<[SignatureTool]>, Error> {
        let key = (name.clone(), digest);
        if let Some(known) = self.kept.signatures.borrow().get(&key) {
            return Ok(Rc::clone(known));
        }
        let tools: Rc<[SignatureTool]> = self.read_signatures(name, digest)?.into();
        if self.kept.has_room_for(name.as_str().len() + ENTRY_BYTES) {
            self.kept.signatures.borrow_mut().insert(key, Rc::clone(&tools));
        }
        Ok(tools)
    }

    fn read_signatures(&self, name: &RepositoryName, digest: Digest) -> Result<Vec<SignatureTool>, Error> {
        let (mut tools, mut referrers) = (Vec::new(), Vec::new());
        for tag in Tag::companions(digest).filter(Tag::is_signature) {
            if self.read().tag(name, &tag)?.is_some() {
                tools.push(SignatureTool::Cosign);
            }
        }
        self.read().each_referrer(name, digest, ("", &[]), |artifact_type, referrer, descriptor| {
            referrers.push((artifact_type == NOTATION, referrer));
            let has_more = self.count_reads(reads_of(descriptor.len())) && referrers.len() < SIGNATURES_LOOKED_AT_MAX;
            if has_more { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        for (is_notation, referrer) in referrers {
            if self.is_exhausted() {
                break;
            }
            if self.facts(name, referrer)?.is_some_and(|facts| facts.kind == Kind::Signature) {
                tools.push(if is_notation { SignatureTool::Notation } else { SignatureTool::Cosign });
            }
        }
        Ok(tools)
    }

    /// Whether a manifest has a signature.
    pub(crate) fn is_signed(&self, name: &RepositoryName, digest: Digest) -> Result<bool, Error> {
        Ok(!self.signatures(name, digest)?.is_empty())
    }
}
