//! [`Action`] and [`Actions`]: what can be done with a repository.

use std::fmt;
use std::ops::BitOr;

/// What can be done with a repository. `pull`, `push` and `delete` are the token specification's words;
/// that moving a tag is something else than making one, zot's policies say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Action {
    /// Read everything in it.
    Pull = 1,
    /// Add content and new tags (zot's `create`).
    Push = 1 << 1,
    /// Point an existing tag at something else (zot's `update`).
    Update = 1 << 2,
    /// Remove tags, manifests and blobs.
    Delete = 1 << 3,
    /// Say who may do what in it, who may see it, and remove it.
    Administer = 1 << 4,
    /// See who may do what in it.
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
    /// What a push may need: whether one moves a tag or makes it is known only when it is done.
    pub(crate) const PUSH: Self = Self::of(Action::Push).and(Self::of(Action::Update));
    /// Everything that clients of `/v2/` do.
    pub(crate) const CONTENT: Self = Self::PULL.and(Self::PUSH).and(Self::DELETE);
    pub(crate) const INSPECT: Self = Self::of(Action::Inspect);
    pub(crate) const ALL: Self = Self::CONTENT.and(Self::ADMINISTER).and(Self::INSPECT);

    /// Not a right, but zot's wish to be refused the deletion of a manifest that several tags name.
    pub(crate) const DETECT_COLLISION: Self = Self(1 << 7);

    pub(crate) const fn of(action: Action) -> Self {
        Self(action as u8)
    }

    pub(crate) const fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// What is in both.
    pub(crate) const fn within(self, bound: Self) -> Self {
        Self(self.0 & bound.0)
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn has(self, action: Action) -> bool {
        self.0 & action as u8 != 0
    }

    /// Whether every action of `other` is here.
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
