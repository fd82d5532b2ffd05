//! The cost of credentials, and of guessed passwords for other users. `cargo bench --bench access`.
//!
//! Runs the real program twice, once as it is by default and once `--open`, and asks it over loopback. The
//! clients are raw sockets that are written to and read from by one thread, since they share the processors
//! with what they measure. What is compared alternates, and ratios are of neighbours in time: the machine
//! may have other things to do. Looks at `/proc/<pid>`, so on Linux only. Ends with 1 if a figure is missed.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the benchmark")]
#![expect(clippy::cast_precision_loss, reason = "figures for people are far below 2^52")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

#[path = "support/mod.rs"]
mod support;

use support::process::Process as _;
use support::program::{PASSWORD, Program};
use support::{directory, median, mib};

const HELP: &str = "\
cargo bench --bench access: measure the cost of credentials, and of guessed passwords for other users

A    The same small requests on 16 connections at full speed: anonymous (to an open registry), with a password, an API
     key, a key with a scope, a session, an access token. Requests a second and processor time of one, both also in
     relation to anonymous requests.
B    A minute of requests with an API key, and the bytes that the program writes meanwhile.
C    Clients with keys and sessions, alone and together with 64 clients that guess passwords as fast as they can: from
     addresses with and without free guesses, and for comparison with 64 clients without credentials. What guessers get,
     what it costs, and whether waiting as told helps.

ACCESS_PROGRAM   the program to measure [default: the one that was just built]
ACCESS_SECONDS   the length of each measurement [default: 2]
ACCESS_ROUNDS    the repetitions of each measurement [default: 5]
ACCESS_PARTS     the parts to run, of A, B and C [default: ABC]
";

/// A key costs at most this much of the program's processor time more than no credentials. Requests a second
/// depend on what else the machine does, the clients included.
const COST_MAX: f64 = 0.05;
/// The same of a token, whose signature is looked at.
const TOKEN_COST_MAX: f64 = 0.10;
/// The share of requests that other clients keep while passwords are guessed.
const KEPT_MIN: f64 = 0.80;
const MIB_MAX: f64 = 96.0;

const CONNECTIONS: usize = 16;
const GUESSERS: u8 = 64;
/// How long one caller is measured before the next.
const MOMENT: Duration = Duration::from_millis(200);
/// A bit more than the time between two batches of last uses.
const BATCH_WATCH: Duration = Duration::from_secs(65);

const USER: &str = "bench";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const PATHS: [&str; 2] = ["/v2/", "/v2/bench/app/manifests/1"];

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help" || argument == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse::<u64>().unwrap());
    let length = Duration::from_secs(number("ACCESS_SECONDS", 2));
    let rounds = usize::try_from(number("ACCESS_ROUNDS", 5)).unwrap();
    let parts = std::env::var("ACCESS_PARTS").unwrap_or_else(|_| "ABC".to_owned());
    let mut report = Report::default();
    let directories = [directory(), directory()];
    let guarded = Program::start("ACCESS_PROGRAM", directories[0].path(), &[]);
    let accounts = Accounts::make(&guarded, rounds);
    if parts.contains('A') {
        let open = Program::start("ACCESS_PROGRAM", directories[1].path(), &["--open"]);
        push(&open, "");
        push(&guarded, &accounts.password);
        cost(&mut report, &guarded, &open, &accounts, length, rounds);
    }
    if parts.contains('B') {
        written(&mut report, &guarded, &accounts, directories[0].path());
    }
    if parts.contains('C') {
        guessing(&mut report, &guarded, &accounts, length, rounds);
    }
    report.end()
}

/// A user, and all that lets them in: headers of requests.
struct Accounts {
    password: String,
    key: String,
    scoped_key: String,
    session: String,
    token: String,
    /// Users whose passwords are guessed, with the right ones.
    victims: Vec<(String, String)>,
    /// Users who have not signed in yet.
    newcomers: Vec<(String, String)>,
}

