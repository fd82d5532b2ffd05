//! Checks of pushed manifests beyond those of stored ones: the names of fields, and the sizes in descriptors.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The fields of a manifest that decide what it is and what it needs.
const MANIFEST_FIELDS: &[&str] =
    &["schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject"];
/// The same of a descriptor.
const DESCRIPTOR_FIELDS: &[&str] = &["mediaType", "digest"];
/// The largest size of a descriptor. Go clients read it as an `int64`.
const SIZE_MAX: u64 = u64::MAX / 2;

/// The faults that a pushed manifest has, as messages.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// A reader that ignores case takes a field for another one, such as `Layers`. Go's `encoding/json` does.
    pub(super) spelling: Option<String>,
    /// A descriptor has no valid size (image-spec, descriptor.md). The field may have any case, as in Go.
    pub(super) size: Option<String>,
}

/// Finds the faults of a manifest that [`super::Manifest::read`] accepts.
pub(super) fn faults(json: &str) -> serde_json::Result<Faults> {
    let mut faults = Faults::default();
    let look = Look { descriptor: None, faults: &mut faults };
    look.deserialize(&mut serde_json::Deserializer::from_str(json))?;
    Ok(faults)
}

/// Looks at the fields of a manifest, of a descriptor, or of each descriptor in a list.
struct Look<'a> {
    /// The name of the descriptor or of the list, such as `layers[1]`. `None` for the manifest.
    descriptor: Option<String>,
    faults: &'a mut Faults,
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

/// Whether a JSON value is a size that Go clients can read.
fn is_size(value: &RawValue) -> bool {
    value.get().parse::<u64>().is_ok_and(|size| size <= SIZE_MAX)
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
        f.write_str("an object, a list or null")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Look { descriptor, faults } = self;
        let fields = if descriptor.is_none() { MANIFEST_FIELDS } else { DESCRIPTOR_FIELDS };
        let mut sizes = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if let Some(field) = fields.iter().find(|field| is_same(field, &key))
                && key != *field
            {
                let shown = super::shown(&key);
                faults.spelling = Some(format!("the field {shown:?} must be written as {field:?}"));
            }
            if descriptor.is_none() && matches!(&*key, "config" | "layers" | "manifests" | "subject") {
                map.next_value_seed(Look { descriptor: Some(key), faults })?;
            } else if descriptor.is_some() && is_same("size", &key) {
                sizes.push(map.next_value::<&RawValue>()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        let Some(descriptor) = descriptor else { return Ok(()) };
        let fault = match sizes.as_slice() {
            [size] if is_size(size) => return Ok(()),
            [_] => format!("the field {descriptor}.size must be a whole number from 0 to {SIZE_MAX}"),
            [] => format!("the field {descriptor}.size is missing"),
            _ => "duplicate field `size`".to_owned(),
        };
        faults.size.get_or_insert(fault);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let list = self.descriptor.unwrap_or_default();
        for number in 0_usize.. {
            let look = Look { descriptor: Some(format!("{list}[{number}]")), faults: self.faults };
            if sequence.next_element_seed(look)?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn size_fault(json: &str) -> Option<String> {
        faults(json).unwrap().size
    }

    #[test]
    fn a_field_in_another_spelling_is_found() {
        for (json, expected) in [
            (r#"{"schemaVersion":2,"mediaType":"a","annotations":{"Layers":"x"},"Foo":1}"#, None),
            (r#"{"layers":[{"digest":"a","size":1,"annotations":{"Digest":"b"}}],"config":null}"#, None),
            (r#"{"layers":[],"Layers":[]}"#, Some(("Layers", "layers"))),
            (r#"{"layer\u017f":[]}"#, Some(("layer\u{17f}", "layers"))),
            (r#"{"SUBJECT":{}}"#, Some(("SUBJECT", "subject"))),
            (r#"{"mediatype":"a"}"#, Some(("mediatype", "mediaType"))),
            (r#"{"layers":[{"digest":"a"},{"digest":"a","Digest":"b"}]}"#, Some(("Digest", "digest"))),
            (r#"{"config":{"digest":"a","MediaType":"b"}}"#, Some(("MediaType", "mediaType"))),
        ] {
            let expected = expected.map(|(field, name)| format!("the field {field:?} must be written as {name:?}"));
            assert_eq!(faults(json).unwrap().spelling, expected, "{json}");
        }
    }

    #[test]
    fn a_size_is_a_whole_number_that_go_clients_can_read() {
        for size in ["0", "5", "9223372036854775807"] {
            for (json, name) in manifests(&format!("\"size\": {size} ")) {
                assert_eq!(size_fault(&json), None, "{name}: {size}");
            }
        }
        let outside = "must be a whole number from 0 to 9223372036854775807";
        for size in [
            "-5",
            "-1",
            "-0",
            "1.5",
            "1.0",
            "1e3",
            "1e400",
            "\"12\"",
            "null",
            "true",
            "[1]",
            "{}",
            "9223372036854775808",
            "1000000000000000000000000000000",
        ] {
            for (json, name) in manifests(&format!("\"size\":{size}")) {
                assert_eq!(size_fault(&json), Some(format!("the field {name}.size {outside}")), "{size}");
            }
        }
        for (json, name) in manifests("\"digest\":\"x\"") {
            assert_eq!(size_fault(&json), Some(format!("the field {name}.size is missing")));
        }
    }

    /// A manifest for each place of a descriptor, and the name of the place.
    fn manifests(field: &str) -> [(String, &'static str); 4] {
        [
            (format!("{{\"config\":{{{field}}},\"layers\":null}}"), "config"),
            (format!("{{\"config\":{{\"size\":1}},\"layers\":[{{\"size\":1}},{{{field}}}]}}"), "layers[1]"),
            (format!("{{\"manifests\":[{{{field},\"platform\":{{\"size\":-1}}}}]}}"), "manifests[0]"),
            (format!("{{\"manifests\":[],\"subject\":{{{field}}}}}"), "subject"),
        ]
    }

    #[test]
    fn a_size_in_another_spelling_is_the_one_that_go_clients_read() {
        assert_eq!(size_fault(r#"{"config":{"Size":5}}"#), None);
        assert!(size_fault(r#"{"config":{"Size":-5}}"#).is_some());
        assert!(size_fault(r#"{"config":{"size":5,"Size":5}}"#).is_some());
        assert!(size_fault(r#"{"config":{"size":5,"size":5}}"#).is_some());
    }

    #[test]
    fn a_manifest_without_descriptors_has_no_wrong_size() {
        for json in [r#"{"manifests":null,"subject":null}"#, "{}", r#"{"annotations":{"size":"x"}}"#] {
            assert_eq!(size_fault(json), None, "{json}");
        }
    }
}
