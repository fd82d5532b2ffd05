//! `extensions.traces`: spans for a collector, and requests that never wait for it. Only builds with the feature `otel` have
//! them.

mod collector;

use std::time::{Duration, Instant};

use collector::{Collector, Taken};
use coracle::config::Config;
use coracle::{AccessPolicy, Registry};

use crate::support::TestRegistry;
use crate::support::content::push_image;
use crate::support::http::Caller;
use crate::support::process::{ADMIN, Program, Running};

/// The kinds of spans.
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";
/// More spans than may wait.
const MANY: usize = 6000;

fn config(collector: &Collector, more: &str) -> String {
    format!("{more}\n[extensions.traces]\nendpoint = '{}'\n", collector.url())
}

async fn registry(text: &str) -> TestRegistry {
    let config = Config::from_toml_str(text).unwrap().config;
    TestRegistry::start(Registry::builder().config(config).policy(AccessPolicy::Open)).await
}

async fn get(caller: &Caller, path: &str, flags: &str) -> u16 {
    let header = format!("00-{TRACE}-{PARENT}-{flags}");
    caller.get(path).header("traceparent", header).header("user-agent", "a test").send().await.status.as_u16()
}

fn find<'a>(taken: &'a [Taken], kind: i32, name: &str, service: &str) -> Option<&'a Taken> {
    taken.iter().find(|span| span.kind == kind && span.name == name && span.resource["service.name"] == service)
}

