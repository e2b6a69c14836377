//! Pure. What the ledger sends next, and which records go into one write.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    annotation::{HELD, OPEN, SETTLE},
    placing::Unstored,
    record::{Opening, Storable},
    settings::CrashSafe,
    shard::{Changes, Shard},
    slot::{OpenRecord, PendingOpen, Place, SentWrite, Slot, value_of},
    state::LedgerState,
};

/// How long an open record waits at most for others to share its write.
pub(super) const GATHER: Duration = Duration::from_millis(200);
/// It does not wait when the opens that wait are this share of the open records.
const SHARE: usize = 10;
/// How long an erasure waits at most; a little under the second that is promised.
pub(super) const ERASE: Duration = Duration::from_millis(900);
/// How often a shard that has records is written at least. Another replica trusts what was kept within an hour.
pub(super) const KEEP: Duration = Duration::from_secs(300);
/// How often a shard is looked at that has records which are held or cannot be read: a person may have edited it.
pub(super) const LOOK: Duration = Duration::from_secs(60);

/// What is to be sent.
#[derive(Debug)]
pub(super) enum Next {
    /// Read this shard.
    Read(usize),
    Write(Write),
    /// Nothing until then, or until something changes.
    Wait(Option<Duration>),
}

/// A shard as it is to be.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) number: usize,
    /// There is none yet.
    pub(super) create: bool,
    pub(super) object: Value,
}

impl<R: Storable> LedgerState<R> {
    /// What is to be sent now. A write counts as sent.
    pub(super) fn next(&mut self, now: Duration, wall: Timestamp) -> Next {
        self.expire(now);
        match self.choose(now, wall) {
            Next::Wait(at) => Next::Wait(at.into_iter().chain(self.deadline()).min()),
            sent => sent,
        }
    }

    fn choose(&mut self, now: Duration, wall: Timestamp) -> Next {
        if self.taking || self.settings.mode == CrashSafe::Off {
            return Next::Wait(None);
        }
        let begin = self.not_before.max(
            self.refused
                .as_ref()
                .map_or(Duration::ZERO, |refused| refused.until),
        );
        if now < begin {
            return Next::Wait(Some(begin));
        }
        // What could not be read when the term began is not read here, but taken over: this is a trial only.
        let unknown = |slot: &Slot<R>| (slot.must_read || slot.shard.is_unread()) && slot.pause.is_over(now);
        if let Some(number) = self.slots.iter().position(unknown) {
            return Next::Read(number);
        }
        // Something must be written to learn whether that is allowed now.
        if self.refused.is_some()
            && let Some(number) = self.trial(now)
        {
            return self.write(number, wall);
        }
        let looks = |slot: &Slot<R>| {
            let at = (slot.looked + LOOK).max(slot.pause.until());
            let waits_for_person = slot.shard.held() > 0 || !slot.unreadable.is_empty();
            (slot.ours && !slot.must_read && waits_for_person).then_some(at)
        };
        // Before the writes, of which there is always one under load.
        if let Some(number) = self
            .slots
            .iter()
            .position(|slot| looks(slot).is_some_and(|at| at <= now))
        {
            return Next::Read(number);
        }
        if let Some(number) =
            (0..self.slots.len()).find(|number| self.due_at(*number).is_some_and(|at| at <= now))
        {
            return self.write(number, wall);
        }
        if let Some(number) = self.place_for_unstored(now) {
            return self.write(number, wall);
        }
        if self.opens_due_at(now).is_some_and(|at| at <= now) {
            self.reject_opens_without_room(now);
            if let Some(number) = self.place_for_opens(now) {
                return self.write(number, wall);
            }
        }
        let times = (0..self.slots.len()).filter_map(|number| self.due_at(number));
        let times = times.chain(self.slots.iter().filter_map(looks));
        // Opens that are due and still there wait for a shard, which is used again when its pause is over.
        let pauses = self.slots.iter().map(|slot| slot.pause.until());
        let later = pauses.chain(self.opens_due_at(now)).chain([self.may_create_at()]);
        let later = later.filter(|at| *at > now);
        Next::Wait(times.chain(later).min())
    }

