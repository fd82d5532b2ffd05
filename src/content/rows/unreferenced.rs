//! [`Unreferenced`]: in what ways something in a repository is unreferenced.

/// In what way something is unreferenced. The numbers stand in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Unreferenced {
    /// A repository's link to a blob that none of its manifests needs.
    Link = 1,
    /// A manifest that no tag and no index names, and no tag did lately.
    Manifest = 2,
    /// A manifest that is gone and has referrers: they are to be looked at.
    Subject = 3,
    /// A manifest whose subject is gone.
    Referrer = 4,
}

impl Unreferenced {
    const ALL: [Self; 4] = [Self::Link, Self::Manifest, Self::Subject, Self::Referrer];

    pub(super) const fn number(self) -> u8 {
        self as u8
    }

    pub(super) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}
