//! Properties of every row of the key table, and of every input.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::load;
use crate::config::keys::{self, Row, Status};
use crate::config::kind::Kind;
use crate::config::source::{Format, parse};
use crate::config::{Config, Environment, from_tree};

/// A tree that has `value` at a key, in lists and maps as the key requires.
fn tree(key: &str, value: Value) -> Value {
    let mut tree = value;
    let mut rest = key;
    while !rest.is_empty() {
        let (parent, name) = rest.rsplit_once('.').unwrap_or(("", rest));
        let is_list = keys::find(parent).is_some_and(|row| row.kind == Kind::List);
        tree = match name {
            keys::EACH if is_list => json!([tree]),
            name => json!({ name: tree }),
        };
        rest = parent;
    }
    tree
}

/// Whether coracle reads the values of a key.
fn is_supported(row: &Row) -> bool {
    let mut enclosing = row.key.rmatch_indices('.').filter_map(|(at, _)| keys::find(&row.key[..at]));
    match row.status {
        Status::Supported => true,
        Status::Within => enclosing.next().is_none_or(is_supported),
        Status::NoEffect(_) | Status::Refused(_) => false,
    }
}

fn is_container(kind: Kind) -> bool {
    use Kind::{Free, List, Map, Switch, Table};
    matches!(kind, Table | Switch { .. } | Map | Free | List)
}

/// Values of a kind that differ from its defaults.
fn samples(kind: Kind) -> Vec<Value> {
    match kind {
        Kind::Bool => vec![json!(true), json!(false)],
        Kind::Int { least, most } => vec![json!(least.max(3)), json!(most)],
        Kind::Size { most, .. } => vec![json!(most)],
        Kind::Duration { most, .. } => vec![json!(most)],
        Kind::Ratio => vec![json!(0.5), json!("0.25"), json!(1)],
        Kind::Port => vec![json!(5000)],
        Kind::Address => vec![json!("::1")],
        Kind::Origins => vec![json!("https://ui.example")],
        Kind::Url => vec![json!("http://r.example")],
        Kind::UrlPath => vec![json!("/figures")],
        Kind::HeaderText | Kind::Text => vec![json!("sample")],
        Kind::TimeWindow => vec![json!("22:00-06:00")],
        Kind::Path => vec![json!(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))],
        Kind::OneOf(words) => words.iter().map(|word| json!(word)).collect(),
        Kind::Texts => vec![json!(["sample"])],
        Kind::SomeOf(words) => vec![json!(words)],
        Kind::Table | Kind::Switch { .. } | Kind::Map | Kind::Free => vec![json!({})],
        Kind::List => vec![json!([])],
        Kind::TextMap => vec![json!({"name": "sample"})],
    }
}

/// Keys without a default. The value of another key applies instead, or a condition is absent.
const WITHOUT_DEFAULT: [&str; 5] = [
    "storage.retention.delay",
    "storage.retention.policies.*.keepTags.*.pulledWithin",
    "storage.retention.policies.*.keepTags.*.pushedWithin",
    "storage.retention.policies.*.keepUntagged.pulledWithin",
    "storage.retention.policies.*.keepUntagged.pushedWithin",
];

#[test]
fn rows_are_consistent() {
    let mut seen = BTreeSet::new();
    for row in keys::all() {
        assert!(seen.insert(row.key.to_ascii_lowercase()), "{} is in the table twice", row.key);
        for value in samples(row.kind) {
            assert!(is_container(row.kind) || row.kind.read(&value).is_ok(), "{} takes {value}", row.key);
        }
        for (at, _) in row.key.match_indices(".*") {
            let container = keys::find(&row.key[..at]).map(|row| row.kind);
            assert!(matches!(container, Some(Kind::List | Kind::Map)), "{} is not in a list or map", row.key);
        }
        let reason = match row.status {
            Status::NoEffect(reason) | Status::Refused(reason) => reason,
            Status::Supported | Status::Within => "text",
        };
        assert!(!reason.ends_with('.') && !reason.contains('\n'), "{}: {reason}", row.key);
        let has_default = row.default_setting().is_some();
        // The presence of a table may have a meaning.
        let may_lack_one = row.status != Status::Supported
            || matches!(row.kind, Kind::Table | Kind::Map | Kind::Switch { .. })
            || row.is_required()
            || WITHOUT_DEFAULT.contains(&row.key);
        assert!(has_default || may_lack_one, "{} is supported and has no default", row.key);
    }
    assert!(seen.len() > 200, "only {} rows were seen", seen.len());
}

