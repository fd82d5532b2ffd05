//! JSON as registries meet it: [`JsonObject`], objects that are objects, and [`without_lone_surrogates`].

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A value that comes as a JSON object. What serde derives for a struct takes a list of the values
/// of its fields as well, which nobody else who reads the same bytes would.
#[derive(Clone, Debug)]
pub(crate) struct JsonObject<T>(pub(crate) T);

impl<T> Deref for JsonObject<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for JsonObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
            type Value = JsonObject<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<JsonObject<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(JsonObject)
            }
        }

        deserializer.deserialize_map(Object(PhantomData))
    }
}

/// A list of at most `MAX` elements. A longer one is refused when the first element too many is read, so that a
/// short text cannot unfold into much memory.
#[derive(Debug)]
pub(crate) struct BoundedList<T, const MAX: usize>(pub(crate) Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for BoundedList<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
            type Value = BoundedList<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX} elements")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = sequence.next_element()? {
                    if list.len() == MAX {
                        return Err(A::Error::custom(format_args!("a list has more than {MAX} elements")));
                    }
                    list.push(element);
                }
                Ok(BoundedList(list))
            }
        }

        deserializer.deserialize_seq(List(PhantomData))
    }
}

/// Replaces each escape of half a surrogate pair (`\ud83d` alone) by that of U+FFFD, as Go reads it. JSON allows such
/// escapes (RFC 8259, 8.2), but they are no Unicode text, and our parser refuses them. Escapes of whole pairs stay.
pub(crate) fn without_lone_surrogates(json: &str) -> Cow<'_, str> {
    let mut replaced = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(backslash) = json[at..].find('\\') {
        let escape = at + backslash;
        let Some(unit) = code_unit(json, escape) else {
            // A simple escape: the character behind the backslash begins no other.
            at = escape + 1 + json[escape + 1..].chars().next().map_or(0, char::len_utf8);
            continue;
        };
        let is_low = |unit: u32| (0xdc00..=0xdfff).contains(&unit);
        at = escape + ESCAPE_LENGTH;
        let is_lone = match unit {
            0xd800..=0xdbff if code_unit(json, at).is_some_and(is_low) => {
                at += ESCAPE_LENGTH;
                false
            }
            0xd800..=0xdfff => true,
            _ => false,
        };
        if is_lone {
            replaced.push_str(&json[copied..escape]);
            replaced.push_str("\\ufffd");
            copied = at;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    replaced.push_str(&json[copied..]);
    Cow::Owned(replaced)
}

/// How many characters `\uXXXX` has.
const ESCAPE_LENGTH: usize = 6;

/// The UTF-16 code unit that an escape at this place stands for; `None` if there is no such escape.
fn code_unit(json: &str, at: usize) -> Option<u32> {
    let digits = json.get(at..at + ESCAPE_LENGTH)?.strip_prefix("\\u")?;
    if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) { u32::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_half_pairs_are_replaced() {
        for (json, expected) in [
            (r"plain", r"plain"),
            (r"\n\u0041", r"\n\u0041"),
            (r"\ud83d\ude00", r"\ud83d\ude00"),
            (r"\ud83d", r"\ufffd"),
            (r"\uDE00x", r"\ufffdx"),
            (r"\ud83d\ud83d\ude00", r"\ufffd\ud83d\ude00"),
            (r"a\ud83d\u0041", r"a\ufffd\u0041"),
            (r"\\ud83d", r"\\ud83d"),
            (r"\\\ud83d", r"\\\ufffd"),
            (r"\ud8", r"\ud8"),
            (r"\u+d8d", r"\u+d8d"),
            ("\\\u{e9}\\", "\\\u{e9}\\"),
            (r"\ud83\u{e9}", r"\ud83\u{e9}"),
        ] {
            assert_eq!(without_lone_surrogates(json), expected, "{json}");
        }
    }
}
