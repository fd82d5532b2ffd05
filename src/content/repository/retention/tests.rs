//! Random histories: the plan is what an independent reading of the rules says, and the run does what the plan says.
//!
//! `CORACLE_HISTORIES` sets their number.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::*;
use crate::content::repository::scene::{Scene, image, index, rules};
use crate::content::repository::{Delays, Rules, WorkProgress};
use crate::oci::{Reference, TagRule};

const HISTORIES: usize = 300;
const HISTORIES_FULL: usize = 500;
/// Histories that share a database, each in a repository of its own.
const SHARED: usize = 50;
const OPERATIONS: usize = 40;
const TAGS: [&str; 10] = ["latest", "main", "1.0", "v1.2", "1.10", "1.10-rc1", "2", "ci-1", "ci-2", "deadbeef"];
const PATTERNS: [&str; 5] = ["^v?[0-9]", "ci", "^ci-1$", ".*", "^latest$"];
const HISTORY: Duration = Duration::from_hours(500);

fn pause(_: Duration) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn random_policy(random: &mut StdRng, name: &str) -> RetentionPolicy {
    let keep_tags = (0..random.random_range(1..4)).map(|_| {
        let mut maybe = |within: u64| random.random_bool(0.4).then(|| random.random_range(1..within));
        let hours = |hours: Option<u64>| hours.map(Duration::from_hours);
        let count = |count: Option<u64>| usize::try_from(count.unwrap_or(0)).unwrap();
        let conditions = Conditions {
            pushed_within: hours(maybe(60)),
            pulled_within: hours(maybe(60)),
            most_recently_pushed: count(maybe(4)),
            most_recently_pulled: count(maybe(4)),
            highest_version: count(maybe(4)),
            require_all: maybe(2).is_some(),
        };
        let patterns = (0..random.random_range(0..3)).map(|_| *PATTERNS.choose(random).unwrap());
        KeepTags { patterns: patterns.map(|text| TagRule::new(text, "", false).unwrap()).collect(), conditions }
    });
    RetentionPolicy { repositories: vec![name.parse().unwrap()], keep_tags: keep_tags.collect(), ..Default::default() }
}

/// The last ones in an order.
fn first<'a>(
    mut ranked: Vec<&'a Fact>,
    count: usize,
    order: &dyn Fn(&Fact, &Fact) -> std::cmp::Ordering,
) -> BTreeSet<&'a Tag> {
    ranked.sort_by(|one, other| order(other, one));
    ranked.into_iter().take(count).map(|fact| &fact.tag).collect()
}

/// Reads the rules as their documentation says, with whole lists.
fn expected(policy: &RetentionPolicy, now: Timestamp, tags: &BTreeMap<Tag, Fact>) -> BTreeSet<Tag> {
    let entry_of = |tag: &Tag| {
        policy
            .keep_tags
            .iter()
            .position(|entry| entry.patterns.is_empty() || entry.patterns.iter().any(|pattern| pattern.permits(tag)))
    };
    let is_companion = |tag: &Tag| tag.companion_of().is_some();
    let mut kept: BTreeSet<Tag> = tags.keys().filter(|tag| is_companion(tag)).cloned().collect();
    for (number, entry) in policy.keep_tags.iter().enumerate() {
        let of: Vec<&Fact> =
            tags.values().filter(|fact| !is_companion(&fact.tag) && entry_of(&fact.tag) == Some(number)).collect();
        let all: BTreeSet<&Tag> = of.iter().map(|fact| &fact.tag).collect();
        let mut sets = Vec::new();
        let Conditions { pushed_within, pulled_within, .. } = entry.conditions;
        let is_recent = |at: Timestamp, within: Duration| at > now.before(within);
        let within = |holds: &dyn Fn(&Fact) -> bool| {
            of.iter().filter(|fact| holds(fact)).map(|fact| &fact.tag).collect::<BTreeSet<_>>()
        };
        if let Some(time) = pushed_within {
            sets.push(within(&|fact| is_recent(fact.row.moved, time)));
        }
        if let Some(time) = pulled_within {
            sets.push(within(&|fact| {
                is_recent(fact.row.moved, time) || fact.pulled.is_some_and(|pulled| is_recent(pulled, time))
            }));
        }
        let count = entry.conditions.most_recently_pushed;
        if count > 0 {
            sets.push(first(of.clone(), count, &|a, b| (a.row.moved, &a.tag).cmp(&(b.row.moved, &b.tag))));
        }
        let count = entry.conditions.most_recently_pulled;
        if count > 0 {
            let key = |fact: &Fact| (fact.pulled, fact.row.moved, fact.tag.clone());
            sets.push(first(of.clone(), count, &|a, b| key(a).cmp(&key(b))));
        }
        let count = entry.conditions.highest_version;
        if count > 0 {
            // The versions among `TAGS`, in ascending order.
            let order = ["1.0", "v1.2", "1.10-rc1", "1.10", "2"];
            let place = |fact: &Fact| order.iter().position(|tag| *tag == fact.tag.as_str());
            let versions = of.iter().copied().filter(|fact| place(fact).is_some()).collect();
            sets.push(first(versions, count, &|a, b| place(a).cmp(&place(b))));
        }
        for tag in all {
            let held = sets.iter().filter(|set| set.contains(tag)).count();
            if sets.is_empty() || if entry.conditions.require_all { held == sets.len() } else { held > 0 } {
                kept.insert(tag.clone());
            }
        }
    }
    kept
}

