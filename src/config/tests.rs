//! Configurations, and their values or findings.

mod bearer;
mod environment;
mod files;
mod ldap;
mod openid;
mod problems;
mod sync;
mod table;
mod traces;
mod zot;

use std::path::Path;
use std::time::Duration;

use super::error::Error;
use super::source::{self, Format};
use super::{Address, Config, Environment, Finding, Loaded, LogFormat, LogLevel, Profile, from_tree, key_table};

fn load(format: Format, text: &str) -> Result<Loaded, Error> {
    from_tree("f", source::parse("f", format, text)?, &Environment::default())
}

fn lines(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn an_empty_configuration_has_the_defaults() {
    let config = Config::default();
    assert_eq!(config.profile, Profile::Coracle);
    assert_eq!(config.storage.root_directory, None);
    assert!(config.storage.commit);
    assert_eq!(config.storage.upload_expiry, Duration::from_hours(24));
    assert_eq!(config.storage.min_free_space, 64 << 20);
    assert!(!config.storage.allow_sparse_indexes);
    assert_eq!(config.http.address, Address::Ip([127, 0, 0, 1].into()));
    assert_eq!(config.http.port, 8080);
    assert_eq!(config.http.external_url, None);
    assert_eq!(config.http.realm, "Authorization Required");
    assert!(!config.http.open);
    assert_eq!(config.http.tls, None);
    assert_eq!(config.http.limits.max_connections, 1024);
    assert_eq!(config.http.limits.header_timeout, Duration::from_secs(30));
    assert_eq!(config.http.limits.idle_timeout, Duration::from_mins(2));
    assert_eq!(config.http.limits.body_idle_timeout, Duration::from_mins(1));
    assert_eq!(config.http.limits.max_manifest_size, 4 << 20);
    assert_eq!(config.http.limits.shutdown_timeout, Duration::from_secs(30));
    assert_eq!(config.log.level, LogLevel::Info);
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.log.output, None);
    assert!(config.extensions.metrics.enable);
    assert_eq!(config.extensions.metrics.path, "/metrics");
    assert_eq!(config.differences, []);

    for (format, text) in [
        (Format::Toml, ""),
        (Format::Toml, "# nothing\n[storage]\n"),
        (Format::Json, " \n"),
        (Format::Json, "{}"),
        (Format::Json, r#"{"http": null, "storage": {"commit": null}, "cluster": null}"#),
        (Format::Yaml, "# nothing\n"),
        (Format::Yaml, "http:\n  tls:\nlog:\n"),
        (Format::Toml, "\u{feff}[http]\nrealm = ''\nexternalUrl = ''"),
    ] {
        let loaded = load(format, text).expect("an empty configuration loads");
        assert_eq!(loaded.config, config, "{text:?}");
        assert_eq!(loaded.warnings, [], "{text:?}");
    }
}

#[test]
fn keys_set_values() {
    type Change = fn(&mut Config);
    let cases: [(&str, Change); 17] = [
        ("profile = 'zot'", |c| c.profile = Profile::Zot),
        ("PROFILE = 'ZOT'", |c| c.profile = Profile::Zot),
        ("storage.rootDirectory = 'data'", |c| {
            c.storage.root_directory = Some("data".into());
        }),
        ("storage.commit = false", |c| c.storage.commit = false),
        ("[Storage]\nuploadexpiry = '1h30m'", |c| {
            c.storage.upload_expiry = Duration::from_mins(90);
        }),
        ("storage.uploadExpiry = 5000000000", |c| {
            c.storage.upload_expiry = Duration::from_secs(5);
        }),
        ("http.address = ''", |c| c.http.address = Address::All),
        ("http.address = 'LocalHost'", |c| {
            c.http.address = Address::Localhost;
        }),
        ("http.address = '[::1]'", |c| {
            c.http.address = Address::Ip(std::net::Ipv6Addr::LOCALHOST.into());
        }),
        ("http.port = '5000'", |c| c.http.port = 5000),
        ("http.port = 0", |c| c.http.port = 0),
        ("http.externalUrl = 'https://r.example:8443/x/'", |c| {
            c.http.external_url = Some("https://r.example:8443/x".into());
        }),
        ("storage.minFreeSpace = '10GiB'", |c| {
            c.storage.min_free_space = 10 << 30;
        }),
        ("http.limits.maxManifestSize = '64MiB'", |c| {
            c.http.limits.max_manifest_size = 64 << 20;
        }),
        ("http.limits.maxManifestSize = 5000000", |c| {
            c.http.limits.max_manifest_size = 5_000_000;
        }),
        ("log.level = 'fatal'", |c| c.log.level = LogLevel::Error),
        ("extensions.metrics.prometheus.path = '/a/b'", |c| {
            c.extensions.metrics.path = "/a/b".into();
        }),
    ];
    for (text, change) in cases {
        let mut expected = Config::default();
        change(&mut expected);
        let loaded = load(Format::Toml, text).expect(text);
        assert_eq!(loaded.config, expected, "{text}");
        assert_eq!(loaded.warnings, [], "{text}");
    }
}

#[test]
fn the_three_formats_agree() {
    let toml = "profile = 'zot'\n[storage]\ngcDelay = '2h'\n[http]\nport = 5000\ncompat = ['docker2s2']\n\
                [http.limits]\nidleTimeout = 1000000000\n[[differences]]\nroute = 'r'\nzot = 'z'\n\
                coracle = 'c'\nwhy = 'w'\ncheck = 't'\n";
    let json = r#"{"profile": "zot", "storage": {"gcDelay": "2h"},
                   "http": {"port": 5000, "compat": ["docker2s2"], "limits": {"idleTimeout": 1000000000}},
                   "differences": [{"route": "r", "zot": "z", "coracle": "c", "why": "w", "check": "t"}]}"#;
    let yaml = "profile: zot\nstorage: {gcDelay: 2h}\nhttp:\n  port: 5000\n  compat: [docker2s2]\n  \
                limits:\n    idleTimeout: 1000000000\ndifferences:\n- {route: r, zot: z, coracle: c, \
                why: w, check: t}\n";
    let [a, b, c] = [(Format::Toml, toml), (Format::Json, json), (Format::Yaml, yaml)]
        .map(|(format, text)| load(format, text).expect("the configuration is right"));
    assert_eq!(a.config.http.port, 5000);
    assert_eq!(a.config.differences.len(), 1);
    assert_eq!(a.warnings.len(), 1);
    assert_eq!((&a.config, &a.warnings), (&b.config, &b.warnings));
    assert_eq!((&a.config, &a.warnings), (&c.config, &c.warnings));
}

