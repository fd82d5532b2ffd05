//! Small parts of pages: badges, icons, commands to copy, and the link to the next page of a list.
//!
//! A part is shown by naming it in a template: `{{ part }}`. Its own template escapes its texts.

use askama::Template;
use askama::filters::HtmlSafe;

/// The colour of a badge or of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Accent,
    Good,
    Warning,
    Bad,
}

impl Tone {
    const fn class(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Accent => " accent",
            Self::Good => " good",
            Self::Warning => " warning",
            Self::Bad => " bad",
        }
    }
}

/// One or two words about a thing, such as `signed` or `expired`.
#[derive(Clone, Debug, Template)]
#[template(source = "<span class=\"badge{{ tone.class() }}\">{{ text }}</span>", ext = "html")]
pub(crate) struct Badge {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

impl HtmlSafe for Badge {}

impl Badge {
    pub(crate) fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

/// A text to copy, such as a command. The script adds the button's function, and hides the button without one.
#[derive(Clone, Debug, Template)]
#[template(path = "part/copy.html")]
pub(crate) struct Copy {
    /// Describes the text to users of screen readers.
    pub(crate) label: String,
    pub(crate) text: String,
}

impl HtmlSafe for Copy {}

impl Copy {
    pub(crate) fn new(label: impl Into<String>, text: impl Into<String>) -> Self {
        Self { label: label.into(), text: text.into() }
    }
}

/// A step of the way to a page: its name and, except for the last, its path.
#[derive(Clone, Debug)]
pub(crate) struct Crumb {
    pub(crate) name: String,
    pub(crate) path: Option<String>,
}

/// The link to the next page of a list.
#[derive(Clone, Debug, Template)]
#[template(path = "part/next.html")]
pub(crate) struct NextPage {
    /// The URL of the next page, if there is one.
    pub(crate) next: Option<String>,
    /// The URL of the first page, if this is another one.
    pub(crate) first: Option<String>,
}

impl HtmlSafe for NextPage {}

/// A drawing next to a text. It carries no meaning of its own, so screen readers skip it.
#[derive(Clone, Copy, Debug, Template)]
#[template(path = "part/icon.html")]
pub(crate) enum Icon {
    Logo,
    Search,
    Box,
    Key,
    Person,
    People,
    Clock,
    Shield,
    Warning,
    Check,
    Device,
    List,
    Tag,
    Layers,
    Folder,
}

impl HtmlSafe for Icon {}
