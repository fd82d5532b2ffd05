//! JSON of other programs, of which everything usable is read: a value of an unexpected type counts as missing.
//!
//! Lists and objects have a limit. What is beyond it is skipped and counted, so that hostile JSON takes no more memory
//! than its text.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A value of type `T`, or its default if the JSON has another type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lenient<T>(pub(super) T);

/// A type that can be read from some types of JSON values.
pub(super) trait FromJson: Default {
    fn from_text(_: &str) -> Self {
        Self::default()
    }

    fn from_boolean(_: bool) -> Self {
        Self::default()
    }

    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }

    fn from_object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}

impl<'de, T: FromJson> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading(PhantomData)).map(Self)
    }
}

struct Reading<T>(PhantomData<T>);

impl<'de, T: FromJson> Visitor<'de> for Reading<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        Ok(T::from_boolean(value))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Ok(T::from_text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
        T::from_list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<T, A::Error> {
        T::from_object(object)
    }
}

impl FromJson for String {
    fn from_text(text: &str) -> Self {
        text.to_owned()
    }
}

impl FromJson for bool {
    fn from_boolean(value: bool) -> Self {
        value
    }
}

/// The fields of an object. They must be lenient too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields<T>(pub(super) T);

impl<T: DeserializeOwned + Default> FromJson for Fields<T> {
    fn from_object<'de, A: MapAccess<'de>>(object: A) -> Result<Self, A::Error> {
        T::deserialize(MapAccessDeserializer::new(object)).map(Self)
    }
}

/// The first values of a list, or the only value if there is one instead of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List<T, const MAX: usize> {
    pub(super) values: Vec<T>,
    /// The number of all values.
    pub(super) total: usize,
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self { values: Vec::new(), total: 0 }
    }
}

impl<T: FromJson, const MAX: usize> FromJson for List<T, MAX> {
    fn from_text(text: &str) -> Self {
        Self { values: vec![T::from_text(text)], total: 1 }
    }

    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut read = Self::default();
        loop {
            if read.values.len() < MAX {
                let Some(Lenient(value)) = list.next_element()? else { break };
                read.values.push(value);
            } else if list.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
            read.total += 1;
        }
        Ok(read)
    }
}

/// The first entries of an object, in its order. A value that is no text is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entries<const MAX: usize> {
    pub(super) entries: Vec<(String, String)>,
    /// The number of all entries.
    pub(super) total: usize,
}

impl<const MAX: usize> FromJson for Entries<MAX> {
    fn from_object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        let mut read = Self::default();
        loop {
            if read.entries.len() < MAX {
                let Some((key, Lenient(value))) = object.next_entry()? else { break };
                read.entries.push((key, value));
            } else if object.next_entry::<IgnoredAny, IgnoredAny>()?.is_none() {
                break;
            }
            read.total += 1;
        }
        Ok(read)
    }
}
