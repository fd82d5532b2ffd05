//! The order of the modules: which module uses which, and which names of it.

use std::collections::BTreeSet;

use super::source::{Source, is_word};
use super::{library, none};

/// The modules in the order of `src/lib.rs`, and the modules above it in this table that each may use. The name of a folder
/// stands for all modules in it.
const LAYERS: &[(&str, &[&str])] = &[
    ("oci", &[]),
    ("kit::clock", &[]),
    ("kit::file", &[]),
    ("kit::network", &[]),
    ("kit::text", &[]),
    ("kit::text_form", &[]),
    ("kit::opaque_debug", &[]),
    ("kit::bounded_map", &[]),
    ("kit::byte_budget", &[]),
    ("kit::throttle", &[]),
    ("kit::window_limit", &[]),
    ("kit::log_limit", &[]),
    ("kit::certificate", &["kit::clock"]),
    ("kit::append", &[]),
    ("kit::blocking", &[]),
    ("kit::metrics", &[]),
    ("kit::outgoing", &[]),
    ("kit::traces", &["kit::metrics", "kit::outgoing"]),
    ("kit::site", &[]),
    ("kit::shown_address", &[]),
    ("kit::access_log", &[]),
    ("content::blobs", &["oci"]),
    ("content::rows", &["oci", "kit::clock", "content::blobs"]),
    ("content::repository", &["oci", "kit::clock", "content::blobs", "content::rows"]),
    ("identity::directory", &["kit::outgoing"]),
    (
        "identity::accounts",
        &["oci", "kit::clock", "kit::append", "content::blobs", "content::rows", "identity::directory"],
    ),
    ("identity::tokens", &["oci", "kit::clock", "content::blobs", "content::rows", "identity::accounts"]),
    ("identity::workload", &["oci", "kit::clock", "kit::outgoing", "identity::accounts", "identity::tokens"]),
    ("identity::providers", &["kit::clock", "kit::outgoing", "identity::accounts"]),
    (
        "identity::access",
        &["oci", "kit::clock", "content::rows", "identity::accounts", "identity::tokens", "identity::workload"],
    ),
    ("mirror", &["oci", "kit::metrics", "kit::outgoing", "kit::traces", "content::repository"]),
    ("events", &["kit::clock", "kit::metrics", "kit::outgoing", "content::rows", "content::repository", "mirror"]),
    ("acme", &["kit::clock", "kit::certificate", "kit::outgoing", "content::blobs"]),
    ("transfer", &["oci", "content::blobs", "content::repository"]),
    ("search", &["oci", "kit::clock", "content::rows", "content::repository"]),
    ("web", &["oci", "kit::clock"]),
    ("http::route", &["oci", "content::repository", "identity::access"]),
    (
        "config",
        &[
            "oci",
            "kit::certificate",
            "kit::site",
            "kit::traces",
            "identity::directory",
            "identity::workload",
            "identity::access",
        ],
    ),
    (
        "registry",
        &[
            "oci",
            "kit::access_log",
            "kit::clock",
            "kit::metrics",
            "kit::outgoing",
            "kit::site",
            "kit::traces",
            "content",
            "identity",
            "mirror",
            "events",
            "acme",
            "transfer",
            "search",
            "config",
        ],
    ),
    (
        "admin",
        &[
            "oci",
            "kit::clock",
            "kit::certificate",
            "content",
            "identity::accounts",
            "identity::tokens",
            "identity::access",
            "events",
            "acme",
            "transfer",
            "mirror",
            "config",
            "registry",
        ],
    ),
    (
        "http",
        &[
            "oci",
            "kit::access_log",
            "kit::clock",
            "kit::certificate",
            "kit::metrics",
            "kit::site",
            "kit::traces",
            "content",
            "identity",
            "mirror",
            "acme",
            "search",
            "web",
            "http::route",
            "config",
            "registry",
        ],
    ),
    (
        "server",
        &[
            "oci",
            "kit::clock",
            "kit::certificate",
            "kit::metrics",
            "content::repository",
            "identity::access",
            "mirror",
            "events",
            "acme",
            "admin",
            "config",
            "registry",
            "http",
        ],
    ),
    (
        "cli",
        &[
            "oci",
            "kit::access_log",
            "kit::clock",
            "kit::certificate",
            "kit::append",
            "kit::outgoing",
            "identity::accounts",
            "web",
            "admin",
            "identity::access",
            "config",
            "registry",
            "server",
        ],
    ),
    ("testing::filling", &["oci", "kit::clock", "content::blobs", "content::rows"]),
    (
        "testing::fuzzing",
        &[
            "oci",
            "content::repository",
            "identity::tokens",
            "identity::workload",
            "identity::access",
            "search",
            "http::route",
            "config",
            "http",
        ],
    ),
    ("main", &["cli"]),
];

