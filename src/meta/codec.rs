//! How a row's fields become bytes.
//!
//! A row is one byte that says which form it has, and the fields in postcard's encoding. A field
//! that is added makes a new form; the old ones stay readable.

use serde::Serialize;
use serde::de::DeserializeOwned;

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
