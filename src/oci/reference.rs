//! [`Tag`] and [`Reference`]: names of a manifest in a repository (distribution-spec, "Pulling manifests").

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{Digest, InvalidDigest};

/// The longest tag, in bytes.
pub const TAG_LENGTH_MAX: usize = 128;

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

super::text_value!(Tag);

/// The suffixes that clients append to a digest for tags that belong to a manifest: none for the list of referrers
/// (distribution-spec, "Referrers Tag Schema"), and those of cosign's signatures, attestations and SBOMs.
const COMPANIONS: [&str; 4] = ["", SIGNATURE, ".att", ".sbom"];
const SIGNATURE: &str = ".sig";
/// How many digits of a digest are in such a tag.
const COMPANION_HEX: usize = 64;

impl Tag {
    /// The tags that clients use for referrers of a manifest.
    pub(crate) fn companions(digest: Digest) -> impl Iterator<Item = Self> {
        let stem = Self::of_referrers(digest);
        COMPANIONS.into_iter().map(move |suffix| Self(format!("{stem}{suffix}").into()))
    }

    /// The tag of the list of referrers of a manifest.
    pub(crate) fn of_referrers(digest: Digest) -> Self {
        let hex = digest.hex();
        Self(format!("{}-{}", digest.algorithm(), hex.get(..COMPANION_HEX).unwrap_or(&hex)).into())
    }

    /// Whether the tag is one under which cosign stores signatures.
    pub(crate) fn is_signature(&self) -> bool {
        self.0.ends_with(SIGNATURE)
    }

    /// The manifest that the tag belongs to. `None` for SHA-512, of which a tag has only a part.
    pub(crate) fn companion_of(&self) -> Option<Digest> {
        let (algorithm, rest) = self.0.split_once('-')?;
        let (hex, suffix) = rest.split_at_checked(COMPANION_HEX)?;
        let is_companion = algorithm == "sha256" && COMPANIONS.contains(&suffix);
        is_companion.then(|| format!("{algorithm}:{hex}").parse().ok()).flatten()
    }
}

impl FromStr for Tag {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let bytes = text.as_bytes();
        let valid = bytes.len() <= TAG_LENGTH_MAX
            && bytes.first().is_some_and(word)
            && bytes.iter().all(|byte| word(byte) || matches!(byte, b'.' | b'-'));
        if valid { Ok(Self(text.into())) } else { Err(InvalidReference::Tag(super::shown(text))) }
    }
}

/// A tag or a digest. Only a digest has a colon.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A manifest by one of its tags.
    Tag(Tag),
    /// A manifest by its digest.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if text.contains(':') {
            text.parse().map(Self::Digest).map_err(InvalidReference::Digest)
        } else {
            text.parse().map(Self::Tag)
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A text is not a [`Reference`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// It has no colon, and is not a tag.
    #[error(
        "invalid tag {0:?}: a tag has at most 128 letters, digits, '.', '_' and '-', and does not begin with '.' or '-'"
    )]
    Tag(String),
    /// It has a colon, and is not a digest.
    #[error(transparent)]
    Digest(InvalidDigest),
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_of_the_specification() {
        let longest = "a".repeat(TAG_LENGTH_MAX);
        for tag in ["latest", "1.0", "_", "A", "v1.2.3-rc.1_x", "sha256-abc.sig", longest.as_str()] {
            assert_eq!(tag.parse::<Reference>().map(|r| r.to_string()), Ok(tag.to_owned()));
        }
        let too_long = "a".repeat(TAG_LENGTH_MAX + 1);
        for tag in ["", ".", "-", ".a", "-a", "a b", "a/b", "ä", "a\0", "a+b", "a@b", too_long.as_str()] {
            assert!(tag.parse::<Reference>().is_err(), "{tag:?} was accepted");
        }
    }

    #[test]
    fn companions_of_a_manifest_have_its_digest_in_their_name() {
        let digest: Digest = format!("sha256:{}", "a1".repeat(32)).parse().unwrap();
        let companions: Vec<_> = Tag::companions(digest).collect();
        assert_eq!(companions.len(), 4);
        for companion in &companions {
            assert_eq!(companion.as_str().parse::<Tag>().as_ref(), Ok(companion));
            assert_eq!(companion.companion_of(), Some(digest), "{companion}");
        }
        let hex = "a1".repeat(32);
        for other in ["latest", "sha256-abc.sig", &format!("sha256-{hex}.sig2"), &format!("sha256-{}", &hex[1..])] {
            assert_eq!(other.parse::<Tag>().unwrap().companion_of(), None, "{other}");
        }
        let long: Digest = format!("sha512:{}", "b2".repeat(64)).parse().unwrap();
        assert!(Tag::companions(long).all(|tag| tag.as_str().parse::<Tag>().is_ok() && tag.companion_of().is_none()));
    }

    #[test]
    fn a_colon_makes_it_a_digest() {
        assert!(matches!("latest:1".parse::<Reference>(), Err(InvalidReference::Digest(_))));
        let digest = Digest::of(super::super::Algorithm::Sha256, b"");
        assert_eq!(digest.to_string().parse(), Ok(Reference::Digest(digest)));
    }
}
