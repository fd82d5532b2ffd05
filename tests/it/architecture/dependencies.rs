//! The direct dependencies, each with its reason.

use std::collections::BTreeSet;
use std::path::Path;

/// Dependencies of the registry.
const NORMAL: &[(&str, &str)] = &[
    ("askama", "templates of pages, checked by the compiler"),
    ("argon2", "passwords are stored as argon2id"),
    ("aws-lc-rs", "makes the keys that tokens are signed with; rustls and jsonwebtoken bring it"),
    ("base64", "Basic credentials, and cookies"),
    ("bcrypt", "users of htpasswd files"),
    ("bytes", "bodies are passed on without being copied"),
    ("clap", "the command line"),
    ("dirs", "where the platform wants data to be"),
    ("hex", "digests as text"),
    ("hmac", "upload ids are bound to their repository, and remembered passwords keyed"),
    ("http-body", "the trait of bodies that hyper asks for"),
    ("http-body-util", "bodies in memory, and reading bodies to their end"),
    ("hyper", "HTTP"),
    ("hyper-util", "hyper on tokio, and graceful stops"),
    ("ipnet", "networks of trusted proxies"),
    ("jiff", "times as clients write them"),
    ("jsonwebtoken", "tokens of the token service"),
    ("libc", "settings of the GNU C library's allocator; rustix brings it"),
    ("memmap2", "an address for a blob that the kernel sends by itself"),
    ("oauth2", "sign-in through GitHub, and the words of openidconnect"),
    ("oci-spec", "descriptors, indexes and media types as the specification has them"),
    ("openidconnect", "sign-in through OpenID providers"),
    ("parking_lot", "locks without poisoning; prometheus-client brings it"),
    ("percent-encoding", "paths and parameters"),
    ("postcard", "compact rows"),
    ("pulldown-cmark", "descriptions of repositories, and READMEs of charts"),
    ("prometheus-client", "metrics"),
    ("rand", "ids, keys and passwords"),
    ("redb", "the rows"),
    (
        "rustix",
        "limits of file handles, priorities of threads, directories handed over a socket, error numbers with names",
    ),
    ("rustls", "TLS"),
    ("rustls-native-certs", "whom the platform trusts, where the program itself asks others"),
    ("schemars", "the description of API v1, derived from its types"),
    ("serde", "rows and documents"),
    ("serde-saphyr", "configurations in YAML"),
    ("serde_json", "manifests, answers, configurations in JSON"),
    ("sha2", "what content is addressed by"),
    ("strsim", "the nearest known key for an unknown one"),
    ("subtle", "CSRF tokens and keys are compared in constant time"),
    ("tempfile", "registries that live as long as a test"),
    ("thiserror", "error enums: message and source at each variant; openidconnect brings it"),
    ("tokio", "sockets, tasks, timers"),
    ("tokio-rustls", "TLS on tokio's sockets"),
    ("tokio-util", "waiting for tasks that outlive their request"),
    ("toml", "configurations in TOML"),
    ("tracing", "what the log is made of"),
    ("tracing-subscriber", "the program's log"),
    ("url", "what browsers make of a URL; openidconnect brings it"),
    ("uuid", "upload ids have the form that the specification asks for"),
    ("zeroize", "passwords do not stay in memory"),
];

/// Further dependencies of tests and examples.
const DEV: &[(&str, &str)] = &[
    ("flate2", "layers as images have them"),
    ("futures-util", "streams as bodies"),
    ("hyper", "its client, for what no client would send"),
    ("mio", "a client for measurements that costs little"),
    ("oci-client", "a client that others wrote"),
    ("proc-macro2", "reads our own sources in the tests of the architecture"),
    ("proptest", "unexpected inputs"),
    ("rcgen", "certificates for the tests of TLS"),
    ("reqwest", "HTTP/2 for oci-client"),
    ("tar", "layers as images have them"),
    ("tokio", "time that a test moves, and child processes"),
];

/// Dependencies of the build script.
const BUILD: &[(&str, &str)] = &[("flate2", "compresses the assets of the pages, so that the program need not")];

/// Dependencies of the fuzz targets.
const FUZZ: &[(&str, &str)] = &[("coracle", "what is fuzzed"), ("libfuzzer-sys", "what fuzzes")];

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