impl Accounts {
    fn make(program: &Program, rounds: usize) -> Self {
        let root = signed_in(program, "admin", PASSWORD);
        let user = |name: &str| {
            let body = format!(r#"{{"username":"{name}"}}"#);
            let made = ask(program, &request("POST", "/api/v1/superuser/users/", &root, &body)).json(200);
            made["password"].as_str().unwrap().to_owned()
        };
        let password = basic(USER, &user(USER));
        let key = |body: &str| {
            let made = ask(program, &request("POST", "/zot/auth/apikey", &password, body)).json(201);
            basic(USER, made["apiKey"].as_str().unwrap())
        };
        let page = format!("{password}x-zot-api-client: zot-ui\r\n");
        let signed_in = ask(program, &request("GET", "/v2/", &page, ""));
        let path = "/v2/auth?scope=repository:bench/app:pull,push";
        let token = ask(program, &request("GET", path, &password, "")).json(200);
        let cookie = signed_in.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let users = |name: &str, count: usize| {
            (0..count).map(|n| format!("{name}{n}")).map(|name| (name.clone(), user(&name))).collect()
        };
        Self {
            key: key("{}"),
            scoped_key: key(r#"{"scopes":["bench/app:pull"]}"#),
            session: format!("cookie: {cookie}\r\nx-zot-api-client: zot-ui\r\n"),
            token: format!("authorization: Bearer {}\r\n", token["token"].as_str().unwrap()),
            victims: users("victim", 8),
            newcomers: users("newcomer", rounds),
            password,
        }
    }

    /// Clients that guess, each at its address.
    fn guessers(&self, address: impl Fn(u8) -> Ipv4Addr) -> Vec<Work> {
        let user = |n: u8| self.victims[usize::from(n) % self.victims.len()].0.clone();
        let what = |n| What::Guess { user: user(n), request: Vec::new() };
        (0..GUESSERS).map(|n| Work { source: Some(address(n).into()), what: what(n) }).collect()
    }
}

/// Pushes the image that is asked for.
fn push(program: &Program, credentials: &str) {
    let digest = format!("sha256:{}", hex::encode(Sha256::digest("{}")));
    let path = format!("/v2/bench/app/blobs/uploads/?digest={digest}");
    ask(program, &request("POST", &path, credentials, "{}")).status(201);
    let config = format!(r#"{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{digest}","size":2}}"#);
    let manifest =
        format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","artifactType":"a/b","config":{config},"layers":[]}}"#);
    let headers = format!("{credentials}content-type: {MANIFEST}\r\n");
    ask(program, &request("PUT", "/v2/bench/app/manifests/1", &headers, &manifest)).status(201);
}

/// The cost of one request. The callers alternate, so that other work on the machine affects all of them.
fn cost(report: &mut Report, guarded: &Program, open: &Program, accounts: &Accounts, length: Duration, rounds: usize) {
    let callers: [(&str, &Program, &str); 6] = [
        ("anonymous", open, ""),
        ("password", guarded, &accounts.password),
        ("key", guarded, &accounts.key),
        ("key with a scope", guarded, &accounts.scoped_key),
        ("session", guarded, &accounts.session),
        ("token", guarded, &accounts.token),
    ];
    let turns = rounds * usize::try_from(length.as_millis() / MOMENT.as_millis()).unwrap();
    for path in PATHS {
        let mut senders: Vec<Load> = Vec::new();
        for (_, program, credentials) in callers {
            let same = request("GET", path, credentials, "");
            senders.push(Load::connect(program.address, (0..CONNECTIONS).map(|_| Work::same(&same))));
            senders.last_mut().unwrap().run(MOMENT);
        }
        let mut rates = vec![Vec::new(); callers.len()];
        let mut costs = vec![Vec::new(); callers.len()];
        for turn in 0..turns {
            for place in 0..callers.len() {
                // None always comes after the same.
                let at = (place + turn) % callers.len();
                let before = callers[at].1.precise_processor();
                let outcome = senders[at].run(MOMENT);
                let busy = callers[at].1.precise_processor() - before;
                assert_eq!(outcome.statuses.keys().collect::<Vec<_>>(), [&200], "{:?}", outcome.statuses);
                rates[at].push(outcome.rate());
                costs[at].push(busy / outcome.answers() * 1e6);
            }
        }
        println!("\nGET {path}, {CONNECTIONS} connections, {turns} turns of {MOMENT:?} each");
        println!("  {:<18} {:>12} {:>8} {:>14} {:>8}", "", "requests/s", "ratio", "CPU µs each", "ratio");
        for (at, (name, ..)) in callers.iter().enumerate() {
            let ratio = |of: &[Vec<f64>]| median(of[at].iter().zip(&of[0]).map(|(one, nothing)| one / nothing));
            let (rate, cost) = (median(rates[at].iter().copied()), median(costs[at].iter().copied()));
            let (faster, dearer) = (ratio(&rates), ratio(&costs));
            let line = format!("  {name:<18} {rate:>12.0} {faster:>8.3} {cost:>14.2} {dearer:>8.3}");
            let most = match *name {
                "key" | "key with a scope" => 1.0 + COST_MAX,
                "token" => 1.0 + TOKEN_COST_MAX,
                _ => f64::INFINITY,
            };
            report.check(&line, dearer <= most, &format!("at most {most:.2}"));
        }
    }
}

/// B: what requests with a key write.
fn written(report: &mut Report, program: &Program, accounts: &Accounts, root: &Path) {
    let database = root.join("coracle.redb");
    let modified = || std::fs::metadata(&database).unwrap().modified().unwrap();
    let same = request("GET", "/v2/", &accounts.key, "");
    let (address, work) = (program.address, [Work::same(&same), Work::same(&same)]);
    let sender = std::thread::spawn(move || load(address, work, BATCH_WATCH));
    let begun = Instant::now();
    let mut before: (u64, SystemTime) = (program.written(), modified());
    let (mut batches, mut silent) = (Vec::new(), 0);
    while begun.elapsed() < BATCH_WATCH {
        std::thread::sleep(Duration::from_millis(500));
        let now = (program.written(), modified());
        if now == before {
            silent += 1;
        } else {
            batches.push(format!("{} KiB after {:.0} s", (now.0 - before.0) / 1024, begun.elapsed().as_secs_f64()));
        }
        before = now;
    }
    let requests = sender.join().unwrap().answers();
    println!("\n{requests:.0} requests with a key in {BATCH_WATCH:?}");
    let line = format!("  written to the disk: {}; nothing in {silent} other half seconds", batches.join(", "));
    report.check(&line, batches.len() <= 2, "at most 2 batches in that time");
}

/// C: what guessing costs others.
fn guessing(report: &mut Report, program: &Program, accounts: &Accounts, length: Duration, rounds: usize) {
    let kinds = ["alone", "64 guess, looked at", "64 guess, told to wait", "64 without credentials"];
    let traffic = || {
        let half = |credentials: &str| request("GET", PATHS[0], credentials, "");
        let (key, session) = (half(&accounts.key), half(&accounts.session));
        (0..CONNECTIONS).map(|n| Work::same(if n % 2 == 0 { &key } else { &session })).collect::<Vec<_>>()
    };
    // Until these addresses have no guesses left.
    load(program.address, accounts.guessers(tired), Duration::from_secs(6));
    program.reset_peak();
    let mut results: Vec<Vec<(Outcome, Outcome, f64)>> = vec![Vec::new(); kinds.len()];
    let mut sign_ins = Vec::new();
    for round in 0..rounds {
        for (kind, results) in results.iter_mut().enumerate() {
            let others: Vec<Work> = match kind {
                0 => Vec::new(),
                // Addresses that were not there before.
                1 => accounts.guessers(|n| Ipv4Addr::new(127, u8::try_from(round + 2).unwrap(), 0, 1 + n)),
                2 => accounts.guessers(tired),
                _ => (0..GUESSERS).map(|_| Work::same(&request("GET", PATHS[0], "", ""))).collect(),
            };
            let address = program.address;
            let ((own, other), busy) = busy(program, || {
                let others = std::thread::spawn(move || load(address, others, length));
                let own = load(address, traffic(), length);
                (own, others.join().unwrap())
            });
            assert_eq!(own.statuses.keys().collect::<Vec<_>>(), [&200], "{:?}", own.statuses);
            results.push((own, other, busy));
        }
        sign_ins.push(sign_in_among_guessers(program, accounts, round));
    }
    let (peak, resident) = (program.peak(), program.resident());
    println!("\n{CONNECTIONS} connections with a key or a session, {rounds} rounds of {length:?} on 2 processors");
    println!(
        "  {:<24} {:>10} {:>7} {:>11} {:>8}   what the others are told",
        "", "requests/s", "ratio", "longest ms", "CPU s"
    );
    for (kind, name) in kinds.iter().enumerate() {
        let kept = median(results[kind].iter().zip(&results[0]).map(|(one, alone)| one.0.rate() / alone.0.rate()));
        let rate = median(results[kind].iter().map(|one| one.0.rate()));
        let longest = median(results[kind].iter().map(|one| one.0.longest.as_secs_f64() * 1000.0));
        let busy = median(results[kind].iter().map(|one| one.2));
        let mut told = BTreeMap::<u16, u64>::new();
        for (_, other, _) in &results[kind] {
            other.statuses.iter().for_each(|(status, count)| *told.entry(*status).or_default() += count);
        }
        let told = told.iter().fold(String::new(), |mut text, (status, count)| {
            write!(text, " {status}: {count}").unwrap();
            text
        });
        let line = format!("  {name:<24} {rate:>10.0} {kept:>7.3} {longest:>11.1} {busy:>8.2}  {told}");
        let guessed = (1..=2).contains(&kind);
        report.check(&line, !guessed || kept >= KEPT_MIN, &format!("at least {KEPT_MIN}"));
    }
    let line = format!("  memory: {:.1} MiB at its highest, {:.1} now", mib(peak), mib(resident));
    report.check(&line, mib(peak) < MIB_MAX, &format!("less than {MIB_MAX}"));
    println!("  a first sign-in while 64 guess takes {:.1} s", median(sign_ins));
    waiting(report, program, accounts);
}

/// A few addresses that many guess from.
fn tired(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, 0, 1 + n % 4)
}

/// The seconds that a first sign-in waits while others guess.
fn sign_in_among_guessers(program: &Program, accounts: &Accounts, round: usize) -> f64 {
    let (user, password) = &accounts.newcomers[round];
    let guessers = accounts.guessers(|n| Ipv4Addr::new(127, u8::try_from(round + 100).unwrap(), 0, 1 + n));
    let address = program.address;
    let guessing = std::thread::spawn(move || load(address, guessers, Duration::from_secs(2)));
    std::thread::sleep(Duration::from_millis(500));
    let begun = Instant::now();
    ask(program, &request("GET", PATHS[0], &basic(user, password), "")).status(200);
    let seconds = begun.elapsed().as_secs_f64();
    guessing.join().unwrap();
    seconds
}

/// Whether waiting for as long as one is told helps, at two addresses that were not there before.
fn waiting(report: &mut Report, program: &Program, accounts: &Accounts) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (n, right, expected) in [(0, false, 401), (1, true, 200)] {
            let (user, password) = &accounts.victims[usize::from(n)];
            let address = Ipv4Addr::new(127, 200, 0, 1 + n);
            let mut client = Client::connect(program.address, Some(address.into())).await.unwrap();
            let mut told = client.exchange(&guess(user)).await.unwrap();
            for _ in 0..20 {
                if told.status == 429 {
                    break;
                }
                told = client.exchange(&guess(user)).await.unwrap();
            }
            let seconds = told.retry_after.unwrap_or(0);
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            let last = if right { request("GET", PATHS[0], &basic(user, password), "") } else { guess(user) };
            let heard = client.exchange(&last).await.unwrap().status;
            let what = if right { "the right password" } else { "another guess" };
            let line = format!("  told {} and to wait {seconds} s: {what} is then told {heard}", told.status);
            report.check(&line, told.status == 429 && heard == expected, &format!("429 and then {expected}"));
        }
    });
}

