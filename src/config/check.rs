//! Problems of keys that are each valid: keys that need each other, and files that are missing.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::access_control;
use super::acme;
use super::bearer;
use super::client_certificate;
use super::events;
use super::immutable;
use super::ldap;
use super::listen::Listen;
use super::network::Network;
use super::openid;
use super::parts;
use super::quota;
use super::rate_limit;
use super::retention;
use super::settings::{Setting, Settings};
use super::sync;
use super::traces;
use super::walk::Findings;
use crate::kit::certificate::are_certificates;
use crate::kit::file::{open_file, read_text};
use crate::kit::site::Site;

/// The largest file with certificates, authorities or a private key. All authorities of a Linux distribution take a quarter
/// of it. The start of a connection reads a changed file, so the file must be small.
pub(crate) const PEM_BYTES_MAX: u64 = 1 << 20;
const PROXIES: &str = "http.trustedProxies";
const LISTEN: &str = "http.listen";
const SEARCH: &str = "extensions.search";
const UI: &str = "extensions.ui";
const UI_DIRECTORY: &str = "extensions.ui.directory";
const TLS: &str = "http.tls";
const TLS_CERT: &str = "http.tls.cert";
const TLS_KEY: &str = "http.tls.key";
const TLS_AUTHORITIES: &str = "http.tls.cacert";
const BEARER_CERT: &str = "http.auth.bearer.cert";

/// Checks keys together, and that files can be read.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    // Lists that could not be read look empty here, and would cause wrong warnings.
    let is_readable = !findings.has_problem_under("http.accessControl");
    if let Some(control) = access_control::read(settings) {
        for (path, why) in control.problems() {
            findings.problem(&format!("http.accessControl.{path}"), why);
        }
        let remarks = if is_readable { control.remarks() } else { Vec::new() };
        for (path, why) in remarks {
            findings.warning(&format!("http.accessControl.{path}"), why);
        }
    }
    for (index, proxy) in settings.given_texts(PROXIES) {
        if let Err(error) = proxy.parse::<Network>() {
            findings.problem(&format!("{PROXIES}[{index}]"), error.to_string());
        }
    }
    let mut places: Vec<Listen> = Vec::new();
    for (index, place) in settings.given_texts(LISTEN) {
        let problem = match place.parse::<Listen>() {
            Err(error) => error.to_string(),
            Ok(place) => {
                let Some(known) = places.iter().find(|known| known.conflicts_with(&place, is_same_file)) else {
                    places.push(place);
                    continue;
                };
                format!("{place} is the same place as {known}: remove one of them")
            }
        };
        findings.problem(&format!("{LISTEN}[{index}]"), problem);
    }
    let is_on = |key| settings.given(key) == Some(&Setting::Bool(true));
    if is_on(UI) && !is_on(SEARCH) {
        findings.problem(UI, format!("zot's web page needs search: add {SEARCH}, or remove the block"));
    }
    if let Some(Setting::Text(directory)) = settings.given(UI_DIRECTORY)
        && is_on(UI)
        && !directory.is_empty()
        && let Err(error) = Site::read(Path::new(directory))
    {
        findings.problem(UI_DIRECTORY, error.to_string());
    }
    together(&[TLS_CERT, TLS_KEY], "TLS", settings, findings);
    check_empty_names(settings, findings);
    // A refused source of keys has been reported, and replaces the file.
    if !findings.has_problem_under("http.auth.bearer") {
        let keys = ["http.auth.bearer.realm", "http.auth.bearer.service", BEARER_CERT];
        together(&keys, "an external token issuer", settings, findings);
    }
    bearer::check(settings, findings);
    openid::check(settings, findings);
    ldap::check(settings, findings);
    retention::check(settings, findings);
    immutable::check(settings, findings);
    quota::check(settings, findings);
    rate_limit::check(settings, findings);
    sync::check(settings, findings);
    events::check(settings, findings);
    traces::check(settings, findings);
    client_certificate::check(settings, findings);
    acme::check(settings, findings);
    let has_certificate = settings.has_text(TLS_CERT) || settings.given(acme::ACME).is_some();
    if settings.has_text(TLS_AUTHORITIES) && !has_certificate {
        findings.problem(TLS_AUTHORITIES, format!("needs {TLS_CERT} and {TLS_KEY}, or {}", acme::ACME));
    }
    for key in [TLS_CERT, TLS_KEY, BEARER_CERT] {
        check_file(key, settings, findings);
    }
    check_authorities(TLS_AUTHORITIES, settings, findings);
    parts::check(settings, findings);
}

