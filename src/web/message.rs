//! Pages that only say something: errors, the question whether a program may sign in, and the page of that program.

use std::fmt;

use askama::Template;
use askama::filters::HtmlSafe;

use super::asset::Asset;
use super::{Icon, Layout};

/// A page with a title and paragraphs.
#[derive(Debug, Template)]
#[template(path = "message.html")]
pub(crate) struct Message {
    pub(crate) layout: Layout,
    pub(crate) paragraphs: Vec<String>,
    /// The path and the name of the page to go on with.
    pub(crate) way_on: Option<(&'static str, &'static str)>,
}

/// The question whether a program may sign in.
#[derive(Debug, Template)]
#[template(path = "confirm-program.html")]
pub(crate) struct ConfirmProgram {
    pub(crate) layout: Layout,
    pub(crate) host: String,
    pub(crate) user: String,
    /// The namespace of the user.
    pub(crate) namespace: Option<String>,
    /// Why the user has no namespace.
    pub(crate) namespace_note: Option<String>,
    /// The sealed question, which the answer carries.
    pub(crate) question: String,
}

/// A page that a program on the user's computer serves, which has the style in itself.
#[derive(Debug, Template)]
#[template(path = "standalone.html")]
pub(crate) struct Standalone {
    pub(crate) title: &'static str,
    pub(crate) text: &'static str,
}

/// The style of a page that has it in itself. The policy of the page must allow it by its hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style;

impl Style {
    pub(crate) fn text() -> &'static str {
        str::from_utf8(Asset::STYLE.plain).expect("the style is text")
    }
}

impl fmt::Display for Style {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::text())
    }
}

/// A file of this module. A test makes sure that it does not end its element.
impl HtmlSafe for Style {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_style_can_stand_in_a_page() {
        assert!(!Style::text().contains('<') && Style::text().len() > 1000);
        let page = Standalone { title: "Done", text: "a < b" }.to_string();
        assert!(page.contains("<h1>Done</h1>") && page.contains("a &#60; b"), "{page}");
    }
}
