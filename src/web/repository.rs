//! The pages of one repository: its tags, manifests without a tag, history, description and settings.

use askama::Template;

use super::{Badge, Bytes, Choice, Copy, Crumb, Icon, Layout, Markdown, NextPage, PullCommand, ShortDigest, Time};

/// The head of every page of a repository.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a state or a right that the page shows")]
pub(crate) struct RepositoryFrame {
    pub(crate) name: String,
    pub(crate) crumbs: Vec<Crumb>,
    pub(crate) is_public: bool,
    /// The source of mirrored content.
    pub(crate) mirror: Option<Source>,
    /// The word of the page in the URL, for the tabs. Empty for the tags.
    pub(crate) tab: &'static str,
    pub(crate) may_push: bool,
    pub(crate) may_delete: bool,
    pub(crate) may_administer: bool,
}

/// The source of a repository that mirrors another registry.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The repository with its host.
    pub(crate) name: String,
    pub(crate) fetched: Option<Time>,
}

impl RepositoryFrame {
    /// The tabs: the word in the URL, and the name.
    pub(super) fn tabs(&self) -> Vec<(&'static str, &'static str)> {
        let mut tabs = vec![("", "Tags"), ("history", "History"), ("untagged", "Untagged")];
        if self.may_push {
            tabs.push(("deleted", "Deleted"));
        }
        if self.may_administer {
            tabs.push(("settings", "Settings"));
        }
        tabs
    }
}

/// The tags of a repository.
#[derive(Debug, Template)]
#[template(path = "repository/tags.html")]
pub(crate) struct TagsPage {
    pub(crate) layout: Layout,
    pub(crate) frame: RepositoryFrame,
    pub(crate) description: Markdown,
    /// Whether the description is long, and is shown when the user opens it.
    pub(crate) is_long: bool,
    /// The totals: a name and a value.
    pub(crate) figures: Vec<Figure>,
    pub(crate) pull: Option<PullCommand>,
    pub(crate) part: String,
    /// The orders: the word in the URL, the name, and whether it is the order of the list.
    pub(crate) orders: Vec<(&'static str, &'static str, bool)>,
    /// Why the list has another order than the user wanted.
    pub(crate) order_note: Option<String>,
    pub(crate) tags: Vec<TagEntry>,
    pub(crate) pages: NextPage,
    pub(crate) is_cut_off: bool,
    /// Whether retention removes nothing, although there are rules.
    pub(crate) is_retention_dry: bool,
    /// The commands that push a first image, for an empty list.
    pub(crate) first_push: Vec<Copy>,
}

/// A number about a repository.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: FigureValue,
}

/// The value of a figure.
#[derive(Clone, Debug, Template)]
#[template(
    source = "{% match self %}{% when Self::Bytes with (bytes) %}{{ bytes }}{% when Self::BytesOf with (used, limit) %}{{ used }} of {{ limit }}{% when Self::Time with (time) %}{{ time }}{% when Self::Count with (count) %}{{ count }}{% when Self::Text with (text) %}{{ text }}{% endmatch %}",
    ext = "html"
)]
pub(crate) enum FigureValue {
    Bytes(Bytes),
    /// A part of a limit.
    BytesOf(Bytes, Bytes),
    Time(Time),
    Count(u64),
    Text(String),
}

impl askama::filters::HtmlSafe for FigureValue {}

/// A tag in a list.
#[derive(Clone, Debug)]
pub(crate) struct TagEntry {
    pub(crate) tag: String,
    pub(crate) digest: ShortDigest,
    pub(crate) href: String,
    pub(crate) badges: Vec<Badge>,
    pub(crate) platforms: Vec<String>,
    /// The number of platforms that are not named.
    pub(crate) more_platforms: usize,
    pub(crate) size: Option<Bytes>,
    pub(crate) only_here: Option<Bytes>,
    pub(crate) moved: Time,
    pub(crate) pushed_by: Option<String>,
    pub(crate) pulls: u64,
    pub(crate) last_pull: Option<Time>,
    pub(crate) expires: Option<Time>,
    /// For a user who may delete tags, if there are rules.
    pub(crate) retention: Option<TagRetention>,
}

/// The decision of the next retention run about a tag.
#[derive(Clone, Debug)]
pub(crate) struct TagRetention {
    pub(crate) goes: bool,
    pub(crate) reason: String,
    /// Until when the tag stays at least.
    pub(crate) until: Option<Time>,
    /// The key of the rule that decided.
    pub(crate) rule: String,
}

