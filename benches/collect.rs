//! The cost of garbage collection for clients. `cargo bench --bench collect`.
//!
//! Runs the real program on a disk, synced as by default, with clients that push and pull over loopback as fast as
//! they can; half of the time it collects garbage meanwhile. The two halves alternate, and a ratio is of neighbours
//! in time. Ends with 1 if clients keep less than they should.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the benchmark")]
#![expect(clippy::cast_precision_loss, reason = "figures for people are far below 2^52")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

#[path = "support/mod.rs"]
mod support;

use support::program::Program;
use support::{directory, median};

const HELP: &str = "\
cargo bench --bench collect: measure the cost of garbage collection for clients

4 clients push images of one small blob each and 4 pull a blob of 1 MiB, alone and while `coracle gc` removes blobs.

COLLECT_ROUNDS    the repetitions of each measurement [default: 5]
COLLECT_GARBAGE   the number of blobs to remove in each round [default: 4000]
";

/// The share of requests that clients keep during a collection.
const KEPT_MIN: f64 = 0.80;
const PUSHERS: usize = 4;
const PULLERS: usize = 4;
/// As soon as blobs are this old, and no manifest has come for them, they are garbage.
const DELAY: Duration = Duration::from_secs(3);
/// No collection is measured for longer, and none is looked at that was shorter than a quarter of it.
const MOMENT: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help" || argument == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse::<usize>().unwrap());
    let (rounds, garbage) = (number("COLLECT_ROUNDS", 5), number("COLLECT_GARBAGE", 4000));
    let root = directory();
    let delay = DELAY.as_secs();
    let config = format!("[storage]\ngcDelay = '{delay}s'\ngcInterval = '24h'\n[http]\nopen = true\n");
    let program = Program::configured("COLLECT_PROGRAM", root.path(), &config);
    let large = vec![7; 1 << 20];
    Client::connect(program.address).push_blob("pulled", &large);
    let (mut pushes, mut pulls, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        make_garbage(&program, round, garbage);
        std::thread::sleep(DELAY);
        let alone = work(&program, &large, round, || std::thread::sleep(MOMENT));
        let mut said = String::new();
        let during = work(&program, &large, round + rounds, || said = collect(root.path()));
        let blobs: usize = said.split("\"blobs\":").nth(1).unwrap().split([',', '}']).next().unwrap().parse().unwrap();
        assert!(blobs >= garbage, "only {blobs} blobs were removed");
        println!(
            "round {round}: alone {:.0} pushes and {:.0} pulls a second; {:.0} and {:.0} while {blobs} blobs went in {:.1} s",
            alone.pushes, alone.pulls, during.pushes, during.pulls, during.seconds
        );
        pushes.push(during.pushes / alone.pushes);
        pulls.push(during.pulls / alone.pulls);
        removed.push(f64::from(u32::try_from(blobs).unwrap()) / during.seconds);
    }
    let (pushes, pulls) = (median(pushes), median(pulls));
    println!(
        "medians: pushes keep {:.0} %, pulls {:.0} %; {:.0} blobs removed a second",
        pushes * 100.0,
        pulls * 100.0,
        median(removed)
    );
    if pushes >= KEPT_MIN && pulls >= KEPT_MIN { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Requests of clients in a second.
struct Worked {
    pushes: f64,
    pulls: f64,
    seconds: f64,
}

/// Lets clients work for as long as `meanwhile` takes.
fn work(program: &Program, large: &[u8], round: usize, meanwhile: impl FnOnce()) -> Worked {
    let (done, pushes, pulls) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let mut took = Duration::ZERO;
    std::thread::scope(|scope| {
        for worker in 0..PUSHERS {
            let (done, pushes) = (&done, &pushes);
            scope.spawn(move || {
                let mut client = Client::connect(program.address);
                let mut number = 0;
                while !done.load(Ordering::Relaxed) {
                    client.push_image(&format!("pushed/{worker}"), &format!("{round} {worker} {number}"));
                    pushes.fetch_add(1, Ordering::Relaxed);
                    number += 1;
                }
            });
        }
        for _ in 0..PULLERS {
            let (done, pulls) = (&done, &pulls);
            scope.spawn(move || {
                let mut client = Client::connect(program.address);
                let path = format!("/v2/pulled/blobs/sha256:{}", digest(large));
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(client.send("GET", &path, "", b"").1, large.len());
                    pulls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let began = Instant::now();
        meanwhile();
        took = began.elapsed();
        done.store(true, Ordering::Relaxed);
    });
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64 / took.as_secs_f64();
    Worked { pushes: rate(&pushes), pulls: rate(&pulls), seconds: took.as_secs_f64() }
}

fn make_garbage(program: &Program, round: usize, count: usize) {
    std::thread::scope(|scope| {
        for part in 0..8 {
            scope.spawn(move || {
                let mut client = Client::connect(program.address);
                for number in (part..count).step_by(8) {
                    client.push_blob("garbage", format!("{round} {number}").as_bytes());
                }
            });
        }
    });
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        Self(BufReader::with_capacity(256 * 1024, socket))
    }

    /// The status of an answer, and how many bytes its body has.
    fn send(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, usize) {
        let length = body.len();
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {length}\r\n\r\n")
                .into_bytes();
        request.extend_from_slice(body);
        self.0.get_mut().write_all(&request).unwrap();
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the connection ended");
            if status == 0 {
                status = line[9..12].parse().unwrap();
            } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            } else if line == "\r\n" {
                break;
            }
        }
        let copied = std::io::copy(&mut self.0.by_ref().take(length), &mut std::io::sink()).unwrap();
        (status, usize::try_from(copied).unwrap())
    }

    fn push_blob(&mut self, repository: &str, content: &[u8]) {
        let path = format!("/v2/{repository}/blobs/uploads/?digest=sha256:{}", digest(content));
        assert_eq!(self.send("POST", &path, "content-type: application/octet-stream\r\n", content).0, 201);
    }

    fn push_image(&mut self, repository: &str, content: &str) {
        self.push_blob(repository, content.as_bytes());
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let (digest, size) = (digest(content.as_bytes()), content.len());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{digest}","size":{size}}},"layers":[]}}"#
        );
        let path = format!("/v2/{repository}/manifests/{}", &digest[..16]);
        let pushed = self.send("PUT", &path, &format!("content-type: {kind}\r\n"), manifest.as_bytes());
        assert_eq!(pushed.0, 201);
    }
}

fn digest(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// Runs a collection in the running program, and returns the result.
fn collect(root: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
    let output = command.args(["gc", "--json", "--root"]).arg(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
