//! The rules that the crate's documentation states of its own code: who may use whom, who alone may do
//! what, and what the package stands on. Each is read out of the sources.

mod dependencies;
mod language;
mod source;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use source::{Source, is_word};

/// A module, and what it may use, which stands above it here. The order is that of `src/lib.rs`.
const LAYERS: &[(&str, &[&str])] = &[
    ("oci", &[]),
    ("clock", &[]),
    ("append", &[]),
    ("metrics", &[]),
    ("outgoing", &[]),
    ("blobs", &["oci"]),
    ("meta", &["oci", "clock", "blobs"]),
    ("repository", &["oci", "clock", "blobs", "meta"]),
    ("accounts", &["oci", "clock", "append", "blobs", "meta"]),
    ("tokens", &["oci", "clock", "blobs", "meta", "accounts"]),
    ("providers", &["clock", "outgoing"]),
    ("access", &["oci", "clock", "meta", "accounts", "tokens"]),
    ("route", &["oci", "repository", "access"]),
    ("config", &["oci", "access"]),
    (
        "registry",
        &[
            "oci",
            "clock",
            "metrics",
            "outgoing",
            "blobs",
            "meta",
            "repository",
            "accounts",
            "tokens",
            "providers",
            "access",
            "config",
        ],
    ),
    ("admin", &["oci", "clock", "blobs", "meta", "repository", "accounts", "tokens", "access", "registry"]),
    (
        "http",
        &[
            "oci",
            "clock",
            "metrics",
            "blobs",
            "meta",
            "repository",
            "accounts",
            "tokens",
            "providers",
            "access",
            "route",
            "config",
            "registry",
        ],
    ),
    ("server", &["oci", "clock", "metrics", "repository", "admin", "config", "registry", "http"]),
    ("cli", &["oci", "append", "outgoing", "accounts", "admin", "access", "config", "registry", "server"]),
    ("filling", &["oci", "clock", "blobs", "meta"]),
    ("fuzzing", &["oci", "repository", "tokens", "access", "route", "config", "http"]),
    ("main", &["cli"]),
];

/// Where a module may use another, but only these words of it.
const WORDS: &[(&str, &str, &[&str])] = &[
    // Where files lie, and how one comes to be: the rows are in a file as well.
    ("meta", "blobs", &["Disk", "FaultyDisk", "Operation", "SystemDisk", "Tree"]),
    ("route", "repository", &["ManifestTarget", "ReferrerCursor"]),
    ("route", "access", &["Access", "Action", "Actions", "Requires", "Surface"]),
    // Of the audit file, and for a database of a test.
    ("accounts", "blobs", &["Owner", "SystemDisk", "Tree"]),
    ("tokens", "blobs", &["SystemDisk", "Tree"]),
    ("admin", "blobs", &["Owner", "Tree", "give_to_owner_of_parent"]),
    ("admin", "meta", &["Standing"]),
    // What looks through everything, and not what one repository can do.
    (
        "admin",
        "repository",
        &[
            "BackupError",
            "Delays",
            "Error",
            "HistoryFilter",
            "Recovered",
            "Recovery",
            "Purge",
            "Rehearsed",
            "Scrubbed",
            "Scrubbing",
            "Stores",
            "Transferred",
            "Way",
            "recover",
            "restore",
        ],
    ),
    // What a handler sends, and what error answers are made of; the stores are behind `repository`.
    ("http", "blobs", &["Blob", "Error"]),
    ("http", "meta", &["Error", "Grantee", "GroupRow", "Role", "SettingsRow", "Standing"]),
    // Times come from the accounts; they are only written down here.
    ("http", "clock", &["Timestamp"]),
    // What is done from time to time.
    ("server", "repository", &["Scrubbing"]),
    ("server", "clock", &["Timestamp"]),
    ("fuzzing", "repository", &["ManifestTarget", "fuzz_upload"]),
];

/// Who touches files, by the beginning of the module's path.
const FILES: &[(&str, &str)] = &[
    ("clock", "which start of the machine this is, which the system says in a file"),
    ("blobs", "blobs are files"),
    ("meta", "the files of the database, and its journal"),
    ("repository::import", "reads somebody else's layout"),
    ("config::source", "reads the configuration"),
    ("config::openid", "reads secrets of clients"),
    ("config::check", "looks whether the files exist that the configuration names"),
    ("registry::builder", "makes temporary data directories"),
    ("append", "appends to files of the operator's"),
    ("accounts::audit_file", "looks whether the audit log is a new file, which gets an owner"),
    ("accounts::htpasswd", "reads users from a file of the operator's"),
    ("server::sendfile", "has the kernel send blobs from their files"),
    ("admin::socket", "the socket of local administration is a file"),
    ("admin::directory", "opens the directory that a command names"),
    ("cli::administer", "looks for that socket, and for the database"),
    ("cli::credentials", "reads and writes the files in which docker and podman look for credentials"),
    ("cli::login::terminal", "asks the person at the terminal, which is a file"),
    ("tokens::outside", "reads the keys of an outside token service"),
    ("server::tls", "reads certificates"),
    ("outgoing", "reads the certificates of whom to trust"),
    ("repository::upload::fuzzing", "compares the file of a blob with its model"),
    ("tokens::fuzzing", "makes a database to have a key of its own"),
    ("cli::process", "asks the system what its memory is, which is a file"),
    ("cli::reload", "looks whether the configuration has changed"),
];

/// Who makes paths out of parts.
const PATHS: &[(&str, &str)] = &[
    ("blobs::paths", "the tree under the data directory"),
    ("blobs::foreign", "looks for the files of other registries"),
    ("blobs::transfer", "finds out where a path leads of which a part is not there yet"),
    ("repository::import", "the tree of somebody else's layout"),
    ("cli", "the data directory itself"),
    ("admin::socket", "a short path to the socket"),
    ("admin::directory", "finds a directory that was handed over"),
];

