//! The rules of the architecture, read from the sources: which module uses which, which modules access files, paths and
//! the clock, and which dependencies there are. `src/lib.rs` documents them.

mod dependencies;
mod documents;
mod language;
mod source;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use source::{Source, is_word};

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
    ("kit::certificate", &["kit::clock"]),
    ("kit::append", &[]),
    ("kit::blocking", &[]),
    ("kit::metrics", &[]),
    ("kit::outgoing", &[]),
    ("kit::traces", &["kit::metrics", "kit::outgoing"]),
    ("kit::site", &[]),
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
    "kit::network",
    "kit::opaque_debug",
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

/// The modules that access files, by the beginning of their path.
const FILES: &[(&str, &str)] = &[
    ("kit::clock", "reads the number of the machine's start from a file of the system"),
    ("content::blobs", "stores blobs as files"),
    ("content::rows", "opens the database and its journal"),
    ("transfer", "reads layouts, archives and stores of other registries, and writes layouts and archives"),
    ("mirror::client::credentials", "reads the credentials for upstreams"),
    ("mirror::fill", "hands out the file of a blob that is arriving"),
    ("acme::files", "keeps the account, the certificate and when it is renewed"),
    ("registry::mirror", "lists the certificates of an upstream"),
    ("config::source", "reads the configuration"),
    ("config::environment", "reads the files that variables name"),
    ("config::openid", "reads the secrets of identity providers"),
    ("config::check", "checks that the files of the configuration can be read"),
    ("registry::builder", "creates temporary data directories"),
    ("kit::append", "appends to the log files"),
    ("kit::site", "reads the files of zot's web page"),
    ("identity::accounts::audit_file", "gives a new audit file to the owner of the data directory"),
    ("identity::accounts::htpasswd", "reads the htpasswd file"),
    ("server::listener", "makes the files of unix sockets, and reads the groups of the system"),
    ("server::sendfile", "lets the kernel send blobs from their files"),
    ("admin::socket", "creates the socket of local administration"),
    ("admin::clock", "finds a wrong clock by the times of files"),
    ("admin::directory", "opens the directory that a command names"),
    ("admin::transfer", "finds the source of an import, and reads a list of digests"),
    ("cli::administer", "finds the socket and the database"),
    ("cli::doctor", "examines the data directory, and reads the files of clients on this machine"),
    ("cli::serve", "finds other files in a new data directory, and keeps the first password"),
    ("cli::systemd", "finds out whether standard error is the journal"),
    ("cli::credentials", "reads and writes the credential files of docker and podman"),
    ("cli::login::terminal", "opens the terminal"),
    ("identity::tokens::verifying_key", "reads the keys of other issuers"),
    ("server::tls", "reads certificates"),
    ("kit::outgoing", "reads the trusted certificates"),
    ("content::repository::upload::fuzzing", "compares the file of a blob with its model"),
    ("identity::tokens::fuzzing", "creates a database that holds the signing key"),
    ("kit::file", "reads files and examines their state"),
];

/// The modules that build paths.
const PATHS: &[(&str, &str)] = &[
    ("content::blobs::paths", "builds every path in the data directory"),
    ("content::blobs::foreign", "finds the files of other registries"),
    ("content::blobs::transfer", "resolves a path of which a part does not exist yet"),
    ("transfer", "builds the paths of layouts and of the stores of other registries"),
    ("mirror", "joins URLs and lists of media types"),
    ("kit::site", "walks the directory of zot's web page"),
    ("config::environment", "joins the words of keys"),
    ("registry::mirror", "finds the files of a directory of certificates"),
    ("cli", "finds the data directory and its files"),
    ("admin::socket", "shortens the path of the socket"),
    ("server::listener", "names the file of a unix socket before it is complete"),
    ("admin::directory", "finds a directory that another process has opened"),
];

/// The public items of the library.
const PUBLIC: &[&str] = &[
    "AccessPolicy",
    "Body",
    "Builder",
    "Error",
    "Registry",
    "RunningRegistry",
    "cli", // for the program; not documented
    "config",
    "oci",
    "testing", // for a benchmark and fuzzers; in no other build
];

const SOURCE_LINES_MAX: usize = 500;
const TEST_LINES_MAX: usize = 600;

/// Fails with the whole list of violations.
fn none(rule: &str, wrong: &[String]) {
    let list = wrong.iter().fold(String::new(), |mut list, line| {
        writeln!(list, "  {line}").unwrap();
        list
    });
    assert!(wrong.is_empty(), "{rule}:\n{list}");
}

/// Whether a list has the module of a source, or one above it.
fn listed(list: &[(&str, &str)], source: &Source) -> bool {
    let module = source.module.join("::");
    list.iter().any(|(name, _)| is_in(&module, name))
}

/// The layer of a path from the root of the crate: the longest name of the table that the path begins with.
fn layer(path: &[String]) -> Option<&'static str> {
    let path = path.join("::");
    LAYERS.iter().map(|(name, _)| *name).filter(|name| is_in(&path, name)).max_by_key(|name| name.len())
}

