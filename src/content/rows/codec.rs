//! The encoding of rows.
//!
//! A row is one byte for its format, and its fields in postcard's encoding. A new field needs a new format, or
//! [`encode_with`]; rows of older formats stay readable.

use std::fmt::Display;
use std::str::FromStr;

use redb::{Key, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;
use super::transaction::Definition;
use crate::oci::{Algorithm, Digest};

/// The only format so far.
const FORMAT: u8 = 1;

/// The size of a checksum.
pub(super) const CHECKSUM_BYTES: usize = 8;

/// The checksum of a record in a file: the beginning of its SHA-256.
pub(super) fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Digest::of(Algorithm::Sha256, bytes);
    // The first byte of the key is the algorithm.
    digest.key()[1..=CHECKSUM_BYTES].try_into().expect("the slice has this length")
}

/// Encodes a row.
pub(super) fn encode<R: Serialize>(row: &R) -> Vec<u8> {
    postcard::to_extend(row, vec![FORMAT]).expect("rows have plain fields, and a vector grows")
}

/// Decodes a row. Returns `None` if the bytes are not a row.
pub(super) fn decode<R: DeserializeOwned>(bytes: &[u8]) -> Option<R> {
    match bytes.split_first()? {
        (&FORMAT, fields) => postcard::from_bytes(fields).ok(),
        _ => None,
    }
}

/// Decodes a row of a table. An error names its key as `key`.
pub(super) fn row<R: DeserializeOwned, K: Key, V: Value>(
    table: Definition<K, V>,
    bytes: &[u8],
    key: impl Display,
) -> Result<R, Error> {
    decode(bytes).ok_or_else(|| Error::corrupt(table, key))
}

/// Encodes a row and a field that was added later. Earlier programs read the row without the field.
pub(super) fn encode_with<R: Serialize, F: Serialize>(row: &R, field: &F) -> Vec<u8> {
    encode(&(row, field))
}

/// Decodes what [`encode_with`] has encoded. The field of an older row has its default value.
pub(super) fn decode_with<R: DeserializeOwned, F: DeserializeOwned + Default>(bytes: &[u8]) -> Option<(R, F)> {
    decode(bytes).or_else(|| Some((decode(bytes)?, F::default())))
}

/// Reads a digest in a row or a key of a table.
pub(super) fn digest<K: Key, V: Value>(table: Definition<K, V>, key: &[u8]) -> Result<Digest, Error> {
    Digest::from_key(key).ok_or_else(|| Error::corrupt(table, hex::encode(key)))
}

/// Parses a name or a tag in a key of a table.
pub(super) fn parse<T: FromStr, K: Key, V: Value>(table: Definition<K, V>, text: &str) -> Result<T, Error> {
    text.parse().map_err(|_| Error::corrupt(table, text))
}
