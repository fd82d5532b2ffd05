//! [`Environment`]: keys of the configuration that environment variables set.
//!
//! `CORACLE_HTTP_EXTERNALURL` sets `http.externalUrl`: the key in upper case, and an underscore, or two, for each dot. A
//! list of texts has commas between them. Tables and other lists are JSON. A name that ends in `_FILE` has the path of a
//! file with the value. A variable takes precedence over the configuration file.
//!
//! In builds with traces, three variables of OpenTelemetry set keys as well. Those of coracle take precedence over them.
//!
//! Variables whose first word is no table of the configuration are ignored. A container platform sets some by itself,
//! such as `CORACLE_PORT` for a service with the name `coracle`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::error::{Error, Finding, Place};
use super::keys::{self, Child, Row};
use super::kind::Kind;
use super::nearest;
use crate::kit::traces;

/// The beginning of the names of all variables.
const PREFIX: &str = "CORACLE_";
/// Variables of OpenTelemetry, which platforms set for all programs, with the keys that they set.
const STANDARD: [(&str, &str); 3] = [
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "extensions.traces.endpoint"),
    ("OTEL_SERVICE_NAME", "extensions.traces.serviceName"),
    ("OTEL_RESOURCE_ATTRIBUTES", "extensions.traces.resource"),
];
/// The end of a name whose value is the path of a file with the value of the key.
const FILE: &str = "_FILE";
/// The largest file with a value, in bytes.
const VALUE_BYTES_MAX: u64 = 1 << 20;

/// The variables that set keys, ordered by name.
#[derive(Debug, Default)]
pub(crate) struct Environment(Vec<Variable>);

#[derive(Debug)]
struct Variable {
    name: String,
    /// The elements of the key, as the key table spells them.
    path: Vec<String>,
    value: Hidden,
}

/// A value, which may be a secret.
struct Hidden(Value);
super::opaque_debug!(Hidden);

impl Environment {
    /// Reads the variables of a process. Reports every one that names no key, or whose value cannot be read.
    pub(crate) fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, Error> {
        let (mut read, mut problems) = (Vec::new(), Vec::new());
        for (name, value) in variables {
            if traces::IS_BUILT {
                read.extend(name.to_str().zip(value.to_str()).and_then(|(name, value)| standard(name, value)));
            }
            let Some((name, rest)) = name.to_str().and_then(|name| Some((name, name.strip_prefix(PREFIX)?))) else {
                continue;
            };
            match variable(name, rest, &value) {
                Ok(None) => {}
                Ok(Some(variable)) => read.push(variable),
                Err(message) => {
                    problems.push(Finding { file: name.to_owned(), place: Place::File, message });
                }
            }
        }
        // Later ones take precedence.
        read.sort_unstable_by(|one, other| one.order().cmp(&other.order()));
        for pair in read.windows(2) {
            if pair[0].path == pair[1].path && pair[0].order().0 {
                let message = format!("sets the same key as {}: remove one of them", pair[0].name);
                problems.push(Finding { file: pair[1].name.clone(), place: Place::File, message });
            }
        }
        if problems.is_empty() { Ok(Self(read)) } else { Err(Error::new(problems)) }
    }

    /// Sets the keys in a tree.
    pub(super) fn apply(&self, tree: &mut Map<String, Value>) {
        for variable in &self.0 {
            set(tree, &variable.path, variable.value.0.clone());
        }
    }

    /// The variable that sets a key, or a table that contains it.
    pub(crate) fn setting(&self, key: &str) -> Option<&str> {
        let sets = |variable: &&Variable| {
            let own = variable.path.join(".");
            let head = key.get(..own.len()).is_some_and(|head| head.eq_ignore_ascii_case(&own));
            head && matches!(key.as_bytes().get(own.len()), None | Some(b'.' | b'['))
        };
        self.0.iter().rfind(sets).map(|variable| variable.name.as_str())
    }
}

impl Variable {
    /// Those of coracle come last, ordered by name.
    fn order(&self) -> (bool, &str) {
        (self.name.starts_with(PREFIX), &self.name)
    }
}

/// Reads a variable of OpenTelemetry. An empty one counts as absent, as its specification says.
fn standard(name: &str, value: &str) -> Option<Variable> {
    let (_, key) = STANDARD.into_iter().find(|(standard, _)| *standard == name)?;
    let value = Some(value.trim()).filter(|value| !value.is_empty())?;
    let row = keys::find(key)?;
    let value = match row.kind {
        Kind::TextMap => {
            let pairs = value.split(',').filter_map(|pair| pair.split_once('='));
            let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8_lossy().into_owned();
            pairs.map(|(name, value)| (name.trim().to_owned(), Value::from(decoded(value)))).collect()
        }
        _ => Value::from(value),
    };
    let path = row.key.split('.').map(str::to_owned).collect();
    Some(Variable { name: name.to_owned(), path, value: Hidden(value) })
}

