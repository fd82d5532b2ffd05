//! The direct dependencies, each with its reason.

use std::collections::BTreeSet;
use std::path::Path;

/// Dependencies of the registry.
const NORMAL: &[(&str, &str)] = &[
    ("askama", "templates of pages, checked by the compiler"),
    ("apollo-compiler", "GraphQL, for zot's search"),
    ("argon2", "passwords are stored as argon2id"),
    ("aws-lc-rs", "creates the keys that sign tokens; rustls and jsonwebtoken bring it"),
    ("base64", "Basic credentials, and cookies"),
    ("bcrypt", "password hashes in htpasswd files"),
    ("bytes", "bodies are passed on without being copied"),
    ("clap", "the command line"),
    ("clap_complete", "completions of shells"),
    ("clap_mangen", "man pages"),
    ("dirs", "the platform's directories for data and configuration"),
    ("flate2", "the archives of Helm charts, and zot's web page for browsers; tests make layers with it"),
    ("hex", "digests as text"),
    ("hmac", "binds upload ids to their repository, and keys the cache of passwords"),
    ("http-body", "the trait of hyper's bodies"),
    ("http-body-util", "bodies in memory, and reading bodies to their end"),
    ("futures-util", "the requests of an HTTP/2 connection; tokio-util brings it"),
    ("hyper", "HTTP"),
    ("hyper-util", "hyper on tokio, and graceful stops"),
    ("instant-acme", "the protocol of ACME authorities"),
    ("ipnet", "networks of trusted proxies"),
    ("itoa", "numbers and addresses in lines of the access log; hyper brings it"),
    ("jiff", "times as clients write them"),
    ("jsonwebtoken", "tokens of the token service"),
    ("ldap3", "the protocol of LDAP directories"),
    ("libc", "settings of the GNU C library's allocator; rustix brings it"),
    ("memmap2", "an address for a blob that sendfile sends"),
    ("oauth2", "sign-in through GitHub, and the types of openidconnect"),
    ("openidconnect", "sign-in through OpenID providers"),
    ("opentelemetry", "spans and their context"),
    ("opentelemetry-proto", "the messages for a collector"),
    ("opentelemetry_sdk", "ids, sampling and data of spans"),
    ("parking_lot", "locks without poisoning; prometheus-client brings it"),
    ("percent-encoding", "paths and parameters"),
    ("postcard", "compact rows"),
    ("pulldown-cmark", "descriptions of repositories, and READMEs of charts"),
    ("prometheus-client", "metrics"),
    ("prost", "encodes the messages for a collector; opentelemetry-proto brings it"),
    ("rand", "ids, keys and passwords"),
    ("rcgen", "requests for certificates, and certificates of challenges; instant-acme brings it"),
    ("redb", "the rows"),
    ("regex-lite", "patterns of operators, such as the rules for tags of the mirror, which zot writes as expressions"),
    ("rustix", "the limit of file handles, directories sent over a socket, the terminal, error numbers with names"),
    ("rustls", "TLS"),
    ("rustls-native-certs", "the certificate authorities of the platform, for outgoing requests"),
    ("schemars", "the description of API v1, derived from its types"),
    ("serde", "rows and documents"),
    ("serde-saphyr", "configurations in YAML"),
    ("serde_json", "manifests, answers, configurations in JSON"),
    ("sha2", "digests of content"),
    ("strsim", "the nearest known key for an unknown one"),
    ("subtle", "CSRF tokens and keys are compared in constant time"),
    ("tempfile", "temporary data directories"),
    ("thiserror", "error enums: message and source at each variant; openidconnect brings it"),
    ("tokio", "sockets, tasks, timers"),
    ("tokio-rustls", "TLS on tokio's sockets"),
    ("tokio-util", "waiting for tasks that outlive their request"),
    ("tar", "the archives of Helm charts; tests make layers with it"),
    ("toml", "configurations in TOML"),
    ("tracing", "log events"),
    ("tracing-subscriber", "writes the log of the program"),
    ("url", "parses URLs as browsers do; openidconnect brings it"),
    ("uuid", "ids of uploads, keys and sessions"),
    ("tower-service", "the trait of connectors, which hyper-util calls"),
    ("x509-cert", "the names in client certificates; three small packages more"),
    ("zeroize", "passwords do not stay in memory"),
];

/// Further dependencies of tests and examples.
const DEV: &[(&str, &str)] = &[
    ("coracle", "itself with the features that are off by default"),
    ("hyper", "a client for unusual requests"),
    ("mio", "a cheap client for benchmarks"),
    ("oci-client", "an independent client"),
    ("oci-spec", "the specification's codes and annotations, which ours equal"),
    ("proc-macro2", "reads our own sources in the tests of the architecture"),
    ("proptest", "unexpected inputs"),
    ("rcgen", "certificates for the tests of TLS"),
    ("reqwest", "HTTP/2 for oci-client"),
    ("tokio", "paused time in tests, and child processes"),
];

/// Dependencies of the build script.
const BUILD: &[(&str, &str)] = &[("flate2", "compresses the assets of the pages, so that the program need not")];

/// Dependencies of the fuzz targets.
const FUZZ: &[(&str, &str)] = &[("coracle", "the fuzzed library"), ("libfuzzer-sys", "the fuzzer")];

#[test]
fn every_dependency_has_a_reason() {
    for (file, section, expected) in [
        ("Cargo.toml", "dependencies", NORMAL),
        ("Cargo.toml", "dev-dependencies", DEV),
        ("Cargo.toml", "build-dependencies", BUILD),
        ("fuzz/Cargo.toml", "dependencies", FUZZ),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let manifest: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
        assert!(!manifest.contains_key("target"), "{file}: dependencies of one platform would not be seen here");
        let found = manifest.get(section).and_then(toml::Value::as_table).cloned().unwrap_or_default();
        let found: BTreeSet<&str> = found.keys().map(String::as_str).collect();
        let expected: BTreeSet<&str> = expected.iter().map(|(name, _)| *name).collect();
        let unlisted: Vec<_> = found.difference(&expected).collect();
        let missing: Vec<_> = expected.difference(&found).collect();
        assert!(unlisted.is_empty(), "{file}: {section} without a reason here: {unlisted:?}");
        assert!(missing.is_empty(), "{file}: reasons without {section}: {missing:?}");
    }
}

#[test]
fn every_dependency_is_used() {
    let words: BTreeSet<String> = super::source::Source::all("src")
        .into_iter()
        .flat_map(|source| source.tokens)
        .map(|token| token.text)
        .collect();
    let unused: Vec<_> = NORMAL.iter().filter(|(name, _)| !words.contains(&name.replace('-', "_"))).collect();
    assert!(unused.is_empty(), "nothing names {unused:?}");
}

/// The client tests know which Debian package each program comes from.
#[test]
fn ci_installs_what_the_tests_run() {
    let read = |path| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let (script, clients) = (read(".ci/run"), read("tests/it/clients/home.rs"));
    let needed: BTreeSet<&str> =
        clients.split("package: \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let missing: Vec<_> =
        needed.iter().filter(|package| !script.lines().any(|line| line.trim() == **package)).collect();
    assert!(missing.is_empty(), ".ci/run does not install {missing:?}");
    assert!(needed.len() >= 5, "{needed:?}");
}