/// Whether a path is that of a module or folder, or of something in it.
fn is_in(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The items that the library re-exports at its root, with their paths.
fn exported() -> Vec<(String, Vec<String>)> {
    let lib = Source::all("src").into_iter().find(|source| source.path == "src/lib.rs").unwrap();
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
    let lib = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs")).unwrap();
    let section = lib.split("//! # The modules, bottom to top\n").nth(1).expect("the section");
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

#[test]
fn the_library_shows_what_is_listed() {
    let lib = Source::all("src").into_iter().find(|source| source.path == "src/lib.rs").unwrap();
    let mut shown = BTreeSet::new();
    for statement in lib.tokens.split(|token| token.text == ";") {
        let words: Vec<&str> = statement.iter().map(|token| token.text.as_str()).collect();
        match words.iter().position(|word| *word == "pub").map(|at| &words[at + 1..]) {
            None => {}
            Some(["mod", name]) => assert!(shown.insert(*name)),
            Some(["use", rest @ ..]) => {
                shown.extend(rest.iter().filter(|word| word.starts_with(char::is_uppercase)));
            }
            Some(other) => {
                panic!("src/lib.rs may only declare modules and export names: pub {}", other.join(" "))
            }
        }
    }
    assert_eq!(shown, PUBLIC.iter().copied().collect());
}

#[test]
fn files_paths_the_clock_and_redb_are_used_only_where_the_rules_permit() {
    let (mut wrong, mut seen) = (Vec::new(), [0; 5]);
    for source in Source::all("src") {
        let top = layer(&source.module).unwrap_or("lib");
        let tokens = source.shipped();
        let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
        for (at, token) in tokens.iter().enumerate() {
            let mut only = |rule: usize, found: bool, may: bool, what: &str| {
                seen[rule] += usize::from(found);
                if found && !may {
                    wrong.push(format!("{}:{}: {what}", source.path, token.line));
                }
            };
            let word = token.text.as_str();
            only(0, word == "redb", top == "content::rows", "only content::rows names redb");
            let opens = match (word, text(at + 1)) {
                // The type alone is no access: any module may read an open file that it is given.
                ("fs", _) if text(at.wrapping_sub(2)) == "unix" => false, // traits of files
                ("fs", "::") if text(at + 2) == "{" => {
                    let group = (at + 3..).map(text).take_while(|word| *word != "}");
                    group.into_iter().any(|word| !matches!(word, "self" | "File" | ","))
                }
                ("fs", "::") => text(at + 2) != "File" || text(at + 3) == "::",
                ("File", "::") => matches!(text(at + 2), "open" | "create" | "create_new" | "options"),
                ("exists" | "is_dir" | "is_file" | "canonicalize" | "read_dir", "(") => text(at.wrapping_sub(1)) == ".",
                ("OpenOptions" | "DirBuilder" | "tempdir" | "NamedTempFile", _) => true,
                _ => false,
            };
            only(1, opens, listed(FILES, &source), "touches the file system");
            // Lists are joined with a comma or a blank, and no file has one in its name.
            let literal = text(at + 2);
            let list = literal.starts_with('"') && literal.contains([' ', ',']);
            let joins = text(at.wrapping_sub(1)) == "."
                && (word == "join" && text(at + 1) == "(" && text(at + 2) != ")" && !list
                    || matches!(word, "with_file_name" | "with_extension"));
            only(2, joins, listed(PATHS, &source), "makes a path");
            let now = word == "SystemTime" && text(at + 1) == "::" && text(at + 2) == "now";
            only(3, now, top == "kit::clock", "only kit::clock reads the wall clock");
            let status = word == "StatusCode";
            only(
                4,
                status,
                matches!(top, "http" | "server" | "cli" | "mirror"),
                "nothing below http knows a status code",
            );
            let global = matches!(word, "static" | "thread_local");
            // A fuzzer is a function of its input alone, and opening a database for each takes too long.
            if global && source.module.last().is_none_or(|module| module != "fuzzing") {
                wrong.push(format!("{}:{}: {word}: there is no global state", source.path, token.line));
            }
        }
    }
    none("files, paths, the clock, redb and status codes", &wrong);
    // redb, files, paths, the clock, status codes: each rule has found uses.
    assert!(seen.iter().zip([15, 15, 9, 1, 20]).all(|(seen, floor)| *seen >= floor), "{seen:?}");
}

#[test]
fn every_file_says_its_purpose_and_is_short() {
    let (mut wrong, mut files) = (Vec::new(), 0);
    for (directory, lines_max) in
        [("src", SOURCE_LINES_MAX), ("tests", TEST_LINES_MAX), ("examples", 100), ("fuzz/fuzz_targets", 100)]
    {
        for source in Source::all(directory) {
            files += 1;
            let lines = source.text.lines().count();
            if lines > lines_max {
                wrong.push(format!("{} has {lines} lines, more than {lines_max}", source.path));
            }
            if !source.text.starts_with("//! ") {
                wrong.push(format!("{} does not begin with its purpose", source.path));
            }
        }
    }
    none("files", &wrong);
    assert!(files >= 90, "only {files} files were seen");
}
