//! zot's extension routes, as its web page and its command line use them.

pub mod client;
mod command_line;
mod management;
mod origins;
mod page;
mod preferences;
mod rights;
mod shapes;
mod site;
mod zli;
mod zui;

use coracle::Registry;
use coracle::config::Config;

use crate::support::TestRegistry;
use crate::support::registry::{ALICE, BOB, ROOT};

/// A registry with a configuration in TOML, with alice, bob and the superuser.
async fn registry(toml: &str) -> TestRegistry {
    let config = Config::from_toml_str(toml).unwrap().config;
    let builder = Registry::builder().config(config);
    TestRegistry::start(builder.user(ALICE.0, ALICE.1).user(BOB.0, BOB.1).superuser(ROOT.0, ROOT.1)).await
}

/// The extensions are on.
const ON: &str = "extensions.search.enable = true\nextensions.ui.enable = true\n";
