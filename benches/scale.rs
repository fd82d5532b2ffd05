//! Growth with the size of the store. `cargo bench --features filling --bench scale`.
//!
//! Fills the database of one data directory directly, leaves another nearly empty, runs the real program on both,
//! and asks both the same in turns (A B A B). A figure is how much longer a request takes in the large store; none
//! should. Durable and with default settings, except that anybody may come in. Ends with 1 if a figure is missed.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the benchmark")]
#![expect(clippy::cast_precision_loss, reason = "figures for people are far below 2^52")]

#[path = "support/mod.rs"]
mod support;

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use coracle::testing::filling::{self, Extent, Filled};
use support::client::{self, Client};
use support::content::{Content, Noise};
use support::process::Process as _;
use support::program::{PASSWORD, Program};
use support::{directory, median, mib};

const HELP: &str = "\
cargo bench --features filling --bench scale [-- WORDS]: measure the growth with the size of the store

Sends the same requests to a store with 100 000 repositories, 1 000 000 blobs, 100 000 tags in one repository, 100 000
referrers of one image and 10 000 users with 10 keys each, and to one with a page of each. Prints how much longer they
take, how long a start and each page take, and the bytes of a row in the database. With WORDS, only requests whose names contain one of
them.

SCALE_PERCENT   the size of the large store, in percent of the above [default: 100]
SCALE_ROUNDS    the repetitions of each measurement [default: 5]
SCALE_SECONDS   the length of each measurement, twice that for writes [default: 2]
";

const VARIABLE: &str = "SCALE_PROGRAM";
/// Nothing takes longer than so many times as long.
const RATIO_MAX: f64 = 1.5;
const CLIENTS: usize = 4;
/// Pushes wait for the disk: more of them share its syncs.
const PUSHERS: usize = 16;
/// Blobs with files, that are asked for.
const BLOBS: usize = 500;

const SMALL: Extent = Extent { repositories: 300, blobs: 300, tags: 300, referrers: 3000, users: 300, keys: 10 };
const LARGE: Extent =
    Extent { repositories: 100_000, blobs: 1_000_000, tags: 100_000, referrers: 100_000, users: 10_000, keys: 10 };

/// A store, and the program that serves it.
struct Store {
    root: tempfile::TempDir,
    extent: Extent,
    program: Option<Program>,
    noise: Noise,
    blobs: Vec<(String, Content)>,
    /// A key of the superuser.
    root_key: String,
    /// The number of pushes so far, so that no two are the same.
    pushed: AtomicUsize,
}

/// One kind of request, of which each has a number of its own.
struct Work {
    name: &'static str,
    clients: usize,
    send: fn(&Store, &mut Client, usize),
}

const fn work(name: &'static str, send: fn(&Store, &mut Client, usize)) -> Work {
    Work { name, clients: CLIENTS, send }
}

