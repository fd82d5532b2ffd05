//! Queries that zot accepts although GraphQL does not: zot's command line writes `__schema() {`.

/// Replaces parentheses with nothing in them by blanks, so that places in errors stay right. Texts and comments are left
/// alone.
pub(super) fn without_empty_parentheses(query: &str) -> String {
    let mut bytes = query.as_bytes().to_vec();
    let (mut at, mut opened) = (0, None);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at = end_of_text(&bytes, at);
                opened = None;
                continue;
            }
            b'#' => {
                at += bytes[at..].iter().take_while(|byte| !matches!(byte, b'\n' | b'\r')).count();
                continue;
            }
            b'(' => opened = Some(at),
            b')' => {
                if let Some(start) = opened.take() {
                    bytes[start] = b' ';
                    bytes[at] = b' ';
                }
            }
            b' ' | b'\t' | b'\n' | b'\r' | b',' => {}
            _ => opened = None,
        }
        at += 1;
    }
    String::from_utf8(bytes).unwrap_or_else(|_| query.to_owned())
}

/// The position after a text that begins at `start`.
fn end_of_text(bytes: &[u8], start: usize) -> usize {
    let quotes: &[u8] = if bytes[start..].starts_with(b"\"\"\"") { b"\"\"\"" } else { b"\"" };
    let mut at = start + quotes.len();
    while at < bytes.len() {
        if bytes[at] == b'\\' {
            at += 2;
        } else if bytes[at..].starts_with(quotes) {
            return at + quotes.len();
        } else {
            at += 1;
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_empty_parentheses_outside_texts_are_removed() {
        for (query, expected) in [
            ("{ __schema() { a } }", "{ __schema   { a } }"),
            ("{a( ,\n){b}}", "{a  ,\n {b}}"),
            ("{a(b:\"()\"){c}}", "{a(b:\"()\"){c}}"),
            ("{a(b:\"\\\"()\"){c()}}", "{a(b:\"\\\"()\"){c  }}"),
            ("{a(b:\"\"\"()\" () \"\"\"){c}}", "{a(b:\"\"\"()\" () \"\"\"){c}}"),
            ("{a # ()\n(b:1)}", "{a # ()\n(b:1)}"),
            ("(\"", "(\""),
            ("\"\\", "\"\\"),
            (")(", ")("),
        ] {
            assert_eq!(without_empty_parentheses(query), expected, "{query}");
        }
    }
}
