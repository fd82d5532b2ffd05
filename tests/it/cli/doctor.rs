//! `coracle doctor`: a healthy machine, and machines with one fault each.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::content::push_image;
use crate::support::process::{ADMIN, Finished, Program};

const CORACLE: &str = env!("CARGO_BIN_EXE_coracle");

/// A machine without clients of its own, so that those of the test machine do not matter.
fn machine() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn doctor(root: &Path, more: &[&str]) -> Finished {
    let machine = machine();
    Program::new(["doctor", "--machine"]).arg(machine.path()).arg("--root").arg(root).args(more).run()
}

/// A check that found a problem, with the advice below it.
#[track_caller]
fn problem(finished: &Finished, check: &str, found: &str, advice: &str) {
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let mut lines = finished.stdout.lines();
    let line = lines.find(|line| line.starts_with(&format!("problem  {check}")));
    let line = line.unwrap_or_else(|| panic!("{check} is no problem: {finished:?}"));
    assert!(line.contains(found), "{line}\n{finished:?}");
    let next = lines.next().unwrap();
    assert!(next.contains(" → ") && next.contains(advice), "{next}");
}

/// Whether a program runs here. Otherwise the test is skipped, but not in CI.
fn works(program: &str, arguments: &[&str]) -> bool {
    let found = Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success());
    if !found {
        assert!(std::env::var_os("CI").is_none() || program == "unshare", "{program} is missing");
        eprintln!("SKIPPED: {program} does not work here");
    }
    found
}

#[tokio::test]
async fn a_healthy_machine_has_no_problem() {
    let root = tempfile::tempdir().unwrap();
    let before = doctor(root.path(), &["--config", "/dev/null/none.toml"]);
    problem(&before, "configuration", "none.toml: cannot be read", "coracle check-config");
    assert!(before.stdout.contains("\n1 problem, "), "one cause is one problem: {before:?}");
    let nowhere = Program::new(["doctor", "--config", "/dev/null/none.toml"]).run();
    for row in ["data directory", "port          "] {
        assert!(nowhere.stdout.contains(&format!("skipped  {row}")), "no default is checked: {nowhere:?}");
    }
    let stopped = doctor(&root.path().join("new"), &[]);
    assert!(stopped.stdout.contains("does not exist; the first start creates it"), "{stopped:?}");
    let running = Program::serve(root.path()).with_admin().start();
    push_image(&running.user(ADMIN), "admin/app", "1", 1).await;
    let healthy = doctor(root.path(), &[]);
    assert_eq!(healthy.code, Some(0), "{healthy:?}");
    assert!(healthy.stdout.contains("\n0 problems, "), "{healthy:?}");
    for line in [
        format!("registry        version 0.1.0 runs at {}", running.url()),
        format!("URL             clients reach the registry at {}", running.url()),
        "durable writes  a write of 64 KiB takes ".to_owned(),
        "docker          not installed".to_owned(),
    ] {
        assert!(healthy.stdout.contains(&line), "{line:?} is missing: {}", healthy.stdout);
    }
    // Nothing is left behind, and colours are for terminals.
    let names: Vec<_> = std::fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(".doctor-")), "{names:?}");
    assert!(!healthy.stdout.contains('\u{1b}'));
    let parsed: Value = serde_json::from_str(&doctor(root.path(), &["--json"]).stdout).unwrap();
    assert_eq!(parsed["checks"][0]["state"], "ok", "{parsed}");
}

/// Runs a script that mounts something for itself only. It gets the data directory, the program and the machine.
fn with_own_mounts(script: &str, root: &Path, machine: &Path) -> Finished {
    Program::of("unshare", ["-m", "sh", "-c", script, "sh"]).arg(root).arg(CORACLE).arg(machine).run()
}

