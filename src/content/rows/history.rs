//! Rows of tags through time: what they pointed at before, since when they point where they do, and when
//! they will go.
//!
//! A tag's present is its row in `tags`, which [`super::content`] writes; the functions here keep the rows
//! beside it. Which of the past is still to be seen is decided in [`crate::content::repository`].

use std::ops::ControlFlow;

use redb::ReadableTable as _;
use serde::{Deserialize, Serialize};

use super::codec::corrupt;
use super::content::TagRow;
use super::schema::{ENDED_TAGS, EXPIRING_TAGS, PAST_OF, PAST_TAGS, TAG_ATTRIBUTES, TAG_STARTS, TAGS};
use super::{Error, Rows, WriteTx, codec};
use crate::kit::clock::{Moment, SteadyTime, Timestamp};
use crate::oci::{Digest, RepositoryName, Tag};

#[cfg(test)]
mod tests;

/// In place of a number within a microsecond: where a tag points now.
const NOW: u32 = u32::MAX;
/// In place of the time at which a tag ceased to point somewhere: it still does.
const NEVER: u64 = u64::MAX;

/// As many rows are held in memory at a time.
const FORGOTTEN_AT_ONCE: usize = 500;

/// What else there is to know of where a tag points now. A tag without a row has none of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TagAttributes {
    /// When the tag is to be removed.
    pub(crate) expires: Option<Timestamp>,
    /// Whether the tag was brought back to point there.
    pub(crate) reversion: bool,
}

/// A key of `ended tags`.
type EndedKey = (u64, String, String, u64, u32);

#[derive(Serialize, Deserialize)]
struct StoredPast {
    digest: Vec<u8>,
    ended: Timestamp,
    reversion: bool,
    /// When it ended by the steady clock. Rows of earlier programs lack it: there was the wall clock alone.
    aged: SteadyTime,
}

/// The same as earlier programs wrote it.
#[derive(Deserialize)]
struct EarlierPast {
    digest: Vec<u8>,
    ended: Timestamp,
    reversion: bool,
}

/// What a tag pointed at before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PastRow {
    pub(crate) digest: Digest,
    /// When the tag was moved or removed.
    pub(crate) ended: Timestamp,
    /// Whether the tag had been brought back to point there.
    pub(crate) reversion: bool,
    /// When it ended, to measure its age.
    pub(crate) aged: SteadyTime,
}

/// What a tag points at, or pointed at before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TagState {
    pub(crate) digest: Digest,
    /// When that ended, or will.
    pub(crate) until: Option<Timestamp>,
    /// Whether the tag was brought back to point there.
    pub(crate) reversion: bool,
}

/// A time in which a tag points, or pointed, at the same manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) started: Timestamp,
    /// When it ended, to measure its age; nothing while it has not.
    pub(crate) ended: Option<SteadyTime>,
    /// Tells spans of a tag apart that started in the same microsecond.
    number: u32,
}

impl Span {
    /// That of a tag that is there.
    pub(crate) const fn current(row: &TagRow) -> Self {
        Self { started: row.moved, ended: None, number: NOW }
    }
}

impl Rows {
    /// What else there is to know of where a tag points now.
    pub(crate) fn tag_attributes(&self, repository: &RepositoryName, tag: &Tag) -> Result<TagAttributes, Error> {
        let table = self.table(TAG_ATTRIBUTES)?;
        let Some(row) = table.get((repository.as_str(), tag.as_str()))? else { return Ok(TagAttributes::default()) };
        codec::row("marks of tags", row.value(), tag.as_str())
    }

