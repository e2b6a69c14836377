//! Pure. Everything that is known of the ledger: the open records, the shards, and what is still to be written.
//!
//! `next` says what to send, `answers` what follows from the answer, `judge` what a term begins with. Moments are
//! durations since an origin.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    annotation::{OPEN, fits_key, whole_seconds},
    record::{Entry, OpenError, Opening, Origin, Storable},
    settings::{CrashSafe, LedgerSettings},
    shard::{LARGEST, SHARDS, bytes},
    slot::{Effects, Notice, OpenRecord, PendingHold, PendingOpen, Place, Refused, Slot, TermMark, Ticket},
};
use crate::base::api_error::ApiError;

/// How long a record waits at most to be stored.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that is known of the ledger.
#[derive(Debug)]
pub(super) struct LedgerState<R> {
    pub(super) settings: LedgerSettings,
    pub(super) open: HashMap<String, OpenRecord<R>>,
    /// How many were opened when, since the oldest one is shown.
    pub(super) ages: BTreeMap<Timestamp, usize>,
    /// UIDs of those that stand in memory only.
    pub(super) in_memory: BTreeSet<String>,
    pub(super) pending: VecDeque<PendingOpen<R>>,
    pub(super) pending_holds: BTreeMap<String, PendingHold<R>>,
    /// Records that a person wants settled, by shard.
    pub(super) settling: BTreeMap<(usize, String), OpenRecord<R>>,
    pub(super) slots: Vec<Slot<R>>,
    pub(super) term: TermMark,
    /// A term has begun, or is about to, and its writer was not stopped: what stands on the shards is ours to show.
    pub(super) in_term: bool,
    /// The term has not begun yet: nothing but its own reads and writes is sent.
    pub(super) taking: bool,
    /// The term whose records were judged already.
    pub(super) judged: Option<TermMark>,
    pub(super) refused: Option<Refused>,
    /// No shard can be created: a quota. Those that exist are used.
    pub(super) no_new_shards: Option<Refused>,
    /// Shards that could not be read when the term began can be read now: the term is to be taken over once more.
    pub(super) readable: bool,
    /// Another replica was seen to lead since the last take-over.
    pub(super) resigned: bool,
    /// Nothing is sent before.
    pub(super) not_before: Duration,
    pub(super) failures: u32,
    /// How many requests have succeeded.
    pub(super) successes: u64,
    /// The shard that was written last, if it was not deleted since.
    pub(super) last_written: Option<usize>,
    /// Why the last request failed, if it did.
    pub(super) last_error: Option<ApiError>,
    /// When the last write ended.
    pub(super) last_write: Option<Duration>,
    /// There was no room for the last record that was to be opened.
    pub(super) full: bool,
    /// What is left is to be written now.
    pub(super) flushing: bool,
    pub(super) effects: Effects,
    next_ticket: Ticket,
}

impl<R: Storable> LedgerState<R> {
    pub(super) fn new(settings: LedgerSettings) -> Self {
        Self {
            settings,
            open: HashMap::new(),
            ages: BTreeMap::new(),
            in_memory: BTreeSet::new(),
            pending: VecDeque::new(),
            pending_holds: BTreeMap::new(),
            settling: BTreeMap::new(),
            slots: (0..SHARDS).map(|_| Slot::default()).collect(),
            term: TermMark::default(),
            in_term: false,
            taking: true,
            judged: None,
            refused: None,
            no_new_shards: None,
            readable: false,
            resigned: false,
            not_before: Duration::ZERO,
            failures: 0,
            successes: 0,
            last_written: None,
            last_error: None,
            last_write: None,
            full: false,
            flushing: false,
            effects: Effects::default(),
            next_ticket: 0,
        }
    }

    /// Whether what is opened now is stored.
    pub(super) fn keeps(&self) -> bool {
        self.settings.mode != CrashSafe::Off && self.refused.is_none()
    }

    /// What a record that is opened now says of its opening. One that replaces another keeps the other's, by which it
    /// is known again, whichever of them is found.
    pub(super) fn opening(&self, uid: &str, wall: Timestamp) -> Opening {
        let known = self.open.get(uid).map(|known| known.opening.clone());
        known.unwrap_or_else(|| self.new_opening(wall))
    }

