//! The pages, over real sockets and with a real browser.

mod client;
mod safety;
