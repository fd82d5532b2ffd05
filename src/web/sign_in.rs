//! The pages where a user signs in and out, and enters the password again.

use askama::Template;

use super::{Copy, Icon, Layout};

/// An identity provider.
#[derive(Clone, Debug)]
pub(crate) struct ProviderLink {
    pub(crate) title: String,
    /// The URL that starts the sign-in.
    pub(crate) path: String,
}

/// The page where a user signs in.
#[derive(Debug, Template)]
#[template(path = "sign-in.html")]
pub(crate) struct SignIn {
    pub(crate) layout: Layout,
    /// Whether all visitors may do everything in repositories without signing in.
    pub(crate) is_open: bool,
    /// Whether there is an account to sign in to.
    pub(crate) has_accounts: bool,
    /// Why the last attempt failed.
    pub(crate) error: Option<String>,
    pub(crate) user: String,
    /// The path of the page to go to.
    pub(crate) next: String,
    pub(crate) providers: Vec<ProviderLink>,
    /// The commands that sign a container client in.
    pub(crate) commands: Vec<Copy>,
}

/// The page that asks for the password again.
#[derive(Debug, Template)]
#[template(path = "confirm-password.html")]
pub(crate) struct ConfirmPassword {
    pub(crate) layout: Layout,
    pub(crate) error: Option<String>,
    pub(crate) user: String,
    pub(crate) next: String,
    /// The provider of a user without a password here.
    pub(crate) provider: Option<ProviderLink>,
}

/// The page that asks whether to sign out.
#[derive(Debug, Template)]
#[template(path = "sign-out.html")]
pub(crate) struct SignOut {
    pub(crate) layout: Layout,
    pub(crate) user: Option<String>,
}

/// The page after the sign-out of a user who is still signed in at an identity provider.
#[derive(Debug, Template)]
#[template(path = "signed-out.html")]
pub(crate) struct SignedOut {
    pub(crate) layout: Layout,
    pub(crate) provider: ProviderLink,
}
