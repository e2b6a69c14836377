//! Pure. Which shard a record goes to.

use std::{cmp::Reverse, sync::Arc};

use super::{
    annotation::OPEN,
    record::{Opening, Storable},
    shard::{Changes, FILLED, GROWN, LARGEST},
    slot::{Place, value_of},
    state::LedgerState,
};

/// What the UID of the shard's Lease may add to a value, compressed.
const UID_SLACK: usize = 64;

/// A record that stands in memory only.
pub(super) struct Unstored<'a, R> {
    pub(super) uid: &'a String,
    pub(super) record: &'a Arc<R>,
    pub(super) opening: &'a Opening,
    pub(super) approved: bool,
    /// It is to be held.
    pub(super) held: bool,
}

impl<R: Storable> LedgerState<R> {
    /// A shard for the open that has waited longest.
    pub(super) fn place_for_first(&self) -> Option<usize> {
        let first = self.pending.front()?;
        self.place_for(&first.uid, first.value.len())
    }

    /// A shard for a record that stands in memory only, or is to be held and stands nowhere.
    pub(super) fn place_for_unstored(&self) -> Option<usize> {
        if self.refused.is_some() {
            return None;
        }
        let value = |record: &Unstored<'_, R>| value_of(&**record.record, record.opening, record.approved);
        self.unstored()
            .find_map(|record| self.place_for(record.uid, value(&record).len()))
    }

    /// Records that stand in memory only: those that are open, then those that are to be held.
    pub(super) fn unstored(&self) -> impl Iterator<Item = Unstored<'_, R>> {
        let open = self.in_memory.iter().filter_map(|uid| {
            let known = self.open.get(uid)?;
            Some(Unstored {
                uid,
                record: &known.entry.record,
                opening: &known.opening,
                approved: known.approved,
                held: false,
            })
        });
        let hold = self.pending_holds.iter();
        let hold = hold
            .filter(|(_, hold)| hold.place == Place::Memory)
            .map(|(uid, hold)| Unstored {
                uid,
                record: &hold.record,
                opening: &hold.opening,
                approved: false,
                held: true,
            });
        open.chain(hold)
    }

    /// Whether a record of this claim goes to another shard than this one.
    pub(super) fn is_elsewhere(&self, number: usize, uid: &str, length: usize) -> bool {
        self.preferred(uid, length).is_some_and(|home| home != number)
    }

    fn place_for(&self, uid: &str, length: usize) -> Option<usize> {
        if let Some(number) = self.preferred(uid, length) {
            return self
                .fits(number, uid, length, &self.removals(number))
                .then_some(number);
        }
        let there =
            (0..self.slots.len()).filter(|number| self.fits(*number, uid, length, &self.removals(*number)));
        // Erasures ride along. Of several that are alike the first: shards that exist before those that do not.
        there.min_by_key(|number| Reverse(self.slots[*number].erasing.len()))
    }

    /// Where a record of this claim stands already, or may stand: there it is written over.
    fn preferred(&self, uid: &str, length: usize) -> Option<usize> {
        match self.open.get(uid).map(|known| known.place) {
            Some(Place::Shard(number)) => Some(number),
            _ => (0..self.slots.len()).find(|number| {
                self.slots[*number].erasing.contains(uid)
                    && self.fits(*number, uid, length, &self.removals(*number))
            }),
        }
    }

    /// Whether a record of this claim may be added to what is written to the shard.
    pub(super) fn fits(&self, number: usize, uid: &str, length: usize, changes: &Changes) -> bool {
        let slot = &self.slots[number];
        if slot.must_read
            || slot.invalid_until.is_some()
            || slot.shard.is_unread()
            || (slot.shard.is_present() && !slot.ours)
        {
            return false;
        }
        let slack = if self.settings.elected { 0 } else { UID_SLACK };
        let size = slot.shard.size_with(changes);
        let taken = OPEN.len() + uid.len() + length + slack;
        let mine = self.is_at(uid, number) || slot.erasing.contains(uid);
        match slot.shard.value(OPEN, uid) {
            // Another process's, or unreadable: it is not written over.
            Some(_) if !mine => false,
            Some(_) => size + taken <= GROWN,
            None => size + taken <= FILLED || (size == 0 && taken <= LARGEST + slack),
        }
    }

    /// What is taken out of a shard with the next write.
    pub(super) fn removals(&self, number: usize) -> Changes {
        let slot = &self.slots[number];
        let there = slot
            .erasing
            .iter()
            .filter(|uid| slot.shard.value(OPEN, uid).is_some());
        there.map(|uid| (format!("{OPEN}{uid}"), None)).collect()
    }
}