/// Whether two paths name one file in one directory, also through links and `..`.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let directory = |path: &Path| path.parent().and_then(|directory| fs::canonicalize(directory).ok());
    one == other
        || one.file_name() == other.file_name() && directory(one).is_some_and(|one| directory(other) == Some(one))
}

/// Reports missing keys of a group of which all or none must be given.
fn together(keys: &[&str], whose: &str, settings: &Settings, findings: &mut Findings) {
    let (given, missing): (Vec<&str>, Vec<&str>) = keys.iter().partition(|key| settings.has_text(key));
    if given.is_empty() {
        return;
    }
    for key in missing {
        findings.problem(key, format!("is missing: {whose} needs it together with {}", given.join(" and ")));
    }
}

/// Reports keys for TLS that are empty, as a variable without a value leaves them. The port would speak plain HTTP.
fn check_empty_names(settings: &Settings, findings: &mut Findings) {
    let has_tls = settings.has_text(TLS_CERT) || settings.has_text(TLS_KEY) || settings.given(acme::ACME).is_some();
    // A configuration of zot may have every key, with empty texts for those without a value.
    let is_zot = settings.given("profile") == Some(&Setting::Text("zot".to_owned()));
    for key in [TLS_CERT, TLS_KEY] {
        if has_tls || settings.given(key) != Some(&Setting::Text(String::new())) {
            continue;
        }
        if is_zot {
            findings.warning(key, format!("is empty, so ports speak plain HTTP: name a file, or remove {TLS}"));
        } else {
            findings.problem(key, format!("is empty: name a file, or remove {TLS}"));
        }
    }
}

/// Warns of a table for TLS without keys, which has no effect.
pub(super) fn check_empty_table(tree: &Map<String, Value>, findings: &mut Findings) {
    let tls = table(tree, "http").and_then(|http| table(http, "tls"));
    if tls.is_some_and(Map::is_empty) {
        let why = format!("is empty, so ports speak plain HTTP: set {TLS_CERT} and {TLS_KEY}, or remove it");
        findings.warning(TLS, why);
    }
}

/// The table with a name, in any case.
fn table<'t>(tree: &'t Map<String, Value>, name: &str) -> Option<&'t Map<String, Value>> {
    let (_, value) = tree.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    value.as_object()
}

/// Reports the file of a key if it cannot be read.
pub(super) fn check_file(key: &str, settings: &Settings, findings: &mut Findings) {
    if let Some(path) = file_of(key, settings) {
        check_named_file(key, path, findings);
    }
}

/// The file that a key names.
fn file_of<'a>(key: &str, settings: &'a Settings) -> Option<&'a Path> {
    match settings.given(key) {
        Some(Setting::Text(path)) if !path.is_empty() => Some(Path::new(path)),
        _ => None,
    }
}

/// Reports a file if it cannot be read.
pub(super) fn check_named_file(key: &str, path: &Path, findings: &mut Findings) {
    if let Err(error) = open_file(path) {
        findings.problem(key, format!("cannot read \"{}\": {error}", path.display()));
    }
}

/// Reports the file of a key with certificate authorities if it has none.
pub(super) fn check_authorities(key: &str, settings: &Settings, findings: &mut Findings) {
    if let Some(path) = file_of(key, settings) {
        check_named_authorities(key, path, findings);
    }
}

/// The names of the files in a directory. `None` if it cannot be read.
pub(super) fn names_in(directory: &str) -> Option<Vec<PathBuf>> {
    Some(fs::read_dir(directory).ok()?.flatten().map(|entry| PathBuf::from(entry.file_name())).collect())
}

/// Reports a file with certificate authorities if it has none.
pub(super) fn check_named_authorities(key: &str, path: &Path, findings: &mut Findings) {
    let shown = path.display();
    match read_text(path, PEM_BYTES_MAX) {
        Ok(text) if !are_certificates(&text) => {
            findings.problem(key, format!("{shown} contains no certificate in PEM"));
        }
        Ok(_) => {}
        Err(error) => findings.problem(key, format!("cannot read \"{shown}\": {error}")),
    }
}