    pub(super) fn new_opening(&self, wall: Timestamp) -> Opening {
        Opening {
            at: whole_seconds(wall),
            driver: self.settings.driver.clone(),
            lease_uid: self.term.lease_uid.clone(),
            transitions: self.term.transitions,
            was_stale: false,
        }
    }

    /// Whether this is open already, and stored as far as that goes; then it is taken over.
    pub(super) fn repeats(&mut self, uid: &str, record: &Arc<R>) -> bool {
        let (stores, slots) = (self.keeps(), &self.slots);
        let Some(known) = self.open.get_mut(uid) else {
            return false;
        };
        let stored = match known.place {
            Place::Memory => !stores && self.settings.mode != CrashSafe::Required,
            Place::Shard(number) => !slots[number].restore.contains(uid),
        };
        let same = stored && known.entry.record.encode() == record.encode();
        if same {
            known.entry.record = record.clone();
        }
        same
    }

    /// Opens a record; whether it is there is told later, unless it is known at once.
    pub(super) fn begin_open(
        &mut self,
        uid: &str,
        record: Arc<R>,
        opening: Opening,
        value: String,
        now: Duration,
    ) -> Result<Option<Ticket>, OpenError> {
        let taken = bytes(OPEN, uid) + value.len();
        if !fits_key(uid) {
            return Err(OpenError::NoKey(uid.to_owned()));
        }
        if taken > LARGEST {
            return Err(OpenError::TooLarge { bytes: taken });
        }
        match (self.settings.mode, &self.refused) {
            (CrashSafe::Required, Some(refused)) => Err(OpenError::NotDurable(refused.error.clone())),
            (CrashSafe::Off, _) | (_, Some(_)) => {
                self.keep_in_memory(uid, record, opening, value.len());
                Ok(None)
            }
            _ => {
                self.next_ticket += 1;
                self.pending.push_back(PendingOpen {
                    ticket: self.next_ticket,
                    uid: uid.to_owned(),
                    record,
                    opening,
                    value,
                    since: now,
                    cancelled: false,
                });
                Ok(Some(self.next_ticket))
            }
        }
    }

    /// Nobody waits for this any more.
    pub(super) fn cancel(&mut self, ticket: Ticket) {
        self.pending.retain(|open| open.ticket != ticket);
        let sent = self.slots.iter_mut().filter_map(|slot| slot.in_flight.as_mut());
        for open in sent.flat_map(|write| &mut write.opens) {
            open.cancelled |= open.ticket == ticket;
        }
    }