#[test]
fn a_full_disk() {
    if !works("unshare", &["-m", "true"]) {
        return;
    }
    let (root, machine) = (tempfile::tempdir().unwrap(), machine());
    let script = "mount -t tmpfs -o size=66m none \"$1\" && head -c 70M /dev/zero > \"$1/blobs\" 2>/dev/null; \
                  exec \"$2\" doctor --root \"$1\" --machine \"$3\"";
    let found = with_own_mounts(script, root.path(), machine.path());
    problem(&found, "durable writes", "No space left on device", "see free space below");
    problem(&found, "free space", "0 B are free, and pushes are refused below 64 MiB", "to free space, run `coracle");
    assert_eq!(found.stdout.matches("to free space").count(), 1, "{found:?}");
    let script = "mount -t tmpfs -o size=1m none \"$1\" && exec \"$2\" doctor --root \"$1\" --machine \"$3\"";
    let found = with_own_mounts(script, root.path(), machine.path());
    problem(&found, "free space", "the disk has 1 MiB, and pushes are refused below 64 MiB", "a larger disk");
}

#[tokio::test]
async fn a_wrong_clock() {
    if !works("faketime", &["2020-01-01", "true"]) {
        return;
    }
    let (root, machine) = (tempfile::tempdir().unwrap(), machine());
    let at = |time: &str| {
        let program = Program::of("faketime", ["-f", time, CORACLE, "doctor", "--machine"]).arg(machine.path());
        program.arg("--root").arg(root.path()).run()
    };
    let advice = "timedatectl set-ntp true";
    problem(&at("@1999-01-01 00:00:00"), "clock", "which is before this version was made", advice);
    let running = Program::serve(root.path()).with_admin().start();
    let later = at("+800d");
    problem(&later, "clock", "that of the running registry says 20", advice);
    assert_eq!(later.stdout.matches("the clock says").count(), 1, "{later:?}");
    let status = Program::of("faketime", ["-f", "+800d", CORACLE, "status", "--root"]).arg(root.path()).run();
    assert!(status.stdout.contains("warning: the clock says 20"), "{status:?}");
    running.stop();
    let newest = std::time::SystemTime::now() + std::time::Duration::from_hours(50 * 24);
    std::fs::File::open(root.path().join("manifests.log")).unwrap().set_modified(newest).unwrap();
    problem(&at("+0d"), "clock", "manifests.log was written at", advice);
}

#[test]
fn an_expired_certificate() {
    let root = tempfile::tempdir().unwrap();
    let certificate = |until: (i32, u8, u8)| {
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(root.path().join("cert.pem"), parameters.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(root.path().join("key.pem"), key.serialize_pem()).unwrap();
    };
    let shown = root.path().display();
    let config = root.path().join("coracle.toml");
    std::fs::write(&config, format!("[http]\nport = 0\ntls.cert = '{shown}/cert.pem'\ntls.key = '{shown}/key.pem'\n"))
        .unwrap();
    let ask = || doctor(&root.path().join("data"), &["--config", config.to_str().unwrap()]);
    certificate((2024, 5, 6));
    problem(&ask(), "certificate", "expired at 2024-05-06 00:00 UTC: clients refuse it", "renew it");
    certificate((2099, 1, 1));
    assert!(ask().stdout.contains("is valid until 2099-01-01 00:00 UTC"));
    std::fs::write(root.path().join("key.pem"), "").unwrap();
    problem(&ask(), "certificate", "http.tls.key: ", "let http.tls.cert and http.tls.key name a certificate");
}

#[test]
fn an_expired_certificate_is_no_fault_of_the_clients() {
    let (root, machine) = (tempfile::tempdir().unwrap(), machine());
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2024, 5, 6);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = root.path().join("cert.pem");
    std::fs::write(&certificate, parameters.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(root.path().join("key.pem"), key.serialize_pem()).unwrap();
    let shown = root.path().display();
    let data = root.path().join("data");
    let keys = format!("[http]\nport = 0\ntls.cert = '{shown}/cert.pem'\ntls.key = '{shown}/key.pem'\n");
    let running = Program::serve_with(&data, &keys).with_admin().start();
    install_clients(machine.path());
    // The command does not know the configuration of the running registry.
    let found = Program::new(["doctor", "--ca"]).arg(&certificate).arg("--machine").arg(machine.path());
    let found = found.arg("--root").arg(&data).run();
    problem(&found, "certificate", "cert.pem expired at 2024-05-06 00:00 UTC: clients refuse it", "renew it");
    assert!(found.stdout.contains("\n1 problem, "), "{found:?}");
    for check in ["URL", "docker", "podman", "containerd"] {
        let skipped = format!("skipped  {check}");
        let line = found.stdout.lines().find(|line| line.starts_with(&skipped)).unwrap_or_else(|| panic!("{found:?}"));
        assert!(line.contains("not checked: the certificate of 127.0.0.1 expired at 2024-05-06"), "{line}");
    }
    let status = Program::new(["status", "--root"]).arg(&data).run();
    assert!(status.stdout.contains("  certificate     expired at 2024-05-06 00:00 UTC\n"), "{status:?}");
    running.stop();
}

#[tokio::test]
async fn a_registry_whose_blobs_cannot_be_read_is_not_healthy() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    let (blobs, away) = (root.path().join("blobs"), root.path().join("away"));
    for (from, to, ready, code) in [(&blobs, &away, 503, Some(1)), (&away, &blobs, 200, Some(0))] {
        std::fs::rename(from, to).unwrap();
        running.anonymous().get("/readyz").send().await.status(ready);
        let status = Program::new(["status", "--quiet", "--root"]).arg(root.path()).run();
        assert_eq!(status.code, code, "{status:?}");
    }
    running.stop();
}

