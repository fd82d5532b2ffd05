//! Where the registry listens: several addresses, unix sockets with their rights, and HTTP/2 without TLS.

use std::net::{Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use rustix::net::{AddressFamily, SocketType};

use crate::support::content::{noise, push_blob, push_image, sha256};
use crate::support::http::Caller;
use crate::support::process::{ADMIN, Program, Running};

/// Starts the program with a configuration, and without options that name another address.
fn serve(root: &Path, config: &str) -> Running {
    std::fs::write(root.join("coracle.toml"), config).unwrap();
    let program = Program::new(["serve", "--root"]).arg(root.join("data")).arg(root.join("coracle.toml"));
    program.with_admin().start()
}

/// The status, the version of HTTP and the body that curl gets.
#[track_caller]
fn curl(arguments: &[&str]) -> (String, Vec<u8>) {
    let body = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "60",
            "--write-out",
            "%{http_code} %{http_version}",
            "--output",
        ])
        .arg(body.path())
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "curl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).unwrap(), std::fs::read(body.path()).unwrap())
}

fn has_curl() -> bool {
    let found = Command::new("curl").arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIPPED: curl is missing");
    }
    found
}

fn credentials() -> String {
    format!("{}:{}", ADMIN.0, ADMIN.1)
}

#[tokio::test]
async fn one_registry_listens_at_every_place_of_the_list() {
    if !has_curl() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let socket = root.path().join("http.sock");
    let place = format!("unix:{}", socket.display());
    let config = format!("[http]\nlisten = ['127.0.0.1:0', '[::1]:0', '{place}']\nunixSocket.mode = '0600'\n");
    let running = serve(root.path(), &config);
    let second = running.wait_for_line();
    let third = running.wait_for_line();
    assert_eq!(third, format!("listening on {place}"));
    let content = noise(3 << 20, 1);
    push_image(&running.user(ADMIN), "admin/app", "1", 1).await;
    let digest = push_blob(&running.user(ADMIN), "admin/app", &content).await;

    let url = second.strip_prefix("listening on ").unwrap();
    let other = Caller::new(url.strip_prefix("http://").unwrap().parse().unwrap(), Some(ADMIN));
    other.get("/v2/admin/app/manifests/1").send().await.status(200);

    let found = std::fs::symlink_metadata(&socket).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    let path = socket.to_str().unwrap();
    let (unix, user) = (["--unix-socket", path, "--user"], credentials());
    let blob = format!("http://localhost/v2/admin/app/blobs/{digest}");
    // Large blobs are sent from their files, also over a unix socket.
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let (status, body) = curl(&[&unix[..], &[&user, version, &blob]].concat());
        assert_eq!(status, if version == "--http1.1" { "200 1.1" } else { "200 2" });
        assert_eq!(sha256(&body), digest);
    }
    running.stop();
    assert!(!socket.exists(), "the file goes with the registry");
}

#[tokio::test]
async fn a_socket_that_a_crash_left_is_replaced_and_one_in_use_is_not() {
    let root = tempfile::tempdir().unwrap();
    let socket = root.path().join("s".repeat(60)).join("t".repeat(60)).join("http.sock");
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let config = format!("[http]\nlisten = ['127.0.0.1:0', 'unix:{}']\n", socket.display());
    serve(root.path(), &config).kill();
    assert!(socket.exists(), "a killed registry leaves its socket");
    let running = serve(root.path(), &config);
    let mode = std::fs::symlink_metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "the path is longer than the system calls take");
    let second = tempfile::tempdir().unwrap();
    let file = root.path().join("coracle.toml");
    let refused = Program::new(["serve", "--root"]).arg(second.path()).arg(&file).with_admin().run();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("another program listens there"), "{refused:?}");
    running.stop();
    std::fs::write(&socket, "a file").unwrap();
    let refused = Program::new(["serve", "--root"]).arg(second.path()).arg(&file).with_admin().run();
    assert!(refused.stderr.contains("there is a file that is no socket"), "{refused:?}");
    assert_eq!(std::fs::read(&socket).unwrap(), b"a file");
}

