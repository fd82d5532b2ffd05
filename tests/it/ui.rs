//! The pages, over real sockets and with a real browser.

mod account;
mod admin;
mod browser;
pub mod client;
pub mod listing;
mod provider;
mod repository;
mod safety;
