//! The history of tags, and changes of tags without a push.
//!
//! The transaction that moves or removes a tag records its previous target, which is kept for
//! [`Rules::tag_history`](super::Rules). An expired target counts as forgotten even before it is removed, so that clients do
//! not see when maintenance runs.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::weight::{Weight, Weights};
use super::{Error, MissingRight, Repository, Stores, deleted};
use crate::content::rows::{self, AuditEvent, Rows, Span, TagAttributes, TagState, WriteTx};
use crate::kit::clock::{SteadyTime, Timestamp};
use crate::oci::{Digest, Reference, RepositoryName, Tag};

#[cfg(test)]
mod tests;

/// Rows that one step reads or removes, so that no other writer waits long.
const STEP: usize = 500;
/// Steps of one maintenance run. The next run does the rest.
const STEPS_MAX: usize = 20;

/// Selects tags of a history.
#[derive(Clone, Debug)]
pub(crate) enum NameFilter {
    Is(String),
    Contains(String),
}

impl NameFilter {
    fn admits(&self, tag: &str) -> bool {
        match self {
            Self::Is(name) => tag == name,
            Self::Contains(part) => tag.contains(part),
        }
    }

    fn only(&self) -> Option<&str> {
        match self {
            Self::Is(name) => Some(name),
            Self::Contains(_) => None,
        }
    }
}

/// Selects a part of a history.
#[derive(Clone, Debug, Default)]
pub(crate) struct HistoryFilter {
    /// A tag must match all of them.
    pub(crate) names: Vec<NameFilter>,
    /// Whether previous targets are left out.
    pub(crate) only_active: bool,
    pub(crate) skip: usize,
    pub(crate) limit: usize,
}

/// A tag during the time in which it points, or pointed, at one manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HistoryEntry {
    pub(crate) tag: Tag,
    pub(crate) started: Timestamp,
    pub(crate) state: TagState,
    /// Whether the tag can be neither moved nor removed.
    pub(crate) is_immutable: bool,
    /// `None` if the manifest no longer exists.
    pub(crate) weight: Option<Weight>,
}

/// A page of a history, the latest start first.
#[derive(Debug, Default)]
pub(crate) struct HistoryPage {
    pub(crate) entries: Vec<HistoryEntry>,
    /// Whether more entries follow.
    pub(crate) more: bool,
}

/// A change of the expiry of a tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// Keeps the expiry. A tag that moves loses it.
    #[default]
    Unchanged,
    Never,
    At(Timestamp),
}

/// A change of a tag.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is another right of the caller")]
pub(crate) struct TagChange {
    /// The new target, if it changes.
    pub(crate) digest: Option<Digest>,
    pub(crate) expires: Expiry,
    /// Whether the caller may create a tag.
    pub(crate) may_create: bool,
    /// Whether the caller may move a tag.
    pub(crate) may_move: bool,
    /// Whether the caller may remove a tag, or let it expire.
    pub(crate) may_delete: bool,
    /// Whether the tag is locked from now on, if that changes.
    pub(crate) immutable: Option<bool>,
    /// Whether the caller may unlock a tag.
    pub(crate) may_administer: bool,
}

/// The rights of a caller to change a tag. Only the transaction knows whether it creates the tag or moves it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TagRights {
    pub(crate) may_create: bool,
    pub(crate) may_move: bool,
}

/// The result of maintaining tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tidied {
    /// Tags that expired.
    pub(crate) tags: usize,
    /// Previous targets that were forgotten.
    pub(crate) past: usize,
}

impl Stores {
    /// Whether previous targets of tags are kept, for pages.
    pub(crate) fn keeps_tag_history(&self) -> bool {
        self.keeps_history()
    }

    /// Whether previous targets of tags are kept.
    pub(super) fn keeps_history(&self) -> bool {
        !self.rules.tag_history.is_zero()
    }

    /// Previous targets from before this time are forgotten.
    pub(super) fn kept_since(&self) -> SteadyTime {
        self.ages.at_least(self.rules.tag_history)
    }

    /// Whether [`Stores::tidy_tags`] has something to do.
    pub(crate) fn is_tidying_due(&self) -> Result<bool, Error> {
        Ok(self.database.read(|tx| tx.is_history_due(self.clock.now(), self.kept_since()))?)
    }

