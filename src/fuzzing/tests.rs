//! The fuzzers' checks, over their seeds and over inputs made of the words that matter.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::Config as Cases;

/// Runs a check over the seeds of its fuzz target, of which there are at least so many.
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
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What request lines are made of.
const WORDS: &[&str] = &[
    "/",
    "//",
    "/v2",
    "/v2/",
    "a",
    "a/b",
    "alice",
    "A",
    "_",
    "__",
    "-",
    ".",
    "..",
    "%2f",
    "%2F",
    "%00",
    "%",
    "%ff",
    "ü",
    "/blobs",
    "/blobs/",
    "/blobs/uploads/",
    "/manifests/",
    "/referrers/",
    "/tags/list",
    "_catalog",
    "uploads",
    "blobs",
    "latest",
    "sha256",
    ":",
    DIGEST,
    "?",
    "&",
    "=",
    "n=1",
    "n=-1",
    "last=",
    "tag=",
    "digest=",
    "mount=",
    "from=",
    "digest-algorithm=sha512",
    "artifactType=a/b+json",
    "07070707-0707-8707-8707-070707070707",
    "@",
    "\u{7f}",
    " ",
];

proptest! {
    #![proptest_config(Cases { cases: 4096, failure_persistence: None, ..Cases::default() })]

    #[test]
    fn request_lines(
        method in prop::sample::select(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "X"][..]),
        prefix in prop::sample::select(&["/v2/", "/v2/a", "/v2/a/b", ""][..]),
        words in prop::collection::vec(prop::sample::select(WORDS), 0..8),
    ) {
        super::route(format!("{method} {prefix}{}", words.concat()).as_bytes());
    }
}
