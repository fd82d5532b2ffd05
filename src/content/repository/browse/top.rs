//! [`TopTags`]: the first tags in some order, selected in one walk over all of them.
//!
//! Knows no row. Its memory depends on the length of a page and not on the number of tags.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use super::version;

/// The order of a list of tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TagOrder {
    /// The newest version first.
    #[default]
    Version,
    /// The latest push first. Tags of one moment are in the reverse order of their names.
    Pushed,
    /// By name.
    Name,
    /// The largest image first.
    Size,
    /// The most pulls first.
    Pulls,
}

/// A position in a list of tags: the value that it is ordered by, and the tag. Names and versions need no value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TagCursor {
    pub(super) value: u64,
    pub(super) tag: String,
}

impl fmt::Display for TagCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.value, self.tag)
    }
}

impl FromStr for TagCursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (value, tag) = text.split_once(':').ok_or(())?;
        tag.parse::<crate::oci::Tag>().map_err(drop)?;
        Ok(Self { value: value.parse().map_err(drop)?, tag: tag.to_owned() })
    }
}

/// A tag that is compared with others: its value, its key of [`version`], and its name.
type Compared<'a> = (u64, &'a [u8], &'a str);

impl TagOrder {
    /// Compares two tags, the first one of the list first.
    fn compare(self, (one, a_key, a): Compared<'_>, (other, b_key, b): Compared<'_>) -> Ordering {
        match self {
            Self::Name => a.cmp(b),
            Self::Version => b_key.cmp(a_key),
            Self::Pushed => other.cmp(&one).then_with(|| b.cmp(a)),
            Self::Size | Self::Pulls => other.cmp(&one).then_with(|| b_key.cmp(a_key)),
        }
    }
}

/// A tag with its key.
#[derive(Debug)]
struct Entry {
    cursor: TagCursor,
    key: Vec<u8>,
}

impl Entry {
    fn new(cursor: TagCursor) -> Self {
        let mut key = Vec::new();
        version::write_key(&cursor.tag, &mut key);
        Self { cursor, key }
    }

    fn compared(&self) -> Compared<'_> {
        (self.cursor.value, &self.key, &self.cursor.tag)
    }
}

/// The first tags after a position.
#[derive(Debug)]
pub(super) struct TopTags {
    order: TagOrder,
    after: Option<Entry>,
    limit: usize,
    kept: Vec<Entry>,
    /// Whether no tag after the one at `limit` in `kept` is wanted.
    is_full: bool,
    /// The key of the tag that is offered.
    key: Vec<u8>,
}

/// Kept tags are reduced when there are so many times as many as wanted.
const KEPT_FACTOR: usize = 8;

impl TopTags {
    /// Selects one tag more than `limit`, which says whether there is another page.
    pub(super) fn new(order: TagOrder, after: Option<TagCursor>, limit: usize) -> Self {
        let (after, limit) = (after.map(Entry::new), limit.max(1));
        Self { order, after, limit, kept: Vec::new(), is_full: false, key: Vec::new() }
    }

    pub(super) fn offer(&mut self, value: u64, tag: &str) {
        version::write_key(tag, &mut self.key);
        let compare = |entry: &Entry| self.order.compare((value, &self.key, tag), entry.compared());
        if self.after.as_ref().is_some_and(|after| compare(after).is_le()) {
            return;
        }
        if self.is_full && self.kept.get(self.limit).is_some_and(|last| compare(last).is_ge()) {
            return;
        }
        self.kept.push(Entry { cursor: TagCursor { value, tag: tag.to_owned() }, key: self.key.clone() });
        if self.kept.len() >= KEPT_FACTOR * (self.limit + 1) {
            self.reduce();
        }
    }

    /// Keeps only the tags that are wanted. The last one of them is at `limit` then.
    fn reduce(&mut self) {
        let order = self.order;
        if self.kept.len() > self.limit {
            self.kept.select_nth_unstable_by(self.limit, |a, b| order.compare(a.compared(), b.compared()));
            self.kept.truncate(self.limit + 1);
            self.is_full = true;
        }
    }

    /// The selected tags in their order, and whether there are more.
    pub(super) fn finish(mut self) -> (Vec<TagCursor>, bool) {
        self.reduce();
        let order = self.order;
        self.kept.sort_unstable_by(|a, b| order.compare(a.compared(), b.compared()));
        let has_more = self.kept.len() > self.limit;
        self.kept.truncate(self.limit);
        (self.kept.into_iter().map(|entry| entry.cursor).collect(), has_more)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pages_have_every_tag_once_in_order(
            tags in proptest::collection::btree_map("[a-c0-2][.a-c0-2-]{0,3}", 0_u64..4, 0..40),
            limit in 1_usize..6,
            order in 0_usize..5,
        ) {
            let order = [TagOrder::Version, TagOrder::Pushed, TagOrder::Name, TagOrder::Size, TagOrder::Pulls][order];
            let (mut listed, mut after) = (Vec::new(), None::<TagCursor>);
            loop {
                let again = after.as_ref().map(|after| after.to_string().parse().unwrap());
                let mut top = TopTags::new(order, again, limit);
                for (tag, value) in &tags {
                    top.offer(*value, tag);
                    prop_assert!(top.kept.len() < KEPT_FACTOR * (limit + 1));
                }
                let (page, has_more) = top.finish();
                prop_assert!(page.len() <= limit && (page.len() == limit || !has_more));
                after = page.last().cloned();
                listed.extend(page);
                if !has_more {
                    break;
                }
            }
            for pair in listed.windows(2) {
                let [a, b] = pair else { unreachable!("a window has two") };
                let [a, b] = [a, b].map(|cursor| Entry::new(cursor.clone()));
                prop_assert!(order.compare(a.compared(), b.compared()).is_lt());
            }
            let listed: BTreeMap<_, _> = listed.into_iter().map(|cursor| (cursor.tag, cursor.value)).collect();
            prop_assert_eq!(listed, tags);
        }
    }
}
