//! [`BoundedMap`]: a map with a limit, so that clients cannot make it grow without end.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// A hash map with at most `MAX` entries. Does not print: keys are often hashes of secrets.
pub(crate) struct BoundedMap<K, V, const MAX: usize>(HashMap<K, V>);

impl<K, V, const MAX: usize> Default for BoundedMap<K, V, MAX> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K, V, const MAX: usize> std::fmt::Debug for BoundedMap<K, V, MAX> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BoundedMap({} of {MAX})", self.0.len())
    }
}

impl<K: Eq + Hash, V, const MAX: usize> BoundedMap<K, V, MAX> {
    /// Returns the entry of a key for a cache. If the map is full and lacks the key, removes the values that are not
    /// `current`. If all are current, removes all of them.
    pub(crate) fn entry(&mut self, key: K, current: impl Fn(&V) -> bool) -> Entry<'_, K, V> {
        if !self.has_room_for(&key, current) {
            self.0.clear();
        }
        self.0.entry(key)
    }

    /// Sets the value of a key, for values that must not be forgotten. If the map is full and lacks the key, removes
    /// the values that are not `current`. Returns `false` and changes nothing if all are current.
    #[must_use]
    pub(crate) fn try_insert(&mut self, key: K, value: V, current: impl Fn(&V) -> bool) -> bool {
        let has_room = self.has_room_for(&key, current);
        if has_room {
            self.0.insert(key, value);
        }
        has_room
    }

    fn has_room_for(&mut self, key: &K, current: impl Fn(&V) -> bool) -> bool {
        if self.0.len() < MAX || self.0.contains_key(key) {
            return true;
        }
        self.0.retain(|_, value| current(value));
        self.0.len() < MAX
    }

    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.get_mut(key)
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.0.remove(key)
    }

    /// Removes the values that are not `current`.
    pub(crate) fn retain(&mut self, current: impl Fn(&V) -> bool) {
        self.0.retain(|_, value| current(value));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn values(&self) -> impl ExactSizeIterator<Item = &V> {
        self.0.values()
    }
}

impl<K, V, const MAX: usize> IntoIterator for BoundedMap<K, V, MAX> {
    type Item = (K, V);
    type IntoIter = std::collections::hash_map::IntoIter<K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_drops_outdated_values_first_and_all_values_only_in_a_cache() {
        let mut map = BoundedMap::<u8, u8, 3>::default();
        for key in 0..3 {
            assert!(map.try_insert(key, key, |_| true));
        }
        assert!(!map.try_insert(3, 3, |_| true), "full");
        assert!(map.try_insert(2, 9, |_| true), "a key that is present needs no room");
        assert!(map.try_insert(3, 3, |value| *value != 0));
        assert_eq!((map.values().len(), map.get(&0), map.get(&2)), (3, None, Some(&9)));
        map.entry(1, |_| false).insert_entry(7);
        assert_eq!((map.values().len(), map.get(&1)), (3, Some(&7)), "a key that is present removes nothing");
        map.entry(4, |value| *value == 9).or_insert(4);
        assert_eq!((map.values().len(), map.get(&2), map.get(&4)), (2, Some(&9), Some(&4)));
        map.entry(5, |_| true).or_insert(5);
        map.entry(6, |_| true).or_insert(6);
        assert_eq!((map.values().len(), map.get(&6)), (1, Some(&6)));
    }
}
