//! Simulates a power failure after every operation of the disk, in a history of everything that clients do.
//!
//! [`record`] records each change of a file, including the database. [`history`] lets clients push, mount, tag, delete and
//! sign in, and notes the content after each response. [`power`] creates the directories that a disk may have after a power
//! failure. [`check`] opens the stores on each directory. Acknowledged changes must be there, other changes must be there
//! completely or not at all, rows must agree with each other, and every blob with a row must be a complete file.
//!
//! In the short form, the power fails after every fourth operation. `CORACLE_FULL=1` checks every one.
//!
//! Further tests remove syncs or change the order of the recorded operations, as in real faults of registries, and show
//! that the check finds them.

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

/// The default seed. The environment variable `CRASH_SEED` sets another one, as a decimal number.
const SEED: u64 = 0x00C0_FFEE;
const STEPS: usize = 260;
/// The short form of the tests checks one operation of so many.
const SHORT_FORM_STRIDE: usize = 4;
/// The number of images with random losses after each operation.
const ANY_COUNT: usize = 2;

/// Waits for a future.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// A temporary directory, in memory if possible.
fn scratch() -> tempfile::TempDir {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

fn record(seed: u64, steps: usize) -> History {
    let root = scratch();
    History::new(root.path(), seed, steps)
}

/// The number of checks, and the first fault.
#[derive(Debug, Default)]
struct Summary {
    cuts: AtomicUsize,
    images: AtomicUsize,
    found: AtomicBool,
    fault: Mutex<Option<(usize, String)>>,
}

impl Summary {
    /// Keeps the first fault.
    fn note(&self, cut: usize, what: String) {
        self.found.store(true, Ordering::Relaxed);
        let mut fault = self.fault.lock();
        if fault.as_ref().is_none_or(|(first, _)| cut < *first) {
            *fault = Some((cut, what));
        }
    }
}

/// Checks the history after each `stride`th operation, until a fault is found.
fn cut_everywhere(history: &History, operations: &[Operation], seed: u64, stride: usize) -> Summary {
    let (summary, next) = (Summary::default(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, Into::into) {
            scope.spawn(|| {
                let root = scratch();
                let (mut power, mut done) = (Power::default(), 0);
                loop {
                    let cut = next.fetch_add(stride, Ordering::Relaxed);
                    if cut > operations.len() || summary.found.load(Ordering::Relaxed) {
                        break;
                    }
                    operations[done..cut].iter().for_each(|operation| power.apply(operation));
                    done = cut;
                    let mut random = Random::new(seed ^ cut as u64);
                    cut_once(history, operations, &power, cut, root.path(), &mut random, &summary);
                }
            });
        }
    });
    summary
}

fn cut_once(
    history: &History,
    operations: &[Operation],
    power: &Power,
    cut: usize,
    root: &Path,
    random: &mut Random,
    summary: &Summary,
) {
    let answered = history.steps.partition_point(|step| step.end <= cut).checked_sub(1);
    let began = answered.map_or(0, |answered| history.steps[answered].end);
    let last = cut.checked_sub(1).map(|last| &operations[last]);
    let is_sync = matches!(last, Some(Operation::Sync(_) | Operation::SyncDir(_)));
    let mut all = vec![];
    // A sync changes the minimum that must survive. A response changes the expected content.
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
            summary.note(cut, format!("{survives:?} of the unsynced changes survives: {wrong}"));
        }
        summary.images.fetch_add(1, Ordering::Relaxed);
    }
    summary.cuts.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn power_may_fail_after_every_operation() {
    let started = Instant::now();
    let seed = std::env::var("CRASH_SEED").map_or(SEED, |seed| seed.parse().unwrap());
    let stride = if std::env::var_os("CORACLE_FULL").is_some() { 1 } else { SHORT_FORM_STRIDE };
    let history = record(seed, STEPS);
    let recorded = started.elapsed();
    let summary = cut_everywhere(&history, &history.operations, seed, stride);
    let (cuts, images) = (summary.cuts.into_inner(), summary.images.into_inner());
    let kinds: Vec<String> = history.kinds.iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
    println!(
        "seed {seed}: {} steps, {} operations of the disk (recorded in {recorded:.1?}); {cuts} cuts, {images} images \
         checked in {:.1?}\n{}",
        history.steps.len(),
        history.operations.len(),
        started.elapsed(),
        kinds.join(", ")
    );
    if let Some((cut, what)) = summary.fault.into_inner() {
        panic!("after {cut} operations ({:?}): {what}", history.operations.get(cut.saturating_sub(1)));
    }
    assert!(history.steps.len() >= 200 && cuts == history.operations.len() / stride + 1 && images >= 2 * cuts);
    assert!(seed != SEED || history.kinds.values().all(|count| *count > 0), "some kind did not occur");
}

/// The fault that the check finds first in changed operations.
fn planted(change: impl Fn(&History) -> Vec<Operation>) -> String {
    let history = record(SEED, STEPS / 4);
    let operations = change(&history);
    assert_eq!(operations.len(), history.operations.len());
    let summary = cut_everywhere(&history, &operations, SEED, 1);
    let images = summary.images.into_inner();
    let (cut, what) = summary.fault.into_inner().expect("the fault is found");
    println!("found after {cut} operations, {images} images: {what}");
    what
}

/// The operations without some, after the registry was opened.
fn without(history: &History, is_left_out: impl Fn(&Operation) -> bool) -> Vec<Operation> {
    let opened = history.steps[0].end;
    let each = history.operations.iter().enumerate();
    each.map(|(at, done)| if at >= opened && is_left_out(done) { Operation::Nothing } else { done.clone() }).collect()
}

/// The database is the first file, and its write-ahead log the second one.
const ROWS: [FileId; 2] = [1, 2];

#[test]
fn unsynced_directories_are_found() {
    let what = planted(|history| without(history, |done| matches!(done, Operation::SyncDir(_))));
    assert!(what.contains("has a row and no file"), "{what}");
}

#[test]
fn unsynced_files_are_found() {
    let what =
        planted(|history| without(history, |done| matches!(done, Operation::Sync(file) if !ROWS.contains(file))));
    assert!(what.contains("is torn") || what.contains("by its row"), "{what}");
}

#[test]
fn an_unsynced_database_is_found() {
    let what = planted(|history| without(history, |done| matches!(done, Operation::Sync(file) if ROWS.contains(file))));
    assert!(what.contains("rows are not those") || what.contains("cannot be opened"), "{what}");
}

#[test]
fn a_row_before_its_blob_is_found() {
    let what = planted(|history| {
        let mut operations = Vec::new();
        for (at, step) in history.steps.iter().enumerate() {
            let began = at.checked_sub(1).map_or(0, |before| history.steps[before].end);
            let is_of_blob = |done: &Operation| match done {
                Operation::Sync(file) => !ROWS.contains(file),
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
