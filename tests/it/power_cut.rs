//! Power is lost under the real program, while clients push and delete: what was answered for is there afterwards.
//!
//! A library between the program and the C library (`faults/shim.c`) writes down everything that changes files. A
//! client remembers how long that trace was when it asked and when it was answered. At some places the trace is cut,
//! directories are made that a disk may show then, and the program is started on them.

#[expect(dead_code, reason = "the tests in the library let syncs fail, too")]
#[path = "../../src/registry/crash/power.rs"]
mod power;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::faults::shim::Faults;
use crate::support::content::{bytes, image, noise, sha256};
use crate::support::http::{Caller, Request};
use crate::support::process::{ADMIN, Program};
use power::{Operation, Power, Random, Survives};

/// As many cuts are made; `POWER_CUTS` makes more.
const CUTS: usize = 24;
const CLIENTS: u64 = 3;
const ROUNDS: u64 = 12;
/// Before its bytes, a record has its kind, four numbers and three bytes of nothing.
const RECORD_BYTES: usize = 24;

/// The content that a client wrote at a path, and the part of the trace during which this was acknowledged.
#[derive(Clone, Debug)]
struct Event {
    path: String,
    /// Nothing, if it was deleted.
    content: Option<Bytes>,
    asked: u64,
    answered: u64,
}

/// Names and number of files.
#[derive(Default)]
struct Names {
    files: HashMap<PathBuf, usize>,
    count: usize,
}

/// The operations, and the length of the trace after each.
struct Trace {
    operations: Vec<Operation>,
    lengths: Vec<u64>,
}

impl Trace {
    fn read(bytes: &[u8], root: &Path) -> Self {
        let (mut trace, mut names, mut at) =
            (Self { operations: Vec::new(), lengths: Vec::new() }, Names::default(), 0);
        let number = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        while at < bytes.len() {
            let (path, other, length) = (number(at + 4), number(at + 8), number(at + 12));
            let offset = u64::from_ne_bytes(bytes[at + 16..at + RECORD_BYTES].try_into().unwrap());
            let kind = bytes[at];
            let mut end = at + RECORD_BYTES;
            let mut text = |length: usize| {
                end += length;
                let path = PathBuf::from(str::from_utf8(&bytes[end - length..end]).unwrap());
                path.strip_prefix(root).map(Path::to_owned).unwrap_or_default()
            };
            let (path, other) = (text(path), text(other));
            let data = if kind == b'w' { &bytes[end..end + length] } else { &[] };
            at = end + data.len();
            trace.operations.push(operation(kind, path, other, data, offset, &mut names));
            trace.lengths.push(at as u64);
        }
        trace
    }

    /// How many operations there were when the trace was so long.
    fn count(&self, length: u64) -> usize {
        self.lengths.partition_point(|end| *end <= length)
    }
}

fn operation(kind: u8, path: PathBuf, other: PathBuf, data: &[u8], offset: u64, names: &mut Names) -> Operation {
    let file = names.files.get(&path).copied();
    match (kind, file) {
        (b'c', _) => {
            names.count += 1;
            names.files.insert(path.clone(), names.count);
            Operation::Create(path, names.count)
        }
        (b'd', _) if path.as_os_str().is_empty() => Operation::Nothing,
        (b'd', _) => Operation::CreateDir(path),
        (b'w', Some(file)) => Operation::Write { file, bytes: data.into(), offset },
        (b't', Some(file)) => Operation::Truncate { file, length: offset },
        (b's', Some(file)) => Operation::Sync(file),
        (b's', None) => Operation::SyncDir(path),
        (b'r', Some(file)) => {
            names.files.remove(&path);
            names.files.insert(other.clone(), file);
            Operation::Rename { file, from: path, to: other }
        }
        (b'u', Some(_)) => {
            names.files.remove(&path);
            Operation::Remove(path)
        }
        // The socket of local administration, which is no file.
        (b'u', None) => Operation::Nothing,
        (kind, _) => panic!("{} of {}", char::from(kind), path.display()),
    }
}

/// One client with its memory.
async fn work(admin: Caller, trace: &Path, client: u64) -> Vec<Event> {
    let length = || std::fs::metadata(trace).unwrap().len();
    let mut events = Vec::new();
    let mut tell = async |request: Request, status: u16, path: String, content: Option<Bytes>| {
        let asked = length();
        request.send().await.status(status);
        events.push(Event { path, content, asked, answered: length() });
    };
    for round in 0..ROUNDS {
        let name = format!("r{client}/{}", round % 3);
        let (config, layer) = (
            Bytes::from(format!("{{\"n\":\"{client}.{round}\"}}")),
            noise(900 * usize::try_from(round).unwrap(), round),
        );
        for blob in [&config, &layer] {
            let digest = sha256(blob);
            let upload = admin.post(&format!("/v2/{name}/blobs/uploads/")).send().await.status(202).location();
            let half = blob.len() / 2;
            admin.patch(&upload).body(blob.slice(..half)).send().await.status(202);
            let last = admin.put(&format!("{upload}?digest={digest}")).body(blob.slice(half..));
            tell(last, 201, format!("/v2/{name}/blobs/{digest}"), Some(blob.clone())).await;
        }
        let manifest = Bytes::from(bytes(&image(&config, &[&layer])));
        let tagged = format!("/v2/{name}/manifests/t{round}");
        tell(admin.put(&tagged).body(manifest.clone()), 201, tagged.clone(), Some(manifest)).await;
        if round % 4 == 3 {
            tell(admin.delete(&tagged), 202, tagged, None).await;
        }
    }
    events
}

