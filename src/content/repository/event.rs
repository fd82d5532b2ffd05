//! The outbox of events: what sinks still need, and what they refused. [`crate::events`] sends them.

use std::collections::BTreeSet;

use bytes::Bytes;
use tokio::sync::futures::Notified;

use super::manifest::PushRights;
use super::{Error, Repository, Stores};
use crate::content::rows::{self, EventKind, EventRow, RefusedEvent, Rows};
use crate::oci::{Digest, Manifest, Reference, Tag};

/// The most refused events that a list shows for each sink.
const LISTED_MAX: usize = 1000;

/// The state of a sink in the outbox.
#[derive(Clone, Debug)]
pub(crate) struct SinkBacklog {
    /// How many events wait, at most.
    pub(crate) waiting: u64,
    /// The events that it refused, with their numbers.
    pub(crate) refused: Vec<(u64, RefusedEvent)>,
}

impl Stores {
    /// Writes events for these sinks from now on. Call it once, before any change.
    pub(crate) fn keep_events(&self, sinks: BTreeSet<String>, limit: u64) -> Result<(), Error> {
        Ok(self.database.keep_events(sinks, limit, self.clock.clone())?)
    }

    /// A future that completes when events are written after this call. `None` without sinks.
    pub(crate) fn events_written(&self) -> Option<Notified<'_>> {
        self.database.events_written()
    }

    /// The number of events that were dropped since the start, because too many waited or were refused.
    pub(crate) fn dropped_events(&self) -> u64 {
        self.database.dropped_events()
    }

    /// At most `limit` events that a sink needs, from its position on.
    pub(crate) fn events_for(&self, sink: &str, limit: usize) -> Result<Vec<(u64, EventRow)>, Error> {
        Ok(self.database.read(|rows| rows.events_for(sink, rows.event_position(sink)?, limit))?)
    }

    /// The manifest of an event, if it still exists or the event has it.
    pub(crate) fn manifest_of_event(&self, event: &EventRow) -> Result<Option<String>, Error> {
        if event.kind == EventKind::ImageLintFailed {
            return Ok(event.manifest.clone());
        }
        let (Ok(name), Ok(digest)) = (event.repository.parse(), event.digest.parse::<Digest>()) else {
            return Ok(None);
        };
        let bytes = self.database.read(|rows| rows.manifest_bytes(&name, digest))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Notes that a sink needs no event before a position.
    pub(crate) fn set_event_position(&self, sink: String, position: u64) -> Result<(), Error> {
        Ok(self.database.write(move |tx| tx.set_event_position(&sink, position))?)
    }

    /// Notes that a sink refused an event, and goes on with the next one.
    pub(crate) fn refuse_event(&self, sink: String, number: u64, refused: RefusedEvent) -> Result<(), Error> {
        let key = sink.clone();
        let is_dropped = self.database.write(move |tx| {
            let is_dropped = tx.add_refused_event(&sink, number, &refused)?;
            tx.set_event_position(&sink, number + 1)?;
            Ok::<_, rows::Error>(is_dropped)
        })?;
        if is_dropped {
            self.database.count_dropped_refusal(&key);
        }
        Ok(())
    }

    /// How many events wait for a sink, and how many it refused.
    pub(crate) fn sink_counts(&self, sink: &str) -> Result<(u64, usize), Error> {
        let count = |rows: &Rows| Ok::<_, rows::Error>((rows.waiting_events(sink)?, rows.refused_count(sink)?));
        Ok(self.database.read(count)?)
    }

    /// The state of a sink.
    pub(crate) fn sink_backlog(&self, sink: &str) -> Result<SinkBacklog, Error> {
        Ok(self.database.read(|rows| {
            Ok::<_, rows::Error>(SinkBacklog {
                waiting: rows.waiting_events(sink)?,
                refused: rows.refused_events(sink, LISTED_MAX)?,
            })
        })?)
    }

    /// Sends events again that a sink refused: those with these numbers, or all. Returns their count.
    pub(crate) fn redeliver_events(&self, sink: String, numbers: Option<Vec<u64>>) -> Result<u64, Error> {
        Ok(self.database.write(move |tx| {
            let refused = tx.refused_events(&sink, usize::MAX)?.into_iter().map(|(number, _)| number);
            let chosen: Vec<u64> =
                refused.filter(|number| numbers.as_ref().is_none_or(|only| only.contains(number))).collect();
            for number in &chosen {
                tx.redeliver_event(&sink, *number)?;
            }
            Ok::<_, rows::Error>(chosen.len() as u64)
        })?)
    }
}