    /// When the first of the opens that wait has waited for too long.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.pending.iter().map(|open| open.since + PATIENCE).min()
    }

    /// Those that have waited for too long hear what they waited for.
    pub(super) fn expire(&mut self, now: Duration) {
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        for open in std::mem::take(&mut self.pending) {
            if open.since + PATIENCE > now {
                self.pending.push_back(open);
                continue;
            }
            let home = self.home(&open.uid, open.value.len());
            let error = home.and_then(|number| self.slots[number].pause.error());
            let error = error.or(self.last_error.as_ref()).cloned();
            let answer = Err(OpenError::TimedOut(error));
            self.effects.answers.push((open.ticket, answer));
        }
    }

    /// All that wait hear the same.
    pub(super) fn fail_pending(&mut self, error: &OpenError) {
        for open in std::mem::take(&mut self.pending) {
            self.effects.answers.push((open.ticket, Err(error.clone())));
        }
    }

    /// The record is open without being stored. Where it replaces one that is, that is made up for later.
    pub(super) fn keep_in_memory(&mut self, uid: &str, record: Arc<R>, opening: Opening, length: usize) {
        let place = self.open.get(uid).map_or(Place::Memory, |known| known.place);
        if let Place::Shard(number) = place {
            self.slots[number].restore.insert(uid.to_owned());
        }
        self.insert(uid, record, opening, place, length);
    }

    /// The record is open, and keeps the origin of the one that it replaces.
    pub(super) fn insert(
        &mut self,
        uid: &str,
        record: Arc<R>,
        opening: Opening,
        place: Place,
        length: usize,
    ) {
        let origin = self.open.get(uid).map_or(Origin::Own, |known| known.entry.origin);
        let entry = Entry { record, origin };
        self.put(
            uid,
            OpenRecord {
                entry,
                opening,
                approved: false,
                place,
                length,
            },
        );
    }

    /// As it is said here, whatever was known before.
    pub(super) fn put(&mut self, uid: &str, known: OpenRecord<R>) {
        let old = self.take(uid);
        // What is replaced elsewhere must not be found there later.
        if let Some(OpenRecord {
            place: Place::Shard(number),
            ..
        }) = old
            && known.place != Place::Shard(number)
        {
            self.must_go(number, uid, Duration::ZERO);
        }
        *self.ages.entry(known.opening.at).or_default() += 1;
        if known.place == Place::Memory {
            self.in_memory.insert(uid.to_owned());
        }
        self.open.insert(uid.to_owned(), known);
    }

    /// Takes a record out of memory; what stands on a shard is another matter.
    pub(super) fn take(&mut self, uid: &str) -> Option<OpenRecord<R>> {
        let known = self.open.remove(uid)?;
        if let Some(count) = self.ages.get_mut(&known.opening.at) {
            *count -= 1;
            if *count == 0 {
                self.ages.remove(&known.opening.at);
            }
        }
        self.in_memory.remove(uid);
        if self.open.is_empty() {
            // A map does not shrink by itself: without this, one burst would cost its memory for ever.
            self.open = HashMap::new();
        }
        Some(known)
    }

    pub(super) fn erase(&mut self, uid: &str, now: Duration) -> bool {
        let Some(known) = self.take(uid) else {
            return false;
        };
        if let Place::Shard(number) = known.place {
            self.must_go(number, uid, now);
        }
        true
    }

    /// This record must not stand on the shard.
    pub(super) fn must_go(&mut self, number: usize, uid: &str, now: Duration) {
        let slot = &mut self.slots[number];
        slot.restore.remove(uid);
        slot.erasing.insert(uid.to_owned());
        slot.erasing_since.get_or_insert(now);
    }

    /// Takes a record out of memory that stands on a shard, and stays there.
    pub(super) fn forget(&mut self, uid: &str) -> bool {
        let Some(&OpenRecord {
            place: Place::Shard(number),
            ..
        }) = self.open.get(uid)
        else {
            return false;
        };
        self.slots[number].restore.remove(uid);
        self.take(uid).is_some()
    }

    /// The record is to be held from now on.
    pub(super) fn hold(&mut self, uid: &str, why: &str) {
        if let Some(known) = self.take(uid) {
            self.begin_hold(uid, known, why);
        }
    }

    pub(super) fn begin_hold(&mut self, uid: &str, known: OpenRecord<R>, why: &str) {
        let OpenRecord {
            entry: Entry { record, .. },
            opening,
            place,
            length,
            ..
        } = known;
        if let Place::Shard(number) = place {
            self.slots[number].restore.remove(uid);
        }
        self.effects.notices.push(Notice::Held {
            head: record.head(),
            lease: self.lease_of(place),
            why: why.to_owned(),
        });
        let hold = PendingHold {
            record,
            opening,
            place,
            length,
        };
        self.pending_holds.insert(uid.to_owned(), hold);
    }

    /// Whether nothing is left that `flush` is to write.
    pub(super) fn is_flushed(&self) -> bool {
        let is_gone = |slot: &Slot<R>| self.no_new_shards.is_some() && !slot.shard.is_present();
        let left = |slot: &Slot<R>| !slot.ours || slot.pause.is_left_alone() || is_gone(slot);
        let written = |slot: &Slot<R>| left(slot) || (slot.in_flight.is_none() && slot.erasing.is_empty());
        let held = self.pending_holds.values().all(|hold| match hold.place {
            Place::Memory => true,
            Place::Shard(number) => left(&self.slots[number]),
        });
        self.taking || !self.keeps() || (held && self.pending.is_empty() && self.slots.iter().all(written))
    }
}
