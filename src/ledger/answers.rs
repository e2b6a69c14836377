//! Pure. What follows from the API server's answers.

use std::{
    mem::{replace, take},
    time::Duration,
};

use serde_json::Value;

use super::{
    annotation::{HELD, OPEN, SETTLE},
    record::{OpenError, Opening, Storable},
    settings::CrashSafe,
    shard::Shard,
    slot::{
        LEFT_ALONE, Notice, OpenRecord, PendingOpen, Place, Refused, SentWrite, ShardFailure, ShardPause,
        read_value,
    },
    state::LedgerState,
};
use crate::base::{
    api_error::{ApiError, Reason},
    backoff::Backoff,
};

/// How long nothing is sent after a refusal: a missing right or a quota.
pub(super) const REFUSED: Duration = Duration::from_secs(600);
/// How long nothing is sent after another failure.
const FAILED: Backoff = Backoff {
    start: Duration::from_millis(50),
    max: Duration::from_secs(5),
};

impl<R: Storable> LedgerState<R> {
    /// A write was answered.
    pub(super) fn written(&mut self, number: usize, answer: Result<Value, ApiError>, now: Duration) {
        let Some(write) = self.slots[number].in_flight.take() else {
            return;
        };
        if !write.create {
            self.last_write = Some(now);
        }
        let error = match answer {
            Ok(object) => return self.confirmed(number, write, object, now),
            Err(error) => error,
        };
        let is_its_own = match error.reason {
            Reason::Conflict | Reason::AlreadyExists | Reason::NotFound | Reason::TooManyRequests(_) => false,
            Reason::Forbidden | Reason::Invalid => !write.create,
            _ => true,
        };
        self.failed(number, &error, is_its_own, true, now);
        match error.reason {
            Reason::Conflict | Reason::AlreadyExists => {
                self.slots[number].must_read = true;
                self.wait_again(write.opens);
            }
            // Deleted by hand.
            Reason::NotFound if !write.create => {
                self.gone(number);
                self.wait_again(write.opens);
            }
            Reason::TooManyRequests(_) => self.wait_again(write.opens),
            // A quota or a policy. What stood there, when a person deleted it, is stored elsewhere.
            Reason::Forbidden | Reason::Invalid
                if write.create && self.slots.iter().any(|slot| slot.ours && slot.shard.is_present()) =>
            {
                let until = now + REFUSED;
                self.no_new_shards = Some(Refused { error, until });
                self.slots[number].must_write = false;
                self.slots[number].restore.clear();
                let here = Place::Shard(number);
                for (uid, known) in self.open.iter_mut().filter(|(_, known)| known.place == here) {
                    known.place = Place::Memory;
                    self.in_memory.insert(uid.clone());
                }
                for hold in self.pending_holds.values_mut().filter(|hold| hold.place == here) {
                    hold.place = Place::Memory;
                }
            }
            // Whether it is about this shard is decided when all were answered.
            Reason::Forbidden if !write.create && self.taking => self.wait_again(write.opens),
            // Another shard was written since this one was. That one is written once more: if it is refused as well, it was
            // no policy about this shard, but a right that is gone.
            Reason::Forbidden
                if !write.create
                    && let Some(last) = self.last_written.filter(|last| *last != number) =>
            {
                self.slots[last].must_write = true;
                self.wait_again(write.opens);
            }
            // A person has put something there that no object may have. The other shards are written all the same.
            Reason::Invalid if !write.create => self.wait_again(write.opens),
            // No right; or, of the first shard, a quota, no namespace, or a name or content that is not accepted.
            Reason::Forbidden | Reason::NotFound | Reason::Invalid => {
                self.refuse(error.clone(), now);
                self.refuse_opens(write.opens, &error);
            }
            // It may have been done, or may be yet.
            Reason::Unavailable => self.lost(number, write, &OpenError::Api(error), now),
            _ => self.wait_again(write.opens),
        }
    }

    /// A request has failed. One shard that fails again and again does not hold up the others.
    fn failed(&mut self, number: usize, error: &ApiError, is_its_own: bool, writing: bool, now: Duration) {
        if is_its_own {
            self.fails(number, error, writing, now);
        }
        if !is_its_own || !self.slots[number].pause.is_left_alone() {
            self.back_off(error, now);
        }
    }