/// Manifests without a tag.
#[derive(Debug, Template)]
#[template(path = "repository/untagged.html")]
pub(crate) struct UntaggedList {
    pub(crate) layout: Layout,
    pub(crate) frame: RepositoryFrame,
    pub(crate) manifests: Vec<UntaggedEntry>,
    pub(crate) pages: NextPage,
}

/// A manifest without a tag.
#[derive(Clone, Debug)]
pub(crate) struct UntaggedEntry {
    pub(crate) digest: ShortDigest,
    pub(crate) href: String,
    pub(crate) kind: String,
    pub(crate) size: Option<Bytes>,
    pub(crate) pushed: Option<Time>,
    /// Why it is still there.
    pub(crate) reason: &'static str,
    /// The index that lists it, with the URL of its page.
    pub(crate) index: Option<(ShortDigest, String)>,
    pub(crate) since: Option<Time>,
}

/// The history of tags.
#[derive(Debug, Template)]
#[template(path = "repository/history.html")]
pub(crate) struct TagHistory {
    pub(crate) layout: Layout,
    pub(crate) frame: RepositoryFrame,
    /// The tag that the history is limited to.
    pub(crate) tag: String,
    /// Whether there is a history at all.
    pub(crate) is_kept: bool,
    pub(crate) entries: Vec<HistoryRow>,
    pub(crate) pages: NextPage,
}

/// A tag during the time in which it points, or pointed, at one manifest.
#[derive(Clone, Debug)]
pub(crate) struct HistoryRow {
    pub(crate) tag: String,
    pub(crate) digest: ShortDigest,
    /// The URL of the manifest, if it exists.
    pub(crate) href: Option<String>,
    pub(crate) size: Option<Bytes>,
    pub(crate) started: Time,
    pub(crate) ended: Option<Time>,
    pub(crate) is_current: bool,
    pub(crate) is_restored: bool,
    /// The URL that restores it, for a user who may.
    pub(crate) restore: Option<String>,
}

/// Manifests that were deleted by digest.
#[derive(Debug, Template)]
#[template(path = "repository/deleted.html")]
pub(crate) struct DeletedList {
    pub(crate) layout: Layout,
    pub(crate) frame: RepositoryFrame,
    /// Whether deleted manifests are kept at all.
    pub(crate) is_kept: bool,
    pub(crate) manifests: Vec<DeletedEntry>,
    pub(crate) pages: NextPage,
}

/// A manifest that was deleted by digest and can be restored.
#[derive(Clone, Debug)]
pub(crate) struct DeletedEntry {
    pub(crate) digest: ShortDigest,
    pub(crate) media_type: String,
    pub(crate) size: Bytes,
    pub(crate) deleted: Option<Time>,
    pub(crate) until: Option<Time>,
    /// The URL that restores it.
    pub(crate) restore: String,
}

/// The question whether to restore a manifest.
#[derive(Debug, Template)]
#[template(path = "repository/restore-manifest.html")]
pub(crate) struct RestoreManifestPage {
    pub(crate) layout: Layout,
    pub(crate) frame: RepositoryFrame,
    pub(crate) error: Option<String>,
    /// The whole digest.
    pub(crate) digest: String,
    pub(crate) manifest: DeletedEntry,
}

/// The form that changes the description.
#[derive(Debug, Template)]
#[template(path = "repository/description.html")]
pub(crate) struct DescriptionForm {
    pub(crate) layout: Layout,
    pub(crate) frame: RepositoryFrame,
    pub(crate) error: Option<String>,
    pub(crate) description: String,
    pub(crate) preview: Markdown,
    pub(crate) characters_max: usize,
}

/// The settings of a repository.
#[derive(Debug, Template)]
#[template(path = "repository/settings.html")]
pub(crate) struct RepositorySettings {
    pub(crate) layout: Layout,
    pub(crate) frame: RepositoryFrame,
    pub(crate) error: Option<String>,
    /// Whether the repository is set to be public.
    pub(crate) is_set_public: bool,
    /// The users and the groups with a role: the word of the form, the name, and the role.
    pub(crate) roles: Vec<RoleEntry>,
    /// The values of the form that gives a role. After a mistake, they are those of the user.
    pub(crate) kinds: Vec<Choice>,
    pub(crate) grantee: String,
    pub(crate) given_roles: Vec<Choice>,
    pub(crate) owner: Option<String>,
}

/// A user or a group with a role.
#[derive(Clone, Debug)]
pub(crate) struct RoleEntry {
    /// `user` or `group`.
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) role: &'static str,
}
