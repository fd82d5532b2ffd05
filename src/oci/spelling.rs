//! Field names of manifests that other readers take for the ones we read.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The fields of a manifest that decide what it is and what it needs.
const MANIFEST_FIELDS: &[&str] =
    &["schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject"];
/// The same of a descriptor.
const DESCRIPTOR_FIELDS: &[&str] = &["mediaType", "digest"];

/// Finds a field that a reader which ignores case takes for another one, such as `Layers`. Go's `encoding/json` is such a
/// reader. Returns the field, and the name that it must have.
pub(super) fn other_spelling(json: &str) -> Option<(String, &'static str)> {
    let mut found = None;
    let look = Look { fields: MANIFEST_FIELDS, found: &mut found };
    // The parser that reads the manifest reports what is not JSON.
    let _ = look.deserialize(&mut serde_json::Deserializer::from_str(json));
    found
}

/// Looks at the fields of an object, or of each object in a list.
struct Look<'a> {
    fields: &'static [&'static str],
    found: &'a mut Option<(String, &'static str)>,
}

/// Folds the case of a character as Go does: two letters outside ASCII fold to ASCII letters.
fn folded(c: char) -> char {
    match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    }
}

fn is_same(one: &str, other: &str) -> bool {
    one.chars().map(folded).eq(other.chars().map(folded))
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if let Some(field) = self.fields.iter().find(|field| is_same(field, &key))
                && key != *field
            {
                *self.found = Some((super::shown(&key), field));
            }
            if matches!(&*key, "config" | "layers" | "manifests" | "subject") {
                map.next_value_seed(Look { fields: DESCRIPTOR_FIELDS, found: self.found })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Look { fields: self.fields, found: self.found })?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_in_another_spelling_is_found() {
        for (json, expected) in [
            (r#"{"schemaVersion":2,"mediaType":"a","annotations":{"Layers":"x"},"Foo":1}"#, None),
            (r#"{"layers":[{"digest":"a","size":1,"annotations":{"Digest":"b"}}],"config":null}"#, None),
            (r#"{"layers":[],"Layers":[]}"#, Some("layers")),
            (r#"{"layer\u017f":[]}"#, Some("layers")),
            (r#"{"SUBJECT":{}}"#, Some("subject")),
            (r#"{"mediatype":"a"}"#, Some("mediaType")),
            (r#"{"layers":[{"digest":"a"},{"digest":"a","Digest":"b"}]}"#, Some("digest")),
            (r#"{"config":{"digest":"a","MediaType":"b"}}"#, Some("mediaType")),
            ("[", None),
        ] {
            assert_eq!(other_spelling(json).map(|(_, field)| field), expected, "{json}");
        }
    }
}