    /// Removes expired tags, except immutable ones, and forgets old previous targets. Maintenance calls it from time to time.
    pub(crate) fn tidy_tags(&self) -> Result<Tidied, Error> {
        let mut tidied = Tidied::default();
        let (now, since, kept) = (self.ages.now(), self.kept_since(), self.keeps_history());
        for _ in 0..STEPS_MAX {
            let immutable = self.rules.immutable.clone();
            let (removed, tags, past) = self.database.write(move |tx| {
                let expired = tx.expired_tags(now.wall, STEP)?;
                let mut removed = 0;
                for (name, tag) in &expired {
                    if immutable.reason(tx, name, tag)?.is_some() {
                        let attributes = TagAttributes { expires: None, ..tx.tag_attributes(name, tag)? };
                        tx.set_tag_attributes(name, tag, &attributes)?;
                    } else {
                        tx.remove_tag(name, tag, now, kept)?;
                        removed += 1;
                    }
                }
                Ok::<_, Error>((removed, expired.len(), tx.trim_history(since, STEP, now)?))
            })?;
            tidied.tags += removed;
            tidied.past += past;
            if tags < STEP && past < STEP {
                break;
            }
        }
        Ok(tidied)
    }
}

impl Stores {
    /// Forgets the history and the deleted manifests of one repository or of all. Garbage collection can then remove their
    /// content. Returns the number of entries.
    pub(crate) fn purge_history(
        &self,
        repository: Option<&RepositoryName>,
        mut pause: impl FnMut(Duration) -> ControlFlow<()>,
    ) -> Result<usize, Error> {
        let (mut purged, mut latest) = (0, SteadyTime::ZERO);
        loop {
            let (began, of) = (Instant::now(), repository.cloned());
            let (count, reached) = self.database.write(move |tx| {
                let count = tx.purge_history(of.as_ref(), STEP, &mut latest)?;
                Ok::<_, Error>((count, latest))
            })?;
            latest = reached;
            purged += count;
            if count < STEP || pause(began.elapsed()).is_break() {
                return Ok(purged);
            }
        }
    }
}

impl Repository {
    /// A page of the history of tags. It takes longer the more entries it skips.
    pub(crate) fn history(&self, filter: &HistoryFilter) -> Result<HistoryPage, Error> {
        let since = self.stores.kept_since();
        self.stores.database.read(|tx| {
            if tx.repository(&self.name)?.is_none() {
                return Err(Error::RepositoryUnknown { name: self.name.clone() });
            }
            let (mut spans, mut skipped, mut more) = (Vec::new(), 0, false);
            let mut visit = |tag: &str, span: Span| {
                let is_past = span.ended.is_some_and(|ended| filter.only_active || ended < since);
                if is_past || !filter.names.iter().all(|name| name.admits(tag)) {
                    return ControlFlow::Continue(());
                }
                if skipped < filter.skip {
                    skipped += 1;
                    return ControlFlow::Continue(());
                }
                more = spans.len() == filter.limit;
                if more {
                    return ControlFlow::Break(());
                }
                spans.push((tag.to_owned(), span));
                ControlFlow::Continue(())
            };
            match filter.names.iter().find_map(NameFilter::only) {
                Some(tag) => self.each_span_of(tx, tag, &mut visit)?,
                None => tx.each_span(&self.name, &mut visit)?,
            }
            let mut weights = Weights::default();
            let mut page = HistoryPage { entries: Vec::with_capacity(spans.len()), more };
            for (tag, span) in spans {
                let tag: Tag = tag.parse().map_err(|_| unreadable("starts of tags", &tag))?;
                let state = tx.tag_state(&self.name, &tag, span)?;
                let weight = weights.of(tx, &self.name, state.digest)?;
                let is_current = span.ended.is_none();
                let immutable = &self.stores.rules.immutable;
                let is_immutable = is_current && immutable.reason(tx, &self.name, &tag)?.is_some();
                page.entries.push(HistoryEntry { tag, started: span.started, state, is_immutable, weight });
            }
            Ok(page)
        })
    }

    /// Visits the entries of one tag. An invalid tag has none.
    fn each_span_of(
        &self,
        tx: &Rows,
        tag: &str,
        visit: &mut dyn FnMut(&str, Span) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let Ok(parsed) = tag.parse::<Tag>() else { return Ok(()) };
        let present = tx.tag(&self.name, &parsed)?.map(|row| Span::current(&row));
        if present.is_some_and(|span| visit(tag, span).is_break()) {
            return Ok(());
        }
        Ok(tx.each_past_span(&self.name, &parsed, None, |span, _| visit(tag, span))?)
    }

