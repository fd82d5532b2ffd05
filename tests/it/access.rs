//! Tokens, rules of access and permissions: who may do what, over real sockets.

mod challenges;
mod external_issuer;
mod hostile;
mod lists;
mod permissions;
mod rules;
mod tokens;
