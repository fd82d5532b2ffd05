//! Checks the sizes in the descriptors of a pushed manifest.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::AnyCaseObject;

/// The largest size of a descriptor. Go clients read it as an `int64`.
const SIZE_MAX: u64 = u64::MAX / 2;

/// The descriptors of a manifest. Go clients write `null` for a missing one and for an empty list.
#[derive(Deserialize)]
struct Document {
    config: Option<AnyCaseObject<Descriptor>>,
    layers: Option<Vec<AnyCaseObject<Descriptor>>>,
    manifests: Option<Vec<AnyCaseObject<Descriptor>>>,
    subject: Option<AnyCaseObject<Descriptor>>,
}

#[derive(Deserialize)]
struct Descriptor {
    #[serde(default)]
    size: Size,
}

/// The field `size` of a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Size {
    #[default]
    Missing,
    Valid,
    Invalid,
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_u64<E: Error>(self, size: u64) -> Result<Size, E> {
        Ok(if size <= SIZE_MAX { Size::Valid } else { Size::Invalid })
    }

    fn visit_i64<E: Error>(self, size: i64) -> Result<Size, E> {
        Ok(if size >= 0 { Size::Valid } else { Size::Invalid })
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Size, E> {
        Ok(Size::Invalid)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Size, E> {
        Ok(Size::Invalid)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Size, E> {
        Ok(Size::Invalid)
    }

    fn visit_unit<E: Error>(self) -> Result<Size, E> {
        Ok(Size::Invalid)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Size, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Size::Invalid)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Size, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Size::Invalid)
    }
}

/// Refuses a manifest that has a descriptor without a valid size (image-spec, descriptor.md). Returns the reason.
pub(super) fn check(json: &str) -> Result<(), String> {
    let Document { config, layers, manifests, subject } =
        serde_json::from_str(json).map_err(|error| error.to_string())?;
    let one = |name: &str, descriptor: Option<AnyCaseObject<Descriptor>>| {
        descriptor.map_or(Ok(()), |descriptor| descriptor.0.size.check(|| name.to_owned()))
    };
    let each = |name: &str, descriptors: Option<Vec<AnyCaseObject<Descriptor>>>| {
        let mut numbered = descriptors.unwrap_or_default().into_iter().enumerate();
        numbered.try_for_each(|(number, descriptor)| descriptor.0.size.check(|| format!("{name}[{number}]")))
    };
    one("config", config)?;
    each("layers", layers)?;
    each("manifests", manifests)?;
    one("subject", subject)
}

impl Size {
    fn check(self, descriptor: impl FnOnce() -> String) -> Result<(), String> {
        match self {
            Self::Valid => Ok(()),
            Self::Missing => Err(format!("the field {}.size is missing", descriptor())),
            Self::Invalid => {
                Err(format!("the field {}.size must be a whole number from 0 to {SIZE_MAX}", descriptor()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_whole_number_that_go_clients_can_read() {
        for size in ["0", "5", "9223372036854775807"] {
            for (json, name) in manifests(&format!("\"size\":{size}")) {
                assert_eq!(check(&json), Ok(()), "{name}: {size}");
            }
        }
        let outside = "must be a whole number from 0 to 9223372036854775807";
        for size in ["-5", "-1", "1.5", "1.0", "1e3", "\"12\"", "null", "true", "[1]", "{}", "9223372036854775808"] {
            for (json, name) in manifests(&format!("\"size\":{size}")) {
                assert_eq!(check(&json), Err(format!("the field {name}.size {outside}")), "{size}");
            }
        }
        for (json, name) in manifests("\"size\":1000000000000000000000000000000") {
            assert_eq!(check(&json), Err(format!("the field {name}.size {outside}")));
        }
        for (json, name) in manifests("\"digest\":\"x\"") {
            assert_eq!(check(&json), Err(format!("the field {name}.size is missing")));
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
        assert_eq!(check(r#"{"config":{"Size":5}}"#), Ok(()));
        assert!(check(r#"{"config":{"Size":-5}}"#).is_err());
        assert!(check(r#"{"config":{"size":5,"Size":5}}"#).is_err());
        assert!(check(r#"{"config":{"size":5,"size":5}}"#).is_err());
    }

    #[test]
    fn a_manifest_without_descriptors_has_no_wrong_size() {
        for json in [r#"{"manifests":null,"subject":null}"#, "{}", r#"{"annotations":{"size":"x"}}"#] {
            assert_eq!(check(json), Ok(()), "{json}");
        }
    }
}
