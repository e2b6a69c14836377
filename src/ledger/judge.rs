//! Pure. What a term begins with: which of the records that are found are open, in doubt, or held.

use std::{
    collections::{BTreeMap, HashMap},
    mem::replace,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    annotation::OPEN,
    record::{Distrust, Entry, OpenError, Origin, Storable},
    shard::Shard,
    slot::{Notice, OpenRecord, Place, ShardPause, TermMark, read_value},
    state::LedgerState,
    status::TermFacts,
    trust::{Found, distrust, is_kept},
};

const TWO_RECORDS: &str = "its claim has a later record with another request, in another Lease";

/// A record that is not trusted: whether its claim waits decides.
#[derive(Debug)]
pub(super) struct Untrusted<R> {
    pub(super) uid: String,
    pub(super) known: OpenRecord<R>,
    pub(super) why: Distrust,
}

/// An open record that was found in a shard.
struct StoredOpen<R> {
    known: OpenRecord<R>,
    /// Somebody has kept the shard lately.
    kept: bool,
    /// There was an earlier one of the same claim.
    is_second: bool,
}

/// What the leader's Lease says, as far as trust goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judging<'a> {
    term: Option<&'a TermFacts>,
    /// What this process knows counts as it is.
    undisturbed: bool,
    wall: Timestamp,
}

