//! Pure. Which shard a record goes to.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use super::{
    annotation::OPEN,
    record::{OpenError, Opening, Storable},
    shard::{Changes, FILLED, GROWN, LARGEST, bytes},
    slot::{Place, Slot},
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
    pub(super) length: usize,
    /// It is to be held.
    pub(super) held: bool,
}

/// Whether there is room for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    In(usize),
    /// In a shard that is not used for now.
    Later,
    Full,
}

impl Room {
    fn now(self) -> Option<usize> {
        match self {
            Self::In(number) => Some(number),
            Self::Later | Self::Full => None,
        }
    }
}

impl<R: Storable> LedgerState<R> {
    /// Opens for which there is no room anywhere hear that, as far as they come before the next one to be written.
    pub(super) fn reject_opens_without_room(&mut self, now: Duration) {
        let mut waiting = 0;
        while let Some(open) = self.pending.get(waiting) {
            match self.room_for(&open.uid, open.value.len(), now) {
                Room::In(_) => {
                    self.full = false;
                    return;
                }
                Room::Later => waiting += 1,
                Room::Full => {
                    // One that replaces another is written where that one stands: from memory as well.
                    let is_home = self.home(&open.uid, open.value.len()).is_some();
                    let quota = self.no_new_shards.as_ref();
                    let quota = quota.filter(|quota| quota.until > now && !is_home).cloned();
                    let Some(open) = self.pending.remove(waiting) else {
                        return;
                    };
                    if let Some(quota) = quota {
                        self.refuse_opens(vec![open], &quota.error);
                    } else {
                        self.full = true;
                        self.effects.answers.push((open.ticket, Err(OpenError::Full)));
                    }
                }
            }
        }
    }

    /// A shard for the first open that does not have to wait.
    pub(super) fn place_for_opens(&self, now: Duration) -> Option<usize> {
        self.pending
            .iter()
            .find_map(|open| self.room_for(&open.uid, open.value.len(), now).now())
    }

    /// A shard for a record that stands in memory only, or is to be held and stands nowhere.
    pub(super) fn place_for_unstored(&self, now: Duration) -> Option<usize> {
        if self.refused.is_some() {
            return None;
        }
        // Under a quota there may be many, and this is asked before each write.
        let mut without_room = usize::MAX;
        self.unstored().find_map(|record| {
            let (uid, taken) = (record.uid, record.uid.len() + record.length);
            let is_bound = || {
                let is_there = |slot: &Slot<R>| slot.shard.value(OPEN, uid).is_some();
                self.home(uid, record.length).is_some() || self.slots.iter().any(is_there)
            };
            if taken >= without_room && !is_bound() {
                return None;
            }
            let number = self.room_for(uid, record.length, now).now();
            if number.is_none() && !is_bound() {
                without_room = taken;
            }
            number
        })
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
                length: known.length,
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
                length: hold.length,
                held: true,
            });
        open.chain(hold)
    }

    /// Whether a record of this claim goes to another shard than this one.
    pub(super) fn is_elsewhere(&self, number: usize, uid: &str, length: usize) -> bool {
        self.home(uid, length).is_some_and(|home| home != number)
    }

    fn room_for(&self, uid: &str, length: usize, now: Duration) -> Room {
        let has_room = |number: &usize| self.fits(*number, uid, length, &self.removals(*number));
        let is_ready = |number: &usize| self.is_ready(*number, now);
        if let Some(number) = self.home(uid, length) {
            return match (is_ready(&number), has_room(&number)) {
                (true, true) => Room::In(number),
                (true, false) => Room::Full,
                (false, _) => Room::Later,
            };
        }
        let there = (0..self.slots.len()).filter(is_ready).filter(has_room);
        // Not one that has failed and was not written since. Erasures ride along. Of several that are alike the first:
        // shards that exist before those that do not.
        let rank = |number: &usize| {
            let slot = &self.slots[*number];
            (slot.pause.error().is_some(), Reverse(slot.erasing.len()))
        };
        match there.min_by_key(rank) {
            Some(number) => Room::In(number),
            None if (0..self.slots.len()).any(|number| has_room(&number) && self.may_exist(number, now)) => {
                Room::Later
            }
            None => Room::Full,
        }
    }

    /// Whether the shard can be written now: what stands there is known and ours, and it does not fail.
    pub(super) fn is_ready(&self, number: usize, now: Duration) -> bool {
        let slot = &self.slots[number];
        slot.pause.is_over(now)
            && self.may_exist(number, now)
            && !slot.must_read
            && !slot.shard.is_unread()
            && (slot.ours || !slot.shard.is_present())
    }

    /// Whether the shard exists, or can be created as far as is known.
    pub(super) fn may_exist(&self, number: usize, now: Duration) -> bool {
        self.may_create_at() <= now || self.slots[number].shard.is_present()
    }

    /// When it is tried again to create a shard.
    pub(super) fn may_create_at(&self) -> Duration {
        self.no_new_shards
            .as_ref()
            .map_or(Duration::ZERO, |no_new_shards| no_new_shards.until)
    }

    /// Where a record of this claim stands already, or may stand: there it is written over.
    pub(super) fn home(&self, uid: &str, length: usize) -> Option<usize> {
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
        if slot.shard.is_unread() {
            return false;
        }
        let slack = if self.settings.elected { 0 } else { UID_SLACK };
        let size = slot.shard.size_with(changes);
        let taken = bytes(OPEN, uid) + length + slack;
        let mine = self.is_at(uid, number) || slot.erasing.contains(uid);
        match slot.shard.value(OPEN, uid) {
            // Another process's, or unreadable: it is not written over.
            Some(_) if !mine => false,
            Some(old) => {
                let is_counted = !changes.contains_key(&format!("{OPEN}{uid}"));
                let replaced = if is_counted {
                    bytes(OPEN, uid) + old.len()
                } else {
                    0
                };
                size + taken <= GROWN + replaced
            }
            None => {
                let records = size - slot.shard.foreign();
                size + taken <= GROWN
                    && (records + taken <= FILLED || (records == 0 && taken <= LARGEST + slack))
            }
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
