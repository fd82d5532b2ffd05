//! A JSON object whose members keep their order and their text, so that unchanged members are written as they were read.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A JSON object. Duplicate names are refused, because programs differ in which member they use.
#[derive(Debug, Default)]
pub(in crate::cli) struct Document {
    members: Vec<(String, Box<RawValue>)>,
    /// Whether a line end followed the object.
    line_end: bool,
}

impl Document {
    /// Parses an object. An empty text is an empty object, as in docker.
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let document: Self = serde_json::from_str(text)?;
        Ok(Self { line_end: text.ends_with('\n'), ..document })
    }

    pub(in crate::cli) fn get(&self, name: &str) -> Option<&RawValue> {
        self.members.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// Sets the value of a member in its file, or adds the member at the end.
    pub(in crate::cli) fn set(&mut self, name: &str, value: Box<RawValue>) {
        match self.members.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.members.push((name.to_owned(), value)),
        }
    }

    /// Removes a member. Returns whether there was one.
    pub(in crate::cli) fn remove(&mut self, name: &str) -> bool {
        let before = self.members.len();
        self.members.retain(|(known, _)| known != name);
        self.members.len() != before
    }

    /// The object as docker and podman write it: one member per line, indented by tabs. Values keep their text.
    pub(in crate::cli) fn to_text(&self, depth: usize) -> String {
        if self.members.is_empty() {
            return "{}".to_owned();
        }
        let (inner, outer) = ("\t".repeat(depth + 1), "\t".repeat(depth));
        let mut text = String::from("{");
        for (at, (name, value)) in self.members.iter().enumerate() {
            let name = serde_json::to_string(name).expect("a string is JSON");
            text.extend([if at == 0 { "\n" } else { ",\n" }, &inner, &name, ": ", value.get()]);
        }
        text.extend(["\n", &outer, "}"]);
        if self.line_end {
            text.push('\n');
        }
        text
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let mut members: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((name, value)) = map.next_entry()? {
                    if members.iter().any(|(known, _)| *known == name) {
                        return Err(de::Error::custom(format!("duplicate member {name:?}")));
                    }
                    members.push((name, value));
                }
                Ok(Document { members, line_end: false })
            }
        }
        deserializer.deserialize_map(Members)
    }
}
