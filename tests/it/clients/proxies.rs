//! The configurations of nginx and `HAProxy` in docs/configuration.md, run with the real proxies.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::home::{Home, needs};
use super::target::{Target, guarded_as};
use crate::support::process::Program;

/// The client's address, which differs from that of the proxies.
const CLIENT: &str = "127.0.0.5";
/// Far longer than a proxy needs to start, or the registry to write a line.
const PATIENCE: Duration = Duration::from_secs(30);

/// The block of docs/configuration.md in this language, with the example's own values replaced.
fn snippet(language: &str, own: &[(&str, &str)]) -> String {
    let page = include_str!("../../../docs/configuration.md");
    let (_, block) = page.split_once(&format!("```{language}\n")).expect("the block is in docs/configuration.md");
    let (block, _) = block.split_once("```").unwrap();
    own.iter().fold(block.to_owned(), |block, (text, value)| {
        assert!(block.contains(text), "{language}: {text}");
        block.replace(text, value)
    })
}

/// A proxy, which stops when this is dropped.
struct Proxy {
    child: Child,
    host_port: String,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    fn start(command: &mut Command, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut proxy = Self { child, host_port: format!("localhost:{port}") };
        let until = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert_eq!(proxy.child.try_wait().unwrap(), None, "the proxy has ended");
            assert!(Instant::now() < until, "the proxy does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        proxy
    }
}

/// A port below those that the system gives to a program that asks for any port: another test cannot get it before the proxy does.
fn free_port() -> u16 {
    let is_free = |port: &u16| std::net::TcpListener::bind(("0.0.0.0", *port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(10_000..32_000)).take(1000).find(is_free).expect("a free port")
}

/// A registry with the configuration in docs/configuration.md.
fn registry(directory: &Path) -> (Target, String) {
    let page = include_str!("../../../docs/configuration.md");
    let trusted =
        page.lines().find(|line| line.starts_with("trustedProxies = ")).expect("the key is in docs/configuration.md");
    let audit = directory.join("audit").display().to_string();
    let config = format!("[http]\n{trusted}\n[log]\nformat = 'json'\naudit = '{audit}'\n");
    (guarded_as(&config), audit)
}

/// Checks one proxy: the registry knows the client's URL and address, also if the client sends false headers, and takes
/// large pushes.
fn works(home: &Home, target: &Target, proxy: &Proxy, audit: &str) {
    let (user, password) = target.credentials.clone().unwrap();
    let credentials = format!("{user}:{password}");
    let curl = |more: &[&str]| {
        let known = ["--silent", "--show-error", "--insecure", "--include", "--interface", CLIENT];
        let lies = [
            "--header",
            "X-Forwarded-For: 198.51.100.1",
            "--header",
            "Forwarded: for=198.51.100.2;host=evil.test",
            "--header",
            "X-Forwarded-Host: evil.test",
            "--header",
            "X-Forwarded-Proto: gopher",
        ];
        home.run("curl", &[&known[..], &lies, more].concat()).text().to_ascii_lowercase()
    };
    let base = format!("https://{}", proxy.host_port);
    for version in ["--http1.1", "--http2"] {
        let said = curl(&[version, &format!("{base}/v2/")]);
        let expected = format!("bearer realm=\"{base}/v2/auth\",service=\"{}\"", proxy.host_port);
        assert!(said.contains(" 401") && said.contains(&expected), "{version}: {said}");
    }
    // More than nginx takes by default.
    let blob = super::content::noise(3 << 20);
    let file = home.write("blob", &blob);
    let path = format!("/v2/by/proxy/blobs/uploads/?digest={}", super::image::digest(&blob));
    let upload = ["--user", &credentials, "--request", "POST", "--data-binary", &format!("@{}", file.display())];
    let said = curl(&[&upload[..], &[&format!("{base}{path}")]].concat());
    assert!(said.contains(" 201"), "{said}");

    let is_push = |line: &&str| line.contains("/v2/by/proxy/blobs/uploads/");
    let until = Instant::now() + PATIENCE;
    let line = loop {
        let log = target.program().stderr();
        if let Some(line) = log.lines().find(|line| is_push(line) && line.contains("\"status\"")) {
            break serde_json::from_str::<Value>(line).unwrap();
        }
        assert!(Instant::now() < until, "no line in the log: {log}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(line["client"], CLIENT, "{line}");
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    let text = fs::read_to_string(audit).unwrap();
    let line: Value = serde_json::from_str(text.lines().find(is_push).unwrap()).unwrap();
    assert_eq!(line["clientIP"], CLIENT, "{line}");
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
}

#[test]
fn nginx_as_documented() {
    needs!(CURL, NGINX);
    let directory = tempfile::tempdir().unwrap();
    crate::tls::certify(directory.path());
    let (target, audit) = registry(directory.path());
    let (home, port) = (Home::beside(&target), free_port());
    let file = |name: &str| directory.path().join(name).display().to_string();
    let server = snippet(
        "nginx",
        &[
            ("443", &port.to_string()),
            ("/etc/nginx/cert.pem", &file("cert.pem")),
            ("/etc/nginx/key.pem", &file("key.pem")),
            ("127.0.0.1:8080", &target.host_port),
        ],
    );
    let temporary = ["client_body", "proxy", "fastcgi", "scgi", "uwsgi"]
        .map(|name| format!("{name}_temp_path {};\n", file(name)))
        .concat();
    let start = |server: &str| {
        let config = format!(
            "daemon off;\nmaster_process off;\npid {};\nerror_log stderr;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}{server}}}\n",
            file("pid")
        );
        fs::write(file("nginx.conf"), config).unwrap();
        Proxy::start(Command::new("nginx").args(["-p", &file(""), "-c", &file("nginx.conf")]), port)
    };
    let documented = start(&server);
    works(&home, &target, &documented, &audit);

    // The command finds the limits that the documented configuration lifts.
    let url = format!("https://{}", documented.host_port);
    let doctor = || {
        let machine = tempfile::tempdir().unwrap();
        let command = Program::new(["doctor", "--url", &url, "--ca", &file("cert.pem"), "--machine"]);
        command.arg(machine.path()).arg("--root").arg(directory.path()).run().stdout
    };
    let said = doctor();
    assert!(said.contains("clients reach the registry at") && !said.contains("413"), "{said}");
    drop(documented);
    for (line, expected) in [
        ("", "refuses requests of 64 MiB (413): pushes of layers fail"),
        ("client_max_body_size 1g;", "refuses requests of 8 GiB (413): pushes of large layers fail"),
    ] {
        let _proxy = start(&server.replace("client_max_body_size 0;", line));
        let said = doctor();
        assert!(said.contains(expected) && said.contains("client_max_body_size 0"), "{said}");
    }
}

#[test]
fn haproxy_as_documented() {
    needs!(CURL, HAPROXY);
    let directory = tempfile::tempdir().unwrap();
    crate::tls::certify(directory.path());
    let (target, audit) = registry(directory.path());
    let (home, port) = (Home::beside(&target), free_port());
    let file = |name: &str| directory.path().join(name).display().to_string();
    // haproxy reads both from one file.
    let read = |name: &str| fs::read_to_string(file(name)).unwrap();
    fs::write(file("registry.pem"), read("cert.pem") + &read("key.pem")).unwrap();
    let config = snippet(
        "haproxy",
        &[
            (":443", &format!(":{port}")),
            ("/etc/haproxy/registry.pem", &file("registry.pem")),
            ("127.0.0.1:8080", &target.host_port),
        ],
    );
    fs::write(file("haproxy.cfg"), config).unwrap();
    let proxy = Proxy::start(Command::new("haproxy").args(["-db", "-f", &file("haproxy.cfg")]), port);
    works(&home, &target, &proxy, &audit);
}