/// What the library shows.
const PUBLIC: &[&str] = &[
    "AccessPolicy",
    "Body",
    "Builder",
    "Error",
    "Registry",
    "RunningRegistry",
    "cli", // for the program; not documented
    "config",
    "filling", // for a benchmark; in no other build
    "fuzzing", // for fuzzers; in no other build
    "oci",
];

const SOURCE_LINES_MAX: usize = 500;
const TEST_LINES_MAX: usize = 600;

/// Fails with everything that is wrong, not only with the first.
fn none(rule: &str, wrong: &[String]) {
    let list = wrong.iter().fold(String::new(), |mut list, line| {
        writeln!(list, "  {line}").unwrap();
        list
    });
    assert!(wrong.is_empty(), "{rule}:\n{list}");
}

fn listed(list: &[(&str, &str)], source: &Source) -> bool {
    let module = source.module.join("::");
    list.iter().any(|(name, _)| module == *name || module.strip_prefix(name).is_some_and(|rest| rest.starts_with("::")))
}

/// The modules of the library, and for what it hands on the module it comes from.
fn root() -> (Vec<String>, Vec<(String, String)>) {
    let lib = Source::all("src").into_iter().find(|source| source.path == "src/lib.rs").unwrap();
    let text = |at: usize| lib.tokens[at].text.clone();
    let modules = (1..lib.tokens.len()).filter(|at| text(at - 1) == "mod").map(text).collect();
    let mut handed = Vec::new();
    for at in (1..lib.tokens.len()).filter(|at| text(at - 1) == "use") {
        let module = text(at);
        let words = (at + 1..).map(text).take_while(|word| word != ";").filter(|word| is_word(word));
        handed.extend(words.map(|word| (word, module.clone())));
    }
    (modules, handed)
}

#[test]
fn no_module_uses_one_above_it() {
    for (at, (module, may)) in LAYERS.iter().enumerate() {
        let below = |used: &str| LAYERS[..at].iter().any(|(name, _)| *name == used);
        assert!(may.iter().all(|used| below(used)), "{module} may use only what stands above it in the table");
    }
    let (modules, handed) = root();
    let (mut wrong, mut edges, mut count) = (Vec::new(), BTreeSet::new(), 0);
    for source in Source::all("src") {
        let Some(from) = source.module.first().cloned() else { continue };
        let (_, may) = LAYERS.iter().find(|(name, _)| *name == from).expect("every module is in the table");
        for found in source.uses() {
            let place = format!("{}:{}", source.path, found.line);
            let first = &found.path[0];
            let handed = handed.iter().find(|(word, _)| word == first).map(|(_, module)| module);
            let Some(to) = modules.iter().find(|module| *module == first).or(handed) else {
                wrong.push(format!(
                    "{place}: {} is neither a module nor handed on by src/lib.rs",
                    found.path.join("::")
                ));
                continue;
            };
            if *to == from {
                continue;
            }
            count += 1;
            edges.insert((from.clone(), to.clone()));
            if !may.contains(&to.as_str()) {
                wrong.push(format!("{place}: {from} must not use {to}"));
            }
            let words = WORDS.iter().find(|(user, used, _)| *user == from && used == to);
            if let (Some((_, _, words)), Some(word)) = (words, found.path.get(1))
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
    let (modules, _) = root();
    let mut documented: Vec<&str> = Vec::new();
    for word in section.split('`').skip(1).step_by(2) {
        if modules.iter().any(|module| module == word) && !documented.contains(&word) {
            documented.push(word);
        }
    }
    let table: Vec<&str> = LAYERS.iter().map(|(module, _)| *module).filter(|module| *module != "main").collect();
    assert_eq!(documented, table, "src/lib.rs lists every module, in the order of the table");
    assert_eq!(modules.len(), table.len(), "every module of the library is in the table");
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
            Some(["use", _, rest @ ..]) => shown.extend(rest.iter().filter(|word| is_word(word))),
            Some(other) => {
                panic!("src/lib.rs has modules and hands words on, and nothing else: pub {}", other.join(" "))
            }
        }
    }
    assert_eq!(shown, PUBLIC.iter().copied().collect());
}

#[test]
fn who_alone_may() {
    let (mut wrong, mut seen) = (Vec::new(), [0; 5]);
    for source in Source::all("src") {
        let top = source.module.first().map_or("lib", String::as_str);
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
            only(0, word == "redb", top == "meta", "only meta names redb");
            let opens = match (word, text(at + 1)) {
                // The type alone is no access: whoever is given an open file may read it.
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
            only(3, now, top == "clock", "only clock reads the wall clock");
            let status = word == "StatusCode";
            only(4, status, matches!(top, "http" | "server" | "cli"), "nothing below http knows a status code");
            let global = matches!(word, "static" | "thread_local");
            // A fuzzer is a function of its input alone, and opening a database for each takes too long.
            if global && source.module.last().is_none_or(|module| module != "fuzzing") {
                wrong.push(format!("{}:{}: {word}: there is no global state", source.path, token.line));
            }
        }
    }
    none("who alone may", &wrong);
    // redb, files, paths, the clock, status codes: a rule that sees nothing holds nothing.
    assert!(seen.iter().zip([15, 15, 9, 1, 20]).all(|(seen, floor)| *seen >= floor), "{seen:?}");
}

#[test]
fn every_file_says_what_it_is_and_is_short() {
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
                wrong.push(format!("{} does not begin with what it is for", source.path));
            }
        }
    }
    none("files", &wrong);
    assert!(files >= 90, "only {files} files were seen");
}