    /// Nothing is sent for a while: as long as the server's flow control wants, or longer each time.
    fn back_off(&mut self, error: &ApiError, now: Duration) {
        let pause = FAILED.delay(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now
            + match error.reason {
                Reason::TooManyRequests(wanted) => wanted,
                _ => pause,
            };
        self.last_error = Some(error.clone());
    }

    /// A request for this shard has failed, so it is not used for a while.
    pub(super) fn fails(&mut self, number: usize, error: &ApiError, writing: bool, now: Duration) {
        self.note_failure(number, error, writing, 0, now);
        // Opens go elsewhere meanwhile, so nobody would notice that it can be written again.
        let slot = &mut self.slots[number];
        slot.must_write |= writing && slot.shard.is_present();
    }

    /// The term begins although this shard could not be written: it is tried again.
    pub(super) fn leave(&mut self, number: usize, error: &ApiError, now: Duration) {
        self.slots[number].ours = false;
        self.note_failure(number, error, true, LEFT_ALONE, now);
    }

    fn note_failure(&mut self, number: usize, error: &ApiError, writing: bool, at_least: u32, now: Duration) {
        let slot = &mut self.slots[number];
        let error = error.clone();
        let failure = ShardFailure {
            error: error.clone(),
            writing,
        };
        let is_left = slot.pause.failed(failure, at_least, self.successes, now);
        if is_left && !matches!(slot.shard, Shard::Absent) {
            self.effects.notices.push(Notice::LeftAlone(error));
        }
    }

    pub(super) fn succeeds(&mut self) {
        self.successes += 1;
        self.last_error = None;
    }

    /// The request was given up, or its answer was lost.
    fn lost(&mut self, number: usize, write: SentWrite<R>, error: &OpenError, now: Duration) {
        self.slots[number].must_read = true;
        for open in write.opens {
            self.effects.answers.push((open.ticket, Err(error.clone())));
            if self.is_at(&open.uid, number) {
                // What was there before counts still.
                self.slots[number].restore.insert(open.uid);
            } else {
                self.must_go(number, &open.uid, now);
            }
        }
        for (uid, _) in write.stored {
            self.must_go(number, &uid, now);
        }
        for (uid, known) in write.settled {
            self.slots[number].restore.insert(uid.clone());
            self.settled(number, uid, known);
        }
    }

    /// What sends the writes was stopped: another leads from now on, if anybody does.
    pub(super) fn end_term(&mut self, now: Duration) {
        self.forget_writes(now);
        self.fail_pending(&OpenError::NotLeading);
        (self.in_term, self.taking) = (false, true);
    }

    /// Nobody hears an answer any more: what sent the writes was stopped.
    pub(super) fn forget_writes(&mut self, now: Duration) {
        for number in 0..self.slots.len() {
            if let Some(write) = self.slots[number].in_flight.take() {
                self.lost(number, write, &OpenError::NotLeading, now);
            }
        }
    }

    /// The write was not sent: we do not lead any more.
    pub(super) fn unsent(&mut self, number: usize) {
        if let Some(write) = self.slots[number].in_flight.take() {
            for open in write.opens {
                self.effects
                    .answers
                    .push((open.ticket, Err(OpenError::NotLeading)));
            }
        }
    }

    fn settled(&mut self, number: usize, uid: String, known: OpenRecord<R>) {
        self.settling.remove(&(number, uid.clone()));
        self.put(&uid, known);
        self.effects.notices.push(Notice::Settling(uid));
    }

    /// Nothing can be stored for now.
    pub(super) fn refuse(&mut self, error: ApiError, now: Duration) {
        let until = now + REFUSED;
        let waiting = take(&mut self.pending).into();
        self.refuse_opens(waiting, &error);
        self.refused = Some(Refused { error, until });
    }

    /// These cannot be stored for now.
    pub(super) fn refuse_opens(&mut self, opens: Vec<PendingOpen<R>>, error: &ApiError) {
        for open in opens.into_iter().filter(|open| !open.cancelled) {
            let answer = match self.settings.mode {
                CrashSafe::Required => Err(OpenError::NotDurable(error.clone())),
                CrashSafe::Auto | CrashSafe::Off => {
                    self.keep_in_memory(&open.uid, open.record, open.opening, open.value.len());
                    Ok(())
                }
            };
            self.effects.answers.push((open.ticket, answer));
        }
    }

    fn confirmed(&mut self, number: usize, write: SentWrite<R>, object: Value, now: Duration) {
        self.refused = None;
        if write.create {
            self.no_new_shards = None;
        }
        self.failures = 0;
        self.last_written = Some(number);
        self.not_before = now;
        self.succeeds();
        let slot = &mut self.slots[number];
        slot.shard = Shard::new(Some(object));
        (slot.ours, slot.must_write, slot.must_read) = (true, false, false);
        (slot.written, slot.looked, slot.pause) = (now, now, ShardPause::default());
        slot.erasing.retain(|uid| !write.erased.contains(uid));
        for uid in &write.restored {
            slot.restore.remove(uid);
        }
        self.effects.notices.push(Notice::Written(slot.shard.size()));
        for uid in &write.held {
            self.pending_holds.remove(uid);
        }
        for (uid, known) in write.settled {
            self.settled(number, uid, known);
        }
        for (uid, opening) in write.stored {
            self.stored(number, &uid, opening, now);
        }
        for open in write.opens {
            self.opened(number, open, now);
        }
        let slot = &mut self.slots[number];
        slot.erasing_since = (!slot.erasing.is_empty()).then_some(now);
    }

    /// A record that stood in memory only is stored.
    fn stored(&mut self, number: usize, uid: &str, opening: Opening, now: Duration) {
        match self.open.get_mut(uid) {
            Some(known) if known.place == Place::Memory => {
                known.place = Place::Shard(number);
                known.opening = opening;
                self.in_memory.remove(uid);
            }
            _ => self.must_go(number, uid, now),
        }
    }

    fn opened(&mut self, number: usize, open: PendingOpen<R>, now: Duration) {
        let PendingOpen {
            ticket,
            uid,
            record,
            opening,
            value,
            cancelled,
            ..
        } = open;
        // Nobody has heard of it, so nobody has called the driver.
        if cancelled && !self.open.contains_key(&uid) {
            return self.must_go(number, &uid, now);
        }
        let slot = &mut self.slots[number];
        slot.erasing.remove(&uid);
        slot.restore.remove(&uid);
        self.insert(&uid, record, opening, Place::Shard(number), value.len());
        self.effects.answers.push((ticket, Ok(())));
    }

    /// A shard was read.
    pub(super) fn read(&mut self, number: usize, answer: Result<Option<Value>, ApiError>, now: Duration) {
        let object = match answer {
            Ok(object) => object,
            Err(error) => {
                let is_its_own = !matches!(error.reason, Reason::TooManyRequests(_) | Reason::Forbidden);
                self.failed(number, &error, is_its_own, false, now);
                if error.reason == Reason::Forbidden {
                    self.refuse(error, now);
                }
                return;
            }
        };
        self.succeeds();
        self.slots[number].pause.was_read();
        if self.slots[number].shard.is_unread() {
            // It has not been judged, so it is taken over. Records stay in memory until then.
            (self.readable, self.taking) = (true, true);
            return;
        }
        let Some(object) = object else {
            return self.gone(number);
        };
        let found = Shard::new(Some(object));
        let slot = &mut self.slots[number];
        slot.looked = now;
        let is_others = self.settings.elected && found.holder() != Some(&self.settings.identity);
        if is_others && !slot.ours {
            // The leader before has written it last. If that was after it was judged, it is taken over once more.
            slot.must_read = false;
            if found.version() != slot.shard.version() {
                (self.readable, self.taking) = (true, true);
            }
            return;
        }
        if is_others {
            // Another leader writes here. What is to be read stays so, for whoever leads next.
            slot.must_read = true;
            self.effects.resign = true;
            (self.judged, self.resigned) = (None, true);
            return;
        }
        slot.must_read = false;
        slot.ours = true;
        let before = replace(&mut slot.shard, found);
        let slot = &mut self.slots[number];
        let shard = &slot.shard;
        slot.unreadable.retain(|uid| shard.value(OPEN, uid).is_some());
        if slot.shard.version() != before.version() {
            let here = |known: &OpenRecord<R>| known.place == Place::Shard(number);
            let changed = self
                .open
                .iter()
                .filter(|(uid, known)| here(known) && shard.value(OPEN, uid) != before.value(OPEN, uid));
            let changed: Vec<_> = changed.map(|(uid, _)| uid.clone()).collect();
            slot.restore.extend(changed);
        }
        self.look_for_settle(number);
    }

    /// There is no such shard: it is made anew from memory.
    pub(super) fn gone(&mut self, number: usize) {
        let slot = &mut self.slots[number];
        slot.shard = Shard::Absent;
        (slot.must_read, slot.ours, slot.pause) = (false, true, ShardPause::default());
        self.last_written = self.last_written.filter(|last| *last != number);
        slot.unreadable.clear();
        let here = self
            .open
            .iter()
            .filter(|(_, known)| known.place == Place::Shard(number));
        slot.restore.extend(here.map(|(uid, _)| uid.clone()));
        self.settling.retain(|(shard, _), _| *shard != number);
    }

    /// Held records that a person wants settled.
    pub(super) fn look_for_settle(&mut self, number: usize) {
        self.settling.retain(|(shard, _), _| *shard != number);
        let shard = &self.slots[number].shard;
        for (uid, _) in shard.records(SETTLE) {
            let Some(value) = shard.value(HELD, uid).filter(|_| !self.open.contains_key(uid)) else {
                continue;
            };
            let Ok(known) = read_value(uid, value, number) else {
                continue;
            };
            let known = OpenRecord {
                approved: true,
                ..known
            };
            self.settling.insert((number, uid.to_owned()), known);
        }
    }
}
