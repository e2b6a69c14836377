//! Pure. Rows under their keys, and what a relist no longer shows.
//!
//! kube's watcher announces a relist and then replays what exists; what is gone it never names. A shelf stamps each
//! row with the list it was last seen in, so the end of a list yields the rows that must have been deleted.

use std::collections::HashMap;

/// Rows by key.
#[derive(Debug)]
pub(super) struct Store<R> {
    rows: HashMap<Box<str>, (u32, R)>,
    list: u32,
}

impl<R> Default for Store<R> {
    fn default() -> Self {
        Self {
            rows: HashMap::new(),
            list: 0,
        }
    }
}

impl<R> Store<R> {
    /// Puts a row, returning the one it replaces.
    pub(super) fn put(&mut self, key: &str, row: R) -> Option<R> {
        if let Some(slot) = self.rows.get_mut(key) {
            return Some(std::mem::replace(slot, (self.list, row)).1);
        }
        self.rows.insert(key.into(), (self.list, row));
        None
    }

    /// Takes a row away.
    pub(super) fn take(&mut self, key: &str) -> Option<R> {
        let taken = self.rows.remove(key).map(|(_, row)| row);
        self.give_back();
        taken
    }

    /// The row under a key.
    pub(super) fn get(&self, key: &str) -> Option<&R> {
        self.rows.get(key).map(|(_, row)| row)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// A list begins. A list that was cut off simply begins again.
    pub(super) fn begin(&mut self) {
        self.list = self.list.wrapping_add(1);
    }

    /// The list is complete: what it did not show is gone.
    pub(super) fn finish(&mut self) -> Vec<(Box<str>, R)> {
        let list = self.list;
        let gone = self
            .rows
            .extract_if(|_, (seen, _)| *seen != list)
            .map(|(key, (_, row))| (key, row))
            .collect();
        self.give_back();
        gone
    }

    /// A map does not shrink by itself: without this, one burst would cost its memory for ever.
    fn give_back(&mut self) {
        if self.rows.capacity() > 64 && self.rows.len() < self.rows.capacity() / 8 {
            self.rows.shrink_to(self.rows.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_relist_does_not_show_is_gone() {
        let mut shelf = Store::default();
        shelf.begin();
        shelf.put("a", 1);
        shelf.put("b", 2);
        assert_eq!(shelf.finish(), []);
        shelf.put("c", 3);
        shelf.begin();
        shelf.put("b", 2);
        assert_eq!(
            shelf.get("a"),
            Some(&1),
            "until the list is complete nothing is missing"
        );
        let mut gone = shelf.finish();
        gone.sort_unstable();
        assert_eq!(gone, [("a".into(), 1), ("c".into(), 3)]);
        assert_eq!(shelf.get("b"), Some(&2));
    }

    #[test]
    fn a_list_that_was_cut_off_counts_for_nothing() {
        let mut shelf = Store::default();
        shelf.begin();
        shelf.put("a", 1);
        shelf.begin();
        assert_eq!(shelf.finish(), [("a".into(), 1)]);
    }

    #[test]
    fn memory_of_a_burst_is_given_back() {
        let mut shelf = Store::default();
        for n in 0..10_000 {
            shelf.put(&n.to_string(), n);
        }
        for n in 0..10_000 {
            assert_eq!(shelf.take(&n.to_string()), Some(n));
        }
        assert!(shelf.rows.capacity() < 200, "capacity {}", shelf.rows.capacity());
        for n in 0..10_000 {
            shelf.put(&n.to_string(), n);
        }
        shelf.begin();
        assert_eq!(shelf.finish().len(), 10_000, "all in one relist");
        assert!(shelf.rows.capacity() < 200, "capacity {}", shelf.rows.capacity());
    }
}
