//! Users, API keys and sessions as zot's and Quay's users know them, over real sockets.

mod attacks;
mod keys;
mod program;
mod routes;
mod secrets;
mod sessions;
