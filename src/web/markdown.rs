//! [`Markdown`]: text of users as a part of a page.
//!
//! Invariants: raw HTML is left out. Links go to http and https only, and images are replaced by their alternative text,
//! because an image of another host would tell that host who looks at the page.

use std::fmt::{self, Write as _};

use askama::filters::HtmlSafe;
use pulldown_cmark::{Alignment, CodeBlockKind, CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

/// The longest text that is shown, in bytes.
const BYTES_MAX: usize = 128 * 1024;

/// Text with markup of this module only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Markdown(String);

impl HtmlSafe for Markdown {}

impl fmt::Display for Markdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Markdown {
    /// Reads a text. The rest of a very long one is left out.
    pub(crate) fn new(text: &str) -> Self {
        let text = &text[..text.floor_char_boundary(BYTES_MAX)];
        let parser = Parser::new_ext(text, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH);
        let (mut open, mut shown) = (Open::default(), String::new());
        html::push_html(&mut shown, parser.filter_map(|event| safe(event, &mut open)));
        Self(shown)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The first paragraph of a text without its markup, at most `characters` long.
pub(crate) fn summary(text: &str, characters: usize) -> String {
    let text = &text[..text.floor_char_boundary(BYTES_MAX)];
    let mut summary = String::new();
    for event in Parser::new(text) {
        match event {
            Event::Text(part) | Event::Code(part) => summary.push_str(&part),
            Event::SoftBreak | Event::HardBreak => summary.push(' '),
            Event::End(TagEnd::Paragraph) if !summary.is_empty() => break,
            Event::End(TagEnd::Heading(_)) => summary.clear(),
            _ => {}
        }
    }
    summary.chars().take(characters).collect()
}

/// The links and the sections in which the parser is.
#[derive(Debug, Default)]
struct Open {
    /// Whether each open link is shown.
    links: Vec<bool>,
    /// The levels of the headings above, the outermost first.
    sections: Vec<HeadingLevel>,
}

impl Open {
    /// The level at which a heading is shown. The page and the card that shows the text have the two levels above. No level
    /// between is left out, even if the text begins with a lower one.
    fn heading(&mut self, level: HeadingLevel) -> HeadingLevel {
        while self.sections.last().is_some_and(|above| *above >= level) {
            self.sections.pop();
        }
        self.sections.push(level);
        self.present()
    }

    /// The level at which the last heading is shown.
    const fn present(&self) -> HeadingLevel {
        match self.sections.len() {
            0 | 1 => HeadingLevel::H3,
            2 => HeadingLevel::H4,
            3 => HeadingLevel::H5,
            _ => HeadingLevel::H6,
        }
    }
}

/// The event as it may be shown.
fn safe<'a>(event: Event<'a>, open: &mut Open) -> Option<Event<'a>> {
    let markup = |text: String| Some(Event::InlineHtml(CowStr::from(text)));
    Some(match event {
        Event::Html(_) | Event::InlineHtml(_) => return None,
        Event::Start(Tag::HtmlBlock | Tag::Image { .. }) | Event::End(TagEnd::HtmlBlock | TagEnd::Image) => {
            return None;
        }
        Event::Start(Tag::Link { dest_url, .. }) => {
            let is_shown = is_web(&dest_url);
            open.links.push(is_shown);
            if !is_shown {
                return None;
            }
            return markup(format!("<a href=\"{}\" rel=\"nofollow noopener noreferrer\">", escaped(&dest_url)));
        }
        Event::End(TagEnd::Link) => {
            return if open.links.pop()? { markup("</a>".to_owned()) } else { None };
        }
        Event::Start(Tag::Heading { level, .. }) => {
            Event::Start(Tag::Heading { level: open.heading(level), id: None, classes: Vec::new(), attrs: Vec::new() })
        }
        Event::End(TagEnd::Heading(_)) => Event::End(TagEnd::Heading(open.present())),
        Event::Start(Tag::CodeBlock(_)) => Event::Start(Tag::CodeBlock(CodeBlockKind::Indented)),
        // Alignments would be styles in attributes, which the policy of the pages forbids.
        Event::Start(Tag::Table(columns)) => Event::Start(Tag::Table(vec![Alignment::None; columns.len()])),
        event => event,
    })
}

/// Whether a link goes to a web page.
pub(crate) fn is_web(url: &str) -> bool {
    let lower = url.get(..8).unwrap_or(url).to_ascii_lowercase();
    let has_scheme = lower.starts_with("https://") || lower.starts_with("http://");
    has_scheme && !url.contains(|c: char| c.is_control() || c.is_whitespace())
}

/// A text as the value of an attribute.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' | '<' | '>' | '"' | '\'' => {
                let _ = write!(escaped, "&#{};", u32::from(character));
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_shown() {
        let shown = Markdown::new("# App\n\nAn **app** with `code`, see [site](https://example.com/?a=1&b='2').\n").0;
        assert!(shown.contains("<h3>App</h3>") && shown.contains("<strong>app</strong>"), "{shown}");
        assert!(shown.contains("<a href=\"https://example.com/?a=1&#38;b=&#39;2&#39;\" rel="), "{shown}");
        let shown = Markdown::new("| a | b |\n|:-:|--:|\n| 1 | 2 |\n\n```js onload=x\nf()\n```\n").0;
        assert!(shown.contains("<td>1</td>") && shown.contains("<pre><code>f()"), "{shown}");
    }

    #[test]
    fn no_level_of_headings_is_left_out() {
        for (levels, shown) in [
            ("1 2 3 2", "3 4 5 4"),
            ("2 2 3", "3 3 4"),
            ("4 6 1 3 6 6 2", "3 4 3 4 5 5 4"),
            ("1 2 3 4 5 6", "3 4 5 6 6 6"),
            ("3 2 1", "3 3 3"),
        ] {
            let text: String =
                levels.split(' ').map(|level| "#".repeat(level.parse().unwrap_or(1)) + " x\n\n").collect();
            let expected: Vec<String> = shown.split(' ').map(|level| format!("<h{level}>x</h{level}>\n")).collect();
            assert_eq!(Markdown::new(&text).0, expected.concat(), "{levels}");
        }
    }

    #[test]
    fn nothing_of_a_hostile_text_is_markup() {
        for text in [
            "<script>alert(1)</script>",
            "a <img src=x onerror=alert(1)> b",
            "<div onclick='x'>\n\n**a**\n\n</div>",
            "[a](javascript:alert(1))",
            "[a](JaVaScRiPt:alert(1))",
            "[a](data:text/html,x)",
            "[a](/ui/sign-out)",
            "[a](//evil.example)",
            "[a](https:evil)",
            "[a](<https://x\" onmouseover=\"alert(1)>)",
            "<javascript:alert(1)>",
            "![a](https://evil.example/pixel.png)",
            "![a](javascript:alert(1))",
            "[![a](https://evil.example/x.png)](javascript:x)",
            "[a]: javascript:x\n\n[a]",
            "```\"><script>\nx\n```",
            "&lt;script&gt;alert(1)&lt;/script&gt;",
            "# a {onclick=alert(1) #id .class}",
            "<style>*{display:none}</style>",
            "<!-- --><svg/onload=alert(1)>",
            "| <b onclick=x> |\n|:-:|\n| <i> |",
        ] {
            let shown = Markdown::new(text).0;
            let lower = shown.to_lowercase();
            for bad in [
                "<script",
                "<img",
                "<svg",
                "<style",
                "<div",
                "javascript:",
                "data:",
                "style=",
                "//evil.example\"",
                "href=\"/",
            ] {
                let as_text = bad == "javascript:" || bad == "data:";
                assert!(!lower.contains(bad) || as_text && !lower.contains("<a "), "{text:?} became {shown:?}");
            }
            // Every attribute is one of ours.
            for tag in lower.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or_default()) {
                let is_plain = !tag.contains(' ') && !tag.contains('=');
                let is_link = tag.starts_with("a href=\"http") && tag.matches('"').count() == 4;
                assert!(is_plain || is_link, "{text:?} became {shown:?}");
            }
        }
    }

    #[test]
    fn a_summary_is_the_first_paragraph_as_plain_text() {
        assert_eq!(
            summary("# Title\n\nAn **app** with `code`,\nsee [site](https://a.example).\n\nMore.", 100),
            "An app with code, see site."
        );
        assert_eq!(summary("<b>x</b> y", 3), "x y");
        assert_eq!(summary("", 3), "");
    }

    #[test]
    fn a_very_long_text_is_cut() {
        let shown = Markdown::new(&"\u{e4}".repeat(BYTES_MAX)).0;
        assert!(shown.len() <= BYTES_MAX + 100);
        let deep = Markdown::new(&"> ".repeat(BYTES_MAX / 2)).0;
        assert!(deep.len() < 100 * BYTES_MAX);
    }
}
