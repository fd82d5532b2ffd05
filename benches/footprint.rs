//! Memory of the program, and the time to its first response. `cargo bench --bench footprint`.
//!
//! Runs the real program on a new data directory, as a user would, and looks at it from outside: at
//! `/proc/<pid>/status`, so on Linux only. The large blob is made on the way, so that nothing but the
//! registry has to hold it, and what comes back is compared by digest. Ends with 1 if a figure is missed.
//!
//! `FOOTPRINT_GIB`, `FOOTPRINT_REPOSITORIES` and `FOOTPRINT_PROGRAM` change what is measured.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the benchmark")]
#![expect(clippy::cast_precision_loss, reason = "figures for people are far below 2^52")]

use std::convert::Infallible;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

#[path = "support/mod.rs"]
mod support;

use support::process::Process as _;
use support::program::{PASSWORD, Program};
use support::{directory, mib};

/// Limits.
const IDLE_MIB_MAX: f64 = 10.0;
const MIB_MAX: f64 = 64.0;
const FIRST_ANSWER_MAX: Duration = Duration::from_millis(15);

const BLOCK_BYTES: usize = 1 << 20;
const CLIENTS: usize = 64;
/// Each start is measured so often, and the median counts: other programs want the processor too.
const STARTS: usize = 7;

const EMPTY: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn main() {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse::<u64>().unwrap());
    let (gib, repositories) = (number("FOOTPRINT_GIB", 4), number("FOOTPRINT_REPOSITORIES", 10_000));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut table = Table::default();
    runtime.block_on(async {
        memory(&mut table, gib).await;
        time(&mut table, repositories).await;
    });
    table.end();
}

/// Resident memory of the idle program, in bytes.
async fn at_rest(program: &Program) -> u64 {
    tokio::time::sleep(Duration::from_secs(1)).await;
    program.resident()
}

/// Memory: idle, and with one large blob going in and out.
async fn memory(table: &mut Table, gib: u64) {
    let directory = directory();
    let (program, _) = start(directory.path(), &[]);
    table.mib("idle, after the first start", at_rest(&program).await, IDLE_MIB_MAX);
    let signed_in = send(&program, basic("GET", "/v2/").body(empty()).unwrap()).await;
    assert_eq!(signed_in.status(), 200);
    table.mib("idle, after a sign-in", at_rest(&program).await, IDLE_MIB_MAX);

    program.reset_peak();
    let begun = Instant::now();
    let digest = push(&program, gib).await;
    let seconds = begun.elapsed().as_secs_f64();
    table.mib(&format!("peak while {gib} GiB are pushed ({seconds:.1} s)"), program.peak(), MIB_MAX);
    table.mib("after the push", program.resident(), MIB_MAX);

    program.reset_peak();
    let begun = Instant::now();
    pull(&program, gib, &digest).await;
    let seconds = begun.elapsed().as_secs_f64();
    table.mib(&format!("peak while {gib} GiB are pulled ({seconds:.1} s)"), program.peak(), MIB_MAX);
    table.mib("after the pull", program.resident(), MIB_MAX);
}

/// Time from the start of the process to its first answer.
async fn time(table: &mut Table, repositories: u64) {
    let nothing = directory();
    start(nothing.path(), &["--open"]).0.stop();
    table.ms("first answer, empty store", first_answer(nothing.path(), Program::stop), FIRST_ANSWER_MAX);

    let many = directory();
    let (program, _) = start(many.path(), &["--open"]);
    program.reset_peak();
    let begun = Instant::now();
    fill(&program, repositories).await;
    let seconds = begun.elapsed().as_secs_f64();
    table.mib(
        &format!("peak while {repositories} repositories are pushed by {CLIENTS} clients ({seconds:.1} s)"),
        program.peak(),
        MIB_MAX,
    );
    let size = std::fs::metadata(many.path().join("coracle.redb")).unwrap().len();
    println!("the database of {repositories} repositories has {:.1} MiB", mib(size));
    program.kill();
    // The first start after a crash is the one that has something to repair.
    let (program, first) = start(many.path(), &["--open"]);
    table.ms(&format!("first answer, {repositories} repositories, after their kill -9"), first, FIRST_ANSWER_MAX);
    program.stop();
    let stopped = first_answer(many.path(), Program::stop);
    table.ms(&format!("first answer, {repositories} repositories, after a stop"), stopped, FIRST_ANSWER_MAX);
    let killed = first_answer(many.path(), write_and_kill);
    table.ms(&format!("first answer, {repositories} repositories, after a kill -9"), killed, FIRST_ANSWER_MAX);

    // The first start after a kill rebuilds the journal, and then caches what it has read.
    start(many.path(), &["--open"]).0.stop();
    let (program, _) = start(many.path(), &["--open"]);
    table.mib(&format!("idle, with {repositories} repositories"), at_rest(&program).await, IDLE_MIB_MAX);
    let (latency, rate) = commits(&program).await;
    println!("one upload finished after another: {latency:.2} ms each; {rate:.0} a second by {CLIENTS} clients");
}

