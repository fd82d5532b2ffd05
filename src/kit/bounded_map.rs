//! [`BoundedMap`]: a map with a limit, so that clients cannot make it grow without end.
//!
//! A full map makes room by removing what was not used for the longest time. So a client that fills it with new keys
//! displaces the old ones step by step, and never everything at once.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// The part of a full map that is removed at once: one in this many. Then the cost of finding the oldest entries is spread
/// over as many insertions.
const REMOVED: usize = 8;

/// A hash map with at most `MAX` entries. Does not print: keys are often hashes of secrets.
pub(crate) struct BoundedMap<K, V, const MAX: usize> {
    entries: HashMap<K, Entry<V>>,
    /// Counts insertions and uses.
    uses: u64,
}

struct Entry<V> {
    value: V,
    /// The number of the last use.
    used: u64,
}

impl<K, V, const MAX: usize> Default for BoundedMap<K, V, MAX> {
    fn default() -> Self {
        Self { entries: HashMap::new(), uses: 0 }
    }
}

impl<K, V, const MAX: usize> std::fmt::Debug for BoundedMap<K, V, MAX> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BoundedMap({} of {MAX})", self.entries.len())
    }
}

impl<K: Eq + Hash, V, const MAX: usize> BoundedMap<K, V, MAX> {
    /// Sets the value of a key in a cache. If the map is full and lacks the key, removes the values that are not `current`,
    /// and the oldest ones.
    pub(crate) fn insert(&mut self, key: K, value: V, current: impl Fn(&V) -> bool) {
        self.make_room(&key, current);
        let used = self.next_use();
        self.entries.insert(key, Entry { value, used });
    }

    /// Returns the value of a key in a cache, which counts as a use. Makes it if the key is missing. Makes room as
    /// [`BoundedMap::insert`] does.
    pub(crate) fn get_or_insert_with(
        &mut self,
        key: K,
        make: impl FnOnce() -> V,
        current: impl Fn(&V) -> bool,
    ) -> &mut V {
        self.make_room(&key, current);
        let used = self.next_use();
        let entry = self.entries.entry(key).or_insert_with(|| Entry { value: make(), used });
        entry.used = used;
        &mut entry.value
    }

    /// Sets the value of a key, for values that must not be forgotten. If the map is full and lacks the key, removes
    /// the values that are not `current`. Returns `false` and changes nothing if all are current.
    #[must_use]
    pub(crate) fn try_insert(&mut self, key: K, value: V, current: impl Fn(&V) -> bool) -> bool {
        if self.is_full_for(&key) {
            self.retain(current);
        }
        let has_room = !self.is_full_for(&key);
        if has_room {
            let used = self.next_use();
            self.entries.insert(key, Entry { value, used });
        }
        has_room
    }

    fn is_full_for(&self, key: &K) -> bool {
        self.entries.len() >= MAX && !self.entries.contains_key(key)
    }

    fn make_room(&mut self, key: &K, current: impl Fn(&V) -> bool) {
        if !self.is_full_for(key) {
            return;
        }
        self.retain(current);
        let surplus = (self.entries.len() + (MAX / REMOVED).max(1)).saturating_sub(MAX);
        if surplus > 0 {
            let mut uses: Vec<u64> = self.entries.values().map(|entry| entry.used).collect();
            let (_, newest, _) = uses.select_nth_unstable(surplus - 1);
            let newest = *newest;
            self.entries.retain(|_, entry| entry.used > newest);
        }
    }

    fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key).map(|entry| &entry.value)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key).map(|entry| entry.value)
    }

    /// Removes the values that are not `current`.
    pub(crate) fn retain(&mut self, current: impl Fn(&V) -> bool) {
        self.entries.retain(|_, entry| current(&entry.value));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes all values.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (K, V)> + use<'_, K, V, MAX> {
        self.entries.drain().map(|(key, entry)| (key, entry.value))
    }

    pub(crate) fn values(&self) -> impl ExactSizeIterator<Item = &V> {
        self.entries.values().map(|entry| &entry.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_drops_outdated_values_first() {
        let mut map = BoundedMap::<u8, u8, 3>::default();
        for key in 0..3 {
            assert!(map.try_insert(key, key, |_| true));
        }
        assert!(!map.try_insert(3, 3, |_| true), "full");
        assert!(map.try_insert(2, 9, |_| true), "a key that is present needs no room");
        assert!(map.try_insert(3, 3, |value| *value != 0));
        assert_eq!((map.values().len(), map.get(&0), map.get(&2)), (3, None, Some(&9)));
        map.insert(1, 7, |_| false);
        assert_eq!((map.values().len(), map.get(&1)), (3, Some(&7)), "a key that is present removes nothing");
        map.insert(4, 4, |value| *value == 9);
        assert_eq!((map.values().len(), map.get(&2), map.get(&4)), (2, Some(&9), Some(&4)));
    }

    #[test]
    fn a_full_cache_drops_the_oldest_values_and_never_all() {
        let mut map = BoundedMap::<u32, u32, 80>::default();
        for key in 0..80 {
            map.insert(key, key, |_| true);
        }
        assert_eq!(*map.get_or_insert_with(0, || 1000, |_| true), 0, "used again");
        for key in 80..1000 {
            map.insert(key, key, |_| true);
            assert!((70..=80).contains(&map.values().len()), "{}", map.values().len());
            assert_eq!(map.get(&key), Some(&key));
            assert_eq!(map.get(&(key - 69)), Some(&(key - 69)), "the last ones stay");
        }
        assert_eq!(map.get(&1), None);
        let mut used = BoundedMap::<u32, u32, 8>::default();
        for key in 0..50 {
            used.insert(key, key, |_| true);
            *used.get_or_insert_with(7, || 0, |_| true) += 1;
        }
        assert!(used.get(&7).is_some_and(|count| *count >= 43), "an entry that is used stays");
    }
}
