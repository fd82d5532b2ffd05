//! [`Platforms`]: the platforms whose images scheduled synchronisation fetches.
//!
//! An index stays as it is. Its other images are fetched when a client requests them by digest. Pure: knows no store and no
//! request.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use serde::Deserialize;

use crate::oci::Digest;

/// The annotation with which BuildKit links an attestation to its image.
const ATTESTED_IMAGE: &str = "vnd.docker.reference.digest";
/// The platform of something that is no image, such as an attestation.
const UNKNOWN: &str = "unknown";

/// The wanted platforms. An empty list wants all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Platforms(Vec<Platform>);

/// A platform as in `linux/arm/v7`. Without a variant, all variants are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// A text is no platform.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a platform, such as linux/amd64 or linux/arm/v7")]
pub(crate) struct InvalidPlatform(String);

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let is_word = |word: &&str| {
            !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
        };
        let words: Vec<&str> = text.split('/').filter(is_word).collect();
        let variant = match &words[..] {
            [_, _] => None,
            [_, _, variant] => Some((*variant).to_owned()),
            _ => return Err(InvalidPlatform(text.to_owned())),
        };
        if words.len() != text.split('/').count() {
            return Err(InvalidPlatform(text.to_owned()));
        }
        Ok(Self { os: words[0].to_owned(), architecture: words[1].to_owned(), variant })
    }
}

/// The used fields of an index.
#[derive(Deserialize)]
struct Index {
    manifests: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    digest: String,
    platform: Option<Found>,
    annotations: Option<BTreeMap<String, Option<String>>>,
}

/// The platform of an entry. Fields may be missing.
#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    fn matches(&self, found: &Found) -> bool {
        self.os == found.os
            && self.architecture == found.architecture
            && self.variant.as_ref().is_none_or(|wanted| {
                Some(wanted) == found.variant.as_ref() || {
                    // arm64 has one variant in use, which most images leave out.
                    found.variant.is_none() && self.architecture == "arm64" && wanted == "v8"
                }
            })
    }
}

impl Platforms {
    pub(crate) fn parse(texts: &[String]) -> Result<Self, InvalidPlatform> {
        texts.iter().map(|text| text.parse()).collect::<Result<_, _>>().map(Self)
    }

    /// The wanted entries of an index. An entry without a platform is wanted, and an attestation if its image is.
    pub(super) fn select(&self, index: &[u8]) -> Selection {
        if self.0.is_empty() {
            return Selection::All;
        }
        let entries = serde_json::from_slice::<Index>(index).ok().and_then(|index| index.manifests);
        let Some(entries) = entries else { return Selection::All };
        let image_is_wanted: HashMap<&str, bool> = entries
            .iter()
            .filter_map(|entry| {
                let found = entry.platform.as_ref().filter(|found| found.os != UNKNOWN)?;
                Some((entry.digest.as_str(), self.0.iter().any(|platform| platform.matches(found))))
            })
            .collect();
        let is_wanted = |entry: &Entry| {
            let image = entry.annotations.as_ref().and_then(|all| all.get(ATTESTED_IMAGE)?.as_deref());
            let key = image.unwrap_or(&entry.digest);
            image_is_wanted.get(key).copied().unwrap_or(true)
        };
        Selection::Some(
            entries.iter().filter(|entry| is_wanted(entry)).filter_map(|entry| entry.digest.parse().ok()).collect(),
        )
    }
}

/// The wanted entries of an index.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Selection {
    All,
    Some(Vec<Digest>),
}

impl Selection {
    pub(super) fn has(&self, digest: Digest) -> bool {
        match self {
            Self::All => true,
            Self::Some(digests) => digests.contains(&digest),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    fn digest(name: &str) -> Digest {
        Digest::of(Algorithm::Sha256, name.as_bytes())
    }

    fn index() -> Vec<u8> {
        let entry = |name: &str, platform: serde_json::Value, of: Option<&str>| {
            serde_json::json!({
                "digest": digest(name).to_string(), "platform": platform,
                "annotations": of.map(|of| serde_json::json!({ ATTESTED_IMAGE: digest(of).to_string() })),
            })
        };
        let platform = |os: &str, architecture: &str, variant: Option<&str>| serde_json::json!({ "os": os, "architecture": architecture, "variant": variant });
        let manifests = [
            entry("amd64", platform("linux", "amd64", None), None),
            entry("v6", platform("linux", "arm", Some("v6")), None),
            entry("v7", platform("linux", "arm", Some("v7")), None),
            entry("arm64", platform("linux", "arm64", None), None),
            entry("windows", platform("windows", "amd64", None), None),
            entry("of amd64", platform("unknown", "unknown", None), Some("amd64")),
            entry("of v7", platform("unknown", "unknown", None), Some("v7")),
            entry("chart", serde_json::Value::Null, None),
        ];
        serde_json::to_vec(&serde_json::json!({ "schemaVersion": 2, "manifests": manifests })).unwrap()
    }

    #[test]
    fn the_wanted_images_come_with_their_attestations() {
        for (wanted, expected) in [
            (&["linux/amd64"][..], &["amd64", "of amd64", "chart"][..]),
            (&["linux/arm"], &["v6", "v7", "of v7", "chart"]),
            (&["linux/arm/v7", "windows/amd64"], &["v7", "windows", "of v7", "chart"]),
            (&["linux/arm64/v8"], &["arm64", "chart"]),
            (&["linux/s390x"], &["chart"]),
        ] {
            let platforms = Platforms::parse(&wanted.iter().map(|&text| text.to_owned()).collect::<Vec<_>>()).unwrap();
            let expected = expected.iter().map(|name| digest(name)).collect();
            assert_eq!(platforms.select(&index()), Selection::Some(expected), "{wanted:?}");
        }
        assert_eq!(Platforms::default().select(&index()), Selection::All);
    }

    #[test]
    fn other_texts_are_no_platforms() {
        for text in ["", "linux", "linux/", "linux//v7", "linux/arm/v7/x", "Linux/amd64", "linux/amd 64"] {
            assert!(Platforms::parse(&[text.to_owned()]).is_err(), "{text:?}");
        }
    }
}
