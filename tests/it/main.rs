//! The registry from outside: real sockets, real clients, the real program.
//!
//! One binary, modules only. What each of them needs is in [`support`].

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(unreachable_pub, reason = "pub is what other modules of this binary may use")]

mod access;
mod accounts;
mod acme;
mod architecture;
mod auth;
mod backup;
mod bad_clients;
mod bad_input;
mod cli;
mod client_certificates;
mod clients;
mod compat;
mod connections;
mod cost;
mod crash;
mod events;
mod examples;
mod faults;
mod hosts;
mod ldap;
mod library;
mod lifecycle;
mod limits;
mod listening;
mod logs;
mod mirror;
mod model;
mod observation;
mod oci;
mod openid;
mod operator;
mod ops;
mod power_cut;
mod quota;
mod rate_limits;
mod recover;
mod refusals;
mod retention;
mod soak;
mod support;
mod tls;
#[cfg(feature = "otel")]
mod traces;
mod traffic;
mod transfer;
mod ui;
mod upgrade;
mod upkeep;
mod workload;
mod zot;