/// The median of some starts, each after the program before was ended so.
fn first_answer(root: &Path, end: impl Fn(Program)) -> Duration {
    let mut times = Vec::new();
    let (program, _) = start(root, &["--open"]);
    end(program);
    for _ in 0..STARTS {
        let (program, time) = start(root, &["--open"]);
        times.push(time);
        end(program);
    }
    times.sort();
    times[STARTS / 2]
}

/// Pushes a blob of so many GiB, and returns its digest.
async fn push(program: &Program, gib: u64) -> String {
    let started = send(program, basic("POST", "/v2/large/blobs/uploads/").body(empty()).unwrap()).await;
    assert_eq!(started.status(), 202);
    let location = started.headers()["location"].to_str().unwrap().to_owned();
    let (pieces, queue) = tokio::sync::mpsc::channel(4);
    let hashing = std::thread::spawn(move || {
        let mut hash = Sha256::new();
        for index in 0..gib << 10 {
            let block = block(index);
            hash.update(&block);
            pieces.blocking_send(block).unwrap();
        }
        format!("sha256:{}", hex::encode(hash.finalize()))
    });
    let stream = futures_util::stream::unfold(queue, async |mut queue| {
        let block = queue.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(block)), queue))
    });
    let request = basic("PATCH", &location).header("content-length", gib << 30);
    let response = send(program, request.body(StreamBody::new(stream).boxed()).unwrap()).await;
    assert_eq!(response.status(), 202);
    let digest = hashing.join().unwrap();
    let last = basic("PUT", &format!("{location}?digest={digest}"));
    assert_eq!(send(program, last.body(empty()).unwrap()).await.status(), 201);
    digest
}

/// Pulls it again, and compares every byte.
async fn pull(program: &Program, gib: u64, digest: &str) {
    let request = basic("GET", &format!("/v2/large/blobs/{digest}"));
    let response = send(program, request.body(empty()).unwrap()).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let (mut hash, mut length) = (Sha256::new(), 0);
    while let Some(frame) = body.frame().await {
        let bytes = frame.unwrap().into_data().unwrap();
        length += bytes.len() as u64;
        hash.update(&bytes);
    }
    assert_eq!(length, gib << 30);
    assert_eq!(format!("sha256:{}", hex::encode(hash.finalize())), digest);
}

/// A block that no other index has.
fn block(index: u64) -> Bytes {
    let mut block = BytesMut::zeroed(BLOCK_BYTES);
    let mut state = index.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for word in block.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    block.freeze()
}

/// Pushes so many repositories, each of a mounted empty config and one small manifest.
async fn fill(program: &Program, repositories: u64) {
    let push = post(format!("/v2/r0/blobs/uploads/?digest={EMPTY}")).body(full("{}")).unwrap();
    assert_eq!(send(program, push).await.status(), 201);
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS as u64 {
        let mut sender = connect(program).await;
        clients.spawn(async move {
            for index in (client..repositories).step_by(CLIENTS) {
                let mount = format!("/v2/r{index}/blobs/uploads/?mount={EMPTY}&from=r0");
                let mount = post(mount).body(empty()).unwrap();
                assert_eq!(answer(&mut sender, mount).await, 201);
                let put = put(format!("/v2/r{index}/manifests/1")).header("content-type", MANIFEST);
                assert_eq!(answer(&mut sender, put.body(full(manifest(index))).unwrap()).await, 201);
            }
        });
    }
    clients.join_all().await;
}

fn manifest(index: u64) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","artifactType":"application/x-footprint","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{EMPTY}","size":2}},"layers":[],"annotations":{{"index":"{index}"}}}}"#
    )
}

