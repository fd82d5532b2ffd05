//! After any steps with tags, the rows agree with a list in memory.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use proptest::prelude::*;
use redb::TableHandle as _;

use super::*;
use crate::content::blobs::{SystemDisk, Tree};
use crate::content::rows::schema::{SETTING_VERSION, TAG_ATTRIBUTES, TAGS_OF};
use crate::content::rows::{Database, Rows, WriteTx};
use crate::oci::Algorithm;

const REPOSITORIES: [&str; 3] = ["a", "a/b", "b"];
const TAGS_USED: [&str; 2] = ["1", "latest"];

/// A step with a tag of a repository.
#[derive(Clone, Debug)]
enum Step {
    Put { digest: u8, kept: bool },
    Remove { kept: bool },
    Mark { expires: Option<u64>, reversion: bool },
    RemoveExpired,
    Delete { nth: usize },
    Trim { before: u64, limit: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u8, prop::bool::weighted(0.9)).prop_map(|(digest, kept)| Step::Put { digest, kept }),
        2 => prop::bool::weighted(0.9).prop_map(|kept| Step::Remove { kept }),
        2 => (prop::option::of(0..40_u64), any::<bool>())
            .prop_map(|(expires, reversion)| Step::Mark { expires, reversion }),
        1 => Just(Step::RemoveExpired),
        1 => (0..3_usize).prop_map(|nth| Step::Delete { nth }),
        1 => (0..40_u64, 1..3_usize).prop_map(|(before, limit)| Step::Trim { before, limit }),
    ]
}

/// A span in the list in memory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Known {
    repository: usize,
    started: u64,
    tag: usize,
    /// [`NEVER`] while it has not ended.
    ended: u64,
    digest: u8,
    reversion: bool,
    expires: Option<u64>,
}

fn digest(number: u8) -> Digest {
    Digest::of(Algorithm::Sha256, &[number])
}