    /// The row of a span that has ended, unless it is forgotten.
    pub(crate) fn past_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        span: Span,
    ) -> Result<Option<PastRow>, Error> {
        let table = self.table(PAST_TAGS)?;
        let row = table.get((repository.as_str(), tag.as_str(), span.started.micros(), span.number))?;
        row.map(|row| past(row.value(), tag.as_str())).transpose()
    }

    /// What is known of a span that was visited in the same view.
    pub(crate) fn tag_state(&self, repository: &RepositoryName, tag: &Tag, span: Span) -> Result<TagState, Error> {
        if span.ended.is_some() {
            let row = self.past_tag(repository, tag, span)?;
            let PastRow { digest, ended, reversion, .. } = row.ok_or_else(|| corrupt("past tags", tag.as_str()))?;
            return Ok(TagState { digest, until: Some(ended), reversion });
        }
        let TagRow { digest, .. } = self.tag(repository, tag)?.ok_or_else(|| corrupt("tags", tag.as_str()))?;
        let TagAttributes { expires, reversion } = self.tag_attributes(repository, tag)?;
        Ok(TagState { digest, until: expires, reversion })
    }

    /// Visits the spans of all tags of a repository, the latest start first, until told to stop. Spans of manifests
    /// that were deleted by digest are left out.
    pub(crate) fn each_span(
        &self,
        repository: &RepositoryName,
        mut visit: impl FnMut(&str, Span) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let (table, name) = (self.table(TAG_STARTS)?, repository.as_str());
        for row in table.range((name, 0, "", 0)..(name, u64::MAX, "", 0))?.rev() {
            let (key, ended) = row?;
            let (_, started, tag, number) = key.value();
            if tag.contains(':') {
                continue;
            }
            let ended = Some(ended.value()).filter(|ended| *ended != NEVER).map(SteadyTime::from_micros);
            if visit(tag, Span { started: Timestamp::from_micros(started), ended, number }).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Visits the spans of a tag that have ended and started before `before`, the latest start first, until
    /// told to stop.
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
            let row = past(row.value(), tag)?;
            let span = Span { started: Timestamp::from_micros(started), ended: Some(row.aged), number };
            if visit(span, row).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Whether a tag is to be removed at `now`, or a span ended before `kept_since`.
    pub(crate) fn is_history_due(&self, now: Timestamp, kept_since: SteadyTime) -> Result<bool, Error> {
        let (expiring, ended) = (self.table(EXPIRING_TAGS)?, self.table(ENDED_TAGS)?);
        let expires = expiring.first()?.is_some_and(|(key, _)| key.value().0 <= now.micros());
        Ok(expires || ended.first()?.is_some_and(|(key, _)| key.value().0 < kept_since.micros()))
    }
}

impl WriteTx {
    /// Notes that a tag points somewhere from now on.
    pub(super) fn begin_span(&mut self, repository: &RepositoryName, tag: &Tag, at: Timestamp) -> Result<(), Error> {
        self.table_mut(TAG_STARTS)?.insert((repository.as_str(), at.micros(), tag.as_str(), NOW), NEVER)?;
        Ok(())
    }

    /// Notes that a tag does not point any more where `row` says. `kept` is whether that is remembered.
    pub(super) fn end_span(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        row: &TagRow,
        at: Moment,
        kept: bool,
    ) -> Result<(), Error> {
        let (name, started) = (repository.as_str(), row.moved.micros());
        let mark = self.tag_attributes(repository, tag)?;
        self.set_tag_attributes(repository, tag, &TagAttributes::default())?;
        self.table_mut(TAG_STARTS)?.remove((name, started, tag.as_str(), NOW))?;
        if !kept {
            return Ok(());
        }
        // A clock that was set back must not make an end before a start.
        let (ended, aged) = (at.wall.max(row.moved), at.steady);
        self.remember(
            name,
            tag.as_str(),
            started,
            &PastRow { digest: row.digest, ended, reversion: mark.reversion, aged },
        )
    }

    /// Remembers that a manifest was deleted by digest: the digest is in the place of a tag.
    pub(super) fn add_deletion_span(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        created: Timestamp,
        at: Moment,
    ) -> Result<(), Error> {
        let row = PastRow { digest, ended: at.wall.max(created), reversion: false, aged: at.steady };
        self.remember(repository.as_str(), &digest.to_string(), created.micros(), &row)
    }

    fn remember(&mut self, name: &str, tag: &str, started: u64, row: &PastRow) -> Result<(), Error> {
        let PastRow { digest, ended, reversion, aged } = *row;
        let past = StoredPast { digest: digest.key().to_vec(), ended, reversion, aged };
        let mut table = self.table_mut(PAST_TAGS)?;
        let same_start = (name, tag, started, 0)..(name, tag, started, NOW);
        let last = table.range(same_start)?.next_back().transpose()?;
        let number = last.map_or(0, |(key, _)| key.value().3 + 1);
        table.insert((name, tag, started, number), codec::encode(&past).as_slice())?;
        drop(table);
        self.table_mut(PAST_OF)?.insert((name, digest.key(), tag, started, number), ())?;
        self.table_mut(ENDED_TAGS)?.insert((aged.micros(), name, tag, started, number), ())?;
        self.table_mut(TAG_STARTS)?.insert((name, started, tag, number), aged.micros())?;
        Ok(())
    }

    /// Says something about where a tag points now.
    pub(crate) fn set_tag_attributes(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        mark: &TagAttributes,
    ) -> Result<(), Error> {
        let (name, old) = (repository.as_str(), self.tag_attributes(repository, tag)?);
        if old == *mark {
            return Ok(());
        }
        if let Some(expires) = old.expires {
            self.table_mut(EXPIRING_TAGS)?.remove((expires.micros(), name, tag.as_str()))?;
        }
        if let Some(expires) = mark.expires {
            self.table_mut(EXPIRING_TAGS)?.insert((expires.micros(), name, tag.as_str()), ())?;
        }
        let mut marks = self.table_mut(TAG_ATTRIBUTES)?;
        if *mark == TagAttributes::default() {
            marks.remove((name, tag.as_str()))?;
        } else {
            marks.insert((name, tag.as_str()), codec::encode(mark).as_slice())?;
        }
        Ok(())
    }

    /// At most `limit` tags that are to be removed at `now`.
    pub(crate) fn expired_tags(&self, now: Timestamp, limit: usize) -> Result<Vec<(RepositoryName, Tag)>, Error> {
        let mut tags = Vec::new();
        for row in self.table(EXPIRING_TAGS)?.range(..(now.micros().saturating_add(1), "", ""))?.take(limit) {
            let (key, _) = row?;
            let (_, name, tag) = key.value();
            let parsed = name.parse().ok().zip(tag.parse().ok());
            tags.push(parsed.ok_or_else(|| corrupt("expiring tags", tag))?);
        }
        Ok(tags)
    }

    /// Forgets a span that has ended; says whether it was known.
    pub(crate) fn delete_span(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        span: Span,
        now: impl Into<SteadyTime>,
    ) -> Result<bool, Error> {
        let Some(row) = self.past_tag(repository, tag, span)? else { return Ok(false) };
        let key = (row.aged.micros(), repository.to_string(), tag.to_string(), span.started.micros(), span.number);
        self.remove_span(&key, now.into())?;
        Ok(true)
    }

    /// Forgets the spans that ended before a time, at most `limit` of them, and says how many.
    pub(crate) fn trim_history(
        &mut self,
        before: impl Into<SteadyTime>,
        limit: usize,
        now: impl Into<SteadyTime>,
    ) -> Result<usize, Error> {
        let (before, now) = (before.into(), now.into());
        let mut old: Vec<EndedKey> = Vec::new();
        for row in self.table(ENDED_TAGS)?.range(..(before.micros(), "", "", 0, 0))?.take(limit) {
            let (key, _) = row?;
            let (ended, name, tag, started, number) = key.value();
            old.push((ended, name.to_owned(), tag.to_owned(), started, number));
        }
        for key in &old {
            self.remove_span(key, now)?;
        }
        Ok(old.len())
    }

    /// Forgets at most `limit` spans of a repository, or of all, that have ended, and says how many. What they alone
    /// have named is unreferenced since the latest of their ends. `latest` is that of the spans before.
    pub(crate) fn purge_history(
        &mut self,
        repository: Option<&RepositoryName>,
        limit: usize,
        latest: &mut SteadyTime,
    ) -> Result<usize, Error> {
        let mut ended: Vec<EndedKey> = Vec::new();
        if let Some(repository) = repository {
            let name = repository.as_str();
            for row in self.table(PAST_TAGS)?.range((name, "", 0, 0)..)?.take(limit) {
                let (key, row) = row?;
                let (owner, tag, started, number) = key.value();
                if owner != name {
                    break;
                }
                let aged = past(row.value(), tag)?.aged;
                ended.push((aged.micros(), owner.to_owned(), tag.to_owned(), started, number));
            }
        } else {
            for row in self.table(ENDED_TAGS)?.range(..)?.take(limit) {
                let (key, _) = row?;
                let (aged, name, tag, started, number) = key.value();
                ended.push((aged, name.to_owned(), tag.to_owned(), started, number));
            }
        }
        ended.sort_unstable();
        for key in &ended {
            *latest = SteadyTime::from_micros(key.0).max(*latest);
            self.remove_span(key, *latest)?;
        }
        Ok(ended.len())
    }

    /// Forgets what was remembered of a manifest that was deleted by digest, unless a tag has pointed at it.
    pub(crate) fn delete_deletion_spans(
        &mut self,
        repository: &RepositoryName,
        digest: Digest,
        now: SteadyTime,
    ) -> Result<(), Error> {
        let (name, mut spans) = (repository.as_str(), Vec::new());
        for row in self.table(PAST_OF)?.range((name, digest.key(), "", 0, 0)..)? {
            let (key, _) = row?;
            let (owner, of, tag, started, number) = key.value();
            if owner != name || of != digest.key() {
                break;
            }
            if !tag.contains(':') {
                return Ok(());
            }
            spans.push((tag.to_owned(), started, number));
        }
        for (tag, started, number) in spans {
            let row =
                self.table(PAST_TAGS)?.get((name, tag.as_str(), started, number))?.map(|row| past(row.value(), &tag));
            let Some(row) = row.transpose()? else { continue };
            self.remove_span(&(row.aged.micros(), name.to_owned(), tag, started, number), now)?;
        }
        Ok(())
    }

    /// Forgets everything that the tags of a repository pointed at before.
    pub(crate) fn delete_history(&mut self, repository: &RepositoryName, now: SteadyTime) -> Result<(), Error> {
        let (name, mut after) = (repository.as_str(), (0, String::new(), 0));
        loop {
            let mut part: Vec<EndedKey> = Vec::new();
            let from = (name, after.0, after.1.as_str(), after.2);
            for row in self.table(TAG_STARTS)?.range(from..(name, u64::MAX, "", 0))?.take(FORGOTTEN_AT_ONCE) {
                let (key, ended) = row?;
                let (_, started, tag, number) = key.value();
                part.push((ended.value(), name.to_owned(), tag.to_owned(), started, number));
            }
            for key in part.iter().filter(|(ended, ..)| *ended != NEVER) {
                self.remove_span(key, now)?;
            }
            match part.pop() {
                Some((_, _, tag, started, number)) if part.len() + 1 == FORGOTTEN_AT_ONCE => {
                    after = (started, tag, number);
                }
                _ => return Ok(()),
            }
        }
    }

    fn remove_span(&mut self, key: &EndedKey, now: SteadyTime) -> Result<(), Error> {
        let (ended, name, tag, started, number) = key;
        self.table_mut(ENDED_TAGS)?.remove((*ended, name.as_str(), tag.as_str(), *started, *number))?;
        self.table_mut(TAG_STARTS)?.remove((name.as_str(), *started, tag.as_str(), *number))?;
        let mut table = self.table_mut(PAST_TAGS)?;
        let row = table.remove((name.as_str(), tag.as_str(), *started, *number))?;
        let digest = row.map(|row| past_digest(row.value(), tag)).transpose()?;
        drop(table);
        let Some(digest) = digest else { return Ok(()) };
        self.table_mut(PAST_OF)?.remove((name.as_str(), digest.key(), tag.as_str(), *started, *number))?;
        let repository = name.parse().map_err(|_| corrupt("past tags", name))?;
        self.recheck_manifest(&repository, digest, now)
    }

    /// Notes since when every tag points where it does, for a database whose tags have no history.
    pub(super) fn begin_spans(&mut self) -> Result<(), Error> {
        self.changed = true;
        let (tags, mut starts) = (self.transaction().open_table(*TAGS)?, self.transaction().open_table(*TAG_STARTS)?);
        for row in tags.iter()? {
            let (key, row) = row?;
            let (name, tag) = key.value();
            let moved = super::content::moved(row.value(), tag)?;
            starts.insert((name, moved.micros(), tag, NOW), NEVER)?;
        }
        Ok(())
    }
}

/// What a row of `past tags` says that the tag pointed at.
pub(super) fn past_digest(row: &[u8], tag: &str) -> Result<Digest, Error> {
    past(row, tag).map(|past| past.digest)
}

pub(super) fn past(bytes: &[u8], tag: &str) -> Result<PastRow, Error> {
    let stored = codec::decode(bytes).or_else(|| {
        let EarlierPast { digest, ended, reversion } = codec::decode(bytes)?;
        Some(StoredPast { digest, ended, reversion, aged: SteadyTime::beginning(ended) })
    });
    let StoredPast { digest, ended, reversion, aged } = stored.ok_or_else(|| corrupt("past tags", tag))?;
    let digest = Digest::from_key(&digest).ok_or_else(|| corrupt("past tags", tag))?;
    Ok(PastRow { digest, ended, reversion, aged })
}
