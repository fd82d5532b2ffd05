//! Pages that only say something: errors, and the question whether a program may sign in.

use askama::Template;

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
