//! Power is lost after every single operation of the disk, in a history of everything that clients do.
//!
//! [`record`] writes down each change of a file, the database's among them; [`history`] lets clients push, mount,
//! tag, delete and sign in, and notes what was there whenever something was answered; [`power`] makes the
//! directories that a disk may show when power was lost after the first so many operations; [`check`] opens a
//! registry's stores on each of them. What must hold is in the design: what was answered for is there, what was
//! not is there wholly or not at all, rows agree with each other, and every blob with a row is a whole file.
//!
//! The same check finds four faults that are planted into the log of what was done, each of which a registry was
//! seen to have: directories that are not synced, files that are not, a database that is not, and a row that comes
//! before its blob.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod check;
mod failed_sync;
mod history;
mod power;
mod record;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use check::Expected;
use history::History;
use parking_lot::Mutex;
use power::{FileId, Operation, Power, Random, Survives};

/// Another one can be tried by `CRASH_SEED`, a decimal number.
const SEED: u64 = 0x00C0_FFEE;
const STEPS: usize = 260;
/// As many images in which anything may have survived, of each cut.
const ANY_COUNT: usize = 2;

/// Waits for what is ready, or will be in a moment.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// Where data directories are made: in memory, if the system has a place for that.
fn scratch() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

fn record(seed: u64, steps: usize) -> History {
    let root = scratch();
    History::new(root.path(), seed, steps)
}

/// What was looked at, and what was wrong first.
#[derive(Debug, Default)]
struct Seen {
    cuts: AtomicUsize,
    images: AtomicUsize,
    found: AtomicBool,
    wrong: Mutex<Option<(usize, String)>>,
}

impl Seen {
    /// Keeps the first of what is wrong.
    fn note(&self, cut: usize, what: String) {
        self.found.store(true, Ordering::Relaxed);
        let mut wrong = self.wrong.lock();
        if wrong.as_ref().is_none_or(|(first, _)| cut < *first) {
            *wrong = Some((cut, what));
        }
    }
}

/// Cuts the history after every operation, until something is wrong.
fn cut_everywhere(history: &History, operations: &[Operation], seed: u64) -> Seen {
    let (looked, next) = (Seen::default(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, Into::into) {
            scope.spawn(|| {
                let root = scratch();
                let (mut power, mut done) = (Power::default(), 0);
                loop {
                    let cut = next.fetch_add(1, Ordering::Relaxed);
                    if cut > operations.len() || looked.found.load(Ordering::Relaxed) {
                        break;
                    }
                    operations[done..cut].iter().for_each(|operation| power.apply(operation));
                    done = cut;
                    let mut random = Random::new(seed ^ cut as u64);
                    cut_once(history, operations, &power, cut, root.path(), &mut random, &looked);
                }
            });
        }
    });
    looked
}