/// Small tools that every layer below them in this table may use.
const TOOLS: &[&str] = &[
    "kit::blocking",
    "kit::bounded_map",
    "kit::byte_budget",
    "kit::file",
    "kit::log_limit",
    "kit::network",
    "kit::opaque_debug",
    "kit::shown_address",
    "kit::text",
    "kit::text_form",
    "kit::throttle",
    "kit::window_limit",
];

/// A module that may use only these names of another one.
const WORDS: &[(&str, &str, &[&str])] = &[
    // The database is a file in the same tree.
    ("content::rows", "content::blobs", &["Disk", "FaultyDisk", "Operation", "SystemDisk", "Tree"]),
    // Its files are changed through the same operations. Tests need disks, also one that fails.
    ("acme", "content::blobs", &["Disk", "FaultyDisk", "Operation", "SystemDisk", "Tree"]),
    ("http::route", "content::repository", &["ManifestTarget", "ReferrerCursor"]),
    ("http::route", "identity::access", &["Access", "Action", "Actions", "Requires", "Surface"]),
    // For the owner of the audit file, and for a database in tests.
    ("identity::accounts", "content::blobs", &["Owner", "SystemDisk", "Tree"]),
    ("identity::tokens", "content::blobs", &["SystemDisk", "Tree"]),
    ("admin", "content::blobs", &["Owner", "Tree", "give_to_owner_of_parent"]),
    ("admin", "content::rows", &["AccountRole", "GroupRow", "Role"]),
    ("admin", "config", &["size"]),
    // Operations on the whole store, not on one repository.
    (
        "admin",
        "content::repository",
        &[
            "BackupError",
            "TagChange",
            "Repository",
            "SearchScope",
            "RecoverError",
            "Collected",
            "Delays",
            "Error",
            "HistoryFilter",
            "Recovered",
            "Recovery",
            "Purge",
            "DryRun",
            "Evicted",
            "Goal",
            "PlannedTag",
            "Retained",
            "Scrubbed",
            "Scrubbing",
            "Stores",
            "Transferred",
            "TransferMode",
            "recover",
            "restore",
        ],
    ),
    // Values in responses and errors. `repository` hides the stores.
    ("http", "content::blobs", &["Blob", "Error"]),
    (
        "http",
        "content::rows",
        &[
            "AccountRole",
            "BuildStep",
            "Details",
            "Error",
            "Facts",
            "Grantee",
            "GroupRow",
            "Kind",
            "Platform",
            "Preference",
            "Role",
            "SettingsRow",
            "Totals",
        ],
    ),
    // Plain values that a gallery returns.
    (
        "search",
        "content::rows",
        &["BuildStep", "Details", "Facts", "Kind", "ManifestRow", "Platform", "Pulls", "Totals"],
    ),
    // The plain values of a gallery, and no stores.
    ("search", "content::repository", &["browse", "Error", "SearchScope", "fuzz_stores"]),
    // Times come from the accounts and are only formatted here.
    ("http", "kit::clock", &["Timestamp"]),
    // For maintenance.
    ("server", "content::repository", &["Scrubbing"]),
    ("server", "kit::clock", &["Timestamp"]),
    ("testing::fuzzing", "content::repository", &["ManifestTarget", "fuzz_upload"]),
];

