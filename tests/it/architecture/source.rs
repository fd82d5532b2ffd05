//! Rust source as a flat list of tokens, without comments: enough to find paths and text literals.

use std::path::Path;

use proc_macro2::{Delimiter, Punct, Spacing, TokenStream, TokenTree};

/// A word, a sign, or a literal.
#[derive(Clone, Debug)]
pub struct Token {
    /// As in the source. A text literal begins with its quote, without the `b` or `r` before it.
    pub text: String,
    pub line: usize,
    /// Whether it is compiled only for tests.
    pub test: bool,
    /// The number of inline modules around it.
    inline: usize,
}

/// A source file.
#[derive(Debug)]
pub struct Source {
    /// Relative to the package.
    pub path: String,
    /// The path of its module. Empty for the root of the library.
    pub module: Vec<String>,
    pub text: String,
    pub tokens: Vec<Token>,
}

/// A path that begins at the root of the crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    pub path: Vec<String>,
    pub line: usize,
}

impl Source {
    /// Every Rust file under a directory of the package.
    pub fn all(directory: &str) -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (mut found, mut pending) = (Vec::new(), vec![root.join(directory)]);
        while let Some(directory) = pending.pop() {
            for entry in std::fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    pending.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    found.push(Self::new(path.strip_prefix(root).unwrap().to_str().unwrap(), text));
                }
            }
        }
        found.sort_by(|one, other| one.path.cmp(&other.path));
        // A module in a file of its own is for tests if its declaration is.
        let declared = found.iter().flat_map(Self::test_modules).collect::<Vec<_>>();
        for source in &mut found {
            let test = declared.iter().any(|module| source.module.starts_with(module));
            source.tokens.iter_mut().for_each(|token| token.test |= test);
        }
        found
    }

    pub fn new(path: &str, text: String) -> Self {
        let module = path.trim_end_matches(".rs").split('/').skip(1).filter(|part| *part != "lib");
        let module: Vec<String> = module.map(str::to_owned).collect();
        let stream: TokenStream = text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut tokens = Vec::new();
        flatten(stream, false, 0, &mut tokens);
        Self { path: path.to_owned(), module, text, tokens }
    }

    /// The modules that are declared here, are in files of their own, and are only for tests.
    fn test_modules(&self) -> Vec<Vec<String>> {
        let declared =
            self.tokens.windows(3).filter(|words| words[0].test && words[0].text == "mod" && words[2].text == ";");
        declared.map(|words| [&self.module[..], &[words[1].text.clone()]].concat()).collect()
    }

    /// The tokens that are compiled into the library.
    pub fn shipped(&self) -> Vec<&Token> {
        self.tokens.iter().filter(|token| !token.test).collect()
    }

    /// Every path that begins at the root of the crate: with `crate::`, with as many `super::` as lead there, or with the
    /// name of the library.
    pub fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            let token = &self.tokens[at];
            let depth = self.module.len() + token.inline;
            let (mut next, mut up) = (at, 0);
            while self.is(next, "super") && self.is(next + 1, "::") {
                (next, up) = (next + 2, up + 1);
            }
            let from_root = up > 0 && up == depth;
            let named = matches!(token.text.as_str(), "crate" | "coracle") && self.is(at + 1, "::");
            if named {
                next = at + 2;
            }
            if named || from_root {
                self.expand(next, &[], token.line, &mut uses);
            }
            at = next.max(at + 1);
        }
        uses
    }

    fn is(&self, at: usize, text: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.text == text)
    }

    /// Adds the paths of a tree of paths, and returns the position after it.
    fn expand(&self, at: usize, before: &[String], line: usize, uses: &mut Vec<Use>) -> usize {
        if self.is(at, "{") {
            let mut next = at + 1;
            while !self.is(next, "}") {
                next = if self.is(next, ",") { next + 1 } else { self.expand(next, before, line, uses) };
            }
            return next + 1;
        }
        let mut path = before.to_vec();
        path.push(self.tokens[at].text.clone());
        let follows = self.tokens.get(at + 2).is_some_and(|token| is_word(&token.text) || "{*".contains(&token.text));
        if self.is(at + 1, "::") && follows {
            return self.expand(at + 2, &path, line, uses);
        }
        uses.push(Use { path, line });
        if self.is(at + 1, "as") { at + 3 } else { at + 1 }
    }
}

pub fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Appends the tokens of a stream. Leaves out doc comments, which are attributes to the parser.
fn flatten(stream: TokenStream, in_test: bool, inline: usize, tokens: &mut Vec<Token>) {
    let trees: Vec<TokenTree> = stream.into_iter().collect();
    // Whether the current item has the attribute `#[cfg(test)]`.
    let mut is_test_item = false;
    let mut at = 0;
    while at < trees.len() {
        let (attribute, length) = attribute(&trees[at..]);
        if attribute.starts_with("doc=") {
            at += length;
            continue;
        }
        is_test_item |= attribute == "cfg(test)";
        let test = in_test || is_test_item;
        let mut push = |text: String, line: usize| tokens.push(Token { text, line, test, inline });
        let line = trees[at].span().start().line;
        match (&trees[at], trees.get(at + 1)) {
            (TokenTree::Group(group), _) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Parenthesis | Delimiter::None => ("(", ")"),
                };
                push(open.to_owned(), line);
                let is_module = open == "{" && at >= 2 && trees[at - 2].to_string() == "mod";
                flatten(group.stream(), test, inline + usize::from(is_module), tokens);
                let line = group.span_close().start().line;
                tokens.push(Token { text: close.to_owned(), line, test, inline });
                is_test_item &= open != "{";
            }
            (TokenTree::Punct(first), Some(next)) if is_pair(first, next) => {
                push(format!("{first}{next}"), line);
                at += 1;
            }
            (tree, _) => {
                let word = tree.to_string();
                is_test_item &= word != ";";
                push(word.find('"').map_or(word.clone(), |quote| word[quote..].to_owned()), line);
            }
        }
        at += 1;
    }
}

/// Whether two trees are one token: `::`, or a lifetime.
fn is_pair(first: &Punct, next: &TokenTree) -> bool {
    first.spacing() == Spacing::Joint
        && match next {
            TokenTree::Punct(next) => first.as_char() == ':' && next.as_char() == ':',
            TokenTree::Ident(_) => first.as_char() == '\'',
            _ => false,
        }
}

/// The content of the attribute that begins here, without blanks, and the number of its trees. Empty if none begins here.
fn attribute(trees: &[TokenTree]) -> (String, usize) {
    let is = |at: usize, sign: char| matches!(trees.get(at), Some(TokenTree::Punct(found)) if found.as_char() == sign);
    let length = if is(1, '!') { 3 } else { 2 };
    match trees.get(length - 1) {
        Some(TokenTree::Group(group)) if is(0, '#') && group.delimiter() == Delimiter::Bracket => {
            (group.stream().to_string().replace(' ', ""), length)
        }
        _ => (String::new(), 1),
    }
}
