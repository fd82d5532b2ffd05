//! The speed of the registry next to another one. `cargo bench --bench speed -- --help`.
//!
//! Starts coracle and a peer on the same machine and disk, gives both the same work in turns (A B A B), and prints
//! medians and ratios. Both have their default settings (docker-registry those of Debian), except that both let anybody
//! in, and that neither logs requests. Only the work `log-*` has an access log. The benchmark compares every byte of
//! pulled blobs, with curl only their size. It checks the status and the length of small responses. It needs the
//! `/proc` of Linux.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the benchmark")]
#![expect(clippy::cast_precision_loss, reason = "figures for people are far below 2^52")]

mod blobs;
mod curl;
mod handshakes;
mod report;
mod requests;
mod server;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::Instant;

use curl::Http;
use handshakes::{Beginning, Version};
use report::Report;
use server::{Key, Peer, Server, Setting};

const HELP: &str = "\
cargo bench --bench speed [-- WORK…]: measure the speed of the registry next to another one

Without names, all work is done that does not begin with zb. Names are those of the first column, or their beginning.

SPEED_PEER      the other registry: docker-registry (Debian's), none, or the URL of an open registry, such as
                http://127.0.0.1:5000 or https://127.0.0.1:5443 [default: docker-registry]
SPEED_PROGRAM   the coracle to measure [default: the one that was just built]
SPEED_ROUNDS    the repetitions of each measurement [default: 5]
SPEED_SECONDS   the length of a measurement of small requests [default: 2]
SPEED_MIB       the size of a large blob [default: 1024]
SPEED_JSON      a file for the figures as JSON

A flame graph of one kind of work, with perf and inferno (cargo install inferno):
  SPEED_PEER=none perf record -F 997 -g --call-graph dwarf -- cargo bench --bench speed -- pull-large
  perf script | inferno-collapse-perf | inferno-flamegraph > flame.svg
";

/// How much is done.
#[derive(Clone, Copy, Debug)]
struct Extent {
    rounds: usize,
    seconds: f64,
    mib: usize,
}

/// Does it once, in a round.
type Run = Box<dyn Fn(&Server, Extent, usize) -> Done>;

/// One kind of work on one registry.
struct Work {
    name: String,
    what: String,
    /// In what its throughput is given: bytes, or something that is counted.
    unit: Unit,
    setting: Setting,
    /// The least ratio to Debian's docker-registry of throughput, and the largest of the server's processor time.
    wanted: (Option<f64>, Option<f64>),
    run: Run,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Bytes,
    Count,
}

/// Work and its cost.
#[derive(Clone, Copy, Debug)]
struct Done {
    amount: f64,
    seconds: f64,
    /// Processor time of the server.
    processor: f64,
    /// MiB that the server read from the disk.
    disk: f64,
    /// KiB that the server wrote to the disk.
    written: f64,
}

/// The use of resources at the start of a measurement.
struct Meter<'a> {
    server: &'a Server,
    processor: f64,
    disk: f64,
    written: f64,
    began: Instant,
}

impl<'a> Meter<'a> {
    fn begin(server: &'a Server) -> Self {
        let (processor, disk, written) = (server.processor(), server.disk_mib(), server.written_kib());
        Self { server, processor, disk, written, began: Instant::now() }
    }

    /// The difference since then.
    fn done(&self, amount: f64) -> Done {
        let seconds = self.began.elapsed().as_secs_f64();
        let server = self.server;
        let (processor, disk) = (server.processor() - self.processor, server.disk_mib() - self.disk);
        Done { amount, seconds, processor, disk, written: server.written_kib() - self.written }
    }
}

fn work(
    name: &str,
    what: &str,
    unit: Unit,
    wanted: (Option<f64>, Option<f64>),
    run: impl Fn(&Server, Extent, usize) -> Done + 'static,
) -> Work {
    Work { name: name.to_owned(), what: what.to_owned(), unit, setting: Setting::Plain, wanted, run: Box::new(run) }
}

