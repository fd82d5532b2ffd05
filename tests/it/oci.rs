//! The distribution specification, section by section; each test is named for the rule it holds.

mod catalog;
mod deletion;
mod errors;
mod large;
mod manifest;
mod mount;
mod pull;
mod push_chunked;
mod push_monolithic;
mod referrers;
mod tags;