fn install_clients(machine: &Path) {
    for program in ["dockerd", "skopeo", "containerd"] {
        let path = machine.join("usr/bin").join(program);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
}

#[test]
fn clients_are_not_checked_with_a_certificate_that_was_not_seen() {
    let (root, machine) = (tempfile::tempdir().unwrap(), machine());
    install_clients(machine.path());
    let config = root.path().join("coracle.toml");
    std::fs::write(&config, "[http]\nexternalUrl = 'https://127.0.0.1:1'\n").unwrap();
    let found = Program::new(["doctor", "--machine"]).arg(machine.path()).arg("--config").arg(&config);
    let found = found.arg("--root").arg(root.path().join("data")).run();
    problem(&found, "URL", "127.0.0.1", "see that it runs");
    for check in ["docker", "podman", "containerd"] {
        let skipped = format!("skipped  {check}");
        let line = found.stdout.lines().find(|line| line.starts_with(&skipped)).unwrap_or_else(|| panic!("{found:?}"));
        assert!(line.contains("not checked: no answer has come from there"), "{line}");
    }
}

#[test]
fn a_relative_root() {
    let root = tempfile::tempdir().unwrap();
    let above: std::path::PathBuf = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
    let relative = above.join(root.path().strip_prefix("/").unwrap());
    let running = Program::serve(&relative).with_admin().start();
    let found = doctor(&relative, &[]);
    assert!(found.stdout.contains("  permissions     "), "{found:?}");
    let status = Program::new(["status", "--root"]).arg(&relative).run();
    assert!(status.stdout.contains("  data directory  /"), "{status:?}");
    running.stop();
}

#[test]
fn a_read_only_root() {
    if !works("unshare", &["-m", "true"]) {
        return;
    }
    let (root, machine) = (tempfile::tempdir().unwrap(), machine());
    Program::serve(root.path()).with_admin().start().stop();
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,ro,bind \"$1\" && \
                  exec \"$2\" doctor --root \"$1\" --machine \"$3\"";
    let found = with_own_mounts(script, root.path(), machine.path());
    problem(&found, "durable writes", "Read-only file system", "in a container, mount a volume at");
    assert!(found.stdout.contains("\n1 problem, ") && !found.stdout.contains("may not use"), "{found:?}");
    for command in ["status", "gc", "serve --port 0"] {
        let script = format!(
            "mount --bind \"$1\" \"$1\" && mount -o remount,ro,bind \"$1\" && exec \"$2\" {command} --root \"$1\""
        );
        let found = with_own_mounts(&script, root.path(), machine.path());
        assert!(found.code == Some(1) && found.stderr.contains("mount -o remount,rw"), "{command}: {found:?}");
        assert_eq!(found.stderr.matches(root.path().to_str().unwrap()).count(), 1, "{command}: {found:?}");
    }
}

#[test]
fn a_missing_permission() {
    use std::os::unix::fs::PermissionsExt as _;
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can run a program as another user");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(place.path(), open.clone()).unwrap();
    let (root, machine) = (place.path().join("data"), machine());
    Program::serve(&root).with_admin().start().stop();
    std::fs::set_permissions(&root, open).unwrap();
    let ask = || {
        let program = Program::new(["doctor", "--machine"]).arg(machine.path()).arg("--root").arg(&root);
        program.unprivileged().run()
    };
    let advice = "run this command as root, such as with `sudo`; if the registry does not run as root, give its user";
    problem(&ask(), "permissions", "the user with the ID 65534 may not use", advice);
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o700)).unwrap();
    let denied = ask();
    problem(&denied, "permissions", "may not use", advice);
    assert!(denied.stdout.contains("\n1 problem, "), "one cause is one problem: {denied:?}");
    assert!(!denied.stdout.contains("chown -R 65534"), "the data belongs to another user: {denied:?}");
    // A new data directory in a directory of another user, such as /var/lib.
    let program = Program::new(["doctor", "--machine"]).arg(machine.path()).arg("--root").arg(place.path().join("new"));
    let new = program.unprivileged().run();
    problem(&new, "data directory", "cannot be created in", "or name a directory of your own with --root");
    assert!(!new.stdout.contains("chown") && new.stdout.contains("\n1 problem, "), "{new:?}");
    // A file of another user in the directory, as after a command that ran as root.
    std::os::unix::fs::chown(&root, Some(65534), None).unwrap();
    let found = doctor(&root, &[]);
    problem(&found, "permissions", "belongs to the user with the ID 0, and its directory to 65534", "`chown -R 65534 ");
}