#[rustfmt::skip] // a table is read down its columns
fn works() -> Vec<Work> {
    let mut works = vec![
        work("push-large", "push of one large blob, new content", Unit::Bytes, (Some(5.0), Some(0.25)), |s, e, r| blobs::push(s, e, r, 1, 1)),
        work("pull-large", "pull of one large blob", Unit::Bytes, (Some(2.6), Some(0.30)), |s, e, r| blobs::pull(s, e, r, 1, 1)),
        work("pull-first", "first pull of a large blob that was just pushed", Unit::Bytes, (None, None), blobs::pull_first),
        work("push-pull", "such a push, and the first pull of it", Unit::Bytes, (None, None), blobs::push_and_pull),
        work("push-8", "eight such pushes at once, of an eighth each", Unit::Bytes, (Some(5.0), Some(0.25)), |s, e, r| blobs::push(s, e, r, 8, 8)),
        work("pull-8", "eight such pulls at once", Unit::Bytes, (Some(2.6), Some(0.30)), |s, e, r| blobs::pull(s, e, r, 8, 8)),
        work("image-5", "an image of five small layers pushed", Unit::Count, (None, None), |s, e, r| blobs::push_image(s, e, r, 5)),
        work("image-200", "an image of 200 layers pushed, one after another", Unit::Count, (Some(1.0), None), |s, e, r| blobs::push_image(s, e, r, 200)),
        work("base", "GET /v2/", Unit::Count, (Some(45.0), None), |s, e, _| requests::base(s, e)),
        work("manifest", "GET of a manifest by tag", Unit::Count, (Some(55.0), None), |s, e, _| requests::manifest(s, e, "GET")),
        work("manifest-head", "HEAD of a manifest by tag", Unit::Count, (None, None), |s, e, _| requests::manifest(s, e, "HEAD")),
        work("blob-small", "GET of a blob of 1 KiB", Unit::Count, (Some(55.0), None), |s, e, _| requests::blob(s, e, "GET")),
        work("blob-head", "HEAD of a blob", Unit::Count, (None, None), |s, e, _| requests::blob(s, e, "HEAD")),
        work("tags", "a page of 100 tags", Unit::Count, (None, None), |s, e, _| requests::tags(s, e)),
        work("catalog", "a page of 100 repositories", Unit::Count, (None, None), |s, e, _| requests::catalog(s, e)),
        work("image-small", "an image with a config of 4 KiB and a small layer pushed", Unit::Count, (None, None), requests::small_images),
        work("put-1", "PUT of new manifests, one writer", Unit::Count, (None, None), |s, e, r| requests::put(s, e, r, 1)),
        work("put-10", "PUT of new manifests, 10 writers", Unit::Count, (None, None), |s, e, r| requests::put(s, e, r, 10)),
        work("put-64", "PUT of new manifests, 64 writers", Unit::Count, (Some(5.0), None), |s, e, r| requests::put(s, e, r, 64)),
    ];
    works.extend(with_curl());
    works.extend(handshakes());
    works.extend(logged());
    works.extend(zb());
    works
}

/// Large blobs with curl, over plain HTTP, and over TLS in both versions of HTTP.
fn with_curl() -> Vec<Work> {
    let mut works = Vec::new();
    let tls = Setting::Tls(Key::Ecdsa);
    let kinds = [("curl", Setting::Plain, Http::One), ("tls1", tls, Http::One), ("tls2", tls, Http::Two)];
    for (name, setting, http) in kinds {
        let over = match name {
            "curl" => "curl over plain HTTP",
            "tls1" => "curl over TLS, HTTP/1.1",
            _ => "curl over TLS, HTTP/2",
        };
        let mut add = |kind: &str, what: &str, run: Run| {
            let (name, what) = (format!("{name}-{kind}"), format!("{over}: {what}"));
            works.push(Work { name, what, unit: Unit::Bytes, setting, wanted: (None, None), run });
        };
        add("push", "push of one large blob", Box::new(move |s, e, r| curl::push(s, e, r, http, 1)));
        add("push-8", "eight pushes at once", Box::new(move |s, e, r| curl::push(s, e, r, http, 8)));
        add("first", "first pull after the push", Box::new(move |s, e, r| curl::pull_first(s, e, r, http)));
        add("pull", "pull of one large blob", Box::new(move |s, e, r| curl::pull(s, e, r, http)));
    }
    works
}

/// New connections, each with one request. A handshake costs what such a connection costs more than a plain one.
fn handshakes() -> Vec<Work> {
    let each = |name: &str, what: &str, setting, beginning| Work {
        name: name.to_owned(),
        what: what.to_owned(),
        unit: Unit::Count,
        setting,
        wanted: (None, None),
        run: Box::new(move |s, e, _| handshakes::measure(s, e, beginning)),
    };
    let [ecdsa, rsa] = [Key::Ecdsa, Key::Rsa].map(Setting::Tls);
    let [full, resumed] = [Beginning::Full, Beginning::Resumed].map(|begin| begin(Version::Three));
    let [full_12, resumed_12] = [Beginning::Full, Beginning::Resumed].map(|begin| begin(Version::Two));
    vec![
        each("new-plain", "new plain connections with one request each", Setting::Plain, Beginning::Plain),
        each("new-tls13-full", "the same over TLS 1.3, with a key of P-256", ecdsa, full),
        each("new-tls13-resumed", "the same, resumed", ecdsa, resumed),
        each("new-tls13-rsa-full", "the same over TLS 1.3, with a key of RSA", rsa, full),
        each("new-tls13-rsa-resumed", "the same, resumed", rsa, resumed),
        each("new-tls12-full", "the same over TLS 1.2, with a key of P-256", ecdsa, full_12),
        each("new-tls12-resumed", "the same, resumed", ecdsa, resumed_12),
        each("new-tls12-rsa-full", "the same over TLS 1.2, with a key of RSA", rsa, full_12),
        each("new-tls12-rsa-resumed", "the same, resumed", rsa, resumed_12),
    ]
}