/// The cost of a commit: milliseconds of sequential pushes, and pushes a second of many clients.
async fn commits(program: &Program) -> (f64, f64) {
    const EACH: u32 = 20;
    let push = async |sender: &mut SendRequest<_>, content: String| {
        let digest = hex::encode(Sha256::digest(&content));
        let request = post(format!("/v2/c/blobs/uploads/?digest=sha256:{digest}"));
        assert_eq!(answer(sender, request.body(full(content)).unwrap()).await, 201);
    };
    let mut sender = connect(program).await;
    let begun = Instant::now();
    for index in 0..5 * EACH {
        push(&mut sender, format!("one {index}")).await;
    }
    let latency = begun.elapsed().as_secs_f64() * 1000.0 / f64::from(5 * EACH);
    let mut clients = JoinSet::new();
    let begun = Instant::now();
    for client in 0..CLIENTS {
        let mut sender = connect(program).await;
        clients.spawn(async move {
            for index in 0..EACH {
                let content = format!("{client} {index}");
                let digest = hex::encode(Sha256::digest(&content));
                let request = post(format!("/v2/c/blobs/uploads/?digest=sha256:{digest}"));
                assert_eq!(answer(&mut sender, request.body(full(content)).unwrap()).await, 201);
            }
        });
    }
    clients.join_all().await;
    let pushed = f64::from(EACH) * f64::from(u32::try_from(CLIENTS).unwrap());
    (latency, pushed / begun.elapsed().as_secs_f64())
}

type RequestBody = BoxBody<Bytes, Infallible>;

fn full(content: impl Into<Bytes>) -> RequestBody {
    Full::new(content.into()).boxed()
}

fn empty() -> RequestBody {
    full("")
}

/// Sends a request on a connection that others follow on, and returns the status.
async fn answer(sender: &mut SendRequest<RequestBody>, request: Request<RequestBody>) -> u16 {
    sender.ready().await.unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    response.into_body().collect().await.unwrap();
    status
}

/// Starts the program, and says how long it took until its first answer.
fn start(root: &Path, arguments: &[&str]) -> (Program, Duration) {
    Program::first_answer("FOOTPRINT_PROGRAM", root, arguments)
}

async fn connect(program: &Program) -> SendRequest<RequestBody> {
    let socket = TcpStream::connect(program.address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let (sender, connection) = handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn send(program: &Program, request: Request<RequestBody>) -> Response<hyper::body::Incoming> {
    connect(program).await.send_request(request).await.unwrap()
}

/// A request with the credentials of the first superuser.
fn basic(method: &str, path: &str) -> hyper::http::request::Builder {
    use base64::Engine as _;
    let credentials = base64::engine::general_purpose::STANDARD.encode(format!("admin:{PASSWORD}"));
    request(method, path).header("authorization", format!("Basic {credentials}"))
}

/// Ends it with something to repair: a start alone changes nothing.
fn write_and_kill(program: Program) {
    let content = format!("{:?}", Instant::now());
    let digest = hex::encode(Sha256::digest(&content));
    let head =
        format!("POST /v2/k/blobs/uploads/?digest=sha256:{digest} HTTP/1.1\r\nhost: localhost\r\nconnection: close");
    let answer = program.ask(&format!("{head}\r\ncontent-length: {}\r\n\r\n{content}", content.len()));
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    program.kill();
}

/// The figures and their limits.
#[derive(Debug, Default)]
struct Table {
    missed: usize,
    rows: Vec<String>,
}

impl Table {
    fn mib(&mut self, what: &str, bytes: u64, most: f64) {
        self.row(what, mib(bytes), most, "MiB");
    }

    fn ms(&mut self, what: &str, time: Duration, most: Duration) {
        self.row(what, time.as_secs_f64() * 1000.0, most.as_secs_f64() * 1000.0, "ms");
    }

    fn row(&mut self, what: &str, value: f64, most: f64, unit: &str) {
        let missed = value > most;
        self.missed += usize::from(missed);
        let remark = if missed { "  MISSED" } else { "" };
        let row = format!("{what:<75} {value:>8.1} {unit:<3}  of at most {most:>5.0}{remark}");
        println!("{row}");
        self.rows.push(row);
    }

    fn end(self) {
        println!("\n{}", self.rows.join("\n"));
        if self.missed > 0 {
            println!("{} figures are missed", self.missed);
            std::process::exit(1);
        }
    }
}

fn post(path: impl AsRef<str>) -> hyper::http::request::Builder {
    request("POST", path.as_ref())
}

fn put(path: impl AsRef<str>) -> hyper::http::request::Builder {
    request("PUT", path.as_ref())
}

/// HTTP/1.1 wants a Host in every request.
fn request(method: &str, path: &str) -> hyper::http::request::Builder {
    Request::builder().method(method).uri(path).header("host", "localhost")
}