/// The possible contents of a path after a power cut.
fn possible<'a>(events: &'a [Event], path: &str, cut: u64) -> Vec<Option<&'a Bytes>> {
    let mut possible = vec![None];
    for event in events.iter().filter(|event| event.path == path) {
        if event.answered <= cut {
            possible.clear();
        }
        if event.asked <= cut {
            possible.push(event.content.as_ref());
        }
    }
    possible
}

/// Starts the program on a directory that was found, and asks for everything.
async fn look(root: &Path, events: &[Event], cut: u64) -> Result<usize, String> {
    let program = Program::serve(root).with_admin();
    let running = tokio::task::spawn_blocking(move || program.start()).await.map_err(|error| error.to_string())?;
    let admin = running.user(ADMIN);
    let mut paths: Vec<&str> = events.iter().map(|event| event.path.as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    for path in &paths {
        let answer = admin.get(path).send().await;
        let found = (answer.status == 200).then_some(&answer.body);
        if !matches!(answer.status.as_u16(), 200 | 404) || !possible(events, path, cut).contains(&found) {
            return Err(format!("{path}: {} {} bytes", answer.status, answer.body.len()));
        }
    }
    Ok(paths.len())
}

/// Takes the trace of some work, and what it was.
async fn record(faults: &Faults, directory: &Path) -> (Trace, Vec<Event>, u64) {
    let (root, file) = (directory.join("data"), directory.join("trace"));
    std::fs::write(&file, "").unwrap();
    let program = faults.under(Program::serve(&root).with_admin());
    let running = program.env("TRACE", &file).env("TRACE_ROOT", &root).start();
    let begun = std::fs::metadata(&file).unwrap().len();
    let clients = (0..CLIENTS).map(|client| work(running.user(ADMIN), &file, client));
    let events = futures_util::future::join_all(clients).await.concat();
    running.kill();
    (Trace::read(&std::fs::read(&file).unwrap(), &root), events, begun)
}

#[tokio::test]
async fn what_was_answered_for_is_there_after_a_loss_of_power() {
    let directory = tempfile::tempdir().unwrap();
    let name = "power_cut::what_was_answered_for_is_there_after_a_loss_of_power";
    let Some(faults) = Faults::prepare(name, directory.path()) else { return };
    let (trace, events, begun) = record(&faults, directory.path()).await;
    let cuts = std::env::var("POWER_CUTS").map_or(CUTS, |cuts| cuts.parse().unwrap());
    let seed = 7;
    let (mut random, mut looked) = (Random::new(seed), 0);
    let first = trace.count(begun);
    for number in 0..cuts {
        // Where something is not certain.
        let mut at = first + random.below(trace.operations.len() - first);
        let mut power = power_after(&trace.operations[..at]);
        while power.is_settled() && at < trace.operations.len() {
            power.apply(&trace.operations[at]);
            at += 1;
        }
        let survives = [Survives::Anything, Survives::Nothing, Survives::TornEnd, Survives::Everything][number % 4];
        let found = directory.path().join(format!("cut{number}"));
        power.image(survives, &mut random).build(&found).unwrap();
        match look(&found, &events, trace.lengths[at - 1]).await {
            Ok(count) => looked += count,
            Err(wrong) => panic!("seed {seed}, cut {number} after {at} operations, {survives:?} survives: {wrong}"),
        }
    }
    println!("{} operations, {} answers, {cuts} cuts, {looked} looks", trace.operations.len(), events.len());
    assert!(events.len() >= 100 && trace.operations.len() >= 500 && looked >= cuts * 50);

    // The same finds what a program does wrong that does not sync: after everything, what is certain is too little.
    let end = *trace.lengths.last().unwrap();
    let database = trace.operations.iter().find_map(|done| match done {
        Operation::Create(_, file) => Some(*file),
        _ => None,
    });
    let is_dir: fn(&Operation, usize) -> bool = |done, _| matches!(done, Operation::SyncDir(_));
    let is_file: fn(&Operation, usize) -> bool =
        |done, database| matches!(done, Operation::Sync(file) if *file != database);
    for (what, is_left_out) in [("directories", is_dir), ("files", is_file)] {
        let left = trace.operations[first..].iter().filter(|done| !is_left_out(done, database.unwrap())).cloned();
        let operations: Vec<_> = trace.operations[..first].iter().cloned().chain(left).collect();
        let found = directory.path().join(what);
        power_after(&operations).image(Survives::Nothing, &mut random).build(&found).unwrap();
        let wrong = look(&found, &events, end).await.expect_err("what is not synced is lost");
        println!("without syncs of {what}: {wrong}");
    }
}

fn power_after(operations: &[Operation]) -> Power {
    let mut power = Power::default();
    for operation in operations {
        power.apply(operation);
    }
    power
}