/// The name localhost leads to `::1` first. A registry on IPv4 alone would leave its clients to the other program.
#[test]
fn a_port_that_another_program_has_on_ipv6_alone_is_in_use() {
    let Ok(socket) = rustix::net::socket(AddressFamily::INET6, SocketType::STREAM, None) else {
        eprintln!("SKIPPED: the system has no IPv6");
        return;
    };
    rustix::net::sockopt::set_ipv6_v6only(&socket, true).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))).unwrap();
    rustix::net::listen(&socket, 1).unwrap();
    let port = std::net::TcpListener::from(socket.try_clone().unwrap()).local_addr().unwrap().port();
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("coracle.toml");
    for config in [format!("[http]\naddress = ''\nport = {port}\n"), format!("[http]\nlisten = [':{port}']\n")] {
        std::fs::write(&file, &config).unwrap();
        let refused = Program::new(["serve", "--root"]).arg(root.path().join("data")).arg(&file).with_admin().run();
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("another program uses this"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_group_may_use_the_socket() {
    use std::os::unix::fs::MetadataExt as _;
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root may give a file to another group");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let socket = root.path().join("http.sock");
    for (group, id) in [("daemon", 1), ("54321", 54321)] {
        let config = format!("[http]\nlisten = ['unix:{}']\nunixSocket.group = '{group}'\n", socket.display());
        let running = serve(root.path(), &config);
        assert_eq!(running.url(), format!("unix:{}", socket.display()));
        assert_eq!(std::fs::symlink_metadata(&socket).unwrap().gid(), id);
        running.stop();
    }
    // The largest number means "no group" to the system.
    for group in ["no-such-group", "4294967295", "-1"] {
        let config = format!("[http]\nlisten = ['unix:{}']\nunixSocket.group = '{group}'\n", socket.display());
        let file = root.path().join("coracle.toml");
        std::fs::write(&file, config).unwrap();
        let serve = Program::new(["serve", "--root"]).arg(root.path().join("data")).arg(&file).with_admin().run();
        let check = Program::new(["check-config"]).arg(&file).run();
        for refused in [serve, check] {
            assert!(refused.stderr.contains(&format!("/etc/group has no group {group:?}")), "{refused:?}");
        }
    }
}

/// A proxy that reaches the registry over a unix socket is trusted, because its rights say who may connect.
#[tokio::test]
async fn a_proxy_at_a_unix_socket_names_its_client_and_its_scheme() {
    if !has_curl() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let socket = root.path().join("http.sock");
    let running = serve(root.path(), &format!("[http]\nlisten = ['127.0.0.1:0', 'unix:{}']\n", socket.display()));
    let path = socket.to_str().unwrap();
    let headers = ["--header", "X-Forwarded-For: 203.0.113.7", "--header", "X-Forwarded-Proto: https"];
    let unix = ["--unix-socket", path, "--include", "http://registry.example/v2/"];
    let (status, answer) = curl(&[&headers[..], &unix].concat());
    assert_eq!(status, "401 1.1");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("realm=\"https://registry.example/v2/auth\""), "{answer}");
    running.wait_for("client=203.0.113.7");
}

#[tokio::test]
async fn http_2_without_tls_works_on_every_plain_port() {
    if !has_curl() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let running = serve(root.path(), "[http]\nlisten = ['127.0.0.1:0']\n");
    push_image(&running.user(ADMIN), "admin/app", "1", 1).await;
    let (url, user) = (format!("{}/v2/admin/app/manifests/1", running.url()), credentials());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), noise(1 << 20, 7)).unwrap();
    let upload = format!("@{}", file.path().display());
    for (version, expected) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
        assert_eq!(curl(&["--user", &user, version, &url]).0, format!("200 {expected}"));
        assert_eq!(
            curl(&["--user", &user, version, "--request", "PUT", &url, "--data", "{}"]).0,
            format!("415 {expected}")
        );
        // The methods that begin like the preface of HTTP/2, with bodies.
        let digest = sha256(&noise(1 << 20, 7));
        let push = format!("{}/v2/admin/app/blobs/uploads/?digest={digest}", running.url());
        let (status, _) = curl(&["--user", &user, version, "--request", "POST", &push, "--data-binary", &upload]);
        assert_eq!(status, format!("201 {expected}"));
    }
}

/// The first bytes may arrive one by one, and a client that stops there does not hold its connection.
#[tokio::test]
async fn the_preface_of_http_2_may_arrive_in_pieces() {
    use crate::support::TestRegistry;
    use crate::support::connection::Raw;
    let text = "[http.limits]\nheaderTimeout = '300ms'\nidleTimeout = '1h'\n";
    let config = coracle::config::Config::from_toml_str(text).unwrap().config;
    let builder = coracle::Registry::builder().config(config).policy(coracle::AccessPolicy::Open);
    let t = TestRegistry::start(builder).await;
    for line in ["POST /v2/a/blobs/uploads/", "PUT /v2/a/manifests/1", "PATCH /v2/"] {
        let mut slow = Raw::connect(t.running.address()).await;
        for piece in ["P", &line[1..], " HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"] {
            slow.send(piece).await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let status = slow.answer().await.status;
        assert!([202, 400, 404, 405].contains(&status), "{line}: {status}");
    }
    for beginning in ["P", "PR"] {
        let mut silent = Raw::connect(t.running.address()).await;
        silent.send(beginning).await;
        assert_eq!(silent.drain().await, 0, "it is closed after headerTimeout");
    }
}

#[tokio::test]
async fn a_plain_port_works_next_to_one_with_tls() {
    if !has_curl() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(root.path().join("cert.pem"), issued.cert.pem()).unwrap();
    std::fs::write(root.path().join("key.pem"), issued.signing_key.serialize_pem()).unwrap();
    let config = format!(
        "[http]\nlisten = ['http://127.0.0.1:0', '127.0.0.1:0']\ntls.cert = '{0}/cert.pem'\ntls.key = '{0}/key.pem'\n",
        root.path().display()
    );
    let running = serve(root.path(), &config);
    let second = running.wait_for_line();
    let secure = second.strip_prefix("listening on ").unwrap();
    assert!(running.url().starts_with("http://127.0.0.1:") && secure.starts_with("https://127.0.0.1:"), "{second}");
    let user = credentials();
    assert_eq!(curl(&["--user", &user, &format!("{}/v2/", running.url())]).0, "200 1.1");
    assert_eq!(curl(&["--user", &user, "--http2-prior-knowledge", &format!("{}/v2/", running.url())]).0, "200 2");
    assert_eq!(curl(&["--insecure", "--user", &user, &format!("{secure}/v2/")]).0, "200 2");
}