/// The tags of a repository with their facts.
fn facts(repository: &Repository) -> BTreeMap<Tag, Fact> {
    let mut all = BTreeMap::new();
    let _ = repository
        .each_fact(true, &pause, |facts| {
            all.extend(facts.into_iter().map(|fact| (fact.tag.clone(), fact)));
            Ok(())
        })
        .unwrap();
    all
}

/// The names of a repository and of the tags that a run removed.
type Removed = (Repository, Vec<(Tag, Digest)>);

fn play(scene: &Scene, random: &mut StdRng, name: &str, policy: &RetentionPolicy) -> Removed {
    let repository = scene.repository(name);
    let config = repository.push_blob(b"{}");
    let mut pushed = Vec::new();
    for number in 0..OPERATIONS {
        let tag: &str = TAGS.choose(random).unwrap();
        match random.random_range(0..10) {
            0..4 => {
                pushed.push(repository.push_manifest(&image(&[config], None, &number.to_string()), &[tag]).unwrap());
            }
            4 => {
                let child = repository.push_manifest(&image(&[config], None, &format!("c{number}")), &[]).unwrap();
                pushed.push(repository.push_manifest(&index(&[child], &number.to_string()), &[tag]).unwrap());
            }
            5 if !pushed.is_empty() => {
                let subject = *pushed.choose(random).unwrap();
                let signature = image(&[config], Some(subject), &format!("s{number}"));
                let companion = format!("sha256-{}.sig", subject.hex());
                let tags: &[&str] = if random.random_bool(0.5) { &[&companion] } else { &[] };
                let _ = repository.push_manifest(&signature, tags);
            }
            6 => {
                let _ = repository.delete(tag);
            }
            7 if !pushed.is_empty() => repository.count_pull(*pushed.choose(random).unwrap()),
            _ => scene.clock.advance(Duration::from_hours(random.random_range(0..20))),
        }
    }
    scene.stores.write_pulls().unwrap();
    let before = facts(&repository);
    let kept = expected(policy, scene.clock.now(), &before);
    let mut planned = BTreeSet::new();
    let walked = repository
        .plan_retention(&pause, |tag| {
            assert_eq!(
                tag.decision.keeps,
                kept.contains(&tag.tag),
                "{name}:{}: {:?} {policy:?}",
                tag.tag,
                tag.decision
            );
            if tag.decision.keeps {
                assert!(tag.decision.until.is_none_or(|until| until > scene.clock.now()));
                planned.insert(tag.tag);
            }
        })
        .unwrap();
    assert!(walked.is_continue() && planned == kept);
    let retained = repository.retain_tags(&pause).unwrap();
    let after: BTreeSet<Tag> = facts(&repository).into_keys().collect();
    assert_eq!(after, planned, "{name}: the run does what the plan says");
    assert_eq!((retained.kept, retained.removed), (after.len() as u64, (before.len() - after.len()) as u64));
    let removed = before.into_values().filter(|fact| !after.contains(&fact.tag));
    (repository.clone(), removed.map(|fact| (fact.tag, fact.row.digest)).collect())
}

/// Everything that a tag needs is there.
fn assert_whole(repository: &Repository, tag: &Tag) {
    let info = repository.manifest_info(&Reference::Tag(tag.clone())).unwrap();
    let manifest = repository
        .stores
        .database
        .read(|tx| super::super::manifest::stored_manifest(tx, &repository.name, info.digest))
        .unwrap()
        .unwrap();
    for child in manifest.manifests() {
        assert!(repository.has_manifest(child.digest), "{}:{tag} lost a manifest", repository.name);
    }
    assert!(manifest.blobs().iter().all(|blob| repository.has_blob(*blob)));
}

