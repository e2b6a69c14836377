//! Pure. What a term begins with: which of the records that are found are open, in doubt, or held.

use std::{collections::HashMap, mem::take, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    annotation::{OPEN, Unreadable, decode},
    record::{Distrust, Entry, OpenError, Origin, Storable},
    shard::Shard,
    slot::{Known, Place, TermMark},
    state::LedgerState,
    status::TermFacts,
    trust::{Found, distrust, is_kept},
};

/// A record that is not trusted: whether its claim waits decides.
#[derive(Debug)]
pub(super) struct Questionable<R> {
    pub(super) uid: String,
    pub(super) known: Known<R>,
    pub(super) why: Distrust,
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
        self.term = mark;
        (self.refused, self.failures, self.not_before) = (None, 0, now);
        (self.flushing, self.taking) = (false, true);
        self.settling.clear();
        for slot in &mut self.slots {
            slot.shard = Shard::Unread;
            (slot.ours, slot.must_read, slot.must_write) = (false, false, false);
            slot.unreadable.clear();
            slot.restore.clear();
        }
        Judging {
            term,
            undisturbed: again || term.is_none_or(|term| term.undisturbed),
            wall,
        }
    }

    /// A shard as it stands at the beginning of the term.
    pub(super) fn found(&mut self, number: usize, object: Option<Value>, now: Duration) {
        let slot = &mut self.slots[number];
        slot.shard = Shard::new(object);
        slot.ours = true;
        slot.looked = now;
        // The first one is made now, so that it is known from the beginning whether anything can be stored.
        slot.must_write = slot.shard.is_present() || number == 0;
    }

    /// Sorts what was found, and returns what is not trusted.
    pub(super) fn judge(&mut self, judging: Judging<'_>, now: Duration) -> Vec<Questionable<R>> {
        let mut found = HashMap::new();
        // What this process wanted erased it knew before another one led, which may have called the driver since.
        if !judging.undisturbed {
            for slot in &mut self.slots {
                slot.erasing.clear();
                slot.erasing_since = None;
            }
        }
        for number in 0..self.slots.len() {
            for (uid, known, kept) in self.read_records(number, judging) {
                self.add_found(&mut found, uid, known, kept, now);
            }
            self.look_for_settle(number);
        }
        // A person may want one settled that this process knows as open; `settling` has it, then.
        let mut questionable = Vec::new();
        let before: Vec<_> = self.open.keys().cloned().collect();
        for uid in before {
            let Some(known) = self.open.get(&uid) else {
                continue;
            };
            if found
                .get(&uid)
                .is_some_and(|(there, _)| there.opening == known.opening)
            {
                continue;
            }
            self.judge_missing(&uid, judging, &mut questionable);
        }
        for (uid, (there, kept)) in found {
            let known = match self.open.get(&uid) {
                Some(known) if judging.undisturbed && known.opening != there.opening => {
                    // An edit by hand, or a request that was replaced while nothing could be written.
                    if let Place::Shard(number) = there.place
                        && known.place != there.place
                    {
                        self.must_go(number, &uid, there.opening, now);
                    }
                    continue;
                }
                Some(known) if known.opening == there.opening => {
                    let entry = known.entry.clone();
                    // A request that was replaced while nothing could be written.
                    if let Place::Shard(number) = there.place
                        && entry.record.encode() != there.entry.record.encode()
                    {
                        self.slots[number].restore.insert(uid.clone());
                    }
                    if judging.undisturbed {
                        self.put(&uid, Known { entry, ..there });
                        continue;
                    }
                    // What is in memory besides: the secret's data, for one.
                    Known { entry, ..there }
                }
                _ => there,
            };
            self.take(&uid);
            self.sort(uid, known, kept, judging, &mut questionable);
        }
        questionable
    }

    /// The open records of a shard, and whether somebody has kept it.
    fn read_records(&mut self, number: usize, judging: Judging<'_>) -> Vec<(String, Known<R>, bool)> {
        let slot = &mut self.slots[number];
        let kept = is_kept(slot.shard.renewed(), judging.wall);
        let mut records = Vec::new();
        for (uid, value) in slot.shard.records(OPEN) {
            let read = decode(value).and_then(|stored| {
                let record = R::decode(uid, &stored.head, &stored.record).map_err(Unreadable::Record)?;
                Ok((record, stored))
            });
            match read {
                Ok((record, stored)) => {
                    let entry = Entry {
                        record: Arc::new(record),
                        origin: Origin::Inherited { distrust: None },
                    };
                    let known = Known {
                        entry,
                        opening: stored.opening,
                        vouched: stored.vouched,
                        place: Place::Shard(number),
                    };
                    records.push((uid.to_owned(), known, kept));
                }
                Err(_) => {
                    slot.unreadable.insert(uid.to_owned());
                }
            }
        }
        records
    }

    /// Of two records of one claim the later counts; what is to be erased does not.
    fn add_found(
        &mut self,
        found: &mut HashMap<String, (Known<R>, bool)>,
        uid: String,
        known: Known<R>,
        kept: bool,
        now: Duration,
    ) {
        let Place::Shard(number) = known.place else { return };
        // It is to be held, and was not moved yet.
        match self.aside.get(&uid) {
            Some(aside) if aside.opening == known.opening => return,
            Some(aside) if aside.place == known.place => {
                self.aside.remove(&uid);
            }
            _ => {}
        }
        let erasing = &mut self.slots[number].erasing;
        match erasing.get(&uid) {
            Some(openings) if openings.contains(&known.opening) => return,
            // Opened by another leader since.
            _ => erasing.remove(&uid),
        };
        let double = match found.get(&uid) {
            None => None,
            Some((other, _)) if other.opening.at >= known.opening.at => Some((number, known.opening.clone())),
            Some((other, _)) => match other.place {
                Place::Shard(there) => Some((there, other.opening.clone())),
                Place::Memory => None,
            },
        };
        let newer = double.as_ref().is_none_or(|(there, _)| *there != number);
        if let Some((there, opening)) = double {
            self.must_go(there, &uid, opening, now);
        }
        if newer {
            found.insert(uid, (known, kept));
        }
    }

    /// A record that this process knows, and that stands nowhere.
    fn judge_missing(&mut self, uid: &str, judging: Judging<'_>, questionable: &mut Vec<Questionable<R>>) {
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
        let known = Known {
            place: Place::Memory,
            ..known
        };
        if judging.undisturbed {
            self.put(uid, known);
        } else {
            self.sort(uid.to_owned(), known, true, judging, questionable);
        }
    }

    fn sort(
        &mut self,
        uid: String,
        mut known: Known<R>,
        kept: bool,
        judging: Judging<'_>,
        questionable: &mut Vec<Questionable<R>>,
    ) {
        known.entry.origin = Origin::Inherited { distrust: None };
        known.entry.record = known.entry.record.taken_over();
        match self.distrust(&uid, &known, kept, judging) {
            None => self.put(&uid, known),
            Some(why) => questionable.push(Questionable { uid, known, why }),
        }
    }

    fn distrust(&self, uid: &str, known: &Known<R>, kept: bool, judging: Judging<'_>) -> Option<Distrust> {
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
        distrust(uid, &known.opening, known.vouched, &volume, deletes, found)
    }

    /// It is known whether the claim of a record that is not trusted waits.
    pub(super) fn decided(&mut self, record: Questionable<R>, is_waiting: bool) {
        let Questionable { uid, mut known, why } = record;
        if is_waiting {
            known.entry.origin = Origin::Inherited { distrust: Some(why) };
            self.put(&uid, known);
        } else {
            self.set_aside(&uid, known, &why.to_string());
        }
    }

    /// All records of the term were judged: from now on this process knows how.
    pub(super) fn all_judged(&mut self) {
        self.judged = Some(self.term.clone());
        let stranded = take(&mut self.aside);
        // What was to be moved on a shard that another has changed since stands there as it does.
        self.aside = stranded
            .into_iter()
            .filter(|(uid, aside)| match aside.place {
                Place::Memory => true,
                Place::Shard(number) => self.slots[number].shard.value(OPEN, uid).is_some(),
            })
            .collect();
    }
}