/// Reads one variable. `None` if it is not about the configuration.
fn variable(name: &str, rest: &str, value: &OsStr) -> Result<Option<Variable>, String> {
    let words: Vec<&str> = rest.split('_').filter(|word| !word.is_empty()).collect();
    if words.first().is_none_or(|first| keys::child("", first).is_none()) {
        return Ok(None);
    }
    let text = || value.to_str().map(str::to_owned).ok_or("is not UTF-8 text");
    let (found, text) = match find(&words) {
        Ok(found) => (found, text()?),
        // A key may end in this word itself.
        Err(why) => match name.strip_suffix(FILE).and(words.split_last()) {
            Some((_, words)) => (find(words)?, read_file(Path::new(value))?),
            None => return Err(why),
        },
    };
    let (path, row) = found;
    Ok(Some(Variable { name: name.to_owned(), path, value: Hidden(parse(row.kind, text)?) }))
}

/// The path of a key, and its row.
fn find(words: &[&str]) -> Result<(Vec<String>, &'static Row), String> {
    let (mut parent, mut path, mut last) = (String::new(), Vec::new(), None);
    for word in words {
        if let Some(row) = last.take_if(|row: &mut &'static Row| matches!(row.kind, Kind::Map)) {
            // The name of an element, which the user chooses.
            path.push(word.to_lowercase());
            parent = format!("{}.{}", row.key, keys::EACH);
            continue;
        }
        let known = path.join(".");
        let child = keys::child(&parent, word).ok_or_else(|| nearest::unknown_key(&parent, &known, word))?;
        let key = match child {
            Child::Row(row) => {
                last = Some(row);
                row.key
            }
            Child::Group(key) => {
                last = None;
                key
            }
        };
        path.push(keys::below(&parent, key).unwrap_or(key).to_owned());
        key.clone_into(&mut parent);
    }
    match last {
        Some(row) => Ok((path, row)),
        None => Err(format!("{} is a table: name a key in it", path.join("."))),
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let mut text = String::new();
    let mut file = File::open(path).map_err(failed)?.take(VALUE_BYTES_MAX + 1);
    file.read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > VALUE_BYTES_MAX {
        return Err(format!("{} is larger than {VALUE_BYTES_MAX} bytes", path.display()));
    }
    // Editors end a file with a line break.
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// The value of a text, as a file would have it. A text that does not fit stays a text, and is reported with the key.
fn parse(kind: Kind, text: String) -> Result<Value, String> {
    let json = |text: &str| {
        serde_json::from_str(text).map_err(|error| format!("the value of a table or list must be JSON: {error}"))
    };
    match kind {
        Kind::Bool => Ok(text.parse().map_or(Value::String(text), Value::Bool)),
        Kind::Int { .. } => Ok(text.parse::<i64>().map_or(Value::String(text), Value::from)),
        Kind::Texts | Kind::SomeOf(_) if !text.trim_start().starts_with('[') => {
            let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
            Ok(texts.map(Value::from).collect())
        }
        Kind::Texts
        | Kind::SomeOf(_)
        | Kind::TextMap
        | Kind::Table
        | Kind::Switch { .. }
        | Kind::List
        | Kind::Map
        | Kind::Free => json(&text),
        _ => Ok(Value::String(text)),
    }
}

/// Sets a value in a tree. Names of the tree may be written in any case.
fn set(table: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    let name = table.keys().find(|name| name.eq_ignore_ascii_case(first)).unwrap_or(first).clone();
    if rest.is_empty() {
        table.insert(name, value);
        return;
    }
    let inner = table.entry(name).or_insert(Value::Null);
    if !inner.is_object() {
        *inner = Value::Object(Map::new());
    }
    if let Value::Object(inner) = inner {
        set(inner, rest, value);
    }
}

/// Whether a tree has a key, with names in any case.
pub(super) fn has(tree: &Map<String, Value>, key: &str) -> bool {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let found = tree.iter().find(|(name, _)| name.eq_ignore_ascii_case(first)).map(|(_, value)| value);
    match (found, rest) {
        (None | Some(Value::Null), _) => false,
        (Some(_), None) => true,
        (Some(value), Some(rest)) => value.as_object().is_some_and(|inner| has(inner, rest)),
    }
}