fn at(micros: u64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn database(root: &std::path::Path) -> Database {
    Database::open(&Tree::new(root), Arc::new(SystemDisk), false).unwrap()
}

/// Applies a step to the rows and to the list.
fn apply(tx: &mut WriteTx, known: &mut Vec<Known>, (repository, tag): (usize, usize), now: u64, step: &Step) {
    let (name, text) = (REPOSITORIES[repository].parse().unwrap(), TAGS_USED[tag].parse().unwrap());
    let of_tag = |span: &Known| (span.repository, span.tag) == (repository, tag);
    let present = known.iter().position(|span| of_tag(span) && span.ended == NEVER);
    let end = |known: &mut Vec<Known>, which: usize, kept: bool| {
        let span = known.remove(which);
        if kept {
            known.push(Known { ended: now, expires: None, ..span });
        }
    };
    match step {
        Step::Put { digest: to, kept } => {
            let moved = tx.put_tag(&name, &text, digest(*to), at(now), *kept).unwrap();
            assert_eq!(moved, present.is_none_or(|present| known[present].digest != *to));
            if moved {
                if let Some(present) = present {
                    end(known, present, *kept);
                }
                let (ended, digest) = (NEVER, *to);
                known.push(Known { repository, started: now, tag, ended, digest, reversion: false, expires: None });
            }
        }
        Step::Remove { kept } => {
            tx.remove_tag(&name, &text, at(now), *kept).unwrap();
            if let Some(present) = present {
                end(known, present, *kept);
            }
        }
        Step::Mark { expires, reversion } => {
            let Some(present) = present else { return };
            let mark = TagAttributes { expires: expires.map(at), reversion: *reversion, ..Default::default() };
            tx.set_tag_attributes(&name, &text, &mark).unwrap();
            (known[present].expires, known[present].reversion) = (*expires, *reversion);
        }
        Step::RemoveExpired => {
            let mut expired = tx.expired_tags(at(now), 100).unwrap();
            for (name, tag) in &expired {
                tx.remove_tag(name, tag, at(now), true).unwrap();
            }
            expired.sort();
            let due = |span: &Known| span.expires.is_some_and(|expires| expires <= now);
            let mut wanted = Vec::new();
            while let Some(which) = known.iter().position(due) {
                let span = &known[which];
                wanted.push((REPOSITORIES[span.repository].parse().unwrap(), TAGS_USED[span.tag].parse().unwrap()));
                end(known, which, true);
            }
            wanted.sort();
            assert_eq!(expired, wanted);
        }
        Step::Delete { nth } => {
            let mut spans = Vec::new();
            tx.each_past_span(&name, &text, None, |span, past| {
                spans.push((span, past));
                ControlFlow::Continue(())
            })
            .unwrap();
            let Some((span, past)) = spans.get(*nth) else { return };
            assert!(tx.delete_span(&name, &text, *span, at(0)).unwrap());
            assert!(!tx.delete_span(&name, &text, *span, at(0)).unwrap(), "it was deleted already");
            let same = |known: &Known| {
                of_tag(known)
                    && known.started == span.started.micros()
                    && (known.ended, digest(known.digest)) == (past.aged.micros(), past.digest)
                    && known.reversion == past.reversion
            };
            // Even if the wall clock was set back, a span does not end before it starts.
            assert_eq!(past.ended.micros(), past.aged.micros().max(span.started.micros()));
            known.remove(known.iter().position(same).unwrap());
        }
        Step::Trim { before, limit } => {
            let mut ends: Vec<u64> = known.iter().map(|span| span.ended).filter(|ended| ended < before).collect();
            ends.sort_unstable();
            // The order of spans with the same end is undefined, so all of them are trimmed.
            let limit = match ends.get(limit.wrapping_sub(1)) {
                Some(last) => ends.iter().filter(|ended| *ended <= last).count(),
                None => *limit,
            };
            let count = tx.trim_history(at(*before), limit, at(*before)).unwrap();
            assert_eq!(count, limit.min(ends.len()));
            if let Some(last) = count.checked_sub(1) {
                known.retain(|span| span.ended > ends[last]);
            }
        }
    }
}

/// Reads the list from the rows. Checks every table.
fn found(tx: &Rows) -> Vec<Known> {
    let mut all = Vec::new();
    let number = |wanted: Digest| (0..3).find(|number| digest(*number) == wanted).unwrap();
    for (repository, name) in REPOSITORIES.iter().map(|name| name.parse().unwrap()).enumerate() {
        let mut last = NEVER;
        let mut spans = Vec::new();
        tx.each_span(&name, |tag, span| {
            spans.push((tag.to_owned(), span));
            ControlFlow::Continue(())
        })
        .unwrap();
        for (text, span) in &spans {
            let state = tx.tag_state(&name, &text.parse().unwrap(), *span).unwrap();
            let started = span.started.micros();
            assert!(started <= last, "the latest start comes first");
            last = started;
            let is_present = span.ended.is_none();
            all.push(Known {
                repository,
                started,
                tag: TAGS_USED.iter().position(|tag| tag == text).unwrap(),
                ended: span.ended.map_or(NEVER, SteadyTime::micros),
                digest: number(state.digest),
                reversion: state.reversion,
                expires: state.until.filter(|_| is_present).map(Timestamp::micros),
            });
        }
        // The spans of each tag are the same, in the same order.
        for text in TAGS_USED {
            let mut of_tag = Vec::new();
            tx.each_past_span(&name, &text.parse().unwrap(), None, |span, _| {
                of_tag.push(span);
                ControlFlow::Continue(())
            })
            .unwrap();
            let past = |(tag, span): &&(String, Span)| tag == text && span.ended.is_some();
            let among_all: Vec<Span> = spans.iter().filter(past).map(|(_, span)| *span).collect();
            assert_eq!(of_tag, among_all);
        }
    }
    let (past, present) =
        (all.iter().filter(|span| span.ended != NEVER).count(), || all.iter().filter(|span| span.ended == NEVER));
    let marked = present().filter(|span| span.reversion || span.expires.is_some()).count();
    let expiring = present().filter(|span| span.expires.is_some()).count();
    for (name, rows, wanted) in [
        (TAG_STARTS.name(), tx.table(TAG_STARTS).unwrap().len(), all.len()),
        (PAST_TAGS.name(), tx.table(PAST_TAGS).unwrap().len(), past),
        (ENDED_TAGS.name(), tx.table(ENDED_TAGS).unwrap().len(), past),
        (TAGS.name(), tx.table(TAGS).unwrap().len(), present().count()),
        (TAGS_OF.name(), tx.table(TAGS_OF).unwrap().len(), present().count()),
        (TAG_ATTRIBUTES.name(), tx.table(TAG_ATTRIBUTES).unwrap().len(), marked),
        (EXPIRING_TAGS.name(), tx.table(EXPIRING_TAGS).unwrap().len(), expiring),
    ] {
        assert_eq!(rows.unwrap(), wanted as u64, "rows of {name}");
    }
    all.sort();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Time passes, stands still, or is set back.
    #[test]
    fn the_rows_of_tags_agree_after_any_steps(
        steps in prop::collection::vec((0..3_usize, 0..2_usize, -2..4_i64, step()), 1..60),
    ) {
        let root = tempfile::tempdir().unwrap();
        let database = database(root.path());
        let (mut known, mut now) = (Vec::new(), 10_u64);
        for (repository, tag, passed, step) in steps {
            now = now.saturating_add_signed(passed).max(1);
            known = database
                .write(move |tx| {
                    apply(tx, &mut known, (repository, tag), now, &step);
                    Ok::<_, Error>(known)
                })
                .unwrap();
            known.sort();
            let found = database.read(|tx| Ok::<_, Error>(found(tx))).unwrap();
            prop_assert_eq!(&found, &known);
        }
    }
}

#[test]
fn a_database_without_history_gets_the_spans_of_its_tags() {
    let root = tempfile::tempdir().unwrap();
    let name: RepositoryName = "a".parse().unwrap();
    let tag: Tag = "latest".parse().unwrap();
    let (of, named) = (name.clone(), tag.clone());
    database(root.path())
        .write(move |tx| {
            tx.put_tag(&of, &named, digest(1), at(7), true)?;
            // Version 1 had no history.
            tx.changed = true;
            tx.unlogged().delete_table(*TAG_STARTS).unwrap();
            tx.unlogged().delete_table(*PAST_TAGS).unwrap();
            tx.set_setting(SETTING_VERSION, &1_u32.to_be_bytes())
        })
        .unwrap();
    let database = database(root.path());
    let mut spans = Vec::new();
    database
        .read(|tx| {
            tx.each_span(&name, |tag, span| {
                spans.push((tag.to_owned(), span));
                ControlFlow::Continue(())
            })
        })
        .unwrap();
    let expected = Span { started: at(7), ended: None, number: NOW };
    assert_eq!(spans, [("latest".to_owned(), expected)]);
    // The history works for this tag.
    let of = name.clone();
    database.write(move |tx| tx.remove_tag(&of, &tag, at(9), true)).unwrap();
    let starts = database.read(|tx| tx.table(TAG_STARTS)?.len()).unwrap();
    assert_eq!(starts, 1);
}
