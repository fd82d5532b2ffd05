//! ID tokens of CI systems and clusters as credentials (zot's `http.auth.bearer.oidc`).

mod bad_tokens;
pub mod issuer;
mod keys;
mod rights;
