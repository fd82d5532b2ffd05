//! The distribution specification's endpoints, one file per noun.
//!
//! A handler is three paragraphs: read typed input, make one call, say what came of it.

pub(super) mod blob;
pub(super) mod catalog;
pub(super) mod manifest;
pub(super) mod ping;
pub(super) mod referrer;
pub(super) mod tag;
pub(super) mod token;
pub(super) mod upload;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::http::route::Page;

/// What is encoded in the value of a parameter: everything that RFC 3986 does not call unreserved.
const PARAMETER: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How many entries a page has at most, asked for or not. A client that follows `Link` sees all.
const PAGE_MAX: usize = 10_000;

impl Page {
    /// How many entries the page may have.
    fn size(&self) -> usize {
        self.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX)
    }

    /// The path of the page that follows this one.
    fn next_path(&self, path: &str, last: &str) -> String {
        let last = utf8_percent_encode(last, PARAMETER);
        format!("{path}?n={}&last={last}", self.size())
    }
}
