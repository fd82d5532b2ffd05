//! What can be wrong although every key by itself is right: keys that need each other, and files that
//! are not there.
//!
//! What must always hold: nothing is opened for more than finding out whether it can be read.

use std::fs::{self, File};
use std::io;

use super::access_control;
use super::network::Network;
use super::openid;
use super::settings::{Setting, Settings};
use super::walk::Findings;
use crate::oci::RepositoryPattern;

const POLICIES: &str = "storage.retention.policies";
const PROXIES: &str = "http.trustedProxies";
const TLS_CERT: &str = "http.tls.cert";
const TLS_KEY: &str = "http.tls.key";
const BEARER_CERT: &str = "http.auth.bearer.cert";

/// Looks at keys together, and at the disk.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    // What could not be read there has been reported, and is not read again.
    let is_readable = !findings.problems.iter().any(|problem| problem.is_under("http.accessControl"));
    if let Some(control) = is_readable.then(|| access_control::read(settings)).flatten() {
        for (path, why) in control.problems() {
            findings.problem(&format!("http.accessControl.{path}"), why);
        }
        for (path, why) in control.remarks() {
            findings.warning(&format!("http.accessControl.{path}"), why);
        }
    }
    if let Some(Setting::Texts(proxies)) = settings.given(PROXIES) {
        for (index, proxy) in proxies.iter().enumerate() {
            if let Err(error) = proxy.parse::<Network>() {
                findings.problem(&format!("{PROXIES}[{index}]"), error.to_string());
            }
        }
    }
    let policies = match settings.given(POLICIES) {
        Some(Setting::List(policies)) => policies.as_slice(),
        _ => &[],
    };
    for (index, policy) in policies.iter().enumerate() {
        let key = format!("{POLICIES}.*.repositories");
        let Some(Setting::Texts(patterns)) = policy.given(&key) else { continue };
        for (at, pattern) in patterns.iter().enumerate() {
            if let Err(why) = pattern.parse::<RepositoryPattern>() {
                let why = format!("the pattern {pattern:?} {why}");
                findings.problem(&format!("{POLICIES}[{index}].repositories[{at}]"), why);
            }
        }
    }
    together(&[TLS_CERT, TLS_KEY], "TLS needs it", settings, findings);
    // Where the keys are elsewhere, that is what was reported.
    if !findings.problems.iter().any(|problem| problem.is_under("http.auth.bearer")) {
        let keys = ["http.auth.bearer.realm", "http.auth.bearer.service", BEARER_CERT];
        together(&keys, "tokens made elsewhere need it", settings, findings);
    }
    openid::check(settings, findings);
    for key in [TLS_CERT, TLS_KEY, BEARER_CERT] {
        if let Some(Setting::Text(path)) = settings.given(key)
            && !path.is_empty()
            && let Err(error) = readable(path)
        {
            findings.problem(key, format!("cannot read {path:?}: {error}"));
        }
    }
}

/// Keys of which none is given, or all.
fn together(keys: &[&str], why: &str, settings: &Settings, findings: &mut Findings) {
    let (given, missing): (Vec<&str>, Vec<&str>) = keys.iter().partition(|key| is_given(settings, key));
    if given.is_empty() {
        return;
    }
    for key in missing {
        findings.problem(key, format!("is missing; {why} beside {}", given.join(" and ")));
    }
}

fn is_given(settings: &Settings, key: &str) -> bool {
    settings.given(key).is_some_and(|setting| *setting != Setting::Text(String::new()))
}

/// A pipe or a device is not opened, since that may wait for ever.
fn readable(path: &str) -> io::Result<()> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    File::open(path).map(drop)
}