#[rustfmt::skip] // a table is read down its columns
const WORK: &[Work] = &[
    work("GET a manifest by tag, of any repository", |s, c, n| get(c, &format!("/v2/{}/manifests/latest", s.repository(n)), "")),
    work("HEAD a manifest, by any tag of one", |s, c, n| head(c, &format!("/v2/large/tags/manifests/tag-{:06}", n % s.extent.tags))),
    work("HEAD a blob", |s, c, n| { let (name, blob) = s.blob(n); head(c, &format!("/v2/{name}/blobs/{}", blob.digest())); }),
    work("GET a blob of 1 KiB", |s, c, n| { let (name, blob) = s.blob(n); get(c, &format!("/v2/{name}/blobs/{}", blob.digest()), ""); }),
    work("HEAD a blob that is nowhere", |s, c, n| assert_eq!(c.send("HEAD", &format!("/v2/{}/blobs/sha256:{n:064x}", s.repository(n)), "", b"").status, 404)),
    work("the first 100 tags", |_, c, _| get(c, "/v2/large/tags/tags/list?n=100", "")),
    work("100 tags behind any", |s, c, n| get(c, &format!("/v2/large/tags/tags/list?n=100&last=tag-{:06}", n % (s.extent.tags - 101)), "")),
    work("the first 100 repositories", |_, c, _| get(c, "/v2/_catalog?n=100", "")),
    work("100 repositories behind any", |s, c, n| get(c, &format!("/v2/_catalog?n=100&last=many/{:06}", n % (s.extent.repositories - 101)), "")),
    work("the first page of referrers", |_, c, _| get(c, &format!("/v2/large/referrers/referrers/{}", filling::subject()), "")),
    work("those of one type", |_, c, _| get(c, &format!("/v2/large/referrers/referrers/{}?artifactType=application/x-odd", filling::subject()), "")),
    work("GET a manifest with any user's key", |s, c, n| get(c, &format!("/v2/{}/manifests/latest", s.repository(n)), &s.key(n))),
    work("any user, for a superuser", |s, c, n| get(c, &format!("/api/v1/superuser/users/user-{:06}", n % s.extent.users), &s.root_key)),
    work("100 users", |s, c, _| get(c, "/api/v1/superuser/users/?limit=100", &s.root_key)),
    Work { name: "POST a blob, durable", clients: PUSHERS, send: push_blob },
    Work { name: "PUT a manifest, durable", clients: PUSHERS, send: put_manifest },
    Work { name: "mount a blob from elsewhere, durable", clients: PUSHERS, send: mount },
];

/// Lists for callers who see only a part.
const GUARDED: &[Work] = &[
    work("the repositories of any user, who has none", |s, c, n| get(c, "/v2/_catalog?n=100", &s.key(n))),
    work("HEAD a manifest that is not the user's", |s, c, n| {
        let path = format!("/v2/{}/manifests/latest", s.repository(n));
        assert_eq!(c.send("HEAD", &path, &s.key(n), b"").status, 403);
    }),
];

/// The longest time of a page, in milliseconds. One client asks for one page after another.
const PAGE_MILLIS_MAX: f64 = 50.0;

/// The path of a page for the n-th request.
type PathOf = fn(&Store, usize) -> String;

/// The pages for people, with the path of each.
#[rustfmt::skip] // a table is read down its columns
const PAGES: &[(&str, PathOf)] = &[
    ("page: repositories by last change", |_, _| "/ui/".into()),
    ("page: repositories by name", |_, _| "/ui/?sort=name".into()),
    ("page: repositories by size", |_, _| "/ui/?sort=size".into()),
    ("page: repositories by pulls, behind any", |s, n| format!("/ui/?sort=pulls&after=0:{}", s.repository(n))),
    ("page: repositories with a rare part", |s, n| format!("/ui/?q={}", &s.repository(n)[5..])),
    ("page: repositories with an absent part", |_, _| "/ui/?q=absent".into()),
    ("page: folders", |_, _| "/ui/?view=tree".into()),
    ("page: a large folder", |_, _| "/ui/?view=tree&path=many".into()),
    ("page: search for a name", |s, n| format!("/ui/search?q={}", &s.repository(n)[5..])),
    ("page: search for a tag of any repository", |_, _| "/ui/search?q=many%3Alatest".into()),
    ("page: search for an absent tag", |_, _| "/ui/search?q=%3Aabsent".into()),
    ("page: search for a digest", |_, _| format!("/ui/search?q={}", &filling::subject()[7..15])),
    ("page: search for a blob of all", |_, _| "/ui/search?q=sha256%3A44136fa355b3678a".into()),
    ("page: 100 000 tags by version", |_, _| "/ui/r/large/tags".into()),
    ("page: 100 000 tags by last push", |_, _| "/ui/r/large/tags?sort=pushed".into()),
    ("page: 100 000 tags by name, behind any", |s, n| format!("/ui/r/large/tags?sort=name&after=0:tag-{:06}", n % s.extent.tags)),
    ("page: 100 000 tags with an absent part", |_, _| "/ui/r/large/tags?q=absent".into()),
    ("page: history of 100 000 tags", |_, _| "/ui/r/large/tags/-/history".into()),
    ("page: untagged of 100 000 referrers", |_, _| "/ui/r/large/referrers/-/untagged".into()),
    ("page: an image with 100 000 referrers", |_, _| format!("/ui/r/large/referrers/-/manifest/{}", filling::subject())),
    ("page: an image with 100 000 tags", |_, _| "/ui/r/large/tags/-/tag/tag-000000".into()),
    ("page: delete one of 100 000 tags", |_, _| "/ui/r/large/tags/-/delete-tags?tag=tag-000001".into()),
    // The page waits for a count for at most 30 ms. The API waits for its end.
    ("page: use of the disk, as the API counts it", |_, _| "/api/v1/superuser/disk".into()),
    ("page: any repository", |s, n| format!("/ui/r/{}", s.repository(n))),
    ("page: any image", |s, n| format!("/ui/r/{}/-/tag/latest", s.repository(n))),
];