/// The request that a connection repeats.
struct Work {
    /// The address it comes from, if that matters.
    source: Option<IpAddr>,
    what: What,
}

enum What {
    Same(Vec<u8>),
    /// Another wrong password each time.
    Guess {
        user: String,
        request: Vec<u8>,
    },
}

impl Work {
    fn same(request: &[u8]) -> Self {
        Self { source: None, what: What::Same(request.to_vec()) }
    }
}

/// The result of a measurement.
#[derive(Clone, Debug, Default)]
struct Outcome {
    /// Answers by their status.
    statuses: BTreeMap<u16, u64>,
    seconds: f64,
    longest: Duration,
}

impl Outcome {
    #[expect(clippy::cast_precision_loss, reason = "no run sends 2^52 requests")]
    fn answers(&self) -> f64 {
        self.statuses.values().sum::<u64>() as f64
    }

    fn rate(&self) -> f64 {
        self.answers() / self.seconds
    }
}

/// Connections, each with what it sends; on the thread that runs them.
struct Load {
    runtime: tokio::runtime::Runtime,
    address: SocketAddr,
    clients: Vec<(Client, Work)>,
}

impl Load {
    fn connect(address: SocketAddr, work: impl IntoIterator<Item = Work>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let clients = runtime.block_on(async {
            let mut clients = Vec::new();
            for work in work {
                clients.push((Client::connect(address, work.source).await.unwrap(), work));
            }
            clients
        });
        Self { runtime, address, clients }
    }