#[tokio::test]
async fn a_request_and_its_requests_to_an_upstream_are_one_trace() {
    let collector = Collector::start().await;
    let upstream = registry(&config(&collector, "").replace("endpoint", "serviceName = 'upstream'\nendpoint")).await;
    let more = format!(
        "[[extensions.sync.registries]]\nurls = ['http://{}']\nonDemand = true\nmaxRetries = 0\ncontent = [{{ prefix = '**', \
         destination = '/up' }}]",
        upstream.running.address()
    );
    let text = config(&collector, &more) + "resource = { 'deployment.environment.name' = 'test' }\n";
    let mirror = registry(&text).await;
    let image = push_image(&upstream.anonymous(), "app", "1", 1).await;
    let layer = format!("/v2/up/app/blobs/{}", image["layers"][0]["digest"].as_str().unwrap());
    let caller = mirror.anonymous();
    assert_eq!(get(&caller, "/v2/up/app/manifests/1?secret=hidden", "01").await, 200);
    assert_eq!(get(&caller, &layer, "01").await, 200);
    caller.get("/livez").send().await.status(200);
    caller.get("/v2/none/manifests/1").send().await.status(404);

    let (manifests, blobs) = ("GET /v2/{name}/manifests/{reference}", "GET /v2/{name}/blobs/{digest}");
    let taken = collector
        .until("the requests are sent", |taken| {
            let answered = |name| find(taken, SERVER, name, "coracle").is_some();
            let upstream =
                taken.iter().filter(|span| span.trace == TRACE && span.resource["service.name"] == "upstream");
            answered(manifests)
                && answered(blobs)
                && upstream.count() >= 2
                && taken.iter().any(|span| span.attributes.get("http.response.status_code") == Some(&404.into()))
        })
        .await;
    let span = find(&taken, SERVER, manifests, "coracle").unwrap();
    assert_eq!((span.trace.as_str(), span.parent.as_str()), (TRACE, PARENT));
    for (name, value) in [
        ("http.request.method", "GET".into()),
        ("http.response.status_code", 200.into()),
        ("http.route", "/v2/{name}/manifests/{reference}".into()),
        ("url.path", "/v2/up/app/manifests/1".into()),
        ("client.address", "127.0.0.1".into()),
        ("network.peer.address", "127.0.0.1".into()),
        ("user_agent.original", "a test".into()),
    ] {
        assert_eq!(span.attributes.get(name), Some(&value), "{name}: {span:#?}");
    }
    assert_eq!(span.resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(span.resource["deployment.environment.name"], "test");
    for (path, name) in [("/v2/app/manifests/1", manifests), ("/blobs/", blobs)] {
        let answered = find(&taken, SERVER, name, "coracle").unwrap();
        let asked = taken.iter().filter(|span| span.kind == CLIENT && span.parent == answered.id);
        let asked: Vec<_> = asked.filter(|span| span.attributes["url.full"].as_str().unwrap().contains(path)).collect();
        assert!(!asked.is_empty(), "{path}: {taken:#?}");
        let below = |asked: &&Taken| taken.iter().any(|span| span.kind == SERVER && span.parent == asked.id);
        assert!(asked.iter().any(below), "{path}: {taken:#?}");
        assert!(asked.iter().all(|asked| asked.trace == TRACE));
    }
    assert!(taken.iter().all(|span| span.attributes.get("url.path") != Some(&"/livez".into())), "{taken:#?}");
    // Only the server's own failures are errors.
    assert!(taken.iter().filter(|span| span.kind == SERVER).all(|span| !span.is_error), "{taken:#?}");
    let text = format!("{taken:?}");
    assert!(!text.contains("hidden"), "{text}");
    let metrics = caller.get("/metrics").send().await.status(200).text();
    assert!(metrics.contains("coracle_traces_dropped_total 0"), "{metrics}");
}

#[tokio::test]
async fn the_caller_decides_whether_a_request_is_traced_and_otherwise_the_ratio() {
    let collector = Collector::start().await;
    let none = registry(&(config(&collector, "") + "sampleRatio = 0\nserviceName = 'none'\n")).await;
    let all = registry(&(config(&collector, "") + "serviceName = 'all'\n")).await;
    for t in [&none, &all] {
        get(&t.anonymous(), "/v2/", "00").await;
        get(&t.anonymous(), "/v2/_catalog", "01").await;
        t.anonymous().get("/v2/none/tags/list").send().await.status(404);
        // Not a traceparent.
        t.anonymous().get("/v2/none/tags/list").header("traceparent", "00-zz-01").send().await.status(404);
    }
    let tags = "GET /v2/{name}/tags/list";
    let taken = collector
        .until("the requests are sent", |taken| {
            taken.iter().filter(|span| span.name == tags).count() == 2
                && find(taken, SERVER, "GET /v2/_catalog", "none").is_some()
        })
        .await;
    assert!(find(&taken, SERVER, tags, "none").is_none(), "{taken:#?}");
    assert!(taken.iter().all(|span| span.name != "GET /v2/"), "{taken:#?}");
}

#[tokio::test]
async fn spans_are_sent_with_the_headers_of_a_file_and_again_if_the_collector_is_busy() {
    let collector = Collector::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("headers");
    std::fs::write(&file, "authorization: Bearer first\nx-tenant: a\n").unwrap();
    let t = registry(&(config(&collector, "") + &format!("headersFile = '{}'\n", file.display()))).await;
    collector.refuse(Some(503));
    get(&t.anonymous(), "/v2/", "01").await;
    let begun = Instant::now();
    while collector.heads().is_empty() {
        assert!(begun.elapsed() < Duration::from_mins(1), "nothing is sent");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let head = collector.heads().remove(0);
    assert_eq!((&head["authorization"], &head["x-tenant"]), (&"Bearer first".parse().unwrap(), &"a".parse().unwrap()));
    std::fs::write(&file, "authorization: Bearer second\n").unwrap();
    collector.refuse(None);
    collector.until("it is sent again", |taken| taken.iter().any(|span| span.name == "GET /v2/")).await;
    assert_eq!(collector.heads().last().unwrap()["authorization"], "Bearer second");
    // A request that the collector does not understand is not sent again.
    collector.refuse(Some(400));
    let sent = collector.heads().len();
    get(&t.anonymous(), "/v2/_catalog", "01").await;
    let dropped = async || {
        let metrics = t.anonymous().get("/metrics").header("traceparent", format!("00-{TRACE}-{PARENT}-00"));
        metrics.send().await.status(200).text().contains("coracle_traces_dropped_total 1\n")
    };
    while !dropped().await {
        assert!(begun.elapsed() < Duration::from_mins(1), "nothing is dropped");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(collector.heads().len(), sent + 1);
}

fn serve(root: &std::path::Path, collector: &Collector) -> Running {
    let text = config(collector, "[log]\nformat = 'json'\n[http.accessControl.metrics]\nanonymousPolicy = ['read']\n");
    Program::serve_with(root, &text).with_admin().start()
}

/// The lines of the log about traces.
fn about_traces(log: &str) -> Vec<&str> {
    let is_about = |line: &&str| !line.contains("coracle::request") && line.contains("traces");
    log.lines().filter(is_about).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_slow_or_away_delays_no_request_and_costs_one_line() {
    let root = tempfile::tempdir().unwrap();
    let mut collector = Collector::start().await;
    collector.delay(Duration::from_hours(1));
    let running = serve(root.path(), &collector);
    let begun = Instant::now();
    let callers = (0..8).map(|_| {
        let caller = running.anonymous();
        tokio::spawn(async move {
            for _ in 0..MANY / 8 {
                assert_eq!(get(&caller, "/v2/", "01").await, 401);
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    println!("{MANY} requests in {:?}", begun.elapsed());
    let metrics = running.anonymous().get("/metrics").send().await.status(200).text();
    let dropped = metrics.lines().find_map(|line| line.strip_prefix("coracle_traces_dropped_total ")).unwrap();
    let dropped: usize = dropped.parse().unwrap();
    // At most the queue and one batch wait. The last span may end after its response has arrived.
    assert!((MANY - 4096 - 512 - 8..MANY).contains(&dropped), "{dropped}");
    let said = running.wait_for("traces");
    assert_eq!(about_traces(&said).len(), 1, "{:?}", about_traces(&said));
    collector.stop().await;
    collector.delay(Duration::ZERO);
    collector.restart();
    collector.until("what waited is sent", |taken| taken.len() >= 4096).await;
    let finished = running.stop();
    // The other line, if any, says that the collector takes them again.
    let said = about_traces(&finished.stderr);
    assert!(said.len() == 1 || said.len() == 2 && said[1].contains("again"), "{said:?}");
}

#[tokio::test]
async fn one_of_two_servers_of_a_registry_stops_while_the_other_one_sends() {
    let collector = Collector::start().await;
    let config = Config::from_toml_str(&config(&collector, "")).unwrap().config;
    let registry = Registry::builder().temporary().config(config).policy(AccessPolicy::Open).open().unwrap();
    let (first, second) = (registry.spawn_local().await.unwrap(), registry.spawn_local().await.unwrap());
    let caller = Caller::new(second.address(), None);
    get(&caller, "/v2/", "01").await;
    tokio::time::timeout(Duration::from_mins(1), first.shutdown()).await.expect("the first server stops");
    get(&caller, "/v2/_catalog", "01").await;
    collector
        .until("the second server sends", |taken| find(taken, SERVER, "GET /v2/_catalog", "coracle").is_some())
        .await;
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_sends_what_waits_and_does_not_wait_for_a_collector_that_is_away() {
    let root = tempfile::tempdir().unwrap();
    let mut collector = Collector::start().await;
    let running = serve(root.path(), &collector);
    running.user(ADMIN).get("/v2/").send().await.status(200);
    let finished = running.stop();
    assert_eq!(finished.code, Some(0));
    let taken = collector.taken();
    let span = find(&taken, SERVER, "GET /v2/", "coracle").unwrap();
    // The access log has the trace, so that both can be found from each other.
    let id = span.attributes["coracle.request.id"].as_str().unwrap();
    let line = finished.stderr.lines().find(|line| line.contains(id)).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["trace"], span.trace.as_str());

    let running = serve(root.path(), &collector);
    collector.stop().await;
    running.user(ADMIN).get("/v2/").send().await.status(200);
    let begun = Instant::now();
    let finished = running.stop();
    assert!(finished.code == Some(0) && begun.elapsed() < Duration::from_secs(20), "{finished:?}");
    let said = about_traces(&finished.stderr);
    assert!(
        said.iter().any(|line| line.contains("the last traces are lost") && line.contains("\"lost\":1")),
        "{said:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_of_opentelemetry_set_the_keys_unless_those_of_coracle_do() {
    let root = tempfile::tempdir().unwrap();
    let collector = Collector::start().await;
    let running = Program::serve(root.path())
        .with_admin()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .env("OTEL_SERVICE_NAME", "of-the-platform")
        .env("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=web%2D1, k8s.namespace.name = shop")
        .env("CORACLE_EXTENSIONS_TRACES_SERVICENAME", "images")
        .start();
    running.user(ADMIN).get("/v2/").send().await.status(200);
    running.stop();
    let taken = collector.taken();
    assert_eq!(taken.len(), 1, "{taken:#?}");
    let resource = &taken[0].resource;
    assert_eq!((&resource["service.name"], &resource["k8s.pod.name"]), (&"images".into(), &"web-1".into()));
    assert_eq!(resource["k8s.namespace.name"], "shop");
    let shown = Program::new(["check-config", "--effective"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/")
        .env("CORACLE_EXTENSIONS_TRACES_SAMPLERATIO", "0.25")
        .run();
    let line = |key: &str| shown.stdout.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
    let endpoint = line("extensions.traces.endpoint");
    assert!(
        endpoint.contains("http://collector:4318 ") && endpoint.contains("$OTEL_EXPORTER_OTLP_ENDPOINT"),
        "{shown:?}"
    );
    assert!(line("extensions.traces.sampleRatio").contains(" 0.25 "), "{shown:?}");
}
