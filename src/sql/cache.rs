//! A cache of bounded size and bounded work: a table of small sets, with a second chance for what was used.
//!
//! A key may live in one set only, so a look-up compares at most `WAYS` hashes whatever an attacker sends; a hit
//! compares the whole key. Eviction happens inside the set, and by a sweeping hand where bytes run out.

use std::fmt;
use std::ops::Range;

/// Entries per set.
const WAYS: usize = 8;

/// What an entry costs besides its key and what its value says it costs.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// A bounded map from (catalog, key) to `V`.
pub(super) struct Cache<V> {
    slots: Vec<Option<Entry<V>>>,
    sets: usize,
    entries: usize,
    bytes: usize,
    bytes_max: usize,
    hand: usize,
}

struct Entry<V> {
    hash: u64,
    catalog: (u64, u64),
    key: Box<[u8]>,
    value: V,
    cost_bytes: usize,
    used: bool,
}

impl<V> Entry<V> {
    /// Whether it is about this text in some state of this catalog.
    fn is_about(&self, catalog: (u64, u64), key: &[u8]) -> bool {
        self.catalog.0 == catalog.0 && *self.key == *key
    }
}

impl<V> fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("bytes", &self.bytes)
            .field("bytes_max", &self.bytes_max)
            .finish_non_exhaustive()
    }
}

impl<V> Cache<V> {
    /// A cache of at most `entries_max` entries (rounded up to whole sets) and `bytes_max` bytes.
    pub(super) fn new(entries_max: usize, bytes_max: usize) -> Self {
        let sets = entries_max.div_ceil(WAYS).max(1).next_power_of_two();
        let mut slots = Vec::new();
        slots.resize_with(sets * WAYS, || None);
        Self { slots, sets, entries: 0, bytes: 0, bytes_max, hand: 0 }
    }

    fn slots_of(&self, hash: u64) -> Range<usize> {
        // The upper half: the low bits of the hash's last multiplication are its weakest.
        let index = usize::try_from(hash >> 32).unwrap_or(0) & (self.sets - 1);
        index * WAYS..(index + 1) * WAYS
    }

    fn set(&mut self, hash: u64) -> &mut [Option<Entry<V>>] {
        let slots = self.slots_of(hash);
        self.slots.get_mut(slots).unwrap_or_default()
    }

    /// What is kept in the set of a hash: keys and values.
    pub(super) fn beside(&self, hash: u64) -> impl Iterator<Item = (&[u8], &V)> {
        let set = self.slots.get(self.slots_of(hash)).unwrap_or_default();
        set.iter().flatten().map(|entry| (&*entry.key, &entry.value))
    }

    /// The value under a key.
    #[inline]
    pub(super) fn find(&mut self, hash: u64, catalog: (u64, u64), key: &[u8]) -> Option<&V> {
        let entry = self
            .set(hash)
            .iter_mut()
            .flatten()
            .find(|entry| entry.hash == hash && entry.catalog == catalog && *entry.key == *key)?;
        entry.used = true;
        Some(&entry.value)
    }

