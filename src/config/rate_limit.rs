//! `http.ratelimit`: how many requests the registry answers.

use std::collections::BTreeSet;
use std::time::Duration;

use super::keys::Row;
use super::kind::Kind::{self, List, OneOf};
use super::settings::{Section, Setting, Settings, section};
use super::walk::Findings;

const WINDOW: &str = "http.ratelimit.window";
const LIMITED: &str = "http.ratelimit.methods";
const METHOD: &str = "http.ratelimit.methods.*.method";
/// A number of requests, or 0 for no limit.
const RATE: Kind = Kind::Int { least: 0, most: 1_000_000 };
const METHODS: Kind = OneOf(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]);

section! {
    /// How many requests the registry answers. Health probes and the admin socket have no limit.
    RateLimit {
        /// Requests per second of all clients together. 0 for no limit. Signed-in clients go before others.
        rate: u64 = "http.ratelimit.rate", RATE, "0";
        /// Requests per second of all clients together, by method.
        methods: Vec<MethodRate> = "http.ratelimit.methods", List, "[]";
        /// Requests per second of one address (IPv6: /56) without signing in. 0 for no limit.
        anonymous_rate: u64 = "http.ratelimit.anonymousRate", RATE, "0";
        /// Requests per second of one user. 0 for no limit.
        user_rate: u64 = "http.ratelimit.userRate", RATE, "0";
        /// Time over which anonymousRate and userRate are averaged. A client that was silent may send the requests of this
        /// time at once. Whole seconds.
        window: Duration = "http.ratelimit.window", Kind::duration("1s", "1h"), "10s";
    }
}

section! {
    /// A limit of one method.
    MethodRate {
        /// Method that the limit applies to.
        method: String = "http.ratelimit.methods.*.method", METHODS, "required";
        /// Requests per second.
        rate: u64 = "http.ratelimit.methods.*.rate", Kind::Int { least: 1, most: 1_000_000 }, "required";
    }
}

/// Reports a window that the headers of responses cannot express, and methods with two limits.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    if let Some(Setting::Nanoseconds(window)) = settings.given(WINDOW)
        && window % 1_000_000_000 != 0
    {
        findings.problem(WINDOW, "expected whole seconds, such as \"10s\"");
    }
    let Some(Setting::List(limits)) = settings.given(LIMITED) else { return };
    let mut known = BTreeSet::new();
    for (index, limit) in limits.iter().enumerate() {
        if let Some(Setting::Text(method)) = limit.given(METHOD)
            && !known.insert(method)
        {
            findings.problem(&format!("{LIMITED}[{index}].method"), format!("{method} has a limit already"));
        }
    }
}