    /// The shard to be written after a refusal. Each time another one: what refuses one shard may let others through.
    fn trial(&self, now: Duration) -> Option<usize> {
        let ready = (0..self.slots.len()).filter(|number| self.is_ready(*number, now));
        ready.min_by_key(|number| {
            let slot = &self.slots[*number];
            (slot.pause.until(), !slot.must_write)
        })
    }

    /// When this shard is to be written whatever is opened.
    fn due_at(&self, number: usize) -> Option<Duration> {
        let slot = &self.slots[number];
        // One that was not read is another's, or nobody knows what stands there.
        if slot.must_read
            || slot.shard.is_unread()
            || (slot.shard.is_present() && !slot.ours && !slot.must_write)
        {
            return None;
        }
        let begin = match slot.shard {
            Shard::Absent => slot.pause.until().max(self.may_create_at()),
            _ => slot.pause.until(),
        };
        let here = Place::Shard(number);
        let at_once = slot.must_write
            || slot.restore.iter().any(|uid| self.is_at(uid, number))
            || self.pending_holds.values().any(|hold| hold.place == here)
            || self.settling.keys().any(|(shard, _)| *shard == number);
        if at_once {
            return Some(begin);
        }
        let erase = slot.erasing_since.map(|since| match self.flushing {
            true => Duration::ZERO,
            false => since + ERASE,
        });
        let keep = slot.shard.has_records().then_some(slot.written + KEEP);
        let at = erase.into_iter().chain(keep).min();
        at.map(|at| at.max(begin))
    }

    pub(super) fn is_at(&self, uid: &str, number: usize) -> bool {
        self.open
            .get(uid)
            .is_some_and(|known| known.place == Place::Shard(number))
    }

    /// When the opens that wait are written; `None` when none wait.
    fn opens_due_at(&self, now: Duration) -> Option<Duration> {
        let oldest = self.pending.front()?.since;
        if self.flushing || self.pending.len() * SHARE >= self.open.len() {
            return Some(now);
        }
        // After quiet the first does not wait, however many are open.
        let quiet = self.last_write.map_or(Duration::ZERO, |last| last + GATHER);
        Some((oldest + GATHER).min(quiet))
    }

    /// Puts together what is written to a shard now, and counts it as sent.
    pub(super) fn write(&mut self, number: usize, wall: Timestamp) -> Next {
        let create = !self.slots[number].shard.is_present();
        let mut write = SentWrite {
            create,
            opens: Vec::new(),
            erased: BTreeSet::new(),
            restored: Vec::new(),
            held: Vec::new(),
            settled: Vec::new(),
            stored: Vec::new(),
        };
        let mut changes = Changes::new();
        // A new shard is empty: a POST of a process that has ended may come after everything was read, and no record may
        // appear then. Without election a record needs the UID of its shard besides.
        if !create {
            changes = self.removals(number);
            write.erased = self.slots[number].erasing.clone();
            self.move_held(number, &mut write, &mut changes, wall);
            self.restore(number, &mut write, &mut changes);
            self.fill(number, &mut write, &mut changes);
        }
        let slot = &mut self.slots[number];
        let object = slot.shard.written(changes, &self.settings, number, wall);
        slot.in_flight = Some(write);
        Next::Write(Write {
            number,
            create,
            object,
        })
    }

