//! Users, API keys and sessions as zot's and Quay's users know them, over real sockets.

mod audit;
mod connection;
mod guessing;
mod keys;
mod program;
mod routes;
mod sessions;
