//! The pages of a user's own account: overview, rights, API keys, sessions, clients and password.

use askama::Template;

use super::{Badge, Copy, Icon, Layout, NextPage, Time};

/// The overview of the account.
#[derive(Debug, Template)]
#[template(path = "account/overview.html")]
pub(crate) struct AccountOverview {
    pub(crate) layout: Layout,
    pub(crate) name: String,
    pub(crate) role: Option<Badge>,
    /// Where the password is kept, or the title of the identity provider.
    pub(crate) source: String,
    pub(crate) email: Option<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) created: Option<Time>,
    pub(crate) namespace: Option<String>,
    pub(crate) namespace_note: Option<String>,
    pub(crate) keys: usize,
    pub(crate) sessions: usize,
    pub(crate) clients: usize,
    pub(crate) commands: Vec<Copy>,
}

/// The user's rights, and the rules that grant them.
#[derive(Debug, Template)]
#[template(path = "account/access.html")]
pub(crate) struct AccountAccess {
    pub(crate) layout: Layout,
    /// The name that the user asked about.
    pub(crate) repository: String,
    pub(crate) error: Option<String>,
    pub(crate) explained: Option<Explained>,
    pub(crate) repositories: Vec<AccessRow>,
    pub(crate) pages: NextPage,
}

/// The user's rights in one repository, and the rules that grant them.
#[derive(Clone, Debug)]
pub(crate) struct Explained {
    pub(crate) repository: String,
    pub(crate) actions: Vec<Badge>,
    pub(crate) grants: Vec<GrantRow>,
}

/// A rule, and the actions that it grants.
#[derive(Clone, Debug)]
pub(crate) struct GrantRow {
    pub(crate) rule: String,
    pub(crate) actions: Vec<Badge>,
}

/// A repository with the user's rights.
#[derive(Clone, Debug)]
pub(crate) struct AccessRow {
    pub(crate) name: String,
    pub(crate) url: String,
    /// The URL that explains the rights.
    pub(crate) why: String,
    pub(crate) actions: Vec<Badge>,
}

/// The list of API keys.
#[derive(Debug, Template)]
#[template(path = "account/keys.html")]
pub(crate) struct KeyList {
    pub(crate) layout: Layout,
    /// Whether the operator has turned API keys off.
    pub(crate) off: bool,
    pub(crate) keys: Vec<KeyRow>,
}

/// An API key.
#[derive(Clone, Debug)]
pub(crate) struct KeyRow {
    /// The URL that revokes it.
    pub(crate) revoke: String,
    pub(crate) label: String,
    /// The limits of the key. `None` gives all rights of the user.
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) created: Time,
    pub(crate) expires: Option<Time>,
    pub(crate) is_expired: bool,
    pub(crate) last_used: Option<LastUse>,
}

/// When, from where and by which program something was used last.
#[derive(Clone, Debug)]
pub(crate) struct LastUse {
    pub(crate) at: Time,
    pub(crate) address: Option<String>,
    pub(crate) agent: String,
    /// The program in short.
    pub(crate) program: String,
}

/// The form that creates an API key.
#[derive(Debug, Default, Template)]
#[template(path = "account/new-key.html")]
pub(crate) struct NewKeyForm {
    pub(crate) layout: Layout,
    pub(crate) error: Option<String>,
    pub(crate) label: String,
    /// Whether the key is limited to repositories.
    pub(crate) is_limited: bool,
    /// The patterns, one in a line.
    pub(crate) patterns: String,
    pub(crate) actions: Vec<Choice>,
    pub(crate) lifetimes: Vec<Choice>,
    pub(crate) matching: Option<Matching>,
}

/// An option of a form.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) value: String,
    pub(crate) text: String,
    pub(crate) is_chosen: bool,
}

/// The repositories that the patterns of a new key match.
#[derive(Clone, Debug)]
pub(crate) struct Matching {
    pub(crate) names: Vec<String>,
    /// Whether more repositories match than are shown.
    pub(crate) has_more: bool,
}

/// The list of sessions.
#[derive(Debug, Template)]
#[template(path = "account/sessions.html")]
pub(crate) struct SessionList {
    pub(crate) layout: Layout,
    pub(crate) sessions: Vec<SessionRow>,
}

/// A session.
#[derive(Clone, Debug)]
pub(crate) struct SessionRow {
    pub(crate) id: String,
    pub(crate) is_current: bool,
    pub(crate) created: Time,
    pub(crate) last_used: LastUse,
}

/// The list of clients that keep a refresh token.
#[derive(Debug, Template)]
#[template(path = "account/clients.html")]
pub(crate) struct ClientList {
    pub(crate) layout: Layout,
    pub(crate) clients: Vec<ClientRow>,
}

/// A client with a refresh token.
#[derive(Clone, Debug)]
pub(crate) struct ClientRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: Time,
    pub(crate) last_used: LastUse,
}

/// The form that changes the password.
#[derive(Debug, Template)]
#[template(path = "account/password.html")]
pub(crate) struct PasswordForm {
    pub(crate) layout: Layout,
    pub(crate) error: Option<String>,
    /// Why the user cannot change the password here.
    pub(crate) elsewhere: Option<String>,
    pub(crate) shortest: usize,
}
