//! The stored content: blobs in files, rows in one database, and the rules that join them.
//!
//! Knows no user, no HTTP and no configuration file. What must hold: [`repository`] is the only writer of both stores.

pub(crate) mod blobs;
pub(crate) mod repository;
pub(crate) mod rows;
