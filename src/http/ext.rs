//! zot's routes beyond the distribution specification.

pub(super) mod apikey;
pub(super) mod confirm;
pub(super) mod login;
pub(super) mod logout;