    /// Each connection sends as soon as it has its answer, for so long.
    fn run(&mut self, length: Duration) -> Outcome {
        let (address, until) = (self.address, Instant::now() + length);
        self.runtime.block_on(async {
            let mut running = JoinSet::new();
            for (client, work) in self.clients.drain(..) {
                running.spawn(send(address, client, work, until));
            }
            let mut sum = Outcome { seconds: length.as_secs_f64(), ..Outcome::default() };
            while let Some(done) = running.join_next().await {
                let (client, work, outcome) = done.unwrap();
                self.clients.push((client, work));
                outcome.statuses.iter().for_each(|(status, count)| *sum.statuses.entry(*status).or_default() += count);
                sum.longest = sum.longest.max(outcome.longest);
            }
            sum
        })
    }
}

async fn send(address: SocketAddr, mut client: Client, mut work: Work, until: Instant) -> (Client, Work, Outcome) {
    let mut outcome = Outcome::default();
    let mut now = Instant::now();
    // Throttled clients are not waited for.
    let patience = tokio::time::Instant::from_std(until + Duration::from_millis(500));
    while now < until {
        work.what.next();
        let reply = tokio::time::timeout_at(patience, client.exchange(work.what.request())).await;
        let sent = std::mem::replace(&mut now, Instant::now());
        match reply {
            Ok(Ok(reply)) => {
                *outcome.statuses.entry(reply.status).or_default() += 1;
                outcome.longest = outcome.longest.max(now - sent);
            }
            Ok(Err(_)) | Err(_) => client = Client::connect(address, work.source).await.unwrap(),
        }
    }
    (client, work, outcome)
}

