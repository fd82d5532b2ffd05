//! Reads YAML.

use serde_saphyr::MessageFormatter as _;

use super::{SyntaxError, Tree};
use crate::config::error::Place;

pub(super) fn parse(text: &str) -> Result<Tree, SyntaxError> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| syntax_error(&error))
}

/// Keeps `yes` and `0755` as strings, so that a message can show them.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
    }
}

fn syntax_error(error: &serde_saphyr::Error) -> SyntaxError {
    let place = error.location().map_or(Place::File, |location| Place::Position {
        line: usize::try_from(location.line()).unwrap_or(usize::MAX),
        column: usize::try_from(location.column()).unwrap_or(usize::MAX),
    });
    let message = serde_saphyr::UserMessageFormatter.format_message(error.without_snippet());
    SyntaxError { place, message: message.into_owned() }
}
