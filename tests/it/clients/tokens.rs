//! Tokens in the hands of real clients: each asks for one with its password and works with it, a long push outlives
//! several of them, and what one client presents twice is one mistake.
//!
//! No client says what it sends, so the registry's own log tells.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::content::{self, LAYERS};
use super::ctr::Containerd;
use super::curl::Curl;
use super::home::{Home, needs};
use super::image::compare;
use super::skopeo::Skopeo;
use super::storage::Storage;
use super::target::{Target, guarded_as};

/// A log that programs read.
const JSON_LOG: &str = "log.format = 'json'\n";

/// The shortest life that a token may have.
const SHORT_LIVED: &str = "log.format = 'json'\nhttp.auth.token.lifetime = '60s'\n";

/// Where tokens are got.
const TOKEN_PATH: &str = "/v2/auth";

/// One answered request, as the log has it.
#[derive(Debug, Deserialize)]
struct Line {
    timestamp: String,
    method: String,
    path: String,
    status: u16,
    user: Option<String>,
    agent: Option<String>,
}

impl Line {
    fn is_for_a_token(&self) -> bool {
        self.path == TOKEN_PATH
    }
}

/// Reads the log of requests in parts: what was asked since it was read last.
struct Log<'a> {
    target: &'a Target,
    read: usize,
}

impl<'a> Log<'a> {
    fn of(target: &'a Target) -> Self {
        Self { target, read: 0 }
    }

    /// The requests since the last call. One of this function's own stands at the end, so that nothing that was
    /// answered before it is still on its way into the log.
    fn next(&mut self) -> Vec<Line> {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let mark = format!("/mark/{}", CALLS.fetch_add(1, Ordering::Relaxed));
        let program = self.target.program();
        let mut stream = TcpStream::connect(program.address()).unwrap();
        write!(stream, "GET {mark} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", program.address()).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        let log = program.wait_for(&format!("\"{mark}\""));
        let lines: Vec<Line> = log
            .lines()
            .filter(|line| line.starts_with('{') && line.contains("\"target\":\"coracle::request\""))
            .map(|line| serde_json::from_str(line).unwrap())
            .take_while(|line: &Line| line.path != mark)
            .filter(|line| !line.path.starts_with("/mark/"))
            .collect();
        let since = self.read;
        self.read = lines.len();
        lines.into_iter().skip(since).collect()
    }
}

/// A slow way to a registry: whatever a client sends waits a while before it goes on. It forwards bytes, knows no
/// HTTP, and ends when it is dropped.
struct SlowProxy {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl SlowProxy {
    fn before(registry: SocketAddr, pause: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&ended);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(server) = TcpStream::connect(registry) else { continue };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || forward(from, to, pause));
                thread::spawn(move || forward(server, client, Duration::ZERO));
            }
        });
        Self { address, ended }
    }
}

impl Drop for SlowProxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // The thread that accepts looks up.
        let _ = TcpStream::connect(self.address);
    }
}

/// Forwards bytes until one of the two ends.
fn forward(mut from: TcpStream, mut to: TcpStream, pause: Duration) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        thread::sleep(pause);
        if to.write_all(&buffer[..length]).is_err() {
            let _ = from.shutdown(Shutdown::Both);
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[test]
fn skopeo_probe() {
    needs!(SKOPEO);
    let target = guarded_as(SHORT_LIVED);
    let proxy = SlowProxy::before(target.program().address(), Duration::from_millis(500));
    let target = target.seen_at(proxy.address);
    let home = Home::beside(&target);
    let image = content::many_layers();
    let started = std::time::Instant::now();
    Skopeo::signed_in(&home, &target).push(&image, "tokens/many:one");
    let lines = Log::of(&target).next();
    for l in lines.iter().filter(|l| l.is_for_a_token() || ![200, 404, 202, 201].contains(&l.status)) {
        eprintln!("{l:?}");
    }
    eprintln!("{} {:?}", lines.len(), started.elapsed());
}

#[test]
fn ctr_probe() {
    needs!(CTR, CONTAINERD);
    let target = guarded_as(SHORT_LIVED);
    let proxy = SlowProxy::before(target.program().address(), Duration::from_millis(500));
    let target = target.seen_at(proxy.address);
    let home = Home::beside(&target);
    let image = content::many_layers();
    let started = std::time::Instant::now();
    let ctr = Containerd::start(&home, &target);
    ctr.import(&image, "tokens/many");
    ctr.reach(&["images", "push"], &["--max-concurrent-uploaded-layers=6", &target.image("tokens/many:many")]);
    let lines = Log::of(&target).next();
    for l in lines.iter().filter(|l| l.is_for_a_token() || ![200, 404, 202, 201].contains(&l.status)) {
        eprintln!("{l:?}");
    }
    eprintln!("{} {:?}", lines.len(), started.elapsed());
}
