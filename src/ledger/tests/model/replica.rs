//! What a replica of ours may do next, as the controllers do it: what is decided, our own functions decide.

use super::{
    chain, is_trusted,
    steps::Steps,
    world::{At, Broken, Came, ClaimLife, Holder, Open, Rules, Stored, Unsure, World},
};
use crate::provision::settle::{ClaimState, HoldReason, RecordFacts, SeenObject, Step, VolumeState, settle};

pub(super) fn claim_state(seen: ClaimLife) -> ClaimState {
    match seen {
        ClaimLife::Waits => ClaimState::Waits,
        ClaimLife::Deleting => ClaimState::BeingDeleted,
        _ => ClaimState::Gone,
    }
}

impl World {
    pub(super) fn replica(&self, me: usize, rules: Rules, steps: &mut Steps) {
        self.look(me, rules, steps);
        self.lease(me, rules, steps);
        if !steps.calm {
            self.kill(me, steps);
        }
        match self.replicas[me].at {
            At::Idle => self.idle(me, rules, steps),
            At::Calling {
                request,
                before,
                spent,
            } => self.calling(me, request, before, spent, rules, steps),
            At::Posting(handle) => self.posting(me, handle, rules, steps),
            At::Deleting(handle) => {
                let mut world = *self;
                world.gone(handle, rules.broken);
                world.replicas[me].at = At::Removing(handle);
                steps.will("hears that the volume is deleted", 4, world);
                (world.replicas[me].at, world.replicas[me].deleting) = (At::Idle, false);
                world.lose("never hears that the volume is deleted", steps);
            }
            At::Removing(handle) => {
                let mut world = *self;
                world.replicas[me].at = At::Idle;
                if world.may_send(me, rules) {
                    world.sent(me);
                    if world.object.is_some_and(|object| object.handle == handle) {
                        world.object = None;
                    }
                    steps.will("removes the object", 4, world);
                } else {
                    steps.will("leaves the object", 4, world);
                }
            }
            at => {
                if let Some(known) = at.known() {
                    self.advance(me, known, rules, steps);
                }
            }
        }
    }

    /// What the watches tell.
    fn look(&self, me: usize, rules: Rules, steps: &mut Steps) {
        let seen = self.replicas[me];
        let mut world = *self;
        world.replicas[me].sees_claim = self.claim;
        if rules.stale && seen.sees_claim != self.claim {
            steps.will("sees the claim as it is", 3, world);
        }
        let mut world = if rules.stale { *self } else { world };
        let own = &mut world.replicas[me];
        own.sees_object = self.object;
        own.deleting &= self.object.is_some();
        // Whoever wrote it, and whoever leads: the record is closed.
        if own.is_saved(rules) {
            own.close();
        }
        if world.replicas[me] != seen
            && (rules.stale || seen.sees_claim != self.claim || seen.sees_object != self.object)
        {
            steps.will("sees the volume as it is", 3, world);
        }
    }

    fn lease(&self, me: usize, rules: Rules, steps: &mut Steps) {
        let own = self.replicas[me];
        if own.term.is_some() {
            if !self.leads(me) {
                let mut world = *self;
                world.replicas[me].term = None;
                steps.will("notices that its term is over", 5, world);
            }
            return;
        }
        if own.at != At::Idle || self.unknowing_made.is_some() {
            return;
        }
        let mut world = *self;
        let again = self.lease.holder == Holder::Replica(me as u8);
        if !again {
            let led = match self.lease.holder {
                Holder::Replica(other) => self.leads(usize::from(other)),
                _ => false,
            };
            let first = self.lease.holder == Holder::Nobody && self.lease.count == 0;
            // Until one has led they are alike.
            let waits = match steps.calm {
                true => led || me == 1,
                false => self.terms == 0 || first && me == 1,
            };
            if waits {
                return;
            }
            world.terms = world.terms.saturating_sub(1);
            world.lease.count += u8::from(!first);
        }
        world.lease.holder = Holder::Replica(me as u8);
        let first = chain(&mut world.lease, self.lease);
        let count = world.lease.count;
        let own = &mut world.replicas[me];
        let undisturbed = own
            .last_term
            .is_none_or(|last| last == count || last + 1 == count);
        own.term = Some(count);
        own.last_term = Some(count);
        world.take_over(me, first, undisturbed, rules);
        steps.will(if again { "leads again" } else { "takes the lease" }, 6, world);
    }

