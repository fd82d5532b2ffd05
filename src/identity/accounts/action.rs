//! [`Action`] and [`Actions`]: the operations on a repository that can be granted.

use std::fmt;
use std::ops::BitOr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An operation on a repository. `pull`, `push` and `delete` are the token specification's words. zot's policies
/// distinguish moving a tag from creating one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub(crate) enum Action {
    /// Read all of its content.
    Pull = 1,
    /// Add content and new tags (zot's `create`).
    Push = 1 << 1,
    /// Point an existing tag at something else (zot's `update`).
    Update = 1 << 2,
    /// Remove tags, manifests and blobs.
    Delete = 1 << 3,
    /// Change its permissions and visibility, and remove it.
    Administer = 1 << 4,
    /// See its permissions.
    Inspect = 1 << 5,
}

impl Action {
    pub(crate) const ALL: [Self; 6] =
        [Self::Pull, Self::Push, Self::Update, Self::Delete, Self::Administer, Self::Inspect];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Administer => "administer",
            Self::Inspect => "inspect",
        }
    }
}

/// A set of [`Action`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Actions(u8);

impl Actions {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const PULL: Self = Self::of(Action::Pull);
    pub(crate) const DELETE: Self = Self::of(Action::Delete);
    pub(crate) const ADMINISTER: Self = Self::of(Action::Administer);
    /// The actions that a push may need. Whether it moves or creates a tag is known only later.
    pub(crate) const PUSH: Self = Self::of(Action::Push).and(Self::of(Action::Update));
    /// All actions of clients of `/v2/`.
    pub(crate) const CONTENT: Self = Self::PULL.and(Self::PUSH).and(Self::DELETE);
    pub(crate) const INSPECT: Self = Self::of(Action::Inspect);
    pub(crate) const ALL: Self = Self::CONTENT.and(Self::ADMINISTER).and(Self::INSPECT);

    /// Not a right: zot's option to refuse the deletion of a manifest that several tags name.
    pub(crate) const DETECT_COLLISION: Self = Self(1 << 7);

    pub(crate) const fn of(action: Action) -> Self {
        Self(action as u8)
    }

    pub(crate) const fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// The intersection of both sets.
    pub(crate) const fn within(self, bound: Self) -> Self {
        Self(self.0 & bound.0)
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn has(self, action: Action) -> bool {
        self.0 & action as u8 != 0
    }

    /// The actions one by one.
    pub(crate) fn list(self) -> Vec<Action> {
        Action::ALL.into_iter().filter(|action| self.has(*action)).collect()
    }

    /// Whether the set contains every action of `other`.
    pub(crate) const fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Actions {
    type Output = Self;

    fn bitor(self, more: Self) -> Self {
        self.and(more)
    }
}

impl fmt::Display for Actions {
    /// `pull,push`; `-` for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        let mut between = "";
        for action in Action::ALL.into_iter().filter(|action| self.has(*action)) {
            write!(f, "{between}{}", action.as_str())?;
            between = ",";
        }
        Ok(())
    }
}
