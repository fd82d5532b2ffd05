//! Many clients at once. `cargo bench --bench clients`.
//!
//! Runs the real program with limits for many connections. The clients have addresses of their own on the loopback
//! interface. Looks at `/proc/<pid>`, so on Linux only.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the benchmark")]
#![expect(clippy::cast_precision_loss, reason = "figures for people are far below 2^52")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

#[path = "support/mod.rs"]
mod support;

use support::client::Client;
use support::content::Noise;
use support::process::Process as _;
use support::program::Program;
use support::{directory, mib};

const HELP: &str = "\
cargo bench --bench clients: measure the registry with many clients

idle     Connections that stay after one request, plain and over TLS: memory of each, and the time of a new request.
pulls    Pulls of a blob of 1 MiB at once, over TLS: throughput, processor time, highest memory.
fair     Small requests, alone and while eight clients pull a large blob again and again, plain and over TLS: the times in
         the middle, of 99 of 100, and the longest.

Arguments choose among the three.

CLIENTS_IDLE      idle connections [default: 10000]
CLIENTS_PULLS     pulls at once [default: 1000]
CLIENTS_PROGRAM   the program to measure [default: the one that was just built]
";

const LARGE_BYTES: usize = 64 << 20;
const SMALL_BYTES: usize = 1 << 20;
const REQUEST: &[u8] = b"GET /v2/ HTTP/1.1\r\nhost: localhost\r\n\r\n";
/// Idle connections that are opened at the same time.
const OPENED_AT_ONCE: usize = 50;
/// Small requests of each measurement.
const REQUESTS: usize = 1000;
const PULLERS: usize = 8;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// The program, and how its clients connect.
struct Served {
    program: Program,
    tls: Option<TlsConnector>,
    small: String,
    large: String,
    _root: tempfile::TempDir,
}

impl Served {
    fn start(with_tls: bool) -> Self {
        let root = directory();
        let mut config =
            "[log]\nlevel = 'warn'\n[http]\nopen = true\n[http.limits]\nmaxConnections = 50000\n".to_owned();
        config.push_str("maxConnectionsPerAddress = 50000\nidleTimeout = '10m'\n");
        // Blobs are pushed over plain HTTP.
        let program = Program::configured("CLIENTS_PROGRAM", root.path(), &config);
        let (noise, mut client) = (Noise::new(), Client::connect(program.address));
        let [small, large] = [SMALL_BYTES, LARGE_BYTES].map(|bytes| {
            let content = noise.content(bytes, (0, 0, bytes));
            client.push("many", &noise, &content);
            content.digest().to_owned()
        });
        drop(client);
        program.stop();
        let tls = with_tls.then(|| {
            let [certificate, key] = ["cert.pem", "key.pem"].map(|name| root.path().join(name));
            let mut command = Command::new("openssl");
            command.args(["req", "-x509", "-days", "2", "-nodes", "-subj", "/CN=localhost", "-newkey", "ec"]);
            command.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-addext", "subjectAltName=DNS:localhost", "-addext"]);
            command.args(["basicConstraints=critical,CA:FALSE", "-out"]).arg(&certificate).arg("-keyout").arg(&key);
            assert!(command.stderr(Stdio::null()).status().unwrap().success(), "openssl makes a certificate");
            let tables = format!("[http.tls]\ncert = '{}'\nkey = '{}'\n", certificate.display(), key.display());
            config.push_str(&tables);
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(&certificate).unwrap()).unwrap();
            let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
            TlsConnector::from(Arc::new(config))
        });
        let program = Program::configured("CLIENTS_PROGRAM", root.path(), &config);
        Self { program, tls, small, large, _root: root }
    }

    const fn over(&self) -> &'static str {
        if self.tls.is_some() { "over TLS" } else { "plain" }
    }
}

/// Connects from the address with this number.
async fn connect(address: SocketAddr, tls: Option<TlsConnector>, number: usize) -> Box<dyn Stream> {
    let socket = TcpSocket::new_v4().unwrap();
    let [_, _, high, low] = u32::try_from(number / 100).unwrap().to_be_bytes();
    socket.bind((IpAddr::V4(Ipv4Addr::new(127, 1, high, low.max(1))), 0).into()).unwrap();
    let stream: TcpStream = socket.connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    match tls {
        None => Box::new(stream),
        Some(tls) => {
            Box::new(tls.connect(ServerName::try_from("localhost").unwrap(), stream).await.expect("a TLS connection"))
        }
    }
}

/// Sends a request. Returns the number of bytes of the body.
async fn ask(stream: &mut Box<dyn Stream>, request: &[u8], buffer: &mut [u8]) -> usize {
    stream.write_all(request).await.unwrap();
    stream.flush().await.unwrap();
    let (mut received, mut expected) = (0, None);
    let mut head = Vec::new();
    loop {
        let count = stream.read(buffer).await.unwrap();
        assert_ne!(count, 0, "the connection has ended");
        if expected.is_none() {
            head.extend_from_slice(&buffer[..count]);
            let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(&head[..end]).unwrap();
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
            let length =
                text.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
            expected = Some(length.unwrap_or(0));
            received = head.len() - end - 4;
        } else {
            received += count;
        }
        if expected.is_some_and(|expected: usize| received >= expected) {
            return received;
        }
    }
}

