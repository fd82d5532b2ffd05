//! The configuration of docker, podman and containerd on this machine, for the host of the registry.

use std::path::Path;

use serde_json::Value;
use url::Url;

use super::Check;
use super::way::{Place, Seen, trusts};
use crate::kit::network::is_loopback;

/// The largest file of a client that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The directories of docker and podman with certificates for hosts. podman reads both.
const DOCKER_CERTIFICATES: &str = "etc/docker/certs.d";
const PODMAN_CERTIFICATES: &str = "etc/containers/certs.d";

/// The registry, as clients name it.
struct Named<'a> {
    place: &'a Place,
    /// A name or an address, and a port unless it is the usual one.
    host: String,
    is_plain: bool,
    is_loopback: bool,
    /// How this machine sees its certificate.
    seen: &'a Seen,
}

/// Checks the files of the clients under a root directory.
pub(super) fn checks(machine: &Path, place: &Place, seen: &Seen) -> Vec<Check> {
    let Some(named) = Url::parse(&place.url).ok().and_then(|url| {
        let name = url.host_str()?.to_owned();
        let host = url.port().map_or_else(|| name.clone(), |port| format!("{name}:{port}"));
        let (is_plain, is_loopback) = (url.scheme() == "http", is_loopback(&name));
        Some(Named { place, host, is_plain, is_loopback, seen })
    }) else {
        return Vec::new();
    };
    vec![docker(machine, &named), podman(machine, &named), containerd(machine, &named)]
}

/// Reads a file of a client. `None` if it does not exist.
fn read(path: &Path) -> Result<Option<String>, String> {
    let failed = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(found) if found.len() > FILE_BYTES_MAX => return Err(format!("{} is too large", path.display())),
        Ok(_) => {}
    }
    std::fs::read_to_string(path).map(Some).map_err(failed)
}

/// Reads a file in TOML.
fn read_toml(path: &Path) -> Result<Option<toml::Table>, String> {
    let Some(text) = read(path)? else { return Ok(None) };
    let table = text.parse::<toml::Table>();
    table.map(Some).map_err(|error| format!("{}: {}", path.display(), error.message()))
}

/// Whether a program is in one of the usual directories.
fn has_program(machine: &Path, name: &str) -> bool {
    ["usr/bin", "usr/local/bin", "bin", "usr/sbin"].iter().any(|directory| machine.join(directory).join(name).exists())
}

/// The end of a check of a client that nothing else keeps from working.
fn usable(name: &'static str, machine: &Path, directories: &[&str], named: &Named<'_>) -> Check {
    let host = &named.host;
    if named.is_plain {
        return Check::ok(name, format!("may use {host} without TLS"));
    }
    match named.seen {
        Seen::Trusted => return Check::ok(name, format!("uses TLS for {host}")),
        Seen::Unusable(why) => return Check::skipped(name, format!("not checked: {why}")),
        Seen::Untrusted => {}
    }
    let places: Vec<_> = directories.iter().map(|directory| machine.join(directory).join(host)).collect();
    for place in &places {
        let shown = place.display();
        match certificates(place) {
            Err(why) => return Check::skipped(name, why),
            Ok(pem) if pem.is_empty() => {}
            Ok(pem) => {
                return match trusts(named.place, pem) {
                    Ok(()) => Check::ok(name, format!("trusts {host} with the certificates in {shown}")),
                    Err((why, advice)) => {
                        let copy = || format!("copy the certificate of its authority to {shown}/ca.crt");
                        let advice = advice.map_or_else(copy, str::to_owned);
                        Check::problem(name, format!("the certificates in {shown} do not help: {why}"), advice)
                    }
                };
            }
        }
    }
    let place = places.first().map(|place| place.display().to_string()).unwrap_or_default();
    Check::problem(
        name,
        format!("the certificate of {host} is not trusted, and {place} has no other one"),
        format!("copy the certificate of its authority to {place}/ca.crt"),
    )
}

