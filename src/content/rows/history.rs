//! Rows of the tag history: what tags pointed at before, and since when they point where they do.
//!
//! The history is a set of spans. In a span, a tag points at one manifest. [`super::tag`] begins and ends them. A
//! manifest that was deleted by digest also has a span, with its digest in place of a tag.
//! [`crate::content::repository`] decides how long the history is kept.

use std::ops::ControlFlow;

use redb::ReadableTable as _;
use serde::{Deserialize, Serialize};

use super::schema::{ENDED_TAGS, EXPIRING_TAGS, PAST_OF, PAST_TAGS, TAG_STARTS, TAGS};
use super::tag::{TagAttributes, TagRow};
use super::{Error, Rows, WriteTx, codec};
use crate::kit::clock::{Moment, SteadyTime, Timestamp};
use crate::oci::{Digest, RepositoryName, Tag};

#[cfg(test)]
mod tests;

/// The number of the span that a tag is in now.
const NOW: u32 = u32::MAX;
/// The end of a span that has not ended.
const NEVER: u64 = u64::MAX;

/// The number of spans that are deleted at a time. They are held in memory.
const BATCH: usize = 500;

/// A past target of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PastRow {
    pub(crate) digest: Digest,
    /// When the tag was moved or removed, by the wall clock.
    pub(crate) ended: Timestamp,
    /// Whether the tag had been restored to this manifest.
    pub(crate) reversion: bool,
    /// When the tag was moved or removed, by the steady clock, which measures the age.
    pub(crate) aged: SteadyTime,
}

#[derive(Serialize, Deserialize)]
struct StoredPast {
    digest: Vec<u8>,
    ended: Timestamp,
    reversion: bool,
    aged: SteadyTime,
}

/// The row of an earlier program, which had no steady clock.
#[derive(Deserialize)]
struct EarlierPast {
    digest: Vec<u8>,
    ended: Timestamp,
    reversion: bool,
}

impl PastRow {
    pub(super) fn decode(row: &[u8], tag: &str) -> Result<Self, Error> {
        let stored = codec::decode(row).or_else(|| {
            let EarlierPast { digest, ended, reversion } = codec::decode(row)?;
            Some(StoredPast { digest, ended, reversion, aged: SteadyTime::beginning(ended) })
        });
        let StoredPast { digest, ended, reversion, aged } = stored.ok_or_else(|| Error::corrupt(PAST_TAGS, tag))?;
        Ok(Self { digest: codec::digest(PAST_TAGS, &digest)?, ended, reversion, aged })
    }
}

/// The state of a tag in a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TagState {
    pub(crate) digest: Digest,
    /// When the span ended, or will end.
    pub(crate) until: Option<Timestamp>,
    /// Whether the tag was restored to this manifest.
    pub(crate) reversion: bool,
}

/// A time in which a tag points, or pointed, at one manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) started: Timestamp,
    /// When it ended, by the steady clock. `None` if the tag still points there.
    pub(crate) ended: Option<SteadyTime>,
    /// Tells spans of a tag apart that started in the same microsecond.
    number: u32,
}

impl Span {
    /// The span that a tag is in now.
    pub(crate) const fn current(row: &TagRow) -> Self {
        Self { started: row.moved, ended: None, number: NOW }
    }
}

/// The key of a span that has ended, in the order of `ended tags`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct EndedSpan {
    ended: u64,
    repository: String,
    tag: String,
    started: u64,
    number: u32,
}

