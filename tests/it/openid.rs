//! Sign-in through OpenID and OAuth providers, real and hostile.
//!
//! Four parties talk to the registry, each in a module that does not know coracle:
//! * [`provider`]: `oidc-provider` from npm, a certified OpenID provider, as its own process.
//! * [`browser`]: headless Chromium, driven over WebDriver. [`agent`] does the same without a browser, and also what no
//!   browser would do.
//! * [`github`]: a server with GitHub's routes and the response formats of its documentation.
//! * [`hostile`]: an OpenID provider whose responses a test can change.
//!
//! [`registry`] is the configured registry, and [`program`] a program that signs a user in. Without node, npm, Chromium or
//! its driver, the tests that need them print `SKIPPED`, and fail if `CI` is set.

pub mod agent;
pub mod browser;
pub mod github;
mod handover;
pub mod hostile;
pub mod node;
mod player;
mod program;
mod provider;
pub mod registry;

mod attacks;
mod callback_ui;
mod command_line;
mod device;
mod lies;
pub mod people;
pub mod sign_in;
mod via_github;
mod workload;