/// The referrers of a manifest.
fn referrers(repository: &Repository, digest: Digest) -> usize {
    let mut count = 0;
    let each = |tx: &Rows| {
        tx.each_referrer(&repository.name, digest, ("", &[]), |_, _, _| {
            count += 1;
            ControlFlow::Continue(())
        })
    };
    repository.stores.database.read(each).unwrap();
    count
}

/// Checks [`SHARED`] histories. Returns the number of tags that were removed.
fn check(seed: u64) -> usize {
    let mut removed_tags = 0;
    let mut random = StdRng::seed_from_u64(seed);
    let names: Vec<String> = (0..SHARED).map(|number| format!("h{number}")).collect();
    let policies: Vec<_> = names.iter().map(|name| random_policy(&mut random, name)).collect();
    let retention = Retention::new(policies.clone(), false);
    let hour = Delays::all(Duration::from_hours(1));
    let scene = Scene::new(Rules { tag_history: HISTORY, retention, delays: hour, ..rules() });
    for (name, policy) in names.iter().zip(&policies) {
        let (repository, removed) = play(&scene, &mut random, name, policy);
        removed_tags += removed.len();
        let kept = facts(&repository);
        let signed: BTreeMap<Digest, usize> =
            kept.values().map(|fact| (fact.row.digest, referrers(&repository, fact.row.digest))).collect();
        // Each removed tag returns, also after a garbage collection within the history.
        scene.stores.collect(None, Delays::all(Duration::ZERO), &WorkProgress::default(), pause).unwrap();
        if random.random_bool(0.5) {
            for (tag, digest) in &removed {
                repository.restore_tag(tag, *digest).unwrap();
                assert_whole(&repository, tag);
            }
            continue;
        }
        // Without a restore the rest goes, and what stays is whole.
        scene.clock.advance(HISTORY + Duration::from_hours(1));
        scene.stores.tidy_tags().unwrap();
        scene.stores.collect(None, Delays::all(Duration::ZERO), &WorkProgress::default(), pause).unwrap();
        let left = facts(&repository);
        for fact in kept.values() {
            // A signature goes with its image.
            if let Some(subject) = fact.tag.companion_of().filter(|subject| !repository.has_manifest(*subject)) {
                assert!(!left.contains_key(&fact.tag), "{name}: the signature of {subject} is left");
                continue;
            }
            assert!(left.contains_key(&fact.tag), "{name}:{} is gone", fact.tag);
            assert_whole(&repository, &fact.tag);
            let digest = fact.row.digest;
            assert_eq!(referrers(&repository, digest), signed[&digest], "{name}:{} lost a referrer", fact.tag);
        }
        assert!(removed.iter().all(|(tag, digest)| repository.restore_tag(tag, *digest).is_err()));
    }
    removed_tags
}

#[test]
fn a_run_does_what_the_plan_says_and_everything_can_be_restored() {
    let default = if std::env::var_os("CORACLE_FULL").is_some() { HISTORIES_FULL } else { HISTORIES };
    let histories = std::env::var("CORACLE_HISTORIES").map_or(default, |count| count.parse().unwrap());
    let seeds = histories.div_ceil(SHARED);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let share = |first: usize| (first..seeds).step_by(threads).map(|seed| check(seed as u64)).sum::<usize>();
    let removed_tags: usize = std::thread::scope(|scope| {
        let shares: Vec<_> = (0..threads).map(|first| scope.spawn(move || share(first))).collect();
        shares.into_iter().map(|share| share.join().unwrap_or_else(|failure| std::panic::resume_unwind(failure))).sum()
    });
    println!("{histories} histories removed {removed_tags} tags");
    assert!(removed_tags > histories, "{histories} histories removed {removed_tags} tags");
}

/// A scene with one policy for all repositories.
fn scene_with(policy: RetentionPolicy, is_dry_run: bool) -> Scene {
    let policy = RetentionPolicy { repositories: vec!["**".parse().unwrap()], ..policy };
    Scene::new(Rules { retention: Retention::new(vec![policy], is_dry_run), ..rules() })
}

fn keep(conditions: Conditions) -> RetentionPolicy {
    RetentionPolicy { keep_tags: vec![KeepTags { conditions, ..Default::default() }], ..Default::default() }
}

fn push(repository: &Repository, note: &str, tags: &[&str]) -> Digest {
    let config = repository.push_blob(b"{}");
    repository.push_manifest(&image(&[config], None, note), tags).unwrap()
}