/// Connects, and sends for so long.
fn load(address: SocketAddr, work: impl IntoIterator<Item = Work>, length: Duration) -> Outcome {
    Load::connect(address, work).run(length)
}

/// A request with a new password.
fn guess(user: &str) -> Vec<u8> {
    let password = format!("{:?}", SystemTime::now());
    request("GET", PATHS[0], &basic(user, &password), "")
}

impl What {
    /// Makes the next request, if it is not the same as before.
    fn next(&mut self) {
        if let Self::Guess { user, request } = self {
            *request = guess(user);
        }
    }

    fn request(&self) -> &[u8] {
        let (Self::Same(request) | Self::Guess { request, .. }) = self;
        request
    }
}

/// A connection, and what was received on it.
struct Client {
    socket: TcpStream,
    received: Vec<u8>,
}

struct Reply {
    status: u16,
    retry_after: Option<u64>,
}

impl Client {
    async fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(source) = source {
            socket.bind((source, 0).into())?;
        }
        let socket = socket.connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, received: Vec::with_capacity(4096) })
    }

    async fn exchange(&mut self, request: &[u8]) -> io::Result<Reply> {
        self.socket.write_all(request).await?;
        self.received.clear();
        loop {
            if self.socket.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(end) = self.received.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = &self.received[..end];
            let length = header(head, b"content-length:").unwrap_or(0);
            if self.received.len() as u64 >= end as u64 + 4 + length {
                let status = std::str::from_utf8(&head[9..12]).unwrap().parse().unwrap();
                return Ok(Reply { status, retry_after: header(head, b"retry-after:") });
            }
        }
    }
}

