//! Users, API keys, sessions and the history of tags as zot's and Quay's users know them, over real sockets.

mod attacks;
mod audit;
pub mod browser;
mod connection;
mod description;
mod endings;
mod guessing;
mod key_rights;
mod keys;
mod load;
mod manifests;
mod ownership;
mod program;
mod routes;
mod scopes;
mod secrets;
mod sessions;
mod tags;
