//! Pages of two kinds that many changes share: a question before the change, and a secret after it.

use askama::Template;

use super::{Copy, Icon, Layout};

/// The question whether to do something.
#[derive(Debug, Template)]
#[template(path = "confirm.html")]
pub(crate) struct Confirm {
    pub(crate) layout: Layout,
    pub(crate) error: Option<String>,
    pub(crate) paragraphs: Vec<String>,
    /// The text that must be typed in, if the change cannot be undone.
    pub(crate) typed: Option<String>,
    /// The text of the button.
    pub(crate) button: &'static str,
    /// Whether the change takes something away.
    pub(crate) is_dangerous: bool,
    /// The path of this page, which takes the form.
    pub(crate) action: String,
    /// The path of the page to go back to.
    pub(crate) back: String,
}

/// A new secret, which is shown once.
#[derive(Debug, Template)]
#[template(path = "secret.html")]
pub(crate) struct Secret {
    pub(crate) layout: Layout,
    pub(crate) warning: Option<String>,
    pub(crate) what: &'static str,
    pub(crate) shown: Copy,
    pub(crate) commands: Vec<Copy>,
    pub(crate) back: String,
}
