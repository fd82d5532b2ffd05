//! Reads a file in TOML, JSON or YAML into a tree of values.
//!
//! The same configuration gives the same tree in all formats. A name given twice in one table is an error.

#[cfg_attr(not(feature = "yaml"), path = "source/yaml/absent.rs")]
mod yaml;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::error::{Error, Finding, Place};

/// The largest configuration, in bytes. A few hundred lines have some ten thousand bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// The `toml` crate presents a date or time as a map with this name.
const TOML_DATETIME: &str = "$__toml_private_datetime";

/// The format of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Toml,
    Json,
    Yaml,
}

/// A syntax error and its position, if it is known.
struct SyntaxError {
    place: Place,
    message: String,
}

/// Reads a file into a tree. The extension determines the format.
pub(super) fn read(path: &Path) -> Result<Map<String, Value>, Error> {
    let file = path.display().to_string();
    let failed = |message: String| Error::new(vec![Finding { file: file.clone(), place: Place::File, message }]);
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let format = match extension.as_str() {
        "toml" => Format::Toml,
        "json" => Format::Json,
        "yaml" | "yml" => Format::Yaml,
        _ => {
            return Err(failed("expected a name ending in .toml, .json, .yaml or .yml".to_owned()));
        }
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|opened| opened.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| failed(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(failed(format!("is larger than {CONFIG_BYTES_MAX} bytes")));
    }
    match String::from_utf8(bytes) {
        Ok(text) => parse(&file, format, &text),
        Err(error) => {
            let valid = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
            let place = position(&valid, valid.len());
            Err(Error::new(vec![Finding { file, place, message: "not UTF-8 text".to_owned() }]))
        }
    }
}

/// Reads a text into a tree. Errors call it `file`. An empty text is an empty tree.
pub(super) fn parse(file: &str, format: Format, text: &str) -> Result<Map<String, Value>, Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    let tree = match format {
        Format::Toml => toml::from_str(text).map_err(|error| SyntaxError {
            place: error.span().map_or(Place::File, |span| position(text, span.start)),
            message: error.message().to_owned(),
        }),
        Format::Json => serde_json::from_str(text).map_err(|error| json_error(&error)),
        Format::Yaml => yaml::parse(text),
    };
    let failed = |place, message: &str| {
        let message = message.lines().collect::<Vec<_>>().join(" ").trim_end_matches('.').to_owned();
        Err(Error::new(vec![Finding { file: file.to_owned(), place, message }]))
    };
    match tree {
        Ok(Tree(Value::Object(table))) => Ok(table),
        Ok(Tree(Value::Null)) => Ok(Map::new()),
        Ok(Tree(_)) => failed(Place::File, "expected a table of keys as the whole content"),
        Err(SyntaxError { place, message }) => failed(place, &message),
    }
}

fn json_error(error: &serde_json::Error) -> SyntaxError {
    let text = error.to_string();
    let suffix = format!(" at line {} column {}", error.line(), error.column());
    SyntaxError {
        place: Place::Position { line: error.line(), column: error.column() },
        message: text.strip_suffix(&suffix).unwrap_or(&text).to_owned(),
    }
}

/// The position of a byte in a text. A byte within a character has the position of the character.
fn position(text: &str, byte: usize) -> Place {
    let before = &text.as_bytes()[..byte.min(text.len())];
    let last_line = before.rsplit(|b| *b == b'\n').next().unwrap_or_default();
    Place::Position {
        line: before.split(|b| *b == b'\n').count(),
        column: String::from_utf8_lossy(last_line).chars().count() + 1,
    }
}

/// A value without duplicate names in tables. The `Value` of `serde_json` would keep the last one.
struct Tree(Value);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor).map(Self)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table, a list, a string, a number, true or false")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<Value, E> {
        Err(E::custom("the number is too large"))
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<Value, E> {
        Err(E::custom("the number is too large"))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("infinity and not-a-number are not supported"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Tree(element)) = elements.next_element()? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut table = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            if table.contains_key(&name) {
                return Err(A::Error::custom(format_args!("duplicate key {name:?}")));
            }
            let Tree(value) = entries.next_value()?;
            if name == TOML_DATETIME {
                return Ok(value);
            }
            table.insert(name, value);
        }
        Ok(Value::Object(table))
    }
}