/// The fields that zot's web page shows of a repository in a list.
const FIELDS: &str = "Name%20LastUpdated%20Size%20Platforms{Os%20Arch}%20NewestImage{Tag%20Vulnerabilities{MaxSeverity%20Count}%20Description%20Licenses%20Title%20Source%20IsSigned%20SignatureInfo{Tool%20IsTrusted%20Author}%20Documentation%20Vendor%20Labels}%20IsStarred%20IsBookmarked%20StarCount%20DownloadCount";

/// The longest time of the first list of zot's web page, and of its searches, in milliseconds.
const EXPLORE_MILLIS_MAX: f64 = 20.0;
const SEARCH_MILLIS_MAX: f64 = 50.0;

/// The queries of zot's web page, with their longest times. `{}` stands for the fields.
#[rustfmt::skip] // a table is read down its columns
const QUERIES: &[(&str, f64, &str)] = &[
    ("zot: newest 15 repositories", EXPLORE_MILLIS_MAX, "{RepoListWithNewestImage(requestedPage:{limit:15%20offset:0}){Results{{}}}}"),
    ("zot: 15 repositories behind 1000", EXPLORE_MILLIS_MAX, "{RepoListWithNewestImage(requestedPage:{limit:15%20offset:1000}){Results{{}}}}"),
    ("zot: search for a, by relevance", SEARCH_MILLIS_MAX, "{GlobalSearch(query:%22a%22,requestedPage:{limit:10%20offset:0%20sortBy:RELEVANCE}){Page{TotalCount%20ItemCount}Repos{{}}}}"),
    ("zot: search for a, by last change", SEARCH_MILLIS_MAX, "{GlobalSearch(query:%22a%22,requestedPage:{limit:10%20offset:0%20sortBy:UPDATE_TIME}){Page{TotalCount%20ItemCount}Repos{{}}}}"),
    ("zot: search for a, by name", SEARCH_MILLIS_MAX, "{GlobalSearch(query:%22a%22,requestedPage:{limit:10%20offset:0%20sortBy:ALPHABETIC_ASC}){Page{TotalCount%20ItemCount}Repos{{}}}}"),
    ("zot: search for a, by name, reversed", SEARCH_MILLIS_MAX, "{GlobalSearch(query:%22a%22,requestedPage:{limit:10%20offset:0%20sortBy:ALPHABETIC_DSC}){Page{TotalCount%20ItemCount}Repos{{}}}}"),
    ("zot: search for a, by pulls", SEARCH_MILLIS_MAX, "{GlobalSearch(query:%22a%22,requestedPage:{limit:10%20offset:0%20sortBy:DOWNLOADS}){Page{TotalCount%20ItemCount}Repos{{}}}}"),
    ("zot: search for a, by stars", SEARCH_MILLIS_MAX, "{GlobalSearch(query:%22a%22,requestedPage:{limit:10%20offset:0%20sortBy:STARS}){Page{TotalCount%20ItemCount}Repos{{}}}}"),
    ("zot: search for any tag with a t", SEARCH_MILLIS_MAX, "{GlobalSearch(query:%22:t%22,requestedPage:{limit:10%20offset:0}){Page{TotalCount%20ItemCount}Images{RepoName%20Tag}}}"),
    ("zot: search for an absent text", SEARCH_MILLIS_MAX, "{GlobalSearch(query:%22absent%22,requestedPage:{limit:10%20offset:0}){Page{TotalCount%20ItemCount}Repos{{}}}}"),
];