impl<R: Storable> LedgerState<R> {
    /// A term begins: nothing that was sent before counts, and everything is read anew.
    pub(super) fn begin_term<'a>(
        &mut self,
        term: Option<&'a TermFacts>,
        now: Duration,
        wall: Timestamp,
    ) -> Judging<'a> {
        self.forget_writes(now);
        self.fail_pending(&OpenError::NotLeading);
        let mark = term.map_or_else(TermMark::default, |term| TermMark {
            lease_uid: term.lease_uid.clone(),
            transitions: term.transitions,
        });
        // The second try of a take-over: what the first one found was judged by what stood there before it wrote.
        let again = self.judged.as_ref() == Some(&mark);
        // What could not be read was told then.
        if self.term != mark {
            for slot in &mut self.slots {
                slot.unreadable.clear();
            }
        }
        self.term = mark;
        (self.in_term, self.full) = (true, false);
        (self.refused, self.no_new_shards) = (None, None);
        (self.failures, self.not_before) = (0, now);
        (self.flushing, self.taking, self.readable) = (false, true, false);
        self.settling.clear();
        for slot in &mut self.slots {
            slot.shard = Shard::Unread;
            (slot.ours, slot.must_read, slot.must_write) = (false, false, false);
            slot.restore.clear();
        }
        Judging {
            term,
            undisturbed: again || (!self.resigned && term.is_none_or(|term| term.undisturbed)),
            wall,
        }
    }

    /// A shard as it stands at the beginning of the term.
    pub(super) fn found(&mut self, number: usize, object: Option<Value>, now: Duration) {
        let slot = &mut self.slots[number];
        slot.shard = Shard::new(object);
        (slot.ours, slot.looked, slot.pause) = (true, now, ShardPause::default());
        // The first one is made now, so that it is known from the beginning whether anything can be stored.
        slot.must_write = slot.shard.is_present() || number == 0;
        self.succeeds();
    }

    /// Sorts what was found, and returns what is not trusted.
    pub(super) fn judge(&mut self, judging: Judging<'_>, now: Duration) -> Vec<Untrusted<R>> {
        if !judging.undisturbed {
            self.forget_plans();
        }
        let mut found = HashMap::new();
        for number in 0..self.slots.len() {
            for (uid, known, kept) in self.read_records(number, judging) {
                self.add_found(&mut found, uid, known, kept, now);
            }
        }
        let mut untrusted = Vec::new();
        let before: Vec<_> = self.open.keys().cloned().collect();
        for uid in before {
            match found.remove(&uid) {
                Some(there) => self.judge_known(uid, there, judging, now, &mut untrusted),
                None => self.judge_missing(&uid, judging, &mut untrusted),
            }
        }
        for (uid, StoredOpen { known, kept, .. }) in found {
            self.sort(uid, known, kept, judging, &mut untrusted);
        }
        for number in 0..self.slots.len() {
            self.look_for_settle(number);
        }
        untrusted
    }

    /// Another has led: what this process wanted to write follows from what was so before. A record that it wanted to
    /// erase or to hold, and that stands there still, may have been inherited, and the driver may be at work for it.
    fn forget_plans(&mut self) {
        for slot in &mut self.slots {
            slot.erasing.clear();
            slot.erasing_since = None;
        }
        self.pending_holds.retain(|_, hold| hold.place == Place::Memory);
    }

    /// A record that this process knows, and one of the same claim that was found.
    fn judge_known(
        &mut self,
        uid: String,
        there: StoredOpen<R>,
        judging: Judging<'_>,
        now: Duration,
        untrusted: &mut Vec<Untrusted<R>>,
    ) {
        let StoredOpen {
            known: there,
            kept,
            is_second,
        } = there;
        let Some(known) = self.open.get_mut(&uid) else {
            return;
        };
        let same = known.opening == there.opening;
        let alike = known.entry.record.encode() == there.entry.record.encode();
        if !judging.undisturbed {
            let entry = known.entry.clone();
            self.take(&uid);
            // Besides what is stored this process may have the secret's data, for one. Where it has another request, the
            // other leader has replaced it, and may have sent that.
            let entry = if same && alike { entry } else { there.entry };
            return self.sort(uid, OpenRecord { entry, ..there }, kept, judging, untrusted);
        }
        let stands_elsewhere = !same && known.place != there.place;
        // There was one in a shard that could not be read when this process opened its own, and whoever opened that may
        // have called the driver.
        if is_second || stands_elsewhere {
            known.entry = Entry {
                record: known.entry.record.taken_over(),
                origin: Origin::Inherited { distrust: None },
            };
        }
        if same {
            let (entry, length) = (known.entry.clone(), known.length);
            // A request that was replaced while nothing could be written.
            if let Place::Shard(number) = there.place
                && !alike
            {
                self.slots[number].restore.insert(uid.clone());
            }
            self.put(
                &uid,
                OpenRecord {
                    entry,
                    length,
                    ..there
                },
            );
        } else {
            if stands_elsewhere {
                self.give_way(&uid, there, alike, now);
            }
            // Else it is an edit by hand, which is undone.
            self.judge_missing(&uid, judging, untrusted);
        }
    }

    /// The open records of a shard, and whether somebody has kept it.
    fn read_records(&mut self, number: usize, judging: Judging<'_>) -> Vec<(String, OpenRecord<R>, bool)> {
        let slot = &mut self.slots[number];
        let kept = is_kept(slot.shard.renewed(), judging.wall);
        let (mut records, mut unreadable) = (Vec::new(), BTreeMap::new());
        for (uid, value) in slot.shard.records(OPEN) {
            match read_value(uid, value, number) {
                Ok(known) => records.push((uid.to_owned(), known, kept)),
                Err(why) => {
                    unreadable.insert(uid.to_owned(), why.to_string());
                }
            }
        }
        if slot.shard.is_unread() {
            return records;
        }
        let told = replace(&mut slot.unreadable, unreadable.keys().cloned().collect());
        let lease = self.lease_of(Place::Shard(number));
        for (uid, why) in unreadable.into_iter().filter(|(uid, _)| !told.contains(uid)) {
            let lease = lease.clone();
            self.effects.notices.push(Notice::Unreadable { uid, lease, why });
        }
        records
    }

    /// Of two records of one claim the later counts; what is to be erased does not.
    fn add_found(
        &mut self,
        found: &mut HashMap<String, StoredOpen<R>>,
        uid: String,
        known: OpenRecord<R>,
        kept: bool,
        now: Duration,
    ) {
        let Place::Shard(number) = known.place else { return };
        if self.slots[number].erasing.contains(&uid) {
            return;
        }
        // It is to be held, and was not moved yet.
        match self.pending_holds.get_mut(&uid) {
            Some(hold) if hold.opening == known.opening => {
                hold.place = known.place;
                return;
            }
            Some(hold) if hold.place == known.place => {
                self.pending_holds.remove(&uid);
            }
            _ => {}
        }
        let one = StoredOpen {
            known,
            kept,
            is_second: false,
        };
        let Some(other) = found.remove(&uid) else {
            found.insert(uid, one);
            return;
        };
        let alike = other.known.entry.record.encode() == one.known.entry.record.encode();
        let (later, earlier) = match other.known.opening.at >= one.known.opening.at {
            true => (other, one),
            false => (one, other),
        };
        self.give_way(&uid, earlier.known, alike, now);
        let is_second = true;
        found.insert(uid, StoredOpen { is_second, ..later });
    }

    /// Of two records of one claim this one does not count. It is erased if the other one has the same request. Otherwise
    /// that request may have made a volume, and a person has to look.
    fn give_way(&mut self, uid: &str, record: OpenRecord<R>, alike: bool, now: Duration) {
        match record.place {
            Place::Shard(number) if alike => self.must_go(number, uid, now),
            Place::Shard(_) => self.begin_hold(uid, record, TWO_RECORDS),
            Place::Memory => {}
        }
    }

    /// A record that this process knows, and that stands nowhere.
    fn judge_missing(&mut self, uid: &str, judging: Judging<'_>, untrusted: &mut Vec<Untrusted<R>>) {
        let Some(known) = self.open.get(uid) else { return };
        match known.place {
            // Whether it stands there cannot be known.
            Place::Shard(number) if self.slots[number].shard.is_unread() => {}
            Place::Shard(number) if judging.undisturbed => {
                self.slots[number].restore.insert(uid.to_owned());
                return;
            }
            // Another leader has erased it.
            Place::Shard(_) => {
                self.take(uid);
                return;
            }
            Place::Memory => {}
        }
        let Some(known) = self.take(uid) else { return };
        let known = OpenRecord {
            place: Place::Memory,
            ..known
        };
        if judging.undisturbed {
            self.put(uid, known);
        } else {
            self.sort(uid.to_owned(), known, true, judging, untrusted);
        }
    }

    fn sort(
        &mut self,
        uid: String,
        mut known: OpenRecord<R>,
        kept: bool,
        judging: Judging<'_>,
        untrusted: &mut Vec<Untrusted<R>>,
    ) {
        known.entry.origin = Origin::Inherited { distrust: None };
        known.entry.record = known.entry.record.taken_over();
        match self.distrust(&uid, &known, kept, judging) {
            None => self.put(&uid, known),
            Some(why) => {
                // It stands nowhere else, and must not be lost when this take-over fails.
                if known.place == Place::Memory {
                    let mut entry = known.entry.clone();
                    entry.origin = Origin::Inherited { distrust: Some(why) };
                    let opening = known.opening.clone();
                    self.put(
                        &uid,
                        OpenRecord {
                            entry,
                            opening,
                            ..known
                        },
                    );
                }
                untrusted.push(Untrusted { uid, known, why });
            }
        }
    }

    fn distrust(
        &self,
        uid: &str,
        known: &OpenRecord<R>,
        kept: bool,
        judging: Judging<'_>,
    ) -> Option<Distrust> {
        let shard = match known.place {
            Place::Shard(number) => self.slots[number].shard.uid(),
            // It was never written anywhere.
            Place::Memory => Some(known.opening.lease_uid.as_str()),
        };
        let found = Found {
            driver: &self.settings.driver,
            lease_uid: match judging.term {
                Some(term) => &term.lease_uid,
                None => shard.unwrap_or_default(),
            },
            first_transitions: judging.term.map(|term| term.first_transitions),
            kept,
        };
        let record = &known.entry.record;
        let (volume, deletes) = (record.head().volume, record.deletes());
        distrust(uid, &known.opening, known.approved, &volume, deletes, found)
    }

    /// It is known whether the claim of a record that is not trusted waits.
    pub(super) fn decided(&mut self, record: Untrusted<R>, is_waiting: bool) {
        let Untrusted { uid, mut known, why } = record;
        if is_waiting {
            known.entry.origin = Origin::Inherited { distrust: Some(why) };
            // It is written with the shard, which looks kept from then on.
            if let (Distrust::Stale, Place::Shard(number)) = (why, known.place) {
                known.opening.was_stale = true;
                self.slots[number].restore.insert(uid.clone());
            }
            self.put(&uid, known);
        } else {
            self.take(&uid);
            self.begin_hold(&uid, known, &why.to_string());
        }
    }

    /// All records of the term were judged: from now on this process knows how.
    pub(super) fn all_judged(&mut self) {
        self.judged = Some(self.term.clone());
        self.resigned = false;
        // What was to be moved on a shard that a person has changed since stands there as it does.
        let slots = &self.slots;
        self.pending_holds.retain(|uid, hold| match hold.place {
            Place::Memory => true,
            Place::Shard(number) => slots[number].shard.value(OPEN, uid).is_some(),
        });
    }
}
