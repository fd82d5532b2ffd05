//! Tokens, rules of access and permissions: who may do what, over real sockets.

mod challenges;
mod hostile;
mod lists;
mod outside;
mod permissions;
mod rules;
mod tokens;
