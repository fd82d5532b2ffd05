//! Rust source as words: enough of a lexer to find paths, and none of comments or texts.

use std::path::Path;

/// A word, a sign, or a literal.
#[derive(Clone, Debug)]
pub struct Token {
    /// As it is written; a text literal as a quote and its content, so that it is no word.
    pub text: String,
    pub line: usize,
    /// Whether only tests are compiled with it.
    pub test: bool,
    /// In how many inline modules it is.
    inline: usize,
}

/// A source file.
#[derive(Debug)]
pub struct Source {
    /// Relative to the package.
    pub path: String,
    /// Where its module is; empty for the root of the library.
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
        let mut tokens = lex(&text);
        mark(&mut tokens);
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

    /// Every path that begins at the root: by `crate::`, by as many `super::` as lead there, or, in a
    /// program, by the library's name.
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

    /// The paths of a tree of paths, and where it ends.
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

fn lex(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let (mut tokens, mut index, mut line) = (Vec::new(), 0, 1);
    while index < chars.len() {
        let start = index;
        let from = line;
        index = match (at(index), at(index + 1)) {
            ('/', '/') => (index..chars.len()).find(|index| at(*index) == '\n').unwrap_or(chars.len()),
            ('/', '*') => block_comment(&chars, index),
            ('"', _) => string(&chars, index, '"'),
            ('r', '"' | '#') if raw(&chars, index + 1).is_some() => raw(&chars, index + 1).unwrap(),
            ('b', 'r') if raw(&chars, index + 2).is_some() => raw(&chars, index + 2).unwrap(),
            ('b' | 'c', '"') => string(&chars, index + 1, '"'),
            ('\'', '\\') => string(&chars, index, '\''),
            ('\'', _) if at(index + 2) == '\'' => index + 3,
            (':', ':') => index + 2,
            (c, _) if c.is_alphanumeric() || matches!(c, '_' | '\'') => {
                let length = chars[index + 1..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
                index + 1 + length
            }
            _ => index + 1,
        };
        let text: String = chars[start..index].iter().collect();
        line += text.matches('\n').count();
        if text.trim().is_empty() || text.starts_with("//") || text.starts_with("/*") {
            continue;
        }
        let text = text.find('"').map_or(text.clone(), |quote| text[quote..].to_owned());
        tokens.push(Token { text, line: from, test: false, inline: 0 });
    }
    tokens
}

/// The end of a literal that begins with a quote.
fn string(chars: &[char], mut index: usize, quote: char) -> usize {
    index += 1;
    while chars[index] != quote {
        index += if chars[index] == '\\' { 2 } else { 1 };
    }
    index + 1
}

/// The end of a raw text literal, if there is one behind its `r`.
fn raw(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start..].iter().take_while(|c| **c == '#').count();
    if chars.get(start + hashes) != Some(&'"') {
        return None;
    }
    let mut end = vec!['"'];
    end.resize(1 + hashes, '#');
    let content = start + hashes + 1;
    let length = chars[content..].windows(end.len()).position(|window| *window == end[..])?;
    Some(content + length + end.len())
}

fn block_comment(chars: &[char], mut index: usize) -> usize {
    let mut depth = 0;
    loop {
        match (chars[index], chars[index + 1]) {
            ('/', '*') => (depth, index) = (depth + 1, index + 2),
            ('*', '/') => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
        if depth == 0 {
            return index;
        }
    }
}

/// Notes what is only for tests, and what is in inline modules.
fn mark(tokens: &mut [Token]) {
    const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    // For each open brace: whether it belongs to an inline module, and to a test.
    let mut open: Vec<(bool, bool)> = Vec::new();
    let mut announced = false;
    for at in 0..tokens.len() {
        let here = &tokens[at..];
        announced |= here.len() > 7 && here.iter().zip(CFG_TEST).all(|(token, text)| token.text == text);
        let in_test = announced || open.last().is_some_and(|(_, test)| *test);
        match tokens[at].text.as_str() {
            "{" => {
                let module = at >= 2 && tokens[at - 2].text == "mod";
                open.push((module, in_test));
                announced = false;
            }
            "}" => {
                open.pop();
            }
            ";" => announced = false,
            _ => {}
        }
        tokens[at].test = in_test;
        tokens[at].inline = open.iter().filter(|(module, _)| *module).count();
    }
}