/// Fails if nothing reads a supported key, or if a word is accepted that its type does not know.
#[test]
fn every_key_that_is_supported_changes_the_configuration() {
    let default = Config::default();
    let mut supported = 0;
    // These need several keys, and have their own tests.
    let is_single = |row: &&Row| {
        ![
            "differences",
            "http.tls.",
            "http.auth.mtls",
            "http.accessControl",
            "http.auth.bearer.",
            "http.auth.openid",
            "http.auth.ldap",
            "http.ratelimit.methods",
            "extensions.events.",
            "extensions.sync.",
            "extensions.traces.",
            "extensions.ui.",
            "http.listen",
            "http.trustedProxies",
            "storage.retention.policies",
            "storage.immutableTags",
            "storage.quotas",
        ]
        .iter()
        .any(|table| row.key.starts_with(table))
    };
    let leaves = keys::all().filter(|row| is_supported(row) && !is_container(row.kind));
    for row in leaves.filter(is_single) {
        let mut changes = false;
        for value in samples(row.kind) {
            let text = tree(row.key, value).to_string();
            let loaded = load(Format::Json, &text).expect(row.key);
            changes |= loaded.config != default;
        }
        assert!(changes, "{} is not read", row.key);
        supported += 1;
    }
    assert!(supported >= 20, "only {supported} keys were seen");
}

#[test]
fn every_input_gives_a_configuration_or_problems() {
    let seeds = [
        (Format::Toml, include_str!("../../../zot-compat.toml")),
        (Format::Json, super::zot::EVERYTHING),
        (Format::Yaml, super::zot::EVERYTHING),
        (Format::Yaml, "http: &a {port: 80}\nlog: *a\nstorage:\n  <<: *a\n  gcDelay: 1h\n- x: |\n  y"),
    ];
    let pieces = [
        "\"",
        "'",
        "[",
        "]",
        "{",
        "}",
        ":",
        ",",
        "=",
        "\n",
        "\n  ",
        "null",
        "-1",
        "1e999",
        "[[",
        "µs",
        "*",
        ".",
        "\\u0000",
        "&a",
        "<<",
        "!!",
        "true",
        "9223372036854775808",
        "h",
        "\u{feff}",
        "#",
    ];
    let seed = 0x9e37_79b9_7f4a_7c15_u64;
    println!("seed {seed:#x}");
    let mut state = seed;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below.max(1)).expect("a length fits")).expect("it is below")
    };
    let (mut loaded, mut refused) = (0, 0);
    for round in 0..1200 {
        let (format, seed) = seeds[round % seeds.len()];
        let mut text: Vec<char> = seed.chars().collect();
        for _ in 0..=random(4) {
            let from = random(text.len());
            let to = (from + random(6)).min(text.len());
            match random(3) {
                0 => drop(text.drain(from..to)),
                1 => drop(text.splice(from..from, pieces[random(pieces.len())].chars())),
                _ => drop(text.splice(from..to, pieces[random(pieces.len())].chars())),
            }
        }
        let text: String = text.into_iter().collect();
        match parse("f", format, &text).and_then(|tree| from_tree("f", tree, &Environment::default())) {
            Ok(_) => loaded += 1,
            Err(error) => {
                refused += 1;
                assert!(error.to_string().lines().all(|line| line.starts_with("f:")), "{error}");
            }
        }
    }
    assert!(loaded > 20 && refused > 200, "{loaded} loaded, {refused} refused");
}

#[test]
fn nesting_has_a_limit() {
    for (format, open, close) in [
        (Format::Toml, "[", "]"),
        (Format::Json, "[", "]"),
        (Format::Yaml, "[", "]"),
        (Format::Json, "{\"http\":", "}"),
        (Format::Yaml, "{http: ", "}"),
        (Format::Toml, "{http = ", "}"),
    ] {
        let value = format!("{}1{}", open.repeat(50_000), close.repeat(50_000));
        let text = match format {
            Format::Toml => format!("cluster = {value}"),
            Format::Json => format!("{{\"cluster\": {value}}}"),
            Format::Yaml => format!("cluster: {value}"),
        };
        assert!(load(format, &text).is_err(), "{format:?} {open}");
    }
}
