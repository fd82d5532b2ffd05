//! The cost of a mirror next to a direct pull. `cargo bench --bench mirror -- --help`.
//!
//! Starts a registry, a proxy before it that limits the speed, and a mirror behind the proxy. Pulls large blobs directly and
//! through the mirror in turns (A B A B), compares every byte, and prints medians and ratios. Looks at `/proc`, so on Linux
//! only.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the benchmark")]
#![expect(clippy::cast_precision_loss, reason = "figures for people are far below 2^52")]

#[path = "support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::client::Client;
use support::content::{Content, Noise};
use support::process::Process as _;
use support::program::Program;
use support::{directory, median, mib};

const HELP: &str = "\
cargo bench --bench mirror: measure pulls through a mirror next to direct pulls

MIRROR_PROGRAM  the coracle to measure [default: the one that was just built]
MIRROR_ROUNDS   the repetitions of each measurement [default: 3]
MIRROR_MIB      the size of a blob [default: 1024]
MIRROR_RATE     the limited speed of the upstream in MB/s [default: 100]
";

/// How many clients request the same blob at once.
const CLIENTS: usize = 64;
const REPOSITORY: &str = "bench";

/// A proxy that limits the speed of each connection, and counts GET requests for blobs.
#[derive(Clone)]
struct Proxy {
    address: SocketAddr,
    blobs: Arc<AtomicUsize>,
}

impl Proxy {
    /// `rate` is in bytes per second.
    fn start(upstream: SocketAddr, rate: Option<f64>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), blobs: Arc::default() };
        let blobs = Arc::clone(&proxy.blobs);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(upstream).unwrap();
                for socket in [&client, &server] {
                    socket.set_nodelay(true).unwrap();
                }
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let blobs = Arc::clone(&blobs);
                std::thread::spawn(move || copy_requests(from, to, &blobs));
                std::thread::spawn(move || copy_responses(server, client, rate));
            }
        });
        proxy
    }

    fn blobs(&self) -> usize {
        self.blobs.load(Ordering::Relaxed)
    }
}

/// Requests are small, so that each arrives in one piece.
fn copy_requests(mut from: TcpStream, mut to: TcpStream, blobs: &AtomicUsize) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let piece = &buffer[..count];
        if piece.starts_with(b"GET ") && piece.windows(7).take(200).any(|window| window == b"/blobs/") {
            blobs.fetch_add(1, Ordering::Relaxed);
        }
        if to.write_all(piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn copy_responses(mut from: TcpStream, mut to: TcpStream, rate: Option<f64>) {
    let mut buffer = vec![0; 256 << 10];
    let (mut began, mut sent) = (Instant::now(), 0.0);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        let Some(rate) = rate else { continue };
        sent += count as f64;
        let (due, passed) = (sent / rate, began.elapsed().as_secs_f64());
        if due > passed {
            std::thread::sleep(Duration::from_secs_f64(due - passed));
        } else if passed > due + 0.1 {
            // The connection was idle.
            (began, sent) = (Instant::now(), 0.0);
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// The time of one pull.
#[derive(Clone, Copy)]
struct Pull {
    first: f64,
    total: f64,
}

fn pull(address: SocketAddr, repository: &str, noise: &Noise, content: &Content) -> Pull {
    let mut client = Client::connect(address);
    let began = Instant::now();
    let first = client.pull_timed(repository, noise, content);
    Pull { first: first.as_secs_f64(), total: began.elapsed().as_secs_f64() }
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// A mirror behind a proxy, which is before the upstream.
fn mirror(proxy: &Proxy) -> (Program, tempfile::TempDir) {
    let root = directory();
    let config = format!(
        "[log]\nlevel = 'warn'\n[http]\nopen = true\n[[extensions.sync.registries]]\nurls = ['http://{}']\n\
         onDemand = true\ncontent = [{{ prefix = '**', destination = '/up' }}]\n",
        proxy.address
    );
    (Program::configured("MIRROR_PROGRAM", root.path(), &config), root)
}

fn main() {
    if std::env::args().any(|argument| argument == "--help") {
        print!("{HELP}");
        return;
    }
    let (rounds, length) = (number("MIRROR_ROUNDS", 3), number("MIRROR_MIB", 1024) << 20);
    let rate = number("MIRROR_RATE", 100);
    let noise = Noise::new();
    let root = directory();
    let config = "[log]\nlevel = 'warn'\n[http]\nopen = true\n";
    let upstream = Program::configured("MIRROR_PROGRAM", root.path(), config);
    println!("a blob of {} MiB: direct, through the mirror, and the ratio; memory of the mirror", length >> 20);
    for (name, rate) in [("limited", Some(rate as f64 * 1e6)), ("unlimited", None)] {
        let proxy = Proxy::start(upstream.address, rate);
        let (program, _root) = mirror(&proxy);
        let (mut direct, mut through) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let content = noise.content(length, (round, usize::from(rate.is_some()), 1));
            Client::connect(upstream.address).push(REPOSITORY, &noise, &content);
            direct.push(pull(proxy.address, REPOSITORY, &noise, &content));
            through.push(pull(program.address, &format!("up/{REPOSITORY}"), &noise, &content));
        }
        let of = |pulls: &[Pull], value: fn(&Pull) -> f64| median(pulls.iter().map(value));
        let ratio = median(direct.iter().zip(&through).map(|(direct, through)| through.total / direct.total));
        println!(
            "{name:10} first byte {:>7.1} {:>7.1} ms   total {:>7.2} {:>7.2} s {ratio:>5.2}×   {:>6.1} MiB",
            of(&direct, |pull| pull.first) * 1e3,
            of(&through, |pull| pull.first) * 1e3,
            of(&direct, |pull| pull.total),
            of(&through, |pull| pull.total),
            mib(program.peak()),
        );
    }

    let proxy = Proxy::start(upstream.address, Some(rate as f64 * 1e6));
    let (program, _root) = mirror(&proxy);
    let content = noise.content(length / 8, (0, 0, 2));
    Client::connect(upstream.address).push(REPOSITORY, &noise, &content);
    let direct = pull(proxy.address, REPOSITORY, &noise, &content).total;
    let before = proxy.blobs();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| pull(program.address, &format!("up/{REPOSITORY}"), &noise, &content));
        }
    });
    println!(
        "{CLIENTS} clients at once, {} MiB: {direct:.2} s direct, {:.2} s for all, {} GET at the upstream, {:.1} MiB",
        content.length() >> 20,
        began.elapsed().as_secs_f64(),
        proxy.blobs() - before,
        mib(program.peak()),
    );
}
