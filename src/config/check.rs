//! Problems of keys that are each valid: keys that need each other, and files that are missing.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::access_control;
use super::network::Network;
use super::openid;
use super::settings::{Setting, Settings};
use super::sync;
use super::walk::Findings;
use crate::oci::RepositoryPattern;

const POLICIES: &str = "storage.retention.policies";
const PROXIES: &str = "http.trustedProxies";
const TLS_CERT: &str = "http.tls.cert";
const TLS_KEY: &str = "http.tls.key";
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
    let policies = match settings.given(POLICIES) {
        Some(Setting::List(policies)) => policies.as_slice(),
        _ => &[],
    };
    for (index, policy) in policies.iter().enumerate() {
        for (at, pattern) in policy.given_texts(&format!("{POLICIES}.*.repositories")) {
            if let Err(why) = pattern.parse::<RepositoryPattern>() {
                let why = format!("the pattern {pattern:?} {why}");
                findings.problem(&format!("{POLICIES}[{index}].repositories[{at}]"), why);
            }
        }
    }
    together(&[TLS_CERT, TLS_KEY], "TLS", settings, findings);
    // A refused source of keys has been reported, and replaces the file.
    if !findings.has_problem_under("http.auth.bearer") {
        let keys = ["http.auth.bearer.realm", "http.auth.bearer.service", BEARER_CERT];
        together(&keys, "an external token issuer", settings, findings);
    }
    openid::check(settings, findings);
    sync::check(settings, findings);
    for key in [TLS_CERT, TLS_KEY, BEARER_CERT] {
        check_file(key, settings, findings);
    }
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

/// Reports the file of a key if it cannot be read.
pub(super) fn check_file(key: &str, settings: &Settings, findings: &mut Findings) {
    if let Some(Setting::Text(path)) = settings.given(key)
        && !path.is_empty()
        && let Err(error) = open_file(Path::new(path))
    {
        findings.problem(key, format!("cannot read {path:?}: {error}"));
    }
}

/// Opens a regular file. Opening a pipe or device could wait forever.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    if fs::metadata(path)?.is_file() { File::open(path) } else { Err(io::Error::other("it is not a file")) }
}