    /// The shard is read, judged, and written.
    fn take_over(&mut self, me: usize, first: u8, undisturbed: bool, rules: Rules) {
        let own = &mut self.replicas[me];
        let known = own.record.take();
        if own.erasing && (undisturbed || rules.broken == Some(Broken::OldErasures)) {
            self.record = None;
        }
        if own.holding && undisturbed {
            (self.record, self.held) = (None, true);
        }
        (own.erasing, own.holding) = (false, false);
        match (self.record, known) {
            (Some(stored), known) => {
                let same = known.filter(|open| (open.term, open.request) == (stored.term, stored.request));
                let mut open = same.unwrap_or(Open {
                    request: stored.request,
                    term: stored.term,
                    came: Came::Trusted,
                    doubt: Unsure::FRESH,
                    created: None,
                    renewable: false,
                    asked: false,
                });
                if !(undisturbed && same.is_some()) {
                    open.came = is_trusted(stored, first, rules);
                }
                if matches!(open.came, Came::Own | Came::Trusted) || self.claim == ClaimLife::Waits {
                    own.record = Some(open);
                } else {
                    (self.record, self.held) = (None, true);
                }
            }
            (None, Some(open)) if undisturbed => {
                self.record = Some(open.stored());
                own.record = Some(open);
            }
            (None, _) => {}
        }
        self.shard_term = self.replicas[me].term.unwrap_or_default();
    }

    /// Whether the look at the clock before each request lets it pass.
    pub(super) fn may_send(&self, me: usize, rules: Rules) -> bool {
        match rules.broken {
            Some(Broken::NoFence) => self.replicas[me].term.is_some(),
            _ => self.leads(me),
        }
    }

    pub(super) fn sent(&mut self, me: usize) {
        if !self.leads(me) {
            self.wrong = Some("something is sent outside the lease");
        }
    }

    pub(super) fn lose(mut self, what: &'static str, steps: &mut Steps) {
        if self.losses > 0 {
            self.losses -= 1;
            steps.may(what, self);
        }
    }

    /// A write of the shard; false where another leader has written since, which ends the term.
    fn write(&mut self, me: usize) -> bool {
        let own = &mut self.replicas[me];
        if own.term != Some(self.shard_term) {
            own.term = None;
            return false;
        }
        true
    }

    fn idle(&self, me: usize, rules: Rules, steps: &mut Steps) {
        let own = self.replicas[me];
        if own.term.is_none() {
            return;
        }
        let sends = self.may_send(me, rules);
        let stored = own.record.map(Open::stored);
        let stores = !matches!(rules.broken, Some(Broken::NoRecord | Broken::ErasedEarly));
        let restores = stored.is_some() && self.record != stored && stores;
        if sends && (own.erasing || own.holding || restores) {
            let mut world = *self;
            if world.write(me) {
                world.sent(me);
                world.held |= own.holding;
                world.record = stored;
                (world.replicas[me].erasing, world.replicas[me].holding) = (false, false);
            }
            steps.will("writes its shard", 7, world);
        }
        self.reclaim(me, rules, steps);
        if own.deleting && rules.broken != Some(Broken::AskedWhileDeleting) {
            return;
        }
        let seen = claim_state(own.sees_claim);
        let waits = seen == ClaimState::Waits && own.sees_object.is_none();
        let request = u8::from(self.changed);
        // A cache may have missed the claim's end or the volume's object, and not a whole life.
        let knows = own.sees_claim == self.claim || own.sees_object == self.object;
        match own.record {
            None if waits && knows && !own.saved && sends => self.begin(me, request, None, rules, steps),
            Some(open) if waits && open.renewable && open.request != request && sends => {
                self.begin(me, request, Some(open), rules, steps);
            }
            Some(_) if restores && rules.broken != Some(Broken::RepeatedUnstored) => {}
            Some(open) => {
                let known = if open.created.is_some() {
                    VolumeState::CreatedEarlier
                } else {
                    VolumeState::Nothing
                };
                self.advance(me, known, rules, steps);
            }
            None => {}
        }
    }