/// The certificates in the directory of a host: `*.crt`.
fn certificates(directory: &Path) -> Result<String, String> {
    let mut pem = String::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "crt") {
            pem += &read(&path)?.unwrap_or_default();
            pem.push('\n');
        }
    }
    Ok(pem)
}

fn docker(machine: &Path, named: &Named<'_>) -> Check {
    const NAME: &str = "docker";
    let path = machine.join("etc/docker/daemon.json");
    let shown = path.display();
    let settings = match read(&path) {
        Ok(None) if !has_program(machine, "docker") && !has_program(machine, "dockerd") => {
            return Check::skipped(NAME, "not installed");
        }
        Ok(text) => text.unwrap_or_else(|| "{}".to_owned()),
        Err(why) => return Check::skipped(NAME, why),
    };
    let settings: Value = match serde_json::from_str(&settings) {
        Ok(settings) => settings,
        Err(error) => {
            let found = format!("{shown} is not JSON: {error}");
            return Check::problem(NAME, found, "mend the file: the docker daemon does not start with it");
        }
    };
    let host = &named.host;
    let is_listed = settings["insecure-registries"]
        .as_array()
        .is_some_and(|hosts| hosts.iter().any(|listed| listed.as_str() == Some(host)));
    if named.is_plain && !named.is_loopback && !is_listed {
        let found = format!("{host} speaks plain HTTP, and docker wants TLS");
        let advice = format!(
            "add \"insecure-registries\": [\"{host}\"] to {shown} and restart docker; better, configure http.tls"
        );
        return Check::problem(NAME, found, advice);
    }
    if !named.is_plain && is_listed {
        let advice = format!("remove {host} from insecure-registries in {shown}");
        return Check::warning(NAME, format!("{host} has a certificate, and docker does not verify it"), advice);
    }
    usable(NAME, machine, &[DOCKER_CERTIFICATES], named)
}

fn podman(machine: &Path, named: &Named<'_>) -> Check {
    const NAME: &str = "podman";
    let programs = ["podman", "skopeo", "buildah"];
    if !programs.iter().any(|name| has_program(machine, name)) {
        return Check::skipped(NAME, "not installed");
    }
    let mut files = vec![machine.join("etc/containers/registries.conf")];
    let directory = machine.join("etc/containers/registries.conf.d");
    let more = std::fs::read_dir(&directory);
    files.extend(more.into_iter().flatten().flatten().map(|entry| entry.path()));
    files.sort();
    let host = &named.host;
    let (mut is_insecure, mut blocks) = (false, None);
    for path in files {
        let table = match read_toml(&path) {
            Ok(table) => table.unwrap_or_default(),
            Err(why) => {
                let advice = "mend the file: podman, skopeo and buildah refuse to work with it";
                return Check::problem(NAME, why, advice);
            }
        };
        let registries = table.get("registry").and_then(toml::Value::as_array);
        for registry in registries.into_iter().flatten() {
            let text = |key: &str| registry.get(key).and_then(toml::Value::as_str).unwrap_or_default();
            let flag = |key: &str| registry.get(key).and_then(toml::Value::as_bool).unwrap_or_default();
            if text("location") == host || text("prefix") == host {
                is_insecure |= flag("insecure");
                if flag("blocked") {
                    blocks = Some(path.display().to_string());
                }
            }
        }
    }
    if let Some(file) = blocks {
        return Check::problem(NAME, format!("{file} blocks {host}"), "remove `blocked = true`");
    }
    if named.is_plain && !is_insecure {
        let advice = format!(
            "use --tls-verify=false with login, push and pull, or write to {}:\n[[registry]]\nlocation = \"{host}\"\n\
             insecure = true",
            directory.join("coracle.conf").display()
        );
        return Check::warning(NAME, format!("{host} speaks plain HTTP, and podman wants TLS"), advice);
    }
    if !named.is_plain && is_insecure {
        let advice = format!("remove `insecure = true` for {host}");
        return Check::warning(NAME, format!("{host} has a certificate, and podman does not verify it"), advice);
    }
    usable(NAME, machine, &[PODMAN_CERTIFICATES, DOCKER_CERTIFICATES], named)
}

