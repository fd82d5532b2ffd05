//! [`Layout`]: what every page has around its content.

use std::fmt;

use super::asset::Asset;

/// The frame of a page: its title, the user's menu, and a notice about the last change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    pub(crate) title: String,
    /// The user who is signed in.
    pub(crate) user: Option<User>,
    /// Whether the page has a link to the first page. The pages may be off.
    pub(crate) has_start: bool,
    /// Whether the page has a link to the sign-in page.
    pub(crate) offers_sign_in: bool,
    /// The proof that a form of this page carries. Empty on pages without forms.
    pub(crate) csrf_token: String,
    pub(crate) notice: Option<Notice>,
    /// The text of the search field.
    pub(crate) search: String,
    /// The pages next to this one, if it is one of a group.
    pub(crate) menu: Option<&'static Menu>,
    /// The path of this page or of the page that it belongs to, for the menu.
    pub(crate) place: &'static str,
}

/// The user who is signed in.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) name: String,
    /// Whether the user sees the pages of superusers.
    pub(crate) is_superuser: bool,
}

/// A group of pages.
#[derive(Debug)]
pub(crate) struct Menu {
    pub(crate) name: &'static str,
    pub(crate) entries: &'static [MenuEntry],
}

/// A page of a group.
#[derive(Debug)]
pub(crate) struct MenuEntry {
    pub(crate) path: &'static str,
    pub(crate) name: &'static str,
}

/// A message about a change that a form has just made. A redirect names it by its word, so that no link can put text of
/// its own on a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    word: &'static str,
    text: &'static str,
}

/// Every notice.
const NOTICES: &[(&str, &str)] = &[
    ("signed-out", "You are signed out."),
    ("key-revoked", "The API key is revoked. Programs that use it are refused from now on."),
    ("session-ended", "The session has ended."),
    ("sessions-ended", "All other sessions have ended."),
    ("token-ended", "The client is signed out."),
    ("password-changed", "Your password is changed. Your other sessions have ended."),
    ("user-created", "The user is created."),
    ("user-changed", "The user is changed."),
    ("user-enabled", "The user is enabled."),
    ("user-disabled", "The user is disabled. Passwords, API keys and sessions of the user are refused from now on."),
    ("user-deleted", "The user is deleted, with all API keys and sessions."),
    ("group-created", "The group is created."),
    ("group-changed", "The group is changed."),
    ("group-deleted", "The group is deleted."),
    ("member-added", "The member is added."),
    ("member-removed", "The member is removed."),
    ("collection-started", "Garbage collection has started."),
    ("scrub-started", "The scrub has started."),
    ("collection-stopped", "Garbage collection stops after its current step."),
    ("scrub-stopped", "The scrub stops after its current step."),
    ("saved", "Your change is saved."),
    ("tag-deleted", "The tag is deleted."),
    ("tags-deleted", "The tags are deleted."),
    ("tag-restored", "The tag is restored."),
    ("manifest-deleted", "The manifest is deleted."),
    ("manifest-restored", "The manifest is restored."),
    ("repository-created", "The repository is created."),
    ("repository-deleted", "The repository is deleted."),
    ("role-removed", "The role is removed."),
];

impl Notice {
    /// The notice of a word.
    pub(crate) fn find(word: &str) -> Option<Self> {
        NOTICES.iter().find(|(known, _)| *known == word).map(|&(word, text)| Self { word, text })
    }

    /// The word of the notice in a URL.
    pub(crate) const fn word(self) -> &'static str {
        self.word
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl Layout {
    /// A layout without user, forms and menu.
    pub(crate) fn plain(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// The paths of the files that the page loads, for the template.
    pub(super) const STYLE: &'static str = Asset::STYLE.path;
    pub(super) const SCRIPT: &'static str = Asset::SCRIPT.path;
    pub(super) const ICON: &'static str = Asset::ICON.path;
}
