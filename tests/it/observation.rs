//! The metrics for other programs: promtool finds no fault, and Prometheus evaluates every expression of the dashboard and of
//! the alerts.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::content::push_image;
use crate::support::process::{ADMIN, Program, Running};

/// Whether a program of Debian's package prometheus can be run.
fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("SKIPPED: {program} is missing (package prometheus)");
    }
    found
}

/// A registry whose metrics have every family with labels: an upstream that is away, a sink that is away, a rate limit.
fn serve(root: &std::path::Path) -> Running {
    let config = "[http.ratelimit]\nanonymousRate = 1\nwindow = '1s'\n[http.accessControl.metrics]\nanonymousPolicy = ['read']\n\
                  [http.accessControl.repositories.'**']\nanonymousPolicy = ['read']\ndefaultPolicy = ['read', 'create', 'update']\n\
                  [extensions.sync]\n[[extensions.sync.registries]]\nhost = 'away.example'\nurls = ['http://127.0.0.1:1']\nonDemand = true\nmaxRetries = 0\n\
                  [extensions.events]\nenable = true\n[[extensions.events.sinks]]\nname = 'away'\naddress = 'http://127.0.0.1:1/'\n";
    Program::serve_with(root, config).with_admin().start()
}

/// Makes requests that every family counts.
async fn work(running: &Running) {
    push_image(&running.user(ADMIN), "admin/app", "1", 1).await;
    for _ in 0..20 {
        running.anonymous().get("/v2/admin/app/manifests/1").send().await;
    }
    running.user(ADMIN).get("/v2/away.example/library/app/manifests/1").send().await;
}

#[tokio::test]
async fn promtool_finds_no_fault_in_the_metrics_and_the_alerts() {
    if !has("promtool") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let running = serve(root.path());
    work(&running).await;
    let metrics = running.user(ADMIN).get("/metrics").send().await.status(200).text();
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let checked = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    assert!(checked.status.success() && said.trim().is_empty(), "{said}\n{metrics}");
    let rules = Command::new("promtool").args(["check", "rules", "packaging/alerts.yaml"]).output().unwrap();
    assert!(rules.status.success(), "{}", String::from_utf8_lossy(&rules.stderr));
}

/// A server that ends with the test.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every expression in the dashboard and in the alerts, with the variables of the dashboard replaced.
fn expressions() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| collect(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    let dashboard = std::fs::read_to_string("packaging/grafana.json").unwrap();
    collect(&serde_json::from_str(&dashboard).unwrap(), &mut found);
    let alerts = std::fs::read_to_string("packaging/alerts.yaml").unwrap();
    found.extend(alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: ").map(str::to_owned)));
    assert!(found.len() > 25, "{}", found.len());
    found.into_iter().map(|expression| expression.replace("$instance", ".*")).collect()
}

#[tokio::test]
async fn prometheus_evaluates_every_expression_of_the_dashboard_and_the_alerts() {
    if !has("prometheus") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let running = serve(&root.path().join("data"));
    work(&running).await;
    let config = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: coracle\n    basic_auth: {{ username: {}, password: \
         \"{}\" }}\n    static_configs: [{{ targets: ['{}'] }}]\n",
        ADMIN.0,
        ADMIN.1,
        running.address()
    );
    std::fs::write(root.path().join("prometheus.yml"), config).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Command::new("prometheus")
        .arg(format!("--config.file={}", root.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", root.path().join("tsdb").display()))
        .arg(format!("--web.listen-address={port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Prometheus(server);
    let begun = Instant::now();
    // Its answers are not those of a registry, so they are read as they are.
    let query = |expression: String| async move {
        let path = url::form_urlencoded::Serializer::new(String::new()).append_pair("query", &expression).finish();
        let answer = plain_get(port, &format!("/api/v1/query?{path}")).await?;
        serde_json::from_str::<Value>(&answer).ok()
    };
    // Rates need two samples.
    let is_empty = |answer: Value| answer["data"]["result"].as_array().is_none_or(Vec::is_empty);
    while query("rate(zot_http_requests_total[1m]) > 0".to_owned()).await.is_none_or(is_empty) {
        work(&running).await;
        assert!(begun.elapsed() < Duration::from_mins(1), "Prometheus reads no metrics");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut names = 0;
    for expression in expressions() {
        let answer = query(expression.clone()).await.unwrap();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        // Each metric that an expression names exists, so that a misspelt one is found. A comparison may find nothing.
        for name in expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if !name.starts_with("coracle_") && !name.starts_with("zot_") {
                continue;
            }
            names += 1;
            let found = query(format!("count({name})")).await.unwrap();
            // The limit of requests is known only if the upstream tells it.
            let is_there = found["data"]["result"].as_array().is_some_and(|found| !found.is_empty());
            assert!(is_there || name.starts_with("coracle_mirror_quota_"), "{name} of {expression} does not exist");
        }
    }
    assert!(names > 25, "{names}");
}

async fn plain_get(address: std::net::SocketAddr, path: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut socket = tokio::net::TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
    socket.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}