fn cut_once(
    history: &History,
    operations: &[Operation],
    power: &Power,
    cut: usize,
    root: &Path,
    random: &mut Random,
    looked: &Seen,
) {
    let answered = history.steps.partition_point(|step| step.end <= cut).checked_sub(1);
    let began = answered.map_or(0, |answered| history.steps[answered].end);
    let last = cut.checked_sub(1).map(|last| &operations[last]);
    let is_sync = matches!(last, Some(Operation::Sync(_) | Operation::SyncDir(_)));
    let mut all = vec![];
    // What is certain changes with a sync, and what must be there with an answer.
    if is_sync || cut == began {
        all.push(Survives::Nothing);
    }
    if !is_sync || cut == began {
        all.push(Survives::Everything);
    }
    if matches!(last, Some(Operation::Write { .. })) {
        all.push(Survives::TornEnd);
    }
    if !power.is_settled() {
        all.extend([Survives::Anything; ANY_COUNT]);
    }
    for survives in all {
        power.image(survives, random).build(&root.join("data")).unwrap();
        let expected = Expected { history, answered, under_way: cut > began, survives };
        if let Err(wrong) = check::check(&root.join("data"), expected, random) {
            looked.note(cut, format!("{survives:?} of what was not synced survives: {wrong}"));
        }
        looked.images.fetch_add(1, Ordering::Relaxed);
    }
    looked.cuts.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn power_may_be_lost_after_every_operation() {
    let started = Instant::now();
    let seed = std::env::var("CRASH_SEED").map_or(SEED, |seed| seed.parse().unwrap());
    let history = record(seed, STEPS);
    let recorded = started.elapsed();
    let looked = cut_everywhere(&history, &history.operations, seed);
    let (cuts, images) = (looked.cuts.into_inner(), looked.images.into_inner());
    let kinds: Vec<String> = history.kinds.iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
    println!(
        "seed {seed}: {} steps, {} operations of the disk (recorded in {recorded:.1?}); {cuts} cuts, {images} images \
         checked in {:.1?}\n{}",
        history.steps.len(),
        history.operations.len(),
        started.elapsed(),
        kinds.join(", ")
    );
    if let Some((cut, what)) = looked.wrong.into_inner() {
        panic!("after {cut} operations ({:?}): {what}", history.operations.get(cut.saturating_sub(1)));
    }
    assert!(history.steps.len() >= 200 && cuts == history.operations.len() + 1 && images >= 2 * cuts);
    assert!(seed != SEED || history.kinds.values().all(|count| *count > 0), "some kind did not occur");
}

/// What the check says when the log of what was done is another: the first cut at which something is wrong.
fn planted(change: impl Fn(&History) -> Vec<Operation>) -> String {
    let history = record(SEED, STEPS / 4);
    let operations = change(&history);
    assert_eq!(operations.len(), history.operations.len());
    let looked = cut_everywhere(&history, &operations, SEED);
    let images = looked.images.into_inner();
    let (cut, what) = looked.wrong.into_inner().expect("the fault is found");
    println!("found after {cut} operations, {images} images: {what}");
    what
}

/// The log without some operations, from when the registry was open.
fn without(history: &History, is_left_out: impl Fn(&Operation) -> bool) -> Vec<Operation> {
    let opened = history.steps[0].end;
    let each = history.operations.iter().enumerate();
    each.map(|(at, done)| if at >= opened && is_left_out(done) { Operation::Nothing } else { done.clone() }).collect()
}

/// The first file that is made is the database.
const DATABASE: FileId = 1;

#[test]
fn directories_that_are_not_synced_are_found() {
    let what = planted(|history| without(history, |done| matches!(done, Operation::SyncDir(_))));
    assert!(what.contains("has a row and no file"), "{what}");
}

#[test]
fn files_that_are_not_synced_are_found() {
    let what = planted(|history| without(history, |done| matches!(done, Operation::Sync(file) if *file != DATABASE)));
    assert!(what.contains("is torn") || what.contains("by its row"), "{what}");
}

#[test]
fn a_database_that_is_not_synced_is_found() {
    let what = planted(|history| without(history, |done| matches!(done, Operation::Sync(DATABASE))));
    assert!(what.contains("rows are not those") || what.contains("cannot be opened"), "{what}");
}

#[test]
fn a_row_that_comes_before_its_blob_is_found() {
    let what = planted(|history| {
        let mut operations = Vec::new();
        for (at, step) in history.steps.iter().enumerate() {
            let began = at.checked_sub(1).map_or(0, |before| history.steps[before].end);
            let is_of_blob = |done: &Operation| match done {
                Operation::Sync(file) => *file != DATABASE,
                Operation::Rename { .. } | Operation::SyncDir(_) => began > 0,
                _ => false,
            };
            let (blob, rows): (Vec<_>, Vec<_>) =
                history.operations[began..step.end].iter().cloned().partition(is_of_blob);
            operations.extend(rows.into_iter().chain(blob));
        }
        operations
    });
    assert!(what.contains("has a row and no file"), "{what}");
}
