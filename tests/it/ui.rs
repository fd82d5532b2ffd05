//! The pages, over real sockets and with a real browser.

mod account;
mod admin;
mod browser;
mod client;
mod provider;
mod safety;