/// A proxy that names itself as the host of the registry, and adds no header.
fn proxy(registry: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(client.try_clone().unwrap()).lines().map_while(Result::ok);
            let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
            let mut server = TcpStream::connect(registry).unwrap();
            for line in head.iter().filter(|line| !line.to_lowercase().starts_with("host:")) {
                write!(server, "{line}\r\n").unwrap();
            }
            write!(server, "host: {registry}\r\nconnection: close\r\n\r\n").unwrap();
            let (mut response, mut client) = (Vec::new(), client);
            let _ = server.read_to_end(&mut response);
            let _ = client.write_all(&response);
        }
    });
    address
}

#[tokio::test]
async fn a_proxy_without_headers() {
    let root = tempfile::tempdir().unwrap();
    let running = Program::serve(root.path()).with_admin().start();
    let url = format!("http://{}", proxy(running.address()));
    let found = doctor(root.path(), &["--url", &url]);
    let said = format!("clients use {url}, and the registry tells them to continue at {}", running.url());
    problem(&found, "URL", &said, "let the proxy send `X-Forwarded-Proto: http` and `X-Forwarded-Host: 127.0.0.1:");
    // A proxy that sends headers, and is not trusted.
    running.user(ADMIN).get("/v2/").header("x-forwarded-proto", "https").send().await.status(200);
    // Every client can send them.
    let warned = doctor(root.path(), &[]);
    assert_eq!(warned.code, Some(0), "{warned:?}");
    assert!(warned.stdout.contains("warning  proxy "), "{warned:?}");
    assert!(warned.stdout.contains("; --url with the URL of a proxy checks the way through it"), "{warned:?}");
    running.stop();
    problem(&doctor(root.path(), &["--url", &url]), "URL", "", "");
    problem(&doctor(root.path(), &["--url", "registry"]), "URL", "is not a URL", "https://");
}

#[test]
fn a_port_that_another_program_uses() {
    let root = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let config = root.path().join("coracle.toml");
    std::fs::write(&config, format!("[http]\nport = {}\n", taken.local_addr().unwrap().port())).unwrap();
    let found = doctor(&root.path().join("data"), &["--config", config.to_str().unwrap()]);
    problem(&found, "port", "cannot listen at 127.0.0.1:", "ss -ltnp");
}

