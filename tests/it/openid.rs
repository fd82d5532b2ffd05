//! Signing in through OpenID and OAuth providers, with real ones and with such as lie.
//!
//! Four parties can stand beside the registry, each in a module that knows nothing of coracle:
//! * [`provider`]: `oidc-provider` from npm, a certified OpenID provider, as its own process.
//! * [`browser`]: Chromium without a window, driven over WebDriver; [`agent`] is the same for what no browser would do,
//!   and for what needs none.
//! * [`github`]: a player of GitHub, whose answers have the shapes of GitHub's documents.
//! * [`hostile`]: an OpenID provider whose every answer a test can bend.
//!
//! [`registry`] is the registry that knows them, and [`program`] a program that signs somebody in there. Where node, npm, Chromium or its driver are missing, the tests that
//! need them say `SKIPPED`, and fail where `CI` is set.

pub mod agent;
mod browser;
pub mod github;
mod handover;
pub mod hostile;
mod node;
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
mod sign_in;
mod via_github;