#[test]
fn the_compatibility_file_loads_and_lists_the_differences() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("zot-compat.toml");
    let loaded = Config::load(&path).expect("the file runs as it is");
    assert_eq!(loaded.warnings, []);
    let differences = loaded.config.differences.clone();
    let mut expected = Config { profile: Profile::Zot, differences, ..Config::default() };
    expected.storage.collection.delay = Duration::from_hours(1);
    expected.storage.tag_history = Duration::ZERO;
    expected.extensions.search.enable = true;
    expected.extensions.ui.enable = true;
    assert_eq!(loaded.config, expected);

    let mut checks: Vec<_> = loaded.config.differences.iter().map(|row| &row.check).collect();
    assert!(checks.len() >= 20, "only {} rows were seen", checks.len());
    checks.sort();
    checks.dedup();
    assert_eq!(checks.len(), loaded.config.differences.len(), "two rows share a check");
}

#[test]
fn the_key_table_has_defaults_and_status() {
    let text = key_table();
    let line = |key: &str| text.lines().find(|line| line.starts_with(&format!("{key} ")));
    assert!(line("http.port").is_some_and(|line| line.contains(" 8080 ") && line.contains(" supported ")));
    assert!(line("storage.dedupe").is_some_and(|line| line.contains(" no effect ")));
    assert!(line("http.auth.bearer.upstreamTokenEndpoint").is_some_and(|line| line.contains(" refused ")));
    assert_eq!(line("http.auth.bearer.upstreamTokenEndpoint.realm"), None);
    assert!(text.lines().all(|line| !line.ends_with(' ') && !line.ends_with('.')));
}