    /// Creates or moves a tag, changes its expiry, locks or unlocks it. Locking it removes its expiry.
    pub(crate) fn change_tag(&self, tag: &Tag, change: TagChange) -> Result<(), Error> {
        let (name, tag, now, kept) =
            (self.name.clone(), tag.clone(), self.stores.ages.now(), self.stores.keeps_history());
        let (immutable, quotas) = (self.stores.rules.immutable.clone(), self.stores.rules.quotas.clone());
        if let Some(digest) = change.digest.filter(|_| change.may_create || change.may_move) {
            self.lint_stored(digest, &tag)?;
        }
        self.write(move |tx| {
            let old = tx.tag(&name, &tag)?.map(|row| row.digest);
            // The decision is made in the transaction, because only here it is certain whether the tag exists.
            if let Some(right) = change.missing_right(&tag, old.is_some()) {
                return Err(Error::NotGranted { name, right });
            }
            if tx.repository(&name)?.is_none() {
                return Err(Error::RepositoryUnknown { name });
            }
            match change.digest {
                Some(digest) if tx.manifest(&name, digest)?.is_none() => {
                    return Err(Error::ManifestUnknown { reference: Reference::Digest(digest) });
                }
                None if old.is_none() => return Err(Error::ManifestUnknown { reference: Reference::Tag(tag) }),
                _ => {}
            }
            let mut events = Vec::new();
            if old.is_some() && change.immutable == Some(false) {
                if let Some(by) = immutable.rule(&name, &tag) {
                    return Err(Error::TagImmutable { tag, by });
                }
                events.extend(lock(tx, &name, &tag, false)?);
            }
            if let Some(digest) = change.digest {
                immutable.check_move(tx, &name, &tag, digest)?;
                quotas.check_tags(tx, &name, u64::from(old.is_none()))?;
            }
            if matches!(change.expires, Expiry::At(_))
                && old.is_some_and(|old| change.digest.is_none_or(|to| to == old))
            {
                immutable.check(tx, &name, &tag)?;
            }
            // A tag that is moved loses its expiration.
            let mut before = tx.tag_attributes(&name, &tag)?.expires;
            if let Some(digest) = change.digest {
                tx.put_tag(&name, &tag, digest, now, kept)?;
                if old != Some(digest) {
                    let kind = if old.is_some() { "move_tag" } else { "create_tag" };
                    events.push(pointed(kind, &tag, digest, old));
                    before = None;
                }
            }
            let mark = tx.tag_attributes(&name, &tag)?;
            let expires = match change.expires {
                Expiry::Unchanged => mark.expires,
                Expiry::Never => None,
                Expiry::At(time) => Some(time),
            };
            tx.set_tag_attributes(&name, &tag, &TagAttributes { expires, ..mark })?;
            if expires != before {
                let shown = |time: Option<Timestamp>| time.map_or_else(|| "none".to_owned(), Timestamp::rfc2822);
                let event = AuditEvent::new("change_tag_expiration").with("tag", &tag);
                events.push(event.with("expiration_date", &shown(expires)).with("old_expiration_date", &shown(before)));
            }
            if change.immutable == Some(true) {
                events.extend(lock(tx, &name, &tag, true)?);
            }
            Ok(((), events))
        })
    }

    /// Points a tag at a previous target, or at a manifest that was deleted by digest. Returns its target until now.
    pub(crate) fn restore_tag(&self, tag: &Tag, digest: Digest) -> Result<Option<Digest>, Error> {
        self.restore_tag_with(tag, digest, TagRights { may_create: true, may_move: true })
    }

    /// Does the same for a caller with limited rights. A deleted manifest also needs the right to create.
    pub(crate) fn restore_tag_with(&self, tag: &Tag, digest: Digest, may: TagRights) -> Result<Option<Digest>, Error> {
        let since = self.stores.kept_since();
        // The search comes before the transaction, because it may take long.
        let found = self.stores.database.read(|tx| {
            let mut found = None;
            tx.each_past_span(&self.name, tag, None, |span, past| {
                if past.digest != digest || past.aged < since {
                    return ControlFlow::Continue(());
                }
                found = Some(span);
                ControlFlow::Break(())
            })?;
            Ok::<_, Error>(found)
        })?;
        let (name, tag, now, kept) =
            (self.name.clone(), tag.clone(), self.stores.ages.now(), self.stores.keeps_history());
        let (sparse, immutable) = (self.stores.rules.sparse_indexes, self.stores.rules.immutable.clone());
        let quotas = self.stores.rules.quotas.clone();
        self.write(move |tx| {
            let present = tx.tag(&name, &tag)?.map(|row| row.digest);
            let is_known = match found {
                Some(span) => tx.past_tag(&name, &tag, span)?.is_some(),
                None => false,
            };
            if present == Some(digest) {
                return Ok((present, Vec::new()));
            }
            if let Some(right) = may.missing_to_point(&tag, present.is_some()) {
                return Err(Error::NotGranted { name, right });
            }
            if !may.may_create && tx.deleted_manifest(&name, digest)?.is_some() {
                return Err(Error::NotGranted { name, right: MissingRight::RestoreManifest(Box::new(digest)) });
            }
            immutable.check_move(tx, &name, &tag, digest)?;
            quotas.check_tags(tx, &name, u64::from(present.is_none()))?;
            let is_deleted = deleted::restorable(tx, &name, digest, since)?.is_some();
            if !is_known && !is_deleted {
                return Err(Error::TagPastUnknown { tag, digest: Some(digest) });
            }
            if tx.deleted_manifest(&name, digest)?.is_some() {
                deleted::restore(tx, &name, digest, now, sparse, None)?;
            } else if tx.manifest(&name, digest)?.is_none() {
                return Err(Error::ManifestUnknown { reference: Reference::Digest(digest) });
            }
            tx.put_tag(&name, &tag, digest, now, kept)?;
            tx.set_tag_attributes(&name, &tag, &TagAttributes { reversion: true, ..TagAttributes::default() })?;
            Ok((present, vec![pointed("revert_tag", &tag, digest, present)]))
        })
    }

