//! Pure. What a reflector has seen of one kind of object, by key, and what a relist no longer shows.
//!
//! kube's watcher announces a relist and then replays what exists; what is gone it never names. A store stamps each
//! entry with the list it was last seen in, so the end of a list yields the entries that must have been deleted.

use std::collections::HashMap;

/// Entries by key.
#[derive(Debug)]
pub(super) struct Store<T> {
    entries: HashMap<Box<str>, (u32, T)>,
    list: u32,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            list: 0,
        }
    }
}

impl<T> Store<T> {
    /// Puts an entry, returning the one it replaces.
    pub(super) fn insert(&mut self, key: &str, value: T) -> Option<T> {
        if let Some(slot) = self.entries.get_mut(key) {
            return Some(std::mem::replace(slot, (self.list, value)).1);
        }
        self.entries.insert(key.into(), (self.list, value));
        None
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, key: &str) -> Option<T> {
        let removed = self.entries.remove(key).map(|(_, value)| value);
        self.shrink();
        removed
    }

    /// The entry under a key.
    pub(super) fn get(&self, key: &str) -> Option<&T> {
        self.entries.get(key).map(|(_, value)| value)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(|key| &**key)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.values().map(|(_, value)| value)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A list begins. A list that was cut off simply begins again.
    pub(super) fn begin_list(&mut self) {
        self.list = self.list.wrapping_add(1);
    }

    /// The list is complete: what it did not show is gone.
    pub(super) fn finish_list(&mut self) -> Vec<(Box<str>, T)> {
        let list = self.list;
        let gone = self
            .entries
            .extract_if(|_, (seen, _)| *seen != list)
            .map(|(key, (_, value))| (key, value))
            .collect();
        self.shrink();
        gone
    }

    /// A map does not shrink by itself: without this, one burst would cost its memory for ever.
    fn shrink(&mut self) {
        if self.entries.capacity() > 64 && self.entries.len() < self.entries.capacity() / 8 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_relist_does_not_show_is_gone() {
        let mut store = Store::default();
        store.begin_list();
        store.insert("a", 1);
        store.insert("b", 2);
        assert_eq!(store.finish_list(), []);
        store.insert("c", 3);
        store.begin_list();
        store.insert("b", 2);
        assert_eq!(
            store.get("a"),
            Some(&1),
            "until the list is complete nothing is missing"
        );
        let mut gone = store.finish_list();
        gone.sort_unstable();
        assert_eq!(gone, [("a".into(), 1), ("c".into(), 3)]);
        assert_eq!(store.get("b"), Some(&2));
    }

    #[test]
    fn a_list_that_was_cut_off_counts_for_nothing() {
        let mut store = Store::default();
        store.begin_list();
        store.insert("a", 1);
        store.begin_list();
        assert_eq!(store.finish_list(), [("a".into(), 1)]);
    }

    #[test]
    fn memory_of_a_burst_is_given_back() {
        let mut store = Store::default();
        for n in 0..10_000 {
            store.insert(&n.to_string(), n);
        }
        for n in 0..10_000 {
            assert_eq!(store.remove(&n.to_string()), Some(n));
        }
        assert!(
            store.entries.capacity() < 200,
            "capacity {}",
            store.entries.capacity()
        );
        for n in 0..10_000 {
            store.insert(&n.to_string(), n);
        }
        store.begin_list();
        assert_eq!(store.finish_list().len(), 10_000, "all in one relist");
        assert!(
            store.entries.capacity() < 200,
            "capacity {}",
            store.entries.capacity()
        );
    }
}