/// The layer of a path from the root of the crate: the longest name of the table that the path begins with.
pub(super) fn layer(path: &[String]) -> Option<&'static str> {
    let path = path.join("::");
    LAYERS.iter().map(|(name, _)| *name).filter(|name| is_in(&path, name)).max_by_key(|name| name.len())
}

/// Whether a path is that of a module or folder, or of something in it.
pub(super) fn is_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The items that the library re-exports at its root, with their paths.
fn exported() -> Vec<(String, Vec<String>)> {
    let lib = library();
    let text = |at: usize| lib.tokens[at].text.clone();
    let mut exported = Vec::new();
    for at in (1..lib.tokens.len()).filter(|at| text(at - 1) == "use") {
        let words = (at..).map(text).take_while(|word| word != ";").filter(|word| is_word(word));
        let (modules, names): (Vec<_>, Vec<_>) = words.partition(|word| word.starts_with(char::is_lowercase));
        exported.extend(names.into_iter().map(|name| (name.clone(), [&modules[..], &[name]].concat())));
    }
    exported
}

#[test]
fn no_module_uses_one_above_it() {
    for (at, (module, may)) in LAYERS.iter().enumerate() {
        let is_above = |used: &&str| {
            let mut places =
                LAYERS.iter().enumerate().filter(|(_, (name, _))| is_in(name, used)).map(|(place, _)| place);
            places.next().is_some_and(|first| first < at) && places.all(|place| place < at)
        };
        assert!(may.iter().all(is_above), "{module} may use only modules above it in the table");
    }
    let exported = exported();
    let (mut wrong, mut edges, mut count) = (Vec::new(), BTreeSet::new(), 0);
    for source in Source::all("src") {
        // The root and the folders of layers only declare modules.
        let is_folder = |name: &&str| name.starts_with(&format!("{}::", source.module.join("::")));
        let Some(from) = layer(&source.module) else {
            let is_known = source.module.is_empty() || LAYERS.iter().any(|(name, _)| is_folder(name));
            assert!(is_known, "{} is in no layer of the table", source.path);
            continue;
        };
        let at = LAYERS.iter().position(|(name, _)| *name == from).unwrap();
        let may = LAYERS[at].1;
        for found in source.uses() {
            let place = format!("{}:{}", source.path, found.line);
            let exported = exported.iter().find(|(word, _)| *word == found.path[0]).map(|(_, path)| path);
            let path = exported.unwrap_or(&found.path);
            let Some(to) = layer(path) else {
                wrong.push(format!(
                    "{place}: {} is in no layer, and src/lib.rs does not export it",
                    found.path.join("::")
                ));
                continue;
            };
            if to == from {
                continue;
            }
            count += 1;
            edges.insert((from, to));
            let is_tool = TOOLS.contains(&to) && LAYERS[..at].iter().any(|(name, _)| *name == to);
            if !may.iter().any(|name| is_in(to, name)) && !is_tool {
                wrong.push(format!("{place}: {from} must not use {to}"));
            }
            let words = WORDS.iter().find(|(user, used, _)| *user == from && *used == to);
            if let (Some((_, _, words)), Some(word)) = (words, path.get(to.split("::").count()))
                && !words.contains(&word.as_str())
            {
                wrong.push(format!("{place}: {from} must not use {word} of {to}"));
            }
        }
    }
    none("no module uses one above it", &wrong);
    assert!(count >= 80 && edges.len() >= 30, "only {count} uses in {} pairs were seen", edges.len());
}

#[test]
fn the_order_is_the_documented_one() {
    let lib = library();
    let section = lib.text.split("//! # The modules, bottom to top\n").nth(1).expect("the section");
    let section = section.split("//! A test holds this order").next().unwrap();
    let table: Vec<&str> = LAYERS.iter().map(|(module, _)| *module).filter(|module| *module != "main").collect();
    let mut documented: Vec<&str> = Vec::new();
    for word in section.split('`').skip(1).step_by(2) {
        if table.contains(&word) && !documented.contains(&word) {
            documented.push(word);
        }
    }
    assert_eq!(documented, table, "src/lib.rs lists every module, in the order of the table");
}
