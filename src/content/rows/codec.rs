//! How a row's fields become bytes.
//!
//! A row is one byte that says which form it has, and the fields in postcard's encoding. A field
//! that is added makes a new form; the old ones stay readable.

use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;

/// The one form there is so far.
const FORM: u8 = 1;

/// The bytes of a row.
pub(super) fn encode<R: Serialize>(row: &R) -> Vec<u8> {
    postcard::to_extend(row, vec![FORM]).expect("rows are plain fields, and memory is there for them")
}

/// The row of these bytes; none if they are not one.
pub(super) fn decode<R: DeserializeOwned>(bytes: &[u8]) -> Option<R> {
    match bytes.split_first()? {
        (&FORM, fields) => postcard::from_bytes(fields).ok(),
        _ => None,
    }
}

/// The row of these bytes, which stand in a table under a key.
pub(super) fn row<R: DeserializeOwned>(table: &'static str, bytes: &[u8], key: impl Display) -> Result<R, Error> {
    decode(bytes).ok_or_else(|| corrupt(table, key))
}

/// The bytes of a row with a field that its form got later. Programs from before read the row, and not the field.
pub(super) fn encode_with<R: Serialize, F: Serialize>(row: &R, field: &F) -> Vec<u8> {
    encode(&(row, field))
}

/// A row with a field that its form got later; the field has its default where the row is older.
pub(super) fn row_with<R: DeserializeOwned, F: DeserializeOwned + Default>(
    table: &'static str,
    bytes: &[u8],
    key: impl Display,
) -> Result<(R, F), Error> {
    match decode(bytes) {
        Some(both) => Ok(both),
        None => Ok((row(table, bytes, key)?, F::default())),
    }
}

/// What is found in a table under a key is not what was written there.
pub(super) fn corrupt(table: &'static str, key: impl Display) -> Error {
    Error::Corrupt { table, key: key.to_string() }
}
