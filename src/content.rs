//! The stored content: blobs in files, rows in one database, and the rules that join them.
//!
//! This module knows no user, no HTTP and no configuration file. Invariant: only [`repository`] changes both stores.

pub(crate) mod blobs;
pub(crate) mod repository;
pub(crate) mod rows;
