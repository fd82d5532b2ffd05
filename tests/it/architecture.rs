//! The rules of the architecture, read from the sources: which module uses which ([`layers`]), which modules access
//! files, paths and the clock, and which dependencies there are. `src/lib.rs` documents them.

mod dependencies;
mod documents;
mod language;
mod layers;
mod source;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use layers::{is_in, layer};
use source::Source;

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

/// The limit for files of the program and of its tests.
const LINES_MAX: usize = 500;

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

/// The root of the library.
fn library() -> Source {
    let path = "src/lib.rs";
    Source::new(path, std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap())
}

#[test]
fn the_library_shows_what_is_listed() {
    let lib = library();
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
        [("src", LINES_MAX), ("tests", LINES_MAX), ("examples", 100), ("fuzz/fuzz_targets", 100)]
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
