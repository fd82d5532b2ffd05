//! Access tokens with real clients: each fetches a token with its password and works with it, a long push outlives several
//! tokens, and a password that a client presents twice counts as one mistake.
//!
//! The requests are read from the registry's log.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{panic, thread};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::content;
use super::ctr::Containerd;
use super::curl::Curl;
use super::home::{Home, needs, says_unauthorized};
use super::image::{Image, compare};
use super::skopeo::Skopeo;
use super::storage::Storage;
use super::target::{Target, guarded_as};
use crate::support::is_long_form;

/// A configuration with a JSON log.
const JSON_LOG: &str = "log.format = 'json'\n";

/// The shortest lifetime of a token.
const SHORT_LIVED: &str = "log.format = 'json'\nhttp.auth.token.lifetime = '60s'\n";

/// The path of the token service.
const TOKEN_PATH: &str = "/v2/auth";

/// One request in the log.
#[derive(Debug, Deserialize)]
struct Line {
    timestamp: String,
    method: String,
    path: String,
    status: u16,
    user: Option<String>,
}

impl Line {
    fn at(&self) -> Timestamp {
        self.timestamp.parse().unwrap()
    }

    fn is_for_a_token(&self) -> bool {
        self.path == TOKEN_PATH
    }
}

/// Reads the log in parts: the requests since the last call.
struct Log<'a> {
    target: &'a Target,
    read: usize,
}

impl<'a> Log<'a> {
    fn of(target: &'a Target) -> Self {
        Self { target, read: 0 }
    }

    /// The requests since the last call. This function sends a request of its own and waits for its line, so that all
    /// earlier lines are in the log.
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

/// The speed of the slow link: seven pieces a second for all connections together. In the long form it is slow until the
/// lifetime of a token is over, and both clients have more pieces than that for 200 layers.
const PAUSE: Duration = Duration::from_millis(150);

fn slow_for() -> Duration {
    Duration::from_secs(if is_long_form() { 70 } else { 2 })
}

/// A slow link to a registry: it forwards one piece of bytes after another, each after a pause. It knows no HTTP and ends
/// when it is dropped.
struct SlowProxy {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
}

/// The turn of a piece: pieces go one after another.
#[derive(Default)]
struct Pace {
    /// The time of the first piece.
    began: Mutex<Option<Instant>>,
}

impl Pace {
    fn wait(&self) {
        let mut began = self.began.lock().unwrap();
        if began.get_or_insert_with(Instant::now).elapsed() < slow_for() {
            thread::sleep(PAUSE);
        }
    }
}

impl SlowProxy {
    fn before(registry: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&ended);
        let pace = Arc::new(Pace::default());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(server) = TcpStream::connect(registry) else { continue };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let pace = Arc::clone(&pace);
                thread::spawn(move || forward(from, to, || pace.wait()));
                thread::spawn(move || forward(server, client, || ()));
            }
        });
        Self { address, ended }
    }
}