    /// Records that are held from now on, and those that are not held any more.
    fn move_held(&mut self, number: usize, write: &mut SentWrite<R>, changes: &mut Changes, wall: Timestamp) {
        let shard = &self.slots[number].shard;
        for (uid, hold) in &self.pending_holds {
            if hold.place != Place::Shard(number) {
                continue;
            }
            let value = match shard.value(OPEN, uid) {
                Some(value) => value.to_owned(),
                None => value_of(&*hold.record, &hold.opening, false),
            };
            changes.insert(format!("{OPEN}{uid}"), None);
            changes.insert(format!("{HELD}{uid}"), Some(value));
            write.held.push(uid.clone());
        }
        // One that was settled already, by a write whose answer was lost.
        for (uid, _) in shard.records(SETTLE).filter(|(uid, _)| self.is_at(uid, number)) {
            changes.insert(format!("{HELD}{uid}"), None);
            changes.insert(format!("{SETTLE}{uid}"), None);
        }
        let now = self.opening_at(number, self.new_opening(wall));
        let mine = |(shard, _): &(usize, String)| *shard == number;
        for ((_, uid), known) in self.settling.iter().filter(|(key, _)| mine(key)) {
            let opening = Opening {
                at: known.opening.at,
                ..now.clone()
            };
            let value = value_of(&*known.entry.record, &opening, true);
            let length = value.len();
            changes.insert(format!("{OPEN}{uid}"), Some(value));
            changes.insert(format!("{HELD}{uid}"), None);
            changes.insert(format!("{SETTLE}{uid}"), None);
            let known = OpenRecord {
                entry: known.entry.clone(),
                opening,
                approved: true,
                place: Place::Shard(number),
                length,
            };
            write.settled.push((uid.clone(), known));
        }
    }

    /// The opening of a record as it stands in this shard.
    pub(super) fn opening_at(&self, number: usize, opening: Opening) -> Opening {
        let own = self.slots[number].shard.uid().unwrap_or_default();
        match self.settings.elected {
            true => opening,
            false => Opening {
                lease_uid: own.to_owned(),
                ..opening
            },
        }
    }

    /// Records that a person took out, and that this process knows.
    fn restore(&mut self, number: usize, write: &mut SentWrite<R>, changes: &mut Changes) {
        for uid in self.slots[number].restore.clone() {
            let Some(known) = self
                .open
                .get(&uid)
                .filter(|known| known.place == Place::Shard(number))
            else {
                self.slots[number].restore.remove(&uid);
                continue;
            };
            let opening = self.opening_at(number, known.opening.clone());
            let value = value_of(&*known.entry.record, &opening, known.approved);
            changes.insert(format!("{OPEN}{uid}"), Some(value));
            if let Some(known) = self.open.get_mut(&uid) {
                known.opening = opening;
            }
            write.restored.push(uid);
        }
    }

    /// Adds what fits: records that stand in memory only, then those that wait, first come first served.
    fn fill(&mut self, number: usize, write: &mut SentWrite<R>, changes: &mut Changes) {
        if self.refused.is_none() {
            for Unstored {
                uid,
                record,
                opening,
                approved,
                length,
                held,
            } in self.unstored()
            {
                // Measured as when the shard was chosen: else one is chosen for ever where it does not fit.
                if self.is_elsewhere(number, uid, length) || !self.fits(number, uid, length, changes) {
                    continue;
                }
                let opening = self.opening_at(number, opening.clone());
                let value = value_of(&**record, &opening, approved);
                let prefix = if held { HELD } else { OPEN };
                changes.insert(format!("{prefix}{uid}"), Some(value));
                match held {
                    true => write.held.push(uid.clone()),
                    false => write.stored.push((uid.clone(), opening)),
                }
            }
        }
        let mut left = VecDeque::new();
        for mut open in std::mem::take(&mut self.pending) {
            let elsewhere = self.is_elsewhere(number, &open.uid, open.value.len());
            // One record of a claim in one write.
            let key = format!("{OPEN}{}", open.uid);
            let twice = changes.get(&key).is_some_and(Option::is_some);
            if elsewhere || twice || !self.fits(number, &open.uid, open.value.len(), changes) {
                left.push_back(open);
                continue;
            }
            if !self.settings.elected {
                open.opening = self.opening_at(number, open.opening);
                open.value = value_of(&*open.record, &open.opening, false);
            }
            changes.insert(key, Some(open.value.clone()));
            write.opens.push(open);
        }
        self.pending = left;
    }

    /// The opens of a write that was not carried out wait again, before all others.
    pub(super) fn wait_again(&mut self, opens: Vec<PendingOpen<R>>) {
        for open in opens.into_iter().rev().filter(|open| !open.cancelled) {
            self.pending.push_front(open);
        }
    }
}
