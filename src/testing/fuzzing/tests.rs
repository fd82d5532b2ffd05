//! Runs the functions of the fuzz targets over their seeds, and over combinations of words.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::Config as Cases;

/// Runs a function over the seeds of its fuzz target, and checks their number.
fn seeds(target: &str, at_least: usize, check: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut seen = 0;
    for entry in std::fs::read_dir(&directory).unwrap() {
        check(&std::fs::read(entry.unwrap().path()).unwrap());
        seen += 1;
    }
    assert!(seen >= at_least, "{} has {seen} seeds", directory.display());
}

#[test]
fn what_holds_for_fuzzers_holds_for_their_seeds() {
    seeds("route", 10, super::route);
    seeds("manifest", 5, super::manifest);
    seeds("layout", 2, super::layout);
    seeds("config", 2, super::config);
    seeds("headers", 5, super::headers);
    seeds("tokens", 5, super::tokens);
    seeds("pattern", 3, super::pattern);
    seeds("upload", 3, super::upload);
    seeds("search", 8, super::search);
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "X"];
const NAMES: &[&str] = &["a", "alice/app", "b__c/d-e.f", "a/blobs/uploads", "tags/list", "%61"];
const NOUNS: &[&str] = &["/manifests/", "/blobs/", "/blobs/uploads/", "/referrers/", "/tags/", "/", ""];
const LASTS: &[&str] = &[DIGEST, "latest", "07070707-0707-8707-8707-070707070707", "list", ""];
const PARAMETERS: &[&str] =
    &["n", "last", "tag", "digest", "mount", "from", "digest-algorithm", "artifactType", "tag", "x"];
const VALUES: &[&str] = &[DIGEST, "1", "1.0", "a/b", "sha512"];
const BAD: &[&str] =
    &["A", "ü", "_", "-", ".", "..", "a//b", "%", "%2f", "%00", "%ff", "\u{7f}", "sha256:1", "-1", " "];

/// One of the words, or a word that is valid nowhere.
fn word(words: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop_oneof![9 => select(words), 1 => select(BAD)]
}

proptest! {
    #![proptest_config(Cases { cases: 4096, failure_persistence: None, ..Cases::default() })]

    #[test]
    fn request_lines(
        method in select(METHODS),
        name in word(NAMES),
        noun in select(NOUNS),
        last in word(LASTS),
        parameters in vec((select(PARAMETERS), word(VALUES)), 0..3),
    ) {
        let parameters = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
        super::route(format!("{method} /v2/{name}{noun}{last}?{parameters}").as_bytes());
    }
}
