//! [`Cache`]: look-ups that stay true until something changes.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;

use parking_lot::RwLock;

use crate::kit::bounded_map::BoundedMap;

/// At most this many values are kept.
const ENTRIES_MAX: usize = 10_000;

/// Values by key, each with the generation it was looked up in.
pub(crate) struct Cache<K, V>(RwLock<BoundedMap<K, (u64, V), ENTRIES_MAX>>);

/// Neither keys nor values: among the keys are hashes of secrets.
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
    /// The value of a key, if it was looked up in this generation.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q, generation: u64) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let entries = self.0.read();
        entries.get(key).filter(|(known, _)| *known == generation).map(|(_, value)| value.clone())
    }

    /// Keeps a value whose look-up began in this generation.
    pub(crate) fn put(&self, key: K, generation: u64, value: V) {
        self.0.write().entry(key, |(known, _)| *known == generation).insert_entry((generation, value));
    }
}
