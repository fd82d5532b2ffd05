//! [`Cache`]: look-ups that stay valid until the next change.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;

use parking_lot::RwLock;

use crate::kit::bounded_map::BoundedMap;

/// The largest number of entries.
const ENTRIES_MAX: usize = 10_000;

/// Values by key, each with the generation it was looked up in.
pub(crate) struct Cache<K, V>(RwLock<BoundedMap<K, (u64, V), ENTRIES_MAX>>);

/// Prints no entries, because some keys are hashes of secrets.
impl<K, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cache")
    }
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    /// Returns the value of a key if it was looked up in this generation.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q, generation: u64) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let entries = self.0.read();
        entries.get(key).filter(|(known, _)| *known == generation).map(|(_, value)| value.clone())
    }

    /// Keeps a value whose look-up began in this generation.
    pub(crate) fn put(&self, key: K, generation: u64, value: V) {
        self.0.write().insert(key, (generation, value), |(known, _)| *known == generation);
    }

    /// Returns the value of a key and looks it up if it is not cached for this generation. A missing value is not kept.
    pub(crate) fn get_or_load<Q, E>(
        &self,
        key: &Q,
        generation: u64,
        load: impl FnOnce() -> Result<Option<V>, E>,
    ) -> Result<Option<V>, E>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ToOwned<Owned = K> + ?Sized,
    {
        if let Some(known) = self.get(key, generation) {
            return Ok(Some(known));
        }
        let value = load()?;
        if let Some(value) = &value {
            self.put(key.to_owned(), generation, value.clone());
        }
        Ok(value)
    }
}
