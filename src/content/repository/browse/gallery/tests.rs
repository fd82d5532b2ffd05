//! The work of lists and searches, in names and reads.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use crate::content::repository::scene::{Scene, image, rules};

const REPOSITORIES: usize = 30;

/// Repositories with two tags each. One is hidden, one has no tag, and one has another name.
fn scene() -> Scene {
    let scene = Scene::new(rules());
    let names = (0..REPOSITORIES).map(|number| format!("many/app{number}"));
    for name in names.chain(["hidden/app".to_owned(), "other".to_owned()]) {
        let repository = scene.repository(&name);
        let config = repository.push_blob(name.as_bytes());
        repository.push_manifest(&image(&[config], None, &name), &["1", "v1"]).unwrap();
    }
    scene.repository("many/app-without-tag").push_blob(b"{}");
    scene
}

fn look<T>(scene: &Scene, limits: Limits, look: impl FnOnce(&Gallery<'_>) -> Result<T, Error>) -> T {
    let (sees, deletes) = (|name: &str| name != "hidden/app", |_: &RepositoryName| false);
    let viewer = Viewer { user: Some("alice"), scope: &SearchScope::All, sees: &sees, deletes: &deletes };
    scene.stores.gallery_within(limits, &viewer, look).unwrap()
}

#[test]
fn a_page_and_its_count_cost_one_walk_over_the_names() {
    let scene = scene();
    let limits = Limits::default();
    for sort in [
        RepositorySort::Relevance,
        RepositorySort::Name,
        RepositorySort::NameDescending,
        RepositorySort::Change,
        RepositorySort::Pulls,
        RepositorySort::Stars,
    ] {
        let page = |is_counted: bool, limit: usize| {
            let text = Some("app".to_owned());
            let selection = Selection { text, sort, offset: 3, limit, is_counted, ..Selection::default() };
            look(&scene, limits, |gallery| {
                let selected = gallery.select(&selection)?;
                Ok((selected, limits.names - gallery.names_left.get()))
            })
        };
        let (selected, names) = page(true, 4);
        assert_eq!((selected.total, selected.names.len()), (REPOSITORIES, 4), "{sort:?}");
        // All names once, those of the page twice at most, and those that no page shows.
        assert!(names <= REPOSITORIES + 3 + 7 + 3, "{sort:?}: {names}");
        let (uncounted, names) = page(false, 4);
        assert_eq!(uncounted.names, selected.names, "{sort:?}");
        let all = if sort == RepositorySort::Relevance { REPOSITORIES + 3 } else { 7 + 3 };
        assert!(names <= all, "{sort:?}: {names}");
        let (rest, _) = page(true, 100);
        assert_eq!((rest.total, rest.names.len()), (REPOSITORIES, REPOSITORIES - 3), "{sort:?}");
        assert_eq!(rest.names[..4], selected.names, "{sort:?}");
    }
}

#[test]
fn a_search_for_a_tag_reads_neighbours_at_once() {
    let scene = scene();
    let limits = Limits::default();
    let (found, reads) = look(&scene, limits, |gallery| {
        let found = gallery.images_with_tag_part("v")?;
        Ok((found, limits.reads - gallery.reads_left.get()))
    });
    assert_eq!(found.len(), REPOSITORIES + 1);
    assert!(found.iter().all(|image| image.tag == "v1" && image.repository.as_str() != "hidden/app"));
    // One, and one more after the hidden repository.
    assert_eq!(reads, 2);
    let few = look(&scene, Limits { tags: 10, ..limits }, |gallery| gallery.images_with_tag_part("v"));
    assert_eq!(few.len(), 5);
    let few = look(&scene, Limits { names: 10, ..limits }, |gallery| gallery.images_with_tag_part("v"));
    assert_eq!(few.len(), 9, "the hidden one counts");
}

#[test]
fn a_part_of_the_scope_has_only_its_own_tags() {
    let scene = scene();
    let scope = SearchScope::Some { beginnings: vec!["many/".to_owned()], names: vec!["other".parse().unwrap()] };
    let (sees, deletes) = (|name: &str| name != "many/app1", |_: &RepositoryName| false);
    let viewer = Viewer { user: None, scope: &scope, sees: &sees, deletes: &deletes };
    let found = scene.stores.gallery(&viewer, |gallery| gallery.images_with_tag_part("v")).unwrap();
    assert_eq!(found.len(), REPOSITORIES, "without the hidden one, and with the one outside the namespace");
    assert_eq!(found.last().unwrap().repository.as_str(), "other");
}

#[test]
fn a_request_stops_soon_after_its_last_read() {
    let scene = scene();
    let limits = Limits { reads: 20, ..Limits::default() };
    let filter = RepositoryFilter { systems: vec!["linux".to_owned()], ..RepositoryFilter::default() };
    let selection = Selection { filter, limit: 100, is_counted: true, ..Selection::default() };
    look(&scene, limits, |gallery| {
        assert!(gallery.select(&selection)?.names.is_empty());
        assert!(gallery.is_exhausted());
        Ok(())
    });
    look(&scene, limits, |gallery| {
        let mut images = gallery.images_with_tag_part("1")?;
        gallery.order_images(&mut images, ImageOrder::Created)?;
        assert!(gallery.is_exhausted());
        Ok(())
    });
    let limits = Limits { reads: 1_000, ..limits };
    let left = look(&scene, limits, |gallery| {
        gallery.select(&selection)?;
        Ok(gallery.reads_left.get())
    });
    assert!(left > 0, "the filter read {} rows", limits.reads);
}

#[test]
fn a_filter_says_how_many_repositories_it_has_looked_at() {
    let scene = scene();
    for sort in [RepositorySort::Relevance, RepositorySort::Name, RepositorySort::Stars] {
        let filter = RepositoryFilter { systems: vec!["linux".to_owned()], ..RepositoryFilter::default() };
        let text = Some("app".to_owned());
        let selection = Selection { text, sort, filter, limit: 100, is_counted: true, ..Selection::default() };
        for (filtered, looked_at) in [(5, Some(5)), (REPOSITORIES, None)] {
            let limits = Limits { filtered, ..Limits::default() };
            let selected = look(&scene, limits, |gallery| gallery.select(&selection));
            assert_eq!(selected.looked_at, looked_at, "{sort:?}");
        }
    }
}

/// Pushes an image with referrers that each have an annotation of some bytes.
fn with_referrers(scene: &Scene, count: usize, bytes: usize) -> (RepositoryName, Digest) {
    let repository = scene.repository("many/app0");
    let subject =
        repository.push_manifest(&image(&[repository.push_blob(b"subject")], None, "subject"), &["1"]).unwrap();
    for number in 0..count {
        let config = repository.push_blob(b"{}");
        let note = format!("{number}{}", "a".repeat(bytes));
        repository.push_manifest(&image(&[config], Some(subject), &note), &[]).unwrap();
    }
    ("many/app0".parse().unwrap(), subject)
}

#[test]
fn referrers_are_read_once_and_within_limits() {
    let scene = Scene::new(rules());
    let (name, subject) = with_referrers(&scene, 40, 2_000);
    let limits = Limits::default();
    let all = ReferrerQuery { with_annotations: true, ..ReferrerQuery::default() };
    look(&scene, limits, |gallery| {
        let found = gallery.referrers(&name, subject, &all)?;
        assert!(found.len() == 40 && found.iter().all(|referrer| !referrer.annotations.is_empty()));
        let left = gallery.reads_left.get();
        assert!(limits.reads - left >= 40 * 2_000 / READ_BYTES, "{} reads", limits.reads - left);
        gallery.referrers(&name, subject, &all)?;
        assert_eq!(gallery.reads_left.get(), left);
        let bare = gallery.referrers(&name, subject, &ReferrerQuery::default())?;
        assert!(bare.len() == 40 && bare.iter().all(|referrer| referrer.annotations.is_empty()));
        gallery.signatures(&name, subject)?;
        gallery.newest(&name)?;
        let left = gallery.reads_left.get();
        gallery.signatures(&name, subject)?;
        gallery.newest(&name)?;
        assert_eq!(gallery.reads_left.get(), left);
        assert!(!gallery.is_exhausted());
        Ok(())
    });
    for limits in [Limits { reads: 100, ..limits }, Limits { kept_bytes: 20_000, ..limits }] {
        let found = look(&scene, limits, |gallery| {
            let found = gallery.referrers(&name, subject, &all)?;
            assert!(gallery.is_exhausted() && gallery.why_stopped().unwrap().contains("reads more than"));
            Ok(found.len())
        });
        assert!((1..20).contains(&found), "{found}");
    }
    look(&scene, Limits { reads: 100, ..limits }, |gallery| {
        gallery.signatures(&name, subject)?;
        assert!(gallery.is_exhausted());
        Ok(())
    });
}

#[test]
fn a_request_stops_at_its_deadline_and_when_the_client_has_left() {
    let scene = scene();
    let limits = Limits { duration: Duration::ZERO, ..Limits::default() };
    look(&scene, limits, |gallery| {
        gallery.repository("other")?;
        assert!(gallery.why_stopped().unwrap().contains("takes more than"));
        Ok(())
    });
    look(&scene, Limits::default(), |gallery| {
        let has_left = Arc::new(AtomicBool::new(false));
        gallery.stop_with(Arc::clone(&has_left));
        gallery.repository("other")?;
        assert!(!gallery.is_exhausted());
        has_left.store(true, Ordering::Relaxed);
        gallery.repository("other")?;
        assert_eq!(gallery.why_stopped().unwrap(), "the client has left");
        Ok(())
    });
}
