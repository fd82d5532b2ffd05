//! The words that plain technical English does without: comments, messages and documents are read once and understood.
//!
//! A word can be permitted in a file, with a reason ([`EXCEPTIONS`]).

use std::path::Path;

use super::source::Source;

/// Words and phrases that hide who does what. In lower case.
const WORDS: &[&str] = &[
    "whoever",
    "whatever",
    "whomever",
    "somebody",
    "nobody",
    "anew",
    "brought",
    "let go of",
    "lets go of",
    "is none",
    "are none",
    "of one's own",
    "that rests",
    "comes to",
    "good for",
    "beside",
];

/// A sentence that begins with one of these puts its subject last.
const BEGINNINGS: &[&str] = &["What", "Who", "Whose", "Of", "With"];

/// Where a word of the list is the right one: the beginning of a path, the word, and the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("tests/it/architecture/language.rs", "", "it names the words that it looks for"),
    ("src/identity/tokens/grant.rs", "nobody", "a value in tokens that are in use"),
    ("tests/it/accounts/routes/callers.rs", "nobody", "the name of a column of routes.txt"),
    ("tests/it/access/hostile.rs", "nobody", "a value in tokens that are in use"),
];

/// The files whose text is checked, besides Rust sources.
const DOCUMENTS: &[&str] = &["README.md", "CHANGELOG.md", "zot-compat.toml", "Cargo.toml", ".ci/run", "docs"];

/// A piece of text that people read, and the line it is on.
struct Piece {
    line: usize,
    text: String,
    /// Whether a sentence begins with it.
    is_beginning: bool,
}

#[test]
fn comments_messages_and_documents_are_in_plain_english() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut wrong, mut texts) = (Vec::new(), 0);
    let mut look = |path: &str, all: Vec<Piece>| {
        texts += all.len();
        for text in all {
            if let Some(word) = objection(path, &text) {
                wrong.push(format!("{path}:{}: {word:?} in: {}", text.line, text.text.trim()));
            }
        }
    };
    for directory in ["src", "tests", "benches", "examples", "fuzz/fuzz_targets"] {
        for source in Source::all(directory) {
            let texts = comments(&source.text).into_iter().chain(messages(&source)).collect();
            look(&source.path, texts);
        }
    }
    for document in DOCUMENTS {
        for path in super::documents::files(document) {
            let text = std::fs::read_to_string(root.join(&path)).unwrap();
            look(&path, lines(&path, &text));
        }
    }
    super::none("plain English", &wrong);
    assert!(texts > 5000, "only {texts} texts were seen");
}

/// The first word of a text that plain English does without.
fn objection(path: &str, text: &Piece) -> Option<String> {
    let excepted = |word: &str| {
        EXCEPTIONS.iter().any(|(file, except, _)| path.starts_with(file) && (except.is_empty() || *except == word))
    };
    let lower = text.text.to_lowercase();
    let word = WORDS.iter().find(|word| !excepted(word) && has_words(&lower, word));
    if let Some(word) = word {
        return Some((*word).to_owned());
    }
    if !text.is_beginning {
        return None;
    }
    let first = text.text.split_whitespace().next()?;
    // A question may begin so.
    let begins = BEGINNINGS.contains(&first) && !text.text.trim_end().ends_with('?') && !excepted(first);
    begins.then(|| first.to_owned())
}

/// Whether a text has a phrase, as whole words.
fn has_words(text: &str, phrase: &str) -> bool {
    let is_edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    text.match_indices(phrase)
        .any(|(at, _)| is_edge(text[..at].chars().next_back()) && is_edge(text[at + phrase.len()..].chars().next()))
}

/// The comments of a Rust source.
fn comments(source: &str) -> Vec<Piece> {
    let mut texts = Vec::new();
    let mut before = false;
    for (number, line) in source.lines().enumerate() {
        let comment = line.trim_start().strip_prefix("//").map(|rest| rest.trim_start_matches(['/', '!']).trim());
        if let Some(text) = comment {
            texts.push(Piece { line: number + 1, text: text.to_owned(), is_beginning: !before });
        }
        before = comment.is_some_and(|text| !text.is_empty() && !text.ends_with(['.', ':']));
    }
    texts
}

/// The text literals of a Rust source.
fn messages(source: &Source) -> Vec<Piece> {
    let literals = source.tokens.iter().filter(|token| token.text.starts_with('"'));
    literals
        .map(|token| Piece { line: token.line, text: token.text.trim_matches('"').to_owned(), is_beginning: false })
        .collect()
}

/// The lines of a document; of a script and a manifest only the comments.
fn lines(path: &str, document: &str) -> Vec<Piece> {
    let only_comments = matches!(path, "Cargo.toml" | ".ci/run");
    let mut texts = Vec::new();
    for (number, line) in document.lines().enumerate() {
        let text = if only_comments { line.split_once('#').map_or("", |(_, comment)| comment) } else { line };
        texts.push(Piece { line: number + 1, text: text.to_owned(), is_beginning: false });
    }
    texts
}
