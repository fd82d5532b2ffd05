//! Users, API keys, sessions and the history of tags as zot's and Quay's users know them, over real sockets.

mod attacks;
mod audit;
mod browser;
mod connection;
mod description;
mod guessing;
mod keys;
mod program;
mod routes;
mod secrets;
mod sessions;
mod tags;
