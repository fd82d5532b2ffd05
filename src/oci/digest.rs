//! [`Digest`]: the address of content (image-spec, descriptor.md, "Digests").

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256, Sha512};

/// The hash functions of digests: the one that the image specification requires, and an optional one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256. Almost all clients use it.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Every supported algorithm.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The registered name. The directory of the blobs has the same name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    const fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The byte for the algorithm in a stored key. It must never change.
    const fn tag(self) -> u8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    fn from_tag(tag: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.tag() == tag)
    }

    /// The first digest in the order of keys that begins with these lower-case hexadecimal digits.
    pub(crate) fn first_with(self, digits: &str) -> Option<Digest> {
        format!("{self}:{digits:0<width$}", width = 2 * self.len()).parse().ok()
    }
}

impl FromStr for Algorithm {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == text)
            .ok_or_else(|| InvalidDigest::new(text, "the supported algorithms are sha256 and sha512"))
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `<algorithm>:<lower-case hex>` of a supported algorithm, with the right number of digits. The text is safe in a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    /// The stored key: the tag of the algorithm, the hash, and zeros.
    key: [u8; 65],
}

impl Digest {
    fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Self {
        let mut key = [0; 65];
        key[0] = algorithm.tag();
        key[1..=algorithm.len()].copy_from_slice(hash);
        Self { algorithm, key }
    }

    /// The digest of bytes that are all in memory.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The hash function of this digest.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hash as lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        self.digits(&mut [0; 128]).to_owned()
    }

    /// Writes the digits into a buffer, because most responses contain digests.
    fn digits<'a>(&self, digits: &'a mut [u8; 128]) -> &'a str {
        let digits = &mut digits[..2 * self.algorithm.len()];
        hex::encode_to_slice(&self.key[1..=self.algorithm.len()], digits)
            .expect("the buffer has two digits for each byte");
        str::from_utf8(digits).expect("digits are ASCII")
    }

    /// The digest as a stored key. Keys have no meaningful order.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key[..=self.algorithm.len()]
    }

    /// Reads a stored key; `None` if it is invalid.
    pub(crate) fn from_key(key: &[u8]) -> Option<Self> {
        let (tag, hash) = key.split_first()?;
        let algorithm = Algorithm::from_tag(*tag)?;
        (hash.len() == algorithm.len()).then(|| Self::from_hash(algorithm, hash))
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let invalid = |why| InvalidDigest::new(text, why);
        let (algorithm, encoded) =
            text.split_once(':').ok_or_else(|| invalid("a digest has the form <algorithm>:<hex>"))?;
        let algorithm =
            Algorithm::from_str(algorithm).map_err(|_| invalid("the supported algorithms are sha256 and sha512"))?;
        if encoded.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(invalid("the hex digits are lower-case"));
        }
        let mut hash = [0; 64];
        let hash = &mut hash[..algorithm.len()];
        hex::decode_to_slice(encoded, hash).map_err(|_| invalid("sha256 has 64 hex digits and sha512 has 128"))?;
        Ok(Self::from_hash(algorithm, hash))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm.as_str())?;
        f.write_str(":")?;
        f.write_str(self.digits(&mut [0; 128]))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Computes a digest while bytes arrive.
#[derive(Clone)]
pub enum Hasher {
    /// SHA-256 so far.
    Sha256(Sha256),
    /// SHA-512 so far.
    Sha512(Sha512),
}

impl Hasher {
    /// Starts with no bytes.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// The hash function this hasher computes.
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// Returns the digest of all bytes.
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::from_hash(Algorithm::Sha256, &hasher.finalize()),
            Self::Sha512(hasher) => Digest::from_hash(Algorithm::Sha512, &hasher.finalize()),
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({})", self.algorithm())
    }
}

/// Why a text is not a [`Digest`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid digest {text:?}: {why}")]
pub struct InvalidDigest {
    text: String,
    why: &'static str,
}

impl InvalidDigest {
    fn new(text: &str, why: &'static str) -> Self {
        Self { text: super::shown(text), why }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const EMPTY_256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_prints_as_it_was_read_and_survives_its_key() {
        let sha512 = Digest::of(Algorithm::Sha512, b"abc").to_string();
        for text in [EMPTY_256, sha512.as_str()] {
            let digest: Digest = text.parse().unwrap();
            assert_eq!(digest.to_string(), text);
            assert_eq!(Digest::from_key(digest.key()), Some(digest));
        }
        assert_eq!(Digest::of(Algorithm::Sha256, b"").to_string(), EMPTY_256);
    }

    #[test]
    fn an_invalid_digest_is_refused() {
        for text in [
            "",
            ":",
            "sha256",
            "sha256:",
            "sha256:abc",
            &EMPTY_256[..EMPTY_256.len() - 1],
            &format!("{EMPTY_256}0"),
            &EMPTY_256.to_uppercase(),
            &EMPTY_256.replace('e', "E"),
            &EMPTY_256.replace('e', "g"),
            &EMPTY_256.replace("sha256", "sha384"),
            &EMPTY_256.replace("sha256", "sha512"),
            &EMPTY_256.replace("sha256", "SHA256"),
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            "sha256:../../../../../../../../../../../../../../../../../../../etc/passwd",
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn a_damaged_key_is_refused() {
        let digest: Digest = EMPTY_256.parse().unwrap();
        assert_eq!(Digest::from_key(&digest.key()[..32]), None);
        assert_eq!(Digest::from_key(&[]), None);
        assert_eq!(Digest::from_key(&[9; 33]), None);
    }
}