/// Measures the time of each page and of each query of zot's web page. Returns how many are too slow in the large store.
fn pages(stores: &[Store; 2], chosen: &[String], rounds: usize) -> usize {
    let is_meant = |name: &str| chosen.is_empty() || chosen.iter().any(|word| name.contains(word));
    let mut missed = 0;
    for (name, path) in PAGES.iter().filter(|(name, _)| is_meant(name)) {
        missed += page(stores, name, PAGE_MILLIS_MAX, rounds, path);
    }
    for (name, most, query) in QUERIES.iter().filter(|(name, ..)| is_meant(name)) {
        let path = format!("/v2/_zot/ext/search?query={}", query.replace("{}", FIELDS));
        missed += page(stores, name, *most, rounds, &|_, _| path.clone());
    }
    missed
}

/// Measures the time of one page. Returns 1 if it is longer than `most` milliseconds in the large store.
fn page(stores: &[Store; 2], name: &str, most: f64, rounds: usize, path: &dyn Fn(&Store, usize) -> String) -> usize {
    let [small, large] = stores.each_ref().map(|store| {
        let mut client = Client::connect(store.program.as_ref().unwrap().address);
        let mut times = Vec::new();
        for number in 0..=4 * rounds {
            let path = path(store, number * 7919);
            let began = Instant::now();
            let header = if path.starts_with("/api/") { &store.root_key } else { "accept: text/html\r\n" };
            get(&mut client, &path, header);
            // The first is to get warm.
            if number > 0 {
                times.push(began.elapsed().as_secs_f64() * 1000.0);
            }
        }
        median(times)
    });
    let is_missed = large > most;
    let remark = if is_missed { format!("  MISSED: at most {most} ms") } else { String::new() };
    println!("{name:44} {small:>10.2} {large:>10.2}  {:>6.2}  ms{remark}", large / small);
    usize::from(is_missed)
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help" || argument == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<_> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse::<usize>().unwrap());
    let percent = number("SCALE_PERCENT", 100);
    let (rounds, seconds) = (number("SCALE_ROUNDS", 5), number("SCALE_SECONDS", 2));
    let part = |whole: usize, least: usize| (whole * percent / 100).max(least);
    let large = Extent {
        repositories: part(LARGE.repositories, SMALL.repositories),
        blobs: part(LARGE.blobs, SMALL.blobs),
        tags: part(LARGE.tags, SMALL.tags),
        referrers: part(LARGE.referrers, SMALL.referrers),
        users: part(LARGE.users, SMALL.users),
        keys: LARGE.keys,
    };
    let mut stores = [Store::new(SMALL), Store::new(large)];
    let mut missed = if chosen.is_empty() { start(&stores, rounds) } else { 0 };
    for store in &mut stores {
        store.run();
    }
    println!("{:44} {:>10} {:>10}  {:>6}", "", "small", "large", "ratio");
    missed += measure(&stores, WORK, &chosen, rounds, seconds);
    missed += pages(&stores, &chosen, rounds);
    for store in &mut stores {
        store.guard();
    }
    missed += measure(&stores, GUARDED, &chosen, rounds, seconds);
    let [small, large] = stores.each_ref().map(|store| mib(store.program.as_ref().unwrap().peak()));
    println!("{:44} {small:>10.1} {large:>10.1}  MiB", "the most memory that was used");
    if missed == 0 {
        return ExitCode::SUCCESS;
    }
    println!("{missed} figures are missed");
    ExitCode::FAILURE
}

