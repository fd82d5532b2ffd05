//! Content for benchmarks: noise that differs in its first bytes, so that it is cheap to make and to compare.

use sha2::{Digest as _, Sha256};

/// It stays in the processor's cache, where comparing costs least.
const BLOCK: usize = 64 << 10;

/// A blob of its own among all others.
pub(crate) struct Content {
    length: usize,
    first: [u8; 16],
    digest: String,
}

/// A block of noise, which content repeats.
pub(crate) struct Noise(Vec<u8>);

impl Noise {
    pub(crate) fn new() -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let words = (0..BLOCK / 8).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        Self(words.collect())
    }

    /// The bytes of a content, a piece at a time.
    pub(crate) fn pieces<'a>(&'a self, content: &'a Content) -> impl Iterator<Item = &'a [u8]> {
        let rest = (16..content.length).step_by(BLOCK).map(move |from| &self.0[..BLOCK.min(content.length - from)]);
        std::iter::once(&content.first[..content.length.min(16)]).chain(rest)
    }

    pub(crate) fn content(&self, length: usize, name: (usize, usize, usize)) -> Content {
        let mut first = [0; 16];
        first[..4].copy_from_slice(&u32::try_from(name.0).unwrap().to_le_bytes());
        first[4..8].copy_from_slice(&u32::try_from(name.1).unwrap().to_le_bytes());
        first[8..].copy_from_slice(&name.2.to_le_bytes());
        let mut content = Content { length, first, digest: String::new() };
        let mut hasher = Sha256::new();
        for piece in self.pieces(&content) {
            hasher.update(piece);
        }
        content.digest = format!("sha256:{}", hex::encode(hasher.finalize()));
        content
    }

    /// Compares what has come with what it should be; `at` is where in the content it begins.
    pub(crate) fn check(&self, content: &Content, mut at: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let wanted = if at < 16 { &content.first[at..] } else { &self.0[(at - 16) % BLOCK..] };
            let count = wanted.len().min(bytes.len());
            assert!(bytes[..count] == wanted[..count], "other bytes have come back");
            bytes = &bytes[count..];
            at += count;
        }
    }
}

/// The digest of bytes that are all in memory.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

impl Content {
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }
}
