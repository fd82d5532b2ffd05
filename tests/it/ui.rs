//! The pages, over real sockets and with a real browser.

mod account;
mod admin;
mod browser;
pub mod client;
mod furnished;
mod journey;
pub mod listing;
mod provider;
mod repository;
mod safety;