/// Measures both stores in turns; says how many figures are missed.
fn measure(stores: &[Store; 2], works: &[Work], chosen: &[String], rounds: usize, seconds: usize) -> usize {
    let mut missed = 0;
    let is_meant = |work: &&Work| chosen.is_empty() || chosen.iter().any(|word| work.name.contains(word));
    for work in works.iter().filter(is_meant) {
        let mut rates = [Vec::new(), Vec::new()];
        let is_durable = work.clients == PUSHERS;
        let length = Duration::from_secs(seconds as u64) * if is_durable { 2 } else { 1 };
        for round in 0..=rounds {
            for (store, rates) in stores.iter().zip(&mut rates) {
                let rate = store.measure(work, length, round);
                // The first is to get warm.
                if round > 0 {
                    rates.push(rate);
                }
            }
        }
        let ratio = median(rates[0].iter().zip(&rates[1]).map(|(small, large)| small / large));
        let [small, large] = rates.map(median);
        missed += row(work.name, (small, large, "/s"), ratio);
    }
    missed
}

fn row(name: &str, (small, large, unit): (f64, f64, &str), ratio: f64) -> usize {
    let is_missed = ratio > RATIO_MAX;
    let remark = if is_missed { format!("  MISSED: at most {RATIO_MAX}") } else { String::new() };
    println!("{name:44} {small:>10.1} {large:>10.1}  {ratio:>6.2}  {unit}{remark}");
    usize::from(is_missed)
}

/// How long a start takes, after a stop and after a kill.
fn start(stores: &[Store], rounds: usize) -> usize {
    let ends =
        [("first answer after a stop", Program::stop as fn(Program)), ("first answer after a kill", write_and_kill)];
    let mut missed = 0;
    for (name, end) in ends {
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..=rounds {
            for (store, times) in stores.iter().zip(&mut times) {
                let (program, time) = Program::first_answer(VARIABLE, store.root.path(), &["--open"]);
                end(program);
                if round > 0 {
                    times.push(time.as_secs_f64() * 1000.0);
                }
            }
        }
        let ratio = median(times[0].iter().zip(&times[1]).map(|(small, large)| large / small));
        let [small, large] = times.map(median);
        missed += row(name, (small, large, "ms"), ratio);
    }
    missed
}

/// Ends it with something to repair: a start alone changes nothing.
fn write_and_kill(program: Program) {
    let noise = Noise::new();
    let nanos = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    Client::connect(program.address).push("killed", &noise, &noise.content(100, (7, nanos as usize, 7)));
    program.kill();
}

impl Store {
    /// A store that is filled.
    fn new(extent: Extent) -> Self {
        let (root, noise) = (directory(), Noise::new());
        // Not open, so that there is a superuser.
        let program = Program::start(VARIABLE, root.path(), &[]);
        let mut client = Client::connect(program.address);
        let digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let headers = format!("{}{}", client::OCTETS, basic("admin", PASSWORD));
        let pushed = client.send("POST", &format!("/v2/large/tags/blobs/uploads/?digest={digest}"), &headers, b"{}");
        assert_eq!(pushed.status, 201);
        let ask = format!(
            "POST /zot/auth/apikey HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 2\r\n{}\r\n{{}}",
            basic("admin", PASSWORD)
        );
        let made = program.ask(&ask);
        let (_, body) = made.split_once("\r\n\r\n").unwrap();
        let made: serde_json::Value = serde_json::from_str(body).unwrap();
        let root_key = format!("authorization: Bearer {}\r\n", made["apiKey"].as_str().unwrap());
        program.stop();
        report(root.path(), extent);
        Self { root, extent, program: None, noise, blobs: Vec::new(), root_key, pushed: AtomicUsize::new(0) }
    }

    /// Starts the program, and pushes what is asked for with its bytes.
    fn run(&mut self) {
        let config = "http.open = true\nextensions.search.enable = true\nextensions.ui.enable = true\n";
        let program = Program::configured(VARIABLE, self.root.path(), config);
        let mut client = Client::connect(program.address);
        for number in 0..BLOBS {
            let (name, content) = (self.repository(number), self.noise.content(1024, (0, number, 0)));
            client.push(&name, &self.noise, &content);
            self.blobs.push((name, content));
        }
        self.program = Some(program);
    }