impl Rows {
    /// The row of a span that has ended. `None` if it was deleted.
    pub(crate) fn past_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        span: Span,
    ) -> Result<Option<PastRow>, Error> {
        let key = (repository.as_str(), tag.as_str(), span.started.micros(), span.number);
        self.get(PAST_TAGS, key, |row| PastRow::decode(row, tag.as_str()))?.transpose()
    }

    /// Whether the history has a manifest.
    pub(crate) fn is_in_history(&self, repository: &RepositoryName, digest: Digest) -> Result<bool, Error> {
        let (name, key) = (repository.as_str(), digest.key());
        let found = self.table(PAST_OF)?.collect((name, key, "", 0, 0).., 1, |(owner, of, ..), ()| {
            Ok(((owner, of) == (name, key)).then_some(()))
        })?;
        Ok(!found.is_empty())
    }

    /// The latest past target of a tag, or of a digest in place of one.
    pub(crate) fn last_past(&self, repository: &RepositoryName, tag: &str) -> Result<Option<PastRow>, Error> {
        let name = repository.as_str();
        let range = (name, tag, 0, 0)..(name, tag, u64::MAX, u32::MAX);
        let rows = self.table(PAST_TAGS)?.collect(range, usize::MAX, |_, row| PastRow::decode(row, tag).map(Some))?;
        Ok(rows.into_iter().max_by_key(|row| row.aged))
    }

    /// The state of a tag in a span that was visited in the same transaction.
    pub(crate) fn tag_state(&self, repository: &RepositoryName, tag: &Tag, span: Span) -> Result<TagState, Error> {
        if span.ended.is_some() {
            let row = self.past_tag(repository, tag, span)?;
            let PastRow { digest, ended, reversion, .. } = row.ok_or_else(|| Error::corrupt(PAST_TAGS, tag))?;
            return Ok(TagState { digest, until: Some(ended), reversion });
        }
        let TagRow { digest, .. } = self.tag(repository, tag)?.ok_or_else(|| Error::corrupt(TAGS, tag))?;
        let TagAttributes { expires, reversion, .. } = self.tag_attributes(repository, tag)?;
        Ok(TagState { digest, until: expires, reversion })
    }

    /// Visits the spans of all tags of a repository, the latest start first, until `visit` breaks. Spans of manifests
    /// that were deleted by digest are left out.
    pub(crate) fn each_span(
        &self,
        repository: &RepositoryName,
        visit: impl FnMut(&str, Span) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.each_span_before(repository, None, visit)
    }

    /// Visits the spans before a start and a tag. Spans with the same start are in the reverse order of their tags.
    pub(crate) fn each_span_before(
        &self,
        repository: &RepositoryName,
        before: Option<(Timestamp, &str)>,
        mut visit: impl FnMut(&str, Span) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let (table, name) = (self.table(TAG_STARTS)?, repository.as_str());
        let (micros, tag) = before.map_or((u64::MAX, ""), |(started, tag)| (started.micros(), tag));
        for row in table.range((name, 0, "", 0)..(name, micros, tag, 0))?.rev() {
            let (key, ended) = row?;
            let (_, started, tag, number) = key.value();
            if is_digest(tag) {
                continue;
            }
            let ended = Some(ended.value()).filter(|ended| *ended != NEVER).map(SteadyTime::from_micros);
            if visit(tag, Span { started: Timestamp::from_micros(started), ended, number }).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Visits the ended spans of a tag that started before `before`, the latest start first, until `visit` breaks.
    pub(crate) fn each_past_span(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        before: Option<Span>,
        mut visit: impl FnMut(Span, PastRow) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let (table, name, tag) = (self.table(PAST_TAGS)?, repository.as_str(), tag.as_str());
        let (micros, number) = before.map_or((u64::MAX, u32::MAX), |span| (span.started.micros(), span.number));
        for row in table.range((name, tag, 0, 0)..(name, tag, micros, number))?.rev() {
            let (key, row) = row?;
            let (_, _, started, number) = key.value();
            let row = PastRow::decode(row.value(), tag)?;
            let span = Span { started: Timestamp::from_micros(started), ended: Some(row.aged), number };
            if visit(span, row).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Whether a tag expires at `now` or before, or a span ended before `kept_since`.
    pub(crate) fn is_history_due(&self, now: Timestamp, kept_since: SteadyTime) -> Result<bool, Error> {
        let (expiring, ended) = (self.table(EXPIRING_TAGS)?, self.table(ENDED_TAGS)?);
        let expires = expiring.first()?.is_some_and(|(key, _)| key.value().0 <= now.micros());
        Ok(expires || ended.first()?.is_some_and(|(key, _)| key.value().0 < kept_since.micros()))
    }

    /// At most `limit` spans that ended before a time, the oldest end first.
    fn spans_ended_before(&self, micros: u64, limit: usize) -> Result<Vec<EndedSpan>, Error> {
        let range = ..(micros, "", "", 0, 0);
        self.table(ENDED_TAGS)?.collect(range, limit, |(ended, name, tag, started, number), ()| {
            Ok(Some(EndedSpan { ended, repository: name.to_owned(), tag: tag.to_owned(), started, number }))
        })
    }

    /// At most `limit` ended spans of a repository.
    fn ended_spans(&self, repository: &RepositoryName, limit: usize) -> Result<Vec<EndedSpan>, Error> {
        let from = (repository.as_str(), "", 0, 0);
        self.table(PAST_TAGS)?.collect(from.., limit, |(name, tag, started, number), row| {
            if name != repository.as_str() {
                return Ok(None);
            }
            let ended = PastRow::decode(row, tag)?.aged.micros();
            Ok(Some(EndedSpan { ended, repository: name.to_owned(), tag: tag.to_owned(), started, number }))
        })
    }
}

impl WriteTx {
    /// Begins the span of a tag that was moved.
    pub(super) fn begin_span(&mut self, repository: &RepositoryName, tag: &Tag, at: Timestamp) -> Result<(), Error> {
        self.insert(TAG_STARTS, (repository.as_str(), at.micros(), tag.as_str(), NOW), NEVER)
    }

    /// Ends the span of a tag. `row` is what the tag points at. `keep` is whether the history keeps the span.
    pub(super) fn end_span(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        row: &TagRow,
        at: Moment,
        keep: bool,
    ) -> Result<(), Error> {
        let TagAttributes { reversion, .. } = self.tag_attributes(repository, tag)?;
        self.set_tag_attributes(repository, tag, &TagAttributes::default())?;
        self.remove(TAG_STARTS, (repository.as_str(), row.moved.micros(), tag.as_str(), NOW))?;
        if !keep {
            return Ok(());
        }
        self.add_past_span(repository, tag.as_str(), row.digest, reversion, (row.moved, at))
    }

    /// Adds a span for a manifest that was deleted by digest.
    pub(super) fn add_deletion_span(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        created: Timestamp,
        at: Moment,
    ) -> Result<(), Error> {
        self.add_past_span(repository, &digest.to_string(), digest, false, (created, at))
    }

    fn add_past_span(
        &mut self,
        repository: &RepositoryName,
        tag: &str,
        digest: Digest,
        reversion: bool,
        (started, at): (Timestamp, Moment),
    ) -> Result<(), Error> {
        // If the wall clock was set back, the span must not end before it starts.
        let (ended, aged) = (at.wall.max(started), at.steady);
        let past = StoredPast { digest: digest.key().to_vec(), ended, reversion, aged };
        let (name, started) = (repository.as_str(), started.micros());
        let mut table = self.table_mut(PAST_TAGS)?;
        let last = table.range((name, tag, started, 0)..(name, tag, started, NOW))?.next_back().transpose()?;
        let number = last.map_or(0, |(key, _)| key.value().3 + 1);
        table.insert((name, tag, started, number), codec::encode(&past).as_slice())?;
        drop(table);
        self.insert(PAST_OF, (name, digest.key(), tag, started, number), ())?;
        self.insert(ENDED_TAGS, (aged.micros(), name, tag, started, number), ())?;
        self.insert(TAG_STARTS, (name, started, tag, number), aged.micros())
    }

    /// Deletes a span that has ended. Returns whether it existed.
    pub(crate) fn delete_span(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        span: Span,
        now: impl Into<SteadyTime>,
    ) -> Result<bool, Error> {
        let Some(row) = self.past_tag(repository, tag, span)? else { return Ok(false) };
        let (repository, tag, started) = (repository.to_string(), tag.to_string(), span.started.micros());
        let span = EndedSpan { ended: row.aged.micros(), repository, tag, started, number: span.number };
        self.remove_span(&span, now.into())?;
        Ok(true)
    }

    /// Deletes at most `limit` spans that ended before a time. Returns their number.
    pub(crate) fn trim_history(
        &mut self,
        before: impl Into<SteadyTime>,
        limit: usize,
        now: impl Into<SteadyTime>,
    ) -> Result<usize, Error> {
        let (old, now) = (self.spans_ended_before(before.into().micros(), limit)?, now.into());
        for span in &old {
            self.remove_span(span, now)?;
        }
        Ok(old.len())
    }

    /// Deletes at most `limit` ended spans of a repository, or of all. Returns their number. A manifest that only these
    /// spans name is unreferenced since the latest of their ends. `latest` carries that end from one call to the next.
    pub(crate) fn purge_history(
        &mut self,
        repository: Option<&RepositoryName>,
        limit: usize,
        latest: &mut SteadyTime,
    ) -> Result<usize, Error> {
        let mut ended = match repository {
            Some(repository) => self.ended_spans(repository, limit)?,
            None => self.spans_ended_before(NEVER, limit)?,
        };
        ended.sort_unstable();
        for span in &ended {
            *latest = SteadyTime::from_micros(span.ended).max(*latest);
            self.remove_span(span, *latest)?;
        }
        Ok(ended.len())
    }

    /// Deletes the spans of a manifest that was deleted by digest, unless the history of a tag has it too.
    pub(crate) fn delete_deletion_spans(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        now: SteadyTime,
    ) -> Result<(), Error> {
        let (name, key) = (repository.as_str(), digest.key());
        let from = (name, key, "", 0, 0);
        let spans = self.table(PAST_OF)?.collect(from.., usize::MAX, |(owner, of, tag, started, number), ()| {
            Ok(((owner, of) == (name, key)).then(|| (tag.to_owned(), started, number)))
        })?;
        if !spans.iter().all(|(tag, ..)| is_digest(tag)) {
            return Ok(());
        }
        for (tag, started, number) in spans {
            let row = self.get(PAST_TAGS, (name, tag.as_str(), started, number), |row| PastRow::decode(row, &tag))?;
            let Some(PastRow { aged, .. }) = row.transpose()? else { continue };
            let span = EndedSpan { ended: aged.micros(), repository: name.to_owned(), tag, started, number };
            self.remove_span(&span, now)?;
        }
        Ok(())
    }

    /// Deletes the whole history of a repository.
    pub(crate) fn delete_history(&mut self, repository: &RepositoryName, now: SteadyTime) -> Result<(), Error> {
        loop {
            let spans = self.ended_spans(repository, BATCH)?;
            for span in &spans {
                self.remove_span(span, now)?;
            }
            if spans.len() < BATCH {
                return Ok(());
            }
        }
    }

    fn remove_span(&mut self, span: &EndedSpan, now: SteadyTime) -> Result<(), Error> {
        let EndedSpan { ended, repository, tag, started, number } = span;
        let (name, tag) = (repository.as_str(), tag.as_str());
        self.remove(ENDED_TAGS, (*ended, name, tag, *started, *number))?;
        self.remove(TAG_STARTS, (name, *started, tag, *number))?;
        let row = self.get(PAST_TAGS, (name, tag, *started, *number), |row| PastRow::decode(row, tag))?;
        let Some(PastRow { digest, .. }) = row.transpose()? else { return Ok(()) };
        self.remove(PAST_TAGS, (name, tag, *started, *number))?;
        self.remove(PAST_OF, (name, digest.key(), tag, *started, *number))?;
        self.recheck_manifest(&codec::parse(PAST_TAGS, name)?, digest, now)
    }

    /// Begins the spans of all tags, for a database from before version 2, which had no history.
    pub(super) fn begin_spans(&mut self) -> Result<(), Error> {
        self.changed = true;
        let mut starts = self.unlogged().open_table(*TAG_STARTS)?;
        self.table(TAGS)?.each(.., |(name, tag), row| {
            let TagRow { moved, .. } = TagRow::decode(row, tag)?;
            starts.insert((name, moved.micros(), tag, NOW), NEVER)?;
            Ok(ControlFlow::Continue(()))
        })
    }
}

/// Whether a digest is in the place of a tag. Tags have no colon.
fn is_digest(tag: &str) -> bool {
    tag.contains(':')
}