    /// Removes a tag permanently: it cannot be restored. With a digest, only if the tag points at it.
    pub(crate) fn discard_tag(&self, tag: &Tag, digest: Option<Digest>) -> Result<(), Error> {
        let (name, tag, now) = (self.name.clone(), tag.clone(), self.stores.ages.now());
        let immutable = self.stores.rules.immutable.clone();
        self.write(move |tx| match tx.tag(&name, &tag)? {
            Some(row) if digest.is_none_or(|digest| digest == row.digest) => {
                immutable.check(tx, &name, &tag)?;
                tx.remove_tag(&name, &tag, now, false)?;
                Ok(((), vec![discarded(&tag, digest)]))
            }
            _ => Err(Error::ManifestUnknown { reference: Reference::Tag(tag) }),
        })
    }

    /// Forgets the previous targets of a tag, or only `digest`. Works in steps; completed steps stay done.
    pub(crate) fn forget_past(&self, tag: &Tag, digest: Option<Digest>) -> Result<(), Error> {
        let (since, now) = (self.stores.kept_since(), self.stores.ages.steady());
        let (mut last, mut forgotten) = (None, 0);
        let mut digests = HashSet::new();
        loop {
            let (mut spans, mut looked_at) = (Vec::new(), 0);
            self.stores.database.read(|tx| {
                tx.each_past_span(&self.name, tag, last, |span, past| {
                    if digest.is_none_or(|digest| digest == past.digest) && past.aged >= since {
                        spans.push(span);
                        digests.insert(past.digest);
                    }
                    (last, looked_at) = (Some(span), looked_at + 1);
                    if looked_at == STEP { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                })
            })?;
            let (name, of) = (self.name.clone(), tag.clone());
            if !spans.is_empty() {
                let is_first = forgotten == 0;
                forgotten += self.write(move |tx| {
                    let mut forgotten = 0;
                    for span in spans {
                        forgotten += usize::from(tx.delete_span(&name, &of, span, now)?);
                    }
                    let is_event = is_first && forgotten > 0;
                    Ok((forgotten, if is_event { vec![discarded(&of, digest)] } else { Vec::new() }))
                })?;
            }
            if looked_at < STEP {
                break;
            }
        }
        // Deleted manifests that only this history could restore are forgotten as well.
        let name = self.name.clone();
        self.stores.database.write(move |tx| {
            for digest in digests {
                if tx.deleted_manifest(&name, digest)?.is_some() {
                    tx.delete_deletion_spans(&name, digest, now)?;
                }
            }
            Ok::<_, Error>(())
        })?;
        if forgotten == 0 { Err(Error::TagPastUnknown { tag: tag.clone(), digest }) } else { Ok(()) }
    }
}

fn unreadable(table: &'static str, key: &str) -> Error {
    rows::Error::Corrupt { table, key: key.to_owned() }.into()
}

/// Locks or unlocks a tag. Returns the event if that changes it.
fn lock(
    tx: &mut WriteTx,
    name: &RepositoryName,
    tag: &Tag,
    immutable: bool,
) -> Result<Option<AuditEvent>, rows::Error> {
    let before = tx.tag_attributes(name, tag)?;
    let expires = before.expires.filter(|_| !immutable);
    tx.set_tag_attributes(name, tag, &TagAttributes { expires, immutable, ..before })?;
    let event = AuditEvent::new("change_tag_immutability").with("tag", tag).with("immutable", &immutable);
    Ok((before.immutable != immutable).then_some(event))
}

/// The event of a tag that points at another manifest now.
fn pointed(kind: &'static str, tag: &Tag, digest: Digest, original: Option<Digest>) -> AuditEvent {
    let event = AuditEvent::new(kind).with("tag", tag).with("manifest_digest", &digest);
    match original {
        Some(original) => event.with("original_manifest_digest", &original),
        None => event,
    }
}

/// The event of a tag, or of its history, that is removed for good.
fn discarded(tag: &Tag, digest: Option<Digest>) -> AuditEvent {
    let event = AuditEvent::new("permanently_delete_tag").with("tag", tag);
    match digest {
        Some(digest) => event.with("manifest_digest", &digest),
        None => event,
    }
}