impl Drop for SlowProxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// Forwards bytes until one of the two ends.
fn forward(mut from: TcpStream, mut to: TcpStream, wait: impl Fn()) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        wait();
        if to.write_all(&buffer[..length]).is_err() {
            let _ = from.shutdown(Shutdown::Both);
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// The first request that got a token.
fn first_token(lines: &[Line]) -> &Line {
    lines.iter().find(|line| line.is_for_a_token() && line.status == 200).unwrap()
}

/// Lets a client push many layers over the slow link, and checks the result. Returns the requests of the push.
fn pushed_slowly(push: impl Fn(&Home, &Target, &Image, &str)) -> Vec<Line> {
    let target = guarded_as(SHORT_LIVED);
    let proxy = SlowProxy::before(target.program().address());
    let target = target.seen_at(proxy.address);
    let home = Home::beside(&target);
    let image = content::many_layers();
    let mut log = Log::of(&target);
    push(&home, &target, &image, "tokens/many");
    let lines = log.next();
    // A client that sends too little finishes before the first token expires, and proves nothing.
    let since = |line: &Line| line.at().duration_since(first_token(&lines).at());
    let took = since(&lines[lines.len() - 1]);
    assert!(took > SignedDuration::from_secs(60) || !is_long_form(), "{} requests took {took}", lines.len());
    // Requests without a token came long ago, before the first token.
    for line in lines.iter().filter(|line| since(line) > SignedDuration::from_secs(20) && !line.is_for_a_token()) {
        assert_eq!(line.user.as_deref(), Some("admin"), "{line:?} after {}", since(line));
    }

    let target = target.seen_at_itself();
    let served = Curl::of(&home, &target);
    compare(&image, |part| served.fetch("tokens/many", part).is(200).body).at_least(1, content::layers() + 1, 0);
    lines
}

/// In the long form, the push takes longer than a token lives. Both clients are in one test, because both mostly wait.
#[test]
fn a_slow_push_of_many_layers_is_never_refused() {
    needs!(SKOPEO, CTR, CONTAINERD, CURL);
    let [skopeo, ctr] = thread::scope(|scope| {
        let skopeo = scope.spawn(|| {
            pushed_slowly(|home, target, image, name| {
                Skopeo::signed_in(home, target).push(image, &format!("{name}:{}", image.tag));
            })
        });
        let ctr = scope.spawn(|| {
            pushed_slowly(|home, target, image, name| {
                let ctr = Containerd::start(home, target);
                ctr.import(image, name);
                // Concurrent requests would have no token for a third of the time.
                let few = "--max-concurrent-uploaded-layers=6";
                ctr.reach(&["images", "push"], &[few, &target.image(&format!("{name}:{}", image.tag))]);
            })
        });
        // A failure goes on as it is, so that its reason is the last thing that the test prints.
        [skopeo, ctr].map(|client| client.join().unwrap_or_else(|failure| panic::resume_unwind(failure)))
    });
    // skopeo follows the lifetime of the first token. ctr 1.6 uses one token for all requests, the last of which come
    // after its expiry.
    let tokens: Vec<&Line> = skopeo.iter().filter(|line| line.is_for_a_token() && line.status == 200).collect();
    let between = tokens[tokens.len() - 1].at().duration_since(tokens[0].at());
    assert!(between >= SignedDuration::from_secs(59) || !is_long_form(), "{tokens:?}");
    assert_eq!(first_token(&ctr).method, "POST");
}

/// Checks the requests of a client with tokens: it gets a challenge, fetches a token with its password, and sends all other
/// requests as its user.
#[track_caller]
fn works_with_a_token(what: &str, lines: &[Line]) {
    let asked = lines.iter().position(Line::is_for_a_token).unwrap_or_else(|| panic!("{what}: no token in {lines:?}"));
    for line in &lines[..asked] {
        assert_eq!((line.status, &line.user), (401, &None), "{what}: before it has a token: {line:?}");
    }
    assert!(asked > 0, "{what}: nothing told it that tokens are wanted: {lines:?}");
    let rest = &lines[asked..];
    assert!(rest.iter().any(|line| !line.is_for_a_token()), "{what}: the token is for nothing: {lines:?}");
    for line in rest {
        assert_eq!(line.user.as_deref(), Some("admin"), "{what}: {line:?}");
        assert!(line.status < 500 && line.status != 401, "{what}: {line:?}");
    }
}

#[test]
fn skopeo_podman_and_buildah_sign_in_push_pull_and_delete_with_tokens() {
    needs!(SKOPEO, PODMAN, BUILDAH, UMOCI, BUSYBOX);
    let target = guarded_as(JSON_LOG);
    let mut log = Log::of(&target);
    let image = content::busybox();
    for program in ["podman", "buildah"] {
        let home = Home::beside(&target);
        let storage = Storage::signed_in(program, &home, &target);
        works_with_a_token(&format!("{program} login"), &log.next());
        let identity = storage.load(&image);
        let name = format!("tokens/{program}:one");
        storage.push(&identity, &name, &[]);
        works_with_a_token(&format!("{program} push"), &log.next());
        storage.empty();
        storage.pull(&name);
        works_with_a_token(&format!("{program} pull"), &log.next());
    }
    let home = Home::beside(&target);
    let skopeo = Skopeo::signed_in(&home, &target);
    works_with_a_token("skopeo login", &log.next());
    skopeo.push(&image, "tokens/skopeo:one");
    works_with_a_token("skopeo push", &log.next());
    skopeo.pull("tokens/skopeo:one");
    works_with_a_token("skopeo pull", &log.next());
    home.run("skopeo", &["delete", &format!("docker://{}", target.image("tokens/skopeo:one"))]);
    let lines = log.next();
    works_with_a_token("skopeo delete", &lines);
    assert!(lines.iter().any(|line| (&*line.method, line.status) == ("DELETE", 202)), "{lines:?}");
}

/// ctr posts a password, and repeats a refused one in a header. Three mistakes cost a second. Six would cost eight seconds,
/// and the right password would be refused.
#[test]
fn a_wrong_password_that_ctr_presents_twice_is_one_mistake() {
    needs!(CTR, CONTAINERD);
    let target = guarded_as(JSON_LOG);
    let home = Home::beside(&target);
    let ctr = Containerd::start(&home, &target);
    let mut log = Log::of(&target);
    let fetch = ["content", "fetch"];
    let name = target.image("tokens/ctr:one");
    for password in ["wrong-1", "wrong-2", "wrong-3"] {
        let said = ctr.fails(&fetch, Some(&format!("admin:{password}")), &[&name]);
        assert!(says_unauthorized(&said), "{said}");
        let tries: Vec<(String, u16)> =
            log.next().into_iter().filter(Line::is_for_a_token).map(|line| (line.method, line.status)).collect();
        assert_eq!(tries, [("POST".to_owned(), 401), ("GET".to_owned(), 401)]);
    }
    thread::sleep(Duration::from_secs(1));
    // The sign-in succeeds, and the image does not exist.
    let (user, password) = target.credentials.as_ref().unwrap();
    let said = ctr.fails(&fetch, Some(&format!("{user}:{password}")), &[&name]);
    assert!(said.contains("not found"), "{said}");
    let lines = log.next();
    assert!(lines.iter().any(|line| line.is_for_a_token() && line.status == 200), "{lines:?}");
    assert!(lines.iter().all(|line| line.status != 429), "{lines:?}");
    let written = target.program().stderr();
    assert_eq!(written.matches("\"kind\":\"login_failure\"").count(), 3, "{written}");
}