    /// Puts a value under a key, in place of an older one, which is given. `value_bytes` is what the value holds on the
    /// heap.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        catalog: (u64, u64),
        key: &[u8],
        (value, value_bytes): (V, usize),
    ) -> Option<V> {
        let cost_bytes = ENTRY_OVERHEAD_BYTES + key.len() + value_bytes;
        // One text must not push out everything else.
        if cost_bytes > self.bytes_max / 4 {
            return None;
        }
        let entry = Entry { hash, catalog, key: key.into(), value, cost_bytes, used: false };
        let set = self.set(hash);
        let place = place_for(set, &entry);
        let old = set.get_mut(place).and_then(|slot| slot.replace(entry));
        self.note_removed(old.as_ref());
        self.bytes += cost_bytes;
        self.entries += 1;
        self.shrink();
        old.filter(|old| old.is_about(catalog, key)).map(|old| old.value)
    }

    /// Everything that is kept: keys and values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &V)> {
        self.slots.iter().flatten().map(|entry| (&*entry.key, &entry.value))
    }

    /// Drops every entry of a catalog.
    pub(super) fn forget(&mut self, catalog_id: u64) {
        for slot in &mut self.slots {
            if let Some(entry) = slot.take_if(|entry| entry.catalog.0 == catalog_id) {
                self.bytes -= entry.cost_bytes;
                self.entries -= 1;
            }
        }
    }

    fn note_removed(&mut self, entry: Option<&Entry<V>>) {
        if let Some(entry) = entry {
            self.bytes -= entry.cost_bytes;
            self.entries -= 1;
        }
    }

    /// Entries and bytes held. Costs nothing: it is asked for at every tick.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.entries, self.bytes)
    }

    /// The sweeping hand: takes what was not used since it last came by, until the bytes fit. It ends after two
    /// rounds at the latest, because the first one clears every mark.
    fn shrink(&mut self) {
        while self.bytes > self.bytes_max {
            self.hand = (self.hand + 1) % self.slots.len();
            let Some(slot) = self.slots.get_mut(self.hand) else { return };
            match slot {
                Some(entry) if entry.used => entry.used = false,
                Some(_) => {
                    let entry = slot.take();
                    self.note_removed(entry.as_ref());
                }
                None => {}
            }
        }
    }
}

/// The slot of a set that a new entry takes: its own older self, a free one, one of an older state of the same
/// catalog, one not used since the last eviction here, the first.
fn place_for<V>(set: &mut [Option<Entry<V>>], new: &Entry<V>) -> usize {
    let same = |old: &Entry<V>| old.hash == new.hash && old.catalog == new.catalog && old.key == new.key;
    let stale = |old: &Entry<V>| old.catalog.0 == new.catalog.0 && old.catalog.1 != new.catalog.1;
    let at = |test: &dyn Fn(&Option<Entry<V>>) -> bool| set.iter().position(test);
    let found = at(&|slot| slot.as_ref().is_some_and(same))
        .or_else(|| at(&Option::is_none))
        .or_else(|| at(&|slot| slot.as_ref().is_some_and(stale)))
        .or_else(|| at(&|slot| slot.as_ref().is_some_and(|old| !old.used)));
    found.unwrap_or_else(|| {
        set.iter_mut().flatten().for_each(|entry| entry.used = false);
        0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_needs_the_same_catalog_state_and_the_same_key() {
        let mut cache = Cache::new(16, 10_000);
        cache.insert(7, (1, 1), b"a", ('x', 0));
        assert_eq!(cache.find(7, (1, 1), b"a"), Some(&'x'));
        assert_eq!(cache.find(7, (1, 1), b"b"), None);
        assert_eq!(cache.find(7, (1, 2), b"a"), None);
        assert_eq!(cache.find(7, (2, 1), b"a"), None);
        cache.insert(7, (1, 1), b"a", ('y', 0));
        assert_eq!(cache.find(7, (1, 1), b"a"), Some(&'y'));
        assert_eq!(cache.size().0, 1);
        cache.forget(1);
        assert_eq!(cache.size(), (0, 0));
    }

    #[test]
    fn entries_and_bytes_stay_bounded() {
        let mut cache = Cache::new(64, 8_000);
        for n in 0..10_000_u64 {
            let key = n.to_le_bytes();
            cache.insert(n.wrapping_mul(0x9E37_79B9_7F4A_7C15), (1, 1), &key, (n, 100));
            let (entries, bytes) = cache.size();
            assert!(entries <= 64 && bytes <= 8_000, "{entries} {bytes}");
        }
        assert!(cache.size().0 > 20);
        cache.insert(1, (1, 1), &[0; 4_000], (0, 0));
        assert_eq!(cache.find(1, (1, 1), &[0; 4_000]), None, "an entry as large as that is not kept");
    }

    #[test]
    fn what_is_used_stays_when_a_set_is_full() {
        let mut cache = Cache::new(8, 1_000_000);
        for n in 0..8_u8 {
            cache.insert(1, (1, 1), &[n], (n, 0));
        }
        for n in 8..100_u8 {
            assert_eq!(cache.find(1, (1, 1), &[3]), Some(&3));
            cache.insert(1, (1, 1), &[n], (n, 0));
        }
    }
}
