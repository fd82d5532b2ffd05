//! The caller's identity and permissions.
//!
//! Knows no route, no socket and no blob. Invariant: a request without a grant is refused.

pub(crate) mod access;
pub(crate) mod accounts;
pub(crate) mod directory;
#[cfg_attr(not(feature = "openid"), path = "identity/providers/absent.rs")]
pub(crate) mod providers;
pub(crate) mod tokens;
pub(crate) mod workload;