async fn idle(with_tls: bool, count: usize) {
    let served = Served::start(with_tls);
    let (address, program) = (served.program.address, &served.program);
    let mut buffer = vec![0; 16 * 1024];
    ask(&mut connect(address, served.tls.clone(), 0).await, REQUEST, &mut buffer).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, began) = (program.resident(), Instant::now());
    let mut streams = Vec::with_capacity(count);
    while streams.len() < count {
        let mut opening = JoinSet::new();
        for number in streams.len()..count.min(streams.len() + OPENED_AT_ONCE) {
            let tls = served.tls.clone();
            opening.spawn(async move {
                let mut stream = connect(address, tls, number).await;
                ask(&mut stream, REQUEST, &mut vec![0; 4096]).await;
                stream
            });
        }
        streams.extend(opening.join_all().await);
    }
    let opened = began.elapsed();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let each = program.resident().saturating_sub(before) as f64 / count as f64 / 1024.0;
    let began = Instant::now();
    for stream in streams.iter_mut().step_by(count.div_ceil(100)) {
        ask(stream, REQUEST, &mut buffer).await;
    }
    let again = began.elapsed().as_secs_f64() * 1e6 / count.min(100) as f64;
    println!(
        "idle, {}: {count} connections in {opened:.1?}; {each:.1} KiB each, {:.1} MiB in all; a request on one takes {again:.0} µs",
        served.over(),
        mib(program.resident())
    );
}

async fn pulls(count: usize) {
    let served = Served::start(true);
    let (address, program) = (served.program.address, &served.program);
    let request = format!("GET /v2/many/blobs/{} HTTP/1.1\r\nhost: localhost\r\n\r\n", served.small);
    // All of them are connected before the first one pulls.
    let mut streams = Vec::new();
    for number in 0..count {
        streams.push(connect(address, served.tls.clone(), number).await);
    }
    program.reset_peak();
    let (processor, began) = (program.processor(), Instant::now());
    let mut pulling = JoinSet::new();
    for mut stream in streams {
        let request = request.clone();
        pulling.spawn(async move {
            let bytes = ask(&mut stream, request.as_bytes(), &mut vec![0; 64 * 1024]).await;
            (bytes, began.elapsed())
        });
    }
    let pulled = pulling.join_all().await;
    assert!(pulled.iter().all(|(bytes, _)| *bytes == SMALL_BYTES));
    let (seconds, gigabytes) = (began.elapsed().as_secs_f64(), (count * SMALL_BYTES) as f64 / 1e9);
    let mut times: Vec<_> = pulled.into_iter().map(|(_, time)| time).collect();
    times.sort_unstable();
    println!(
        "pulls, over TLS: {count} at once, {:.0} MB/s, {:.2} s/GB; ended after {:.1?} to {:.1?}; highest memory {:.1} MiB",
        gigabytes * 1e3 / seconds,
        (program.processor() - processor) / gigabytes,
        times[0],
        times[count - 1],
        mib(program.peak())
    );
}

/// The times of small requests, one after another, on a thread of their own: they should not wait for other clients.
async fn times(served: &Served) -> [Duration; 3] {
    let (address, tls) = (served.program.address, served.tls.clone());
    let measuring = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(measured_times(address, tls))
    };
    tokio::task::spawn_blocking(measuring).await.unwrap()
}

async fn measured_times(address: SocketAddr, tls: Option<TlsConnector>) -> [Duration; 3] {
    let (mut stream, mut buffer) = (connect(address, tls, 0).await, vec![0; 4096]);
    let mut times = Vec::new();
    for _ in 0..REQUESTS {
        let began = Instant::now();
        ask(&mut stream, REQUEST, &mut buffer).await;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    [times[REQUESTS / 2], times[REQUESTS * 99 / 100], times[REQUESTS - 1]]
}

async fn fair(with_tls: bool) {
    let served = Served::start(with_tls);
    let alone = times(&served).await;
    let (address, tls, is_over) = (served.program.address, served.tls.clone(), Arc::new(AtomicBool::new(false)));
    let request = format!("GET /v2/many/blobs/{} HTTP/1.1\r\nhost: localhost\r\n\r\n", served.large);
    let mut pulling = JoinSet::new();
    for number in 1..=PULLERS {
        let (tls, is_over, request) = (tls.clone(), Arc::clone(&is_over), request.clone());
        pulling.spawn(async move {
            let mut stream = connect(address, tls, number * 100).await;
            let mut buffer = vec![0; 256 * 1024];
            while !is_over.load(Ordering::Relaxed) {
                ask(&mut stream, request.as_bytes(), &mut buffer).await;
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let busy = times(&served).await;
    is_over.store(true, Ordering::Relaxed);
    pulling.join_all().await;
    println!("fair, {}: {alone:.1?} alone; {busy:.1?} next to {PULLERS} large pulls", served.over());
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse::<usize>().unwrap());
    let is_chosen = |part: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == part);
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        if is_chosen("idle") {
            let count = number("CLIENTS_IDLE", 10_000);
            idle(false, count).await;
            idle(true, count).await;
        }
        if is_chosen("pulls") {
            pulls(number("CLIENTS_PULLS", 1000)).await;
        }
        if is_chosen("fair") {
            fair(false).await;
            fair(true).await;
        }
    });
    ExitCode::SUCCESS
}
