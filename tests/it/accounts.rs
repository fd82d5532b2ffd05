//! Users, API keys and sessions as zot's and Quay's users know them, over real sockets.

mod attacks;
mod audit;
mod browser;
mod description;
mod keys;
mod program;
mod routes;
mod secrets;
mod sessions;