    /// Restarts the program with default settings.
    fn guard(&mut self) {
        self.program.take().unwrap().stop();
        self.program = Some(Program::start(VARIABLE, self.root.path(), &[]));
    }

    /// How many requests a second are answered.
    fn measure(&self, work: &Work, length: Duration, round: usize) -> f64 {
        let program = self.program.as_ref().unwrap();
        let (until, count) = (Instant::now() + length, AtomicUsize::new(0));
        let began = Instant::now();
        std::thread::scope(|scope| {
            for client in 0..work.clients {
                let count = &count;
                scope.spawn(move || {
                    let mut connection = Client::connect(program.address);
                    // Each client, in each round, asks for others than before.
                    let mut state = (round * PUSHERS + client + 1) as u64 * 0x9E37_79B9_7F4A_7C15;
                    while Instant::now() < until {
                        state ^= state << 13;
                        state ^= state >> 7;
                        state ^= state << 17;
                        (work.send)(self, &mut connection, (state >> 8) as usize);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        count.into_inner() as f64 / began.elapsed().as_secs_f64()
    }

    fn repository(&self, number: usize) -> String {
        format!("many/{:06}", number % self.extent.repositories)
    }

    fn blob(&self, number: usize) -> &(String, Content) {
        &self.blobs[number % BLOBS]
    }

    fn key(&self, number: usize) -> String {
        let (user, key) = (number % self.extent.users, number / self.extent.users % self.extent.keys);
        basic(&format!("user-{user:06}"), &filling::key(user, key))
    }

    /// A content that was never pushed.
    fn fresh(&self) -> Content {
        self.noise.content(100, (1, self.pushed.fetch_add(1, Ordering::Relaxed), self.extent.tags))
    }
}

/// Fills a store, and says what a row of each kind has in the database.
fn report(root: &Path, extent: Extent) {
    let began = Instant::now();
    let filled: Vec<Filled> = filling::fill(root, extent).unwrap();
    let size = filled.iter().map(|(_, _, bytes)| bytes).sum();
    let rows: Vec<_> = filled
        .iter()
        .map(|(what, count, bytes)| format!("{count} {what}, {:.0} bytes each", *bytes as f64 / *count as f64))
        .collect();
    let seconds = began.elapsed().as_secs_f64();
    println!("filled in {seconds:.0} s: {}; together {:.0} MiB", rows.join("; "), mib(size));
}

fn basic(user: &str, password: &str) -> String {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("authorization: Basic {pair}\r\n")
}

fn get(client: &mut Client, path: &str, headers: &str) {
    let status = client.send("GET", path, headers, b"").status;
    assert_eq!(status, 200, "{path}");
}

fn head(client: &mut Client, path: &str) {
    assert_eq!(client.send("HEAD", path, "", b"").status, 200, "{path}");
}

fn push_blob(store: &Store, client: &mut Client, number: usize) {
    let content = store.fresh();
    let path = format!("/v2/{}/blobs/uploads/?digest={}", store.repository(number), content.digest());
    let bytes: Vec<u8> = store.noise.pieces(&content).flatten().copied().collect();
    assert_eq!(client.send("POST", &path, client::OCTETS, &bytes).status, 201);
}

fn put_manifest(store: &Store, client: &mut Client, number: usize) {
    let (name, blob) = store.blob(number);
    let note = store.pushed.fetch_add(1, Ordering::Relaxed).to_string();
    client.put_manifest(name, &format!("new-{note}"), &client::manifest(blob, &[], &note));
}

fn mount(store: &Store, client: &mut Client, number: usize) {
    let (from, blob) = store.blob(number);
    let to = store.pushed.fetch_add(1, Ordering::Relaxed);
    let path = format!("/v2/mounted/{to}/blobs/uploads/?mount={}&from={from}", blob.digest());
    assert_eq!(client.send("POST", &path, "", b"").status, 201);
}