#[test]
fn the_clients_of_the_machine_are_checked() {
    let (root, machine) = (tempfile::tempdir().unwrap(), machine());
    let write = |path: &str, text: &str| {
        let path = machine.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let ask = |url: &str| {
        let program = Program::new(["doctor", "--url", url, "--machine"]).arg(machine.path());
        program.arg("--root").arg(root.path()).run()
    };
    for program in ["dockerd", "skopeo", "containerd"] {
        write(&format!("usr/bin/{program}"), "");
    }
    // No such host: the URL is a problem too.
    let plain = ask("http://registry.invalid:5000");
    problem(
        &plain,
        "docker",
        "registry.invalid:5000 speaks plain HTTP",
        "\"insecure-registries\": [\"registry.invalid",
    );
    for warning in ["podman ", "containerd "] {
        assert!(plain.stdout.contains(&format!("warning  {warning}")), "{plain:?}");
    }
    write("etc/docker/daemon.json", r#"{"insecure-registries": ["registry.invalid:5000"]}"#);
    let insecure = "[[registry]]\nlocation = 'registry.invalid:5000'\ninsecure = true\n";
    write("etc/containers/registries.conf.d/own.conf", insecure);
    write("etc/containerd/certs.d/registry.invalid:5000/hosts.toml", "server = 'http://registry.invalid:5000'\n");
    let allowed = ask("http://registry.invalid:5000");
    assert_eq!(allowed.stdout.matches("may use registry.invalid:5000 without TLS").count(), 3, "{allowed:?}");
    let verified = ask("https://registry.invalid:5000");
    assert_eq!(verified.stdout.matches("does not verify it").count(), 2, "{verified:?}");
    write("etc/docker/daemon.json", "{");
    write("etc/containers/registries.conf.d/own.conf", "[[registry]\n");
    write("etc/containerd/certs.d/registry.invalid:5000/hosts.toml", "=");
    let broken = ask("http://registry.invalid:5000");
    for (client, advice) in [("docker", "does not start"), ("podman", "refuse to work"), ("containerd", "cannot pull")]
    {
        problem(&broken, client, "", advice);
    }
}

#[test]
fn a_private_authority() {
    let (root, machine) = (tempfile::tempdir().unwrap(), machine());
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut server = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    // It ends soon.
    server.not_after = (std::time::SystemTime::now() + std::time::Duration::from_hours(48)).into();
    let certificate = server.signed_by(&key, &issuer).unwrap().pem();
    let write = |path: &Path, text: &str| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(&root.path().join("cert.pem"), &certificate);
    write(&root.path().join("key.pem"), &key.serialize_pem());
    write(&root.path().join("ca.pem"), &ca);
    let shown = root.path().display();
    let data = root.path().join("data");
    let keys = format!("[http]\nport = 0\ntls.cert = '{shown}/cert.pem'\ntls.key = '{shown}/key.pem'\n");
    let running = Program::serve_with(&data, &keys).with_admin().start();
    for program in ["dockerd", "skopeo", "containerd"] {
        write(&machine.path().join("usr/bin").join(program), "");
    }
    let host = running.address().to_string();
    let ask = |more: &[&str]| {
        let program = Program::new(["doctor", "--url", &format!("https://{host}"), "--machine"]).arg(machine.path());
        program.arg("--root").arg(&data).arg("--config").arg(data.join("coracle.toml")).args(more).run()
    };
    let untrusted = ask(&[]);
    problem(&untrusted, "URL", "is not trusted", "--ca");
    problem(&untrusted, "docker", "is not trusted", &format!("etc/docker/certs.d/{host}/ca.crt"));
    problem(&untrusted, "podman", "is not trusted", &format!("etc/containers/certs.d/{host}/ca.crt"));
    problem(&untrusted, "containerd", "names no authority", "hosts.toml");
    assert_eq!(untrusted.stdout.matches("cert.pem expires at").count(), 1, "{untrusted:?}");
    // podman reads the directory of docker, too.
    write(&machine.path().join("etc/docker/certs.d").join(&host).join("ca.crt"), &ca);
    let hosts = format!("[host.\"https://{host}\"]\nca = \"/etc/ca.crt\"\n");
    write(&machine.path().join("etc/containerd/certs.d").join(&host).join("hosts.toml"), &hosts);
    let trusted = ask(&["--ca", root.path().join("ca.pem").to_str().unwrap()]);
    assert_eq!(trusted.stdout.matches(&format!("trusts {host} with the certificates in ")).count(), 2, "{trusted:?}");
    assert!(trusted.stdout.contains(&format!("clients reach the registry at https://{host}")), "{trusted:?}");
    assert!(!trusted.stdout.contains("problem  "), "{trusted:?}");
    write(&machine.path().join("etc/docker/certs.d").join(&host).join("ca.crt"), &certificate.replace('A', "B"));
    problem(&ask(&[]), "docker", "do not help", "ca.crt");
    running.stop();
}