/// The number in a header.
fn header(head: &[u8], name: &[u8]) -> Option<u64> {
    let mut lines = head.split(|byte| *byte == b'\n');
    let line = lines.find(|line| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name))?;
    std::str::from_utf8(line[name.len()..].trim_ascii()).ok()?.parse().ok()
}

fn request(method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}{length}\r\n{body}").into_bytes()
}

fn basic(user: &str, password: &str) -> String {
    format!("authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

/// A whole answer.
struct Answer {
    head: String,
    body: String,
}

impl Answer {
    #[track_caller]
    fn status(&self, status: u16) {
        assert!(self.head.starts_with(&format!("HTTP/1.1 {status} ")), "{}\n{}", self.head, self.body);
    }

    #[track_caller]
    fn json(&self, status: u16) -> Value {
        self.status(status);
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// One request on a connection of its own.
fn ask(program: &Program, request: &[u8]) -> Answer {
    let text = std::str::from_utf8(request).unwrap();
    let answer = program.ask(&text.replacen("host:", "connection: close\r\nhost:", 1));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Answer { head: head.to_owned(), body: body.to_owned() }
}

/// The headers of a session that has just begun: the cookie, and the CSRF token of its next request.
fn signed_in(program: &Program, user: &str, password: &str) -> String {
    let cookie = |answer: &Answer| answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let headers = |cookie: &str, token: &str| format!("cookie: {cookie}\r\nx-csrf-token: {token}\r\n");
    let before = ask(program, &request("GET", "/csrf_token", "", ""));
    let token = before.json(200)["csrf_token"].as_str().unwrap().to_owned();
    let body = format!(r#"{{"username":"{user}","password":"{password}"}}"#);
    let begun = ask(program, &request("POST", "/api/v1/signin", &headers(&cookie(&before), &token), &body));
    headers(&cookie(&begun), begun.header("x-next-csrf-token").unwrap())
}

/// The result of a measurement, and the processor seconds of the program meanwhile.
fn busy<T>(program: &Program, measurement: impl FnOnce() -> T) -> (T, f64) {
    let before = program.processor();
    let result = measurement();
    (result, program.processor() - before)
}

/// The figures, and those beyond their limit.
#[derive(Debug, Default)]
struct Report {
    missed: usize,
}

impl Report {
    fn check(&mut self, line: &str, met: bool, wanted: &str) {
        self.missed += usize::from(!met);
        let remark = if met { String::new() } else { format!("  MISSED: {wanted}") };
        println!("{line}{remark}");
    }

    fn end(self) -> ExitCode {
        if self.missed == 0 {
            return ExitCode::SUCCESS;
        }
        println!("\n{} figures are missed", self.missed);
        ExitCode::FAILURE
    }
}
