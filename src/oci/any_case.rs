//! [`AnyCaseObject`]: JSON objects as Go reads them.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, Visitor};

/// A JSON object whose field names may be written in any case, as Go's `encoding/json` reads them. The fields of `T`
/// have lower-case names. A name that comes twice, in whatever case, is an error.
#[derive(Clone, Debug)]
pub(crate) struct AnyCaseObject<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for AnyCaseObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
            type Value = AnyCaseObject<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AnyCaseObject<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(LowerCaseKeys(map))).map(AnyCaseObject)
            }
        }

        deserializer.deserialize_map(Object(PhantomData))
    }
}

/// A map whose keys are made lower case.
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
