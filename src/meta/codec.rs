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

/// What is found in a table under a key is not what was written there.
pub(super) fn corrupt(table: &'static str, key: impl Display) -> Error {
    Error::Corrupt { table, key: key.to_string() }
}
