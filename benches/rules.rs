//! The cost of quotas and events for a push. `cargo bench --bench rules`.
//!
//! Runs the real program several times with different rules, and pushes small images to each in turn, so that all of them
//! see the same moments of the disk. Looks at `/proc/<pid>`, so on Linux only.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the benchmark")]
#![expect(clippy::cast_precision_loss, reason = "figures for people are far below 2^52")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[path = "support/mod.rs"]
mod support;

use support::client::{Client, manifest};
use support::content::{Content, Noise};
use support::directory;
use support::process::Process as _;
use support::program::Program;

const HELP: &str = "\
cargo bench --bench rules: measure pushes with rules

A push is a layer of 4 KiB and a manifest with a tag. The table has the time in the middle, that of 99 of 100, and the
processor time of a push, each also as a ratio to a registry without rules.

RULES_PUSHES    pushes to each registry [default: 2000]
RULES_PROGRAM   the program to measure [default: the one that was just built]
";

const LAYER_BYTES: usize = 4096;
/// Pushes to one registry before the next one has its turn.
const TURN: usize = 10;
/// Pushes that are not counted, to each registry.
const WARM_UP: usize = 50;

const QUOTAS: &str = "[storage]\nmaxRepos = 1000\n[[storage.quotas]]\nrepositories = ['a/app']\nsize = '10GiB'\ntags = 1000000\n\
                      [[storage.quotas]]\nnamespaces = ['*']\nsize = '100GiB'\n";

/// A registry with some rules.
struct Measured {
    name: &'static str,
    program: Program,
    client: Client,
    times: Vec<Duration>,
    processor: f64,
    _root: tempfile::TempDir,
}

impl Measured {
    fn start(name: &'static str, rules: &str) -> Self {
        let root = directory();
        let config = format!("[log]\nlevel = 'warn'\n[http]\nopen = true\n{rules}");
        let program = Program::configured("RULES_PROGRAM", root.path(), &config);
        let client = Client::connect(program.address);
        Self { name, program, client, times: Vec::new(), processor: 0.0, _root: root }
    }

    fn push(&mut self, noise: &Noise, config: &Content, number: usize) {
        let layer = noise.content(LAYER_BYTES, (1, 0, number));
        let image = manifest(config, &[&layer], "rules");
        let began = Instant::now();
        self.client.push("a/app", noise, &layer);
        self.client.put_manifest("a/app", &format!("t{number}"), &image);
        self.times.push(began.elapsed());
    }

    fn turn(&mut self, noise: &Noise, config: &Content, numbers: std::ops::Range<usize>) {
        let before = self.program.processor();
        for number in numbers {
            self.push(noise, config, number);
        }
        self.processor += self.program.processor() - before;
    }
}

/// A receiver of events that answers each one at once. Counts them.
fn receiver() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let received = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&received);
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (mut socket, counted) = (socket.unwrap(), Arc::clone(&counted));
            std::thread::spawn(move || {
                let mut reader = BufReader::new(socket.try_clone().unwrap());
                let mut length = 0;
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    if line == "\r\n" {
                        reader.read_exact(&mut vec![0; std::mem::take(&mut length)]).unwrap();
                        counted.fetch_add(1, Ordering::Relaxed);
                        socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
                    }
                    line.clear();
                }
            });
        }
    });
    (address, received)
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help" || argument == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let pushes = std::env::var("RULES_PUSHES").map_or(2000, |text| text.parse().unwrap());
    let (address, received) = receiver();
    let sink = |address: &str| {
        format!(
            "[extensions.events]\nenable = true\n[[extensions.events.sinks]]\nname = 'hook'\naddress = '{address}'\n"
        )
    };
    let mut measured = [
        Measured::start("no rules", ""),
        Measured::start("no rules, again", ""),
        Measured::start("quotas and maxRepos", QUOTAS),
        Measured::start("a sink", &sink(&address)),
        Measured::start("a sink that is away", &sink("http://127.0.0.1:1/")),
    ];
    let noise = Noise::new();
    let config = noise.content(LAYER_BYTES, (0, 0, 0));
    for registry in &mut measured {
        registry.client.push("a/app", &noise, &config);
        registry.turn(&noise, &config, 0..WARM_UP);
        registry.times.clear();
        registry.processor = 0.0;
    }
    let count = measured.len();
    for (turn, first) in (WARM_UP..WARM_UP + pushes).step_by(TURN).enumerate() {
        // Each goes first as often as the others.
        for place in 0..count {
            measured[(turn + place) % count].turn(&noise, &config, first..first + TURN);
        }
    }
    println!("{:20} {:>16} {:>16} {:>16}", "", "middle", "99 of 100", "processor");
    let mut first = None;
    for Measured { name, mut times, processor, .. } in measured {
        times.sort_unstable();
        let count = times.len();
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        let figures = [millis(times[count / 2]), millis(times[count * 99 / 100]), processor * 1e3 / count as f64];
        let base = *first.get_or_insert(figures);
        let cells: Vec<_> =
            figures.iter().zip(base).map(|(value, base)| format!("{value:.2} ms ({:.2})", value / base)).collect();
        println!("{name:20} {:>16} {:>16} {:>16}", cells[0], cells[1], cells[2]);
    }
    println!("{} events were received", received.load(Ordering::Relaxed));
    ExitCode::SUCCESS
}