/// Small requests with the access log in a file, next to coracle without it.
fn logged() -> Vec<Work> {
    let each = |name: &str, what: &str, run: Run| Work {
        name: name.to_owned(),
        what: format!("{what}, with the access log, next to coracle without it"),
        unit: Unit::Count,
        setting: Setting::Logged,
        wanted: (None, None),
        run,
    };
    vec![
        each("log-base", "GET /v2/", Box::new(|s, e, _| requests::base(s, e))),
        each("log-manifest", "GET of a manifest by tag", Box::new(|s, e, _| requests::manifest(s, e, "GET"))),
    ]
}

/// The workloads of zot's benchmark `zb`: blobs of 1, 10 and 100 MB by 1, 10 and 32 clients.
fn zb() -> Vec<Work> {
    let mut works = Vec::new();
    for (megabytes, clients, count) in ZB {
        let (length, of) = (megabytes * 1_000_000, (megabytes * 1_000_000, clients, count));
        let name = |kind: &str| format!("zb-{kind}-{megabytes}mb-{clients}");
        let what = |kind: &str| format!("zb: {count} {kind} of {megabytes} MB by {clients} clients");
        let mut add = |kind: &str, text: &str, run: Run| {
            let (name, what) = (name(kind), what(text));
            works.push(Work { name, what, unit: Unit::Bytes, setting: Setting::Plain, wanted: (None, None), run });
        };
        add("push", "pushes", Box::new(move |s, _, r| blobs::push_many(s, r, of)));
        add("chunked", "pushes in chunks", Box::new(move |s, _, r| blobs::push_chunked(s, r, of)));
        add("again", "pushes of what is elsewhere", Box::new(move |s, _, r| blobs::push_again(s, r, of)));
        add("pull", "pulls", Box::new(move |s, _, r| blobs::pull_many(s, r, length, clients, count)));
        add("mixed", "requests, of four three pulls and a push,", Box::new(move |s, _, r| blobs::mixed(s, r, of)));
    }
    works
}

/// Megabytes, clients, and how many blobs in all: enough to be measured, and not more.
const ZB: [(usize, usize, usize); 9] = [
    (1, 1, 100),
    (1, 10, 200),
    (1, 32, 320),
    (10, 1, 30),
    (10, 10, 50),
    (10, 32, 64),
    (100, 1, 5),
    (100, 10, 10),
    (100, 32, 32),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{HELP}");
        for Work { name, what, .. } in works() {
            println!("{name:20} {what}");
        }
        return ExitCode::SUCCESS;
    }
    let chosen = |work: &&Work| {
        (arguments.is_empty() && !work.name.starts_with("zb"))
            || arguments.iter().any(|name| work.name.starts_with(name.as_str()))
    };
    let whole = |name, default| std::env::var(name).map_or(default, |text| text.parse::<usize>().unwrap());
    let extent = Extent {
        rounds: whole("SPEED_ROUNDS", 5),
        seconds: std::env::var("SPEED_SECONDS").map_or(2.0, |text| text.parse().unwrap()),
        mib: whole("SPEED_MIB", 1024),
    };
    let peer = Peer::chosen();
    let mut report = Report::new(peer.name());
    for work in works().iter().filter(chosen) {
        // New ones for each kind of work, so that what one has left does not weigh on the next.
        let other = match work.setting {
            Setting::Logged => Some(Server::coracle(Setting::Plain)),
            setting => peer.start(setting),
        };
        let servers: Vec<Server> = [Some(Server::coracle(work.setting)), other].into_iter().flatten().collect();
        let mut done = vec![Vec::new(); servers.len()];
        for round in 0..=extent.rounds {
            for (server, done) in servers.iter().zip(&mut done) {
                let one = (work.run)(server, extent, round);
                // The first is to get warm.
                if round > 0 {
                    done.push(one);
                }
            }
        }
        let memory: Vec<_> = servers.iter().map(Server::peak_mib).collect();
        report.add(work, &done, &memory);
    }
    report.end()
}
