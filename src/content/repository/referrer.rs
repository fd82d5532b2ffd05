//! Referrers of a manifest.

use std::ops::ControlFlow;

use super::{Error, Repository};
use crate::oci::Digest;

/// A page has at most this many descriptors.
const PAGE_COUNT_MAX: usize = 1000;
/// A page with more than one descriptor has at most this many bytes. Clients read no more of a list than of a manifest,
/// 4 MiB.
const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The end of a page. Lists are ordered by artifact type and then by digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReferrerCursor {
    pub(crate) artifact_type: String,
    pub(crate) digest: Option<Digest>,
}

/// A page of referrers.
#[derive(Debug, Default)]
pub(crate) struct ReferrerPage {
    /// Descriptors as JSON, separated by commas.
    pub(crate) descriptors: Vec<u8>,
    /// The position of the next page, if there is one.
    pub(crate) next: Option<ReferrerCursor>,
}

impl Repository {
    /// The manifests with this subject after `after`, restricted to `types` unless that is empty. An unknown subject has no
    /// referrers.
    pub(crate) fn referrers(
        &self,
        subject: Digest,
        types: &[String],
        after: ReferrerCursor,
        limit: Option<usize>,
    ) -> Result<ReferrerPage, Error> {
        let limit = limit.map_or(PAGE_COUNT_MAX, |limit| limit.clamp(1, PAGE_COUNT_MAX));
        let mut page = ReferrerPage::default();
        let mut count = 0;
        let mut last = after;
        // One range for everything, or one for each type.
        let mut ranges: Vec<Option<&str>> = types.iter().map(|kind| Some(kind.as_str())).collect();
        ranges.sort_unstable();
        ranges.dedup();
        if ranges.is_empty() {
            ranges.push(None);
        }
        self.stores.database.read(|tx| {
            for wanted in ranges {
                let start = match wanted {
                    Some(kind) if kind < last.artifact_type.as_str() => continue,
                    Some(kind) if kind > last.artifact_type.as_str() => {
                        ReferrerCursor { artifact_type: kind.to_owned(), digest: None }
                    }
                    _ => last.clone(),
                };
                let after = start.digest.as_ref().map_or(&[][..], Digest::key);
                tx.each_referrer(&self.name, subject, (&start.artifact_type, after), |kind, digest, descriptor| {
                    if wanted.is_some_and(|wanted| wanted != kind) {
                        return ControlFlow::Break(());
                    }
                    let full = count > 0 && page.descriptors.len() + descriptor.len() > PAGE_BYTES_MAX;
                    if count == limit || full {
                        page.next = Some(last.clone());
                        return ControlFlow::Break(());
                    }
                    if count > 0 {
                        page.descriptors.push(b',');
                    }
                    page.descriptors.extend_from_slice(descriptor);
                    count += 1;
                    last = ReferrerCursor { artifact_type: kind.to_owned(), digest: Some(digest) };
                    ControlFlow::Continue(())
                })?;
                if page.next.is_some() {
                    break;
                }
            }
            Ok::<_, Error>(())
        })?;
        Ok(page)
    }
}
