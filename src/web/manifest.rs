//! The page of one manifest.

use askama::Template;

use super::{Badge, Bytes, Copy, Icon, Instruction, Layout, Markdown, PullCommand, RepositoryFrame, ShortDigest, Time};

/// One manifest with everything about it.
#[derive(Debug, Template)]
#[template(path = "repository/manifest.html")]
pub(crate) struct ManifestPage {
    pub(crate) layout: Layout,
    pub(crate) frame: RepositoryFrame,
    /// The tag or the beginning of the digest.
    pub(crate) reference: String,
    /// The tag of the URL, if there is one.
    pub(crate) tag: Option<String>,
    pub(crate) digest: Copy,
    pub(crate) short: ShortDigest,
    pub(crate) whole_digest: String,
    pub(crate) kind: String,
    pub(crate) badges: Vec<Badge>,
    /// Why a user who may delete tags cannot delete this one.
    pub(crate) undeletable: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) summary: Option<String>,
    pub(crate) size: Option<Bytes>,
    pub(crate) only_here: Option<Bytes>,
    pub(crate) created: Option<Time>,
    pub(crate) pushed: Time,
    pub(crate) pushed_by: Option<String>,
    pub(crate) pulls: u64,
    pub(crate) last_pull: Option<Time>,
    pub(crate) artifact_type: Option<String>,
    pub(crate) media_type: String,
    pub(crate) tags: Vec<String>,
    pub(crate) has_more_tags: bool,
    pub(crate) indexes: Vec<ShortDigest>,
    /// The manifest that this one refers to, and whether it exists.
    pub(crate) subject: Option<(ShortDigest, String, bool)>,
    pub(crate) commands: Vec<PullCommand>,
    /// The platforms of an index.
    pub(crate) platforms: Vec<PlatformLink>,
    pub(crate) chart: Option<ChartView>,
    /// The files of an artifact.
    pub(crate) files: Vec<FileEntry>,
    /// The manifest itself, or the one of the chosen platform.
    pub(crate) image: Option<ImageView>,
    pub(crate) annotations: Vec<(String, Linked)>,
    pub(crate) referrers: Vec<ReferrerEntry>,
    pub(crate) is_part: bool,
    /// The manifest as it was pushed. `None` if it is very large.
    pub(crate) raw: Option<String>,
}

/// A text that is a link if it is the URL of a web page.
#[derive(Clone, Debug, Template)]
#[template(
    source = "{% if self.is_link() %}<a href=\"{{ text }}\" rel=\"nofollow noopener noreferrer\">{{ text }}</a>{% else %}{{ text }}{% endif %}",
    ext = "html"
)]
pub(crate) struct Linked {
    pub(crate) text: String,
}

impl askama::filters::HtmlSafe for Linked {}

impl Linked {
    fn is_link(&self) -> bool {
        super::markdown::is_web(&self.text)
    }
}

/// A manifest that an index lists.
#[derive(Clone, Debug)]
pub(crate) struct PlatformLink {
    pub(crate) name: String,
    pub(crate) href: String,
    pub(crate) size: Option<Bytes>,
    pub(crate) is_current: bool,
    /// Whether the repository has it.
    pub(crate) is_here: bool,
}

/// The parts of an image.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageView {
    pub(crate) layers: Vec<LayerEntry>,
    pub(crate) history: Vec<StepEntry>,
    /// The configuration: a name and its values.
    pub(crate) config: Vec<(&'static str, Vec<String>)>,
    pub(crate) labels: Vec<(String, Linked)>,
    /// Whether the configuration was too long, and is shown in part.
    pub(crate) is_truncated: bool,
}

/// A layer.
#[derive(Clone, Debug)]
pub(crate) struct LayerEntry {
    pub(crate) digest: Option<ShortDigest>,
    /// The URL that downloads it, if the repository has it.
    pub(crate) href: Option<String>,
    pub(crate) size: Bytes,
    pub(crate) media_type: String,
    pub(crate) other_repositories: Vec<String>,
    pub(crate) has_more_repositories: bool,
}

/// A step of a build.
#[derive(Clone, Debug)]
pub(crate) struct StepEntry {
    pub(crate) instruction: Instruction,
    pub(crate) comment: String,
    pub(crate) created: Option<Time>,
    /// The size of its layer, if it made one.
    pub(crate) size: Option<Bytes>,
}

/// A file of an artifact.
#[derive(Clone, Debug)]
pub(crate) struct FileEntry {
    pub(crate) name: String,
    pub(crate) href: Option<String>,
    pub(crate) size: Bytes,
    pub(crate) media_type: String,
}

/// A Helm chart.
#[derive(Clone, Debug)]
pub(crate) struct ChartView {
    pub(crate) metadata: String,
    pub(crate) readme: Markdown,
    /// Why a part is missing.
    pub(crate) problem: Option<&'static str>,
}

/// A manifest that refers to the one of the page.
#[derive(Clone, Debug)]
pub(crate) struct ReferrerEntry {
    pub(crate) kind: String,
    pub(crate) artifact_type: String,
    pub(crate) digest: ShortDigest,
    pub(crate) href: String,
    pub(crate) size: Option<Bytes>,
    pub(crate) created: Option<Time>,
    /// Whether it refers to the entry before it.
    pub(crate) is_nested: bool,
    pub(crate) annotations: Vec<(String, String)>,
}

/// The question before a deletion.
#[derive(Debug, Template)]
#[template(path = "repository/delete.html")]
pub(crate) struct DeletePage {
    pub(crate) layout: Layout,
    pub(crate) frame: RepositoryFrame,
    pub(crate) error: Option<String>,
    pub(crate) title: String,
    /// The URL of the page, to which the form posts.
    pub(crate) action: String,
    /// The page to go back to.
    pub(crate) back: String,
    /// The tags that the form names.
    pub(crate) selected: Vec<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) has_more_tags: bool,
    /// Sentences about the effect.
    pub(crate) effects: Vec<String>,
    /// Manifests that stay: the digest and the reason.
    pub(crate) kept: Vec<(ShortDigest, String)>,
    pub(crate) freed: Option<Bytes>,
    pub(crate) stays: Option<Bytes>,
    /// Some visible repositories that need the rest.
    pub(crate) repositories: Vec<String>,
    /// Until when it can be undone, as an exact time.
    pub(crate) restorable_until: Option<String>,
    /// The name of the page that restores it. `None` if this user may not restore it.
    pub(crate) restored_on: Option<&'static str>,
    /// Why nothing can be deleted.
    pub(crate) blocked: Option<String>,
    /// The name that the user must write, for a whole repository.
    pub(crate) confirm: Option<String>,
    pub(crate) button: &'static str,
}

/// The question before a tag is restored.
#[derive(Debug, Template)]
#[template(path = "repository/restore.html")]
pub(crate) struct RestorePage {
    pub(crate) layout: Layout,
    pub(crate) frame: RepositoryFrame,
    pub(crate) error: Option<String>,
    pub(crate) tag: String,
    pub(crate) digest: String,
    pub(crate) short: Option<ShortDigest>,
    /// The present target of the tag.
    pub(crate) present: Option<ShortDigest>,
}
