//! YAML in a build without the feature `yaml`.

use super::{SyntaxError, Tree};
use crate::config::error::Place;

pub(super) fn parse(_: &str) -> Result<Tree, SyntaxError> {
    let message = "this program was built without the feature yaml: write the configuration in TOML or JSON".to_owned();
    Err(SyntaxError { place: Place::File, message })
}
