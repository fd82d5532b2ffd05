//! [`Query`]: the parameters of a URL.

use percent_encoding::percent_decode_str;

use super::{Page, RouteError, malformed};
use crate::oci::ErrorCode;

/// The most parameters. Clients send a handful.
const PARAMETERS_MAX: usize = 128;

/// Decoded names and values, in order.
///
/// A plus sign stands for itself: no value here has a blank, and clients do not encode the plus sign of artifact types
/// such as `application/spdx+json`.
#[derive(Clone, Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the parameters of a URL.
    pub(crate) fn parse(query: &str) -> Result<Self, RouteError> {
        let mut parameters = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == PARAMETERS_MAX {
                return Err(RouteError::TooLong { message: "too many parameters".to_owned() });
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.push((decode(name)?, decode(value)?));
        }
        Ok(Self(parameters))
    }

    /// Reads a form, or the parameters of a URL that a form made. Here a plus sign stands for a blank.
    pub(crate) fn form(text: &str) -> Result<Self, RouteError> {
        Self::parse(&text.replace('+', " "))
    }

    /// All names and values.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The values of a parameter that may be repeated.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that must not be repeated.
    pub(crate) fn one<'a>(&'a self, name: &'a str) -> Result<Option<&'a str>, RouteError> {
        let mut values = self.all(name);
        let value = values.next();
        if values.next().is_some() {
            return Err(malformed(ErrorCode::Unsupported, &format!("the parameter {name} is given more than once")));
        }
        Ok(value)
    }

    /// The value of a parameter that is a whole number. A number that is too large becomes the largest.
    pub(crate) fn number(&self, name: &str) -> Result<Option<usize>, RouteError> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            let message = format!("the parameter {name} must be a whole number that is not negative");
            return Err(malformed(ErrorCode::Unsupported, &message));
        }
        Ok(Some(text.parse().unwrap_or(usize::MAX)))
    }

    /// The page of a list.
    pub(super) fn page(&self) -> Result<Page, RouteError> {
        Ok(Page { limit: self.number("n")?, last: self.one("last")?.unwrap_or_default().to_owned() })
    }
}

fn decode(text: &str) -> Result<String, RouteError> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| malformed(ErrorCode::Unsupported, &"a parameter is not UTF-8"))?;
    Ok(decoded.into_owned())
}
