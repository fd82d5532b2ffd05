//! The endpoints of the distribution specification.
//!
//! A handler is three paragraphs: read typed input, make one call, build the response.

pub(super) mod blob;
pub(super) mod list;
pub(super) mod manifest;
pub(super) mod token;
pub(super) mod upload;