fn containerd(machine: &Path, named: &Named<'_>) -> Check {
    const NAME: &str = "containerd";
    if !has_program(machine, "containerd") && !machine.join("etc/containerd").exists() {
        return Check::skipped(NAME, "not installed");
    }
    let host = &named.host;
    let path = machine.join("etc/containerd/certs.d").join(host).join("hosts.toml");
    let hosts = match read_toml(&path) {
        Ok(hosts) => hosts,
        Err(why) => return Check::problem(NAME, why, "mend the file: containerd cannot pull from this host with it"),
    };
    if named.is_plain && !named.is_loopback {
        let server = format!("http://{host}");
        let is_named = hosts.as_ref().is_some_and(|hosts| {
            let is_server = hosts.get("server").and_then(toml::Value::as_str) == Some(server.as_str());
            is_server || hosts.get("host").and_then(|host| host.get(&server)).is_some()
        });
        if !is_named {
            let found = format!("{host} speaks plain HTTP, and containerd wants TLS");
            let advice = format!("write server = \"{server}\" to {}; better, configure http.tls", path.display());
            return Check::warning(NAME, found, advice);
        }
    }
    if !named.is_plain && *named.seen == Seen::Untrusted {
        return certificate_of_containerd(NAME, &path, hosts.as_ref(), named);
    }
    usable(NAME, machine, &[], named)
}

/// Whether containerd trusts the certificate: by `ca` or `skip_verify` in the file of the host.
fn certificate_of_containerd(name: &'static str, path: &Path, hosts: Option<&toml::Table>, named: &Named<'_>) -> Check {
    let (host, shown) = (&named.host, path.display());
    let by_host = hosts.and_then(|hosts| hosts.get("host")?.as_table()?.values().next()?.as_table());
    let value = |key: &str| by_host.and_then(|table| table.get(key)).or_else(|| hosts?.get(key));
    if value("skip_verify").and_then(toml::Value::as_bool) == Some(true) {
        let advice = format!("name the certificate of its authority with ca = \"…\" in {shown} instead of skip_verify");
        return Check::warning(name, format!("{host} has a certificate, and containerd does not verify it"), advice);
    }
    if value("ca").is_some() {
        return Check::ok(name, format!("{shown} names an authority for {host}"));
    }
    let found = format!("the certificate of {host} is not trusted, and {shown} names no authority");
    Check::problem(name, found, format!("add to {shown}:\n[host.\"https://{host}\"]\nca = \"/path/of/ca.crt\""))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    /// A machine with podman and containerd.
    fn machine() -> tempfile::TempDir {
        let machine = tempfile::tempdir().unwrap();
        for program in ["usr/bin/podman", "usr/bin/containerd"] {
            std::fs::create_dir_all(machine.path().join("usr/bin")).unwrap();
            std::fs::write(machine.path().join(program), "").unwrap();
        }
        machine
    }

    #[test]
    fn the_lines_to_add_to_a_file_of_a_client_are_valid_toml() {
        let machine = machine();
        for (url, name) in [("http://127.0.0.1:8080", "podman"), ("https://registry.example", "containerd")] {
            let found = checks(machine.path(), &Place::named(url), &Seen::Untrusted);
            let found = found.iter().find(|check| check.name == name).unwrap();
            let (first, lines) = found.advice.as_ref().unwrap().split_once('\n').unwrap();
            assert!(first.ends_with(':'), "{first}");
            assert!(name != "podman" || first.contains("etc/containers/registries.conf.d/coracle.conf:"), "{first}");
            lines.parse::<toml::Table>().unwrap();
        }
    }

    #[test]
    fn a_certificate_that_no_client_can_use_is_no_fault_of_the_clients() {
        let machine = machine();
        let seen = Seen::Unusable("the certificate of registry.example expired".to_owned());
        let found = checks(machine.path(), &Place::named("https://registry.example"), &seen);
        assert!(found.iter().all(|check| check.state == super::super::State::Skipped), "{found:?}");
    }
}
