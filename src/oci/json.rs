//! JSON as other programs write it: [`JsonObject`], [`AnyCaseObject`], [`BoundedList`], [`without_lone_surrogates`].

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IntoDeserializer as _, MapAccess, SeqAccess, Visitor,
};

/// Defines a JSON object with the fields of `T`. The code that serde derives also accepts an array of the fields, which
/// other readers of the same bytes would refuse.
macro_rules! object {
    ($(#[doc = $doc:literal])+ $name:ident, |$map:ident| $read:expr) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug)]
        pub(crate) struct $name<T>(pub(crate) T);

        impl<'de, T: Deserialize<'de>> Deserialize<'de> for $name<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Object<T>(PhantomData<T>);

                impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
                    type Value = $name<T>;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: MapAccess<'de>>(self, $map: A) -> Result<$name<T>, A::Error> {
                        T::deserialize(MapAccessDeserializer::new($read)).map($name)
                    }
                }

                deserializer.deserialize_map(Object(PhantomData))
            }
        }
    };
}

object! {
    /// A JSON object.
    JsonObject, |map| map
}

object! {
    /// A JSON object whose field names may have any case, as in Go's `encoding/json`. The fields of `T` have lower-case
    /// names. It is an error if two names differ only in case.
    AnyCaseObject, |map| LowerCaseKeys(map)
}

impl<T> Deref for JsonObject<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Makes the keys of a map lower case.
struct LowerCaseKeys<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for LowerCaseKeys<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let key = self.0.next_key::<String>()?;
        key.map(|key| seed.deserialize(key.to_lowercase().into_deserializer())).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.0.next_value_seed(seed)
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

/// A list of at most `MAX` elements. Reading stops at the limit, so that a short text cannot use much memory.
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

/// Replaces each escape of half a surrogate pair (`\ud83d` alone) by U+FFFD, as Go does. JSON allows such escapes (RFC
/// 8259, 8.2), but they are not Unicode, and our parser refuses them.
pub(crate) fn without_lone_surrogates(json: &str) -> Cow<'_, str> {
    let mut replaced = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(backslash) = json[at..].find('\\') {
        let escape = at + backslash;
        let Some(unit) = code_unit(json, escape) else {
            // A simple escape. The character after the backslash starts no other escape.
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

/// The length of `\uXXXX`.
const ESCAPE_LENGTH: usize = 6;

/// The UTF-16 code unit of an escape at a position; `None` if there is no escape.
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