#[test]
fn a_dry_run_removes_nothing() {
    let scene = scene_with(keep(Conditions { most_recently_pushed: 1, ..Default::default() }), true);
    let repository = scene.repository("a");
    push(&repository, "", &["1", "2"]);
    let untagged = push(&repository, "untagged", &[]);
    let mut going = 0;
    let _ = repository.plan_retention(&pause, |tag| going += u64::from(!tag.decision.keeps)).unwrap();
    let retained = repository.retain_tags(&pause).unwrap();
    assert_eq!((going, retained.removed, retained.kept), (1, 0, 2));
    scene.clock.advance(Duration::from_hours(2));
    scene.stores.collect(None, scene.stores.delays(), &WorkProgress::default(), pause).unwrap();
    assert!(repository.has_manifest(untagged), "a dry run keeps untagged manifests");
}

#[test]
fn a_change_tells_which_tags_the_next_run_removes_because_of_it() {
    for is_dry_run in [false, true] {
        let scene = scene_with(keep(Conditions { most_recently_pushed: 1, ..Default::default() }), is_dry_run);
        let repository = scene.repository("a");
        for tag in ["old", "new"] {
            push(&repository, tag, &[tag]);
            scene.clock.advance(Duration::from_secs(1));
        }
        let before = repository.plan_before(&pause).unwrap();
        assert!(repository.removed_since(&before, 10, &pause).unwrap().is_empty());
        push(&repository, "newest", &["newest"]);
        // The next run would have removed the old tag anyway.
        let removed = repository.removed_since(&before, 10, &pause).unwrap();
        let removed: Vec<&str> = removed.iter().map(|planned| planned.tag.as_str()).collect();
        assert_eq!(removed, if is_dry_run { vec![] } else { vec!["new"] });
        assert!(repository.removed_since(&before, 0, &pause).unwrap().is_empty());
    }
}

#[test]
fn unknown_pulls_make_nothing_look_old() {
    let within = Some(Duration::from_hours(10));
    let scene = scene_with(keep(Conditions { pulled_within: within, ..Default::default() }), false);
    let repository = scene.repository("a");
    push(&repository, "", &["1"]);
    scene.clock.advance(Duration::from_hours(20));
    // As after an upgrade or the restoring of a backup.
    let now = scene.clock.now().micros().to_be_bytes();
    let set = move |tx: &mut crate::content::rows::WriteTx| {
        tx.set_setting(crate::content::rows::SETTING_PULLS_KNOWN_SINCE, &now)
    };
    scene.stores.database.write(set).unwrap();
    let removed = || repository.retain_tags(&pause).unwrap().removed;
    assert_eq!(removed(), 0);
    scene.clock.advance(Duration::from_hours(9));
    assert_eq!(removed(), 0);
    scene.clock.advance(Duration::from_hours(1));
    assert_eq!(removed(), 1);
}

#[test]
fn rules_for_untagged_manifests_keep_those_that_meet_one() {
    let keep_untagged =
        Conditions { pulled_within: Some(Duration::from_hours(30)), most_recently_pushed: 1, ..Default::default() };
    let scene = scene_with(RetentionPolicy { keep_untagged: Some(keep_untagged), ..Default::default() }, false);
    let repository = scene.repository("a");
    let (old, pulled) = (push(&repository, "old", &[]), push(&repository, "pulled", &[]));
    scene.clock.advance(Duration::from_hours(20));
    let last = push(&repository, "last", &[]);
    repository.count_pull(pulled);
    scene.stores.write_pulls().unwrap();
    scene.clock.advance(Duration::from_hours(20));
    let collect = || {
        let dry = scene.stores.dry_run_collection(scene.stores.delays(), None).unwrap();
        let collected = scene.stores.collect(None, scene.stores.delays(), &WorkProgress::default(), pause).unwrap();
        assert_eq!(dry.collected.manifests, collected.manifests);
        [old, pulled, last].map(|digest| repository.has_manifest(digest))
    };
    assert_eq!(collect(), [false, true, true]);
    scene.clock.advance(Duration::from_hours(20));
    assert_eq!(collect(), [false, false, true]);
}

#[test]
fn a_tag_that_changes_after_the_plan_stays() {
    let scene = scene_with(keep(Conditions { most_recently_pushed: 1, ..Default::default() }), false);
    let repository = scene.repository("a");
    push(&repository, "1", &["1", "2", "3"]);
    let mut going = Vec::new();
    let _ = repository.plan_retention(&pause, |tag| going.push(tag)).unwrap();
    scene.clock.advance(Duration::from_hours(1));
    push(&repository, "moved", &["2"]);
    repository.delete("3").unwrap();
    assert_eq!(repository.remove_planned(going).unwrap(), 1);
    assert_eq!(facts(&repository).into_keys().map(|tag| tag.to_string()).collect::<Vec<_>>(), ["2"]);
}
