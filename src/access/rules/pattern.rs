//! Patterns of repository names, taken apart.

/// As many names as are made up for a pattern.
const SAMPLES_MAX: usize = 64;
/// What stands for anything in a made-up name; rare enough not to be in another pattern.
const ANYTHING: &str = "xq";

/// More alternatives than this are not told apart.
const ALTERNATIVES_MAX: usize = 16;
/// What stands for something else in a pattern.
const SIGNS: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];

/// What every name begins with that a pattern fits, and what it ends with. `team/**` fits `team` too.
pub(super) fn literal_ends(pattern: &str) -> (&str, &str) {
    let pattern = pattern.strip_suffix("/**").unwrap_or(pattern);
    match (pattern.find(SIGNS), pattern.rfind(SIGNS)) {
        (Some(first), Some(last)) => {
            let ending = &pattern[last + 1..];
            // `**/` may stand for nothing, slash and all.
            let may_be_nothing = pattern[..=last].ends_with("**");
            let ending = ending.strip_prefix('/').filter(|_| may_be_nothing).unwrap_or(ending);
            (&pattern[..first], ending)
        }
        _ => (pattern, ""),
    }
}

/// The patterns that a pattern with a brace stands for; itself, if there are none or too many.
pub(super) fn alternatives(pattern: &str) -> Vec<String> {
    let Some(at) = pattern.find('{').filter(|at| !pattern[..*at].contains('[')) else {
        return vec![pattern.to_owned()];
    };
    let (choices, used) = choices_of(&pattern[at..]);
    let expanded: Vec<String> = choices
        .iter()
        .flat_map(|choice| alternatives(&format!("{}{choice}{}", &pattern[..at], &pattern[at + used..])))
        .take(ALTERNATIVES_MAX + 1)
        .collect();
    if expanded.len() > ALTERNATIVES_MAX { vec![pattern.to_owned()] } else { expanded }
}

/// Why a text is not a pattern of repository names, if it is none.
pub(crate) fn problem(pattern: &str) -> Option<&'static str> {
    let inside = |c: char| c.is_ascii_alphanumeric() || "/._-*?[]{},!^".contains(c);
    if pattern.is_empty() {
        return Some("a pattern is not empty: ** fits every repository");
    }
    if !pattern.chars().all(inside) || pattern.starts_with('!') {
        return Some("a pattern is made of a repository's characters and of * ** ? [ ] { , }");
    }
    let (mut braces, mut bracket) = (0_u32, false);
    for c in pattern.chars() {
        match c {
            '[' if !bracket => bracket = true,
            ']' => bracket = false,
            '{' if !bracket => braces += 1,
            '}' if !bracket && braces == 0 => return Some("a brace is closed that was not opened"),
            '}' if !bracket => braces -= 1,
            _ => {}
        }
    }
    (bracket || braces > 0).then_some("a bracket or a brace is not closed")
}

/// Names that a pattern fits, one of each kind.
pub(super) fn samples(pattern: &str) -> Vec<String> {
    let mut samples = vec![String::new()];
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let (choices, used) = choices(rest, c);
        samples = samples
            .iter()
            .flat_map(|begun| choices.iter().map(move |choice| format!("{begun}{choice}")))
            .take(SAMPLES_MAX)
            .collect();
        rest = &rest[used..];
    }
    samples
}

/// What may stand for the first element of a pattern, and how long that element is.
fn choices(rest: &str, first: char) -> (Vec<String>, usize) {
    match first {
        '*' if rest.starts_with("**") => (vec![ANYTHING.to_owned(), format!("{ANYTHING}/{ANYTHING}")], 2),
        '*' => (vec![ANYTHING.to_owned()], 1),
        '?' => (vec!["x".to_owned()], 1),
        '[' => {
            let end = rest.find(']').unwrap_or(rest.len() - 1);
            let class = &rest[1..end];
            let negated = class.strip_prefix(['!', '^']);
            let wanted = |c: &char| match negated {
                Some(class) => !class.contains(*c),
                None => class.contains(*c),
            };
            (('a'..='z').chain('0'..='9').find(wanted).map(String::from).into_iter().collect(), end + 1)
        }
        '{' => {
            let (choices, used) = choices_of(rest);
            (choices.into_iter().flat_map(|alternative| samples(&alternative)).collect(), used)
        }
        other => (vec![other.to_string()], 1),
    }
}

/// The alternatives of a pattern that begins with a brace, and where they end.
fn choices_of(rest: &str) -> (Vec<String>, usize) {
    let (mut alternatives, mut depth) = (vec![String::new()], 0);
    for (at, c) in rest.char_indices() {
        match c {
            '{' if depth == 0 => depth = 1,
            '}' if depth == 1 => return (alternatives, at + 1),
            ',' if depth == 1 => alternatives.push(String::new()),
            c => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                if let Some(last) = alternatives.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    (alternatives, rest.len())
}