impl Repository {
    /// Writes the events of an image that is refused for its annotations. Nothing else changes, so this transaction has
    /// only them. Fails if the caller may not push it anyway.
    pub(super) fn note_refused_image(
        &self,
        digest: Digest,
        manifest: &Manifest,
        bytes: Bytes,
        tags: Vec<Tag>,
        rights: PushRights,
    ) -> Result<(), Error> {
        if self.stores.events_written().is_none() {
            return self.stores.database.read(|tx| rights.check(tx, &self.name, &tags));
        }
        let (name, request, media_type) = (self.name.clone(), self.request(), manifest.media_type().to_string());
        self.stores.database.write(move |tx| {
            rights.check(tx, &name, &tags)?;
            tx.set_event_origin(request);
            let tags = tags.into_iter().map(Reference::Tag);
            let mut references: Vec<Reference> = tags.collect();
            if references.is_empty() {
                references.push(Reference::Digest(digest));
            }
            for reference in references {
                tx.note_lint(&name, &reference, digest, &media_type, &bytes)?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::content::repository::scene::{Scene, image, push_by_client, rules};
    use crate::content::repository::{MandatoryAnnotations, ManifestTarget, PutManifest, Rules};

    #[test]
    fn the_event_of_a_refused_image_has_its_manifest_also_when_it_is_sent_again() {
        let mandatory_annotations = MandatoryAnnotations::new(&["vendor".to_owned()]);
        let scene = Scene::new(Rules { mandatory_annotations, ..rules() });
        let repository = scene.repository("a");
        let config = repository.push_blob(b"{}");
        let stores = &scene.stores;
        stores.keep_events(BTreeSet::from(["hook".to_owned()]), 10).unwrap();
        let manifest = image(&[config], None, "");
        assert!(push_by_client(&repository, manifest.clone(), "1").is_err());
        // A large manifest would fill the outbox.
        let large = manifest.replace("note", &"n".repeat(20_000));
        assert!(push_by_client(&repository, large, "2").is_err());
        // A caller without the right gets no event.
        let target = ManifestTarget::Tag("3".parse().unwrap());
        let put = PutManifest::new(target, Bytes::from(manifest.clone()));
        let refused = repository.put_manifest(PutManifest { by_client: true, may_create: false, ..put });
        assert!(matches!(refused, Err(Error::NotGranted { .. })), "{refused:?}");
        let seen = || {
            let events = stores.events_for("hook", 10).unwrap();
            let seen = events.into_iter().map(|(number, event)| {
                assert_eq!(event.kind, EventKind::ImageLintFailed);
                (number, event.reference.clone(), stores.manifest_of_event(&event).unwrap())
            });
            seen.collect::<Vec<_>>()
        };
        let both = seen();
        assert_eq!(both.len(), 2, "{both:?}");
        assert_eq!((both[0].1.as_str(), both[0].2.as_deref()), ("1", Some(manifest.as_str())));
        assert_eq!((both[1].1.as_str(), both[1].2.as_deref()), ("2", None));
        let (number, event) = stores.events_for("hook", 1).unwrap().remove(0);
        let refused = RefusedEvent { event, refused: scene.clock.now(), attempts: 1, why: String::new() };
        stores.refuse_event("hook".to_owned(), number, refused).unwrap();
        assert_eq!(stores.redeliver_events("hook".to_owned(), None).unwrap(), 1);
        assert_eq!(seen().last().map(|(_, tag, text)| (tag.as_str(), text.as_deref())), Some(("1", Some(&*manifest))));
    }

    #[test]
    fn refused_events_beyond_the_limit_count_as_dropped() {
        let scene = Scene::new(rules());
        scene.stores.keep_events(BTreeSet::from(["hook".to_owned()]), 100).unwrap();
        scene.repository("a").push_blob(b"x");
        let (_, event) = scene.stores.events_for("hook", 1).unwrap().remove(0);
        let refused = |number| RefusedEvent {
            event: event.clone(),
            refused: crate::kit::clock::Timestamp::from_micros(number),
            attempts: 1,
            why: String::new(),
        };
        for number in 0..1003 {
            scene.stores.refuse_event("hook".to_owned(), number, refused(number)).unwrap();
        }
        let kept = scene.stores.sink_backlog("hook").unwrap().refused;
        assert_eq!((kept.len(), kept[0].0), (1000, 3));
        assert_eq!(scene.stores.dropped_events(), 3);
    }
}