    fn begin(&self, me: usize, request: u8, before: Option<Open>, rules: Rules, steps: &mut Steps) {
        let mut world = *self;
        if !world.write(me) {
            steps.will("finds that another writes its shard", 8, world);
            return;
        }
        world.sent(me);
        let term = self.lease.count;
        let open = Open {
            request,
            term,
            came: before.map_or(Came::Own, |open| open.came),
            doubt: Unsure::FRESH,
            created: None,
            renewable: false,
            asked: true,
        };
        if rules.broken != Some(Broken::NoRecord) {
            world.record = Some(open.stored());
        }
        let mut lost = world;
        lost.replicas[me].erasing = before.is_none();
        lost.lose("stores a record and never hears of it", steps);
        let own = &mut world.replicas[me];
        own.erasing = false;
        own.record = Some(open);
        let before = before.map_or(Unsure::No, |_| Unsure::FRESH);
        own.at = At::Calling {
            request,
            before,
            spent: false,
        };
        steps.will("stores a record and calls CreateVolume", 8, world);
    }

    /// As far as a record goes now.
    fn advance(&self, me: usize, known: VolumeState, rules: Rules, steps: &mut Steps) {
        let mut world = *self;
        let object = self.object;
        let adopted = self.adopted;
        let may_send = self.may_send(me, rules);
        let own = &mut world.replicas[me];
        let seen = own.seen_object(rules);
        let Some(open) = &mut own.record else {
            own.at = At::Idle;
            steps.will("is told that its record was closed", 4, world);
            return;
        };
        let facts = RecordFacts {
            claim: claim_state(own.sees_claim),
            object: seen,
            asked: open.asked,
            origin: open.came.origin(),
            known,
        };
        let calm = if own.at == At::Idle { 8 } else { 4 };
        let mut step = settle(facts);
        if step == Step::Look {
            step = settle(RecordFacts {
                object: match object {
                    None => SeenObject::Absent,
                    Some(object) if Some(object.handle) == open.created => SeenObject::Same,
                    Some(_) => SeenObject::OtherLive,
                },
                ..facts
            });
        }
        // As it should be: a claim that the cache does not show is looked for before its record is held.
        if self.claim == ClaimLife::Waits && matches!(step, Step::Hold(HoldReason::Distrust(_))) {
            return;
        }
        let what = match step {
            Step::Close => {
                own.close();
                own.at = At::Idle;
                "closes its record"
            }
            Step::Hold(_) => {
                own.record = None;
                own.holding = true;
                own.at = At::Idle;
                "sets its record aside"
            }
            // Once is enough.
            Step::Look => return,
            Step::Create if own.at != At::Idle => {
                own.at = At::Idle;
                "comes again later"
            }
            Step::List if rules.broken == Some(Broken::NoList) => {
                own.at = At::Unlisted;
                "does not list"
            }
            Step::List => {
                own.at = match object {
                    _ if adopted == open.created => At::Listed,
                    Some(object) if Some(object.handle) == open.created => At::Listed,
                    Some(_) => At::OtherListed,
                    None => At::Unlisted,
                };
                "lists the volumes"
            }
            Step::Create | Step::Save if !may_send => {
                if own.at == At::Idle {
                    return;
                }
                own.at = At::Idle;
                "may not send any more"
            }
            Step::Create => {
                let before = match (open.came, open.doubt) {
                    (Came::Own, doubt) => doubt,
                    (_, Unsure::No) => Unsure::FRESH,
                    (_, doubt) => doubt,
                };
                (open.doubt, open.created, open.renewable, open.asked) = (Unsure::FRESH, None, false, true);
                let request = open.request;
                own.at = At::Calling {
                    request,
                    before,
                    spent: false,
                };
                world.sent(me);
                "calls CreateVolume"
            }
            Step::Save => {
                own.at = open.created.map_or(At::Idle, At::Posting);
                world.sent(me);
                "sends the POST of the object"
            }
        };
        steps.will(what, calm, world);
    }
}

impl Open {
    fn stored(self) -> Stored {
        Stored {
            request: self.request,
            term: self.term,
            copied: self.came == Came::Foreign,
        }
    }
}
