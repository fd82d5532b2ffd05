//! Small tools that all layers share. They know nothing about registries. Only [`clock`] reads the wall clock.

pub(crate) mod access_log;
pub(crate) mod append;
pub(crate) mod blocking;
pub(crate) mod bounded_map;
pub(crate) mod byte_budget;
pub(crate) mod certificate;
pub(crate) mod clock;
pub(crate) mod file;
pub(crate) mod log_limit;
pub(crate) mod metrics;
pub(crate) mod network;
pub(crate) mod opaque_debug;
pub(crate) mod outgoing;
pub(crate) mod shown_address;
pub(crate) mod site;
pub(crate) mod text;
pub(crate) mod text_form;
pub(crate) mod throttle;
pub(crate) mod traces;
pub(crate) mod window_limit;
